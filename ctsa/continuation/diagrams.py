"""Bifurcation diagrams: all branches of equilibria that can be reached from some, by continuation and switching."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa.geometry import Geometry
from ctsa.results.base import Result, picture
from ctsa.results.text import columns

from ._curve import Curve, Point
from .bifurcations import symmetric_directions
from .branches import Branch
from .follow import Settings, beginning, followed, open_curve, switched
from .special import SpecialPoint


@dataclasses.dataclass(frozen=True)
class Diagram(Result):
    """Several branches of equilibria of one family: ``len(diagram)`` of them, ``diagram[i]`` is ``diagram.branches[i]``.

    Attributes:
        branches: the ``Branch`` of each, in the order in which they were found.
        parents: number of the branch that each was switched from, -1 for those that began at a given state ``(B,)``.
        parameter: name of the parameter.
        span: ``(2,)``, its range.
        reason: "complete" (every branch point was followed), or what was left: "max_branches", "not switched".
    """

    branches: tuple[Branch, ...]
    parents: Any
    parameter: str
    span: Any
    reason: str
    _static: ClassVar[tuple[str, ...]] = ("parameter", "reason")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"parents": ("branch",), "span": ("end",)}

    def __len__(self) -> int:
        return len(self.branches)

    def __getitem__(self, i: int) -> Branch:
        if not -len(self) <= i < len(self):
            raise IndexError(f"branch {i} of {len(self)}")
        return self.branches[i]

    def __iter__(self) -> Iterator[Branch]:
        return iter(self.branches)

    def __repr__(self) -> str:
        lines = [f"Diagram({len(self)} branches in {self.parameter}, {self.reason})"]
        for i, (branch, parent) in enumerate(zip(self, self.parents, strict=True)):
            lines.append(f"  {i}: {branch!r}" + (f" from {parent}" if parent >= 0 else ""))
        return "\n".join(lines)

    def table(self) -> str:
        """Return a line a branch as text: where it comes from, points and special points, range, and stable share."""
        flow = all(b.continuous for b in self)
        kinds = ("Hopf points",) if flow else ("period doublings", "Neimark-Sacker points")
        heads = ("branch", "from", "points", "folds", "branch points", *kinds, "least", "largest", "stable")
        rows = []
        for i, (b, parent) in enumerate(zip(self, self.parents, strict=True)):
            turning = (b.hopf_points,) if flow else (b.period_doublings, b.neimark_sacker_points)
            counts = (len(b), len(b.folds), len(b.branch_points), *map(len, turning))
            ends = [f"{f(b.parameters) + 0.0:.6g}" for f in (np.min, np.max)]
            rows.append((i, "start" if parent < 0 else int(parent), *counts, *ends, f"{np.mean(b.stable):.0%}"))
        return f"{columns(heads, rows)}\n{self.parameter} in {self.span[0]:g} ... {self.span[1]:g}, {self.reason}"

    def plot(self, observable: Any = None, *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw an observable of all branches, see ``ctsa.plot.continuation.diagram``."""
        return picture("continuation.diagram")(self, observable, ax=ax, **kwargs)


