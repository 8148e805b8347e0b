"""The rule: the state says what a motion is, exponents say how stable it is and have to agree; else it is undecided.

The order of the tests matters, and so do their thresholds, which were set on systems of known motion
(``tests/motions.py``; measured confusion in ``docs/verdicts.md``).
"""

from dataclasses import replace
from functools import cached_property

import numpy as np

from ctsa.errorbars import error_bar

from . import averages
from .decay import decay, drift
from .record import Record
from .recurrence import curve, map_cycle
from .verdict import Verdict

SHORTEST = 8  # intervals below which nothing is said
RECURRENCE = 32  # and below which nothing that comes back is looked for
REST = 1e-6  # speed of what is at rest, relative to the state's length and its own rates
GROWTH = 5.0  # e-folds in the second half of a run that no regular motion makes: shear of order n makes n log 2 there


class Motion:
    """A record with what the rule reads from it."""

    def __init__(self, record: Record):
        self.record = r = record
        self.n, self.total = len(r.rates), len(r.rates) * r.interval
        order = np.argsort(-r.rates.mean(0), kind="stable")
        self.rates = r.rates[:, order]
        self.e = self.rates.mean(0)
        self.se = np.array([error_bar(column).half_width() for column in self.rates.T])
        self.resolution = 3 * np.where(np.isfinite(self.se), self.se, np.inf) + 5 / self.total
        self.half = self.n // 2
        # The largest rates of change that the state itself has; rest is slow against them.
        self.natural = float(np.sqrt((self.rates**2).mean()) + 1 / r.interval) if r.flow else 1.0
        self.tol = max(REST, 100 * r.eps, 10 * r.atol / max(r.size, 1e-300) if r.flow else 0.0)
        self.fine = max(1e-6, 100 * r.eps)  # of the size: the same place again
        self.still = self.tol * max(r.size, 1e-300) * self.natural
        self.along = 0 if r.driven else 1 if r.flow else 0  # exponents that a flow's own direction makes zero

    @property
    def lead(self) -> str:
        """The largest exponent in words."""
        return f"largest exponent {self.e[0]:.3g} +- {self.se[0]:.1g}"

    @cached_property
    def stability(self) -> str:
        """Of the place where the state is at the end: from the exponents of the second half."""
        late = self.rates[self.half :]
        top = int(late.mean(0).argmax())
        value = float(late[:, top].mean())
        series = late if len(late) >= SHORTEST else self.rates
        spread = 3 * float(error_bar(series[:, top]).half_width())
        if value > spread + 6 / self.total:  # 3 e-folds in the second half; a Jordan block makes a fraction
            return "unstable"
        return "stable" if value < -spread - 2 / self.total else "neutral"

    def times_longer(self, factor: float, low: float = 2.0) -> float:
        """Clip an estimate to what can be said."""
        return float(np.clip(factor, low, 100))


def judge(record: Record) -> Verdict:
    """Say what a motion is, with the evidence, or that it is undecided and how much longer to run.

    Args:
        record: what the run kept, see ``Record``.
    """
    n = len(record.rates)
    # A direction that a map annihilates has the exponent -inf.
    record = replace(record, rates=np.maximum(record.rates, np.log(np.finfo(float).tiny) / record.interval))
    if n < SHORTEST:
        return Verdict("undecided", f"{n} intervals", factor=max(2.0, 64 / max(n, 1)))
    if not all(np.isfinite(a).all() for a in (record.x, record.v, record.speed, record.rates)):
        return Verdict("undecided", "the record has nan or inf")
    m = Motion(record)
    sequence = record.driven and not record.flow
    for look in (_expanding,) if sequence else (_expanding, _rest, _settling):
        found = look(m)
        if found is not None:
            return found
    if n < RECURRENCE:
        return Verdict("undecided", f"{n} intervals; {m.lead}", factor=max(2.0, 64 / n))
    return _recurring(m, sequence)


