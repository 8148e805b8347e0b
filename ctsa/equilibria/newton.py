"""Zeros of many fields at once: Levenberg--Marquardt from afar, rank-revealing Newton close by, on any geometry.

Unknowns are coordinates in an orthonormal basis ``E`` of the tangent space at the present state ``x``; a step ``s`` moves
along geodesics, ``x -> exp(x, E s)``. With ``r = E^T F(x)`` and ``J = E^T DF(x) E``:

- far away, Levenberg--Marquardt ``s = -(J^T J + m |r|^2 I)^-1 J^T r`` with a gain-controlled ``m``. It descends on
  ``|F|^2`` and does not care whether an equilibrium attracts or repels;
- close by, Newton's ``s = -J^+ r`` with the pseudo-inverse of the numerical rank. Where equilibria come in continuous
  families (rotations, degenerate eigenvalues) ``J`` is singular, and the shortest step goes straight to the family.

All starts are solved together, and in JAX one compiled program serves any number of them.
"""

from typing import Any, NamedTuple

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend
from ctsa.derivatives import tangent_jacobian
from ctsa.events import still_time
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry, geometry_of
from ctsa.results.base import as_numpy

Array = Any
_RANK = 1e-7  # singular values below this share of the largest count as zero
_LARGEST = 2_000_000  # entries of all Jacobians of a chunk together
_NEAR = 1e-3  # speed, relative to the Jacobian, from which on Newton's method is trusted
_POLISH = 2  # Newton steps at the end: they double the digits, so more would change nothing


class Solved(NamedTuple):
    """Where many starts led, NumPy float64.

    ``states``, ``velocities`` and ``drifts`` (velocities before projection; those of a bare callable are not known, and its
    velocities stand in) are ``(S, n, d)``. ``jacobians`` ``(S, m, m)`` are those on the tangent space, with ``m`` the
    dimension of the manifold, in the ``bases`` ``(S, n, d, r)``: of the many that serve, a framework may choose its own.
    """

    states: np.ndarray
    velocities: np.ndarray
    jacobians: np.ndarray
    drifts: np.ndarray
    bases: np.ndarray

    @property
    def speeds(self) -> np.ndarray:
        """Speeds of the fastest tokens, ``(S,)``."""
        return np.sqrt((self.velocities**2).sum(-1)).max(-1)


