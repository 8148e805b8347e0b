"""The sphere, and products of small spheres (oscillators)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.checks import integer, room, seed as check_seed

from .base import Geometry, dot, length, planes

Array = Any


def random_tokens(
    n: int, d: int, seed: int = 0, *, batch: int | tuple[int, ...] = (), channels: int | None = None
) -> np.ndarray:
    """Draw ``n`` independent uniform tokens on the sphere.

    Args:
        n: number of tokens.
        d: dimension of a token.
        seed: seed of a NumPy ``Generator``, so that both frameworks start alike.
        batch: leading axes, for ensembles; a number is one axis.
        channels: draw oscillators instead: a token is then ``d / channels`` unit vectors of ``channels`` components.

    Returns:
        NumPy float64 array ``(*batch, n, d)`` with unit rows (or unit groups).

    Raises:
        ValueError: ``n`` or ``d`` is below 1, or ``channels`` does not divide ``d``.
        TypeError: ``n`` or ``d`` is not an integer.

    Example:
        >>> import ctsa
        >>> ctsa.random_tokens(4, 3, seed=0).shape
        (4, 3)
    """
    n, d, seed = integer("n", n, low=1), integer("d", d, low=1), check_seed(seed)
    axes = batch if isinstance(batch, (tuple, list)) else (batch,)
    batch = tuple(integer("batch", size, low=1) for size in axes)
    room(f"{n} tokens of dimension {d}", float(np.prod([*batch, n, d], dtype=float)))
    y = np.random.default_rng(seed).normal(size=(*batch, n, d))
    sphere = Sphere(channels)
    sphere.check_dimension(d)
    return sphere.retract(y)


@dataclass(frozen=True)
class Sphere(Geometry):
    """The product of unit spheres on which tokens move.

    A token is a point of S^(d-1). With ``channels=N`` a token is ``d / N`` oscillators instead: unit vectors of ``N``
    consecutive components, each on its own S^(N-1) (AKOrN, arXiv 2410.13821).

    Args:
        channels: components of an oscillator; None for whole tokens.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.Sphere().project(np.array([[1.0, 0.0]]), np.array([[3.0, 2.0]]))
        array([[0., 2.]])
    """

    channels: int | None = None
    place = "the sphere"
    closed = radial = unit = True

    def __post_init__(self):
        if self.channels is not None:
            object.__setattr__(self, "channels", integer("channels", self.channels, low=2))

    def check_dimension(self, d: int) -> None:
        """Raise ValueError if tokens of dimension ``d`` do not split into groups of ``channels``."""
        if self.channels is not None and d % self.channels:
            raise ValueError(f"channels={self.channels} does not divide the token dimension d={d}")

    def dimension(self, n: int, d: int) -> int:
        """Return the dimension of the manifold of ``n`` tokens: n (d - 1), or n (d / N) (N - 1) for oscillators."""
        groups, size = (1, d) if self.channels is None else (d // self.channels, self.channels)
        return n * groups * (size - 1)

    def euler_characteristic(self, n: int, d: int) -> int:
        """Return that of the product of spheres: 2 for each even one, 0 for each odd one, multiplied."""
        size = d if self.channels is None else self.channels
        return (1 + (-1) ** (size - 1)) ** (n * d // size)

    def generators(self, d: int) -> np.ndarray:
        """Return the rotations of the planes of two coordinates, of one oscillator: ``(g, d, d)``."""
        return planes(d, d if self.channels is None else self.channels)

    # Groups become an axis of their own for the length of one formula.
    def _split(self, x: Array) -> Array:
        return x if self.channels is None else x.reshape(*x.shape[:-1], -1, self.channels)

    def _join(self, z: Array) -> Array:
        return z if self.channels is None else z.reshape(*z.shape[:-2], -1)

    def radius(self, y: Array) -> Array:
        """Return the length of every token or oscillator, with the summed axis kept as 1."""
        z = self._split(y)
        return dot(z, z) ** 0.5

    def retract(self, y: Array) -> Array:
        """Normalise: ``y / |y|``, a token or an oscillator at a time."""
        return self._join(self._split(y) / self.radius(y))

    def retract_tangent(self, y: Array, v: Array) -> Array:
        """Return the derivative of ``y / |y|`` along ``v``: ``(v - <x, v> x) / |y|`` with ``x = y / |y|``."""
        y, v = self._split(y), self._split(v)
        r = dot(y, y) ** 0.5
        x = y / r
        return self._join((v - dot(x, v) * x) / r)

    def inner(self, x: Array, y: Array) -> Array:
        """Return ``<x_i, y_i>``, a number a token ``(..., n)``, or a number an oscillator ``(..., n, d / N)``."""
        return dot(self._split(x), self._split(y))[..., 0]

    def spread(self, s: Array, v: Array) -> Array:
        """Multiply every token of ``v`` (every oscillator) by its own number in ``s``, shaped like ``inner(x, v)``."""
        return self._join(s[..., None] * self._split(v))

    def along(self, x: Array, v: Array) -> Array:
        """Return ``<x_i, v_i>``, a number a token or an oscillator."""
        return self.inner(x, v)

    def project(self, x: Array, v: Array) -> Array:
        """Project onto the tangent space: ``v - <x, v> x``."""
        x, v = self._split(x), self._split(v)
        return self._join(v - dot(x, v) * x)

    def project_tangent(self, x: Array, u: Array, y: Array, dy: Array) -> Array:
        """Return the derivative of ``F(x) = y(x) - <x, y(x)> x`` along ``u``, given ``y`` and ``dy = Dy(x) u``.

        ``dF = dy - (<u, y> + <x, dy>) x - <x, y> u``, for all directions ``u`` of shape ``(k, ..., n, d)`` at once.
        """
        x, u, y, dy = self._split(x), self._split(u), self._split(y), self._split(dy)
        return self._join(dy - (dot(u, y) + dot(x, dy)) * x - dot(x, y) * u)

    def extend(self, velocity, y: Array) -> Array:
        """Evaluate the degree-1 extension ``|y| F(y / |y|)`` of ``velocity = F``."""
        z = self._split(y)
        r = dot(z, z) ** 0.5
        return self._join(r * self._split(velocity(self._join(z / r))))

    def extend_tangent(self, tangent, y: Array, u: Array) -> tuple[Array, Array]:
        """Evaluate the degree-1 extension and its derivative along ``u``.

        With ``r = |y|``, ``x = y / r``, ``rho = <x, u>`` and ``v = (u - rho x) / r``:
        ``dG = rho F(x) + r DF(x) v``.

        Args:
            tangent: maps ``(x, v)`` to ``(F(x), DF(x) v)``.
            y: state ``(..., n, d)``.
            u: directions ``(k, ..., n, d)``.
        """
        z, w = self._split(y), self._split(u)
        r = dot(z, z) ** 0.5
        x = z / r
        rho = dot(x, w)
        x, rho, v = backend(y).materialise((x, rho, (w - rho * x) / r))
        f, df = tangent(self._join(x), self._join(v))
        f = self._split(f)
        return self._join(r * f), self._join(rho * f + r * self._split(df))

    def extend_jacobian(self, drift_jacobian, y: Array) -> tuple[Array, Array]:
        """Evaluate the degree-1 extension ``G`` of the projected drift, and its Jacobian ``(..., n d, n d)``.

        In blocks, with ``DF_ij = P_i D_ij - delta_ij (x_i o_i^T + <x_i, o_i> I)``:
        ``dG_i/dy_j = (r_i / r_j) DF_ij P_j + delta_ij F_i x_i^T``.

        Args:
            drift_jacobian: maps ``x`` to the drift ``o`` and its Jacobian ``D``.
            y: state ``(..., n, d)``.
        """
        be = backend(y)
        z = self._split(y)
        groups = z.reshape(*y.shape[:-2], -1, z.shape[-1])  # (..., G, N): tokens, or oscillators of all tokens
        r = dot(groups, groups) ** 0.5
        x = groups / r
        o, jac = drift_jacobian(x.reshape(y.shape))
        o = o.reshape(x.shape)
        f = o - dot(x, o) * x
        count, size = x.shape[-2:]
        left = x[..., :, :, None, None]
        right = x[..., None, None, :, :]
        blocks = jac.reshape(*y.shape[:-2], count, size, count, size)
        blocks = blocks - left * (left * blocks).sum(-3, keepdims=True)
        own = f[..., :, None] * x[..., None, :] - x[..., :, None] * (o - dot(x, o) * x)[..., None, :]
        own = own - dot(x, o)[..., None] * (be.eye(size, x) - x[..., :, None] * x[..., None, :])
        blocks = blocks - (blocks * right).sum(-1, keepdims=True) * right
        blocks = blocks * (r[..., :, :, None, None] / r[..., 0][..., None, None, :, None])
        blocks = blocks + be.eye(count, x)[:, None, :, None] * own[..., :, :, None, :]
        return (r * f).reshape(y.shape), blocks.reshape(jac.shape)

    def exp(self, x: Array, v: Array) -> Array:
        """Follow the geodesic: ``cos(|v|) x + sinc(|v|) v`` for ``v`` tangent at ``x``."""
        xp = backend(x).xp
        x, v = self._split(x), self._split(v)
        s2 = dot(v, v)
        tiny = xp.finfo(s2.dtype).eps ** 2  # |v| has no derivative at rest; below eps it does not show in the result
        s = xp.where(s2 > tiny, s2, tiny) ** 0.5
        return self._join(xp.cos(s) * x + xp.sinc(s / np.pi) * v)

    def distance(self, x: Array, y: Array) -> Array:
        """Return the angle between corresponding tokens (or oscillators), in radians, accurate near 0 and near pi.

        ``2 atan2(|x - y|, |x + y|)``; arccos of the inner product would lose half of the digits at both ends.
        """
        xp = backend(x).xp
        x, y = self._split(x), self._split(y)
        return 2 * xp.arctan2(length(x - y), length(x + y))

    def basis(self, x: Array) -> Array:
        """Return an orthonormal basis of the tangent space at every token: ``(..., n, d, d - 1)``.

        Columns of the Householder reflection that maps ``x`` to a coordinate axis. Oscillators give block-diagonal
        bases ``(..., n, d, (d / N) (N - 1))``.
        """
        be = backend(x)
        z = self._split(x)
        first = be.eye(z.shape[-1], z)[0]
        sign = be.xp.where(z[..., :1] < 0, -be.xp.ones_like(z[..., :1]), be.xp.ones_like(z[..., :1]))
        w = z + sign * first  # |w|^2 = 2 (1 + |x_1|) is never small
        reflect = be.eye(z.shape[-1], z) - (2 / dot(w, w))[..., None] * w[..., :, None] * w[..., None, :]
        e = reflect[..., 1:]
        if self.channels is None:
            return e
        groups, size, rank = e.shape[-3:]
        blocks = be.eye(groups, z)[:, None, :, None] * e[..., :, :, None, :]
        return blocks.reshape(*e.shape[:-3], groups * size, groups * rank)

    def _pattern(self, x: Array) -> Array | None:
        """Return which entries of a basis ``(d, r)`` an oscillator owns; None for whole tokens, which own all."""
        if self.channels is None:
            return None
        groups = x.shape[-1] // self.channels
        return self.like(np.kron(np.eye(groups), np.ones((self.channels, self.channels - 1))), x)

    def dual(self, x: Array, e: Array) -> Array:
        """Return ``e``."""
        return e

    def bend(self, x: Array, e: Array, o: Array) -> Array:
        """Return ``-<x_i, o_i> I``, an oscillator at a time."""
        rho, r = -self.inner(x, o)[..., None], e.shape[-1]
        if self.channels is not None:  # one number for all columns of an oscillator
            rho = (rho + backend(x).xp.zeros_like(x[..., : self.channels - 1])[..., None, :]).reshape(*x.shape[:-1], r)
        return rho[..., None] * backend(x).eye(r, x)

    def carried(self, x: Array, v: Array, e: Array) -> Array:
        """Return ``-x <v, e>``: a tangent vector that stays parallel turns only to stay tangent."""
        pattern = self._pattern(x)
        along = v[..., None, :] @ e  # (..., n, 1, r)
        return -x[..., None] * along if pattern is None else -x[..., None] * pattern * along
