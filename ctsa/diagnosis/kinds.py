"""The rule: what a layer does from one start, and the numbers that decide.

The states along the run decide first, by the rule of ``ctsa.motion``. What they leave open, the fixed point near the last
state and its multipliers may: a motion settles where its steps shrink at the rate of the leading multiplier, and the fixed
point lies where that rate says. "undecided" is an answer.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ctsa.errorbars import error_bar
from ctsa.motion import Record, Verdict, judge

KINDS = ("settles", "marginal", "periodic", "wanders", "chaotic", "drifts", "expands", "undecided")
_OF_VERDICT = {"quasi-periodic": "wanders", "chaotic": "chaotic", "drifting": "drifts", "expanding": "expands"}
_BEND = 0.1  # share of the spare contraction that curvature may take
_GROWN = 100.0  # times its first size (or 1): a state that has grown so evenly expands
LONG = 512  # loops below which chaos may as well be a transient, and up to which it is followed
REGULAR = 0.1  # a regular fixed point loses more of its residual in one of Newton's steps than this share


class Slope(NamedTuple):
    """Slope of the logarithm of the steps by loop, its 68 % half-width, and over which loops."""

    value: float
    error: float
    first: int
    last: int

    @property
    def number(self) -> int:
        """Of differences."""
        return self.last - self.first


class End(NamedTuple):
    """What was found where a run ended.

    Attributes:
        radius: modulus of the leading multiplier there, of f, or of f^p; nan if not known.
        error: its residual.
        angle: of the leading multiplier.
        distance: to the fixed point that Newton's steps lead to, relative to the size of the state; nan if none.
        gain: residual after the last of Newton's steps over that before.
        bend: how far the map is from linear between the two, and all the way down.
    """

    radius: float = np.nan
    error: float = np.nan
    angle: float = np.nan
    distance: float = np.nan
    gain: float = np.nan
    bend: float = np.nan

    @property
    def regular(self) -> bool:
        """Whether Newton's steps converged as they do at a fixed point without a multiplier 1."""
        return bool(self.gain < REGULAR)

    @property
    def rate(self) -> float:
        """Logarithm of the radius."""
        return float(np.log(max(self.radius, 1e-300))) if np.isfinite(self.radius) else np.nan


@dataclass(frozen=True)
class Kind:
    """What a layer does from one start."""

    name: str
    why: str
    mode: str = ""  # of settling: "", "alternating", "spiralling"
    period: float = np.nan
    rate: float = np.nan
    loops: float = np.nan  # about how many loops would decide


def slope_of(steps: np.ndarray, floor: float) -> Slope:
    """Fit the slope of log steps over the second half of the loops before they reach the floor."""
    above = np.flatnonzero(~(steps > floor))
    last = int(above[0]) - 1 if len(above) else len(steps) - 1
    first = last // 2
    if last - first < 2:
        return Slope(np.nan, np.nan, max(first, 0), max(last, 0))
    local = np.diff(np.log(steps[first : last + 1]))
    if len(local) >= 8:
        error = float(error_bar(local).half_width())
    else:
        error = float(local.std(ddof=1) / len(local) ** 0.5 * 2) if len(local) > 1 else np.inf
    return Slope(float(local.mean()), error, first, last)


