"""What a manifold answers, with defaults from a few maps."""

from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.checks import seed as check_seed

Array = Any


def direction_generator(seed: int) -> np.random.Generator:
    """Return a generator for directions; its stream is not that of ``random_tokens(seed=seed)``.

    A direction drawn from the stream of the tokens would be parallel to them, with nothing left after projection.
    """
    return np.random.default_rng(np.random.SeedSequence(check_seed(seed), spawn_key=(1,)))


def length(z: Array) -> Array:
    """Return ``|z|`` over the last axis. It has no derivative at zero, where 0, a subgradient, is taken instead of nan."""
    xp, s = backend(z).xp, (z * z).sum(-1)
    return xp.where(s > 0, xp.where(s > 0, s, xp.ones_like(s)) ** 0.5, s)


def dot(a: Array, b: Array) -> Array:
    """Return the inner products along the last axis, which is kept as 1."""
    return (a * b).sum(-1, keepdims=True)


def pushed(f, x: Array, u: Array) -> Array:
    """Return ``Df(x) u`` for directions ``u`` of shape ``(k, *x.shape)``."""
    be = backend(x)
    return be.vmap(lambda direction: be.jvp(f, (x,), (direction,))[1])(u)


def planes(d: int, size: int) -> np.ndarray:
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
        return dot(x, y)[..., 0]

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
        return self.project(x, dy) + pushed(lambda z: self.project(z, y), x, u)

    def retract_tangent(self, y: Array, v: Array) -> Array:
        """Return the derivative of ``retract`` at ``y`` along directions ``v`` of shape ``(k, ..., n, d)``."""
        return pushed(self.retract, y, v)

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

    def dual(self, x: Array, e: Array) -> Array:
        """Return ``L`` with ``L^T v = E^T project(x, v)`` for every ``v``: ``e`` itself where projection is orthogonal."""
        be, d = backend(x), x.shape[-1]
        unit = be.eye(d, x).reshape(d, *[1] * (x.ndim - 1), d) + 0 * x
        return be.xp.moveaxis(self.project(x, unit), 0, -2) @ e

    def bend(self, x: Array, e: Array, o: Array) -> Array:
        """Return what the curvature adds to the derivative of ``project(x, o)``, in the basis ``e``: ``(..., n, r, r)``.

        The derivative of ``F(x) = project(x, o(x))`` in an orthonormal basis is ``E^T Do E`` and, for every token by
        itself, ``E^T (d project(x, o)) E``.
        """
        xp = backend(x).xp
        u = xp.moveaxis(e, -1, 0)
        return e.mT @ xp.moveaxis(self.project_tangent(x, u, o, 0 * u), 0, -1)

    def carried(self, x: Array, v: Array, e: Array) -> Array:
        """Return the velocity of a tangent basis ``(..., n, d, r)`` that is carried along parallel as ``x`` moves by ``v``.

        Raises:
            NotImplementedError: the geometry gives no formula; then directions are not kept in bases.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method carried(x, v, e)")

    @property
    def carries(self) -> bool:
        """Whether tangent bases are carried along: there is a formula, and rays lead back to the manifold."""
        return self.radial and type(self).carried is not Geometry.carried

    # ------------------------------------------------------------------------------------------------------- symmetries
    def generators(self, d: int) -> np.ndarray:
        """Return the antisymmetric ``W``, ``(g, d, d)``, whose rotations ``exp(t W)`` of all tokens keep the manifold.

        ``W x`` is then tangent everywhere: a linear condition, asked for at random points. Beyond ``d = 32`` it is not.
        """
        if not 1 < d <= 32:
            return np.zeros((0, d, d))
        rng, w = np.random.default_rng(0), planes(d, d)
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
        return r * f, pushed(self.radius, y, u) * f + r * df

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