@analysis
def bifurcation_diagram(
    field: Any,
    starts: Any,
    parameter: str | Callable[[Any], Any] = "beta",
    span: tuple[float, float] = (0.0, 10.0),
    *,
    at: float | None = None,
    switch: bool = True,
    max_branches: int = 20,
    step: float = 0.02,
    max_points: int = 500,
    count: int = 6,
    geometry: Geometry | None = None,
) -> Diagram:
    """Follow equilibria, and every branch found by switching at their branch points, and at those of the new ones.

    Branches that a symmetry maps onto one another are followed once: a new point is taken for known if some branch has,
    at its parameter, a state with the same eigenvalues and the same inner products of tokens. At degenerate branch points
    the "symmetric" directions of ``switch_branch`` are tried.

    Args:
        field: as for ``continue_equilibrium``.
        starts: equilibria at the present value of the parameter: states ``(n, d)``, or things that have one as ``.x``.
        parameter: as for ``continue_equilibrium``.
        span: range of the parameter ``(low, high)``.
        at: the present value, where ``parameter`` is a function.
        switch: whether to follow other branches at branch points.
        max_branches: the largest number of branches.
        step: largest arclength of a step.
        max_points: largest number of points on each side of a start.
        count: how many leading eigenvalues to keep.
        geometry: where a bare callable lives.

    Returns:
        ``Diagram``.

    Raises:
        ValueError: ``starts`` is empty, and as for ``continue_equilibrium``.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> a = np.diag([3.0, 2.0])
        >>> poles = np.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> diagram = ctsa.bifurcation_diagram(SelfAttention(key=a, value=a, beta=1.0), [poles, -poles], "beta", (0.2, 1.0))
        >>> [(int(parent), len(branch.points)) for parent, branch in zip(diagram.parents, diagram)]
        [(-1, 1), (0, 3), (1, 1)]
    """
    settings, most = Settings.checked(step, max_points, count), checks.integer("max_branches", max_branches, low=1)
    starts = [starts] if hasattr(starts, "x") or getattr(starts, "ndim", 0) == 2 else list(starts)
    if not starts:
        raise ValueError("starts must be a list of at least one equilibrium, got none")
    branches: list[Branch] = []
    parents: list[int] = []
    queue: deque[tuple[int, SpecialPoint]] = deque()
    visited: list[tuple[float, np.ndarray]] = []
    reason = "complete"

    def add(branch: Branch, parent: int) -> None:
        branches.append(branch)
        parents.append(parent)
        queue.extend((len(branches) - 1, q) for q in branch.branch_points)

    for x in starts:
        curve, state, value, name = open_curve(field, x, parameter, span, at, geometry)
        start = beginning(curve, state, value)
        if any(b.xs.shape[1:] != state.shape for b in branches):
            raise ValueError(f"starts must have one shape, got {branches[0].xs.shape[1:]} and {state.shape}")
        if known_state(curve, branches, start.x, value):
            continue
        if len(branches) == most:
            reason = "max_branches"
            break
        add(followed(curve, name, start, settings), -1)
    while queue and switch and reason == "complete":
        parent, point = queue.popleft()
        mark = _signature(curve, point.x, point.parameter)
        if any(abs(p - point.parameter) < 1e-6 * curve.width and _same(mark, m) for p, m in visited):
            continue
        visited.append((point.parameter, mark))

        def known(first: Point) -> bool:
            return known_state(curve, branches, first.x, first.p)

        for direction in symmetric_directions(curve, point):
            for branch in switched(curve, name, point, [direction], settings, known):
                if len(branches) == most:
                    reason = "max_branches"
                    break
                add(branch, parent)
    if queue and not switch:
        reason = "not switched"
    return Diagram(tuple(branches), np.array(parents), name, branches[0].span, reason)


# ---------------------------------------------------------------------------------------------------- duplicates
def _signature(curve: Curve, x: np.ndarray, p: float) -> np.ndarray:
    """Return numbers that no rotation, reflection or permutation of tokens changes if it is a symmetry of the field."""
    spectrum = np.linalg.eigvals(curve.system(x, p).jacobian)
    return np.concatenate([np.sort(spectrum.real), np.sort(np.abs(spectrum.imag)), np.sort((x @ x.T).ravel())])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() < 1e-6 * max(1.0, float(np.abs(b).max())))


def known_state(curve: Curve, branches: list[Branch], x: np.ndarray, p: float) -> bool:
    """Tell whether a branch has a state like ``x`` at the parameter ``p``."""
    mark = None
    for branch in branches:
        q = branch.parameters
        for i in np.flatnonzero((np.minimum(q[1:], q[:-1]) <= p) & (p <= np.maximum(q[1:], q[:-1]))):
            share = 0.5 if q[i + 1] == q[i] else (p - q[i]) / (q[i + 1] - q[i])
            guess = (1 - share) * branch.xs[i] + share * branch.xs[i + 1]
            near = np.sort((guess @ guess.T).ravel()) - np.sort((x @ x.T).ravel())
            if np.abs(near).max() > 0.1:
                continue
            found = curve.at_parameter(np.asarray(curve.geometry.retract(guess)), p)
            mark = _signature(curve, x, p) if mark is None else mark
            if found is not None and _same(_signature(curve, found[0], p), mark):
                return True
    return False
