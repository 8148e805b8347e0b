"""Products with Jacobians between tangent spaces, and with their transposes: no matrix is formed.

A link is one linear map ``L = P_y Df(x) P_x`` from the tangent space at ``x`` to that at ``y``: of a velocity, of a layer,
or of a flow over an interval. A chain is the product of links along a trajectory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.derivatives import layer_pushforward, pushforward
from ctsa.flows.systems import System
from ctsa.geometry import Euclidean, Geometry, Sphere, direction_generator
from ctsa.results.base import as_numpy

Array = Any


def _velocity(field: Any, t: Array, x: Array) -> Array:
    return field(t, x)


def _velocity_tangent(field: Any, t: Array, x: Array, u: Array) -> Array:
    return pushforward(field, t, x, u)[1]


def _next(layer: Any, x: Array) -> Array:
    return layer(x)


def _next_tangent(layer: Any, x: Array, u: Array) -> Array:
    return layer_pushforward(layer, x, u)[1]


def orthogonal(g: Geometry, x: Array, e: Array | None, v: Array) -> Array:
    """Project onto the tangent space at ``x``, orthogonally; ``e`` is a basis of it, or None where ``project`` is so."""
    return g.project(x, v) if e is None else (e @ (e.mT @ v[..., None]))[..., 0]


def tangent_basis(g: Geometry, x: Array) -> Array | None:
    """Return a basis of the tangent space where the projection of a geometry is not orthogonal, else None."""
    if isinstance(g, (Sphere, Euclidean)):
        return None
    be, rng = backend(x), direction_generator(0)
    a, b = (be.like(rng.normal(size=x.shape), x) for _ in range(2))
    pa, pb = g.project(x, a), g.project(x, b)
    off = as_numpy(be.xp.abs((a * pb).sum() - (pa * b).sum()))
    size = as_numpy((a * a).sum())
    return None if float(off) <= 1e3 * float(be.xp.finfo(x.dtype).eps) * float(size) else g.basis(x)


def _push(tangent: Any, g: Geometry, x: Array, y: Array, bases: tuple, u: Array) -> Array:
    return orthogonal(g, y, bases[1], tangent(x, orthogonal(g, x, bases[0], u)))


def _pull(image: Any, g: Geometry, x: Array, y: Array, bases: tuple, w: Array) -> Array:
    be = backend(x)
    back = be.vjp(image, x)[1]
    return orthogonal(g, x, bases[0], be.map(lambda v: back(v)[0], orthogonal(g, y, bases[1], w)))


@dataclass(frozen=True)
class Link:
    """A linear map between the tangent spaces at ``x`` and ``y``, both ``(..., n, d)``; compiled once in JAX.

    Attributes:
        image: a function of ``x``, a pytree in JAX.
        tangent: its derivative, a function of ``x`` and directions ``(k, ..., n, d)``.
        geometry: where states live.
        x: state.
        y: its image, on the manifold; for a velocity ``x`` again.
        bases: of the tangent spaces, or None, see ``orthogonal``.
    """

    image: Any
    tangent: Any
    geometry: Geometry
    x: Array
    y: Array
    bases: tuple = (None, None)

    def forward(self, u: Array) -> Array:
        """Return ``L u`` for directions ``(k, ..., n, d)``."""
        return backend(u).call(_push, self.tangent, self.geometry, self.x, self.y, self.bases, u)

    def transposed(self, w: Array) -> Array:
        """Return ``L^T w`` for directions ``(k, ..., n, d)``, by reverse mode."""
        return backend(w).call(_pull, self.image, self.geometry, self.x, self.y, self.bases, w)


def _linked(image: Any, tangent: Any, g: Geometry, x: Array, y: Array) -> Link:
    bases = tangent_basis(g, x), tangent_basis(g, y)
    return Link(image, tangent, g, x, y, bases)


def link_of(s: System, x: Array, t: float = 0.0) -> Link:
    """Return the Jacobian of a velocity or of a layer at ``x`` as a link."""
    be = backend(x)
    if s.flow:
        now = be.like(t, x)
        return _linked(be.partial(_velocity, s.source, now), be.partial(_velocity_tangent, s.source, now), s.geometry, x, x)
    return layer_link(s.source, s.geometry, x)


def layer_link(layer: Any, g: Geometry, x: Array) -> Link:
    """Return the Jacobian of a layer at ``x`` as a link, which ends where the next one begins."""
    be = backend(x)
    image = be.partial(_next, layer)
    return _linked(image, be.partial(_next_tangent, layer), g, x, g.retract(be.call(image, x)))


def ambient_link(image: Any, tangent: Any, x: Array) -> Link:
    """Return the Jacobian of any function of the ambient space at ``x`` as a link, without projections: of flat space."""
    return Link(image, tangent, Euclidean(), x, x)


def accuracy(product: Callable[[np.ndarray], np.ndarray], v: np.ndarray, eps: float) -> float:
    """Return the accuracy that products allow: how far ``J (3 v)`` is from ``3 J v``.

    Some modules compute in float32 inside. ``v`` and what comes are ``(n d,)`` or ``(members, n d, k)``.
    """
    once, thrice, axis = product(v), product(3 * v), min(1, v.ndim - 1)
    off = np.linalg.norm(thrice - 3 * once, axis=axis) / (3 * np.linalg.norm(once, axis=axis) + 1e-300)
    return max(1e-10, 100 * eps, 10 * float(off.max()))


# ---------------------------------------------------------------------------------------------------------------- chains
class Chain:
    """The product of links, each divided by a number of its own, so that nothing overflows on the way.

    Products take and give NumPy, ``(members, n d, k)`` in float64.
    """

    def __init__(self, links: Sequence[Link]):
        self.links, self.x = links, links[0].x
        self.shape: tuple[int, ...] = tuple(self.x.shape)
        self.batch = self.shape[:-2]
        self.members = int(np.prod(self.batch, dtype=int))
        self.size = self.shape[-2] * self.shape[-1]
        self.scales = np.ones((len(links), self.members))

    @property
    def log_scale(self) -> np.ndarray:
        """Logarithm of what the product of all links was divided by, ``(members,)``."""
        return np.log(self.scales).sum(0)

    def start(self, count: int, seed: int) -> np.ndarray:
        """Draw tangent directions at the first state, the same for every member."""
        draws = direction_generator(seed).normal(size=(count, *self.shape[-2:]))
        draws = np.broadcast_to(draws.reshape(count, *[1] * len(self.batch), *self.shape[-2:]), (count, *self.shape))
        return self.inside(self._out(draws))

    def inside(self, v: np.ndarray) -> np.ndarray:
        """Project onto the tangent space at the first state."""
        first = self.links[0]
        e = first.bases[0]
        e = None if e is None else as_numpy(e).astype(float)
        return self._out(np.asarray(orthogonal(first.geometry, as_numpy(self.x).astype(float), e, self._shaped(v))))

    def measure(self, v: np.ndarray) -> None:
        """Choose the scales: the growth of one set of directions over each link."""
        u = self._in(v)
        for i, link in enumerate(self.links):
            before = self._sizes(u)
            u = link.forward(u)
            ratio = self._sizes(u) / before
            self.scales[i] = np.where((ratio > 0) & np.isfinite(ratio), ratio, 1.0)
            u = u / self._of_members(self._sizes(u))

    def forward(self, v: np.ndarray) -> np.ndarray:
        """Return the product of all links with ``v``."""
        u = self._in(v)
        for link, scale in zip(self.links, self.scales, strict=True):
            u = link.forward(u)
            u = u if (scale == 1).all() else u / self._of_members(scale)
        return self._out(as_numpy(u))

    def transposed(self, w: np.ndarray) -> np.ndarray:
        """Return the transposed product of all links with ``w``."""
        u = self._in(w)
        for link, scale in zip(reversed(self.links), reversed(self.scales), strict=True):
            u = link.transposed(u)
            u = u if (scale == 1).all() else u / self._of_members(scale)
        return self._out(as_numpy(u))

    def through(self, v: np.ndarray, back: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Carry orthonormal columns through all links, made orthonormal after each; return them and their log growth.

        ``back`` goes by the transposed links, in the reverse order. The growth, ``(members, k)``, is that of the diagonal
        of the triangular factors, unscaled.
        """
        logs = np.zeros((self.members, v.shape[-1]))
        for link in reversed(self.links) if back else self.links:
            v = self._out(as_numpy((link.transposed if back else link.forward)(self._in(v))))
            v, r = np.linalg.qr(v)
            with np.errstate(divide="ignore"):
                logs += np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1)))
        return v, logs

    def _shaped(self, v: np.ndarray) -> np.ndarray:
        return np.moveaxis(v, -1, 0).reshape(v.shape[-1], *self.shape)

    def _in(self, v: np.ndarray) -> Array:
        return backend(self.x).like(np.ascontiguousarray(self._shaped(v)), self.x)

    def _out(self, u: np.ndarray) -> np.ndarray:
        return np.moveaxis(u.reshape(len(u), self.members, self.size).astype(np.float64), 0, -1)

    def _sizes(self, u: Array) -> np.ndarray:
        values = as_numpy(u).astype(np.float64).reshape(len(u), self.members, -1)
        return np.sqrt((values**2).sum((0, 2)) / len(values)) + 1e-300

    def _of_members(self, numbers: np.ndarray) -> Array:
        return backend(self.x).like(numbers.reshape(*self.batch, 1, 1), self.x)
