"""The rule: which motion a record shows."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .averages import DIGITS, regularity
from .decay import decay
from .record import Record
from .recurrence import Passes, doubling, drift, passes, returns
from .rest import FAR, at_rest, expanding, settling
from .verdict import Verdict

GROWTH = 5.0  # e-folds in the second half that no regular orbit makes: shear of order n makes n ln 2
_FEW, _SHORT = 8, 32  # intervals below which nothing, and below which only rest, settling and expanding are told


def judge(r: Record) -> Verdict:
    """Say what the motion of a record is.

    Rules are tried in the order equilibrium, expanding, settling, drifting, periodic, chaotic, quasi-periodic. Each asks
    for evidence of its own, in the state and in the exponents; if none has it, the motion is undecided.
    """
    if r.overflow:
        if r.size > FAR * max(r.first, 1.0):
            return Verdict("expanding", f"the state grew from {r.first:.2g} to {r.size:.1g} and overflowed")
        return Verdict("undecided", "the run broke off: the state overflowed at once")
    if r.count < _FEW:
        return Verdict("undecided", f"{r.count} intervals; {r.top}", factor=max(2.0, 64 / max(r.count, 1)))
    ordered = (expanding,) if _sequence(r) else (at_rest, expanding, settling)
    for rule in ordered:
        if (found := rule(r)) is not None:
            return found
    if _sequence(r):
        why = f"layers that differ repeat nothing; the last changed tokens by {r.speed[-1]:.1g}; {r.top}"
        return Verdict("undecided", why)
    if r.count < _SHORT:
        return Verdict("undecided", f"{r.count} intervals; {r.top}", factor=64 / r.count)
    c = None if r.bounded else drift(r.x)
    if c is None:
        return _recurrent(Motion(r))
    step = c / r.interval
    speed, fluctuation = np.linalg.norm(step), _largest(r.v - r.v.mean(0))
    if fluctuation <= max(1e-6, 100 * r.eps) * speed + 10 * r.eps * r.size:
        why = f"the same velocity all the time; {r.top}"
        return Verdict("drifting", why, r.stability(), rate=float(speed), unit=r.unit)
    flat = replace(r, x=r.x - np.arange(r.count)[:, None] * c, v=r.v - step)
    return _recurrent(Motion(flat, ", on top of a steady drift"))


def _sequence(r: Record) -> bool:
    return r.driven and not r.flow


def _largest(v: np.ndarray) -> float:
    return float(np.linalg.norm(v, axis=1).max())


@dataclass(frozen=True)
class Motion:
    """A motion that goes on, with what is measured on it once."""

    r: Record
    note: str = ""

    @cached_property
    def size(self) -> float:
        """Extent of the orbit in the second half."""
        return float(np.sqrt(self.r.x[self.r.half :].var(0).sum())) + 1e-300

    @cached_property
    def recurs(self) -> bool:
        """Whether the state stays within its earlier extent."""
        x = self.r.x[self.r.half :]
        reach = [_largest(b - x.mean(0)) for b in np.array_split(x, 4)]
        return reach[-1] < 1.5 * max(reach[:-1])

    @cached_property
    def moving(self) -> bool:
        """Whether it moves at all interval ends."""
        return bool(self.r.speed[self.r.half :].min() > 1e-3 * self.r.size * self.r.natural)

    @cached_property
    def passes(self) -> Passes | None:
        """How passes lie beside each other (flows)."""
        r, h = self.r, self.r.half
        if not r.flow:
            return None
        if r.driven and r.x.shape[1] < 3:  # the drive's phase is a coordinate, too: earlier states stand in for it
            x, v = (np.concatenate([y[h - lag : len(y) - lag] for lag in range(3)], 1) for y in (r.x, r.v))
            return passes(x, v, r.interval)
        return passes(r.x[h:], r.v[h:], r.interval)

    @cached_property
    def closing(self):
        """Returns after a fixed number of intervals, see ``returns``."""
        r = self.r
        # A step of one interval is no return, unless the state moves in between.
        least = 1 if self.moving and (r.flow or r.interval > 1) else 2
        return returns(r.x, self.size, min(max(1, r.count // 8), 256), least)

    @cached_property
    def regularity(self) -> tuple[float, bool]:
        """Digits of averages, and whether they grow like those of regular motion."""
        return regularity(self.r.x, self.r.v)

    @property
    def zeros(self) -> int:
        """Exponents within their resolution of zero."""
        return int((np.abs(self.r.e) <= self.r.resolution).sum())

    @property
    def averages(self) -> str:
        """The digits, in words."""
        return f"averages over two halves agree to {self.regularity[0]:.1f} digits"

    @cached_property
    def growth(self) -> tuple[float, float]:
        """E-folds of the leading direction in the last two quarters of the run."""
        r = self.r
        three = 3 * r.count // 4
        return tuple(float(r.rates[a:b, 0].sum() * r.interval) for a, b in ((r.half, three), (three, r.count)))  # type: ignore[return-value]


def _recurrent(m: Motion) -> Verdict:
    for rule in (_strobed, _map_period, _closed_curve, _chaotic, _quasi_periodic):
        if (found := rule(m)) is not None:
            return found
    return Verdict("undecided", f"{m.averages}, {m.zeros} exponents zero{m.note}; {m.r.top}", factor=_longer(m))


def _strobed(m: Motion) -> Verdict | None:
    """The state is the same after every interval, while it moves: the response to a drive of that period."""
    r = m.r
    between = r.flow or r.interval > 1
    if not (between and m.moving and m.size < 1e-5 * r.size and r.e[0] < -r.resolution[0]):
        return None
    return Verdict(
        "periodic", f"back at the same state after every interval; {r.top}", r.stability(), period=r.interval
    )


def _map_period(m: Motion) -> Verdict | None:
    """The same states after p intervals."""
    r, (found, _) = m.r, m.closing
    if found is None:
        return None
    grows = r.e[0] > r.resolution[0]
    if grows and found.p > 16:
        why = f"the orbit closes after {found.p} intervals although it is unstable: rounding does that; {r.top}"
        return Verdict("undecided", why)
    again = decay(found.gaps, r.times[: len(found.gaps)], max(1e-12, 10 * r.eps))
    close = max(1e-6, 100 * r.eps)
    period = found.p * r.interval
    if found.end < close or (found.end < 1e-4 and again.falling and not grows):
        why = f"returns to {found.end:.1g} of its size{m.note}; {r.top}"
        return Verdict("periodic", why, r.stability(), period=period, unit=r.unit)
    if again.falling and again.drop > 2 and not grows:
        left = np.log(found.end / 1e-5) / max(again.rate, 1e-9)
        return Verdict(
            "settling", f"onto a cycle of period {period:g}{m.note}; {r.top}", period=period, rate=again.rate, unit=r.unit,
            factor=float(np.clip(1 + left / r.total, 1.1, 100)),
        )  # fmt: skip
    return None


def _closed_curve(m: Motion) -> Verdict | None:
    """A flow whose passes lie on one curve."""
    r, p = m.r, m.passes
    if p is None or p.ratio >= 0.1:
        return None
    along = 0 if r.driven else 1
    alone = len(r.e) > along and r.e[along] < -r.resolution[along] and r.e[0] <= r.resolution[0]
    if (alone and p.across < 1e-2) or (p.period is not None and p.across < 1e-5):
        why = f"other passes lie on the same curve to {p.across:.1g} of its size{m.note}; {r.top}"
        return Verdict("periodic", why, "stable" if alone else r.stability(), period=p.period, unit=r.unit)
    return None


def _chaotic(m: Motion) -> Verdict | None:
    """Growth that goes on in the second half, of a motion that is bounded and irregular."""
    r, second, (worth, regular) = m.r, sum(m.growth), m.regularity
    enough = second > GROWTH + 3 * r.errors[0] * r.total / 2 and min(m.growth) > 1
    if not (r.e[0] > r.resolution[0] and enough):
        return None
    level = [np.log(np.sqrt((b**2).mean()) + 1e-300) for b in np.array_split(r.speed, 4)]
    steady = abs(level[3] - level[1]) < 0.25 * second
    irregular = worth < DIGITS or (not regular and second > 4 * GROWTH)
    if not (steady and irregular):
        return None
    wanders = "" if m.recurs else ", the state wanders"
    return Verdict("chaotic", f"{r.top}, growth goes on in the second half; {m.averages} only{wanders}")


def _quasi_periodic(m: Motion) -> Verdict | None:
    """Averages converge as only those of regular motion do, nothing grows, and it does not close up."""
    r, p, (_, regular) = m.r, m.passes, m.regularity
    need = (0 if r.driven else 1) + 1 if r.flow else 1
    zero = r.e[0] <= r.resolution[0]
    still = zero if r.driven else abs(r.e[0]) <= r.resolution[0] and m.zeros >= min(need, len(r.e))
    if not (regular and still and sum(m.growth) < GROWTH and m.recurs):
        return None
    if r.flow:
        is_open = p is not None and p.median > 0.1 and p.gap < 0.5
    else:
        # Rotations close to 1 / p at best; what closes better is on its way to a cycle.
        is_open = m.closing[1] > 0.05 and doubling(r.x, min(r.count // 8, 256)) > 1.3
    if not is_open:
        return None
    return Verdict(
        "quasi-periodic", f"{m.averages}, {m.zeros} exponents zero, nothing grows{m.note}; {r.top}", "neutral"
    )


def _longer(m: Motion) -> float:
    """Return about how many times longer to run until one of the rules speaks."""
    r, e = m.r, float(m.r.e[0])
    if e <= 0 or not np.isfinite(r.errors[0]) or m.regularity[0] >= DIGITS:
        return 4.0
    b, a = 3 * r.errors[0], 5 / r.total  # e = b / sqrt(f) + a / f
    return float(np.clip(((b + np.sqrt(b * b + 4 * a * e)) / (2 * e)) ** 2, 2, 100))
