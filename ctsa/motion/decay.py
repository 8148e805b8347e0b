"""How a positive series decays."""

from dataclasses import dataclass

import numpy as np

_STRAIGHT = 0.003  # residual of a line through the logarithm, as a share of its fall


@dataclass(frozen=True)
class Decay:
    """``rate`` per time, ``drop`` in e-folds from the first to the last block, whether it falls, and log-linearly."""

    rate: float
    drop: float
    falling: bool
    straight: bool


def decay(series: np.ndarray, times: np.ndarray, floor: float, blocks: int = 6) -> Decay:
    """Look at the maxima of the logarithm over blocks: they fall, one after the other, down to the noise ``floor``."""
    y, low = np.log(np.maximum(series, floor)), np.log(floor) + 1
    if len(y) < 4:
        return Decay(0.0, 0.0, False, False)
    parts = np.array_split(np.arange(len(y)), min(blocks, len(y) // 2))
    tops = np.array([y[p].max() for p in parts])
    middles = np.array([times[p].mean() for p in parts])
    falling = bool((np.diff(tops) < 0)[tops[1:] > low].all()) and tops[-1] < tops[0]
    drop, live, above = float(tops[0] - tops[-1]), y > low, tops > low
    line = np.polyfit(times[live], y[live], 1) if live.sum() >= 5 else None
    off = np.inf if line is None else float((y[live] - np.polyval(line, times[live])).std())
    straight = off < _STRAIGHT * abs(drop)
    if line is not None and (straight or above.sum() < 2):
        slope = line[0]
    elif above.sum() >= 2:
        slope = np.polyfit(middles[above], tops[above], 1)[0]
    else:
        slope = -drop / max(float(times[-1] - times[0]), 1e-300)
    return Decay(float(-slope), drop, falling, bool(straight))
