r"""Attention among tokens that are spread over devices: keys and values go round, each device keeps its queries.

With one block of keys after the other, the output of softmax attention is known from three running sums a query,

.. math::
    t' = \max(t, \max_j s_j), \quad z' = e^{t - t'} z + \sum_j e^{s_j - t'}, \quad
    y' = e^{t - t'} y + \sum_j e^{s_j - t'} v_j,

and is :math:`y / z` once all keys have come by. (``t`` keeps exponentials from overflowing; the result does not depend on
it, so that it has no derivative.) Weights that look at one score only need ``y`` alone, or ``y`` and ``z``. Here is what
one device does with one block; ``_backend`` passes blocks on.

References:
    Milakov, Gimelshein, *Online normalizer calculation for softmax*, arXiv 1805.02867; Liu, Zaharia, Abbeel, *Ring
    attention with blockwise transformers for near-infinite context*, arXiv 2310.01889.
"""

import math
from functools import partial
from typing import Any, NamedTuple

from ctsa._backend import backend, framework, ring

from .chunked import BLOCK, LEAST, Side, in_blocks
from .heads import Heads
from .weights import Weights, log_mask, softmax_of_rows

Array = Any


class Sums(NamedTuple):
    """Of every query: ``top`` and ``total`` are ``(..., n, 1)``, ``y`` is ``(..., n, e)``."""

    top: Array
    total: Array
    y: Array


def fits_ring(weights: Weights) -> bool:
    """Tell whether rows of weights are known from running sums over blocks of keys."""
    return not callable(weights.rows) or weights.rows is softmax_of_rows


def ring_pays(heads: Heads, x: Array) -> bool:
    """Tell whether a mesh in use spreads tokens ``(..., n, d)`` over devices, and the ring knows such attention."""
    if framework(x) != "jax" or not fits_ring(heads.weights) or heads.masses is not None:
        return False
    count = ring("jax").parts()
    return count > 1 and x.shape[-2] % count == 0


def output_around(weights: Weights, side: Side) -> Array:
    """Return ``sum_j a_ij v_j``: ``(..., n, e)``; tokens and rows of a mask stay on the devices where they are.

    Every device holds its queries, one block of keys and values, and scores for as many of its queries as are taken at a
    time: memory is ``O(n / devices)``. Reverse mode keeps what goes round, ``O(n)`` a device, and computes scores anew.

    Raises:
        ValueError: there is no mesh of devices with an axis "tokens", or it does not divide the number of tokens.
    """
    n = side.key.shape[-2]
    start = partial(_start, weights)
    return ring("jax").around(start, partial(_absorb, weights, side.causal, n), partial(_finish, weights), side)


def _start(weights: Weights, side: Side) -> Sums:
    """Return the sums over no keys, with the heads that any of the arrays has."""
    be = backend(side.q)
    none = 0 * (side.q[..., :1] + side.key[..., :1, :1] + side.v[..., :1, :1])
    for more in (side.column, side.mask):
        none = none if more is None else none + 0 * be.stop_gradient(more)[..., :1, :1]
    top = none + float(be.xp.finfo(side.q.dtype).min) / 2 if callable(weights.rows) else none
    return Sums(top, none, none + 0 * side.v[..., :1, :])


def _absorb(weights: Weights, causal: bool, n: int, sums: Sums, side: Side, rows: Array, columns: Array) -> Sums:
    """Return the sums with one more block of keys, some queries at a time.

    Args:
        weights: whose ``rows`` are sums or softmax.
        causal: whether later tokens are left out.
        n: number of keys in all blocks.
        sums: so far.
        side: the device's queries, with a block of keys and values, and its part of the mask.
        rows: numbers of the queries among all tokens.
        columns: numbers of the keys.
    """
    be, here, leading = backend(side.q), side.q.shape[-2], sums.y.shape[:-2]
    size = min(here, max(LEAST, BLOCK // (side.key.shape[-2] * max(1, math.prod(leading)))))

    def block(given: tuple) -> Array:
        q, rows, top, total, y, *mask = given
        s = q @ side.key.mT
        if side.column is not None:
            s = s + side.column.mT
        among = mask[0] if mask else None
        if causal:
            among = be.xp.where(columns > rows, be.xp.zeros_like(s), be.xp.ones_like(s))
        return be.xp.concatenate(_added(weights, n, Sums(top, total, y), s, among, side.v), -1)

    parts = (side.q, rows[:, None], *sums, *([] if side.mask is None else [side.mask]))
    if size == here:
        merged = block(parts)
    else:
        merged = be.map(be.remat(block), tuple(in_blocks(be, a, size) for a in parts))
        merged = be.xp.moveaxis(merged, 0, -3)
        merged = merged.reshape(*leading, -1, merged.shape[-1])[..., :here, :]
    return Sums(merged[..., :1], merged[..., 1:2], merged[..., 2:])


def _added(weights: Weights, n: int, sums: Sums, s: Array, mask: Array | None, v: Array) -> Sums:
    """Return the sums with keys of scores ``s``, the formula above."""
    be = backend(s)
    e = weights.pair(be.xp, s, n)
    if callable(weights.rows):  # softmax
        e = log_mask(be.xp, e, mask)
        top = be.xp.maximum(sums.top, be.stop_gradient(be.xp.amax(e, -1, keepdims=True)))
        e, shrunk = be.xp.exp(e - top), be.xp.exp(sums.top - top)
        return Sums(top, shrunk * sums.total + e.sum(-1, keepdims=True), shrunk * sums.y + e @ v)
    e = e if mask is None else e * mask
    return Sums(sums.top, sums.total + e.sum(-1, keepdims=True), sums.y + e @ v)


def _finish(weights: Weights, sums: Sums) -> Array:
    """Return the output of sums over all keys."""
    return sums.y if weights.rows is None else sums.y / sums.total