@analysis
def solve(
    field: Any,
    x: Any,
    *,
    iterations: int = 200,
    rest: float = 1e-10,
    t: float | None = None,
    geometry: Geometry | None = None,
    like: Array | None = None,
) -> Solved:
    """Look for a zero of the field from each of many states.

    Args:
        field: any callable ``field(t, x)`` that takes leading axes; the closed form of the Jacobian serves where there is
            one.
        x: states ``(S, n, d)``, on the geometry.
        iterations: most Levenberg--Marquardt steps; 0 only evaluates.
        rest: speed of the fastest token below which a state is handed to Newton's method.
        t: a time at which to freeze a field that depends on it; such a field is refused without.
        geometry: where a bare callable lives.
        like: a state ``(1, n, d)`` that has been checked, whose framework and dtype the others take; then neither they
            nor ``t`` are checked again.

    Returns:
        ``Solved``: states, velocities, Jacobians, drifts, bases. A start that led nowhere ends where it got stuck: look at
        ``speeds``.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.equilibria.newton import solve
        >>> from ctsa.torch import Oja
        >>> found = solve(Oja(np.diag([2.0, 1.0])), ctsa.random_tokens(1, 2, batch=(5,)))
        >>> bool(found.speeds.max() < 1e-10)
        True

    References:
        Fan and Yuan, Computing 74 (2005) 23 (damping by the residual: quadratic convergence without isolation);
        Absil, Mahony, Sepulchre, *Optimization Algorithms on Matrix Manifolds* (2008), chapter 6.
    """
    g = geometry_of(field, geometry)
    if getattr(x, "ndim", 0) != 3:
        raise ValueError(f"x must be an array of states (S, n, d), got shape {tuple(getattr(x, 'shape', ()))}")
    one = checks.tokens(x[:1], field, g, name="x") if like is None else like
    t = still_time(field, one, t, g, "Newton's method") if like is None else t
    be, xs = backend(one), as_numpy(x)
    count, size = len(xs), chunk_size(*xs.shape[1:])
    step = be.partial(_chunk, field, g)
    settings = (be.like(checks.integer("iterations", iterations), one), be.like(rest, one), be.like(t, one))
    parts = []
    for first in range(0, count, size):
        # The last one is repeated, so that numbers of starts share one compiled program.
        part = xs[np.minimum(np.arange(first, first + size), count - 1)]
        rows = _run(be, step, part, one, settings)
        if iterations:
            still = (be.like(0, one), *settings[1:])
            for _ in range(_POLISH):
                rows = _newton(g, rows, lambda states, still=still: _run(be, step, states, one, still))
        parts.append([a[: count - first] for a in rows])
    return Solved(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _run(be, step, states, one, settings) -> list[np.ndarray]:
    _, outs = be.call(step, (be.like(states, one), settings))
    return [as_numpy(o).astype(np.float64) for o in outs]


def _newton(g, rows, evaluated) -> list[np.ndarray]:
    """Take a Newton step with the pseudo-inverse from where it is short, and keep what became slower by it."""
    x, f, j, _, e = rows
    speed = np.sqrt((f**2).sum(-1)).max(-1)
    near = np.isfinite(j).all((1, 2)) & (speed > 0) & (speed < _NEAR * np.sqrt((j**2).sum((1, 2))))
    if not near.any():
        return rows
    e = e[near]
    r = (e.swapaxes(-1, -2) @ f[near][..., None]).reshape(near.sum(), -1)
    s = -(np.linalg.pinv(j[near], rcond=_RANK) @ r[..., None])[..., 0]
    v = (e @ s.reshape(*e.shape[:2], e.shape[-1])[..., None])[..., 0]
    y = x.copy()
    y[near] = g.retract(g.exp(x[near], v))
    new = evaluated(y)
    slower = (new[1] ** 2).sum((1, 2)) < (f**2).sum((1, 2))
    return [np.where(slower.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(rows, new, strict=True)]


def field_geometry(field: Any, geometry: Geometry | None) -> Geometry:
    """Return where a field lives.

    Raises:
        TypeError: it is no ``field(t, x)``.
    """
    if not callable(field):
        raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
    system = system_of(field, geometry)
    if not system.flow:
        raise TypeError(
            "field must be callable as field(t, x), got a layer: pass the field that it discretises, or see "
            "ctsa.find_fixed_points"
        )
    checks.one_input(field)
    return system.geometry


def check_room(g: Geometry, n: int, d: int) -> int:
    """Return the dimension of the manifold of states ``(n, d)``, at least 1."""
    if not g.dimension(n, d):
        raise ValueError(f"d={d}: tokens of the sphere of dimension 0 cannot move; d must be at least 2")
    return g.dimension(n, d)


def chunk_size(n: int, d: int) -> int:
    """Return how many states ``(n, d)`` are solved together; every call is padded to a multiple of it."""
    return int(np.clip(_LARGEST // (n * d) ** 2, 8, 256))


def evaluate(field: Any, g: Geometry, t: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return velocities ``(S, n, d)``, ``r = E^T F`` of shape ``(S, m)`` and ``J = E^T DF E`` of shape ``(S, m, m)``."""
    e, f, j = tangent_jacobian(field, g, t, x)
    return f, (e.mT @ f[..., None]).reshape(j.shape[:-1]), j


def _fastest(f):
    """Return the speed of the fastest token, ``(S,)``."""
    return backend(f).xp.amax((f * f).sum(-1), -1) ** 0.5


def _apply(g, x, s):
    e = g.basis(x)
    v = (e @ s.reshape(*e.shape[:2], e.shape[-1])[..., None])[..., 0]
    return g.retract(g.exp(x, v))


def _chunk(field, g, carry):
    """Descend from one chunk of starts; return what ``Solved`` holds."""
    x, (iterations, rest, t) = carry
    be = backend(x)
    xp = be.xp
    empty = 0 * x.sum((-2, -1))
    m = g.dimension(*x.shape[1:])
    r = empty[:, None] + be.like(np.zeros(m), x)
    # Nothing is known at first: the step is then zero, and the loop's one evaluation is that of the start.
    state = (0 * iterations - 1, x, 0 * x, r, r[:, :, None] + 0 * r[:, None, :], empty + xp.inf, empty + 1, empty > 0)

    def going(state):
        return (state[0] < iterations) & ~state[-1].all()

    def descend(state):
        return _levenberg_marquardt(field, g, t, rest, state)

    _, x, f, _, j, _, _, _ = be.repeat_while(going, descend, state)
    return carry, (x, f, j, field.drift(t, x) if hasattr(field, "drift") else f, g.basis(x))


def _levenberg_marquardt(field, g, t, rest, state):
    k, x, f, r, j, cost, mu, done = state
    be = backend(x)
    xp = be.xp
    first, one = xp.isinf(cost), xp.ones_like(cost)
    was = xp.where(first, one, cost)
    normal, slope = j.mT @ j, (j.mT @ r[..., None])[..., 0]
    trace = (j * j).sum((-2, -1))
    damping = mu * was + 1e-14 * trace  # rounding of J^T J is not to be divided by
    damping = damping + xp.finfo(x.dtype).tiny
    s = -xp.linalg.solve(normal + damping[:, None, None] * be.eye(r.shape[-1], x), slope[..., None])[..., 0]
    longest = _fastest(s.reshape(*x.shape[:2], -1))
    s = s / xp.where(longest > 1, longest, one)[:, None]
    y = _apply(g, x, s)
    f_new, r_new, j_new = evaluate(field, g, t, y)
    cost_new = (r_new * r_new).sum(-1)
    model = ((r + (j @ s[..., None])[..., 0]) ** 2).sum(-1)
    finite = xp.isfinite(cost_new) & xp.isfinite(j_new).all(-1).all(-1)
    better = finite & (cost_new < cost) & ~done
    fall = was - cost_new
    gain = fall / xp.where(was > model, was - model, one)
    next_mu = xp.where(better & (gain > 0.75), mu / 4, xp.where(better & (gain > 0.25), mu, mu * 4))
    creeping = better & ~first & (mu <= 1) & (fall < 1e-4 * was)
    flat = ~first & ((slope * slope).sum(-1) <= 1e-10 * trace * was)
    mu = xp.where(first, mu, xp.clip(next_mu, 1e-6, 1e12))
    known = better | (first & ~done)  # a start with a velocity that is not finite is not at rest
    x, f = (xp.where(which[:, None, None], new, old) for which, new, old in ((better, y, x), (known, f_new, f)))
    r, j = xp.where(better[:, None], r_new, r), xp.where(better[:, None, None], j_new, j)
    cost = xp.where(better, cost_new, cost)
    # At rest; or at a local minimum of |F| that is no zero; or creeping toward one; or no step is short enough.
    speed = _fastest(f)
    stuck = (flat | creeping) & (speed > 1e4 * rest)
    done = done | (xp.isfinite(cost) & (speed <= 0.01 * rest)) | stuck | (mu >= 1e12) | (first & ~finite)
    return k + 1, x, f, r, j, cost, mu, done
