"""What each step of training is given: rate, depth and batch, from the settings and the number of the step alone."""

import math
from typing import Any

import numpy as np

from ctsa.regularise import sample_loops

from .evaluation import plain_inputs
from .settings import Settings


def rate_at(settings: Settings, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / settings.steps)) if settings.schedule == "cosine" else 1.0
    return settings.rate * rise * fall


def depths_of(settings: Settings) -> np.ndarray:
    """Return the depth of every step."""
    if settings.depths == "fixed":
        return np.full(settings.steps, settings.depth)
    drawn: dict[str, Any]
    if settings.depths == "uniform":
        drawn = dict(low=max(1, settings.depth // 2), high=settings.depth + settings.depth // 2)
    elif settings.depths == "poisson-lognormal":
        drawn = dict(mean=float(settings.depth), high=4 * settings.depth)
    else:
        drawn = dict(mu=math.log(settings.depth), sigma=0.4, high=4 * settings.depth)
    return sample_loops(settings.depths, settings.steps, seed=settings.seed, **drawn)


def batch_of(settings: Settings, data: Any, step: int, d: int) -> tuple:
    """Return inputs, targets, and noise for starts and for regularisers, of a step: drawn from seed and step alone."""
    rng = np.random.default_rng([settings.seed, step])
    some = data[rng.integers(0, len(data), settings.batch)]
    some = some.relabel(rng) if settings.relabel else some
    shape = (settings.batch, some.inputs.shape[1], d)
    noise = rng.standard_normal(shape, dtype=np.float32)
    twice = any(p.kind in ("restart", "rms_gain") for p in settings.penalties)
    return plain_inputs(some.inputs), some.targets, noise, rng.standard_normal(shape, dtype=np.float32) if twice else None
