"""Does the state come back: to the same points, or onto the same curve, and after how long?"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

_NEIGHBOURS, _POINTS, _LAGS = 24, 400, 200


@dataclass
class Cycle:
    """The smallest p with ``x_(k+p) = x_k`` over the last stretch, and the gaps ``|x_(k+p) - x_k|`` by k."""

    p: int
    gaps: np.ndarray
    end: float


def map_cycle(x: np.ndarray, scale: float, most: int, least: int) -> tuple[Cycle | None, float]:
    """Look for a cycle of at least ``least`` and at most ``most`` rows; also return the least ``p |x_(k+p) - x_k|``.

    Quasi-periodic motion closes like 1 / p at best: what closes better is on its way to a cycle.
    """
    tail = x[-min(max(2 * most, len(x) // 2), 4096) :]
    closing, step = np.inf, 0.0
    for p in range(1, min(most, len(tail) - 2) + 1):
        gaps = np.linalg.norm(tail[p:] - tail[:-p], axis=1) / scale
        end = float(gaps[-max(p, len(gaps) // 4) :].max())
        step = end if p == 1 else step
        closing = min(closing, p * end)
        if p >= least and end < 1e-3 and (p == 1 or step > 1e-2):
            return Cycle(p, gaps, end), closing
    return None, closing


@dataclass
class Curve:
    """Where other passes of an orbit come back: how far across the velocity, of the way there and of the orbit's size.

    Attributes:
        ratio: share of the way that is across: all but the worst 5 %.
        median: the same, half of them.
        across: the part across in units of the orbit's size, all but the worst 5 %.
        gap: typical way to the nearest other pass.
        period: of a closed curve, if the samples give it.
    """

    ratio: float
    median: float
    across: float
    gap: float
    period: float | None


def curve(x: np.ndarray, v: np.ndarray, interval: float) -> Curve | None:
    """Compare every point with the nearest of another pass: on a closed curve their difference lies along the velocity.

    Needs no section, no period and no dense sampling. None where too few points have such a neighbour.
    """
    n = len(x)
    width, pace = np.sqrt(x.var(0).sum()) + 1e-300, np.sqrt((v**2).sum(1).mean()) + 1e-300
    y = np.concatenate([x / width, v / pace], 1)
    apart, near = cKDTree(y).query(y, k=min(n, _NEIGHBOURS))
    lags = range(1, min(n // 2, _LAGS))
    if not lags:
        return None
    far = np.array([np.median(np.linalg.norm(y[lag:] - y[:-lag], axis=1)) for lag in lags])
    away = 1 + int(np.argmax(far > 0.5 * far.max()))  # what is closer in time belongs to the same pass
    other = np.abs(near - np.arange(n)[:, None]) > away
    has = np.flatnonzero(other.any(1))
    if len(has) < max(20, 0.5 * n):
        return None
    i = has[:: max(1, len(has) // _POINTS)]
    j = near[i, other[i].argmax(1)]
    # The orbit must have been elsewhere in between: one that creeps is a curve on itself.
    left = [np.linalg.norm(y[min(a, b) : max(a, b)] - y[a], axis=1).max() for a, b in zip(i, j, strict=True)]
    if np.mean(np.array(left) > 1) < 0.9:
        return None
    way, mean = (x[j] - x[i]) / width, (v[i] + v[j]) / 2
    along = (way * mean).sum(1) / ((mean**2).sum(1) + 1e-300)
    across, total = np.linalg.norm(way - along[:, None] * mean, axis=1), np.linalg.norm(way, axis=1)
    ratio = across / (total + 1e-7)
    worst = float(np.quantile(ratio, 0.95))
    period = None
    if worst < 0.3:
        returns = np.abs((j - i) * interval - along * width)
        multiple = _divisor(returns[np.argsort(total)[: max(20, len(i) // 2)]])
        shortest = 2 * width / np.linalg.norm(v, axis=1).max()  # a closed curve is longer than twice its width
        period = None if multiple is None else _period(x / width, v / width, interval, multiple, shortest)
    return Curve(
        worst, float(np.median(ratio)), float(np.quantile(across, 0.95)), float(np.median(total)), period
    )  # fmt: skip


def _divisor(returns: np.ndarray) -> float | None:
    """Return the largest time of which all return times are multiples, refined from short ones to longer ones."""
    returns = np.sort(returns[returns > 0])
    for q in range(1, 41) if len(returns) else ():
        t, reach = returns[0] / q, 2 * returns[0]
        while True:
            some = returns[returns <= reach]
            m = np.maximum(np.round(some / t), 1)
            if np.quantile(np.abs(some / t - m), 0.9) > 0.1:
                break
            t = float((some * m).sum() / (m * m).sum())
            if reach > returns[-1]:
                return t
            reach *= 2
    return None


def _period(x, v, interval: float, multiple: float, shortest: float) -> float | None:
    """Return the smallest ``multiple / g`` by which the samples, sorted by phase, follow their own velocities."""
    x, v = x[-1000:], v[-1000:]
    times = np.arange(len(x)) * interval
    for g in range(min(int(multiple / shortest), 1000), 0, -1):
        period = multiple / g
        if period > len(x) * interval / 3:
            return None
        phase = times % period
        order = np.argsort(phase)
        step = np.diff(phase[order], append=phase[order[0]] + period)
        following = np.roll(order, -1)
        gap = x[following] - x[order]
        size = np.linalg.norm(gap, axis=1)
        off = np.linalg.norm(gap - step[:, None] * (v[following] + v[order]) / 2, axis=1)
        real = size > 0.3 * np.quantile(size, 0.98)  # inside a cluster of samples there is nothing to learn
        if size.max() < 1 and np.quantile(off[real] / (1e-4 + 0.2 * size[real]), 0.9) < 1:
            return period
    return None
