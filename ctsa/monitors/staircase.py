"""Plateaus of a curve, such as the energy of tokens that stay in clusters for long, and the merges between them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa._types import Times
from ctsa.clustering import clusters
from ctsa.fields import SelfAttention
from ctsa.observables import energy as attention_energy
from ctsa.results.base import Result, Trajectory, as_numpy, picture
from ctsa.results.text import columns

Array = Any


@dataclass(frozen=True)
class Plateaus(Result):
    """Plateaus of a curve, see ``plateaus``.

    Attributes:
        start, end: times of the plateaus ``(P,)``.
        value: of the curve there, its median ``(P,)``.
        height: the step up from the plateau before, of the first that from where the curve starts ``(P,)``.
        merge: times halfway from one plateau to the next ``(P - 1,)``.
        clusters: of the tokens in the middle of each plateau ``(P,)``; -1 where there are no tokens.
        partition: ``sum_q (n_q / n)^2`` of these clusters of ``n_q`` tokens ``(P,)``, the value of a normalised energy for
            clusters far apart; nan where there are no tokens.
        ts, curve: what was looked at ``(T,)``.
        log_time: whether time was taken by its logarithm.
        tolerance: how far a plateau may rise or fall, as a share of the range of the curve.
    """

    start: Any
    end: Any
    value: Any
    height: Any
    merge: Any
    clusters: Any
    partition: Any
    ts: Any
    curve: Any
    log_time: bool
    tolerance: float
    _static: ClassVar[tuple[str, ...]] = ("log_time", "tolerance")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("start", "end", "value", "height", "clusters", "partition"), ("plateau",)),
        "merge": ("merge",), **dict.fromkeys(("ts", "curve"), ("time",)),
    }  # fmt: skip

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        values = ", ".join(f"{v:.4g}" for v in self.value)
        return f"Plateaus({len(self)}{': ' + values if values else ''})"

    def table(self) -> str:
        """Return a line a plateau: from when to when, the value, the step up to it, the clusters and their value."""
        heads, known = ["from", "to", "value", "step"], bool((np.asarray(self.clusters) >= 0).any())
        series = [self.start, self.end, self.value, self.height, *([self.clusters, self.partition] if known else [])]
        rows = zip(*(np.asarray(a).tolist() for a in series), strict=True)
        return columns([*heads, *(["clusters", "sum (n_q/n)^2"] if known else [])], [list(row) for row in rows])

    def plot(self, ax=None, **kwargs):
        """Draw the curve, its plateaus, and the times of merges; return the ``Axes``."""
        return picture("monitors.plateaus")(self, ax=ax, **kwargs)


@analysis
def plateaus(
    ts: Times, curve: Any = None, *, log_time: bool = True, tolerance: float | None = None, shortest: float = 0.05
) -> Plateaus:
    """Find the plateaus of a curve, and when it goes from one to the next.

    A plateau is a stretch within which the curve stays in a band, ``tolerance`` of its whole range wide, for at least
    ``shortest`` of the whole (logarithmic) time: there it rises at most ``tolerance / shortest`` times as fast as on
    average. The longest such stretch is taken first; stretches that touch are one, unless the curve jumps between them.

    The energy of attention with Q = K = V = I is a staircase in logarithmic time: tokens meet in clusters, which stay
    nearly where they are until two of them merge. Divided by its value in consensus the energy is
    ``sum_q (n_q / n)^2 + O(exp(-beta (1 - g)))`` on a plateau, for clusters of ``n_q`` tokens with inner products up to g.
    (The first plateau may be the start, before tokens have moved.)

    Args:
        ts: increasing times ``(T,)``, or a ``Trajectory`` of one run.
        curve: values ``(T,)``, of any kind. With a trajectory: a field, whose energy is looked at, divided by that of
            consensus if query, key and value are the identity; or values at its times, or None, for
            ``sum_ij <x_i, x_j> / n^2``. Its tokens then tell the clusters of each plateau, by ``clusters(x, gap="auto")``.
        log_time: look at ``log t``; times up to 0 are then left out.
        tolerance: width of the band as a share of the range of the curve; None: 0.02, or what noise needs: eight times its
            standard deviation, read off the third differences.
        shortest: duration of a plateau as a share of the whole.

    Returns:
        ``Plateaus``: ``start``, ``end``, ``value``, ``height``, ``merge``, and with tokens ``clusters``, ``partition``.

    Raises:
        ValueError, TypeError: an argument is wrong; fewer than 8 times.

    Example:
        >>> import numpy as np, ctsa
        >>> t = np.geomspace(1.0, 1e4, 200)
        >>> found = ctsa.plateaus(t, np.where(t < 10, 0.25, np.where(t < 300, 0.5, 1.0)))
        >>> found.value.tolist(), [round(float(m)) for m in found.merge]
        ([0.25, 0.5, 1.0], [10, 304])

    References:
        Geshkovski, Koubbi, Polyanskiy, Rigollet, *Dynamic metastability in the self-attention model*, arXiv 2410.06833.
    """
    log_time = bool(checks.flag("log_time", log_time))
    run = ts if isinstance(ts, Trajectory) else None
    times, values, xs = _given(run, ts, curve)
    kept = times > 0 if log_time else np.full(len(times), True)
    if kept.sum() < 8:
        raise ValueError(
            f"ts must have at least 8 times{' above 0' if log_time else ''}, got {int(kept.sum())}: take more outputs, "
            "e.g. numpy.geomspace(1e-2, 1e3, 200)"
        )
    times, values, xs = times[kept], values[kept], None if xs is None else xs[kept]
    share = checks.number("shortest", shortest, low=0.0, strict=True)
    clock = np.log(times) if log_time else times
    low, high = values.min(), values.max()
    noise = _noise(values)
    if tolerance is None:
        wide = max(0.02, 8 * noise / (high - low)) if high > low else 0.02
        tolerance = 1.0 if wide > 0.6 else float(wide)  # all of it is noise
    tolerance = checks.number("tolerance", tolerance, low=0.0, strict=True)
    found = _stretches(clock, values, tolerance * (high - low), share * (clock[-1] - clock[0]))
    value = np.array([np.median(values[a:b]) for a, b in found])
    merge = np.array([
        _halfway(clock, values, found[i][1] - 1, found[i + 1][0], 0.5 * (value[i] + value[i + 1]))
        for i in range(len(found) - 1)
    ])  # fmt: skip
    counts, sizes = np.full(len(found), -1), np.full(len(found), np.nan)
    if xs is not None:
        for i, (a, b) in enumerate(found):
            labels = clusters(xs[np.searchsorted(clock, 0.5 * (clock[a] + clock[b - 1]))], "auto")
            counts[i] = labels.max() + 1
            sizes[i] = ((np.bincount(labels) / len(labels)) ** 2).sum()
    first, last = ([times[a] for a, _ in found], [times[b - 1] for _, b in found])
    steps = np.diff(value, prepend=values[0]) if len(value) else value
    return Plateaus(
        np.array(first), np.array(last), value, steps, np.exp(merge) if log_time else merge, counts, sizes, times, values,
        log_time, tolerance,
    )  # fmt: skip


def _given(run: Trajectory | None, ts: Any, curve: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return times, values, and the tokens if there are some."""
    if callable(ts):
        raise TypeError(
            f"ts must be times (T,) or a Trajectory, got {type(ts).__name__}: the field comes second, plateaus(traj, field)"
        )
    xs = None
    if run is not None:
        xs, ts = np.asarray(as_numpy(run.xs), dtype=float), run.ts
        if xs.ndim != 3:
            raise ValueError(f"ts must be a trajectory of one run, xs (T, n, d), got {xs.shape}: take one of the batch")
        if curve is None:
            curve = (xs.mean(1) ** 2).sum(-1)
        elif callable(curve):
            curve = _energy(curve, run.xs)
    if curve is None:
        raise TypeError("curve must be values (T,), got None: pass the energy, or a Trajectory in place of ts")
    times, values = checks.output_times(ts), checks.numbers("curve", as_numpy(curve))
    if times[-1] < times[0]:
        raise ValueError(f"ts must increase, got {times[0]:g} ... {times[-1]:g}: pass ts[::-1] and curve[::-1]")
    if values.shape != times.shape:
        raise ValueError(f"curve must have one value a time {times.shape}, got {values.shape}")
    return times, values, xs


