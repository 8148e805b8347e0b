"""Parameters of an untrained model, drawn by NumPy, so that both frameworks begin alike."""

import math
import warnings
from typing import Any

import numpy as np

from ctsa import checks
from ctsa.geometry import Euclidean, Geometry, Sphere


def head_masks(masks: Any, heads: int) -> np.ndarray | None:
    """Return a mask a head, ``(heads, n, n)``: those of a task in turn, and all open for the heads left over."""
    if masks is None:
        return None
    given = np.asarray(masks, dtype=bool)
    rounds = heads // len(given)
    if not rounds:
        warnings.warn(
            f"heads={heads} are fewer than the {len(given)} masks of the task: those left over rule no head", UserWarning,
            stacklevel=3,
        )  # fmt: skip
        return given[:heads]
    rest = np.ones((heads - rounds * len(given), *given.shape[1:]), dtype=bool)
    return np.concatenate([*[given] * rounds, rest])


def geometry_of_kind(kind: str, channels: int, d: int) -> Geometry:
    """Return where the tokens of a kind of layer live."""
    if kind == "none":
        return Euclidean()
    if not kind.startswith("akorn"):
        return Sphere()
    if d % channels:
        raise ValueError(f"channels={channels} does not divide d={d}: oscillators are groups of channels of a token")
    return Sphere(channels=channels)


def uniform(rng: np.random.Generator, fan_in: int, *shape: int) -> np.ndarray:
    """Draw the weights or biases of a linear map as ``nn.Linear`` does: uniform in ``+- 1 / sqrt(fan_in)``."""
    return rng.uniform(-1, 1, shape) / math.sqrt(fan_in)


def attention_arguments(
    rng: np.random.Generator, kind: str, d: int, heads: int, masks: np.ndarray | None, tied: bool
) -> dict[str, Any]:
    """Return the arguments of the attention of a kind of model; every head has the width ``d / heads``."""
    if d % heads:
        raise ValueError(f"heads={heads} does not divide d={d}")
    m = d // heads
    found: dict[str, Any] = dict(query=uniform(rng, d, heads, m, d), key=uniform(rng, d, heads, m, d), beta=m**-0.5)
    if masks is not None:
        found["mask"] = masks.astype(float)
    if kind == "energy" or tied:
        return found
    found |= dict(value=uniform(rng, d, heads, m, d), output=uniform(rng, d, heads, d, m))
    for name in ("query", "key", "value"):
        found[f"{name}_bias"] = uniform(rng, d, heads, m)
    return found | dict(output_bias=uniform(rng, d, d))


def sizes_of(task: Any, name: str = "task") -> dict[str, Any]:
    """Return what a model needs to know of a task: ``n``, ``rows`` of its embedding, ``classes``, ``pooled``, ``masks``.

    Raises:
        TypeError: it is no data set of ``ctsa.datasets``.
    """
    wanted = ("inputs", "targets", "classes", "vocabulary", "features", "masks")
    missing = next((each for each in wanted if not hasattr(task, each)), None)
    if missing is not None:
        raise TypeError(f"{name} must be a data set of ctsa.datasets, got {type(task).__name__}, which has no {missing}")
    coded = task.features is None
    n = np.shape(task.inputs)[-1 if coded else -2]
    return dict(
        n=checks.integer("tokens", n, low=1), rows=task.vocabulary if coded else task.features, classes=task.classes,
        pooled=np.ndim(task.targets) == 1, masks=task.masks,
    )  # fmt: skip
