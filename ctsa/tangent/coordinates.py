"""How a march keeps its tangent vectors: as coefficients in bases that are carried along, or as directions in R^(n d).

**Carried bases.** ``(x, E, c)``: tokens ``x`` (..., n, d), an orthonormal basis ``E_i`` of the tangent space at every token
(..., n, d, r) that stays parallel, and coefficients ``c`` (..., n r, k) of the tangent vectors ``E c``::

    x' = F(x),   E_i' = -x_i <x_i', E_i>,   c' = (E^T DF(x) E) c.

A token of the sphere has d - 1 numbers a vector instead of d, nothing need be projected, and where a field has a closed
form its tangent Jacobian is assembled from skinny products (``Field.drift_compressed``).

**Directions.** ``(x, u)`` with ``u`` (..., k, n, d), and ``u' = DF(x) u``, in any closed form or by forward mode.

Both extend the field to a neighbourhood of the manifold, which the stages of a method leave by the error of a step.
"""

from dataclasses import dataclass
from typing import Any

from ctsa._backend import backend
from ctsa.derivatives import compressed_tangent, in_basis, pushforward, variational
from ctsa.geometry import Geometry

Array = Any
State = tuple[Array, ...]


def flatten_frame(u: Array) -> Array:
    """Turn directions ``(k, ..., n, d)`` into columns ``(..., n d, k)``."""
    flat = u.reshape(*u.shape[:-2], u.shape[-2] * u.shape[-1])
    return backend(u).xp.moveaxis(flat, 0, -1)


def unflatten_frame(q: Array, shape: tuple[int, ...]) -> Array:
    """Turn columns ``(..., n d, k)`` back into directions of ``shape`` ``(k, ..., n, d)``."""
    return backend(q).xp.moveaxis(q, -1, 0).reshape(shape)


def qr_positive(a: Array) -> tuple[Array, Array]:
    """Factor ``a = q r`` with orthonormal columns and a positive diagonal, which makes the factors unique."""
    be, xp = backend(a), backend(a).xp
    q, r = be.qr(a)
    diagonal = xp.linalg.diagonal(r)
    s = xp.where(diagonal < 0, -xp.ones_like(diagonal), xp.ones_like(diagonal))
    return q * s[..., None, :], r * s[..., :, None]


def reorthonormalise(g: Geometry, x: Array, u: Array) -> tuple[Array, Array, Array]:
    """Return retracted state, orthonormal tangent frame, and the triangular factor ``(..., k, k)``."""
    x = g.retract(x)
    u = g.project(x, u)
    q, r = qr_positive(flatten_frame(u))
    return x, unflatten_frame(q, u.shape), r


@dataclass(frozen=True)
class Carried:
    """Coefficients in carried bases, for fields of ours on a geometry that carries them."""

    geometry: Geometry

    @staticmethod
    def size(c: Array) -> int:
        """Return how many numbers a tangent vector has."""
        return c.shape[-2]

    @staticmethod
    def products(a: Array, b: Array) -> Array:
        """Return the inner products of corresponding tangent vectors, ``(..., k)``."""
        return (backend(a).xp.ones_like(a[..., :, 0])[..., None, :] @ (a * b))[..., 0, :]  # XLA adds up columns slowly

    @staticmethod
    def one(c: Array) -> Array:
        """Return a number of every tangent vector, ``(..., k)``."""
        return c[..., 0, :]

    def enter(self, x: Array, u: Array) -> State:
        """Return the state of a march at ``x`` ``(..., n, d)`` with directions ``(k, ..., n, d)``."""
        e = self.geometry.basis(x)
        return x, e, in_basis(e, u)

    def slope(self, field: Any, t: Array, y: State) -> State:
        """Return the time derivative of a state."""
        g, (x, e, c) = self.geometry, y
        r = g.radius(x)[..., 0]
        z = g.spread(1 / r, x)
        v, j = compressed_tangent(field, g, t, z, e)
        return g.spread(r, v), g.carried(z, v, e), j @ c  # the degree-1 extension

    def settle(self, y: State) -> tuple[Array, Array, Array]:
        """Return the retracted tokens, an orthonormal frame ``(k, ..., n, d)``, and the triangular factor."""
        x, e, c = y
        x = self.geometry.retract(x)
        new = self.geometry.basis(x)
        q, factor = qr_positive(in_basis(new, self._directions(e, c)))
        return x, self._directions(new, q), factor

    def _directions(self, e: Array, c: Array) -> Array:
        n, _, r = e.shape[-3:]
        return backend(e).xp.moveaxis(e @ c.reshape(*c.shape[:-2], n, r, c.shape[-1]), -1, 0)


@dataclass(frozen=True)
class Directions:
    """Directions in R^(n d), for any field and geometry."""

    geometry: Geometry

    @staticmethod
    def size(u: Array) -> int:
        """Return how many numbers a tangent vector has."""
        return u.shape[-2] * u.shape[-1]

    @staticmethod
    def products(a: Array, b: Array) -> Array:
        """Return the inner products of corresponding tangent vectors, ``(..., k)``."""
        w = (a * b).reshape(*a.shape[:-2], -1)
        return (w @ backend(a).xp.ones_like(w[..., 0, :, None]))[..., 0]

    @staticmethod
    def one(u: Array) -> Array:
        """Return a number of every tangent vector, ``(..., k)``."""
        return u[..., 0, 0]

    def enter(self, x: Array, u: Array) -> State:
        """Return the state of a march at ``x`` ``(..., n, d)`` with directions ``(k, ..., n, d)``."""
        return x, backend(u).xp.moveaxis(u, 0, -3)

    def slope(self, field: Any, t: Array, y: State) -> State:
        """Return the time derivative of a state."""
        g, xp = self.geometry, backend(y[0]).xp
        x, u = y[0], xp.moveaxis(y[1], -3, 0)
        if g.flat:
            v, du = variational(field, g, t, (x, u))
        else:
            z = g.retract(x)
            v, du = pushforward(field, t, z, g.project(z, u))  # whose u stays tangent, as z moves
            v = g.spread(g.radius(x)[..., 0], v) if g.radial else v
        return v, xp.moveaxis(du, 0, -3)

    def settle(self, y: State) -> tuple[Array, Array, Array]:
        """Return the retracted tokens, an orthonormal frame ``(k, ..., n, d)``, and the triangular factor."""
        return reorthonormalise(self.geometry, y[0], backend(y[0]).xp.moveaxis(y[1], -3, 0))
