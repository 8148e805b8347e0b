"""Does the state come back: after a fixed number of steps, onto the same curve, or after a steady drift?"""

from dataclasses import dataclass

import numpy as np

from .averages import bump_average
from .period import common_divisor, smallest_period

FAR = 1.0  # in units of the orbit's size: a return counts only if the orbit was that far away in between


@dataclass(frozen=True)
class Returns:
    """The smallest ``p`` after which states return, the gaps ``|x_(k+p) - x_k|`` over the size, and the last of them."""

    p: int
    gaps: np.ndarray
    end: float


def returns(x: np.ndarray, size: float, most: int, least: int) -> tuple[Returns | None, float]:
    """Return the first p with gaps below 1e-3, or None; and the smallest ``p * gap``, how well the orbit closes at all."""
    tail = x[-min(max(2 * most, len(x) // 2), 4096) :]
    closing, step = np.inf, 0.0
    for p in range(1, most + 1):
        gaps = np.linalg.norm(tail[p:] - tail[:-p], axis=1) / size
        end = float(gaps[-max(p, len(gaps) // 4) :].max())
        step = end if p == 1 else step
        closing = min(closing, p * end)
        if p >= least and end < 1e-3 and (p == 1 or step > 1e-2):
            return Returns(p, gaps, end), closing
    return None, closing


@dataclass(frozen=True)
class Passes:
    """How passes of an orbit lie beside each other.

    Attributes:
        ratio: share of the way to the nearest other pass that is across the velocity, for the worst 5 %.
        median: the same, typically.
        across: that part in units of the orbit's size, for the worst 5 %.
        gap: typical distance to the nearest other pass.
        period: a period on which all samples fold to one smooth curve, or None.
    """

    ratio: float
    median: float
    across: float
    gap: float
    period: float | None


def passes(x: np.ndarray, v: np.ndarray, interval: float) -> Passes | None:
    """Compare each state with the nearest one of another pass; None if there are too few returns to tell.

    On a cycle the difference lies along the velocity; on a torus or a strange attractor part of it lies across. That
    needs no section, no period and no fast sampling.
    """
    from scipy.spatial import cKDTree

    n = len(x)
    x_size, v_size = np.sqrt(x.var(0).sum()) + 1e-300, np.sqrt((v**2).sum(1).mean()) + 1e-300
    y = np.concatenate([x / x_size, v / v_size], 1)
    distances = [np.median(np.linalg.norm(y[lag:] - y[:-lag], axis=1)) for lag in range(1, min(n // 2, 200))]
    if not distances:
        return None
    same = 1 + int(np.argmax(np.array(distances) > 0.5 * max(distances)))  # so many neighbours in time: the same pass
    near = cKDTree(y).query(y, k=min(n, 24))[1]
    other = np.abs(near - np.arange(n)[:, None]) > same
    found = np.flatnonzero(other.any(1))
    if len(found) < max(20, n // 2):
        return None
    i = found[:: max(1, len(found) // 400)]
    j = near[i, other[i].argmax(1)]
    away = [np.linalg.norm(y[min(a, b) : max(a, b)] - y[a], axis=1).max() > FAR for a, b in zip(i, j, strict=True)]
    if np.mean(away) < 0.9:
        return None
    offset, velocity = (x[j] - x[i]) / x_size, (v[i] + v[j]) / 2
    along = (offset * velocity).sum(1) / ((velocity**2).sum(1) + 1e-300)
    across = np.linalg.norm(offset - along[:, None] * velocity, axis=1)
    distance = np.linalg.norm(offset, axis=1)
    ratio = across / (distance + 1e-7)
    worst, period = float(np.quantile(ratio, 0.95)), None
    if worst < 0.3:
        times = np.abs((j - i) * interval - along * x_size)
        multiple = common_divisor(times[np.argsort(distance)[: max(20, len(i) // 2)]])
        least = 2 * x_size / np.linalg.norm(v, axis=1).max()  # a closed curve is longer than twice its width
        period = None if multiple is None else smallest_period(x / x_size, v / x_size, interval, multiple, least)
    return Passes(worst, float(np.median(ratio)), float(np.quantile(across, 0.95)), float(np.median(distance)), period)


def doubling(x: np.ndarray, most: int) -> float:
    """Return gap(2 p) / gap(p) of the best return p <= most.

    A rotation that misses by a little misses by twice as much after twice the time: 2 on tori. Below 1 in a cascade of
    period doublings, whose Cantor set has averages as good as those of a torus.
    """
    gaps = [float(np.median(np.linalg.norm(x[p:] - x[:-p], axis=1))) for p in range(1, 2 * most + 1)]
    best = int(np.argmin(gaps[:most])) + 1
    return gaps[2 * best - 1] / max(gaps[best - 1], 1e-300)


def drift(x: np.ndarray, blocks: int = 8) -> np.ndarray | None:
    """Return the mean step of a straight, steady drift under a bounded motion, or None."""
    n = len(x) // blocks
    if n < 4:
        return None
    cut = x[-n * blocks :].reshape(blocks, n, -1)
    steps = np.diff(cut.mean(1), axis=0)
    mean = steps.mean(0)
    ramp = (np.arange(n) - (n - 1) / 2)[None, :, None] * mean / n
    wobble = np.sqrt(((cut - cut.mean(1, keepdims=True) - ramp) ** 2).mean((0, 1)).sum())
    size = np.linalg.norm(mean)
    if size == 0 or size * blocks < 4 * wobble:
        return None
    uneven = np.linalg.norm(steps - mean, axis=1).max()
    return bump_average(np.diff(x, axis=0)) if uneven <= 1e-3 * size + 6 * wobble / n else None
