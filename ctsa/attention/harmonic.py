r"""Attention on the circle and the two-sphere in O(n): sums of exponentials by circular and spherical harmonics.

For unit tokens ``x_j`` of dimension d = 2 or 3 the kernel of softmax attention is a series in harmonics,

.. math::
    e^{q \cdot x} / w_0(r) = \sum_l \frac{w_l(r)}{w_0(r)} \sum_m c_{lm}\, Y_{lm}(q / r)\, Y_{lm}(x), \qquad r = |q|,

with modified Bessel functions :math:`w_l = I_l` (d = 2) or the spherical ones :math:`i_l` (d = 3), which fall off faster
than geometrically beyond ``l = r``. Sums over tokens with any charges are then moments of the tokens, computed once, and
evaluated at each query: ``O(n degree^(d-1))`` in place of ``n^2``, to rounding. Ratios of Bessel functions come from their
continued fraction, multiplied into the recurrences of the harmonics, so that only q and r^2 occur: nothing is singular at
q = 0 or at poles.

The relative error of a row is its absolute one over ``z = sum_j e^(q . x_j - r) / n``, which is small where no token lies
near the query's direction. Rows for which ``z`` does not warrant an error of 1e-12, or whose query is longer than foreseen,
are found, and then all rows are taken by blocks (see ``chunked``).

References:
    Abramowitz and Stegun, 9.6.34 and 10.2.36; Gautschi, *Computational aspects of three-term recurrence relations*, 1967.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctsa._backend import backend, rounding

from .heads import Heads, act, inverse_temperature, lift

Array = Any

TAIL, WANTED = 1e-15, 4500  # of the series that is left out; error of a row, in roundings of the dtype: 1e-12
_KEYS, _QUERIES = 1024, 256  # tokens whose harmonics are in memory together


@functools.lru_cache(256)
def degree(d: int, reach: float, tail: float = TAIL) -> int:
    """Return the even degree from which on the series is left out: all of it is at most ``tail e^r`` for ``r <= reach``."""
    r = max(float(reach), 1e-30)
    most = int(60 + 2 * r + 10 * math.sqrt(r))
    ratio, s = np.zeros(most + 2), 0.0
    for k in range(most + 1, 0, -1):  # w_k / w_(k - 1), from the continued fraction
        s = r / ((2 * k if d == 2 else 2 * k + 1) + r * s)
        ratio[k] = s
    w = np.concatenate([[1.0], np.cumprod(ratio[1:])])
    share = w * (np.where(np.arange(most + 2) == 0, 1.0, 2.0) if d == 2 else 2 * np.arange(most + 2) + 1.0)
    left = np.cumsum((share / share.sum())[::-1])[::-1][1:]
    found = max(2, int(np.argmax(left <= tail)))
    return found + found % 2


def sums(x: Array, q: Array, charges: Array, top: int) -> tuple[Array, Array]:
    """Return ``sum_j e^(q_i . x_j) c_j / w_0(|q_i|)`` and ``e^r / w_0(r)`` of every query.

    Args:
        x: unit tokens ``(n, d)``.
        q: queries ``(m, d)``.
        charges: ``(n, p)``.
        top: degree of the series.

    Returns:
        ``(m, p)`` and ``(m,)``.
    """
    be, d = backend(x), x.shape[1]
    multipoles = moments(x, charges, top)

    m = q.shape[0]
    size = min(m, _QUERIES)
    blocks = -(-m // size)
    if blocks * size > m:
        q = be.xp.concatenate([q, q[: blocks * size - m]])

    def evaluated(each: tuple) -> Array:
        rows, total = harmonics(each[0], top, True)
        return be.xp.concatenate([rows.mT @ multipoles, total[:, None]], -1)

    found = be.map(be.remat(evaluated), (q.reshape(blocks, size, d),)).reshape(blocks * size, -1)[:m]
    return found[:, :-1], found[:, -1]


def moments(x: Array, charges: Array, top: int) -> Array:
    """Return ``sum_j Y_a(x_j) c_j`` of unit tokens ``(n, d)`` with charges ``(n, p)``: ``(features, p)``."""
    be, (n, d) = backend(x), x.shape
    size = min(n, _KEYS)
    blocks = -(-n // size)
    if blocks * size > n:
        more = blocks * size - n
        x = be.xp.concatenate([x, x[:more]])
        charges = be.xp.concatenate([charges, 0 * charges[:more]])
    parts = (x.reshape(blocks, size, d), charges.reshape(blocks, size, -1))
    return be.map(be.remat(lambda each: harmonics(each[0], top)[0] @ each[1]), parts).sum(0)


def harmonics(p: Array, top: int, query: bool = False) -> tuple[Array, Array]:
    """Return the harmonics of tokens ``(B, d)``, or those of queries times ``w_l / w_0``; and ``e^r / w_0`` of queries.

    The product of those of a query and of a token, summed, is ``e^(q . x) / w_0(r)``.

    Returns:
        ``(features, B)`` and ``(B,)``.
    """
    be, (size, d) = backend(p), p.shape
    r2 = (p * p).sum(-1)
    ratios = _ratios(be, r2, top, d) if query else be.xp.ones_like(r2) + be.like(np.zeros((top, 1)), p)
    i = be.xp.arange(1)[0]  # an integer of the framework
    if d == 2:
        rows = be.scan(be.partial(_circular, ratios, p), (be.xp.ones_like(r2), be.xp.zeros_like(r2), i), top)[1]
        rows = (2 * rows if query else rows).reshape(2 * top, size)
        rows = be.xp.concatenate([be.xp.ones_like(r2)[None], rows])
    else:
        tables = tuple(be.like(a, p) for a in _tables(top))
        first = be.like(np.eye(top + 1)[0], p)[:, None] * be.xp.ones_like(r2)
        first = be.xp.stack([first, be.xp.zeros_like(first)])  # (2, top + 1, B): real and imaginary parts, m = 0 ... top
        weight = r2 if query else be.xp.ones_like(r2)
        step = be.partial(_spherical, ratios, p, weight, tables)
        start = (first, be.xp.zeros_like(first), be.xp.ones_like(r2), be.xp.zeros_like(r2), be.xp.ones_like(r2), i)
        rows = be.scan(step, start, top)[1]
        rows = be.xp.concatenate([first[None], rows]).reshape(-1, size)
    return rows, (_total(be, ratios, r2, d) if query else r2)


def _ratios(be: Any, r2: Array, top: int, d: int) -> Array:
    """Return ``f_l = w_l / (r w_(l - 1))`` for l = 1 ... top, ``(top, B)``, downward from a bound on the rest (Amos)."""
    nu = top + (1.0 if d == 2 else 1.5)
    s = r2 / (nu + 0.5 + ((nu + 1.5) ** 2 + r2) ** 0.5)
    odd = be.like(0.0 if d == 2 else 1.0, r2)
    found = be.scan(be.partial(_fraction, r2, odd), (s, be.like(float(top), r2)), top)[1]
    return be.xp.flip(found, (0,))


def _fraction(r2: Array, odd: Array, carry: tuple) -> tuple:
    s, k = carry
    f = 1.0 / (2.0 * k + odd + s)
    return (r2 * f, k - 1.0), f


def _total(be: Any, ratios: Array, r2: Array, d: int) -> Array:
    """Return ``e^r / w_0``: the series at the query's own direction."""
    top = ratios.shape[0]
    small = r2 > 0
    r = be.xp.where(small, be.xp.where(small, r2, be.xp.ones_like(r2)) ** 0.5, be.xp.zeros_like(r2))
    powers = be.xp.cumprod(ratios * r, 0)
    times = np.full(top, 2.0) if d == 2 else 2.0 * np.arange(1, top + 1) + 1
    return 1.0 + (be.like(times, r2)[:, None] * powers).sum(0)


