"""Many starts of a layer followed to fixed points and cycles, batch by batch."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa.fixed_points._map import Map, lengths
from ctsa.fixed_points.alike import distinct, layer_symmetry
from ctsa.fixed_points.linear import linearise, stabilities
from ctsa.fixed_points.settling import Budget, Settled, settled
from ctsa.fixed_points.starts import check_members, starts_of
from ctsa.flows.systems import System
from ctsa.layers.check import check_foreign
from ctsa.results.base import as_numpy
from ctsa.symmetry import Symmetry

from ._limits import CYCLE, ESCAPED, FIXED, MARGINAL, STABLE, UNKNOWN, UNSTABLE, shapes
from ._rounds import CLOSE, LOOKS, Rounds

Array = Any
_LARGEST = 2**22  # entries of the states of a batch
_LEAST = 1e-2  # of the longest token of all starts: lengths are relative to no less
_NAMES = {"stable": STABLE, "unstable": UNSTABLE, "neutral": MARGINAL, "not known": UNKNOWN}


class LayerRun(Rounds):
    """Follow many starts of a layer to fixed points and cycles of up to some period."""

    def __init__(
        self, s: System, starts, n, d, seed, *, normalize, duration, rest, gap, verify, batch, period,
    ):  # fmt: skip
        checks.one_input(s.source)
        self.field, self.g = s.source, s.geometry
        x = starts_of(s, starts, n, d, seed, normalize, "basins")
        check_foreign(self.field, x, self.g)
        check_members(self.field, x, "basins")
        self.be, self.one = backend(x), x[:1]
        self.duration = checks.number("duration", duration, low=0.0, strict=True)
        if self.duration % 1:
            raise ValueError(f"duration is a number of loops of the layer, an integer, got {duration!r}")
        self.rest, self.gap = (checks.number(k, v, low=0.0, strict=True) for k, v in (("rest", rest), ("gap", gap)))
        self.verify, self.period = bool(verify), checks.integer("period", period, low=1)
        values = as_numpy(x).astype(np.float64)
        super().__init__(values)
        count = len(values)
        whole = int(np.clip(_LARGEST // values[0].size, 16, 2048))
        self.batch = min(count, whole if batch is None else checks.integer("batch", batch, low=1))
        self.least = _LEAST * float(lengths(values).max())
        far = 1e4 if rounding(x) < 1e-10 else 1e2
        self.radius = np.inf if self.g.closed else far * (1 + float(np.abs(values).max()))
        self._symmetry: Symmetry | None = None

    def looks(self) -> list[float]:
        """Return the numbers of loops after which states are looked at."""
        return sorted({float(np.ceil(self.duration * 0.5**k)) for k in range(LOOKS)})

    def settings(self) -> tuple:
        """Return what tells this run from others of the same layer and starts."""
        return self.g, self.be.name, self.duration, self.rest, self.gap, self.verify, self.batch, self.period

    def _symmetries(self) -> Symmetry:
        """Those that make ends one: none in flat space, where nothing says which are alike."""
        if self._symmetry is None:
            self._symmetry = layer_symmetry(self.field, self.g, self.one, symmetric=not self.g.flat)
        return self._symmetry

    def _map(self, x: np.ndarray, period: int = 1) -> tuple[Map, np.ndarray]:
        """Return the map, and states repeated to a whole batch: JAX compiles once."""
        padded = x[np.minimum(np.arange(self.batch), len(x) - 1)]
        return Map(self.field, self.g, self.be.like(padded, self.one), period), padded

    # ---------------------------------------------------------------------------------------------------- a round
    def _round(self, rows: np.ndarray, end: float, number: int) -> None:
        """Apply the layer to some starts until it has been applied ``end`` times; see which have arrived."""
        r, looks = self.rows, self.looks()
        loops, last = int(end - (looks[number - 2] if number > 1 else 0)), number == len(looks)
        f, x = self._map(r["ends"][rows])
        path, gone = [x], np.zeros(len(x), bool)
        for _ in range(loops):
            y = f(path[-1])
            gone |= ~(np.abs(y).max((1, 2)) <= self.radius)
            path = [*path[-self.period :], np.where(gone[:, None, None], path[-1], y)]
        back, gone = np.stack(path)[::-1, : len(rows)], gone[: len(rows)]  # the last state first
        x = back[0]
        new = {name: values[rows] for name, values in r.items()}
        new.update(ends=x, times=np.full(len(rows), end))
        new["speed"] = lengths(back[0] - back[1])
        new["rounds"][:] = number
        new["kind_index"][gone] = ESCAPED
        period, resting = self._returns(back)
        period = np.where(gone, 0, period)
        for p in np.unique(period[period > 0]):
            self._settle(new, np.flatnonzero(period == p), int(p), last & resting[period == p])
        new["sizes"] = shapes(new["ends"], self.gap)[1]
        self._put(rows, new)

    def _returns(self, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return after how many loops each state comes back, or nearly, where Newton's method decides; 0: never.

        And whether it does come back.
        """
        size = np.maximum(lengths(back[0]), self.least)
        rest = max(self.rest, 100 * rounding(self.one)) * size
        period, resting = np.zeros(len(size), int), np.zeros(len(size), bool)
        for p in range(len(back) - 1, 0, -1):
            off = lengths(back[0] - back[p])
            near = off < (CLOSE if self.verify else 1.0) * rest
            period, resting = np.where(near, p, period), np.where(near, off < rest, resting)
        return period, resting

    def _settle(self, new: dict[str, np.ndarray], slow: np.ndarray, period: int, ended: np.ndarray) -> None:
        """Name the limits of states that come back, as far as they are sure: those that repel if the run has ended."""
        x = new["ends"][slow]
        if not self.verify:
            self._name(new, slow, np.full(len(slow), period))
            return
        f, padded = self._map(x, period)
        found = _first(settled(f, padded, Budget(0, 0, 6, 12, 0.0)), len(x))
        size = np.maximum(lengths(x), self.least)
        rest = found.arrived & (lengths(x - found.states) <= self.gap * size)
        exact = self._exact(found.states, period, np.maximum(1e-6, 10 * found.floors**0.5) * size)
        for q in np.unique(exact[rest]):
            some = np.flatnonzero(rest & (exact == q))
            states = self.be.like(found.states[some], self.one)
            linear = linearise(self.field, self.g, states, int(q), float(found.floors.max()), 6)
            modes = np.array([self._symmetries().modes(y) for y in found.states[some]], dtype=int)
            kind = np.array([_NAMES[k] for k in stabilities(linear, modes)])
            sure = ended[some] | (kind != UNSTABLE)
            at = slow[some[sure]]
            if not len(at):
                continue
            self._name(new, at, np.full(len(at), q))
            with np.errstate(divide="ignore"):
                new["growth"][at] = np.log(np.abs(linear.multipliers).max(1))[sure]
            new["stability_index"][at], new["ends"][at] = kind[sure], self._phase(found.states[some[sure]], int(q))

    @staticmethod
    def _name(new: dict[str, np.ndarray], at: np.ndarray, period: np.ndarray) -> None:
        new["period"][at], new["kind_index"][at] = period, np.where(period == 1, FIXED, CYCLE)

    def _orbits(self, x: np.ndarray, period: int) -> np.ndarray:
        """Return the states that follow, ``(S, period, n, d)``."""
        parts = []
        for first in range(0, len(x), self.batch):
            f, y = self._map(x[first : first + self.batch])
            path = [y]
            for _ in range(period - 1):
                path.append(f.point(f(path[-1]), path[-1]))
            parts.append(np.stack(path, 1)[: len(x) - first])
        return np.concatenate(parts)

    def _exact(self, x: np.ndarray, period: int, near: np.ndarray) -> np.ndarray:
        """Return the exact period, a divisor."""
        orbit, exact = self._orbits(x, period), np.full(len(x), period)
        for q in [q for q in range(period - 1, 0, -1) if period % q == 0]:
            exact = np.where(lengths(orbit[:, q] - orbit[:, 0]) <= near, q, exact)
        return exact

    def _phase(self, x: np.ndarray, period: int) -> np.ndarray:
        """Return the state of each cycle at which a generic number is largest."""
        orbit = self._orbits(x, period)
        weights = np.random.default_rng(0).normal(size=x.shape[1:])
        return orbit[np.arange(len(x)), (orbit * weights).sum((2, 3)).argmax(1)]

    # ---------------------------------------------------------------------------------------------------- the end
    def columns(self) -> dict[str, np.ndarray]:
        """Return what is known, and which of the different limits of a period each is."""
        found = {name: values for name, values in self.rows.items() if name != "rounds"}
        number, kind = np.full(len(found["ends"]), -1), found["stability_index"]
        for p in np.unique(found["period"][found["period"] > 0]):
            some = np.flatnonzero((found["period"] == p) & np.isin(kind, (STABLE, UNSTABLE)))
            if not len(some):
                continue
            orbits = self._orbits(found["ends"][some], int(p))
            gap = max(self.gap, 1e3 * rounding(self.one))
            chosen, owner = distinct(orbits, np.arange(len(some)), self._symmetries(), gap, self.least)
            if len(chosen) > 1:
                order = sorted(chosen.tolist(), key=lambda i: orbits[i, 0].round(9).ravel().tolist())
                rank = {c: k for k, c in enumerate(order)}
                number[some] = [rank[i] for i in owner.tolist()]
        return dict(found, attractor=number)


def _first(found: Settled, count: int) -> Settled:
    return Settled(*(a[:count] for a in found))
