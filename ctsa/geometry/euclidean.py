"""Flat space."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa._backend import backend

from .base import Geometry, planes

Array = Any


@dataclass(frozen=True)
class Euclidean(Geometry):
    """Flat space: no normalisation and no projection. It makes every analysis work for any ODE, e.g. Lorenz' (n = 1).

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.Euclidean().project(np.ones((1, 2)), np.array([[3.0, 2.0]]))
        array([[3., 2.]])
    """

    place = "flat space"
    flat = True

    def dimension(self, n: int, d: int) -> int:
        """Return n d."""
        return n * d

    def radius(self, y: Array) -> Array:
        """Return ones: flat space has no radius to keep."""
        return backend(y).xp.ones_like(y[..., :1])

    def retract(self, y: Array) -> Array:
        """Return ``y`` itself."""
        return y

    def retract_tangent(self, y: Array, v: Array) -> Array:
        """Return ``v`` itself."""
        return v

    def along(self, x: Array, v: Array) -> Array:
        """Return zeros: nothing is removed."""
        return 0 * self.inner(x, v)

    def chart(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``y - x``, and that it always exists."""
        return y - x, np.zeros(x.shape[:-1], dtype=bool)

    def generators(self, d: int) -> np.ndarray:
        """Return the rotations of the planes of two coordinates: ``(g, d, d)``."""
        return planes(d, d)

    def project(self, x: Array, v: Array) -> Array:
        """Return ``v`` itself."""
        return v

    def project_tangent(self, x: Array, u: Array, y: Array, dy: Array) -> Array:
        """Return ``dy`` itself."""
        return dy

    def extend(self, velocity, y: Array) -> Array:
        """Return ``F(y)``."""
        return velocity(y)

    def extend_tangent(self, tangent, y: Array, u: Array) -> tuple[Array, Array]:
        """Return ``F(y)`` and ``DF(y) u``."""
        return tangent(y, u)

    def extend_jacobian(self, drift_jacobian, y: Array) -> tuple[Array, Array]:
        """Return the drift and its Jacobian."""
        return drift_jacobian(y)

    def dual(self, x: Array, e: Array) -> Array:
        """Return ``e``."""
        return e

    def bend(self, x: Array, e: Array, o: Array) -> Array:
        """Return zeros: flat space does not bend."""
        return 0 * (e.mT @ e)

    def exp(self, x: Array, v: Array) -> Array:
        """Return ``x + v``."""
        return x + v

    def basis(self, x: Array) -> Array:
        """Return the identity at every token: ``(..., n, d, d)``."""
        be = backend(x)
        return be.eye(x.shape[-1], x) + 0 * x[..., None]
