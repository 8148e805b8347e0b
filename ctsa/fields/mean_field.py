"""Attention in the limit of many tokens: the equation of their density, in harmonics."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, backend, dtype_name, load
from ctsa.attention import Heads, Weights, harmonic, series
from ctsa.attention.heads import act, inverse_temperature, lift
from ctsa.geometry import Densities, Sphere
from ctsa.geometry.densities import bands
from ctsa.parts import constant, parameter, static

from .base import Field
from .self_attention import SelfAttention, given_weights
from .spectral import basis as basis_of, means_of, values_at

Array = Any

RESOLVED = 1e-6  # share of the highest quarter of degrees above which a density is not resolved
_HEADROOM = 2.0  # by how much beta may grow after the field was made


class MeanField(Field):
    r"""The density of infinitely many tokens under self-attention, with noise or without, on the circle or the two-sphere.

    .. math::
        \partial_t \mu = -\nabla \cdot (\mu\, \chi[\mu]) + \frac{\sigma^2}{2} \Delta \mu, \qquad
        \chi[\mu](x) = P_x V \frac{\int e^{\beta \langle Qx, Ky \rangle}\, y\, d\mu(y)}
        {\int e^{\beta \langle Qx, Ky \rangle}\, d\mu(y)}

    (softmax; unnormalised weights have no denominator). The state is ``c``, ``(..., 1, features)``: the means ``c_a =
    int Y_a d mu`` of the real harmonics of degree 1 to ``degree``, with ``int Y_a Y_b`` over the uniform probability
    equal to 1 or 0, so that ``d mu = (1 + sum_a c_a Y_a) dx / |S|``. Zero is the uniform density; the mass is 1,
    exactly. Galerkin's method, with ``l`` the degree of ``Y_a``:

    .. math:: \dot c_a = \int \langle \chi, \nabla Y_a \rangle\, d\mu - \frac{\sigma^2}{2}\, l (l + d - 2)\, c_a .

    It is a field in flat space, so that ``integrate``, ``eigenvalues``, ``lyapunov_spectrum``, ``find_equilibria`` and
    ``continue_equilibrium`` take it (``n = 1`` and ``d`` the number of features). What is said there of *tokens*, such
    as kinds of equilibria, has no meaning here.

    **Clusters are not densities.** Without noise tokens run together, and the density becomes singular in infinite
    time, out of reach of any degree. ``tail`` says how much is in the highest degrees; ``integrate`` keeps it in
    ``stats["tail"]`` and warns where it exceeds 1e-6, and ``until=field.resolved`` stops a run there.

    Args:
        query: ``(m, d)``, or ``(heads, m, d)``; None is the identity.
        key: like ``query``.
        value: ``(d, d)``, or ``(heads, d, d)``; None is the identity.
        beta: inverse temperature, a number or one a head. It may be changed up to twice what it was.
        weights: "softmax" or "unnormalised".
        d: 2 for the circle, 3 for the two-sphere; None is what the matrices say.
        degree: highest degree of the harmonics: ``2 degree`` features, or ``(degree + 1)^2 - 1``.
        sigma: strength of the noise of every token, see ``Noise``.
        quadrature: degree of polynomials that means are exact for; None is enough for rounding. On the two-sphere time
            grows as its fourth power.

    Raises:
        ValueError: sizes do not fit, ``d`` is not 2 or 3, ``sigma`` is negative, ``quadrature`` is too low, or values of
            ``beta``, ``query`` or ``key`` are not known (under ``jax.jit``) and no ``quadrature`` is given.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import MeanField
        >>> field = MeanField(beta=4.0, d=2, degree=24)
        >>> c = field.coefficients(lambda x: 1 + 0.01 * (x[:, 0] ** 2 - x[:, 1] ** 2))  # 1 + .01 cos(2 angle)
        >>> run = ctsa.integrate(field, c, [0.0, 0.5], atol=1e-12)
        >>> growth = np.log(run.xs[1, 0, 2].item() / c[0, 2].item()) / 0.5
        >>> bool(abs(growth - ctsa.theory.uniform_growth_rate(2, 4.0)) < 1e-3)
        True

    References:
        Geshkovski, Letrouit, Polyanskiy, Rigollet, arXiv 2312.10794 (the equation); Shalova, Schlichting, arXiv
        2412.14813 and Balasubramanian, Banerjee, Rigollet, arXiv 2510.20094 (noise); Bruno, Pasqualotto, Agazzi, arXiv
        2410.23228 (modes).
    """

    query: Any
    key: Any
    value: Any
    beta: Any
    sigma: Any
    nodes: Any
    shares: Any
    basis: Any
    slopes: Any
    decay: Any
    weights: Weights
    d: int
    degree: int
    face: str
    quadrature: int
    reach: float
    of_tokens = False
    parts = dict(
        query=parameter("mk", "weight"), key=parameter("mk", "weight"), value=parameter("kk", "weight"), beta=parameter(),
        sigma=parameter(), nodes=constant("gk"), shares=constant("g"), basis=constant("fg"), slopes=constant("fgk"),
        decay=constant("nd"), weights=static(), d=static(), degree=static(), quadrature=static(), reach=static(),
    )  # fmt: skip

    def __init__(
        self, query: Any = None, key: Any = None, value: Any = None, beta: Any = 1.0, weights: Any = "softmax",
        d: int | None = None, degree: int = 32, sigma: Any = 0.0, quadrature: int | None = None,
    ):  # fmt: skip
        query, key = checks.parameter("query", query, 2, 3), checks.parameter("key", key, 2, 3)
        value, beta = checks.parameter("value", value, 2, 3), checks.parameter("beta", beta, 0, 1)
        sigma = checks.parameter("sigma", sigma, 0)
        for name, number in (("beta", beta), ("sigma", sigma)):
            if number is None:
                raise TypeError(f"{name} must be a number, got None")
        known = checks.concrete(sigma)
        if known is not None and known < 0:
            raise ValueError(f"sigma must be at least 0, got {float(known):g}")
        weights = given_weights(weights)
        if weights.name not in ("softmax", "unnormalised"):
            raise ValueError(f"weights must be 'softmax' or 'unnormalised' for densities, got {weights.name!r}")
        own = SelfAttention._check_shapes(query, key, value, beta, None, None)
        d = own if d is None else checks.integer("d", d)
        if d is None:
            raise ValueError("d must be 2 (circle) or 3 (two-sphere) where no matrix says which")
        if d not in (2, 3) or own not in (None, d):
            raise ValueError(
                f"d must be 2 (circle) or 3 (two-sphere), and that of the matrices, got {d} and {own or 'none'}"
            )
        degree = checks.integer("degree", degree, low=1)
        longest = _longest(Heads(query, key, value, beta, weights), quadrature)
        if quadrature is None:
            exact = _needed(d, degree, _HEADROOM * (longest or 0.0)) + (degree if d == 2 else 0)
        else:
            exact = checks.integer("quadrature", quadrature, low=2 * degree + 4)
        reach = _reach(d, degree, exact)
        if longest is not None and longest > reach:
            raise ValueError(
                f"quadrature must be at least {_needed(d, degree, longest)} for degree={degree} and queries as long as "
                f"{longest:.3g} (beta |Q^T K|), got {exact}"
            )
        count = (exact + 1) if d == 2 else (exact + 1) * (exact // 2 + 1)
        features = 2 * degree if d == 2 else (degree + 1) ** 2 - 1
        checks.room(
            "the nodes of this degree", 2.0 * count * (count + 4 * features), remedy="lower degree or quadrature"
        )
        kind = checks.common_dtype([query, key, value, beta, sigma]) or dtype_name(load(self.face).asarray(0))
        tables = basis_of(d, degree, exact)
        single = "float64" if kind == "float64" else "float32"
        nodes, shares, values, slopes, decay = (a.astype(single) for a in tables)
        self._assign(
            query=query, key=key, value=value, beta=beta, sigma=sigma, nodes=nodes, shares=shares, basis=values,
            slopes=slopes, decay=decay, weights=weights, d=d, degree=degree, quadrature=exact, reach=reach,
            geometry=Densities(d),
        )  # fmt: skip

    # --------------------------------------------------------------------------------------------------- the equation
    def drift(self, t, x):
        rho = self._rho(x)
        chi = self._attention(self._kernel(self.nodes), rho)[0]
        return self._weak(rho[..., None] * chi) - self.sigma**2 * self.decay * x

    def drift_tangent(self, t, x, u):
        rho, drho = self._rho(x), (u @ self.basis)[..., 0, :]
        chi, dchi = self._attention(self._kernel(self.nodes), rho, drho)
        moved = drho[..., None] * chi + rho[..., None] * dchi
        damped = self.sigma**2 * self.decay
        return self._weak(rho[..., None] * chi) - damped * x, self._weak(moved) - damped * u

    def _rho(self, c):
        return 1.0 + (c @ self.basis)[..., 0, :]  # (..., G)

    def _weak(self, flux):
        """Return the means of ``<flux, grad Y_a>``: ``(..., G, d)`` to ``(..., 1, features)``."""
        flux = (self.shares[:, None] * flux).reshape(*flux.shape[:-2], 1, -1)
        return flux @ self.slopes.reshape(self.slopes.shape[0], -1).mT

    def _kernel(self, points):
        """Return the exponentials of scores of points for nodes, ``([heads,] B, G)``, of a row's largest if normalised."""
        heads = Heads(self.query, self.key, self.value, self.beta, self.weights)
        q = inverse_temperature(heads) * act(self.query, lift(heads, points))
        q = q if self.key is None else q @ self.key
        be = backend(q)
        s = q @ self.nodes.mT
        if self.weights.normalised:
            s = s - be.stop_gradient(be.xp.amax(s, -1)[..., None])
        far = (q * q).sum(-1).max() > self.reach**2 * (1 + 1e-9)
        known = be.concrete(far)
        if known is not None and known:
            raise ValueError(
                "beta, query or key have grown since this MeanField was made, and its quadrature is too coarse for them: "
                f"make it anew, or with quadrature= larger than {self.quadrature}"
            )
        return heads, be.xp.exp(be.xp.where(far, be.xp.nan, s))

    def _attention(self, kernel, rho, drho=None):
        """Return the output of attention ``(..., B, d)`` for a density at the nodes, and its derivative along ``drho``."""
        heads, e = kernel
        z, m = self._integrals(heads, e, rho)
        if self.weights.normalised:
            z = backend(z).xp.where(z > 0, z, backend(z).xp.nan)  # the density is negative where tokens look
            m = m / z
        out, moved = self._out(heads, m), None
        if drho is not None:
            dz, dm = self._integrals(heads, e, drho)
            moved = self._out(heads, (dm - m * dz) / z if self.weights.normalised else dm)
        return out, moved

    def _integrals(self, heads, e, rho):
        weighed = (self.shares * rho)[..., None]
        weighed = weighed[..., None, :, :] if heads.headed else weighed
        return e @ weighed, e @ (weighed * self.nodes)

    @staticmethod
    def _out(heads, m):
        y = act(heads.value, m)
        return y.sum(-3) if heads.headed else y

    # ------------------------------------------------------------------------------------------ densities and tokens
    @property
    def uniform(self) -> Array:
        """The coefficients of the uniform density: zeros ``(1, features)``."""
        return 0 * self.decay

    def coefficients(self, density: Array | Callable[[np.ndarray], np.ndarray]) -> Array:
        """Return the coefficients ``(1, features)`` of a density, which is divided by its mass.

        Args:
            density: values ``(G,)`` at ``nodes``, or a function of NumPy points ``(G, d)``; not negative.

        Raises:
            ValueError: a wrong shape, negative or not finite values, or no mass.

        Warns:
            UserWarning: the density has parts of a higher degree: what is left out is more than 1e-6 of it.
        """
        nodes = np.asarray(backend(self.nodes).to_numpy(self.nodes), float)
        values = checks.numbers("density", density(nodes) if callable(density) else density)
        if values.shape != nodes.shape[:1]:
            raise ValueError(f"density must have a value at each of the {len(nodes)} nodes, got shape {values.shape}")
        shares, table = (np.asarray(backend(a).to_numpy(a), float) for a in (self.shares, self.basis))
        mass = float(shares @ values)
        if values.min() < 0 or mass <= 0:
            raise ValueError(f"density must not be negative and have mass, got {values.min():g} to {values.max():g}")
        c = table @ (shares * values / mass)
        off = float(np.abs(1 + c @ table - values / mass).max() / (values.max() / mass))
        if off > RESOLVED:
            warnings.warn(
                f"density is off by {off:.1e} of its largest value when cut off at degree {self.degree}: raise degree=",
                UserWarning, stacklevel=2,
            )  # fmt: skip
        return backend(self.decay).like(c[None], self.decay)

    def from_tokens(self, x: Array) -> Array:
        """Return the coefficients ``(..., 1, features)`` of tokens ``(..., n, d)``: the means of the harmonics over them.

        Independent tokens are off by about ``n^(-1/2)`` in every coefficient; evenly spread ones are exact.
        """
        x = self._unit("x", x)
        be = backend(x)
        rows = x.reshape(-1, *x.shape[-2:])
        c = be.xp.stack([means_of(rows[i], self.degree) for i in range(rows.shape[0])])
        return c.reshape(*x.shape[:-2], 1, -1)

    def density(self, c: Array, points: Array | None = None) -> Array:
        """Return the density, per radian or steradian, at unit vectors ``(B, d)`` (None: the nodes): ``(..., B)``."""
        c = checks.given(c, self, "c")
        table = self.basis if points is None else values_at(self._points(points), self.degree)
        return (1.0 + (c @ table)[..., 0, :]) / (2 * math.pi if self.d == 2 else 4 * math.pi)

    def token_velocity(self, c: Array, points: Array | None = None) -> Array:
        """Return ``chi[mu]``, the velocity of a token without its noise, at unit vectors ``(B, d)``: ``(..., B, d)``."""
        points = self.nodes if points is None else self._points(points)
        c = checks.given(c, self, "c")
        return Sphere().project(points, self._attention(self._kernel(points), self._rho(c))[0])

    def _points(self, points):
        points = self._unit("points", points)
        if points.ndim != 2:
            raise ValueError(f"points must be unit vectors (B, {self.d}), got shape {tuple(points.shape)}")
        return points

    def _unit(self, name, x):
        """Return unit vectors in the framework and dtype of the field, whose own sizes are those of coefficients."""
        x = x if autodiff(x) else checks.states(x, name)
        home = autodiff(self.decay)
        if autodiff(x) not in (None, home):
            raise TypeError(f"{name} is an array of {autodiff(x)}, but the field is one of {home}: convert it to NumPy")
        x = checks.tokens(backend(self.decay).like(x, self.decay), None, Sphere(), name=name, normalize=None)
        if x.shape[-1] != self.d:
            raise ValueError(f"{name} must have {self.d} components on the last axis, got shape {tuple(x.shape)}")
        return x

    def tail(self, c: Array) -> Array:
        """Return how much of a density is in the highest quarter of degrees, root mean square, of all of it: ``(...)``."""
        c = checks.given(c, self, "c")
        high = backend(c).like(bands(self.d, self.degree) > 0.75 * self.degree, c)
        every = 1.0 + (c * c).sum((-2, -1))
        return ((high * c * c).sum((-2, -1)) / every) ** 0.5

    def resolved(self, t: Array, c: Array) -> Array:
        """Return a number that is positive while ``tail(c) < 1e-6``: ``until=field.resolved`` stops ``integrate`` there."""
        xp = backend(c).xp
        return math.log10(RESOLVED) - 0.5 * xp.log10(self.tail(c) ** 2 + 1e-30)

    def judge(self, run: Any) -> tuple[Any, str]:
        """Return a run with ``stats["tail"]``, the largest there is, and what to warn of: that degrees are missing."""
        tail = self.tail(run.xs).max()
        known = checks.concrete(tail)
        run = dataclasses.replace(run, stats=dict(run.stats, tail=tail if known is None else float(known)))
        if known is None or known <= 1.001 * RESOLVED:  # until=field.resolved stops at it, to rounding
            return run, ""
        return run, (
            f"the density is not resolved: {float(known):.1e} of it is in the highest quarter of degrees (more than "
            f"{RESOLVED:g}). Without enough noise it becomes singular, as tokens cluster: stop earlier, with "
            f"until=field.resolved, or raise degree={self.degree}"
        )


def _longest(heads: Heads, quadrature: Any) -> float | None:
    """Return a bound on the length of queries; None if values are not known, but a quadrature is."""
    longest = harmonic.reach_of(heads)
    if longest is not None or quadrature is not None:
        return longest
    raise ValueError(
        "quadrature must be given where the values of beta, query and key are not known: make the field outside of jit and "
        "grad, or say up to which degree means are to be exact"
    )


def _needed(d: int, degree: int, reach: float) -> int:
    """Return the degree of density times kernel times gradient."""
    return 2 * degree + 2 + series.degree(d, reach)


@functools.lru_cache(64)
def _reach(d: int, degree: int, exact: int) -> float:
    """Return the longest query that a quadrature is enough for, on the grid of ``harmonic.reach_of``."""
    low, high = -160, 16 * math.ceil(math.log2(exact))  # a kernel has at least the root of its queries' length as degree
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _needed(d, degree, 2.0 ** (middle / 8)) <= exact else (low, middle)
    return 2.0 ** (low / 8)
