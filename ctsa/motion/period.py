"""The period of a closed curve that is sampled at equal times, coarsely perhaps."""

import numpy as np


def common_divisor(times: np.ndarray) -> float | None:
    """Return the largest T of which all return times are multiples, refined on longer and longer ones; None if none."""
    times = np.sort(times)
    for q in range(1, 41):
        t, reach = times[0] / q, 2 * times[0]
        while t > 0:
            some = times[times <= reach]
            m = np.maximum(np.round(some / t), 1)
            if np.quantile(np.abs(some / t - m), 0.9) > 0.1:
                break
            t = float((some * m).sum() / (m * m).sum())
            if reach > times[-1]:
                return t
            reach *= 2
    return None


def smallest_period(x: np.ndarray, v: np.ndarray, interval: float, multiple: float, least: float) -> float | None:
    """Return the smallest ``multiple / g`` on which samples, sorted by phase, make a smooth closed curve."""
    x, v = x[-1000:], v[-1000:]
    times = np.arange(len(x)) * interval
    for g in range(min(int(multiple / least), 1000), 0, -1):
        period = multiple / g
        if period > len(x) * interval / 3:
            return None
        phase = times % period
        order = np.argsort(phase)
        after = np.roll(order, -1)
        step = np.diff(phase[order], append=phase[order[0]] + period)
        gap = x[after] - x[order]
        off = np.linalg.norm(gap - step[:, None] * (v[after] + v[order]) / 2, axis=1)
        size = np.linalg.norm(gap, axis=1)
        real = size > 0.3 * np.quantile(size, 0.98)  # samples may come in clusters, with nothing to learn inside them
        if size.max() < 1 and np.quantile(off[real] / (1e-4 + 0.2 * size[real]), 0.9) < 1:
            return period
    return None
