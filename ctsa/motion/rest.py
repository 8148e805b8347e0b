"""Motions that end or leave: at rest, settling, expanding."""

import numpy as np

from .decay import decay
from .record import Record
from .verdict import Verdict

_EVEN = 0.35  # share of the fall that an exponential has at least in the second half (0.5)
FAR = 1e4  # a state that has grown by that much, and faster and faster, expands


def at_rest(r: Record) -> Verdict | None:
    """It does not move, and did not in the last quarter of the run."""
    q, speed = r.count // 4, r.speed
    moved = float(np.linalg.norm(r.x[-q - 1 :] - r.x[-1], axis=1).max())
    if speed[-q - 1 :].max() > r.rest or moved > 10 * r.tolerance * r.size:
        return None
    rounding = 1e3 * r.eps * r.size
    grown = r.rates[-q:].sum(0).max() * r.interval
    # A state that passes a saddle rests for a while, and is not at rest.
    leaving = (speed[-1] > 10 * speed[-q - 1] or grown > 1) and speed[-1] > rounding * r.natural
    path = speed[-q:].sum() * r.interval
    creeping = not r.flow and moved > max(rounding, 0.9 * path) and speed[-q:].min() > 0.9 * speed[-q:].max()
    if leaving or creeping:
        how = "leaving: a saddle may be near" if leaving else "creeping straight on"
        return Verdict("undecided", f"almost at rest, but {how}; {r.top}", factor=2.0)
    stability = r.stability(q if q >= 8 else None)  # before that it may have been elsewhere
    stays = ": a start exactly at rest stays there" if stability == "unstable" else ""
    return Verdict("equilibrium", f"speed {speed[-1]:.1g} all through the last quarter; {r.top}{stays}", stability)


def expanding(r: Record) -> Verdict | None:
    """Faster and faster, and far from where it began."""
    if r.bounded:
        return None
    up = decay(1 / np.maximum(r.speed[r.half :], 1e-300), r.times[r.half :], 1e-300)
    if not up.falling or up.drop <= 1:
        return None
    if r.size > FAR * max(r.first, 1.0) and up.drop > 2:
        why = f"the speed grows steadily, the state to {r.size:.1g}; {r.top}"
        return Verdict("expanding", why, rate=up.rate, unit=r.unit)
    return Verdict("undecided", f"the speed grows steadily; {r.top}", factor=float(np.clip(10 / up.drop, 2, 20)))


def settling(r: Record) -> Verdict | None:
    """Slower and slower, without a direction that grows."""
    floor = max(1e-3 * r.rest, 1e-300)
    down = decay(r.speed[r.half :], r.times[r.half :], floor)
    whole = decay(r.speed, r.times, floor)
    if r.e[0] > r.resolution[0] or not down.falling:
        return None
    # A speed that falls like a power of time may be the ghost of a saddle-node: most of its fall is in the first half.
    steady = whole.falling and whole.drop > 3 and down.drop > max(0.5, _EVEN * whole.drop)
    if not (down.drop > 3 or (down.straight and down.drop > 0.1) or steady):
        return None
    left = max(np.log(max(r.speed[-1], 1e-300) / r.rest), 1.0) / max(down.rate, 1e-300)
    fell = np.exp(min(whole.drop, 50))
    return Verdict(
        "settling", f"the speed fell by a factor {fell:.2g} to {r.speed[-1]:.1g}; {r.top}", rate=down.rate, unit=r.unit,
        factor=float(np.clip(1 + left / r.total, 1.1, 100)),
    )  # fmt: skip
