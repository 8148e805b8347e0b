"""Where a layer settles: from every state of a batch to a fixed point, or not, all members side by side."""

from typing import Any, NamedTuple

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa._types import States
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry
from ctsa.layers.check import check_foreign

from ._anderson import accelerate, visit
from ._map import Map, lengths
from ._newton import polish

Array = Any
DENSE = 256  # unknowns of a state up to which Newton's method forms Jacobians
_ENTRIES = 3e7  # and entries of the directions of all members
_FAR = 1e4  # a state that has grown by this factor has left
_ROUNDS = (0, 20, 40, 80, 160)  # plain loops from where the last ones ended, before each try
_COARSE = 1e-3  # floors are not above this: what is noisier must stand still to be at rest
_NEARLY = 1e4  # residuals below this many floors may be at another floor
_START = 1e-2  # of the longest token of a start: residuals are relative to no less


class Settled(NamedTuple):
    """Where every member of a batch ``(...)`` was led.

    Attributes:
        states: the last states ``(..., n, d)``, NumPy float64; of a member that did not arrive the best one.
        residuals: ``max_i |f(x)_i - x_i|``, relative to the longest token ``(...)``.
        arrived: whether the residual is at the floor ``(...)``.
        evaluations: of the layer, products with its Jacobian included ``(...)``.
        floors: what rounding leaves of a residual ``(...)``: below it a state is a fixed point for all one can tell.
        diverged: whether the plain loops left for 10^4 times the size of the start, or overflowed ``(...)``; the search
            then began at the start.
    """

    states: np.ndarray
    residuals: np.ndarray
    arrived: np.ndarray
    evaluations: np.ndarray
    floors: np.ndarray
    diverged: np.ndarray


@analysis
def settle(
    layer: Any,
    x: States,
    *,
    period: int = 1,
    loops: int = 0,
    evaluations: int = 500,
    memory: int = 6,
    newton: int = 12,
    tol: float | None = None,
    geometry: Geometry | None = None,
) -> Settled:
    """Look for a fixed point ``f(x) = x`` near every state of a batch.

    Anderson acceleration, then Newton's method where it did not arrive, or, with at most 256 unknowns, for the last
    digits. Members that are stuck loop on for a while, and try again from there. The layer is always given the whole
    batch as it came, so it may treat members differently (inputs of their own); members are never compared. Points that
    repel are found as well, if they are near the path.

    A member has arrived where its residual is at the floor, ``max(32 eps, 30 noise)`` (at most 1e-3), with the
    rounding of the layer's output measured at the start (``ctsa.check_map``): a float32 module inside a float64 run is
    seen.

    Args:
        layer: any callable ``layer(x) -> x``, ours or wrapped.
        x: states ``(..., n, d)``.
        period: p, look for fixed points of ``f^p`` instead.
        loops: plain loops (of ``f^p``) before.
        evaluations: about how many evaluations each member may take; 0 leaves Anderson acceleration out.
        memory: how many steps Anderson acceleration remembers.
        newton: most steps of Newton's method; 0 leaves it out.
        tol: relative residual that counts as arrived, if it is above the floor; None takes the floor.
        geometry: where a bare callable lives.

    Returns:
        ``Settled``: states, residuals, what arrived, evaluations, each with the leading axes of ``x``.

    Raises:
        TypeError: not a layer.
        ValueError: an argument is wrong, or foreign code is no differentiable map, see ``ctsa.check_map``.

    Example:
        >>> import torch, ctsa
        >>> from ctsa.fixed_points import settle
        >>> b = torch.ones(2, 1, 1, dtype=torch.float64) * torch.tensor([[[1.0]], [[2.0]]])  # an input for each member
        >>> x = torch.zeros(2, 1, 1, dtype=torch.float64)
        >>> found = settle(lambda x: torch.cos(x) / b, x, geometry=ctsa.Euclidean())
        >>> found.states.ravel().round(6).tolist(), found.arrived.tolist()
        ([0.739085, 0.450184], [True, True])

    References:
        Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715 (Anderson acceleration); Saad and Schultz, SIAM J. Sci. Stat.
        Comput. 7 (1986) 856 (GMRES); Knoll and Keyes, J. Comput. Phys. 193 (2004) 357 (Newton-Krylov methods).
    """
    source, g, start = opened(layer, x, geometry)
    f = Map(source, g, start, checks.integer("period", period, low=1))
    return settled(f, f.outside(start), Budget.checked(loops, evaluations, memory, newton, tol))


