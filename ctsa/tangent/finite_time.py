"""Exponents over a finite time: all from a dense propagator, the largest from products, their mean from determinants."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import States
from ctsa.derivatives import basis_directions, in_basis, layer_pushforward, variational
from ctsa.flows.opening import check_solver, check_velocity
from ctsa.flows.solver import Solver, takes_solver
from ctsa.flows.systems import System, system_of
from ctsa.geometry import Geometry
from ctsa.layers.check import check_foreign
from ctsa.results.base import as_numpy

from ._krylov import largest_singular
from ._products import Chain, Link, _linked, layer_link
from .covariant import _march, _run
from .jacobians import DENSE
from .march import check_moving

Array = Any
_BUDGET = 2000  # products with the propagator, and with its transpose
_CLOSE = 1e-5  # ratio of singular values down to which products of the whole propagator keep the digits of the smaller one
_ROUNDS = 200  # of subspace iteration
_CHUNK = 2**24  # entries of Jacobians formed at a time


@analysis
@takes_solver
def finite_time_exponents(
    system: Any,
    x0: States,
    duration: float,
    *,
    count: int | None = None,
    dense: bool | None = None,
    budget: int = _BUDGET,
    interval: float = 1.0,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-8,
    step: float | None = None,
    max_steps: int = 100_000,
    seed: int = 0,
    t0: float = 0.0,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> np.ndarray:
    """Return the finite-time exponents ``log(s_i) / T`` from the singular values of the propagator over ``T``.

    Unlike ``lyapunov_spectrum`` they do not depend on a frame: the practice for short horizons, e.g. the 16 layers of
    arXiv 2505.19458. There are two ways.

    **Dense**, for all exponents, and for some of them up to 1000 unknowns ``n d``: the propagator is kept as a product of
    triangular factors, so that small singular values keep their digits as long as their ratio to the largest stays above
    1e-16.

    **By products**, with ``count``, beyond: Golub's and Kahan's method for the propagator, whose product is one tangent
    carried along the trajectory, whose transposed product is one cotangent carried back. Values within a factor of 1e5 of
    the largest are as accurate as for one Jacobian (1e-10 in double precision, relative to the value). Those below are
    found by subspace iteration with triangular factors layer by layer, which takes any ratio, but needs a gap after the
    ``count``-th value. For a flow the transposed product is that of the solver's own steps, and no value is more accurate
    than ``10 atol``.

    Args:
        system: a field, a layer, or a sequence of layers.
        x0: unit tokens ``(..., n, d)``.
        duration: T, time or number of layers; a multiple of ``interval``.
        count: how many of the largest; None for all.
        dense: whether to form the propagator; None decides by size and ``count``.
        budget: most products with the propagator or its transpose, for each state.
        interval: time between reorthonormalisations on the way; no matter for the result.
        solver, rtol, atol, step, max_steps: as for ``lyapunov_spectrum``; a ``ctsa.Solver`` holds them all.
        seed: of the first directions.
        t0: initial time.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.

    Returns:
        NumPy ``(..., n (d-1))`` or ``(..., count)``, descending.

    Raises:
        ValueError: an argument is wrong, or the dense propagator does not fit into memory.
        RuntimeError: the budget is used up; the message says how far the values are from settled.
        LyapunovError: the run broke off.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.EulerLayer(Oja(np.diag([2.0, 1.0])), step=0.5)  # at the pole: 1 + (1 - 2) / 2
        >>> round(float(ctsa.finite_time_exponents(layer, [[1.0, 0.0]], 16)[0] - np.log(0.5)), 12)
        0.0

    References:
        Tomihari and Karakida, arXiv 2505.19458; Golub and Kahan, SIAM J. Numer. Anal. B 2 (1965) 205.
    """
    settings = Solver(solver, rtol, atol, step, max_steps)
    s = system_of(system, geometry)
    x = s.start(x0, normalize)
    s = s.settled(x)
    dense, budget, seed = checks.flag("dense", dense, unset=True), _check_budget(budget), checks.seed(seed)
    dimension = _moving(s, x)
    if count is not None and checks.integer("count", count, low=1) > dimension:
        raise ValueError(f"count={count} is more than the dimension of the manifold, {dimension}")
    if dense or (dense is None and (count is None or x.shape[-2] * x.shape[-1] <= DENSE)):
        checks.room(
            f"a dense propagator of {dimension} unknowns", 4.0 * dimension * x.shape[-2] * x.shape[-1],
            remedy="ask for the largest only, count=",
        )  # fmt: skip
        rows = [
            _all_dense(system, x[at], duration, settings, interval, seed, t0, geometry, normalize)
            for at in np.ndindex(*x.shape[:-2])
        ]
        found = np.stack(rows).reshape(*x.shape[:-2], dimension)
        return found if count is None else found[..., :count]
    if count is None:
        count = dimension
    if s.flow:
        interval = checks.number("interval", interval, low=0.0, strict=True)
        links = _flow_links(s, x, _intervals(duration, interval), interval, settings, checks.number("t0", t0))
        time, slack = float(duration), 10 * (atol or 0.0)
    else:
        if step is not None:
            raise ValueError("step is for flows with a fixed-step solver; a layer is its own step")
        depth = _intervals(duration, 1.0)
        links, time, slack = _layer_links(s, x, depth), float(depth), 0.0
    return (_from_products(Chain(links), count, dimension, budget, seed, slack) / time).reshape(*x.shape[:-2], count)


@analysis
def largest_finite_time(
    layer: Any,
    x: States,
    depth: int,
    *,
    budget: int = _BUDGET,
    seed: int = 0,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> Any:
    """Return the largest finite-time exponent of ``depth`` layers, ``log(s_1) / depth``, from products alone.

    ``s_1`` is the largest singular value of ``J_depth ... J_1`` between the tangent spaces at ``x`` and at the end: how
    fast the fastest tangent vector grows. Products with this matrix and its transpose go along the trajectory and back; of
    them the Krylov space of ``J^T J`` is made, in which power iteration would take the last vector only. All states of a
    batch go side by side.

    Args:
        layer: a layer, or a sequence of layers, of which the first ``depth`` are used.
        x: unit tokens ``(..., n, d)``.
        depth: how many layers.
        budget: most products, for each state.
        seed: of the first direction.
        geometry: where a bare callable lives.
        normalize: normalise ``x``.

    Returns:
        A float for one state, NumPy ``(...)`` for a batch; per layer.

    Raises:
        TypeError: ``layer`` is a field: ``finite_time_exponents(..., count=1)`` takes flows.
        ValueError: an argument is wrong, or a state is not finite.
        RuntimeError: the budget is used up.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.EulerLayer(Oja(np.diag([2.0, 1.0])), step=0.5)
        >>> round(ctsa.largest_finite_time(layer, [[1.0, 0.0]], 16) / float(np.log(0.5)), 12)
        1.0

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    s, x = _layers(layer, x, geometry, normalize, "largest_finite_time", "ctsa.finite_time_exponents(..., count=1)")
    depth, budget, seed = checks.integer("depth", depth, low=1), _check_budget(budget), checks.seed(seed)
    dimension = _moving(s, x)
    logs = _from_products(Chain(_layer_links(s, x, depth)), 1, dimension, budget, seed, 0.0)
    found = logs[:, 0].reshape(x.shape[:-2]) / depth
    return float(found) if found.ndim == 0 else found


