r"""Sums of exponentials over tokens of the circle or the two-sphere, by circular and spherical harmonics, in O(n).

.. math::
    e^{q \cdot x} / w_0(r) = \sum_l \frac{w_l(r)}{w_0(r)} \sum_m Y_{lm}(q / r)\, Y_{lm}(x), \qquad r = |q|, \quad |x| = 1,

with modified Bessel functions :math:`w_l = I_l` (d = 2) or the spherical ones :math:`i_l` (d = 3), which fall off faster
than geometrically beyond ``l = r``. Sums over tokens with any charges are then moments of the tokens, computed once, and
evaluated at each query. Ratios of Bessel functions come from their continued fraction, multiplied into the recurrences of
the harmonics, so that only q and r^2 occur: nothing is singular at q = 0 or at poles.

No harmonics are stored: a recurrence in l runs over a block of tokens, and each of its levels enters a small product at
once.

References:
    Abramowitz and Stegun, 9.6.34 and 10.2.36; Gautschi, *Computational aspects of three-term recurrence relations*, 1967.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa._backend import backend

Array = Any

TAIL = 1e-15  # of the series that is left out
_LEVEL = 2**15  # numbers of a level of a block: two levels stay in a processor's cache


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

    Harmonics know directions only. Where a derivative is taken, what a change of length of ``x_j`` does to second order,
    ``e^(q . u) (1 + s + s^2 / 2)``, ``u = x_j / |x_j|``, ``s = (|x_j| - 1) q . u``, joins as charges that vanish on the
    sphere, so that first and second derivatives are right in all directions.

    Args:
        x: unit tokens ``(n, d)``.
        q: queries ``(m, d)``.
        charges: ``(n, p)``.
        top: degree of the series.

    Returns:
        ``(m, p)`` and ``(m,)``.
    """
    return backend(x).differentiated(functools.partial(_plain, top), functools.partial(_stretched, top))(x, q, charges)


def _plain(top: int, x: Array, q: Array, charges: Array) -> tuple[Array, Array]:
    return _evaluated(q, moments(x, charges, top), top)


def _stretched(top: int, x: Array, q: Array, charges: Array) -> tuple[Array, Array]:
    xp, (n, p), d = backend(x).xp, charges.shape, x.shape[-1]
    length = (x * x).sum(-1, keepdims=True) ** 0.5
    unit = x / length
    once = (charges * (length - 1.0))[:, :, None] * unit[:, None, :]  # (n, p, d)
    twice = (0.5 * (length - 1.0))[..., None, None] * once[..., None] * unit[:, None, None, :]
    every = xp.concatenate([charges, once.reshape(n, p * d), twice.reshape(n, p * d * d)], -1)
    found, total = _plain(top, unit, q, every)
    once, twice = found[:, p : p + p * d].reshape(-1, p, d), found[:, p + p * d :].reshape(-1, p, d, d)
    once = once + (twice * q[:, None, None, :]).sum(-1)
    return found[:, :p] + (once * q[:, None, :]).sum(-1), total


def harmonics(x: Array, top: int) -> Array:
    """Return the harmonics of unit tokens ``(n, d)``, ``(top + 1, rows, n)``: of each order the real and imaginary part.

    There are two rows on the circle and ``2 (top + 1)`` on the two-sphere, of orders 0 ... top, zeros beyond ``l``.
    """
    be = backend(x)
    state, read, advance = _levels(x, top)
    last, found = be.scan(be.partial(_listed, read, advance), state, top)
    return be.xp.concatenate([found, read(last)[None]])


def _listed(read: Callable, advance: Callable, state: tuple) -> tuple:
    return advance(state), read(state)


