"""The diagnosis of some inputs, side by side."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ctsa.comparison.fitting import effective_step
from ctsa.layers.loop import Loop
from ctsa.motion import projection

from .ends import Ends, cycle_multipliers, ends, sensitivity
from .kinds import LONG, End, Kind, kind_of, of_part, slope_of
from .passing import Passed, norm
from .plan import counting
from .reading import exits, observed, readouts, safe_depth, sizes, tokens
from .restarts import restarted
from .result import Diagnosis

Array = Any


def diagnosis_of(p: Passed, identity: str = "") -> Diagnosis:
    """Say what a layer does on the inputs of a chunk."""
    with np.errstate(all="ignore"):
        return _diagnosis(p, identity)


def _diagnosis(p: Passed, identity: str) -> Diagnosis:
    plan, members = p.plan, p.members
    found = _ends(p)
    restarts = restarted(p)
    quiet = _quiet(p)
    kinds = [_kind(p, i, found, quiet[i]) for i in range(members)]
    values, errors = found.multipliers, found.errors
    for at, period in _cycles(kinds, plan.period):
        some = p.some(at)
        values[at], errors[at] = cycle_multipliers(some, p.last[at], period, values.shape[1])
    radius, angle = (f(values[:, 0]) if values.shape[1] else np.full(members, np.nan) for f in (np.abs, np.angle))
    goal, error = _goal(p, kinds, found)
    slopes = [slope_of(p.step[:, i], 10 * p.noise * np.nanmax(p.whole[:, i])) for i in range(members)]
    follow, scores = readouts(p)
    fires, left = exits(p, goal, follow)
    heat, arrived = tokens(p, goal)
    size, mean = sizes(p)
    clusters, rank, order = observed(p)
    steps, unexplained = _effective(p)
    by_part = [norm(np.diff(a, axis=0)) / (norm(a[1:]) + 1e-300) for a in p.parts.values()]
    return Diagnosis(
        verdicts=tuple(k.name for k in kinds), why=tuple(k.why for k in kinds), modes=tuple(k.mode for k in kinds),
        parts=tuple(p.parts), part_verdicts=tuple("|".join(_parts(p, i, k)) for i, k in enumerate(kinds)),
        loops=plan.loops, rate=np.array([k.rate for k in kinds]), slope=np.array([s.value for s in slopes]),
        slope_error=np.array([s.error for s in slopes]), floor=np.full(members, p.noise), multipliers=values,
        multiplier_errors=errors, distance=found.distance, period=np.array([k.period for k in kinds]),
        frequency=np.where(radius > 1e-8, np.abs(angle) / (2 * np.pi), np.nan), exponents=p.tangents[1],
        stderr=p.tangents[2], steps=np.stack(by_part, 1), sizes=size, means=mean, cosines=p.successive[0], error=error,
        loops_needed=_needed(p, kinds, error, radius), loops_to_decide=np.array([k.loops for k in kinds]),
        safe_depth=safe_depth(p, size, follow), restart_spread=restarts.spread, restart_agree=restarts.agree,
        restart_paths=restarts.paths, ends_sum=restarts.sums, input_gain=_gain(p, kinds),
        rules=tuple(plan.rules), exits=fires, exit_errors=left,
        token_loops=arrived, token_steps=heat, clusters=clusters, rank=rank, order=order,
        change=None if follow is None else np.stack(follow.change), scores=scores,
        path=np.swapaxes(p.xs.reshape(len(p.xs), members, -1) @ projection(p.last[0].size), 1, 2),
        effective_step=steps, unexplained=unexplained, tolerance=plan.tolerance, identity=identity,
    )  # fmt: skip


def _ends(p: Passed) -> Ends:
    """Look at fixed points and multipliers where runs ended; nan for members that overflow."""
    count, members = p.plan.multipliers, p.members
    unknown = np.full(members, np.nan)
    found = Ends(
        np.full((members, count), np.nan, dtype=complex), np.full((members, count), np.nan), unknown.copy(),
        unknown.copy(), np.full_like(p.last, np.nan), unknown.copy(),
    )  # fmt: skip
    at = np.flatnonzero(p.sound == p.plan.loops)
    if count and len(at):
        some = ends(p.some(at), p.last[at], count)
        for whole, part in zip(found, some, strict=True):
            whole[at] = part
    return found


def _quiet(p: Passed) -> list[bool | None]:
    """Tell of members whose motion is chaotic so far whether it comes to rest later; of one map only."""
    quiet: list[bool | None] = [None] * p.members
    at = np.flatnonzero([v is not None and v.name == "chaotic" for v in p.verdicts])
    if len(at) and p.plan.loops < LONG and p.system.kind != "layers" and not counting(p.system.source):
        for i, found in zip(at, p.quiet(at, LONG), strict=True):
            quiet[i] = bool(found)
    return quiet


def _end(found: Ends, i: int) -> End:
    if not found.multipliers.shape[1]:
        return End()
    m = found.multipliers[i, 0]
    return End(abs(m), found.errors[i, 0], float(np.angle(m)), found.distance[i], found.gain[i], found.bend[i])


def _kind(p: Passed, i: int, found: Ends, quiet: bool | None) -> Kind:
    record, verdict = p.tangents[0][i], p.verdicts[i]
    if record is None or verdict is None:
        return Kind("undecided", "the state was not finite after the first loop")
    tail = p.successive[0][-max(2, len(p.step) // 4) :, i]
    cosine = float(np.nanmean(tail)) if np.isfinite(tail).any() else np.nan
    n = record.count
    with np.errstate(invalid="ignore"):
        return kind_of(record, verdict, p.step[:n, i], _end(found, i), cosine, p.gaps[:, :n, i], quiet)


def _parts(p: Passed, i: int, kind: Kind) -> Iterator[str]:
    """Say what each part of the state of a member does."""
    record = p.tangents[0][i]
    if record is None or len(p.parts) == 1:
        yield from [kind.name] * len(p.parts)
        return
    n = record.count
    for a in (a[: n + 1, i] for a in p.parts.values()):  # (n + 1, tokens, components)
        v, looks = np.diff(a, axis=0), projection(a[0].size)
        lengths, speed = (np.linalg.norm(b, axis=-1).max(-1) for b in (a, v))
        x, v = a[1:].reshape(n, -1) @ looks, v.reshape(n, -1) @ looks
        yield of_part(record, kind, x, v, speed, lengths[0], lengths.max())


def _cycles(kinds: list[Kind], longest: int) -> Iterator[tuple[np.ndarray, int]]:
    periods = np.array([k.period for k in kinds])
    for period in np.unique(periods[periods > 1]):
        if period <= longest and period == round(period):
            yield np.flatnonzero(periods == period), round(period)


def _goal(p: Passed, kinds: list[Kind], found: Ends) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs go, a fixed point or else the last state, and how far it is, relative."""
    goal, error = p.last.copy(), np.full(p.members, np.nan)
    for i, kind in enumerate(kinds):
        end = _end(found, i)
        if kind.name == "settles" and end.regular and end.distance < 0.5:
            goal[i], error[i] = found.point[i], end.distance
        elif kind.name == "settles" and np.isfinite(kind.rate):
            m = np.exp(kind.rate) * (-1 if kind.mode == "alternating" else 1)
            error[i] = p.relative[-1, i] * abs(m / (1 - m))
    return goal, error


