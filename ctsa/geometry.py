"""Where tokens live: the sphere, products of small spheres (oscillators), Euclidean space, or a manifold of your own.

A geometry is a small frozen value with the handful of maps that fields, solvers and analyses need. Solvers never
see the constraint: they see the *degree-1 extension* of a field ``F`` from the sphere to the punctured space::

    G(y) = |y| F(y / |y|),

whose radii are first integrals. Runge--Kutta methods commute with the scaling of a token, so normalising on read-out is
the same as projecting after every step. ``Geometry`` says what a manifold of your own has to answer, and how a field on
it is extended.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._backend import backend
from .checks import integer, room, seed as check_seed

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


def direction_generator(seed: int) -> np.random.Generator:
    """Return a generator for directions; its stream is not that of ``random_tokens(seed=seed)``.

    A direction drawn from the stream of the tokens would be parallel to them, with nothing left after projection.
    """
    return np.random.default_rng(np.random.SeedSequence(check_seed(seed), spawn_key=(1,)))


def length(z: Array) -> Array:
    """Return ``|z|`` over the last axis. It has no derivative at zero, where 0, a subgradient, is taken instead of nan."""
    xp, s = backend(z).xp, (z * z).sum(-1)
    return xp.where(s > 0, xp.where(s > 0, s, xp.ones_like(s)) ** 0.5, s)


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1, keepdims=True)


def _pushed(f, x: Array, u: Array) -> Array:
    """Return ``Df(x) u`` for directions ``u`` of shape ``(k, *x.shape)``."""
    be = backend(x)
    return be.vmap(lambda direction: be.jvp(f, (x,), (direction,))[1])(u)


def _planes(d: int, size: int) -> np.ndarray:
    """Return the rotations of the planes of two coordinates within groups of ``size``: ``(g, d, d)``."""
    pairs = [(a, b) for a in range(d) for b in range(a + 1, d) if a // size == b // size]
    w = np.zeros((len(pairs), d, d))
    for k, (a, b) in enumerate(pairs):
        w[k, a, b], w[k, b, a] = 1.0, -1.0
    return w


class Geometry:
    """What the library asks a manifold: derive from it to let tokens live on one of your own.

    Every token of a state lies on one and the same manifold in R^d. Three methods are needed:

    - ``project(x, v)``: a linear projection of ``v`` onto the tangent space at ``x``, orthogonal or not;
    - ``dimension(n, d)`` of the manifold of n tokens;
    - ``retract(y)``: the point of the manifold that stands for a nearby ``y``, the identity on the manifold. For a
      manifold that every ray from the origin meets once, ``radius(y)`` and ``radial = True`` instead: then
      ``retract(y)`` is ``y / radius(y)``.

    Everything else has a default made of these, which a method of yours may replace by a closed form. Arrays are of
    NumPy, torch or JAX, ``(..., n, d)``, vectors with any further leading axes: write formulas with operators and
    methods that all three have, and ``self.like(values, x)`` for constants. Make it a frozen dataclass of numbers and
    tuples: geometries are compared, and JAX compiles once for equal ones.

    **The extension.** Solvers do not know the manifold; their stages leave it by the error of a step. They integrate
    ``G(y) = F(retract(y))``, which is ``F`` on the manifold, so that it is invariant and a method keeps its order.
    Outputs are retracted. If ``radial``, it is the degree-1 extension ``G(y) = r F(y / r)`` with ``r = radius(y)``:
    then ``y / r`` moves by exactly ``F`` off the manifold, too, so that what a step adds to r never comes back to the
    tokens.

    Attributes:
        place: how messages call the manifold.
        closed: whether it is compact, without a boundary, so that no motion escapes.
        flat: whether ``retract`` and ``project`` are identities, and translations are isometries.
        radial: whether every ray meets it once, ``radius`` is homogeneous of degree 1, *and* what ``project`` removes
            at x is a multiple of x. Then post-norm layers are Euler steps, and consensus rests on eigenvectors. A
            manifold that every ray meets once, but with another projection, has ``retract`` of its own.
        unit: whether ``radius`` is the Euclidean length, so that formulas and bounds for unit vectors hold.
        channels: components of an oscillator where a token is several of them; None for whole tokens.

    Raises:
        TypeError: a subclass has neither ``retract`` nor ``radius``.

    Example:
        >>> import numpy as np, ctsa
        >>> class Cylinder(ctsa.Geometry):
        ...     def retract(self, y):
        ...         r = (y[..., :1] ** 2 + y[..., 1:2] ** 2) ** 0.5
        ...         return y / (r * self.like([1, 1, 0], y) + self.like([0, 0, 1], y))
        ...     def project(self, x, v):
        ...         m = x * self.like([1, 1, 0], x)
        ...         return v - (m * v).sum(-1)[..., None] * m
        ...     def dimension(self, n, d):
        ...         return 2 * n
        >>> tube = Cylinder()
        >>> tube.retract(np.array([[3.0, 4.0, 5.0]]))
        array([[0.6, 0.8, 5. ]])
        >>> len(tube.generators(3)), tube.place  # it may be turned about its axis
        (1, 'the Cylinder')
    """

    place: str = "the manifold"
    closed: bool = False
    flat: bool = False
    radial: bool = False
    unit: bool = False
    channels: int | None = None

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if cls.retract is Geometry.retract and (cls.radius is Geometry.radius or not cls.radial):
            raise TypeError(f"{cls.__name__} needs a method retract(y), or radius(y) and radial = True")
        if "place" not in vars(cls):
            cls.place = f"the {cls.__name__}"

    # ----------------------------------------------------------------------------------------------------------- needed
    def project(self, x: Array, v: Array) -> Array:
        """Project ``v`` onto the tangent space at ``x``, linearly in ``v``; tangent vectors stay as they are."""
        raise NotImplementedError(f"{type(self).__name__} needs a method project(x, v)")

    def dimension(self, n: int, d: int) -> int:
        """Return the dimension of the manifold of ``n`` tokens of R^d."""
        raise NotImplementedError(f"{type(self).__name__} needs a method dimension(n, d)")

    def retract(self, y: Array) -> Array:
        """Return the point of the manifold that stands for ``y``: ``y / radius(y)``, if there is no other."""
        return y / self.radius(y)

    # ------------------------------------------------------------------------------------------------- where a state is
    @staticmethod
    def like(values: Any, x: Array) -> Array:
        """Return numbers as an array of the framework, dtype and device of ``x``."""
        return backend(x).like(np.asarray(values), x)

    def check_dimension(self, d: int) -> None:
        """Raise ValueError if tokens of R^d do not fit the manifold. Every dimension does, by default."""

    def radius(self, y: Array) -> Array:
        """Return a number a token, 1 on the manifold, the last axis kept as 1: by default ``1 + |y - retract(y)|``."""
        return 1 + length(y - self.retract(y))[..., None]

    def random(self, n: int, d: int, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> np.ndarray:
        """Draw states ``(*batch, n, d)``, which searches and basins start from: normal vectors, retracted."""
        return np.asarray(self.retract(rng.normal(size=(*batch, n, d))))

    def distance(self, x: Array, y: Array) -> Array:
        """Return how far apart corresponding tokens are: ``|x - y|``, the chord, ``(..., n)``."""
        return length(x - y)

    # ---------------------------------------------------------------------------------------------------- tangent space
    def inner(self, x: Array, y: Array) -> Array:
        """Return ``<x_i, y_i>``, a number a token: ``(..., n)``."""
        return _dot(x, y)[..., 0]

    def spread(self, s: Array, v: Array) -> Array:
        """Multiply every token of ``v`` by its own number in ``s``, ``(..., n)``."""
        return s[..., None] * v

    def basis(self, x: Array) -> Array:
        """Return an orthonormal basis of the tangent space at every token: ``(..., n, d, r)``.

        The range of the projection by singular values. Its derivative is that of the projected columns, made
        orthonormal: singular vectors of equal values have none.
        """
        be, d = backend(x), x.shape[-1]
        unit = be.eye(d, x)

        def columns(x, v):  # v: (..., n, d, r)
            return be.xp.moveaxis(self.project(x, be.xp.moveaxis(v, -1, 0)), 0, -1)

        fixed = be.stop_gradient(x)
        u = be.xp.linalg.svd(columns(fixed, unit + 0 * fixed[..., None]))[0][..., : self.dimension(1, d)]
        return be.xp.linalg.qr(columns(x, be.stop_gradient(u)))[0]

    def project_tangent(self, x: Array, u: Array, y: Array, dy: Array) -> Array:
        """Return the derivative of ``F(x) = project(x, y(x))`` along ``u``, given ``y`` and ``dy = Dy(x) u``.

        For all directions ``u`` of shape ``(k, ..., n, d)`` at once, by forward-mode autodiff.
        """
        return self.project(x, dy) + _pushed(lambda z: self.project(z, y), x, u)

    def retract_tangent(self, y: Array, v: Array) -> Array:
        """Return the derivative of ``retract`` at ``y`` along directions ``v`` of shape ``(k, ..., n, d)``."""
        return _pushed(self.retract, y, v)

    def exp(self, x: Array, v: Array) -> Array:
        """Go from ``x`` along ``v``: ``retract(x + v)``, by default, which is the geodesic to first order."""
        return self.retract(x + v)

    def along(self, x: Array, v: Array) -> Array:
        """Return how much of ``x`` projection removes: ``a`` in ``v = project(x, v) + a x``, a number a token.

        Raises:
            ValueError: the geometry is not ``radial``.
        """
        if not self.radial:
            raise ValueError(f"on {self.place} tokens are not along their normals: N(x + h v) is no Euler step there")
        return self.inner(x, v - self.project(x, v)) / self.inner(x, x)

    def chart(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tangent vectors ``w`` with ``retract(x + w) = y``, and where there are none: ``(..., n)``.

        Where ``radial`` these are ``y / a - x`` with ``a = along(x, y) > 0``; else they are found by iteration.
        """
        if self.radial:
            along = np.asarray(self.along(x, y))
            beyond = along <= 0
            return np.asarray(self.spread(1 / np.where(beyond, 1.0, along), y)) - x, beyond
        w, eps = 0 * x, np.finfo(x.dtype).eps
        with np.errstate(all="ignore"):
            for _ in range(200):
                off = y - np.asarray(self.retract(x + w))
                w = w + np.asarray(self.project(x, off))
        beyond = ~(np.abs(off).max(-1) <= 1e3 * eps * np.maximum(1.0, np.abs(y).max(-1)))
        return np.where(beyond[..., None], 0.0, w), beyond

    # ------------------------------------------------------------------------------------------------------- symmetries
    def generators(self, d: int) -> np.ndarray:
        """Return the antisymmetric ``W``, ``(g, d, d)``, whose rotations ``exp(t W)`` of all tokens keep the manifold.

        ``W x`` is then tangent everywhere: a linear condition, asked for at random points. Beyond ``d = 32`` it is not.
        """
        if not 1 < d <= 32:
            return np.zeros((0, d, d))
        rng, w = np.random.default_rng(0), _planes(d, d)
        x = self.random(2 * len(w), d, rng)
        moved = x @ np.swapaxes(w, 1, 2)  # (g, points, d)
        off = (moved - np.asarray(self.project(x, moved))).reshape(len(w), -1)
        _, s, vh = np.linalg.svd(off.T, full_matrices=False)
        return np.tensordot(vh[s <= 1e-9 * max(1.0, float(np.abs(x).max()))], w, 1)

    def euler_characteristic(self, n: int, d: int) -> int | None:
        """Return that of the manifold of ``n`` tokens, which indices of equilibria add up to; None: not known."""
        return None

    # -------------------------------------------------------------------------------------------------------- extension
    def extend(self, velocity, y: Array) -> Array:
        """Evaluate the extension of ``velocity = F``: ``F(retract(y))``, times ``radius(y)`` if ``radial``."""
        f = velocity(self.retract(y))
        return self.radius(y) * f if self.radial else f

    def extend_tangent(self, tangent, y: Array, u: Array) -> tuple[Array, Array]:
        """Evaluate the extension and its derivative along ``u``.

        Args:
            tangent: maps ``(x, v)`` to ``(F(x), DF(x) v)``.
            y: state ``(..., n, d)``.
            u: directions ``(k, ..., n, d)``.
        """
        f, df = tangent(self.retract(y), self.retract_tangent(y, u))
        if not self.radial:
            return f, df
        r = self.radius(y)
        return r * f, _pushed(self.radius, y, u) * f + r * df

    def extend_jacobian(self, drift_jacobian, y: Array) -> tuple[Array, Array]:
        """Evaluate the extension of the projected drift, and its Jacobian ``(..., n d, n d)``.

        Args:
            drift_jacobian: maps ``x`` to the drift ``o`` and its Jacobian ``D``.
            y: state ``(..., n, d)``.
        """
        be, (n, d) = backend(y), y.shape[-2:]

        def tangent(x, v):
            o, jac = drift_jacobian(x)
            do = (jac @ v.reshape(*v.shape[:-2], n * d, 1)).reshape(v.shape)
            return self.project(x, o), self.project_tangent(x, v, o, do)

        unit = be.eye(n * d, y).reshape(n * d, *[1] * (y.ndim - 2), n, d) + 0 * y
        f, columns = self.extend_tangent(tangent, y, unit)
        return f, be.xp.moveaxis(columns.reshape(*columns.shape[:-2], n * d), 0, -1)


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
        return _planes(d, d if self.channels is None else self.channels)

    # Groups become an axis of their own for the length of one formula.
    def _split(self, x: Array) -> Array:
        return x if self.channels is None else x.reshape(*x.shape[:-1], -1, self.channels)

    def _join(self, z: Array) -> Array:
        return z if self.channels is None else z.reshape(*z.shape[:-2], -1)

    def radius(self, y: Array) -> Array:
        """Return the length of every token or oscillator, with the summed axis kept as 1."""
        z = self._split(y)
        return _dot(z, z) ** 0.5

    def retract(self, y: Array) -> Array:
        """Normalise: ``y / |y|``, a token or an oscillator at a time."""
        return self._join(self._split(y) / self.radius(y))

    def retract_tangent(self, y: Array, v: Array) -> Array:
        """Return the derivative of ``y / |y|`` along ``v``: ``(v - <x, v> x) / |y|`` with ``x = y / |y|``."""
        y, v = self._split(y), self._split(v)
        r = _dot(y, y) ** 0.5
        x = y / r
        return self._join((v - _dot(x, v) * x) / r)

    def inner(self, x: Array, y: Array) -> Array:
        """Return ``<x_i, y_i>``, a number a token ``(..., n)``, or a number an oscillator ``(..., n, d / N)``."""
        return _dot(self._split(x), self._split(y))[..., 0]

    def spread(self, s: Array, v: Array) -> Array:
        """Multiply every token of ``v`` (every oscillator) by its own number in ``s``, shaped like ``inner(x, v)``."""
        return self._join(s[..., None] * self._split(v))

    def along(self, x: Array, v: Array) -> Array:
        """Return ``<x_i, v_i>``, a number a token or an oscillator."""
        return self.inner(x, v)

    def project(self, x: Array, v: Array) -> Array:
        """Project onto the tangent space: ``v - <x, v> x``."""
        x, v = self._split(x), self._split(v)
        return self._join(v - _dot(x, v) * x)

    def project_tangent(self, x: Array, u: Array, y: Array, dy: Array) -> Array:
        """Return the derivative of ``F(x) = y(x) - <x, y(x)> x`` along ``u``, given ``y`` and ``dy = Dy(x) u``.

        ``dF = dy - (<u, y> + <x, dy>) x - <x, y> u``, for all directions ``u`` of shape ``(k, ..., n, d)`` at once.
        """
        x, u, y, dy = self._split(x), self._split(u), self._split(y), self._split(dy)
        return self._join(dy - (_dot(u, y) + _dot(x, dy)) * x - _dot(x, y) * u)

    def extend(self, velocity, y: Array) -> Array:
        """Evaluate the degree-1 extension ``|y| F(y / |y|)`` of ``velocity = F``."""
        z = self._split(y)
        r = _dot(z, z) ** 0.5
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
        r = _dot(z, z) ** 0.5
        x = z / r
        rho = _dot(x, w)
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
        r = _dot(groups, groups) ** 0.5
        x = groups / r
        o, jac = drift_jacobian(x.reshape(y.shape))
        o = o.reshape(x.shape)
        f = o - _dot(x, o) * x
        count, size = x.shape[-2:]
        left = x[..., :, :, None, None]
        right = x[..., None, None, :, :]
        blocks = jac.reshape(*y.shape[:-2], count, size, count, size)
        blocks = blocks - left * (left * blocks).sum(-3, keepdims=True)
        own = f[..., :, None] * x[..., None, :] - x[..., :, None] * (o - _dot(x, o) * x)[..., None, :]
        own = own - _dot(x, o)[..., None] * (be.eye(size, x) - x[..., :, None] * x[..., None, :])
        blocks = blocks - (blocks * right).sum(-1, keepdims=True) * right
        blocks = blocks * (r[..., :, :, None, None] / r[..., 0][..., None, None, :, None])
        blocks = blocks + be.eye(count, x)[:, None, :, None] * own[..., :, :, None, :]
        return (r * f).reshape(y.shape), blocks.reshape(jac.shape)

    def exp(self, x: Array, v: Array) -> Array:
        """Follow the geodesic: ``cos(|v|) x + sinc(|v|) v`` for ``v`` tangent at ``x``."""
        xp = backend(x).xp
        x, v = self._split(x), self._split(v)
        s2 = _dot(v, v)
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
        reflect = be.eye(z.shape[-1], z) - (2 / _dot(w, w))[..., None] * w[..., :, None] * w[..., None, :]
        e = reflect[..., 1:]
        if self.channels is None:
            return e
        groups, size, rank = e.shape[-3:]
        blocks = be.eye(groups, z)[:, None, :, None] * e[..., :, :, None, :]
        return blocks.reshape(*e.shape[:-3], groups * size, groups * rank)


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
        return _planes(d, d)

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

    def exp(self, x: Array, v: Array) -> Array:
        """Return ``x + v``."""
        return x + v

    def basis(self, x: Array) -> Array:
        """Return the identity at every token: ``(..., n, d, d)``."""
        be = backend(x)
        return be.eye(x.shape[-1], x) + 0 * x[..., None]


def check_geometry(geometry: Any) -> Geometry:
    """Return ``geometry`` if it is one.

    Raises:
        TypeError: it does not derive from ``Geometry``.
    """
    if not isinstance(geometry, Geometry):
        raise TypeError(
            f"geometry must be ctsa.Sphere(...) or ctsa.Euclidean(), got {geometry!r}: one of your own derives from "
            "ctsa.Geometry"
        )
    return geometry


def geometry_of(field: Any, geometry: Geometry | None = None) -> Geometry:
    """Return the geometry a field lives on: ``geometry`` if given, else the field's own, else the sphere.

    Raises:
        ValueError: ``geometry`` contradicts the field's own.
    """
    own = getattr(field, "geometry", None)
    if geometry is None:
        return own if own is not None else Sphere()
    geometry = check_geometry(geometry)
    if own is not None and own != geometry:
        raise ValueError(f"geometry={geometry!r} contradicts the field's own {own!r}; leave it out")
    return geometry
