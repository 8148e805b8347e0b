"""Jacobians of flows and layers: dense, in a tangent basis, or matrix-free."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, full_precision, rounding
from ctsa._types import State, States
from ctsa.derivatives import basis_directions, in_basis, layer_pushforward, tangent_jacobian
from ctsa.flows.opening import check_velocity
from ctsa.flows.systems import System, system_of
from ctsa.geometry import Geometry, direction_generator
from ctsa.layers.check import check_foreign, check_restless

from ._krylov import largest_singular
from ._products import Chain, Link, link_of
from .modes import Leading

Array = Any


_PRODUCTS = "ctsa.leading needs products only"
DENSE = 1000  # unknowns n d up to which a dense matrix is formed; beyond, products serve
_BUDGET = 2000  # products, for each state
_CHUNK = 2**24  # entries of Jacobians formed at a time


def _read(
    system: Any, x: Any, geometry: Geometry | None, *, t: float = 0.0, check: bool = True, adjoint: bool = False,
    batch: bool = False,
) -> tuple[System, Array]:  # fmt: skip
    s = system_of(system, geometry)
    if s.kind == "layers":
        raise TypeError("a sequence of layers has no single Jacobian: pass one layer, or a function composing them")
    x = s.start(x, None, "x")
    if x.ndim != 2 and not batch:
        raise ValueError(f"x must be one state (n, d), got shape {tuple(x.shape)}: loop (or jax.vmap) over a batch")
    if s.flow and not hasattr(s.source, "drift"):
        x = check_velocity(backend(x), s.source, s.geometry, backend(x).like(checks.number("t", t), x), x)
    if not s.flow:
        check_foreign(s.source, x, s.geometry, adjoint=adjoint) if check else check_restless(s.source, x)
    return s, x


def _ambient(s: System, x: Array, t: float) -> Array:
    n, d = x.shape
    checks.room(f"a dense Jacobian of {n * d} unknowns", 3.0 * (n * d) ** 2, remedy=_PRODUCTS)
    u = backend(x).eye(n * d, x).reshape(n * d, n, d)
    return s.derivative(x, u, t).reshape(n * d, n * d).mT


def tangent_jacobians(s: System, x: Array, t: float) -> tuple[Array, Array]:
    """Return the tangent Jacobian ``(..., m, m)`` at states that have been checked, twice.

    Rows in the basis at ``x``, which makes it an endomorphism; and in the basis at the image ``layer(x)``, which keeps the
    singular values of a map. For a flow both are the same.
    """
    be = backend(x)
    size = s.geometry.dimension(*x.shape[-2:])
    entries = 3.0 * float(np.prod(x.shape, dtype=float)) * size
    checks.room(f"a dense Jacobian of {size} unknowns", entries, remedy=_PRODUCTS)
    ours = hasattr(s.source, "tangent")  # one program for all of a kind; a function of somebody's would be compiled anew
    call = be.call if ours else lambda f, *args: f(*args)
    if s.flow:
        j = call(tangent_jacobian, s.source, s.geometry, be.like(t, x), x)[2]
        return j, j
    return call(_of_layer, s.source, s.geometry, x)


def _of_layer(layer: Any, g: Geometry, x: Array) -> tuple[Array, Array]:
    e = g.basis(x)
    y, dy = layer_pushforward(layer, x, basis_directions(e))
    return in_basis(e, dy), in_basis(g.basis(g.retract(y)), dy)


def jacobian(system: Any, x: State, *, basis: str = "ambient", t: float = 0.0, geometry: Geometry | None = None) -> Array:
    """Return the Jacobian of a flow's velocity, or of a layer, at ``x``.

    Args:
        system: a field ``(t, x)`` or a layer ``(x)``, ours or any callable.
        x: one state ``(n, d)``.
        basis: "ambient" gives ``(n d, n d)``, rows the components of the image. "tangent" gives
            ``E^T J E``, ``(n (d-1), n (d-1))``, in an orthonormal basis ``E`` of the tangent space at ``x``; for a layer
            the rows belong to a basis at the image ``layer(x)``, so that singular values are those of the map.
        t: time.
        geometry: where a bare callable lives.

    Returns:
        An array of the system's framework.

    Raises:
        ValueError: ``x`` is not one state, or ``basis`` is unknown.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> tuple(ctsa.jacobian(SelfAttention(), ctsa.random_tokens(4, 3), basis="tangent").shape)
        (8, 8)
    """
    checks.choice("basis", basis, ("ambient", "tangent"))
    s, x = _read(system, x, geometry, t=t, check=False)  # differentiable, and called in training
    with full_precision(backend(x).name):
        return _ambient(s, x, t) if basis == "ambient" else tangent_jacobians(s, x, t)[1]


def _tangent_matrix(system: Any, x: Any, t: float, geometry: Geometry | None) -> np.ndarray:
    """Return the tangent Jacobian as NumPy with both sides in the basis at ``x``, an endomorphism."""
    s, x = _read(system, x, geometry, t=t)
    return backend(x).to_numpy(tangent_jacobians(s, x, t)[0]).astype(np.float64)


@analysis
def eigenvalues(system: Any, x: State, *, t: float = 0.0, geometry: Geometry | None = None) -> np.ndarray:
    """Return all eigenvalues of the tangent Jacobian, complex, by real part, descending.

    A flow's equilibrium is stable if all real parts are negative; a layer's fixed point if all moduli are below 1. Away
    from an equilibrium they are those of ``E^T J E`` with ``E`` a basis of the tangent space at ``x``.

    Args:
        system: a field or a layer.
        x: one state ``(n, d)``.
        t: time.
        geometry: where a bare callable lives.

    Returns:
        NumPy complex ``(n (d-1),)``.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> ctsa.eigenvalues(SelfAttention(), np.ones((2, 1)) * [[1.0, 0.0]]).real.round(12) + 0.0
        array([ 0., -1.])
    """
    values = np.linalg.eigvals(_tangent_matrix(system, x, t, geometry)).astype(complex)
    return values[np.lexsort((-values.imag, -values.real))]


@analysis
def spectral_norm(
    system: Any,
    x: States,
    *,
    dense: bool | None = None,
    budget: int = _BUDGET,
    seed: int = 0,
    t: float = 0.0,
    geometry: Geometry | None = None,
) -> Any:
    """Return the largest singular value of the tangent Jacobian: the fastest growth of any tangent vector in one step.

    Up to 1000 unknowns ``n d`` from a dense Jacobian. Beyond, from products with it and its transpose (Golub and Kahan), to
    1e-10 of the value, or what the dtype of the system, and its rounding inside, allow.

    Args:
        system: a field or a layer.
        x: states ``(..., n, d)``; those of a batch go side by side.
        dense: whether to form the Jacobian; None decides by size.
        budget: most products, for each state.
        seed: of the first direction.
        t: time.
        geometry: where a bare callable lives.

    Returns:
        A float for one state, NumPy ``(...)`` for a batch.

    Raises:
        ValueError: an argument is wrong, a dense Jacobian does not fit into memory, or a product is nan.
        RuntimeError: the budget is used up; the message has what was found.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> round(ctsa.spectral_norm(Oja([[2.0, 0.0], [0.0, 1.0]]), [[1.0, 0.0]]), 12)
        1.0

    References:
        Golub and Kahan, SIAM J. Numer. Anal. B 2 (1965) 205.
    """
    dense, seed = checks.flag("dense", dense, unset=True), checks.seed(seed)
    budget = checks.integer("budget", budget, low=2)
    s, x = _read(system, x, geometry, t=t, batch=True)
    if dense or (dense is None and x.shape[-2] * x.shape[-1] <= DENSE):
        found = _dense_norms(s, x, t)
    else:
        s, x = _read(system, x, geometry, t=t, batch=True, adjoint=True)
        found = norms_by_products(link_of(s, x, t), s.geometry.dimension(*x.shape[-2:]), budget, seed)
    return float(found) if found.ndim == 0 else found


def _dense_norms(s: System, x: Array, t: float) -> np.ndarray:
    """Return the largest singular values ``(...)``, a few states at a time."""
    be, (n, d) = backend(x), x.shape[-2:]
    flat, width = x.reshape(-1, n, d), max(1, _CHUNK // (n * d) ** 2)
    parts = [x] if x.ndim == 2 else [flat[i : i + width] for i in range(0, len(flat), width)]
    matrices = (be.to_numpy(tangent_jacobians(s, part, t)[1]).astype(np.float64) for part in parts)
    norms = [np.linalg.norm(j, 2, (-2, -1)) for j in matrices]
    return np.concatenate([np.atleast_1d(a) for a in norms]).reshape(x.shape[:-2])


def norms_by_products(link: Link, rank: int, budget: int = _BUDGET, seed: int = 0) -> np.ndarray:
    """Return the largest singular value of a link ``(...)`` from products.

    Raises:
        RuntimeError: the budget is used up.
    """
    if rank == 0:
        return np.zeros(link.x.shape[:-2])
    chain = Chain([link])
    start = chain.start(1, seed)
    tol = _chain_rounding(chain, start)
    found = largest_singular(
        chain.forward, chain.transposed, start, 1, rank=rank, tol=tol, budget=budget, inside=chain.inside, seed=seed
    )
    if not found.converged:
        worst = float((found.errors / np.maximum(found.values, 1e-300)).max())
        raise RuntimeError(
            f"the largest singular value is {float(found.values.max()):.10g} after {found.products} products, but may be "
            f"off by {worst:.1e} of its size, and {tol:.1e} is wanted: raise budget={budget}, or pass dense=True"
        )
    return found.values[:, 0].reshape(link.x.shape[:-2])


def _chain_rounding(chain: Chain, v: np.ndarray) -> float:
    """Return the accuracy that products allow: how far ``J (3 v)`` is from ``3 J v``."""
    once, thrice = chain.forward(v), chain.forward(3 * v)
    off = float((np.linalg.norm(thrice - 3 * once, axis=1) / (3 * np.linalg.norm(once, axis=1) + 1e-300)).max())
    return max(1e-10, 100 * rounding(chain.x), 10 * off)


@analysis
def numerical_abscissa(system: Any, x: State, *, t: float = 0.0, geometry: Geometry | None = None) -> float:
    """Return the largest eigenvalue of ``(J + J^T) / 2`` in the tangent space: the fastest instantaneous growth.

    Dense up to 1000 unknowns, by ``leading`` beyond.

    Args:
        system: a field or a layer.
        x: one state ``(n, d)``.
        t: time.
        geometry: where a bare callable lives.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> round(ctsa.numerical_abscissa(Oja([[2.0, 0.0], [0.0, 1.0]]), [[1.0, 0.0]]), 12)
        -1.0
    """
    s, state = _read(system, x, geometry, t=t)
    if state.shape[0] * state.shape[1] > DENSE:
        return float(leading(system, state, 1, which="symmetric", t=t, geometry=s.geometry).values[0])
    j = _tangent_matrix(system, x, t, geometry)
    return float(np.linalg.eigvalsh((j + j.T) / 2)[-1])


@analysis
def divergence(system: Any, x: State, *, t: float = 0.0, geometry: Geometry | None = None) -> float:
    """Return the divergence of a field on its manifold, the trace of the tangent Jacobian.

    On the sphere ``sum_i tr(P_i d_i F_i)``. It is the sum of all local Lyapunov exponents.

    Args:
        system: a field.
        x: one state ``(n, d)``.
        t: time.
        geometry: where a bare callable lives.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> round(ctsa.divergence(Oja([[2.0, 0.0], [0.0, 1.0]]), [[1.0, 0.0]]), 12)
        -1.0
    """
    s, x = _read(system, x, geometry, t=t)
    if not s.flow:
        raise TypeError("divergence belongs to fields; for a layer take log|det| of jacobian(..., basis='tangent')")
    return float(np.trace(_tangent_matrix(system, x, t, geometry)))


@analysis
def jacobian_operator(system: Any, x: State, *, t: float = 0.0, geometry: Geometry | None = None, adjoint: bool = True):
    """Return the Jacobian on the tangent space at ``x`` as a SciPy ``LinearOperator`` on ``R^(n d)``.

    ``P J P`` with P the tangent projection at ``x`` (for a layer from the left the projection at its image): a product
    costs one tangent, a transposed product one reverse-mode derivative. Nothing of size (n d)^2 is formed.

    Args:
        system: a field or a layer.
        x: one state ``(n, d)``.
        t: time.
        geometry: where a bare callable lives.
        adjoint: whether transposed products are wanted, which a module with ``no_grad`` inside does not give.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> ctsa.jacobian_operator(Oja([[2.0, 0.0], [0.0, 1.0]]), [[1.0, 0.0]]) @ [0.0, 1.0]
        array([ 0., -1.])
    """
    return _operator(*_read(system, x, geometry, t=t, adjoint=adjoint), t)


def _operator(s: System, x: Array, t: float) -> Any:
    from scipy.sparse.linalg import LinearOperator

    be, link = backend(x), link_of(s, x, t)

    def forward(v):
        return be.to_numpy(link.forward(be.like(v.reshape(1, *x.shape), x))).ravel()

    def transposed(v):
        return be.to_numpy(link.transposed(be.like(v.reshape(1, *x.shape), x))).ravel()

    size = x.shape[0] * x.shape[1]
    return LinearOperator((size, size), matvec=forward, rmatvec=transposed, dtype=np.float64)


@analysis
def leading(
    system: Any,
    x: States,
    count: int = 6,
    *,
    which: str = "real",
    t: float = 0.0,
    geometry: Geometry | None = None,
    tol: float | None = None,
    budget: int = 6000,
    seed: int = 0,
) -> Leading:
    """Find leading eigenvalues or singular values of the Jacobian, beyond 1000 unknowns without forming it, by ARPACK.

    Args:
        system: a field or a layer.
        x: states ``(..., n, d)``; those of a batch are taken one by one.
        count: how many, below n d - 1.
        which: "real" (largest real part: stability of flows), "modulus" (largest modulus: stability of layers),
            "singular" (largest singular values: growth in one step), or "symmetric" (largest eigenvalues of the
            symmetric part: instantaneous growth).
        t: time.
        geometry: where a bare callable lives.
        tol: relative accuracy asked of ARPACK, which then works at any size; None takes what the rounding of the system
            allows (measured on the products: many modules compute in float32 inside), at best 1e-10.
        budget: about how many products, for each state, after which ARPACK gives up.
        seed: of the start vector.

    Returns:
        ``Leading``, values descending in the sense of ``which``, with residuals.

    Raises:
        ValueError: ``count`` is too large for the operator.
        scipy.sparse.linalg.ArpackNoConvergence: (a RuntimeError) the budget is used up; carries what did converge.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> found = ctsa.leading(SelfAttention(), ctsa.random_tokens(6, 3), count=2)
        >>> bool((found.residuals < 1e-8).all())
        True
    """
    checks.choice("which", which, ("real", "modulus", "singular", "symmetric"))
    count, budget = checks.integer("count", count, low=1), checks.integer("budget", budget, low=1)
    adjoint, seed = which in ("singular", "symmetric"), checks.seed(seed)
    if tol is not None:
        tol = checks.number("tol", tol, low=0.0)
    s, x = _read(system, x, geometry, t=t, adjoint=adjoint, batch=True)
    size = x.shape[-2] * x.shape[-1]
    if count >= size - 1:
        raise ValueError(f"count={count} must be below n d - 1 = {size - 1}; use eigenvalues for all of them")
    batch = tuple(x.shape[:-2])
    found = [_leading(s, x[at], count, which, t, tol, budget, seed) for at in np.ndindex(*batch)]
    if not batch:
        return found[0]
    values, vectors, residuals = (
        np.stack([getattr(f, name) for f in found]).reshape(*batch, *getattr(found[0], name).shape)
        for name in ("values", "vectors", "residuals")
    )
    return Leading(values, vectors, residuals, which, s.flow)


def _leading(
    s: System, x: Array, count: int, which: str, t: float, tol: float | None, budget: int, seed: int
) -> Leading:
    from scipy.sparse.linalg import ArpackNoConvergence

    size = x.shape[0] * x.shape[1]
    if tol is None and size <= DENSE and count <= s.geometry.dimension(*x.shape):
        return _dense_leading(s, x, count, which, t)
    j = _operator(s, x, t)
    start = direction_generator(seed).normal(size=x.shape)
    start = backend(x).to_numpy(s.geometry.project(x, backend(x).like(start, x))).ravel()
    tol = _rounding(j, start, rounding(x)) if tol is None else tol
    limits = arpack_limits(size, count, budget) | dict(v0=start, tol=tol)
    try:
        return _by_arpack(s, x, j, count, which, limits)
    except ArpackNoConvergence as error:
        message = (
            f"{len(error.eigenvalues)} of {count} leading values (which={which!r}) converged to {tol:.1e} within about "
            f"{budget} products: raise budget={budget}, loosen tol, or ask for another count"
        )
        raise ArpackNoConvergence(message, error.eigenvalues, error.eigenvectors) from None


def arpack_limits(size: int, count: int, budget: int) -> dict[str, int]:
    """Return how many vectors ARPACK keeps, and how often it starts anew, such that it takes about ``budget`` products.

    Its own choice, 2 count + 1, takes several times as many products where values crowd, as those of many tokens do.
    """
    kept = min(size, 3 * count + 60)
    return {"ncv": kept, "maxiter": max(1, budget // max(1, kept - count))}


def _by_arpack(s: System, x: Array, j: Any, count: int, which: str, limits: dict) -> Leading:
    from scipy.sparse.linalg import LinearOperator, eigs, eigsh

    if which in ("real", "modulus"):
        if not s.flow:  # an endomorphism of the tangent space at x
            project, image = _projection(s, x), j.matvec
            j = LinearOperator(j.shape, matvec=lambda v: project(image(v)), dtype=np.float64)
        shifted = _radial_away(j, s, x) if which == "real" else j
        kind = "LR" if which == "real" else "LM"
        values, vectors = eigs(shifted, k=count, which=kind, **limits)
        order = np.argsort(-(values.real if which == "real" else np.abs(values)))
        residual = j @ vectors.real + 1j * (j @ vectors.imag) - vectors * values
    else:
        if which == "singular":
            square = LinearOperator(j.shape, matvec=lambda v: j.rmatvec(j.matvec(v)), dtype=np.float64)
        else:
            project = _projection(s, x)  # of a layer, whose image has another tangent space
            flat = LinearOperator(
                j.shape, matvec=lambda v: (project(j.matvec(v)) + j.rmatvec(project(v))) / 2, dtype=np.float64
            )  # fmt: skip
            square = _radial_away(flat, s, x)
        values, vectors = eigsh(square, k=count, which="LA", **limits)
        residual = square @ vectors - vectors * values
        values = np.sqrt(np.maximum(values, 0)) if which == "singular" else values
        order = np.argsort(-values)
    residuals = np.linalg.norm(residual, axis=0)
    shaped = vectors.T.reshape(count, *x.shape)
    return Leading(values[order], shaped[order], residuals[order], which, s.flow)


def _rounding(j: Any, v: np.ndarray, eps: float) -> float:
    """Return the accuracy that products allow: how far ``J (3 v)`` is from ``3 J v``."""
    v = v / np.linalg.norm(v)
    once, thrice = j.matvec(v), j.matvec(3 * v)
    off = float(np.linalg.norm(thrice - 3 * once) / (3 * np.linalg.norm(once) + 1e-300))
    return max(1e-10, 100 * eps, 10 * off)


def _dense_leading(s: System, x: Array, count: int, which: str, t: float) -> Leading:
    """The same from the dense matrix in tangent bases."""
    be, g = backend(x), s.geometry
    right = g.basis(x)
    j = be.to_numpy(tangent_jacobians(s, x, t)[which == "singular"]).astype(np.float64)
    if which == "singular":
        _, values, rows = np.linalg.svd(j)
        values, vectors = values[:count], rows[:count].T
        residual = j.T @ (j @ vectors) - vectors * values**2
    elif which == "symmetric":
        values, vectors = np.linalg.eigh((j + j.T) / 2)
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        residual = (j + j.T) @ vectors / 2 - vectors * values
    else:
        values, vectors = np.linalg.eig(j)
        values = values.astype(complex)
        order = np.lexsort((-values.imag, -(values.real if which == "real" else np.abs(values))))[:count]
        values, vectors = values[order], vectors[:, order].astype(complex)
        residual = j @ vectors - vectors * values
    blocks = be.to_numpy(right).astype(np.float64)
    shaped = np.einsum("nde,nek->knd", blocks, vectors.reshape(x.shape[0], -1, count))
    return Leading(values, shaped, np.linalg.norm(residual, axis=0), which, s.flow)


def _projection(s: System, x: Array):
    be = backend(x)
    return lambda v: be.to_numpy(s.geometry.project(x, be.like(np.asarray(v).reshape(x.shape), x))).ravel()


def _radial_away(j: Any, s: System, x: Array):
    """Move the n spurious zeros of the radial directions to far left, where no leading value is."""
    from scipy.sparse.linalg import LinearOperator

    project = _projection(s, x)
    probe = direction_generator(0).normal(size=j.shape[0])
    probe = project(probe)
    far = 0.0
    for _ in range(20):  # a rough bound of the operator's size is enough
        size = np.linalg.norm(probe)
        if size == 0:
            break
        probe = j.matvec(probe / size)
        far = max(far, float(np.linalg.norm(probe)))
    shift = 10 * far + 1

    def matvec(v):
        v = np.asarray(v).ravel()
        inside = project(v)
        return j.matvec(inside) - shift * (v - inside)

    return LinearOperator(j.shape, matvec=matvec, dtype=np.float64)
