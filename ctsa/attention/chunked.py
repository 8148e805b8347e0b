"""Attention a block of rows at a time: nothing has a score for each pair of tokens.

A row of weights depends on its own query and on all keys. Rows are taken ``size`` at a time, so that memory is
``O(size n)`` and the block stays in the processor's cache; under reverse-mode derivatives a block is computed anew in
place of being kept. The rules are those of ``dense``, which look at rows and never ask how many there are.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ctsa._backend import backend

from .dense import LARGEST, in_chunks
from .heads import masses_of, total_of
from .weights import Weights

Array = Any

BLOCK = 2**18  # scores of a block, which stays in a processor's cache
LEAST = 8  # rows of a block, where they are longer than that
FROM, TOKENS = 2**21, 512  # scores, and tokens, from which blocks are the faster way, see docs/benchmarks.md
SURELY = 4097  # tokens from which they are, whatever else there is: SURELY^2 > LARGEST


class Side(NamedTuple):
    """What attention of some rows needs.

    Attributes:
        q: scaled queries ``(..., n, m)``.
        key: keys ``(..., n, m)``.
        v: values ``(..., n, e)``.
        column: what a score has of its key alone, ``(..., n, 1)``, or None.
        mask: ``(..., n, n)`` or None.
        causal: whether later tokens are left out.
        masses: ``(n,)`` or None.
    """

    q: Array
    key: Array
    v: Array
    column: Array | None
    mask: Array | None
    causal: bool
    masses: Array | None = None


def blocks_pay(weights: Weights, x: Array, heads: int, directions: int = 1) -> bool:
    """Tell whether blocks of rows are faster than, or the only alternative to, the whole matrix for tokens ``(..., n, d)``.

    Many directions share one matrix of weights: then blocks are for what would not fit.
    """
    n, from_ = x.shape[-2], FROM if directions <= 16 else LARGEST
    return weights.rowwise and n >= TOKENS and math.prod(x.shape[:-2]) * heads * n * n > from_


def output_in_blocks(weights: Weights, side: Side) -> Array:
    """Return ``sum_j a_ij v_j``: ``(..., n, e)``."""

    def block(q: Array, rows: Array, mask: Array | None = None) -> Array:
        return weights(*_scored(side, q, rows, mask)) @ side.v

    return _over_rows(block, side, _size(side))


def tangent_in_blocks(
    weights: Weights, side: Side, rule: Callable[..., Array], differentials: Callable[[Array], tuple], u: Array
) -> tuple[Array, Array]:
    """Return the output and its derivative along directions.

    Args:
        weights: with a closed form.
        side: queries, keys and values.
        rule: of ``dense``: ``rule(weights, (q, key, a, w, v, y), (dq, dk, g, du))``.
        differentials: those of queries, keys, columns and values along some directions.
        u: directions ``(k, ..., n, d)``.

    Returns:
        ``(..., n, e)`` and ``(k, ..., n, e)``.
    """
    xp, k = backend(u).xp, u.shape[0]
    size = max(_size(side), min(side.q.shape[-2], 4 * k))  # what a block does once is in proportion to k
    each = size * side.key.shape[-2] * math.prod(_leading(side))
    together = k * each <= LARGEST

    def some(_: Any, __: Any, u: Array) -> Array:
        dq, dk, g, du = differentials(u)

        def block(q: Array, rows: Array, dq: Array, mask: Array | None = None) -> Array:
            a, w = weights.with_slope(*_scored(side, q, rows, mask))
            y = a @ side.v
            dy = rule(weights, (q, side.key, a, w, side.v, y), (dq, dk, g, du))
            return xp.concatenate([y[None], dy]) if together else dy

        return _over_rows(block, side, size, dq)

    if together:
        found = some(None, None, u)
        return found[0], found[1:]
    return output_in_blocks(weights, side), in_chunks(some, None, None, u, max(1, LARGEST // each))


def _leading(side: Side) -> tuple[int, ...]:
    """Return the axes of the scores before rows and columns."""
    a, b = tuple(side.q.shape[:-2]), tuple(side.key.shape[:-2])
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def _size(side: Side) -> int:
    n = side.key.shape[-2]
    return min(side.q.shape[-2], max(LEAST, BLOCK // (n * max(1, math.prod(_leading(side))))))


def _scored(side: Side, q: Array, rows: Array, mask: Array | None) -> tuple[Array, Array | None, Array | None]:
    """Return the scores of a block of rows, its mask times the masses, and the sum of these."""
    s = q @ side.key.mT
    if side.column is not None:
        s = s + side.column.mT
    if side.causal:
        xp = backend(s).xp
        columns = backend(s).like(range(side.key.shape[-2]), s)
        later = columns > rows[..., None]
        mask = xp.where(later, xp.zeros_like(s), xp.ones_like(s))
    masses = masses_of(side.masses)
    if masses is not None:
        mask = masses if mask is None else mask * masses
    return s, mask, total_of(side.masses)


def _over_rows(block: Callable[..., Array], side: Side, size: int, dq: Array | None = None) -> Array:
    """Return what ``block`` returns of all rows, block by block."""
    be, n = backend(side.q), side.q.shape[-2]
    blocks = -(-n // size)
    rows = be.like(range(blocks * size), side.q).reshape(blocks, size)
    parts = [in_blocks(be, side.q, size), rows, *([] if dq is None else [in_blocks(be, dq, size)])]
    parts += [] if side.mask is None else [in_blocks(be, be.stop_gradient(side.mask), size)]
    y = be.xp.moveaxis(be.map(be.remat(lambda each: block(*each)), tuple(parts)), 0, -3)
    return y.reshape(*y.shape[:-3], blocks * size, y.shape[-1])[..., :n, :]


def in_blocks(be: Any, a: Array, size: int) -> Array:
    """Return rows in blocks ``(blocks, ..., size, m)``; the last one is filled up with the first rows."""
    n = a.shape[-2]
    blocks = -(-n // size)
    if blocks * size > n:
        a = be.xp.concatenate([a, a[..., : blocks * size - n, :]], -2)
    return be.xp.moveaxis(a.reshape(*a.shape[:-2], blocks, size, a.shape[-1]), -3, 0)