def _rest(m: Motion) -> Verdict | None:
    """At rest all through the last quarter, and not about to leave."""
    r, q = m.record, max(m.n // 4, 2)
    s = r.speed[-q:]
    moved = float(np.linalg.norm(r.x[-q:] - r.x[-1], axis=1).max())
    rounding = 1e3 * r.eps * r.size
    noise = rounding * m.natural if m.e[0] < -m.resolution[0] else 0.0  # that a contraction keeps alive
    if s.max() > max(m.still, noise) or moved > 10 * max(m.tol * r.size, rounding):
        return None
    grown = float(m.rates[-q:].sum(0).max()) * r.interval
    if (s[-1] > 10 * s[0] or grown > 1) and s[-1] > rounding * m.natural:
        return Verdict("undecided", f"almost at rest (speed {s[-1]:.1g}), but leaving; {m.lead}", factor=2.0)
    straight = moved > max(30 * r.eps * r.size, 0.9 * float(s[:-1].sum()) * r.interval)
    if not r.flow and straight and s.min() > 0.9 * s.max():
        return Verdict("undecided", f"almost at rest (speed {s[-1]:.1g}), but creeping on; {m.lead}", factor=2.0)
    why = f"speed {s.max():.1g} all through the last quarter; {m.lead}"
    if m.stability == "unstable":
        why += "; a start exactly at rest stays there"
    return Verdict("equilibrium", why, m.stability)


def _expanding(m: Motion) -> Verdict | None:
    """Faster and faster, and far from where it began."""
    r = m.record
    if r.bounded:
        return None
    if r.size > 1e100 * max(r.began, 1e-100):  # squares would overflow
        return Verdict("expanding", f"the state has grown to {r.size:.2g}; {m.lead}")
    up = decay(1 / np.maximum(r.speed[m.half :], 1e-300), r.times[m.half :], 1e-300)
    if not up.falling or up.drop <= 1:
        return None
    if up.drop > 2 and r.size > 1e4 * max(r.began, r.atol):
        why = f"the speed grows steadily, the state has grown to {r.size:.2g}; {m.lead}"
        return Verdict("expanding", why, rate=up.rate)
    return Verdict("undecided", f"the speed grows steadily; {m.lead}", factor=m.times_longer(10 / up.drop))


def _settling(m: Motion) -> Verdict | None:
    """Slower and slower, without a growing direction."""
    r = m.record
    if m.e[0] > min(m.resolution[0], m.se[0] if np.isfinite(m.se[0]) else np.inf):
        return None
    floor = max(1e-3 * m.still, 1e-300)
    down, whole = (decay(r.speed[i:], r.times[i:], floor) for i in (m.half, 0))
    # An exponential has half of its fall in the second half, a power of time (a ghost, a marginal point) much less.
    steady = whole.falling and whole.drop > 3 and down.drop > max(0.5, 0.3 * whole.drop)
    clear = down.drop > 3 or (down.straight and down.drop > 0.1) or steady
    if not (down.falling and clear and down.rate > 0):
        return None
    left = max(np.log(r.speed[-1] / m.still), 1.0) / down.rate
    fall = np.exp(min(max(whole.drop, down.drop), 50.0))
    why = f"the speed fell by a factor {fall:.2g} to {r.speed[-1]:.1g}; {m.lead}"
    detail = ""
    if not r.flow and r.interval == 1:
        turn = float((r.v[-1] * r.v[-2]).sum() / (np.linalg.norm(r.v[-1]) * np.linalg.norm(r.v[-2]) + 1e-300))
        detail = "alternating" if turn < -0.9 else ""
    return Verdict("settling", why, rate=down.rate, factor=m.times_longer(1 + left / m.total, 1.1), detail=detail)


def _recurring(m: Motion, sequence: bool) -> Verdict:
    """Whatever keeps moving: drifting, periodic, chaotic, quasi-periodic, or none of these for sure."""
    r, h = m.record, m.half
    x, v, note = r.x, r.v, ""
    late = h if m.n >= 2 * RECURRENCE else 0
    step = None if r.bounded or sequence else drift(x[late:])
    if step is not None:
        pace = step / r.interval
        speed = float(np.linalg.norm(pace))
        wobble = np.linalg.norm(v[h:] - v[h:].mean(0), axis=1).max()
        if wobble <= m.fine * max(speed, float(np.linalg.norm(v[h:], axis=1).max())):
            return Verdict("drifting", f"a steady velocity {speed:.3g}; {m.lead}", m.stability, rate=speed)
        x, v, note = x - np.arange(m.n)[:, None] * step, v - pace, ", on top of a steady drift"
    scale = float(np.sqrt(x[h:].var(0).sum())) + 1e-300
    closing = np.inf
    shape = None
    if not sequence:
        found, closing = _periodic_points(m, x, scale, note)
        if found is not None:
            return found
        shape = curve(x[h:], v[h:], r.interval) if r.flow else None
        if shape is not None and x.shape[1] == 1 and shape.period is None:
            shape = None  # on a line every difference lies along the velocity
        if shape is not None:
            found = _periodic_curve(m, shape, note)
            if found is not None:
                return found
    digits, gain = averages.convergence(averages.observables(x, v))
    regular = digits >= averages.LEAST and (gain > 1.3 or digits > 9)
    # Narrow bands of chaos reach 4 digits by chance; the solver of a flow leaves a torus about 5.
    torus = regular and (digits > averages.LEAST + 1 or (r.flow and m.n >= 500))
    extents = np.array([np.linalg.norm(b - x[h:].mean(0), axis=1).max() for b in np.array_split(x[h:], 4)])
    recurs = bool(extents[-1] < 1.5 * extents[:-1].max())
    growth = m.rates[:, 0].cumsum() * r.interval
    second = float(growth[-1] - growth[h])
    if _grows_on(m, growth, second) and (digits < averages.LEAST or (not regular and second > 4 * GROWTH)):
        why = f"{m.lead}, growth goes on in the second half; averages agree to {digits:.1f} digits"
        return Verdict("chaotic", why + ("" if recurs else ", the state wanders"))
    zeros = int((np.abs(m.e) <= m.resolution).sum())
    if torus and recurs and second < GROWTH and not sequence and _open(m, shape, closing, zeros):
        why = f"averages of two halves agree to {digits:.1f} digits, zero exponents: {zeros}, nothing grows{note}; {m.lead}"
        return Verdict("quasi-periodic", why, "neutral")
    why = f"averages agree to {digits:.1f} digits, zero exponents: {zeros}{note}; {m.lead}"
    if sequence:
        why = f"a sequence of layers comes to no rest; {why}"
    return Verdict("undecided", why, factor=_how_much_longer(m, digits))


def _periodic_points(m: Motion, x: np.ndarray, scale: float, note: str) -> tuple[Verdict | None, float]:
    """Back at the same points after a whole number of intervals."""
    r, h = m.record, m.half
    moving = bool(r.speed[h:].min() > 1e-3 * r.size * m.natural)
    contracting = m.e[0] < -m.resolution[0]
    if r.flow and moving and scale < 10 * m.fine * r.size and contracting:
        why, detail = f"back at the same state after every interval; {m.lead}", "response to its drive" if r.driven else ""
        return Verdict("periodic", why, m.stability, period=r.interval, detail=detail), 0.0
    cycle, closing = map_cycle(x, scale, min(max(1, m.n // 8), 256), 1 if r.flow and moving else 2)
    if cycle is None:
        return None, closing
    period = cycle.p * r.interval
    again = decay(cycle.gaps, r.times[: len(cycle.gaps)], 1e-12)
    calm = m.e[0] <= m.resolution[0]
    if cycle.end < m.fine or (cycle.end < max(m.fine, 1e-4) and again.falling and calm):
        detail = "alternating" if not r.flow and cycle.p == 2 and r.interval == 1 else ""
        detail = "response to its drive" if r.driven and r.flow and contracting else detail
        why = f"returns to {cycle.end:.1g} of its size{note}; {m.lead}"
        return Verdict("periodic", why, m.stability, period=period, detail=detail), closing
    if again.falling and again.drop > 2 and calm:
        left = np.log(max(cycle.end / 1e-5, 1.0)) / max(again.rate, 1e-9)
        why = f"onto a cycle, to {cycle.end:.1g} of its size by now{note}; {m.lead}"
        factor = m.times_longer(1 + left / m.total, 1.1)
        return Verdict("settling", why, rate=again.rate, period=period, factor=factor), closing
    return None, closing


def _periodic_curve(m: Motion, shape, note: str) -> Verdict | None:
    """Back on the same curve, though not at the same points."""
    others = len(m.e) > m.along and m.e[m.along] < -m.resolution[m.along] and m.e[0] <= m.resolution[0]
    closed = bool(shape.period) and shape.across < 10 * m.fine and shape.ratio < 0.1
    if not (others and shape.ratio < 0.1 and shape.across < 1e-2) and not closed:
        return None
    why = f"other passes lie on the same curve to {shape.across:.1g} of its size{note}; {m.lead}"
    stability = "stable" if others else m.stability
    return Verdict("periodic", why, stability, period=shape.period, detail="" if shape.period else "period not found")


def _grows_on(m: Motion, growth: np.ndarray, second: float) -> bool:
    """Whether small differences grow all through the second half, while the speed itself does not."""
    quarter = float(growth[3 * m.n // 4] - growth[m.half])
    levels = [np.log(np.sqrt((b**2).mean()) + 1e-300) for b in np.array_split(m.record.speed, 4)]
    steady = abs(levels[3] - levels[1]) < 0.25 * second
    enough = second > GROWTH + 3 * m.se[0] * m.total / 2 and min(quarter, second - quarter) > 1
    return bool(m.e[0] > m.resolution[0] and enough and steady)


def _open(m: Motion, shape, closing: float, zeros: int) -> bool:
    """Whether a regular motion is one that never closes, and its exponents allow that."""
    r = m.record
    if r.driven:
        neutral = m.e[0] <= m.resolution[0]
    else:
        neutral = abs(m.e[0]) <= m.resolution[0] and zeros >= min(1 + m.along, len(m.e))
    if not r.flow:
        # Of a golden rotation p |x_(k+p) - x_k| / size stays above 1.8, of the Feigenbaum attractor it falls below 0.7.
        return bool(neutral and closing > 0.7)
    return bool(neutral and shape is not None and shape.median > 0.1 and shape.gap < 0.5)


def _how_much_longer(m: Motion, digits: float) -> float:
    """Until a positive exponent stands out: ``e = b / sqrt(f) + a / f`` solved for f; else a guess."""
    if m.e[0] > 0 and np.isfinite(m.se[0]) and digits < averages.LEAST:
        a, b = 5 / m.total, 3 * m.se[0]
        return m.times_longer(((b + np.sqrt(b * b + 4 * a * m.e[0])) / (2 * m.e[0])) ** 2)
    return 4.0
