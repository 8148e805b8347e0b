"""The subspace in which the flow of a head of low rank takes place.

With a value matrix ``V = W_out W_in`` of rank m the attention output lies in the range of ``W_out``, so tokens never leave
``W = span(x_1(0), ..., x_n(0), range W_out)``, of dimension at most n + m. In an orthonormal basis of W the flow is that of
the same tokens with ``Q E, K E, E^T V E``. A direction normal to W stays normal and grows at the rate ``-<x_i, o_i>`` of
its token, o the attention output: so a few columns of E beyond W carry every exponent that W lacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._transformer import Array
from .heads import Heads


def basis(x: Array, value_out: Array, extra: int = 0, seed: int = 0) -> Array:
    """Return orthonormal columns ``(d, D)``: a basis of W, then ``extra`` directions normal to it (all there are)."""
    d = x.shape[-1]
    columns = np.concatenate([x.T, value_out], axis=1)
    if columns.shape[1] + extra >= d:
        return np.eye(d)
    normal = np.random.default_rng(seed).normal(size=(d, extra))
    e: Array = np.linalg.qr(np.concatenate([columns, normal], axis=1))[0]
    return e


def reduced_arguments(heads: Heads, h: int, e: Array, beta: float) -> dict[str, Any]:
    """Return what ``SelfAttention`` takes for head ``h`` in the basis ``e``."""
    value = (e.T @ heads.value_out[h]) @ (heads.value_in[h] @ e)
    return dict(query=heads.query[h] @ e, key=heads.key[h] @ e, value=value, beta=beta, mask=heads.mask)


def value_spectrum(value_in: Array, value_out: Array) -> np.ndarray[Any, Any]:
    """Return the m eigenvalues of ``W_out W_in`` that need not vanish, from the m x m product, by real part, descending."""
    values = np.linalg.eigvals(value_in @ value_out).astype(complex)
    return values[np.lexsort((-values.imag, -values.real))]


def score_sizes(query: Array, key: Array) -> tuple[float, float]:
    """Return ``|A - A^T| / |A + A^T|`` (Frobenius) and ``|A|_2`` of ``A = Q^T K``, from the factors."""
    q, k, c = query @ query.T, key @ key.T, key @ query.T
    square, trace = float((q * k).sum()), float((c * c.T).sum())  # |A|^2 and tr A^2
    largest = float(np.linalg.eigvals(q @ k).real.max())
    skew, symmetric = max(square - trace, 0.0), max(square + trace, 0.0)
    return (float(np.sqrt(skew / symmetric)) if symmetric else np.inf), float(np.sqrt(max(largest, 0.0)))


def consensus_exponents(values: np.ndarray[Any, Any], n: int, d: int, count: int, causal: bool) -> np.ndarray[Any, Any]:
    """Return the leading exponents of a consensus on the leading eigenvector of V, or turning in its leading plane.

    ``Re(mu) w - Re(lambda)`` for every eigenvalue mu of V but one copy of the leading lambda, and every eigenvalue w of the
    uniform attention that consensus makes: 1 and n - 1 zeros, or 1/j for j = 1 ... n under a causal mask.

    Args:
        values: the m eigenvalues of V that need not vanish, leading one first; the other d - m are zero.
        n: number of tokens.
        d: their dimension.
        count: how many exponents.
        causal: whether token i sees the tokens j <= i only.
    """
    lead = values[0].real
    others = np.concatenate([values[1:].real, np.zeros(d - len(values))])
    w = 1.0 / np.arange(1, n + 1) if causal else np.append(1.0, np.zeros(n - 1))
    rates = np.multiply.outer(w, others).ravel() - lead
    top: np.ndarray[Any, Any] = -np.sort(-rates)[:count]
    return top
