"""The fastest growth that a Jacobian gives: its largest singular value, and the top of its symmetric part."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import State, States
from ctsa.flows.systems import System
from ctsa.geometry import Geometry

from ._krylov import largest_singular
from ._products import Chain, Link, accuracy, link_of
from .jacobians import DENSE, read, tangent_jacobians, tangent_matrix
from .leading_modes import leading

Array = Any
_BUDGET = 2000  # products, for each state
_CHUNK = 2**24  # entries of Jacobians formed at a time


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
    s, x = read(system, x, geometry, t=t, batch=True)
    if dense or (dense is None and x.shape[-2] * x.shape[-1] <= DENSE):
        found = _dense_norms(s, x, t)
    else:
        s, x = read(system, x, geometry, t=t, batch=True, adjoint=True)
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
    tol = accuracy(chain.forward, start, rounding(chain.x))
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
    s, state = read(system, x, geometry, t=t)
    if state.shape[0] * state.shape[1] > DENSE:
        return float(leading(system, state, 1, which="symmetric", t=t, geometry=s.geometry).values[0])
    j = tangent_matrix(system, x, t, geometry)
    return float(np.linalg.eigvalsh((j + j.T) / 2)[-1])