def moments(x: Array, charges: Array, top: int) -> Array:
    """Return the moments of unit tokens ``(n, d)`` with charges ``(n, p)``: ``(top + 1, rows, p)``."""
    be, size = backend(x), _size(x, top)
    parts = _split(be, x, size), _split(be, charges, size)

    def block(each: tuple) -> Array:
        state, read, advance = _levels(each[0], top)
        last, found = be.scan(be.partial(_gather, read, advance, each[1]), state, top)
        return be.xp.concatenate([found, (read(last) @ each[1])[None]])

    block = be.remat(block)

    def add(parts: tuple, carry: tuple) -> tuple:
        found, i = carry
        return (found + block(tuple(_at(a, i) for a in parts)), i + 1), i

    none = be.like(np.zeros((top + 1, _rows(x, top), charges.shape[-1])), charges)
    return be.scan(be.partial(add, parts), (none, _zero(be)), parts[0].shape[0])[0][0]


def _evaluated(q: Array, moments: Array, top: int) -> tuple[Array, Array]:
    """Return the series with these moments at queries ``(m, d)``, ``(m, p)``, and ``e^r / w_0(r)``."""
    be, d, size = backend(q), q.shape[-1], _size(q, top)
    # Harmonics are those of q / scale, which leaves one factor a token and level: few numbers, where a level has many.
    scale = be.xp.amax(be.stop_gradient((q * q).sum(-1))) ** 0.5
    scale = be.xp.where(scale > 0, scale, be.xp.ones_like(scale))
    rows = (be.like(np.where((d == 2) & (np.arange(top + 1) > 0), 2.0, 1.0), q)[:, None, None] * moments).mT

    def block(each: tuple) -> Array:
        (q,) = each
        r2 = (q * q).sum(-1)
        ratios, total = _ratios(be, r2, top, d)
        state, read, advance = _levels(q / scale, top, r2 / scale**2)
        none = be.like(np.zeros((rows.shape[1], 1)), q) * r2
        step = be.partial(_spread, read, advance, rows, scale * ratios)
        found, weight, *last = be.scan(step, (none, be.xp.ones_like(r2), *state), top)[0]
        return be.xp.concatenate([found + weight * (rows[top] @ read(last)), total[None]])

    found = be.map(be.remat(block), (_split(be, q, size),))
    found = be.xp.moveaxis(found, 0, 1).reshape(found.shape[1], -1)[:, : q.shape[0]]
    return found[:-1].mT, found[-1]


def _gather(read: Callable, advance: Callable, charges: Array, state: tuple) -> tuple:
    return advance(state), read(state) @ charges


def _spread(read: Callable, advance: Callable, moments: Array, ratios: Array, carry: tuple) -> tuple:
    found, weight, *state = carry
    i = state[-1]
    found = found + weight * (_at(moments, i) @ read(state))
    return (found, weight * _at(ratios, i), *advance(state)), i


# ------------------------------------------------------------------------------------------------ harmonics, level by level
def _levels(p: Array, top: int, r2: Array | None = None) -> tuple[tuple, Callable, Callable]:
    """Return the state at l = 0, how to read harmonics ``(rows, B)`` off a state, and how to go to the next l.

    Those of vectors ``(B, d)``, ``|p|^l Y_lm(p / |p|)``, with ``r2 = |p|^2``, which is 1 if None.
    """
    be, d = backend(p), p.shape[-1]
    p = p.mT + 0.0  # components side by side in memory
    one, none, i = be.xp.ones_like(p[0]), be.xp.zeros_like(p[0]), _zero(be)
    if d == 2:
        return (one, none, i), _read_circular, be.partial(_circular, p)
    tables = tuple(be.like(a, p) for a in _tables(top))
    first = be.like(np.eye(top + 1)[0][:, None] * [1.0, 0.0], p)[:, :, None] * one
    # (top + 1, 2, B): m = 0 ... top, real and imaginary parts
    return (first, be.xp.zeros_like(first), one, none, i), _read_spherical, be.partial(_spherical, p, r2, tables)


def _read_circular(state: tuple) -> Array:
    re, im, _ = state
    return backend(re).xp.stack([re, im])


def _circular(p: Array, state: tuple) -> tuple:
    re, im, i = state
    return p[0] * re - p[1] * im, p[0] * im + p[1] * re, i + 1


