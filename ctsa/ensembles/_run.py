"""Many starts of a flow followed to their limits, batch by batch."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa.equilibria.newton import check_room, field_geometry, solve
from ctsa.events import still_time
from ctsa.fields.matrices import consensus_matrix
from ctsa.fixed_points.starts import starts_of
from ctsa.flows.opening import check_solver, check_velocity
from ctsa.flows.systems import System
from ctsa.geometry import Geometry
from ctsa.results.base import as_numpy
from ctsa.symmetry import Symmetry, symmetry_of

from ._limits import (
    ESCAPED,
    KINDS,
    TURNING,
    UNKNOWN,
    UNRESOLVED,
    UNSTABLE,
    attractors,
    directions,
    in_batches,
    judge,
    shapes,
    turning,
)
from ._rounds import CLOSE, LOOKS, GaveUp, Rounds

Array = Any
_LARGEST = 2**17  # entries of the scores of a batch


def _frozen(field, g, t, s, state):
    (y,) = state
    return (g.extend(lambda x: field(t, x), y),)


def _held(field, g, radius, t, s, state):
    """The velocity where states may escape, unchanged within ``radius`` and held back by ``(radius / size)^12`` beyond.

    What escapes, maybe in finite time, would else stop the clock for its whole batch. A power, so that the velocity changes
    over distances of the order of the radius: a sharper brake needs steps too short for the clock.
    """
    (y,) = state
    v = g.extend(lambda x: field(t, x), y)
    xp = backend(y).xp
    size = xp.amax(xp.abs(y), (-2, -1))
    return (v / xp.clip(size / radius, 1.0, None)[..., None, None] ** 12,)


def _advance(field, g, segment, t, radius, carry):
    """Advance a batch by ``carry[1]``; return state, velocity, largest drift of a token, and whether it went well."""
    x, duration = carry
    be = backend(x)
    rhs = be.partial(_frozen, field, g, t) if radius is None else be.partial(_held, field, g, radius, t)
    (y,), ok, _ = be.flow_map(rhs, (x,), 0 * duration, duration, segment)
    y = g.retract(y)
    v = field(t, y)
    drift = field.drift(t, y) if hasattr(field, "drift") else v + be.xp.inf
    return carry, (y, v, be.xp.amax((drift * drift).sum(-1), -1) ** 0.5, ok & be.xp.isfinite(y).all())


class Run(Rounds):
    """Follow many starts of a flow to their limits."""

    def __init__(
        self, field, starts, n, d, seed, *, geometry, normalize, duration, rest, gap, verify, batch, solver, t,
    ):  # fmt: skip
        self.field, self.g = field, field_geometry(field, geometry)
        x = _starts(field, self.g, starts, n, d, seed, normalize)
        self.be, self.one = backend(x), x[:1]
        self.duration = checks.number("duration", duration, low=0.0, strict=True)
        self.rest, self.gap = (checks.number(k, v, low=0.0, strict=True) for k, v in (("rest", rest), ("gap", gap)))
        self.verify = bool(verify)
        self.eps = rounding(x)
        self.solver = check_solver(solver, x)
        self.t = still_time(field, self.one, t, self.g, "basins")
        check_velocity(self.be, field, self.g, self.be.like(self.t, x), self.one)
        super().__init__(as_numpy(x).astype(np.float64))
        count, n, d = x.shape
        check_room(self.g, n, d)
        whole = max(16, min(2048, _LARGEST // (n * max(n, d))))
        self.batch = min(count, whole if batch is None else checks.integer("batch", batch, low=1))
        self.matrix = None
        if self.g.radial and self.g.channels is None:
            self.matrix = consensus_matrix(field, d)
        self.radius = None  # where the manifold is not closed: beyond it a start has escaped
        if not self.g.closed:
            far = 1e4 if self.eps < 1e-10 else 1e2
            self.radius = self.be.like(far * (1 + float(np.abs(as_numpy(x)).max())), x)
        self.velocity = in_batches(self._velocity, self.be, self.one, self.batch)
        self._symmetry: Symmetry | None = None

    def settings(self) -> tuple:
        """Return what tells this run from others of the same field and starts."""
        return (
            self.g, self.be.name, self.duration, self.rest, self.gap, self.verify, self.batch, self.solver.name,
            self.solver.rtol, self.solver.atol, self.solver.step, self.t,
        )  # fmt: skip

    def _velocity(self, x: Array) -> Array:
        return self.be.call(self.field, self.be.like(self.t, self.one), x)

    def _directions(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        unit = self.g.unit or self.matrix is None
        return directions(self.matrix, x if unit else x / np.linalg.norm(x, axis=-1, keepdims=True))

    def _symmetries(self) -> Symmetry:
        if self._symmetry is None:
            n, d = self.one.shape[1:]
            self._symmetry = symmetry_of(self.field, n, d, t=self.t, geometry=self.g, like=self.one)
        return self._symmetry

    def _round(self, rows: np.ndarray, end: float, number: int) -> None:
        """Advance some starts to the time ``end`` and see which have arrived."""
        be, r, last = self.be, self.rows, number == LOOKS
        since = 0.0 if number == 1 else end / 2
        segment, t = self.solver.segment(end - since), be.like(self.t, self.one)
        advance = be.partial(_advance, self.field, self.g, segment, t, self.radius)
        padded = rows[np.minimum(np.arange(self.batch), len(rows) - 1)]
        carry = be.like(r["ends"][padded], self.one), be.like(end - since, self.one)
        _, outs = be.call(advance, carry)
        x, v, drift, ok = (as_numpy(o) for o in outs)
        if not ok:
            raise GaveUp(
                f"the solver could not finish the time from {since:g} to {end:g} (nan, or more than max_steps="
                f"{self.solver.max_steps} steps): raise max_steps, loosen atol, or for large beta use solver='kvaerno5' "
                "on JAX",
                self.columns(),
            )
        x, v, drift = (a[: len(rows)].astype(np.float64) for a in (x, v, drift))
        new = {name: values[rows] for name, values in r.items()}
        new.update(ends=x, speed=np.sqrt((v * v).sum(-1)).max(1), times=np.full(len(rows), end))
        new["rounds"][:] = number
        if self.radius is not None:
            new["kind_index"][np.abs(x).max((1, 2)) > float(as_numpy(self.radius))] = ESCAPED
        resting = new["kind_index"] == UNRESOLVED
        slow = np.flatnonzero(resting & (new["speed"] < (CLOSE * self.rest if self.verify else self.rest)))
        if len(slow):
            self._settle(new, slow, drift[slow], last)
        shape, new["sizes"] = shapes(new["ends"], self.gap)
        going = np.flatnonzero(new["kind_index"] == UNRESOLVED)
        if len(going):
            still = max(self.rest, 10 * self.solver.atol)  # what moves keeps the solver's errors
            found, pair = turning(self.g, self.matrix, x[going], v[going], shape[going], still, self.gap, self.velocity)
            new["kind_index"][going[found]] = TURNING + shape[going[found]]
            new["eigenvector"][going[found]] = pair[found]
            new["overlap"][going] = self._directions(x[going])[1]
        self._put(rows, new)

    def _settle(self, new: dict[str, np.ndarray], slow: np.ndarray, drift: np.ndarray, last: bool) -> None:
        """Name the limits of slow states, as far as they are sure."""
        x, speed = new["ends"][slow], new["speed"][slow]
        rest, stability, growth = np.ones(len(x), bool), np.full(len(x), UNKNOWN), np.full(len(x), np.nan)
        if self.verify:
            solved = solve(self.field, x, iterations=1, rest=self.rest, t=self.t, geometry=self.g, like=self.one)
            before, x, speed = x, solved.states, solved.speeds
            if hasattr(self.field, "drift"):
                drift = np.sqrt((solved.drifts**2).sum(-1)).max(1)
        eigenvector, overlap, dimension = self._directions(x)
        shape, _ = shapes(x, self.gap)
        if self.verify:
            # Consensus on an eigenspace of several dimensions is one of a family.
            families = np.where((shape == 0) & (eigenvector >= 0), dimension - 1, 0)
            rest, stability, growth = judge(self.g, before, solved, self.gap, self.eps, families, self._symmetries)
            rest &= speed < self.rest
        zero = (drift <= self.rest) & (not self.g.flat)
        kind = np.where(shape == 2, np.where(zero, KINDS.index("polygonal"), 2), shape)
        found = dict(
            ends=x, kind_index=kind, eigenvector=eigenvector, overlap=overlap, stability_index=stability, growth=growth,
            speed=speed,
        )  # fmt: skip
        sure = rest & (last | (stability != UNSTABLE))
        for name, values in found.items():
            new[name][slow[sure]] = values[sure]

    def columns(self) -> dict[str, np.ndarray]:
        """Return what is known."""
        found = {name: values for name, values in self.rows.items() if name != "rounds"}
        number = np.full(len(found["ends"]), -1)
        if self.radius is not None:
            number = attractors(found["ends"], found["kind_index"], found["growth"], self.gap)
        return dict(found, attractor=number)


def _starts(field: Any, g: Geometry, starts: Any, n: Any, d: Any, seed: int, normalize: bool) -> Array:
    """Return the starts ``(S, n, d)`` in the framework of the field."""
    if g.flat and not (hasattr(starts, "shape") and np.ndim(starts) or isinstance(starts, (list, tuple))):
        checks.integer("starts", starts, low=1)
        raise ValueError("starts must be states (S, n, d) in flat space: there are no uniform ones to draw")
    return starts_of(System("flow", field, g), starts, n, d, seed, normalize, "basins")
