"""Attention in its usual parametrisation: projections of a head's width, biases, positions; and its derivative.

With ``q_i = beta T_i (Q x_i + b_q)``, ``k_j = T_j' (K x_j + b_k)`` and ``v_j = T_j'' (V x_j + b_v)`` of a head's width m,
the output is ``sum_heads O T_i''' sum_j a_ij v_j + b_o``. Everything between the projections happens in R^m, so that a head
costs what its width is. All arrays have an axis of heads here.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from ctsa._backend import backend

from .chunked import Side, blocks_pay, output_in_blocks, tangent_in_blocks
from .dense import by_scores, in_chunks
from .heads import masses_of, total_of
from .positions import turned
from .weights import Weights

Array = Any


@dataclass(frozen=True)
class Projected:
    """The parameters, each with an axis of heads.

    Shapes: query, key, value ``(heads, m, d)``; output ``(heads, d, m)``; biases ``(heads, 1, m)``; beta ``(heads, 1, 1)``;
    turns, blocks ``(heads, n, planes, 2, 2)`` or without heads; mask ``(heads, n, n)`` or ``(n, n)``; masses ``(n,)``.
    None is the identity, or the absence of a term.
    """

    query: Array | None
    key: Array | None
    value: Array | None
    output: Array | None
    beta: Array
    weights: Weights
    mask: Array | None
    causal: bool
    query_bias: Array | None
    key_bias: Array | None
    value_bias: Array | None
    turn_query: Array | None
    turn_key: Array | None
    turn_value: Array | None
    turn_output: Array | None
    halves: bool
    count: int
    masses: Array | None = None


def _act(matrix: Array | None, x: Array) -> Array:
    if matrix is None:
        return x
    if matrix.ndim == 3 and x.shape[-3] == 1 and x.ndim > 3:  # all heads look at the same tokens: one product
        h, m, d = matrix.shape
        z = x[..., 0, :, :] @ matrix.reshape(h * m, d).mT
        return backend(z).xp.swapaxes(z.reshape(*z.shape[:-1], h, m), -3, -2)
    return x @ matrix.mT


def _back(matrix: Array | None, z: Array) -> Array:
    """Return ``M^T z`` for rows ``z``."""
    return z if matrix is None else z @ matrix


def _project(p: Projected, name: str, x: Array, bias: bool = True) -> Array:
    """Return queries, keys or values of tokens ``(..., 1, n, d)``, or of directions, which have no bias."""
    z, b = _act(getattr(p, name), x), getattr(p, f"{name}_bias")
    return turned(getattr(p, f"turn_{name}"), z if b is None or not bias else z + b, p.halves)


def _combine(p: Projected, y: Array) -> Array:
    """Return the output of heads ``(..., heads, n, m)``: ``(..., n, d)``."""
    y = turned(p.turn_output, y, p.halves)
    if p.output is None:
        return y.sum(-3)
    xp, d = backend(y).xp, p.output.shape[1]
    if p.output.shape[0] == 1:
        return y.sum(-3) @ p.output[0].mT
    y = xp.broadcast_to(y, (*y.shape[:-3], p.output.shape[0], *y.shape[-2:]))
    y = xp.swapaxes(y, -3, -2).reshape(*y.shape[:-3], y.shape[-2], -1)  # sum over heads and widths in one product
    return y @ xp.swapaxes(p.output, -2, -1).reshape(-1, d)


def _queries(p: Projected, x: Array) -> Array:
    """Return the scaled queries of tokens ``(..., 1, n, d)``: the matrix is scaled, which is smaller than they are."""
    if p.query is None:
        return p.beta * _project(p, "query", x)
    z = _act(p.beta * p.query, x)
    return turned(p.turn_query, z if p.query_bias is None else z + p.beta * p.query_bias, p.halves)


def _side(p: Projected, x: Array) -> Side:
    """Return queries, keys and values of tokens ``(..., n, d)``."""
    xh = x[..., None, :, :]
    q, k = _queries(p, xh), _project(p, "key", xh)
    column = -0.5 * p.beta * (k * k).sum(-1, keepdims=True) if p.weights.distance else None
    return Side(q, k, _project(p, "value", xh), column, None if p.causal else p.mask, p.causal, p.masses)


def _scored(p: Projected, x: Array) -> tuple[Array, Array, Array, Array | None]:
    """Return scores, scaled queries, keys, and the mask times the masses."""
    xp, xh = backend(x).xp, x[..., None, :, :]
    q, k = _queries(p, xh), _project(p, "key", xh)
    s = q @ k.mT
    if p.weights.distance:
        s = s - 0.5 * p.beta * (k * k).sum(-1, keepdims=True).mT
    if s.shape[-3] != p.beta.shape[-3]:  # heads that differ in beta alone
        s = s + xp.zeros_like(p.beta)
    mask, row = None if p.mask is None else backend(s).stop_gradient(p.mask), masses_of(p.masses)
    mask = xp.tril(xp.ones_like(s)) if p.causal else mask
    return s, q, k, mask if row is None else row if mask is None else mask * row


def projected_scores(p: Projected, x: Array) -> Array:
    """Return the scores ``(..., heads, n, n)``."""
    return _scored(p, x)[0]


def projected_weights(p: Projected, x: Array) -> Array:
    """Return the attention weights ``(..., heads, n, n)``."""
    s, _, _, mask = _scored(p, x)
    return p.weights(s, mask, total_of(p.masses))


def projected_output(p: Projected, x: Array) -> Array:
    """Return the output ``(..., n, d)``, without the output bias."""
    if blocks_pay(p.weights, x, p.count):
        return _combine(p, output_in_blocks(p.weights, _side(p, x)))
    return _combine(p, projected_weights(p, x) @ _project(p, "value", x[..., None, :, :]))


def projected_tangent(p: Projected, x: Array, u: Array, largest: int) -> tuple[Array, Array]:
    """Return the output and its derivative along directions ``(k, ..., n, d)``; no temporary exceeds ``largest``."""
    if blocks_pay(p.weights, x, p.count, u.shape[0]):
        side = _side(p, x)
        y, dy = tangent_in_blocks(p.weights, side, by_scores, partial(_differentials, p, side.key), u)
        return _combine(p, y), _combine(p, dy)
    s, q, key, mask = _scored(p, x)
    a, w = p.weights.with_slope(s, mask, total_of(p.masses))
    v = _project(p, "value", x[..., None, :, :])
    y = a @ v
    size = max(1, largest // max(1, int(_numbers(a))))
    return _combine(p, y), in_chunks(_along, p, (q, key, a, w, v, y), u, size)


def _numbers(a: Array) -> int:
    count = 1
    for size in a.shape:
        count *= int(size)
    return count


def _along(p: Projected, parts: tuple, u: Array) -> Array:
    return _combine(p, by_scores(p.weights, parts, _differentials(p, parts[1], u)))


def _differentials(p: Projected, key: Array, u: Array) -> tuple[Array, Array, Array | None, Array]:
    """Return those of queries, keys, of what scores have of the key alone, and of values."""
    uh = u[..., None, :, :]
    dk = _project(p, "key", uh, bias=False)
    g = -p.beta * (key * dk).sum(-1, keepdims=True) if p.weights.distance else None
    return p.beta * _project(p, "query", uh, bias=False), dk, g, _project(p, "value", uh, bias=False)


def projected_compressed(p: Projected, x: Array, left: Array, right: Array) -> tuple[Array, Array, Array]:
    """Return the output, and ``L_i^T (dy_i/dx_j) R_j`` between bases ``(..., n, d, r)`` and ``(..., n, d, s)``.

    The bases meet the projections first: what is left has the width of a head.

    Returns:
        ``(..., n, d)``; ``(..., n, r, n, s)``; and what comes on top for ``j = i``, ``(..., n, r, s)``.
    """
    s_, q, key, mask = _scored(p, x)
    a, w = p.weights.with_slope(s_, mask, total_of(p.masses))
    v = _project(p, "value", x[..., None, :, :])
    y = a @ v
    lead = _through(p, left, p.output, p.turn_output, back=True)  # (..., h, n, r, m): (O T_i)^T L_i, as rows
    reach = lead @ v[..., None, :, :].mT  # (..., h, n, r, n)
    if p.weights.normalised:
        reach = reach - lead @ y[..., None]
    of_key, of_value, of_query = (
        _through(p, right, getattr(p, name), getattr(p, f"turn_{name}")) for name in ("key", "value", "query")
    )  # (..., h, n, s, m)
    n, s = right.shape[-3], right.shape[-1]

    def against(rows, columns):  # <rows_i, columns_j> for all i, r, j, s
        wide = columns.reshape(*columns.shape[:-3], n * s, columns.shape[-1])
        flat = rows.reshape(*rows.shape[:-3], -1, rows.shape[-1]) @ wide.mT
        return flat.reshape(*flat.shape[:-2], n, -1, n, s)

    slope = against(q[..., :, None, :], of_key)  # (..., h, n, 1, n, s)
    if p.weights.distance:
        pull = p.beta * (of_key * key[..., :, None, :]).sum(-1)  # (..., h, n, s)
        slope = slope - pull[..., None, None, :, :]
    moved = w[..., :, None, :] * reach
    full = moved[..., None] * slope + a[..., :, None, :, None] * against(lead, of_value)
    own = (moved @ (p.beta * key)[..., None, :, :]) @ of_query.mT  # (..., h, n, r, m) (..., h, n, m, s)
    return _combine(p, y), full.sum(-5), own.sum(-4)


def _through(p: Projected, basis: Array, matrix: Array | None, turn: Array | None, back: bool = False) -> Array:
    """Return the vectors of bases ``(..., n, d, r)`` after a projection, or its transpose: ``(..., h, n, r, m)``."""
    rows = basis.mT[..., None, :, :, :]  # (..., 1, n, r, d)
    each = None if matrix is None else matrix[:, None]  # (h, 1, m, d)
    z = _back(each, rows) if back else _act(each, rows)
    blocks = None if turn is None else turn[..., None, :, :, :]  # an axis for r
    if back and blocks is not None:
        blocks = blocks.mT
    return turned(blocks, z, p.halves)