def _at(a: Array, i: Array) -> Array:
    """Return ``a[i]`` for a number ``i`` that a loop carries."""
    return a[i]


def _circular(ratios: Array, p: Array, carry: tuple) -> tuple:
    re, im, i = carry
    f = _at(ratios, i)
    x, y = f * p[:, 0], f * p[:, 1]
    re, im = x * re - y * im, x * im + y * re
    return (re, im, i + 1), backend(re).xp.stack([re, im])


def _spherical(ratios: Array, p: Array, r2: Array, tables: tuple, carry: tuple) -> tuple:
    above, two_above, re, im, before, i = carry
    f = _at(ratios, i)
    a, b, diagonal, place = (_at(table, i) for table in tables)
    x, y, z = f * p[:, 0], f * p[:, 1], f * p[:, 2]
    re, im = diagonal * (x * re - y * im), diagonal * (x * im + y * re)
    u = a[:, None] * z * above - b[:, None] * (r2 * f * before) * two_above
    u = u + place[:, None] * backend(re).xp.stack([re, im])[:, None]
    return (u, above, re, im, f, i + 1), u


@functools.lru_cache(64)
def _tables(top: int) -> tuple[np.ndarray, ...]:
    """Return the coefficients of the recurrence in l = 1 ... top, normalised to ``sum_m Y_lm(x)^2 = 2 l + 1``."""
    a, b, diagonal = np.zeros((top, top + 1)), np.zeros((top, top + 1)), np.zeros(top)
    for l in range(1, top + 1):
        m = np.arange(l)
        a[l - 1, :l] = np.sqrt((2 * l - 1.0) * (2 * l + 1) / ((l - m) * (l + m)))
        m = np.arange(l - 1)
        b[l - 1, : l - 1] = np.sqrt((2 * l + 1.0) * (l + m - 1) * (l - m - 1) / ((l - m) * (l + m) * (2 * l - 3.0)))
        diagonal[l - 1] = math.sqrt(3.0) if l == 1 else math.sqrt((2 * l + 1) / (2 * l))
    return a, b, diagonal, np.eye(top + 1)[1:]


