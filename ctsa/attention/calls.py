"""Attention behind one call: the output, its derivative along directions, its Jacobian, each ``how`` it is cheapest."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ctsa._backend import backend
from ctsa.derivatives import jvp_batched

from .chunked import Side, blocks_pay, output_in_blocks, tangent_in_blocks
from .dense import RULES, along, assembled_fits, compressed, differentials, jacobian, parts_of
from .harmonic import Harmonic, harmonic_output, harmonic_tangent
from .heads import Heads, act, inverse_temperature, lift, of_keys, score_parts, weigh
from .ring import output_around, ring_pays

Array = Any
HOW = ("auto", "chunked", "harmonic", "ring", "dense", "scores", "outer", "assembled")
DENSE = ("dense", "scores", "outer", "assembled")  # that have all scores at once


def cost(how: str, n: int, d: int, m: int, heads: int, k: int) -> float:
    """Estimate the work of one way in passes over single numbers.

    A multiply-add inside a matrix product counts ``1 / 12`` of an elementwise pass; the constants were fitted to
    measurements on two CPU cores (``tests/benchmarks/bench_tangent.py``) and only decide which is chosen.

    Args:
        how: "scores", "outer" or "assembled".
        n: tokens.
        d: dimension of a token.
        m: width of query and key.
        heads: number of heads.
        k: number of directions.
    """
    gemm = 1 / 12
    if how == "scores":
        return heads * k * n * n * (4 + gemm * 2 * (m + d)) + heads * k * n * d * (m + d) * gemm
    if how == "outer":
        return heads * k * n * (d + 1) * m * (3 + gemm * n) + heads * k * n * n * d * gemm
    return heads * n * n * d * d * 3 + k * n * n * d * d * gemm


def choose(n: int, d: int, m: int, heads: int, k: int) -> str:
    """Return the way with the smallest ``cost``; the assembled one only while its Jacobian fits."""
    ways = ["scores", "outer"] + (["assembled"] if assembled_fits(n, d, heads) else [])
    return min(ways, key=lambda how: cost(how, n, d, m, heads, k))


def way_of(heads: Heads, x: Array, how: Any, directions: int = 1) -> str:
    """Return how attention is taken for tokens ``(..., n, d)``: "harmonic", "ring", "chunked" or "dense"."""
    if isinstance(how, Harmonic):
        return "harmonic"
    if how == "ring" or (how == "auto" and ring_pays(heads, x)):
        return "ring"
    chunked = how == "chunked" or (how not in DENSE and blocks_pay(heads.weights, x, heads.count, directions))
    return "chunked" if chunked else "dense"


def attend(heads: Heads, x: Array, how: str | Harmonic = "auto") -> Array:
    """Return the output of attention, ``sum_heads sum_j a_ij V x_j``, of the shape of ``x``: ``(..., n, d)``.

    ``how`` "chunked" takes a block of rows at a time, "auto" does where there are many; "ring" passes blocks of keys round
    devices, "auto" does where a mesh in use spreads tokens; the others take all of them.
    """
    if isinstance(how, Harmonic):
        _check_dimension(x)
        return _each(lambda z: harmonic_output(heads, z, how.reach, partial(_rows, heads), partial(_all, heads)), x)
    xh, way = lift(heads, x), way_of(heads, x, how)
    if way != "dense":
        taken = output_around if way == "ring" else output_in_blocks
        return _summed(heads, taken(heads.weights, side_of(heads, xh)))
    return _summed(heads, weigh(heads, score_parts(heads, xh)[0]) @ act(heads.value, xh))


def attend_tangent(
    heads: Heads, x: Array, u: Array, how: str | Harmonic = "auto"
) -> tuple[Array, Array]:
    """Return the output of attention and its derivative along ``k`` directions.

    Args:
        heads: parameters.
        x: tokens ``(..., n, d)``.
        u: directions ``(k, ..., n, d)``.
        how: "auto" chooses by ``choose`` and the number of scores; "scores", "outer" and "assembled" override it with all
            scores at once, "dense" the best of these; "chunked" takes a block of rows at a time.

    Returns:
        ``(..., n, d)`` and ``(k, ..., n, d)``.
    """
    way = way_of(heads, x, how, u.shape[0])
    if not heads.weights.closed or way == "ring":
        return jvp_batched(lambda z: attend(heads, z, how), x, u)
    n, d = x.shape[-2:]
    if isinstance(how, Harmonic):
        _check_dimension(x)
        return _each_tangent(heads, x, u, how.reach)
    if way == "chunked":
        side = side_of(heads, lift(heads, x))
        k, m = u.shape[0], side.q.shape[-1]
        form = min(("scores", "outer"), key=lambda form: cost(form, n, d, m, heads.count, k))
        y, dy = tangent_in_blocks(heads.weights, side, RULES[form], partial(differentials, heads, side.key), u)
        return _summed(heads, y), _summed(heads, dy)
    parts = parts_of(heads, x)
    if how in ("auto", "chunked", "dense"):
        how = choose(n, d, parts.q.shape[-1], heads.count, u.shape[0])
    return _summed(heads, parts.y), along(heads, parts, u, how)


def _check_dimension(x: Array) -> None:
    if x.shape[-1] not in (2, 3):
        raise ValueError(
            f"how='harmonic' is for the circle and the two-sphere, but tokens have {x.shape[-1]} components: use "
            "how='chunked'"
        )


def _each(f: Callable[[Array], Array], x: Array) -> Array:
    """Return ``f`` of every state of a batch, one after the other."""
    if x.ndim == 2:
        return f(x)
    flat = x.reshape(-1, *x.shape[-2:])
    return backend(x).map(f, flat).reshape(x.shape)


def _each_tangent(heads: Heads, x: Array, u: Array, reach: float) -> tuple[Array, Array]:
    """Return output and derivative by harmonics, of every state of a batch one after the other."""

    def one(each: tuple) -> Array:
        x, u = each
        return harmonic_tangent(heads, x, u, reach, partial(_rows_tangent, heads), partial(_all_tangent, heads))

    if x.ndim == 2:
        found = one((x, u))
        return found[0], found[1:]
    be, k = backend(x), u.shape[0]
    flat, moved = x.reshape(-1, *x.shape[-2:]), be.xp.moveaxis(u.reshape(k, -1, *x.shape[-2:]), 0, 1)
    found = be.map(one, (flat, moved))
    return found[:, 0].reshape(x.shape), be.xp.moveaxis(found[:, 1:], 0, 1).reshape(u.shape)


def _all(heads: Heads, x: Array) -> Array:
    return attend(heads, x, "chunked")


def _rows(heads: Heads, x: Array, index: Array) -> Array:
    """Return some rows of the output, with all their scores."""
    side = side_of(heads, lift(heads, x))
    return _summed(heads, output_in_blocks(heads.weights, side._replace(q=side.q[..., index, :])))


def _all_tangent(heads: Heads, each: tuple) -> Array:
    x, u = each
    y, dy = attend_tangent(heads, x, u, "chunked")
    return backend(y).xp.concatenate([y[None], dy])


def _rows_tangent(heads: Heads, each: tuple, index: Array) -> Array:
    """Return some rows of the output and of its derivative, stacked."""
    x, u = each
    side = side_of(heads, lift(heads, x))

    def of_rows(u: Array) -> tuple:
        dq, *others = differentials(heads, side.key, u)
        return dq[..., index, :], *others

    side = side._replace(q=side.q[..., index, :])
    y, dy = tangent_in_blocks(heads.weights, side, RULES["scores"], of_rows, u)
    return backend(y).xp.concatenate([_summed(heads, y)[None], _summed(heads, dy)])


def side_of(heads: Heads, xh: Array) -> Side:
    """Return queries, keys and values of tokens that have an axis of heads where there is one."""
    q, key = inverse_temperature(heads) * act(heads.query, xh), act(heads.key, xh)
    column, mask = of_keys(heads, xh, key), None if heads.causal else heads.mask
    return Side(q, key, act(heads.value, xh), column, mask, heads.causal, heads.masses)


def attend_jacobian(heads: Heads, x: Array, how: str = "auto") -> tuple[Array, Array]:
    """Return the output of attention ``(..., n, d)`` and its Jacobian ``(..., n d, n d)``, in closed form.

    Raises:
        ValueError: the weights have no closed form (sinkhorn).
    """
    parts = parts_of(heads, x)
    return _summed(heads, parts.y), jacobian(heads, parts)


def attend_compressed(heads: Heads, x: Array, left: Array, right: Array) -> tuple[Array, Array, Array]:
    """Return the output of attention, and its Jacobian between bases given token by token: ``L_i^T (dy_i/dx_j) R_j``.

    Args:
        heads: parameters.
        x: tokens ``(..., n, d)``.
        left: ``(..., n, d, r)``.
        right: ``(..., n, d, s)``.

    Returns:
        ``(..., n, d)``; ``(..., n, r, n, s)``; and what comes on top for ``j = i``, ``(..., n, r, s)``.

    Raises:
        ValueError: the weights have no closed form (sinkhorn).
    """
    parts = parts_of(heads, x)
    return _summed(heads, parts.y), *compressed(heads, parts, left, right)


def dense_pays(heads: Heads, x: Array, k: int, how: str = "auto") -> bool:
    """Tell whether ``k`` directions are served best by one Jacobian."""
    if not heads.weights.closed or how in ("chunked", "harmonic", "scores", "outer") or way_of(heads, x, how) == "ring":
        return False
    d = x.shape[-1]
    m = d if heads.query is None else heads.query.shape[-2]
    return how == "assembled" or choose(x.shape[-2], d, m, heads.count, k) == "assembled"


def _summed(heads: Heads, y: Array) -> Array:
    return y.sum(-3) if heads.headed else y