def kind_of(
    r: Record, v: Verdict, steps: np.ndarray, end: End, cosine: float, gaps: np.ndarray, quiet: bool | None
) -> Kind:
    """Say what a run does.

    Args:
        r: its record.
        v: what the rule of ``ctsa.motion`` says of it.
        steps: lengths of the steps ``(loops,)``.
        end: what was found at the last state.
        cosine: between successive steps, on average over the last quarter.
        gaps: ``|x_k - x_(k-p)|`` relative to the size, ``(period, loops)``, nan where there is none.
        quiet: whether a chaotic motion comes to rest, or to a cycle, up to loop ``LONG``; None if that is not known.
    """
    floor = 10 * r.eps * r.size
    slope = slope_of(steps, floor)
    later = np.nan if v.factor is None else r.count * v.factor
    if v.name == "chaotic" and r.count < LONG and quiet is not False:
        seen = f"comes to rest, or to a cycle, before loop {LONG}" if quiet else f"only {r.count} loops are known"
        return Kind("undecided", f"{v.evidence}; but {seen}: a transient, it may be", loops=float(LONG))
    if v.name in _OF_VERDICT:
        return Kind(_OF_VERDICT[v.name], v.evidence, rate=np.nan if v.rate is None else v.rate)
    if v.name == "periodic" or (v.name == "settling" and v.period is not None):
        return Kind("periodic", v.evidence, period=v.period or np.nan, rate=np.nan if v.rate is None else -v.rate)
    if v.name in ("equilibrium", "settling"):
        return _resting(r, v, slope, end, cosine, steps)
    if r.driven:
        return Kind("undecided", v.evidence)
    for rule in (_settles, _expands):
        if (found := rule(r, slope, end, cosine)) is not None:
            return found
    if (found := _returns(r, gaps)) is not None:
        return found
    if (found := _marginal(r, steps, floor, end)) is not None:
        return found
    if end.regular and 0 < end.radius < 1 and slope.value < 0:
        later = np.nanmax([later, r.count + 3 / abs(end.rate)])
    return Kind("undecided", f"{v.evidence}{_about(end)}", loops=later)


def _about(end: End) -> str:
    return f"; leading multiplier {end.radius:.4g} at the end" if np.isfinite(end.radius) else ""


def _mode(end: End, cosine: float) -> str:
    """How a run settles: by the angle of the leading multiplier, or by the cosine between steps where that is not known."""
    angle = abs(end.angle)
    if np.isfinite(angle) and end.radius > 1e-8:
        return "" if angle < 0.02 else "alternating" if angle > np.pi - 0.02 else "spiralling"
    return "alternating" if cosine < -0.9 else ""


def _resting(r: Record, v, slope: Slope, end: End, cosine: float, steps: np.ndarray) -> Kind:
    """At rest, or slower and slower: does what was found at the end agree?"""
    later = r.count * (v.factor or 4)
    unstable = v.stability == "unstable" or end.radius > 1 + 1e-6 + 3 * end.error
    if unstable and end.regular or v.stability == "unstable":
        how = "at rest" if v.name == "equilibrium" else "slower and slower"
        return Kind("undecided", f"{how}, near a fixed point that is unstable{_about(end)}: perturb the start", loops=later)
    if v.name == "equilibrium":
        neutral = v.stability != "stable" and not end.radius < 1 - 1e-6 - 3 * end.error
        if neutral:
            return Kind("marginal", f"at rest, but what is pushed away stays away{_about(end)}; {r.top}")
        rate = slope.value if slope.number >= 8 and slope.value < 0 else end.rate
        return Kind("settles", f"{v.evidence}{_about(end)}", _mode(end, cosine), rate=rate)
    power = _power(steps, 10 * r.eps * r.size)
    if power is not None and not end.regular:
        return Kind("marginal", f"steps shrink like k^{power:.2g}, slower than any rate; {r.top}")
    if end.regular and end.radius < 1 and abs(end.rate - slope.value) > 0.5 * abs(end.rate) + 3 * slope.error:
        why = f"steps shrink by {slope.value:.3g} a loop, the leading multiplier says {end.rate:.3g}: not its last rate yet"
        return Kind("settles", f"{why}; {v.evidence}", _mode(end, cosine), rate=end.rate)
    return Kind("settles", f"{v.evidence}{_about(end)}", _mode(end, cosine), rate=slope.value)