def _needed(p: Passed, kinds: list[Kind], error: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return how many loops it takes until the error is below the tolerance: seen in the run, or foretold by the rate."""
    needed = np.full(p.members, np.nan)
    for i, kind in enumerate(kinds):
        if kind.name == "settles" and error[i] <= p.plan.tolerance:
            goal = p.last[i]
            off = np.sqrt(((p.xs[:, i] - goal) ** 2).sum((-2, -1))) / (np.linalg.norm(goal) + 1e-300)
            needed[i] = len(off) - int((off > p.plan.tolerance)[::-1].argmax()) if (off > p.plan.tolerance).any() else 0
        elif kind.name == "settles":
            rate = np.log(radius[i]) if 0 < radius[i] < 1 else kind.rate
            needed[i] = p.plan.loops + np.log(error[i] / p.plan.tolerance) / abs(rate)
        elif kind.name not in ("undecided", "marginal"):
            needed[i] = np.inf
    return needed


def _gain(p: Passed, kinds: list[Kind]) -> np.ndarray:
    gain = np.full(p.members, np.nan)
    at = np.flatnonzero([k.name == "settles" for k in kinds])
    if p.plan.probes and p.plan.multipliers and len(at):
        gain[at] = sensitivity(p.some(at), p.last[at], p.first + at)
    return gain


def _effective(p: Passed) -> tuple[np.ndarray | None, np.ndarray | None]:
    if p.plan.field is None:
        return None, None
    fits = []
    for i in range(p.members):
        one = p.last_map.members(i) if isinstance(p.last_map, Loop) else p.last_map
        fits.append(effective_step(one, p.like(p.last[i]), p.plan.field))
    return tuple(np.array([getattr(f, name) for f in fits]) for name in ("common_step", "common_residual"))  # type: ignore
