"""What a search was asked, and how what it found is sorted out: which ends are the same, modulo symmetry."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.flows.systems import system_of
from ctsa.layers.base import Layer, time_of
from ctsa.layers.check import check_foreign
from ctsa.layers.displacement import Displacement
from ctsa.results.base import as_numpy
from ctsa.symmetry import Symmetry, symmetry_of

from ._map import lengths
from .linear import Linear, linearise, stabilities
from .points import DIVERGED, SHORTER, UNDECIDED
from .starts import starts_of

Array = Any
SAME = 1e-5  # relative distance within which two points are one
_LEAST = 1e-2  # of the longest token of all starts: distances are relative to no less
_SMALL = 128  # unknowns up to which the symmetries of a layer that is not a step of a field are looked for
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
        known = checks.sizes(layer)
        n, d = (known.get("n") if n is None else n), (known.get("d") if d is None else d)
        starts = _STARTS if starts is None else starts
        self.start = starts_of(s, starts, n, d, seed, bool(checks.flag("normalize", normalize)), caller)
        self.layer, self.g = s.source, s.geometry
        check_foreign(self.layer, self.start, self.g)
        self.least = _LEAST * float(lengths(as_numpy(self.start).astype(float)).max())
        self.gap = checks.number("gap", gap, low=0.0, strict=True)
        self.leading = checks.integer("leading", leading, low=1)
        self.symmetric = checks.flag("symmetric", symmetric)
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
        symmetry = self._symmetry() if len(rows) else None
        gap = max(self.gap, 10 * float(found.floors.max()))
        chosen = self._distinct(orbit, rows, symmetry, gap, member)
        floor = float(found.floors.max())
        like = self.start
        linear = self._linearised(found.states[chosen], period, floor, like)
        if len(chosen) > 1:  # once more, where errors are larger than the gap
            wide = np.nan_to_num(linear.errors)
            again = self._distinct(orbit, chosen, symmetry, gap, member, 3 * wide)
            keep = np.array([i for i, c in enumerate(chosen) if c in again])
            linear = linear.take(keep)
            chosen = chosen[keep]
        modes = np.array([symmetry.modes(x) if symmetry else 0 for x in found.states[chosen]], dtype=int)
        kind, radius = stabilities(linear, modes), np.abs(linear.multipliers).max(1, initial=0.0)
        hits = np.array([(member == c).sum() for c in chosen], dtype=int)
        order = np.lexsort((radius, -hits, kind != "stable"))
        rank = {int(chosen[i]): k for k, i in enumerate(order)}
        member = np.array([rank.get(int(m), int(m)) if m >= 0 else int(m) for m in member])
        linear = linear.take(order)
        return chosen[order], linear, modes[order], member

    def _linearised(self, states: np.ndarray, period: int, floor: float, like: Array) -> Linear:
        if not len(states):
            return Linear(np.zeros((0, 1), complex), np.zeros((0, 1)), np.zeros(0), True)
        return linearise(self.layer, self.g, backend(like).like(states, like), period, floor, self.leading)

    def _symmetry(self) -> Symmetry:
        n, d = self.start.shape[1:]
        field = getattr(self.layer, "field", None) if isinstance(self.layer, Layer) else None
        if self.symmetric and field is not None and not self.layer.no_flow:
            return symmetry_of(field, n, d, t=float(time_of(self.layer)), geometry=self.g, like=self.start)
        if self.symmetric and n * d <= _SMALL:
            return symmetry_of(Displacement(self.layer, self.g), n, d, geometry=self.g, like=self.start)
        return Symmetry(np.arange(n), np.eye(d), np.ones((1, d)))

    def _distinct(self, orbit, rows, symmetry, gap, member, errors=None) -> np.ndarray:
        """Choose one of each set of ends ``(S, p, n, d)`` that are the same, and write in ``member`` which."""
        chosen: list[int] = []
        slack: list[float] = []
        # Singular values, which no symmetry changes.
        marks = np.linalg.svd(orbit[:, 0], compute_uv=False) if orbit.shape[1] == 1 else None
        for i, error in zip(rows, np.zeros(len(rows)) if errors is None else errors, strict=True):
            size = max(float(lengths(orbit[i]).max()), self.least)
            for k, c in enumerate(chosen):
                near = max(gap * size, error + slack[k])
                if marks is not None and np.abs(marks[i] - marks[c]).max() > near * orbit.shape[2] ** 0.5:
                    continue
                if any(symmetry.same(orbit[i, 0], y, near) for y in orbit[c]):
                    member[member == i], member[i] = c, c
                    break
            else:
                chosen.append(int(i))
                slack.append(float(error))
                member[i] = i
        return np.array(chosen, dtype=int)