def _energy(field: Any, xs: Array) -> np.ndarray:
    """Return the energy along a run, over that of consensus where all states of consensus have the same."""
    e = as_numpy(attention_energy(field, xs))
    alike = isinstance(field, SelfAttention) and field.query is None and field.key is None
    return np.asarray(e / as_numpy(attention_energy(field, xs[:1, :1] + 0 * xs[:1])) if alike else e)


def _noise(values: np.ndarray) -> float:
    """Return the standard deviation of white noise on a curve, robustly, from third differences."""
    return float(np.median(np.abs(np.diff(values, 3)))) / (0.6745 * 20**0.5)


def _stretches(clock: np.ndarray, values: np.ndarray, band: float, least: float) -> list[tuple[int, int]]:
    """Return where values stay within a band for long, as half-open ranges of indices in order."""
    found: list[tuple[int, int]] = []
    free = [(0, len(values))]
    while free:
        a, b = free.pop()
        if b - a < 3:
            continue
        i, j = _longest(clock[a:b], values[a:b], band)
        if clock[a + j - 1] - clock[a + i] < least or j - i < 3:
            continue
        found.append((a + i, a + j))
        free += [(a, a + i), (a + j, b)]
    joined: list[tuple[int, int]] = []
    for a, b in sorted(found):
        if joined and joined[-1][1] == a:
            before = values[joined[-1][0] : a]
            near = abs(values[a] - values[a - 1]) <= 0.5 * band
            if near or abs(np.median(before) - np.median(values[a:b])) <= band:
                joined[-1] = (joined[-1][0], b)
                continue
        joined.append((a, b))
    return joined


def _longest(clock: np.ndarray, values: np.ndarray, band: float) -> tuple[int, int]:
    """Return the range that lasts longest among those within a band: two ends that move to the right, extremes kept."""
    best, i, span = (0, 1), 0, -1.0
    low: list[int] = []  # indices of values that rise, the first being the least of the range
    high: list[int] = []
    for j, v in enumerate(values):
        while low and values[low[-1]] >= v:
            low.pop()
        while high and values[high[-1]] <= v:
            high.pop()
        low.append(j)
        high.append(j)
        while values[high[0]] - values[low[0]] > band:
            i += 1
            if low[0] < i:
                low.pop(0)
            if high[0] < i:
                high.pop(0)
        if clock[j] - clock[i] > span:
            best, span = (i, j + 1), clock[j] - clock[i]
    return best


def _halfway(clock: np.ndarray, values: np.ndarray, a: int, b: int, level: float) -> float:
    """Return where the curve first crosses a level between two indices, interpolated."""
    above = values[a : b + 1] > level
    at = a + int(np.argmax(above != above[0]))
    if at == a:  # noise hides the crossing
        return float(0.5 * (clock[a] + clock[b]))
    part = (level - values[at - 1]) / (values[at] - values[at - 1])
    return float(clock[at - 1] + part * (clock[at] - clock[at - 1]))
