"""A layer, or its p-th power, as a map of batches of states: images, products and Jacobians, NumPy in and out."""

from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.derivatives import basis_directions, in_basis, layer_pushforward
from ctsa.geometry import Geometry
from ctsa.layers.check import output_noise
from ctsa.results.base import as_numpy
from ctsa.tangent._products import orthogonal, tangent_basis

Array = Any


def _image(layer, period, x):
    for _ in range(period):
        x = layer(x)
    return x


def _pushed(layer, period, x, u):
    for _ in range(period):
        x, u = layer_pushforward(layer, x, u)
    return u


def _product(layer, period, g, x, e, u):
    """The Jacobian between tangent spaces at ``x``, along directions ``(k, ..., n, d)``."""
    return orthogonal(g, x, e, _pushed(layer, period, x, orthogonal(g, x, e, u)))


def _jacobian(layer, period, g, x):
    e = g.basis(x)
    return e, in_basis(e, _pushed(layer, period, x, basis_directions(e)))


def _basis(g, x):
    return g.basis(x)


class Map:
    """``f^p`` on batches of states, in float64 outside and in the layer's own dtype inside.

    States are flat in the batch, ``(B, n, d)``, while the layer is always given the batch as it came: it may treat the
    members differently. What overflows is inf or nan, without a warning.
    """

    def __init__(self, layer: Any, g: Geometry, x: Array, period: int = 1):
        self.layer, self.geometry, self.period, self.like = layer, g, period, x
        self.be, self.batch = backend(x), tuple(x.shape[:-2])
        n, d = x.shape[-2:]
        self.shape = (int(np.prod(self.batch, dtype=int)), n, d)
        self.dimension = g.dimension(n, d)
        self.eps = float(self.be.xp.finfo(x.dtype).eps)

    def inside(self, x: np.ndarray) -> Array:
        """Return states as the layer takes them."""
        return self.be.like(x.reshape(*self.batch, *self.shape[1:]), self.like)

    def outside(self, x: Array) -> np.ndarray:
        """Return states of the layer as NumPy ``(B, n, d)``."""
        return as_numpy(x).astype(np.float64).reshape(self.shape)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the image of every member."""
        with np.errstate(all="ignore"):
            return self.outside(self.be.call(_image, self.layer, self.period, self.inside(x)))

    def point(self, y: np.ndarray, instead: np.ndarray) -> np.ndarray:
        """Return states on the manifold, rounded as the layer sees them; where there are none, those ``instead``."""
        with np.errstate(all="ignore"):
            x = self.outside(self.inside(np.asarray(self.geometry.retract(y))))
        return np.where(np.isfinite(x).all((1, 2), keepdims=True), x, instead)

    def noise(self, x: np.ndarray) -> np.ndarray:
        """Return the rounding of the images ``(B,)``, relative to the longest token."""

        def image(y):
            return self.be.call(_image, self.layer, self.period, y)

        return output_noise(image, self.inside(x), self.geometry).reshape(-1)

    def projector(self, x: np.ndarray) -> Any:
        """Return what projects directions ``(B, n, d)`` onto the tangent spaces at ``x``, and the products there."""
        at = self.inside(x)
        e = tangent_basis(self.geometry, at)

        def project(v: np.ndarray) -> np.ndarray:
            return self.outside(orthogonal(self.geometry, at, e, self.inside(v)))

        def product(v: np.ndarray) -> np.ndarray:
            u = self.inside(v)[None]
            return self.outside(self.be.call(_product, self.layer, self.period, self.geometry, at, e, u))

        return project, product

    def jacobian(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return bases of the tangent spaces ``(B, n, d, r)`` and the Jacobians in them ``(B, m, m)``."""
        parts = self.be.call(_jacobian, self.layer, self.period, self.geometry, self.inside(x))
        e, j = (as_numpy(a).astype(np.float64) for a in parts)
        return e.reshape(*self.shape, -1), j.reshape(self.shape[0], *j.shape[-2:])


def lengths(v: np.ndarray) -> np.ndarray:
    """Return the length of the longest token of each state, ``(B,)``; inf where it is not a number."""
    with np.errstate(all="ignore"):
        longest = np.sqrt((v * v).sum(-1)).max(-1)
    return np.where(np.isfinite(longest), longest, np.inf)
