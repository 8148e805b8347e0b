"""What a search was asked, and how what it found is sorted out: which ends are the same, modulo symmetry."""


import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.flows.systems import system_of
from ctsa.layers.check import check_foreign
from ctsa.results.base import as_numpy

from ._map import lengths
from .alike import distinct, layer_symmetry
from .linear import NOTHING, Linear, linearise, stabilities
from .points import DIVERGED, SHORTER, UNDECIDED
from .starts import check_members, starts_of

_LEAST = 1e-2  # of the longest token of all starts: distances are relative to no less
_STARTS = 64  # if their number is not said


class Search:
    """What was asked, checked; and how what was found is sorted out."""

    def __init__(
        self, layer, starts, n, d, seed, geometry, normalize, gap, leading, symmetric, confidence, caller
    ):  # fmt: skip
        if not callable(layer):
            raise TypeError(f"layer must be callable as layer(x), got {type(layer).__name__}")
        s = system_of(layer, geometry)
        if s.kind != "layer":
            cure = "field(t, x): ctsa.find_equilibria and ctsa.find_limit_cycle take it"
            kind = cure if s.flow else "sequence of layers: compose them in a function"
            raise TypeError(f"layer must be one layer(x), got a {kind}")
        checks.one_input(layer)
        starts = _STARTS if starts is None else starts
        self.start = starts_of(s, starts, n, d, seed, bool(checks.flag("normalize", normalize)), caller)
        self.layer, self.g = s.source, s.geometry
        check_foreign(self.layer, self.start, self.g)
        check_members(self.layer, self.start, caller)
        self.least = _LEAST * float(lengths(as_numpy(self.start).astype(float)).max())
        self.gap = checks.number("gap", gap, low=0.0, strict=True)
        self.leading = checks.integer("leading", leading, low=1)
        self.symmetric = bool(checks.flag("symmetric", symmetric))
        self.confidence = checks.number("confidence", confidence, low=0.0, strict=True)
        if not self.confidence < 1:
            raise ValueError(f"confidence must be below 1, such as 0.95, got {confidence!r}")
        if not self.g.dimension(*self.start.shape[1:]):
            raise ValueError(
                f"d={self.start.shape[2]}: tokens of the sphere of dimension 0 cannot move; d must be at least 2"
            )

    def gathered(self, found, orbit, period, early=None) -> tuple[np.ndarray, Linear, np.ndarray, np.ndarray]:
        """Sort out which ends are the same: representatives, what holds there, families, and where each start led."""
        member = np.where(found.diverged, DIVERGED, UNDECIDED)
        early = np.zeros(len(member), bool) if early is None else early
        member[found.arrived & early] = SHORTER
        rows = np.flatnonzero(found.arrived & ~early)
        rows = rows[np.argsort(found.residuals[rows], kind="stable")]
        if not len(rows):
            return rows, NOTHING, np.zeros(0, int), member
        floor = float(found.floors.max())
        symmetry = layer_symmetry(self.layer, self.g, self.start, self.symmetric)
        gap = max(self.gap, 10 * floor)
        chosen, member[rows] = distinct(orbit, rows, symmetry, gap, self.least)
        states = backend(self.start).like(found.states[chosen], self.start)
        linear = linearise(self.layer, self.g, states, period, floor, self.leading)
        # Once more, where errors are larger than the gap.
        kept, owner = distinct(orbit, chosen, symmetry, gap, self.least, 3 * np.nan_to_num(linear.errors))
        now = dict(zip(chosen.tolist(), owner.tolist(), strict=True))
        member[rows] = [now[m] for m in member[rows].tolist()]
        chosen, linear = kept, linear.take(np.isin(chosen, kept))
        modes = np.array([symmetry.modes(x) for x in found.states[chosen]], dtype=int)
        kind, radius = stabilities(linear, modes), np.abs(linear.multipliers).max(1, initial=0.0)
        hits = np.array([(member == c).sum() for c in chosen], dtype=int)
        order = np.lexsort((radius, -hits, kind != "stable"))
        rank = {int(chosen[i]): k for k, i in enumerate(order)}
        member = np.array([rank.get(int(m), int(m)) if m >= 0 else int(m) for m in member])
        linear = linear.take(order)
        return chosen[order], linear, modes[order], member