def fits(heads: Heads, d: int) -> str:
    """Return why attention cannot be taken by harmonics, "" if it can."""
    if d not in (2, 3):
        return f"tokens have {d} components, and harmonics are for the circle and the two-sphere (2 or 3)"
    if heads.weights.name not in ("softmax", "unnormalised"):
        return f"weights={heads.weights.name!r} are not exponentials of scores"
    if heads.mask is not None or heads.causal:
        return "there is a mask, and moments are of all tokens"
    return "there is a key_field" if heads.key_field is not None else ""


def reach_of(heads: Heads) -> float:
    """Return a bound on the length of queries ``beta A^T x``, rounded up to a grid of 2^(1/8): few programs arise.

    Raises:
        ValueError: a parameter is traced.
    """
    from ctsa.checks import concrete

    values = [None if a is None else concrete(a) for a in (heads.query, heads.key, heads.beta)]
    if any(a is None and given is not None for a, given in zip(values, (heads.query, heads.key, heads.beta))):
        raise ValueError(
            "how='harmonic' needs the values of beta, query and key when the field is made: make it outside of jit and grad"
        )
    q, k, beta = values
    a = None if q is None and k is None else q if k is None else k if q is None else k.swapaxes(-1, -2) @ q
    norm = np.array(1.0) if a is None else np.linalg.norm(a, 2, axis=(-2, -1))
    longest = float(np.max(np.abs(np.asarray(beta)) * norm))
    return 2.0 ** (math.ceil(8 * math.log2(longest)) / 8) if longest > 2**-20 else 2.0**-20


def harmonic_output(heads: Heads, x: Array, reach: float, fallback: Callable[[Array], Array]) -> Array:
    """Return the output of attention of unit tokens ``(n, d)``; by ``fallback(x)`` if a row is not exact enough.

    Harmonics know directions only. What a change of length of ``x_j`` would do, ``e^(q . x_j) (1 + (|x_j| - 1) q . x_j)``,
    joins as charges that vanish on the sphere, so that first derivatives in all directions are those of attention.
    """
    be, (n, d) = backend(x), x.shape
    xp, q = be.xp, _queries(heads, x)
    length = (x * x).sum(-1, keepdims=True) ** 0.5
    unit, more = x / length, length - 1.0
    pairs = (more[:, :, None] * unit[:, :, None] * x[:, None, :]).reshape(n, d * d)
    charges = xp.concatenate([xp.ones_like(length), x, more * unit, pairs], -1)
    rows = q.reshape(-1, d)
    found, total = sums(unit, rows, charges, degree(d, reach))
    plain, moved = found[:, : 1 + d], found[:, 1 + d :]
    extra = (moved[:, :d] * rows).sum(-1, keepdims=True)
    turned = (moved[:, d:].reshape(-1, d, d) * rows[:, :, None]).sum(-2)
    plain = plain + xp.concatenate([extra, turned], -1)
    y = act(heads.value, _weighed(heads, plain, total, q, n)[..., 1:])
    y = y.sum(-3) if heads.headed else y
    good = trusted(plain[:, 0], total, rows, n, reach) & on_sphere(x)
    return be.cond(good, lambda _: y, fallback, x)