class Budget(NamedTuple):
    """How long to look, see ``settle``; ``tol`` 0 takes the floor."""

    loops: int
    evaluations: int
    memory: int
    newton: int
    tol: float

    @classmethod
    def checked(cls, loops: Any, evaluations: Any, memory: Any, newton: Any, tol: Any) -> "Budget":
        """Check what users passed."""
        return cls(
            checks.integer("loops", loops), checks.integer("evaluations", evaluations),
            checks.integer("memory", memory, low=1), checks.integer("newton", newton),
            0.0 if tol is None else checks.number("tol", tol, low=0.0),
        )  # fmt: skip


def opened(layer: Any, x: Any, geometry: Geometry | None, name: str = "x", normalize: bool | None = None) -> tuple:
    """Check and convert a layer and states; return layer, geometry, and the states in its framework."""
    if not callable(layer):
        raise TypeError(f"layer must be callable as layer(x), got {type(layer).__name__}")
    s = system_of(layer, geometry)
    if s.kind != "layer":
        cure = "ctsa.find_equilibria and ctsa.find_limit_cycle take fields" if s.flow else "compose them in a function"
        raise TypeError(f"layer must be one layer(x), got a {'field(t, x)' if s.flow else 'sequence'}: {cure}")
    start = s.start(x, normalize, name)
    check_foreign(s.source, start, s.geometry)
    return s.source, s.geometry, start


def settled(f: Map, x: np.ndarray, budget: Budget, first: bool = False) -> Settled:
    """Do what ``settle`` does with checked states ``(B, n, d)``; ``first`` puts Newton's method first."""
    loops, evaluations, memory, newton, tol = budget
    plain = Plain(f, x, _START * lengths(x))
    plain.go(loops, np.ones(len(x), bool))
    best = here = visit(f, plain.now, plain.least)
    floor = _floor(f, here.x)
    level, taken = np.maximum(floor, tol), np.full(len(x), loops + 1)
    dense = f.dimension <= DENSE and f.dimension * x.size <= _ENTRIES
    for more in _ROUNDS:
        open_ = best.residual > level
        if more:
            open_ &= (taken + more < evaluations) & ~plain.diverged
            if not open_.any():
                break
            plain.go(more, open_)
            here, taken = visit(f, plain.now, plain.least).where(open_, best), taken + (more + 1) * open_
        if newton and first:
            here, spent = polish(f, here, plain.least, level, newton, dense)
            taken = taken + spent
        if evaluations:
            here, spent = accelerate(f, here, plain.least, level, evaluations, memory)
            taken = taken + spent
        if newton:
            here, spent = polish(f, here, plain.least, level, newton, dense)
            taken = taken + spent
        best = here.where(open_ & (here.off < best.off) | (here.residual <= level), best)
    near = (best.residual > level) & (best.residual <= _NEARLY * level)
    if near.any():  # rounding may be another there than it was at the start
        floor = np.where(near, np.maximum(floor, _floor(f, best.x)), floor)
        level = np.maximum(floor, tol)
    batch = f.batch
    parts = (a.reshape(batch) for a in (best.residual, best.residual <= level, taken, floor, plain.diverged))
    return Settled(best.x.reshape(*batch, *x.shape[1:]), *parts)


def _floor(f: Map, x: np.ndarray) -> np.ndarray:
    return np.maximum(32 * f.eps, np.minimum(30 * f.noise(x), _COARSE))


class Plain:
    """Plain loops of all members; those that leave are put back to where they began, and stay."""

    def __init__(self, f: Map, x: np.ndarray, least: np.ndarray):
        self.f, self.start, self.now, self.least = f, x, x, least
        size = lengths(x)
        self.limit, self.diverged = _FAR * np.where(size > 0, size, 1.0), np.zeros(len(x), bool)

    def go(self, loops: int, members: np.ndarray) -> None:
        """Apply the map to some members."""
        for _ in range(loops):
            y = self.f(self.now)
            self.diverged |= members & ~(lengths(y) <= self.limit)
            new = np.where(self.diverged[:, None, None], self.start, self.f.point(y, self.start))
            self.now = np.where(members[:, None, None], new, self.now)
