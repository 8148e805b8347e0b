"""Attention and its derivative in closed form on whole score matrices, in three ways that give the same numbers.

With scores ``s``, weights ``a``, local slopes ``w = da/ds`` (before normalisation), scaled queries ``q_i = beta Q x_i``,
keys ``k_j = K x_j`` and values ``v_j = V x_j``, the derivative of ``y_i = sum_j a_ij v_j`` along ``u`` is::

    ds_ij = <dq_i, k_j> + <q_i, dk_j> + g_j,       dq = beta Q u,  dk = K u,
    dy_i  = sum_j w_ij ds_ij (v_j - [normalised] y_i) + sum_j a_ij V u_j,

where ``g_j`` is the key field's part (and, for l2, ``-beta <k_j, dk_j>``). Three forms give the same numbers:

- **scores**: ``ds`` is formed: k n^2 temporaries, cheapest for wide tokens;
- **outer**: ``sum_j w_ij <q_i, dk_j> v_j = [sum_j w_ij v_j (x) dk_j] q_i``, one product of ``w`` with the outer
  products; nothing of size k n^2 exists;
- **assembled**: the Jacobian (n d, n d) is built once and multiplied with all directions: cheapest for many directions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ctsa._backend import backend
from ctsa.derivatives import apply_jacobian

from .heads import Heads, act, inverse_temperature, lift, mask_of, score_parts, total_of
from .weights import Weights

Array = Any

# Largest temporary in numbers: directions are handled in chunks so that none exceeds it (128 MiB in float64).
LARGEST = 2**24


def assembled_fits(n: int, d: int, heads: int) -> bool:
    """Tell whether the Jacobians of all heads stay below ``LARGEST``."""
    return heads * (n * d) ** 2 <= LARGEST


class Parts(NamedTuple):
    """Scaled queries, keys, weights, their slopes, values and outputs, a head at a time."""

    q: Array
    key: Array
    a: Array
    w: Array
    v: Array
    y: Array


def parts_of(heads: Heads, x: Array) -> Parts:
    """Evaluate attention with all that its derivative needs."""
    xh = lift(heads, x)
    s, q, key = score_parts(heads, xh)
    a, w = heads.weights.with_slope(s, mask_of(heads, s), total_of(heads.masses))
    v = act(heads.value, xh)
    return Parts(q, key, a, w, v, a @ v)


def along(heads: Heads, parts: Parts, u: Array, form: str) -> Array:
    """Return the derivative of the output along directions ``(k, ..., n, d)`` in one of the three forms."""
    if form == "assembled":
        return apply_jacobian(jacobian(heads, parts), u)
    (n, d), m = parts.v.shape[-2:], parts.q.shape[-1]
    each = math.prod(parts.a.shape[:-2]) * n * (n if form == "scores" else (d + 1) * m)
    return in_chunks(_summed_rule, heads, (RULES[form], parts), u, max(1, LARGEST // each))


def _summed_rule(heads: Heads, how: tuple, u: Array) -> Array:
    rule, parts = how
    dy = rule(heads.weights, parts, differentials(heads, parts.key, u))
    return dy.sum(-3) if heads.headed else dy


def in_chunks(rule: Any, heads: Any, parts: Any, u: Array, size: int) -> Array:
    """Return ``rule(heads, parts, u)``, of ``size`` directions at a time."""
    k = u.shape[0]
    if k <= size:
        return rule(heads, parts, u)
    be = backend(u)
    chunks = -(-k // size)
    padding = chunks * size - k
    if padding:
        u = be.xp.concatenate([u, be.xp.zeros_like(u[:padding])])
    dy = be.map(be.partial(rule, heads, parts), u.reshape(chunks, size, *u.shape[1:]))
    return dy.reshape(chunks * size, *dy.shape[2:])[:k]


def differentials(heads: Heads, key: Array, u: Array) -> tuple[Array, Array, Array | None, Array]:
    """Return dq, dk, the part of ds that depends on j alone (..., n, 1) or None, and V u."""
    uh = lift(heads, u)
    dk = act(heads.key, uh)
    g = None
    if heads.key_field is not None:
        g = inverse_temperature(heads) * (uh @ heads.key_field[..., None])
    if heads.weights.distance:
        pull = inverse_temperature(heads) * (key * dk).sum(-1, keepdims=True)
        g = -pull if g is None else g - pull
    return inverse_temperature(heads) * act(heads.query, uh), dk, g, act(heads.value, uh)


def by_scores(weights: Weights, parts: tuple, differentials: tuple) -> Array:
    """Return the derivative of the output, or of some of its rows: those of q, a, w, y and dq."""
    q, key, a, w, v, y = parts
    dq, dk, g, du = differentials
    ds = dq @ key.mT + q @ dk.mT
    wds = w * (ds if g is None else ds + g.mT)
    dy = wds @ v + a @ du
    return dy - wds.sum(-1, keepdims=True) * y if weights.normalised else dy


def _mix(a: Array, z: Array, axes: int) -> Array:
    """Return ``sum_j a_ij z_j`` by one matrix product; the last ``axes`` axes of ``z`` are those of one ``z_j``."""
    y = a @ z.reshape(*z.shape[:-axes], math.prod(z.shape[-axes:]))
    return y.reshape(*y.shape[:-1], *z.shape[-axes:])


def by_outer(weights: Weights, parts: tuple, differentials: tuple) -> Array:
    """Return the same by outer products, which need no derivative of the scores."""
    q, key, a, w, v, y = parts
    dq, dk, g, du = differentials
    xp = backend(dq).xp
    one = xp.ones_like(v[..., :1])
    v1 = xp.concatenate([v, one], -1) if weights.normalised else v  # the last column sums w ds itself
    # Directions go beside the columns, so that one product with w serves them all.
    dk_last = xp.moveaxis(dk, 0, -2)  # (..., n, k, m)
    outer = v1[..., None, :, None] * dk_last[..., :, None, :]  # (..., n, k, e, m)
    dy1 = (_mix(w, outer, 3) * q[..., None, None, :]).sum(-1)  # (..., n, k, e)
    if g is not None:
        dy1 = dy1 + _mix(w, xp.moveaxis(g, 0, -2) * v1[..., None, :], 2)
    own = _mix(w, v1[..., :, None] * key[..., None, :], 2)  # sum_j w_ij v_j (x) k_j: (..., n, e, m)
    dy1 = xp.moveaxis(dy1, -2, 0) + (own @ dq[..., None])[..., 0]
    dy = dy1[..., : v.shape[-1]] + xp.moveaxis(_mix(a, xp.moveaxis(du, 0, -2), 2), -2, 0)
    return dy - dy1[..., -1:] * y if weights.normalised else dy


RULES: dict[str, Callable[[Weights, tuple, tuple], Array]] = {"scores": by_scores, "outer": by_outer}


def jacobian(heads: Heads, parts: Parts) -> Array:
    """Return dy/dx as (..., n d, n d), heads summed.

    ``dy_i/dx_j = w_ij (v_j - y_i) (K^T q_i + beta r - [l2] beta K^T k_j)^T + a_ij V
    + delta_ij sum_l w_il (v_l - y_i) (beta Q^T k_l)^T``.
    """
    q, key, a, w, v, y = parts
    be, beta = backend(a), inverse_temperature(heads)

    def back(matrix, z):  # rows times a matrix: M^T z
        return z if matrix is None else z @ matrix

    normalised = heads.weights.normalised
    rel = v[..., None, :, :] - y[..., :, None, :] if normalised else v[..., None, :, :] + 0 * y[..., :, None, :]
    wrel = w[..., None] * rel  # (..., i, j, d)
    slope = back(heads.key, q)  # (..., i, d)
    if heads.key_field is not None:
        slope = slope + beta * heads.key_field[..., None, :]
    slope = slope[..., :, None, :]
    if heads.weights.distance:
        slope = slope - (beta * back(heads.key, key))[..., None, :, :]
    blocks = wrel[..., :, None] * slope[..., None, :]  # (..., i, j, d, d)
    n, d = v.shape[-2:]
    value = be.eye(d, v) if heads.value is None else heads.value
    value = value[..., None, None, :, :]
    blocks = blocks + a[..., None, None] * value
    own = wrel.mT @ (beta * back(heads.query, key))[..., None, :, :]  # (..., i, d, d)
    if heads.headed:
        blocks, own = blocks.sum(-5), own.sum(-4)
    blocks = blocks + be.eye(n, v)[:, :, None, None] * own[..., :, None, :, :]
    return be.xp.swapaxes(blocks, -3, -2).reshape(*blocks.shape[:-4], n * d, n * d)


def compressed(heads: Heads, parts: Parts, left: Array, right: Array) -> tuple[Array, Array]:
    """Return ``L_i^T (dy_i/dx_j) R_j`` with bases ``(..., n, d, r)`` and ``(..., n, d, s)`` given token by token.

    The blocks of ``jacobian``, without forming it: first the bases meet the few vectors that the blocks are made of.

    Returns:
        ``(..., n, r, n, s)``, and what comes on top for ``j = i``, ``(..., n, r, s)``.
    """
    q, key, a, w, v, y = parts
    xp, beta = backend(a).xp, inverse_temperature(heads)
    (n, d, r), s = left.shape[-3:], right.shape[-1]

    def back(matrix, z):  # M^T z
        return z if matrix is None else z @ matrix

    def beside(z):  # an axis of heads in front of (n, d, r)
        return z[..., None, :, :, :] if heads.headed else z

    rows = lift(heads, left.mT.reshape(*left.shape[:-3], n * r, d))  # L_i^T, all below each other
    columns = lift(heads, xp.swapaxes(right, -3, -2).reshape(*right.shape[:-3], d, n * s))  # R_j, side by side
    left, right = beside(left), beside(right)
    reach = rows @ v.mT  # L_i^T v_j
    reach = reach.reshape(*reach.shape[:-2], n, r, n)
    if heads.weights.normalised:
        reach = reach - left.mT @ y[..., None]
    slope = back(heads.key, q)
    if heads.key_field is not None:
        slope = slope + beta * heads.key_field[..., None, :]
    slope = slope @ columns
    slope = slope.reshape(*slope.shape[:-2], n, 1, n, s)
    if heads.weights.distance:
        pull = (beta * back(heads.key, key))[..., None, :] @ right  # (..., n, 1, s)
        slope = slope - xp.swapaxes(pull, -3, -2)[..., None, :, :]
    value = back(heads.value, rows) @ columns  # L_i^T V R_j
    value = value.reshape(*value.shape[:-2], n, r, n, s)
    moved = w[..., :, None, :] * reach  # (..., n, r, n)
    if a is w:
        full = a[..., :, None, :, None] * (reach[..., None] * slope + value)
    else:
        full = moved[..., None] * slope + a[..., :, None, :, None] * value
    own = moved @ ((beta * back(heads.query, key))[..., None, :, :] @ right)  # (..., n, r, s)
    return (full.sum(-5), own.sum(-4)) if heads.headed else (full, own)