def on_sphere(x: Array) -> Array:
    """Tell whether all tokens have the length 1, up to rounding."""
    be = backend(x)
    return be.xp.all(be.xp.abs((x * x).sum(-1) - 1.0) <= 64 * rounding(x))


class Harmonic(NamedTuple):
    """That attention is taken by harmonics, with queries of at most this length."""

    reach: float


def harmonic_tangent(
    heads: Heads, x: Array, u: Array, reach: float, fallback: Callable[[tuple], tuple]
) -> tuple[Array, Array]:
    """Return the output and its derivative along directions ``(k, n, d)``; by ``fallback((x, u))`` if need be.

    The closed form of ``dense`` in means over tokens j with the weights of a row i: of ``x_j``, ``x_j x_j^T``, ``u_j``, and
    ``x_j u_j^T``.
    """
    be, (n, d), k = backend(x), x.shape, u.shape[0]
    xp, q, dq = be.xp, _queries(heads, x), _queries(heads, u)
    pairs = (x[:, :, None] * x[:, None, :]).reshape(n, d * d)
    moved = xp.moveaxis(u, 0, 1)  # (n, k, d)
    crossed = (x[:, None, :, None] * moved[:, :, None, :]).reshape(n, -1)
    charges = xp.concatenate([xp.ones_like(x[:, :1]), x, pairs, moved.reshape(n, k * d), crossed], -1)
    found, total = sums(x, q.reshape(-1, d), charges, degree(d, reach))
    means = _weighed(heads, found, total, q, n)
    edges = np.cumsum([1, d, d * d, k * d])
    _, m, second, du, cross = (means[..., a:b] for a, b in zip((0, *edges), (*edges, means.shape[-1])))
    rows = means.shape[:-1]
    second, du = second.reshape(*rows, d, d), xp.moveaxis(du.reshape(*rows, k, d), -2, 0)
    cross = xp.moveaxis(cross.reshape(*rows, k, d, d), -3, 0)
    # sum_j a_ij x_j (<dq_i, x_j> + <q_i, u_j>), less the same of a_ij times the mean
    dm = (second @ dq[..., None])[..., 0] + (cross @ q[..., None])[..., 0] + du
    if heads.weights.normalised:
        dm = dm - m * ((m * dq).sum(-1, keepdims=True) + (du * q).sum(-1, keepdims=True))
    y, dy = act(heads.value, m), act(heads.value, dm)
    y, dy = (y.sum(-3), dy.sum(-3)) if heads.headed else (y, dy)
    good = trusted(found[:, 0], total, q.reshape(-1, d), n, reach) & on_sphere(x)
    return be.cond(good, lambda _: (y, dy), fallback, (x, u))


def _queries(heads: Heads, x: Array) -> Array:
    """Return ``beta K^T Q x``: what tokens are multiplied with, ``(..., [heads,] n, d)``."""
    q = act(heads.query, lift(heads, x))
    return inverse_temperature(heads) * (q if heads.key is None else q @ heads.key)


def _weighed(heads: Heads, found: Array, total: Array, q: Array, n: int) -> Array:
    """Return means with the weights of a row, ``([heads,] n, p)``."""
    if heads.weights.normalised:
        means = found / found[:, :1]
    else:
        means = found * (backend(found).xp.exp((q * q).sum(-1).reshape(-1) ** 0.5) / (total * n))[:, None]
    return means.reshape(*q.shape[:-1], -1)


def trusted(z: Array, total: Array, q: Array, n: int, reach: float) -> Array:
    """Tell whether every row is as exact as wanted: enough tokens near its query's direction, and a query within reach."""
    xp = backend(z).xp
    enough = z >= n * total * ((TAIL + 8 * rounding(z)) / (WANTED * rounding(z)))
    return xp.all(enough & ((q * q).sum(-1) <= reach**2 * (1 + 1e-9)))