def _settles(r: Record, slope: Slope, end: End, cosine: float) -> Kind | None:
    """The map is linear, as near as makes no difference, from here down to a stable fixed point."""
    spare = 1 - end.radius - end.error
    if not (end.regular and spare > 1e3 * r.eps and end.bend < _BEND * spare):
        return None
    why = (
        f"a fixed point at a relative distance of {end.distance:.2g}, leading multiplier {end.radius:.4g}, draws it in: "
        f"the map is linear to {end.bend:.1g} from here on; steps change by {slope.value:.3g} a loop"
    )
    rate = slope.value if slope.number >= 3 and abs(slope.value - end.rate) < 0.05 * abs(end.rate) else end.rate
    return Kind("settles", why, _mode(end, cosine), rate=rate)


def _expands(r: Record, slope: Slope, end: End, cosine: float) -> Kind | None:
    """Steps and state have grown by much, evenly, at the rate of the leading exponent."""
    if r.bounded or not (slope.number >= 8 and slope.value > 0 and r.size > _GROWN * max(r.first, 1.0)):
        return None
    even = 3 * slope.error < 0.05 * slope.value and slope.value * slope.number > 1
    agrees = abs(slope.value - r.e[0]) < 0.1 * slope.value + 3 * np.nan_to_num(r.errors[0]) + 1 / r.total
    if not (even and agrees):
        return None
    why = f"steps grow evenly by {slope.value:.4g} a loop, the state by a factor {r.size / max(r.first, 1e-300):.3g}"
    return Kind("expands", f"{why}; {r.top}", rate=slope.value)


def _returns(r: Record, gaps: np.ndarray) -> Kind | None:
    """The states of p loops ago, to rounding, over and over."""
    close, loops = max(1e-7, 100 * r.eps), gaps.shape[1]
    for p in range(2, 1 + len(gaps)):
        over = max(p, loops // 8)
        if loops < 3 * p + over or not (gaps[p - 1, -over:] < close).all():
            continue
        if all(gaps[q - 1, -over:].max() > 1e3 * close for q in range(1, p)) and r.e[0] < 0:
            off = gaps[p - 1, -over:].max()
            return Kind("periodic", f"back to {off:.1g} of its size after {p} loops; {r.top}", period=p)
    return None


def _power(steps: np.ndarray, floor: float) -> float | None:
    """Return a if steps shrink like ``k^a`` and not geometrically; None otherwise."""
    k = np.arange(1, 1 + len(steps))
    used = (k > len(steps) // 8) & (steps > floor)
    if used.sum() < 24 or not (steps[used] > floor).all():
        return None
    y, k = np.log(steps[used]), k[used]
    by_power, by_rate = (np.polyfit(f, y, 1) for f in (np.log(k), k))
    off_power, off_rate = ((y - np.polyval(c, f)).std() for c, f in ((by_power, np.log(k)), (by_rate, k)))
    return float(by_power[0]) if by_power[0] < -0.3 and off_power < 0.3 * off_rate and off_power < 0.1 else None


def _marginal(r: Record, steps: np.ndarray, floor: float, end: End) -> Kind | None:
    """Steps that shrink like a power of the loop's number, and no regular fixed point."""
    power = _power(steps, floor)
    if power is None or end.regular or abs(r.e[0]) > r.resolution[0]:
        return None
    return Kind("marginal", f"steps shrink like k^{power:.2g}, slower than any rate; {r.top}")


def of_part(r: Record, kind: Kind, x: np.ndarray, v: np.ndarray, speed: np.ndarray, first: float, size: float) -> str:
    """Say what one part of the state does, by the same rule of motion; where that is open, the whole speaks for it."""
    part = judge(replace(r, x=x, v=v, speed=speed, first=first, size=size))
    if part.name in _OF_VERDICT:
        return _OF_VERDICT[part.name]
    if part.name in ("equilibrium", "settling") and part.period is None:
        return kind.name if kind.name in ("marginal", "settles", "undecided") else "settles"
    return "periodic" if part.period is not None else kind.name if kind.name == "settles" else "undecided"
