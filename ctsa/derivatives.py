"""Push tangent vectors forward, and the variational equation of any field."""

from typing import Any

from . import checks
from ._backend import backend
from ._types import Directions, States
from .calling import Calling
from .geometry import Geometry

Array = Any


def jvp_batched(f, x: Array, u: Array) -> tuple[Array, Array]:
    """Return ``f(x)`` and ``Df(x) u`` for all directions ``u`` of shape ``(k, *x.shape)``, by forward-mode autodiff.

    The general way, for callables that know no closed form.
    """
    be = backend(x)
    return f(x), be.vmap(lambda direction: be.jvp(f, (x,), (direction,))[1])(u)


def pushforward(field, t: Array, x: States, u: Directions) -> tuple[Array, Array]:
    """Return the velocity and its derivative along ``k`` directions: ``F(t, x)`` and ``DF(t, x) u``.

    Uses the closed form ``field.tangent`` where the field has one, ``vmap(jvp)`` where it has none.

    Args:
        field: any callable ``field(t, x)``.
        t: time.
        x: state ``(..., n, d)``.
        u: directions ``(k, ..., n, d)``.

    Returns:
        velocity ``(..., n, d)`` and derivatives ``(k, ..., n, d)``.

    Example:
        >>> import numpy as np, torch, ctsa
        >>> from ctsa.torch import Oja
        >>> x = torch.as_tensor(ctsa.random_tokens(4, 3))
        >>> v, dv = ctsa.pushforward(Oja(np.diag([3.0, 2.0, 1.0])), 0.0, x, torch.ones(2, 4, 3, dtype=torch.float64))
        >>> dv.shape
        torch.Size([2, 4, 3])

    Raises:
        TypeError: ``field`` is not callable.
        ValueError: ``u`` is not ``(k, *x.shape)``.
    """
    if not callable(field):
        raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
    checks.directions(x, u)
    tangent = getattr(field, "tangent", None)
    if tangent is not None:
        return tangent(t, x, u)
    return jvp_batched(lambda y: field(t, y), x, u)


def layer_pushforward(layer, x: Array, u: Array) -> tuple[Array, Array]:
    """Return ``layer(x)`` and its derivative along ``k`` directions ``u``: closed form if known, else ``vmap(jvp)``."""
    tangent = getattr(layer, "tangent", None)
    if tangent is not None:
        return tangent(x, u)
    with Calling(layer, x):
        return jvp_batched(layer, x, u)


def apply_jacobian(j: Array, u: Array) -> Array:
    """Multiply a Jacobian ``(..., n d, n d)`` with directions ``(k, ..., n, d)``."""
    flat = u.reshape(*u.shape[:-2], -1)
    if flat.ndim == 2:  # no batch: one matrix product
        return (flat @ j.mT).reshape(u.shape)
    xp = backend(u).xp
    return xp.moveaxis(xp.moveaxis(flat, 0, -2) @ j.mT, -2, 0).reshape(u.shape)


def basis_directions(e: Array) -> Array:
    """Return a basis ``(..., n, d, r)`` of the tangent space, given token by token, as directions ``(n r, ..., n, d)``."""
    be, (n, d, r) = backend(e), e.shape[-3:]
    at = be.eye(n, e)[:, None, :, None]  # direction (j, c) is column c of the basis at token j, nothing elsewhere
    u = be.xp.moveaxis(e.mT, (-3, -2), (0, 1))[..., None, :] * at.reshape(n, 1, *[1] * (e.ndim - 3), n, 1)
    return u.reshape(n * r, *e.shape[:-3], n, d)


def compress(left: Array, j: Array, right: Array) -> Array:
    """Return ``L^T J R`` of an ambient Jacobian ``(..., n d, n d)``, with bases ``(..., n, d, r)`` given token by token."""
    xp, (n, d, r) = backend(j).xp, right.shape[-3:]
    m = xp.swapaxes(j.reshape(*j.shape[:-2], n * d, n, d), -3, -2) @ right  # (..., n, n d, r)
    m = xp.swapaxes(m, -3, -2).reshape(*j.shape[:-2], n, d, n * r)
    return (left.mT @ m).reshape(*j.shape[:-2], -1, n * r)


def tangent_jacobian(field, g: Geometry, t: Array, x: Array) -> tuple[Array, Array, Array]:
    """Linearise a field on the tangent space at many states: ``E^T DF(t, x) E``.

    From the closed form of the field's Jacobian where it has one, from directions else.

    Args:
        field: any callable ``field(t, x)``.
        g: where it lives.
        t: time.
        x: states ``(..., n, d)``.

    Returns:
        the basis ``E`` at every token, ``(..., n, d, r)``; the velocity ``(..., n, d)``; and the Jacobian
        ``(..., n r, n r)`` in that basis.

    Example:
        >>> import torch, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> x = torch.as_tensor(ctsa.random_tokens(4, 3, batch=(7,)))
        >>> [tuple(a.shape) for a in ctsa.derivatives.tangent_jacobian(SelfAttention(), ctsa.Sphere(), 0.0, x)]
        [(7, 4, 3, 2), (7, 4, 3), (7, 8, 8)]
    """
    e = g.basis(x)
    if hasattr(field, "drift_compressed"):
        return e, *compressed_tangent(field, g, t, x, e)
    f, df = pushforward(field, t, x, basis_directions(e))
    return e, f, in_basis(e, df)


def compressed_tangent(field, g: Geometry, t: Array, x: Array, e: Array) -> tuple[Array, Array]:
    """Return the velocity of a field of ours and ``E^T DF E`` in an orthonormal tangent basis ``(..., n, d, r)``.

    Returns:
        ``(..., n, d)`` and ``(..., n r, n r)``.
    """
    o, full, own = field.drift_compressed(t, x, g.dual(x, e), e)
    bend = g.bend(x, e, o)
    own = bend if own is None else own + bend
    n, r = own.shape[-3:-1]
    blocks = backend(x).eye(n, x)[:, None, :, None] * own[..., :, :, None, :]
    full = blocks if full is None else full + blocks
    return g.project(x, o), full.reshape(*full.shape[:-4], n * r, n * r)


def in_basis(e: Array, u: Array) -> Array:
    """Return vectors ``(k, ..., n, d)`` as columns of coordinates in a basis ``(..., n, d, r)``: ``(..., n r, k)``."""
    return (e.mT @ backend(u).xp.moveaxis(u, 0, -1)).reshape(*e.shape[:-3], -1, u.shape[0])


def variational(field, geometry: Geometry, t: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
    """Evaluate the variational equation ``(x, U)' = (F(t, x), DF(t, x) U)`` of the degree-1 extension of ``field``.

    Args:
        field: any callable ``field(t, x)``.
        geometry: where the field lives.
        t: time.
        state: ``(x, U)`` with shapes ``(..., n, d)`` and ``(k, ..., n, d)``.
    """
    x, u = state
    dense = getattr(field, "dense_pays", None)
    if dense is not None and dense(x, u.shape[0]):
        f, j = geometry.extend_jacobian(lambda y: field.drift_jacobian(t, y), x)
        return f, apply_jacobian(j, u)
    return geometry.extend_tangent(lambda y, v: pushforward(field, t, y, v), x, u)