@analysis
def mean_exponent(layer: Any, x: States, depth: int, *, geometry: Geometry | None = None, normalize: bool = False) -> Any:
    """Return the mean of all finite-time exponents of ``depth`` layers, from the logarithms of determinants.

    With ``J_l`` the Jacobian of layer l between orthonormal bases of the tangent spaces, m x m::

        1 / (depth m) sum_l log |det J_l|,

    the rate at which volumes grow, per layer and dimension. It is the mean of ``finite_time_exponents``, of which it
    needs none, and costs one factorisation a layer. Negative: volumes shrink. -inf: a layer maps a direction to zero.

    Args:
        layer: a layer, or a sequence of layers, of which the first ``depth`` are used.
        x: unit tokens ``(..., n, d)``.
        depth: how many layers.
        geometry: where a bare callable lives.
        normalize: normalise ``x``.

    Returns:
        A float for one state, NumPy ``(...)`` for a batch; per layer.

    Raises:
        TypeError: ``layer`` is a field: the mean rate of a flow is its ``divergence``, averaged along the way.
        ValueError: an argument is wrong, a state is not finite, or the Jacobian of one layer does not fit into memory.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.EulerLayer(Oja(np.diag([3.0, 1.0, 0.0])), step=0.25)  # multipliers 1/2 and 1/4
        >>> round(ctsa.mean_exponent(layer, [[1.0, 0.0, 0.0]], 8) / float(np.log(2.0)), 12)
        -1.5

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    s, x = _layers(layer, x, geometry, normalize, "mean_exponent", "ctsa.divergence along the way")
    depth = checks.integer("depth", depth, low=1)
    size, g, be = _moving(s, x), s.geometry, backend(x)
    unknowns = x.shape[-2] * x.shape[-1]
    checks.room(
        f"a dense Jacobian of {size} unknowns", 3.0 * unknowns * size,
        remedy="ctsa.largest_finite_time needs products only",
    )  # fmt: skip
    flat = x.reshape(-1, *x.shape[-2:])
    width = max(1, _CHUNK // (unknowns * size))
    _check_layers(s, x, depth, adjoint=False)
    totals = []
    for first in range(0, len(flat), width) if len(x.shape) > 2 else (None,):
        state = x if first is None else flat[first : first + width]
        total = np.zeros(state.shape[:-2])
        for each in _used(s, depth):
            j, state = be.call(_square, each, g, state)
            values = as_numpy(j).astype(np.float64)
            _finite(values)
            with np.errstate(divide="ignore"):
                total = total + np.linalg.slogdet(values)[1]
        totals.append(total)
    found = (totals[0] if x.ndim == 2 else np.concatenate(totals).reshape(x.shape[:-2])) / (depth * size)
    return float(found) if found.ndim == 0 else found


def _square(layer: Any, g: Geometry, x: Array) -> tuple[Array, Array]:
    """Return the Jacobian of a layer between bases of the tangent spaces, and the next state."""
    y, dy = layer_pushforward(layer, x, basis_directions(g.basis(x)))
    y = g.retract(y)
    return in_basis(g.basis(y), dy), y


# ------------------------------------------------------------------------------------------------------------- the start
def _check_budget(budget: int) -> int:
    return checks.integer("budget", budget, low=2)


def _moving(s: System, x: Array) -> int:
    dimension = s.geometry.dimension(*x.shape[-2:])
    check_moving(dimension, x)
    return dimension


def _layers(
    layer: Any, x: Any, geometry: Geometry | None, normalize: bool, name: str, instead: str
) -> tuple[System, Array]:
    s = system_of(layer, geometry)
    if s.flow:
        raise TypeError(f"{name} is about layers, and layer is a field(t, x): take {instead}")
    return s, s.start(x, normalize, "x")


def _used(s: System, depth: int) -> Sequence[Any]:
    if s.kind != "layers":
        checks.room(f"{depth} layers", depth, remedy="take fewer")
        return [s.source] * depth
    if depth > len(s.source):
        raise ValueError(f"there are {len(s.source)} layers, but {depth} are asked for: ask for fewer")
    return s.source[:depth]


def _check_layers(s: System, x: Array, depth: int, *, adjoint: bool) -> None:
    for each in {id(each): each for each in _used(s, depth)}.values():
        check_foreign(each, x, s.geometry, adjoint=adjoint)


def _intervals(duration: Any, interval: float) -> int:
    total = checks.number("duration", duration, low=0.0, strict=True) / interval
    count = round(total)
    if count < 1 or abs(total - count) > 1e-9 * total:
        raise ValueError(f"duration={duration:g} must be a multiple of interval={interval:g}")
    return count


def _finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("layer has a state or a derivative that is nan or inf")


# --------------------------------------------------------------------------------------------------------------- densely
def _all_dense(
    system: Any, x: Array, duration: Any, settings: Solver, interval: Any, seed: int, t0: float, geometry: Any,
    normalize: bool,
) -> np.ndarray:  # fmt: skip
    march = _march(system, x, settings, interval=interval, seed=seed, t0=t0, geometry=geometry, normalize=normalize)
    count = _intervals(duration, march.interval)
    r, _, _ = _run(march, count)
    product = np.eye(r.shape[1])
    log_scale = 0.0
    for factor in r:
        product = factor @ product
        size = np.linalg.norm(product)
        product, log_scale = product / size, log_scale + np.log(size)
    with np.errstate(divide="ignore"):
        logs = np.log(np.linalg.svd(product, compute_uv=False))
    return (logs + log_scale) / (count * march.interval)


# ------------------------------------------------------------------------------------------------------------ by products
def _layer_links(s: System, x: Array, depth: int) -> list[Link]:
    layers = _used(s, depth)
    checks.room(f"{depth} states", depth * float(np.prod(x.shape, dtype=float)), remedy="take fewer layers or states")
    _check_layers(s, x, depth, adjoint=True)
    links = []
    for each in layers:
        links.append(layer_link(each, s.geometry, x))
        x = links[-1].y
    _finite(as_numpy(x))
    return links


def _flow(field: Any, g: Geometry, segment: Any, t: Array, interval: Array, x: Array) -> Array:
    be = backend(x)
    (y,), ok, _ = be.flow_map(be.partial(_extended, field, g), (x,), t, interval, segment)
    return g.retract(be.xp.where(ok, y, be.xp.nan))


def _extended(field: Any, g: Geometry, t: Array, state: tuple) -> tuple:
    return (g.extend(lambda x: field(t, x), state[0]),)


def _flow_tangent(field: Any, g: Geometry, segment: Any, t: Array, interval: Array, x: Array, u: Array) -> Array:
    be = backend(x)
    (y, v), ok, _ = be.flow_map(be.partial(variational, field, g), (x, u), t, interval, segment)
    return g.project(g.retract(y), be.xp.where(ok, v, be.xp.nan))


def _flow_links(s: System, x: Array, count: int, interval: float, settings: Solver, t0: float) -> list[Link]:
    """Return the flow over each interval: variational equation forward, the adjoint of the solver's own steps backward."""
    be, g = backend(x), s.geometry
    x = check_velocity(be, s.source, g, be.like(t0, x), x)
    segment = check_solver(settings, x).segment(interval)
    links = []
    for i in range(count):
        given = s.source, g, segment, be.like(t0 + i * interval, x), be.like(interval, x)
        image = be.partial(_flow, *given)
        y = be.call(image, x)
        _finite(as_numpy(y))
        links.append(_linked(image, be.partial(_flow_tangent, *given), g, x, y))
        x = y
    return links


