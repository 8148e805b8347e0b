"""Tokens that have met go on as one: runs of length ``exp(beta)`` end.

Tokens at one place stay together, so a cluster may be one token of their joint mass. Others feel an error of the order
``gap^2`` when tokens merge at a distance ``gap``, as mass and mean stay, and nothing fast is left: the steps grow to the
time scale on which clusters move, as far as rounding lets them, to ``atol`` over the rounding of velocities.

A run is made of segments. Each is an ordinary solve of the clusters, which ends when tokens have met, or when they are at
other places; its clock starts at 0, so that times of 1e12 do not cost digits. Clusters are filled up with tokens that stand
still to one of few sizes, for which JAX compiles. Once all stay where they are, by the linear flow around them, the rest is
known. Merged tokens would part again were their inner modes to grow: how far, is followed from place to place by the
numerical abscissa of these modes.

References:
    Geshkovski, Koubbi, Polyanskiy, Rigollet, arXiv 2410.06833 (metastability).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, graded, modules, no_graph, rounding
from ctsa._backend._solve import Problem, Solved, show_progress
from ctsa.derivatives import tangent_jacobian
from ctsa.events import depends_on_time
from ctsa.parts import everything
from ctsa.results.base import Trajectory
from ctsa.results.merges import Merges, labels_at

from .meeting import any_near, inner_motion, inner_rates, meetings, met, standing, watch_of
from .outcome import IntegrationError, extended, why_failed
from .resting import drift_within

Array = Any
APART = 1e-4  # by which merged tokens may have parted, or ten times the gap
LEAST, SHRINK = 16, 4  # sizes to which clusters are filled up: n, n / 4, n / 16 ..., down to LEAST; few clusters, too
SEVERAL = 1024  # tokens up to which inner modes tell the unit of time at the start; of more, velocities do
OUTPUTS = 256  # of one segment
STILL = 16  # roundings of the largest velocity or rate at the start: a velocity that may be noise


def integrate_merging(
    field: Any, x: Array, times: np.ndarray, method: Any, geometry: Any, merge: Any, largest: float | None, land: bool,
    others: dict[str, Any],
) -> Trajectory:  # fmt: skip
    """Integrate with tokens that merge, see ``ctsa.integrate``; arguments are checked but for ``merge`` and its ``others``.

    Raises:
        TypeError: the field is a bare callable, or something is traced.
        ValueError: ``merge`` is no distance, or does not go with what else was given.
        IntegrationError: the solver gave up, or merged tokens would have parted again.
    """
    gap = _gap(merge, x, method)
    _refuse(field, x, times, geometry, others)
    with no_graph():
        run = _Run(field, x, times, method, geometry, gap, largest, land)
        while run.done < len(times):
            run.advance()
        return run.trajectory()


def _gap(merge: Any, x: Array, method: Any) -> float:
    if merge is True:
        return max(10 * (method.atol + method.rtol), math.sqrt(rounding(x)))
    if merge is None or isinstance(merge, str):
        raise TypeError(f"merge must be True, False, or a distance at which tokens have met, got {merge!r}")
    gap = checks.number("merge", merge, low=0.0, strict=True)
    if not 10 * (method.atol + method.rtol) <= gap <= 0.1:
        raise ValueError(
            f"merge={gap:g} must be True, False, or a distance from 10 atol = {10 * (method.atol + method.rtol):g}, below "
            "which errors keep tokens apart, to 0.1: choose a larger one, or a smaller atol"
        )
    return gap


def _refuse(field: Any, x: Array, times: np.ndarray, geometry: Any, others: dict[str, Any]) -> None:
    if backend(x).concrete(x) is None or modules(backend(x).name).traced(field):
        raise TypeError("merge= needs values, which are not known under jit, grad and vmap: integrate outside of them")
    if graded(x):
        raise ValueError("merge= has no gradient: mergers do not depend smoothly on x0. Pass x0.detach(), or leave it out")
    if others["until"] is not None or others["adjoint"] is not False:
        name = "adjoint" if others["until"] is None else "until"
        raise ValueError(f"{name}= does not go with merge=: leave one of them out")
    if others["step"] is not None:
        raise ValueError("merge= is for adaptive solvers, whose steps grow when tokens have met: use solver='dopri5'")
    if times[-1] < times[0]:
        raise ValueError("merge= is for runs forward in time: backward merged tokens would have to part")
    if x.ndim != 2:
        raise ValueError(f"merge= is for one state (n, d), got a batch of shape {tuple(x.shape)}: loop over its members")
    if not hasattr(field, "merged"):
        name = getattr(field, "__name__", type(field).__name__)
        raise TypeError(
            f"merge= is for fields of ctsa, which know clusters, and not for a bare callable ({name}): write it as a "
            "ctsa.fields.Field with merged(labels, size)"
        )
    field.merged(np.zeros(len(x), int))
    if depends_on_time(field, x, float(times[0]), geometry, float(times[-1] - times[0])):
        raise ValueError("merge= is for fields that do not depend on time, and this one does: leave merge out")
    show_progress(others["progress"])


@dataclass
class _Clusters:
    """Clusters of tokens.

    Attributes:
        slot: the cluster of each token, ``(n,)``.
        first: the first token of each cluster, ``(q,)``.
        x: where they are, ``(q, d)``.
        masses: ``(q,)``.
        bound: logarithm of the distance that tokens of each would have, had they not been merged; -inf: none.
        rates: of growth of inner modes at their places, ``(q,)``.
    """

    slot: np.ndarray
    first: np.ndarray
    x: np.ndarray
    masses: np.ndarray
    bound: np.ndarray
    rates: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def join(self, groups: np.ndarray, pairs: np.ndarray, distances: np.ndarray, geometry: Any) -> None:
        """Make one cluster of those that have one number in ``groups`` ``(q,)``, at their mean."""
        count = int(groups.max()) + 1
        masses = np.bincount(groups, self.masses, count)
        weights = np.where(masses[groups] > 0, self.masses, 1.0)
        x = np.zeros((count, self.x.shape[1]))
        np.add.at(x, groups, weights[:, None] * self.x)
        x = np.asarray(geometry.retract(x / np.bincount(groups, weights, count)[:, None]))
        alone = np.bincount(groups, minlength=count)[groups] == 1
        x[groups[alone]] = self.x[alone]
        with np.errstate(divide="ignore"):
            between = np.log(distances)
        bound, rates = np.full(count, -np.inf), np.full(count, -np.inf)
        np.maximum.at(bound, groups, self.bound)
        np.maximum.at(bound, groups[pairs[:, 0]], between)
        np.maximum.at(rates, groups, self.rates)
        first = np.full(count, len(self.slot))
        np.minimum.at(first, groups, self.first)
        self.slot, self.first, self.x, self.masses = groups[self.slot], first, x, masses
        self.bound, self.rates = bound, rates


class _Run:
    """A run in segments, and what is known of it so far."""

    def __init__(self, field, x, times, method, geometry, gap, largest, land):
        self.field, self.like, self.times, self.method = field, x, times, method
        self.geometry, self.gap, self.largest, self.land = geometry, gap, largest, land
        self.be, n = backend(x), x.shape[0]
        start = np.asarray(self.be.to_numpy(x), float)
        own = next((a for each in everything(field) if (a := getattr(each, "masses", None)) is not None), None)
        masses = np.ones(n) if own is None else np.asarray(backend(own).to_numpy(own), float)
        every, none = np.arange(n), np.full(n, -np.inf)
        self.clusters = _Clusters(every, every, start, masses, none, np.zeros(n))
        self.t, self.done, self.rows = float(times[0]), 1, [start[None]]
        self.met_at: list[np.ndarray] = []
        self.pairs: list[np.ndarray] = []
        self.stats: dict[str, Any] = dict(steps=0, rejected=0, evaluations=0, interpolated=0, radius_error=0.0, segments=0)
        self.apart, self.longest = -np.inf, np.inf
        v, motion = self._motion() if n <= SEVERAL else (self._velocity(), np.zeros(1))
        fastest = max(float(np.abs(v).max()), float(np.abs(motion).max()))
        self.unit = 10.0 / fastest if fastest > 0 else np.inf  # of time
        self.speed, self.still = float(np.abs(v).max()), STILL * rounding(x) * fastest
        self._meet(0.0)

    # -------------------------------------------------------------------------------------------------- one segment
    def _size(self) -> int:
        """Return the number of tokens that the clusters are filled up to."""
        q, size = len(self.clusters), len(self.clusters.slot)
        while -(-size // SHRINK) >= max(q, LEAST):
            size = -(-size // SHRINK)
        return size

    def _state(self, p: int) -> Array:
        x = self.clusters.x
        return self.be.like(np.concatenate([x, np.repeat(x[:1], p - len(x), 0)]), self.like)

    def _standing(self, p: int) -> Any:
        """Return the field of the clusters, and of others that stand still and do nothing."""
        rows = self.be.like(1.0 * (np.arange(p) < len(self.clusters))[:, None], self.like)
        return self.be.partial(standing, rows, self.field.merged(self.clusters.slot, p))

    def advance(self) -> None:
        """Solve until tokens have met, or are at other places, and merge what has met."""
        if self.times[self.done] <= self.t:  # by rounding
            self.rows.append(self.clusters.x[None, self.clusters.slot])
            self.done += 1
            return
        if self._rests():
            self.rows += [self.clusters.x[None, self.clusters.slot]] * (len(self.times) - self.done)
            self.t, self.done = float(self.times[-1]), len(self.times)
            return
        be, q, p, method = self.be, len(self.clusters), self._size(), self.method
        x, field = self._state(p), self._standing(p)
        always = bool((self.clusters.bound > -np.inf).any())
        watch = watch_of(np.asarray(be.to_numpy(x), float), q, self.gap, always, x)
        local, skip = self._clock()
        problem = Problem(
            rhs=be.partial(extended, field, self.geometry, 1), y0=(x,), ts=local, solver=method.name, rtol=method.rtol,
            atol=method.atol * math.sqrt(q / p), grid=None, max_steps=method.max_steps,
            stop=be.partial(met, field, self.geometry, watch), adjoint=False, progress=False, largest=self.largest,
            land=self.land,
        )  # fmt: skip
        solved = be.odeint(problem)
        if solved.failure == "step_size" and float(local[-1]) > 1e3 * self.unit:  # a step is too short for a long clock
            self.longest = float(local[-1]) / 1e3
            return
        self._keep(solved, local, skip)

    def _rests(self) -> bool:
        """Tell whether clusters stay where they are until the end, up to the tolerance: steps would follow rounding."""
        be, c, p, tol = self.be, self.clusters, self._size(), 10 * (self.method.atol + self.method.rtol)
        q = len(c)
        if q > LEAST or self.speed * self.unit > 10 * tol:
            return False
        field, x = self._standing(p), self._state(p)
        found = be.call(tangent_jacobian, field, self.geometry, be.like(0.0, x), x)
        e, v, j = (np.asarray(be.to_numpy(a), float) for a in found)
        r = e.shape[-1]
        v = (np.swapaxes(e, -1, -2) @ v[..., None])[:q, :, 0].reshape(-1)
        return drift_within(j[: q * r, : q * r], v, self.times[-1] - self.t, self.still) <= tol

    def _clock(self) -> tuple[np.ndarray, int]:
        """Return the output times of a segment, from its start, and how many of them come before the next output.

        A segment is at most as long as the run so far. In JAX all have as many outputs, since a program is made for a
        number; the start stands for what is missing.
        """
        ahead = self.times[self.done : self.done + OUTPUTS] - self.t
        span = min(max(self.t - self.times[0], self.unit), self.longest, float(ahead[-1]))
        inside = ahead[ahead < span]
        missing = min(OUTPUTS, len(self.times) - 1) - len(inside) - 1 if self.be.name == "jax" else 0
        return np.concatenate([np.zeros(max(missing, 0) + 1), inside, [span]]), max(missing, 0) + 1

    def _keep(self, solved: Solved, local: np.ndarray, skip: int) -> None:
        """Keep the outputs of a segment, and go on from its end."""
        be, q, started = self.be, len(self.clusters), self.t
        for name in ("steps", "rejected", "evaluations", "interpolated"):
            known = min(self.stats[name], solved.stats[name]) >= 0  # -1: not known
            self.stats[name] = self.stats[name] + solved.stats[name] if known else -1
        self.stats["segments"] += 1
        ys = np.asarray(be.to_numpy(solved.ys[0]), float)[skip : solved.reached, :q]
        found = int(np.isin(local[skip : skip + len(ys)], self.times[self.done : self.done + len(ys)] - self.t).sum())
        if solved.stopped is not None:
            at, (end,) = solved.stopped
            s, end = float(be.to_numpy(at)), np.asarray(be.to_numpy(end), float)[:q]
        elif len(ys):
            s, end = float(local[skip + len(ys) - 1]), ys[-1]
        else:
            s, end = 0.0, self.clusters.x
        states = np.concatenate([ys, end[None]])
        self.stats["radius_error"] = max(self.stats["radius_error"], float(np.abs(self.geometry.radius(states) - 1).max()))
        states = np.asarray(self.geometry.retract(states))
        self.rows.append(states[:found, self.clusters.slot])
        self.done += found
        self.t = float(self.times[-1]) if self.done == len(self.times) else started + s
        self.clusters.x, self.longest = states[-1], np.inf
        if isinstance(solved.failure, BaseException):
            solved.failure.trajectory = self.trajectory()  # type: ignore[attr-defined]
            raise solved.failure
        if self.stats["steps"] + self.stats["rejected"] > self.method.max_steps and self.done < len(self.times):
            solved.failure = "max_steps"
        if solved.failure is not None:
            why = why_failed(solved.failure, self.method.max_steps)
            self._fail(f"reached t={self.t:g} of {self.times[-1]:g} in {self.stats['steps']} steps: {why}")
        self._meet(self.t - started)

    # -------------------------------------------------------------------------------------------------- who has met
    def _velocity(self) -> np.ndarray:
        return self.be.to_numpy(self.be.call(self.field, self.be.like(0.0, self.like), self.like))

    def _motion(self) -> tuple[np.ndarray, np.ndarray]:
        """Return velocities and inner modes of all clusters, see ``inner_motion``."""
        be, c, p = self.be, self.clusters, self._size()
        field, x = self.field.merged(c.slot, 2 * p), self._state(p)
        found = be.call(inner_motion, field, self.geometry, be.like(0.0, x), x)
        v, motion = (np.asarray(be.to_numpy(a), float)[: len(c)] for a in found)
        return v, motion

    def _meet(self, duration: float) -> None:
        """Follow the inner modes of clusters for a duration that has passed, and merge tokens that have met."""
        c = self.clusters
        inside = c.bound > -np.inf
        if not inside.any() and not any_near(c.x, self.gap) and len(c) > LEAST:
            return
        v, motion = self._motion()
        rates, self.speed = inner_rates(motion), float(np.abs(v).max())
        c.bound = np.where(inside, c.bound + duration * 0.5 * (c.rates + rates), c.bound)
        c.rates, self.apart = rates, max(self.apart, float(c.bound.max()))
        if c.bound.max() > math.log(max(APART, 10 * self.gap)):
            self._part(int(c.bound.argmax()))
        meeting = meetings(c.x, v, rates, self.gap)
        if len(meeting.pairs):
            self.pairs.append(c.first[meeting.pairs])
            self.met_at.append(np.maximum(self.t - meeting.before, self.t - duration))
            c.join(meeting.groups, meeting.pairs, meeting.distances, self.geometry)
            self.apart = max(self.apart, float(c.bound.max()))

    def _part(self, which: int) -> None:
        c = self.clusters
        tokens = np.flatnonzero(c.slot == which)
        names = ", ".join(map(str, tokens[:6])) + (" ..." if len(tokens) > 6 else "")
        self._fail(
            f"stopped at t={self.t:g}: the merged tokens {names} would come apart again, since their inner modes grow at "
            f"the rate {c.rates[which]:.3g} there (by now they may be {math.exp(c.bound[which]):.2g} apart, at merging "
            f"they were {self.gap:.2g}). Merge nearer tokens, with a smaller merge= and atol, or integrate without merge="
        )

    # ------------------------------------------------------------------------------------------------------ outcome
    def _fail(self, why: str) -> None:
        raise IntegrationError(f"integrate {why}. The error's .trajectory holds the outputs so far", self.trajectory())

    def trajectory(self) -> Trajectory:
        """Return what there is: tokens of a cluster repeat the place of its first one."""
        ts, xs, n = self.times[: self.done], np.concatenate(self.rows), len(self.clusters.slot)
        times = np.concatenate([np.zeros(0), *self.met_at])
        order = np.argsort(times, kind="stable")
        pairs = np.concatenate([np.zeros((0, 2), int), *self.pairs])[order]
        labels, joined = labels_at(ts, times[order], pairs, n)
        xs = np.take_along_axis(xs, labels[..., None], 1)
        apart = math.exp(self.apart) if self.apart > -np.inf else 0.0
        merges = Merges(times[order][: len(joined)], joined, labels, self.gap, apart)
        stats = dict(self.stats, stopped=False)
        return Trajectory(self.be.xp.asarray(ts), self.be.like(xs, self.like), stats, merges)
