"""Leading eigenvalues and singular values, from products with a Jacobian and its transpose where it is large."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import State, States
from ctsa.flows.systems import System
from ctsa.geometry import Geometry, direction_generator

from ._products import accuracy, link_of
from .jacobians import DENSE, read, tangent_jacobians
from .modes import Leading

Array = Any


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
    return _operator(*read(system, x, geometry, t=t, adjoint=adjoint), t)


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
    s, x = read(system, x, geometry, t=t, adjoint=adjoint, batch=True)
    size = x.shape[-2] * x.shape[-1]
    if count >= size - 1:
        raise ValueError(f"count={count} must be below n d - 1 = {size - 1}; use eigenvalues for all of them")
    batch = tuple(x.shape[:-2])
    found = [_leading(s.member(at), x[at], count, which, t, tol, budget, seed) for at in np.ndindex(*batch)]
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
    tol = accuracy(j.matvec, start, rounding(x)) if tol is None else tol
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
