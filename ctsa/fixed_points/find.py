"""Find the fixed points of a layer, and its cycles of a given period, stable or not, from many starts."""

from collections import deque
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa.geometry import Geometry

from ._map import Map, lengths
from ._search import Search
from .alike import SAME
from .linear import stabilities
from .points import Cycles, FixedPoints
from .settling import Budget, settled


@analysis
def find_fixed_points(
    layer: Any,
    starts: Any = None,
    *,
    n: int | None = None,
    d: int | None = None,
    seed: int = 0,
    loops: int = 20,
    evaluations: int = 500,
    memory: int = 6,
    newton: int = 12,
    tol: float | None = None,
    gap: float = SAME,
    leading: int = 6,
    symmetric: bool = True,
    confidence: float = 0.95,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> FixedPoints:
    """Find fixed points ``f(x) = x`` of a layer from many starts, those that attract and those near the way that repel.

    All starts go side by side: ``loops`` plain applications of the layer, Anderson acceleration, and Newton's method,
    by GMRES from products with the Jacobian where it is large (``ctsa.fixed_points.settle``). A state is a fixed point
    only where its residual is at the floor that rounding leaves, ``max(32 eps, 30 noise)`` of the longest token, with
    the noise of the layer's output as measured. What does not get there is undecided.

    **Which are the same.** Points closer than ``gap``, or than their errors, are one; and, with ``symmetric``, those
    that a permutation of tokens, a reflection or a rotation maps to each other, where the layer has that symmetry,
    which is tested numerically: on the field that it is a step of, or, up to 128 unknowns, on the layer itself.

    **Stability.** The multipliers are the eigenvalues of ``P Df(x) P``. A point is stable if all are inside the unit
    circle by more than their errors, but for the ones of its symmetries; neutral if one is on it within its error.

    Shares say where this search led. How often plain iteration ends at a point is a question for ``ctsa.basins``.

    Args:
        layer: any callable ``layer(x) -> x`` that takes leading axes, ours or wrapped.
        starts: states ``(S, n, d)``, which also tell the framework of a bare callable; or how many random states of the
            geometry (standard normal in flat space), 64 if None.
        n: number of tokens, where ``starts`` is a number.
        d: dimension of a token, where ``starts`` is a number.
        seed: seed of random starts.
        loops: plain loops at first: the more, the closer shares are to those of plain iteration.
        evaluations: about how many evaluations each start may take.
        memory: how many steps Anderson acceleration remembers.
        newton: most steps of Newton's method.
        tol: relative residual that counts as zero, if it is above the floor; None takes the floor.
        gap: distance of the worst token, relative to the longest one, within which two points are one.
        leading: how many multipliers to find beyond 1000 unknowns.
        symmetric: whether points that a symmetry maps to each other are one.
        confidence: of the intervals of shares.
        geometry: where a bare callable lives.
        normalize: normalise given starts.

    Returns:
        ``FixedPoints``: states, residuals, multipliers, stability, shares.

    Raises:
        TypeError: not a layer, or its framework cannot be told.
        ValueError: an argument is wrong; the layer has inputs for a batch; or it is foreign code that is not one
            differentiable map, see ``ctsa.check_map``.

    Example:
        >>> import torch, ctsa
        >>> def logistic(x):
        ...     return 2.9 * x * (1 - x)
        >>> starts = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64).reshape(3, 1, 1)
        >>> found = ctsa.find_fixed_points(logistic, starts, geometry=ctsa.Euclidean())
        >>> found.x.round(6).item(), found.multipliers.real.round(6).item(), str(found.stability[0])  # 1 - 1/r, 2 - r
        (0.655172, -0.9, 'stable')

    References:
        Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715; Knoll and Keyes, J. Comput. Phys. 193 (2004) 357; Wilson, J.
        Am. Stat. Assoc. 22 (1927) 209.
    """
    search = Search(
        layer, starts, n, d, seed, geometry, normalize, gap, leading, symmetric, confidence, "find_fixed_points"
    )  # fmt: skip
    f = Map(search.layer, search.g, search.start)
    found = settled(f, f.outside(search.start), Budget.checked(loops, evaluations, memory, newton, tol))
    which, linear, modes, member = search.gathered(found, found.states[:, None], 1)
    return FixedPoints(
        found.states[which], found.residuals[which], linear.errors, linear.multipliers, linear.slack,
        stabilities(linear, modes), modes, member, found.residuals, found.evaluations, found.diverged,
        float(found.floors.max()), search.confidence, linear.complete,
    )  # fmt: skip


@analysis
def find_cycles(
    layer: Any,
    period: int,
    starts: Any = None,
    *,
    n: int | None = None,
    d: int | None = None,
    seed: int = 0,
    loops: int = 100,
    evaluations: int = 500,
    memory: int = 6,
    newton: int = 12,
    tol: float | None = None,
    gap: float = SAME,
    leading: int = 6,
    symmetric: bool = True,
    confidence: float = 0.95,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> Cycles:
    """Find cycles of exactly one period: fixed points of ``f^p`` that are none of ``f^q`` for a divisor q of p.

    From every start the layer is iterated, and the search for a fixed point of ``f^p`` begins where on this way a state
    comes back best after p loops, compared with how well it does after fewer.

    Args:
        layer: any callable ``layer(x) -> x`` that takes leading axes, ours or wrapped.
        period: p, at least 1.
        starts: states ``(S, n, d)``, or how many random ones, see ``ctsa.find_fixed_points``.
        n: number of tokens, where ``starts`` is a number.
        d: dimension of a token, where ``starts`` is a number.
        seed: seed of random starts.
        loops: how many loops to look for a return in.
        evaluations: about how many evaluations of ``f^p`` each start may take.
        memory, newton, tol, gap, leading, symmetric, confidence, geometry, normalize: as for
            ``ctsa.find_fixed_points``.

    Returns:
        ``Cycles``: all states of each, multipliers of ``f^p``, stability, shares.

    Raises:
        TypeError, ValueError: as for ``ctsa.find_fixed_points``.

    Example:
        >>> import torch, ctsa
        >>> def logistic(x):
        ...     return 3.2 * x * (1 - x)
        >>> starts = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64).reshape(3, 1, 1)
        >>> found = ctsa.find_cycles(logistic, 2, starts, geometry=ctsa.Euclidean())
        >>> found.x.ravel().round(6).tolist(), found.multipliers[0].real.round(6).item()  # 4 + 2 r - r^2
        ([0.799455, 0.513045], 0.16)
    """
    period = checks.integer("period", period, low=1)
    search = Search(
        layer, starts, n, d, seed, geometry, normalize, gap, leading, symmetric, confidence, "find_cycles"
    )  # fmt: skip
    budget = Budget.checked(loops, evaluations, memory, newton, tol)
    one, f = (Map(search.layer, search.g, search.start, p) for p in (1, period))
    x, diverged = _return(one, f.outside(search.start), budget.loops, period)
    found = settled(f, x, budget._replace(loops=0), first=True)
    found = found._replace(diverged=found.diverged | diverged)
    orbits = [found.states]
    for _ in range(period - 1):
        orbits.append(one.point(one(orbits[-1]), orbits[-1]))
    orbit = np.stack(orbits, 1)  # (S, p, n, d)
    size = lengths(orbit.reshape(len(orbit), -1, orbit.shape[-1]))
    near = max(1e-6, 10 * float(found.floors.max()) ** 0.5) * np.maximum(size, search.least)
    early = np.zeros(len(orbit), bool)
    for q in (q for q in range(1, period) if period % q == 0):
        early |= lengths(orbit[:, q] - orbit[:, 0]) <= near
    which, linear, modes, member = search.gathered(found, orbit, period, early)
    return Cycles(
        orbit[which], found.residuals[which], linear.errors, linear.multipliers, linear.slack,
        stabilities(linear, modes), modes, member, found.residuals, found.evaluations, found.diverged,
        float(found.floors.max()), search.confidence, linear.complete, period,
    )  # fmt: skip


def _return(f: Map, x: np.ndarray, loops: int, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where on the way of every start a state comes back best after a period; and which starts left."""
    shorter = [q for q in range(1, period) if period % q == 0]
    best, score, diverged = x, np.full(len(x), np.inf), np.zeros(len(x), bool)
    path, limit = deque([x], period + 1), 1e4 * np.where(lengths(x) > 0, lengths(x), 1.0)
    for _ in range(loops + period):
        y = f(path[-1])
        diverged |= ~(lengths(y) <= limit)
        if diverged.all():
            break
        path.append(np.where(diverged[:, None, None], path[-1], f.point(y, path[-1])))
        if len(path) > period:
            off = lengths(path[-1] - path[0])
            early = np.min([lengths(path[q] - path[0]) for q in shorter], axis=0) if shorter else np.ones(len(x))
            with np.errstate(all="ignore"):
                value = np.where(diverged | (early == 0), np.inf, off / early)
            best, score = np.where((value < score)[:, None, None], path[0], best), np.minimum(value, score)
    return best, diverged