def _from_products(chain: Chain, count: int, rank: int, budget: int, seed: int, slack: float) -> np.ndarray:
    """Return the logarithms of the largest singular values, ``(members, count)``."""
    eps = rounding(chain.x)
    tol = max(1e-10, 100 * eps, slack)
    block = min(rank, count + (2 if count > 1 else 0))
    start = chain.start(block, seed)
    chain.measure(start[..., :1])
    close = _CLOSE if eps < 1e-10 else 1e-2
    found = largest_singular(
        chain.forward, chain.transposed, start, count, rank=rank, tol=tol, budget=budget, inside=chain.inside, seed=seed,
        floor=close,
    )  # fmt: skip
    near = found.values >= close * found.values[:, :1]
    if not found.converged:
        worst = (found.errors / np.maximum(found.values, 1e-300))[near].max()
        raise RuntimeError(
            f"the singular values are settled to {float(worst):.1e} of their size after {found.products} products, and "
            f"{tol:.1e} is wanted: raise budget={budget}, or ask for another count"
        )
    if near.all():
        with np.errstate(divide="ignore"):
            return np.log(found.values) + chain.log_scale[:, None]
    return _by_layers(chain, found.vectors, min(rank, count + 2), count, budget - found.products, tol, seed)


def _by_layers(chain: Chain, v: np.ndarray, block: int, count: int, budget: int, tol: float, seed: int) -> np.ndarray:
    """Subspace iteration with triangular factors at every link: any ratio of singular values, if there are gaps."""
    extra = chain.start(block, seed + 1)[..., : block - v.shape[-1]]
    v, _ = np.linalg.qr(np.concatenate([v, extra], -1))
    before, off = None, np.inf
    for _ in range(min(_ROUNDS, max(2, budget // (2 * block)))):
        v, logs = chain.through(v)
        v, _ = chain.through(v, back=True)
        logs = -np.sort(-logs, axis=-1)[:, :count]
        if before is not None:
            with np.errstate(invalid="ignore"):
                off = float(np.nanmax(np.where(logs == before, 0.0, np.abs(logs - before))))
            if off <= tol * len(chain.links):
                return logs
        before = logs
    raise RuntimeError(
        f"the logarithms of the singular values still move by {off:.1e} in a round of subspace iteration, and "
        f"{tol:.1e} is wanted: those around number {count} are close to each other and far below the largest. Ask for "
        f"fewer (count), raise budget={budget}, or pass dense=True"
    )
