"""Jacobians of flows and layers as matrices, in the ambient space or in tangent bases, and what follows from all of one."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, full_precision
from ctsa._types import State
from ctsa.derivatives import basis_directions, in_basis, layer_pushforward, tangent_jacobian
from ctsa.flows.opening import check_velocity
from ctsa.flows.systems import System, system_of
from ctsa.geometry import Geometry
from ctsa.layers.check import check_foreign, check_restless

Array = Any


_PRODUCTS = "ctsa.leading needs products only"
DENSE = 1000  # unknowns n d up to which a dense matrix is formed; beyond, products serve


def read(
    system: Any, x: Any, geometry: Geometry | None, *, t: float = 0.0, check: bool = True, adjoint: bool = False,
    batch: bool = False,
) -> tuple[System, Array]:  # fmt: skip
    """Check and convert a system and a state ``(n, d)``, or with ``batch`` states ``(..., n, d)``."""
    s = system_of(system, geometry)
    if s.kind == "layers":
        raise TypeError("a sequence of layers has no single Jacobian: pass one layer, or a function composing them")
    x = s.start(x, None, "x")
    s = s.settled(x)
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
    size = s.geometry.dimension(*x.shape[-2:])
    entries = 3.0 * float(np.prod(x.shape, dtype=float)) * size
    checks.room(f"a dense Jacobian of {size} unknowns", entries, remedy=_PRODUCTS)
    if s.flow:
        j = s.call(tangent_jacobian, s.source, s.geometry, backend(x).like(t, x), x)[2]
        return j, j
    return s.call(_of_layer, s.source, s.geometry, x)


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
    s, x = read(system, x, geometry, t=t, check=False)  # differentiable, and called in training
    with full_precision(backend(x).name):
        return _ambient(s, x, t) if basis == "ambient" else tangent_jacobians(s, x, t)[1]


def tangent_matrix(system: Any, x: Any, t: float, geometry: Geometry | None) -> np.ndarray:
    """Return the tangent Jacobian as NumPy with both sides in the basis at ``x``, an endomorphism."""
    s, x = read(system, x, geometry, t=t)
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
    values = np.linalg.eigvals(tangent_matrix(system, x, t, geometry)).astype(complex)
    return values[np.lexsort((-values.imag, -values.real))]


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
    s, x = read(system, x, geometry, t=t)
    if not s.flow:
        raise TypeError("divergence belongs to fields; for a layer take log|det| of jacobian(..., basis='tangent')")
    return float(np.trace(tangent_matrix(system, x, t, geometry)))
