"""Does a positive series fall, how fast, and how straight? Does a state move on at a steady pace?"""

from dataclasses import dataclass

import numpy as np

from .averages import bump_average


@dataclass
class Decay:
    """A falling series: e-folds per unit of time, from its first to its last block, and whether ``log s`` is a line."""

    rate: float
    drop: float
    falling: bool
    straight: bool


def decay(s: np.ndarray, times: np.ndarray, floor: float, blocks: int = 6) -> Decay:
    """Look at the largest of ``log s`` in blocks, with what is below ``floor`` taken as noise."""
    y, low = np.log(np.maximum(s, floor)), np.log(floor) + 1
    if len(y) < 4:
        return Decay(0.0, 0.0, False, False)
    parts = np.array_split(np.arange(len(y)), min(blocks, len(y) // 2))
    tops = np.array([y[p].max() for p in parts])
    falling = tops[-1] < tops[0] and all(b < a or b <= low for a, b in zip(tops[:-1], tops[1:], strict=True))
    drop, live, up = float(tops[0] - tops[-1]), y > low, tops > low
    slope, straight = 0.0, False
    if live.sum() >= 5:
        fit = np.polyfit(times[live], y[live], 1)
        slope = float(fit[0])
        straight = bool((y[live] - np.polyval(fit, times[live])).std() < 0.003 * abs(drop))
    if not straight and up.sum() >= 2:
        slope = float(np.polyfit(np.array([times[p].mean() for p in parts])[up], tops[up], 1)[0])
    return Decay(-slope, drop, bool(falling), straight)


def drift(x: np.ndarray, blocks: int = 8) -> np.ndarray | None:
    """Return the mean step of a state that moves on straight and evenly, whatever it does on top of that, or None."""
    n = len(x) // blocks
    if n < 4:
        return None
    cut = x[-n * blocks :].reshape(blocks, n, -1)
    steps = np.diff(cut.mean(1), axis=0)
    mean = steps.mean(0)
    ramp = (np.arange(n) - (n - 1) / 2)[None, :, None] * mean / n
    wobble = float(np.sqrt(((cut - cut.mean(1, keepdims=True) - ramp) ** 2).mean((0, 1)).sum()))
    size = float(np.linalg.norm(mean))
    if size == 0 or size * blocks < 4 * wobble:
        return None
    uneven = float(np.linalg.norm(steps - mean, axis=1).max())
    return bump_average(np.diff(x, axis=0)) if uneven <= 1e-3 * size + 6 * wobble / n else None
