"""The derivative of attention in closed form, evaluated the way that is cheapest for the size at hand.

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
from typing import Any

from ctsa._backend import backend
from ctsa.derivatives import apply_jacobian, jvp_batched

from .weights import Heads, _act, _beta, _lift, _mask, _score_parts, _weigh, attend

Array = Any
FORMS = ("auto", "scores", "outer", "assembled")

# Largest temporary in numbers: directions are handled in chunks so that none exceeds it (128 MiB in float64).
LARGEST = 2**24


def cost(form: str, n: int, d: int, m: int, heads: int, k: int) -> float:
    """Estimate the work of a form in passes over single numbers.

    A multiply-add inside a matrix product counts ``1 / 12`` of an elementwise pass; the constants were fitted to
    measurements on two CPU cores (``tests/benchmarks/bench_tangent.py``) and only decide which form is chosen.

    Args:
        form: "scores", "outer" or "assembled".
        n: tokens.
        d: dimension of a token.
        m: width of query and key.
        heads: number of heads.
        k: number of directions.
    """
    gemm = 1 / 12
    if form == "scores":
        return heads * k * n * n * (4 + gemm * 2 * (m + d)) + heads * k * n * d * (m + d) * gemm
    if form == "outer":
        return heads * k * n * (d + 1) * m * (3 + gemm * n) + heads * k * n * n * d * gemm
    return heads * n * n * d * d * 3 + k * n * n * d * d * gemm


def choose(n: int, d: int, m: int, heads: int, k: int) -> str:
    """Return the form with the smallest ``cost``; the assembled one only while its Jacobian stays below ``LARGEST``."""
    forms = ["scores", "outer"] + (["assembled"] if heads * (n * d) ** 2 <= LARGEST else [])
    return min(forms, key=lambda form: cost(form, n, d, m, heads, k))


def attend_tangent(heads: Heads, x: Array, u: Array, form: str = "auto") -> tuple[Array, Array]:
    """Return the output of attention and its derivative along ``k`` directions.

    Args:
        heads: parameters.
        x: tokens ``(..., n, d)``.
        u: directions ``(k, ..., n, d)``.
        form: "auto" chooses by ``choose``; "scores", "outer" or "assembled" override it.

    Returns:
        ``(..., n, d)`` and ``(k, ..., n, d)``.
    """
    if heads.weights.slope is None:
        return jvp_batched(lambda z: attend(heads, z), x, u)
    parts = _parts(heads, x, heads.weights.slope)
    q, a, y = parts[0], parts[2], parts[-1]
    (n, d), m, k = x.shape[-2:], q.shape[-1], u.shape[0]
    if form == "auto":
        form = choose(n, d, m, heads.count, k)
    batch = math.prod(a.shape[:-2])
    if form == "assembled":
        dy = _assembled(heads, parts, u)
    else:
        each = batch * n * (n if form == "scores" else (d + 1) * m)
        dy = _in_chunks({"scores": _scores, "outer": _outer}[form], heads, parts, u, max(1, LARGEST // each))
    return (y.sum(-3) if heads.headed else y), dy


def attend_jacobian(heads: Heads, x: Array) -> tuple[Array, Array]:
    """Return the output of attention ``(..., n, d)`` and its Jacobian ``(..., n d, n d)``, in closed form.

    Raises:
        ValueError: the weights have no closed form (sinkhorn).
    """
    if heads.weights.slope is None:
        raise ValueError(f"weights={heads.weights.name!r} have no closed-form Jacobian")
    parts = _parts(heads, x, heads.weights.slope)
    y = parts[-1]
    return (y.sum(-3) if heads.headed else y), _jacobian(heads, parts)


def _parts(heads: Heads, x: Array, slope: Callable[..., Array]) -> tuple:
    """Return scaled queries, keys, weights, their slopes, values and outputs."""
    xh = _lift(heads, x)
    s, q, key = _score_parts(heads, xh)
    a, v = _weigh(heads, s), _act(heads.value, xh)
    return q, key, a, slope(a, _mask(heads, s)), v, a @ v


def dense_pays(heads: Heads, x: Array, k: int, form: str = "auto") -> bool:
    """Tell whether ``k`` directions are served best by one Jacobian."""
    if heads.weights.slope is None or form in ("scores", "outer"):
        return False
    d = x.shape[-1]
    m = d if heads.query is None else heads.query.shape[-2]
    return form == "assembled" or choose(x.shape[-2], d, m, heads.count, k) == "assembled"


def _in_chunks(rule, heads: Heads, parts: tuple, u: Array, size: int) -> Array:
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


def _differentials(heads: Heads, key: Array, u: Array) -> tuple[Array, Array, Array | None, Array]:
    """Return dq, dk, the part of ds that depends on j alone (..., n, 1) or None, and V u."""
    uh = _lift(heads, u)
    dk = _act(heads.key, uh)
    g = None
    if heads.key_field is not None:
        g = _beta(heads) * (uh @ heads.key_field[..., None])
    if heads.weights.distance:
        pull = _beta(heads) * (key * dk).sum(-1, keepdims=True)
        g = -pull if g is None else g - pull
    return _beta(heads) * _act(heads.query, uh), dk, g, _act(heads.value, uh)


def _scores(heads: Heads, parts: tuple, u: Array) -> Array:
    q, key, a, w, v, y = parts
    dq, dk, g, du = _differentials(heads, key, u)
    ds = dq @ key.mT + q @ dk.mT
    wds = w * (ds if g is None else ds + g.mT)
    dy = wds @ v + a @ du
    if heads.weights.normalised:
        dy = dy - wds.sum(-1, keepdims=True) * y
    return dy.sum(-3) if heads.headed else dy


def _mix(a: Array, z: Array, axes: int) -> Array:
    """Return ``sum_j a_ij z_j`` by one matrix product; the last ``axes`` axes of ``z`` are those of one ``z_j``."""
    y = a @ z.reshape(*z.shape[:-axes], math.prod(z.shape[-axes:]))
    return y.reshape(*y.shape[:-1], *z.shape[-axes:])


def _outer(heads: Heads, parts: tuple, u: Array) -> Array:
    q, key, a, w, v, y = parts
    xp = backend(u).xp
    dq, dk, g, du = _differentials(heads, key, u)
    one = xp.ones_like(v[..., :1])
    v1 = xp.concatenate([v, one], -1) if heads.weights.normalised else v  # the last column sums w ds itself
    # Directions go beside the columns, so that one product with w serves them all.
    dk_last = xp.moveaxis(dk, 0, -2)  # (..., n, k, m)
    outer = v1[..., None, :, None] * dk_last[..., :, None, :]  # (..., n, k, e, m)
    dy1 = (_mix(w, outer, 3) * q[..., None, None, :]).sum(-1)  # (..., n, k, e)
    if g is not None:
        dy1 = dy1 + _mix(w, xp.moveaxis(g, 0, -2) * v1[..., None, :], 2)
    own = _mix(w, v1[..., :, None] * key[..., None, :], 2)  # sum_j w_ij v_j (x) k_j: (..., n, e, m)
    dy1 = xp.moveaxis(dy1, -2, 0) + (own @ dq[..., None])[..., 0]
    dy = dy1[..., : v.shape[-1]] + xp.moveaxis(_mix(a, xp.moveaxis(du, 0, -2), 2), -2, 0)
    if heads.weights.normalised:
        dy = dy - dy1[..., -1:] * y
    return dy.sum(-3) if heads.headed else dy


def _assembled(heads: Heads, parts: tuple, u: Array) -> Array:
    return apply_jacobian(_jacobian(heads, parts), u)


def _jacobian(heads: Heads, parts: tuple) -> Array:
    """Build dy/dx as (..., n d, n d), heads summed.

    ``dy_i/dx_j = w_ij (v_j - y_i) (K^T q_i + beta r - [l2] beta K^T k_j)^T + a_ij V
    + delta_ij sum_l w_il (v_l - y_i) (beta Q^T k_l)^T``.
    """
    q, key, a, w, v, y = parts
    be, beta = backend(a), _beta(heads)

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
