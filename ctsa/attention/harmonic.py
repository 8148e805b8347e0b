"""Attention on the circle and the two-sphere in O(n), by sums over harmonics (see ``series``), and when it is trusted.

Outputs are ratios of sums of exponentials, derivatives are made of such sums with other charges, in closed form.

The relative error of a row is its absolute one over ``z = sum_j e^(q . x_j - r) / n``, which is small where no token lies
near the query's direction. Rows for which ``z`` does not warrant an error of 1e-12, or whose query is longer than foreseen,
are found and taken with all their scores: up to 256 of them by themselves; where there are more, all rows are (see
``chunked``).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctsa._backend import backend, rounding

from .heads import Heads, act, inverse_temperature, lift, masses_of, total_of
from .series import TAIL, degree, sums

Array = Any

WANTED = 4500  # error of a row, in roundings of the dtype: 1e-12
SOME = 256  # rows that are taken with all their scores while the others are not
TOKENS, FEATURES = 2048, 7  # from how many tokens, and times the harmonics, it is the fastest: docs/benchmarks.md


def fits(heads: Heads, d: int) -> str:
    """Return why attention cannot be taken by harmonics, "" if it can."""
    if d not in (2, 3):
        return f"tokens have {d} components, and harmonics are for the circle and the two-sphere (2 or 3)"
    if heads.weights.name not in ("softmax", "unnormalised"):
        return f"weights={heads.weights.name!r} are not exponentials of scores"
    if heads.mask is not None or heads.causal:
        return "there is a mask, and moments are of all tokens"
    return "there is a key_field" if heads.key_field is not None else ""


def reach_of(heads: Heads) -> float | None:
    """Return a bound on the length of queries ``beta A^T x``, rounded up to a grid of 2^(1/8): few programs arise.

    None where a parameter is traced.
    """
    from ctsa.checks import concrete

    values = [None if a is None else concrete(a) for a in (heads.query, heads.key, heads.beta)]
    if any(a is None and given is not None for a, given in zip(values, (heads.query, heads.key, heads.beta), strict=True)):
        return None
    q, k, beta = values
    a = None if q is None and k is None else q if k is None else k if q is None else k.swapaxes(-1, -2) @ q
    norm = np.array(1.0) if a is None else np.linalg.norm(a, 2, axis=(-2, -1))
    longest = float(np.max(np.abs(np.asarray(beta)) * norm))
    return 2.0 ** (math.ceil(8 * math.log2(longest)) / 8) if longest > 2**-20 else 2.0**-20


def pays(n: int, d: int, reach: float) -> bool:
    """Tell whether harmonics are the fastest way for ``n`` tokens of dimension d, with queries of at most this length."""
    top = degree(d, reach)
    return n >= max(TOKENS, FEATURES * (2 * top if d == 2 else (top + 1) ** 2))


def harmonic_output(heads: Heads, x: Array, reach: float, rows: Callable, everything: Callable) -> Array:
    """Return the output of attention of unit tokens ``(n, d)``.

    Rows that are not exact enough are ``rows(x, index)``, or all are ``everything(x)``.
    """
    (n, d), q = x.shape, _queries(heads, x)
    charges, mass = _massive(heads, backend(x).xp.concatenate([backend(x).xp.ones_like(x[:, :1]), x], -1))
    found, total = sums(x, q.reshape(-1, d), charges, degree(d, reach))
    y = act(heads.value, _weighed(heads, found, total, q, mass)[..., 1:])
    y = y.sum(-3) if heads.headed else y
    good = trusted(found[:, 0], total, q.reshape(-1, d), mass, reach).reshape(-1, n) & on_sphere(x)
    return _mended(y, good, x, rows, everything)


def _mended(y: Array, good: Array, given: Any, rows: Callable, everything: Callable) -> Array:
    """Return ``y`` ``(..., n, d)`` with the rows that are not good in all heads ``(heads, n)`` taken in another way."""
    be, n = backend(y), y.shape[-2]
    xp = be.xp
    bad = ~xp.all(good, 0)
    count = bad.sum()

    def some(given: Any) -> Array:
        index = xp.argsort(1 - bad * 1, stable=True)[: min(SOME, n)]  # the bad ones first, in their order
        place = xp.where(bad, n + xp.cumsum(bad * 1, 0) - 1, xp.arange(n))
        return xp.concatenate([y, rows(given, index)], -2)[..., place, :]

    def others(given: Any) -> Array:
        return be.cond(count <= SOME, some, everything, given)

    return be.cond(count == 0, lambda _: y, others, given)


def on_sphere(x: Array) -> Array:
    """Tell whether all tokens have the length 1, up to rounding."""
    xp = backend(x).xp
    return xp.all(xp.abs((x * x).sum(-1) - 1.0) <= 64 * rounding(x))


class Harmonic(NamedTuple):
    """That attention is taken by harmonics, with queries of at most this length."""

    reach: float


def harmonic_tangent(
    heads: Heads, x: Array, u: Array, reach: float, rows: Callable, everything: Callable
) -> Array:
    """Return the output and its derivative along directions ``(k, n, d)``, stacked: ``(1 + k, n, d)``.

    Rows that are not exact enough are ``rows((x, u), index)``, or all are ``everything((x, u))``, stacked alike.

    The closed form of ``dense`` in means over tokens j with the weights of a row i: of ``x_j``, ``x_j x_j^T``, ``u_j``, and
    ``x_j u_j^T``.
    """
    be, (n, d), k = backend(x), x.shape, u.shape[0]
    xp, q, dq = be.xp, _queries(heads, x), _queries(heads, u)
    pairs = (x[:, :, None] * x[:, None, :]).reshape(n, d * d)
    moved = xp.moveaxis(u, 0, 1)  # (n, k, d)
    crossed = (x[:, None, :, None] * moved[:, :, None, :]).reshape(n, -1)
    charges = xp.concatenate([xp.ones_like(x[:, :1]), x, pairs, moved.reshape(n, k * d), crossed], -1)
    charges, mass = _massive(heads, charges)
    found, total = sums(x, q.reshape(-1, d), charges, degree(d, reach))
    means = _weighed(heads, found, total, q, mass)
    edges = np.cumsum([1, d, d * d, k * d])
    _, m, second, du, cross = (means[..., a:b] for a, b in zip((0, *edges), (*edges, means.shape[-1])))
    lead = means.shape[:-1]
    second, du = second.reshape(*lead, d, d), xp.moveaxis(du.reshape(*lead, k, d), -2, 0)
    cross = xp.moveaxis(cross.reshape(*lead, k, d, d), -3, 0)
    # sum_j a_ij x_j (<dq_i, x_j> + <q_i, u_j>), less the same of a_ij times the mean
    dm = (second @ dq[..., None])[..., 0] + (cross @ q[..., None])[..., 0] + du
    if heads.weights.normalised:
        dm = dm - m * ((m * dq).sum(-1, keepdims=True) + (du * q).sum(-1, keepdims=True))
    y, dy = act(heads.value, m), act(heads.value, dm)
    y, dy = (y.sum(-3), dy.sum(-3)) if heads.headed else (y, dy)
    good = trusted(found[:, 0], total, q.reshape(-1, d), mass, reach).reshape(-1, n) & on_sphere(x)
    return _mended(xp.concatenate([y[None], dy]), good, (x, u), rows, everything)


def _queries(heads: Heads, x: Array) -> Array:
    """Return ``beta K^T Q x``: what tokens are multiplied with, ``(..., [heads,] n, d)``."""
    q = act(heads.query, lift(heads, x))
    return inverse_temperature(heads) * (q if heads.key is None else q @ heads.key)


def _massive(heads: Heads, charges: Array) -> tuple[Array, Any]:
    """Return charges ``(n, p)`` times the masses of their tokens, and the sum of these."""
    row = masses_of(heads.masses)
    return (charges, len(charges)) if row is None else (charges * row.mT, total_of(heads.masses))


def _weighed(heads: Heads, found: Array, total: Array, q: Array, n: Any) -> Array:
    """Return means with the weights of a row, ``([heads,] n, p)``."""
    if heads.weights.normalised:
        means = found / found[:, :1]
    else:
        means = found * (backend(found).xp.exp((q * q).sum(-1).reshape(-1) ** 0.5) / (total * n))[:, None]
    return means.reshape(*q.shape[:-1], -1)


def trusted(z: Array, total: Array, q: Array, n: Any, reach: float) -> Array:
    """Tell which rows are as exact as wanted: enough tokens near its query's direction, and a query within reach."""
    enough = z >= n * total * ((TAIL + 8 * rounding(z)) / (WANTED * rounding(z)))
    return enough & ((q * q).sum(-1) <= reach**2 * (1 + 1e-9))