def _read_spherical(state: tuple) -> Array:
    u = state[0]
    return u.reshape(-1, u.shape[-1])


def _spherical(p: Array, r2: Array | None, tables: tuple, state: tuple) -> tuple:
    u, above, re, im, i = state
    be = backend(u)
    a, b, diagonal = (_at(table, i) for table in tables)
    re, im = diagonal * (p[0] * re - p[1] * im), diagonal * (p[0] * im + p[1] * re)
    two_above = b[:, None, None] * above if r2 is None else (b[:, None, None] * r2) * above
    found = be.put((a[:, None, None] * p[2]) * u - two_above, i + 1, be.xp.stack([re, im]))
    return found, u, re, im, i + 1


def _ratios(be: Any, r2: Array, top: int, d: int) -> tuple[Array, Array]:
    """Return ``f_l = w_l / (r w_(l - 1))`` for l = 1 ... top, ``(top, B)``, downward from a bound on the rest (Amos).

    Beside them ``e^r / w_0``, the series at the query's own direction.
    """
    nu = top + (1.0 if d == 2 else 1.5)
    s = r2 / (nu + 0.5 + ((nu + 1.5) ** 2 + r2) ** 0.5)
    odd = be.like(0.0 if d == 2 else 1.0, r2)
    away = r2 > 0
    r = be.xp.where(away, be.xp.where(away, r2, be.xp.ones_like(r2)) ** 0.5, be.xp.zeros_like(r2))
    start = (s, be.xp.zeros_like(r2), be.like(float(top), r2))
    (_, rest, _), found = be.scan(be.partial(_fraction, r2, r, odd), start, top)
    return be.xp.flip(found, (0,)), 1.0 + rest


def _fraction(r2: Array, r: Array, odd: Array, carry: tuple) -> tuple:
    s, rest, k = carry
    f = 1.0 / (2.0 * k + odd + s)
    return (r2 * f, f * r * (2.0 + odd * (2.0 * k - 1.0) + rest), k - 1.0), f


@functools.lru_cache(64)
def _tables(top: int) -> tuple[np.ndarray, ...]:
    """Return the coefficients of the recurrence to l = 1 ... top, normalised to ``sum_m Y_lm(x)^2 = 2 l + 1``."""
    a, b, diagonal = np.zeros((top, top + 1)), np.zeros((top, top + 1)), np.zeros(top)
    for l in range(1, top + 1):
        m = np.arange(l)
        a[l - 1, :l] = np.sqrt((2 * l - 1.0) * (2 * l + 1) / ((l - m) * (l + m)))
        m = np.arange(l - 1)
        b[l - 1, : l - 1] = np.sqrt((2 * l + 1.0) * (l + m - 1) * (l - m - 1) / ((l - m) * (l + m) * (2 * l - 3.0)))
        diagonal[l - 1] = math.sqrt(3.0) if l == 1 else math.sqrt((2 * l + 1) / (2 * l))
    return a, b, diagonal


# ------------------------------------------------------------------------------------------------ blocks
def _rows(p: Array, top: int) -> int:
    return 2 if p.shape[-1] == 2 else 2 * (top + 1)


def _size(p: Array, top: int) -> int:
    """Return the number of tokens of a block, a power of two."""
    return min(p.shape[0], 2 ** int(math.log2(_LEVEL / max(8, _rows(p, top)))))


def _split(be: Any, a: Array, size: int) -> Array:
    """Return blocks of rows; the last one is filled up with zeros: what has no charge does not count."""
    n, blocks = a.shape[0], -(-a.shape[0] // size)
    if blocks * size > n:
        a = be.xp.concatenate([a, be.xp.zeros_like(a[: blocks * size - n])])
    return a.reshape(blocks, size, a.shape[-1])


def _zero(be: Any) -> Array:
    return be.xp.arange(1)[0]  # an integer of the framework


def _at(a: Array, i: Array) -> Array:
    """Return ``a[i]`` for a number ``i`` that a loop carries."""
    return a[i]
