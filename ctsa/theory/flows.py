"""Flows that are solved exactly: Oja's flow, equiangular tokens."""

from typing import Any

import numpy as np
from scipy.special import exp1, expi

from ctsa.checks import choice, integer, number, numbers


def oja_flow(value: Any, x0: Any, ts: Any) -> np.ndarray:
    """Solve Oja's flow of single tokens exactly: ``x(t) = exp(tV) x0 / |exp(tV) x0|``, for any square V.

    This is ``dx/dt = V x - (x^T V x) x``, applied to every row of ``x0`` on its own.

    Args:
        value: ``(d, d)``, symmetric or not.
        x0: unit rows ``(..., d)``.
        ts: times ``(T,)``.

    Returns:
        ``(T, ..., d)``.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.theory.oja_flow(np.diag([1.0, 0.0]), np.array([0.6, 0.8]), [50.0]).round(12)
        array([[1., 0.]])
    """
    from scipy.linalg import expm

    v, x0, ts = numbers("value", value), numbers("x0", x0), np.atleast_1d(numbers("ts", ts))
    if v.ndim != 2 or v.shape[0] != v.shape[1] or x0.shape[-1:] != v.shape[:1]:
        raise ValueError(f"value must be (d, d) and x0 (..., d), got {v.shape} and {x0.shape}")
    # A multiple of the identity drops out on normalising; the shift keeps exp from overflowing.
    shifted = v - np.linalg.eigvals(v).real.max() * np.eye(len(v))
    y = np.stack([x0 @ expm(t * shifted).T for t in ts])
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def equiangular_rate(g: Any, beta: float, n: int, weights: str = "softmax") -> np.ndarray:
    """Return ``dg/dt`` where all pairs of tokens have inner product ``g`` (Q = K = V = I); they keep having one.

    softmax:      ``2 e^{bg} (1 - g)((n-1)g + 1) / (e^b + (n-1) e^{bg})``
    unnormalised: ``(2/n) e^{bg} (1 - g)((n-1)g + 1)``

    Args:
        g: inner products, in ``[-1/(n-1), 1]``.
        beta: inverse temperature.
        n: number of tokens, at least 2.
        weights: "softmax" or "unnormalised".

    Example:
        >>> float(equiangular_rate(0.0, 0.0, 4))
        0.5

    References:
        Geshkovski et al., arXiv 2312.10794, section 6.
    """
    choice("weights", weights, ("softmax", "unnormalised"))
    n, beta = integer("n", n, low=2), number("beta", beta)
    g = np.asarray(g, dtype=float)
    common = 2 * (1 - g) * ((n - 1) * g + 1)
    if weights == "softmax":
        return common / (np.exp(beta * (1 - g)) + n - 1)
    return common * np.exp(beta * g) / n


def equiangular_time(g: Any, beta: Any, n: Any, weights: str = "softmax") -> np.ndarray:
    """Return the time at which equiangular tokens that start orthogonal (g = 0) reach inner product ``g``.

    For softmax and b > 0, with the exponential integrals Ei and E1::

        t = 1/(2n) { (n-1) ln[(1 + (n-1)g)/(1-g)] + Ei(b) - Ei(b(1-g))
                     + e^{bn/(n-1)} [E1(b/(n-1)) - E1(bg + b/(n-1))] },

    and for unnormalised weights ``1/2 {e^{-b}[Ei(b) - Ei(b(1-g))] + e^{b/(n-1)}[E1(b/(n-1)) - E1(bg + b/(n-1))]}``.

    Args:
        g: inner products in ``[0, 1)``.
        beta: inverse temperatures, at least 0 (up to about 300).
        n: numbers of tokens, at least 2. The three broadcast.
        weights: "softmax" or "unnormalised".

    Raises:
        ValueError: ``g`` is outside of [0, 1), or ``beta`` is negative.

    Example:
        >>> round(float(equiangular_time(0.999, 4.0, 32)), 4)
        6.9535
    """
    choice("weights", weights, ("softmax", "unnormalised"))
    g, b, n = (numbers(name, value) for name, value in (("g", g), ("beta", beta), ("n", n)))
    if not ((g >= 0) & (g < 1)).all():
        raise ValueError("g must lie in [0, 1): tokens start orthogonal and meet only at infinite time")
    if not (b >= 0).all():
        raise ValueError(f"beta must be at least 0, got {b.min():g}")
    if not ((n >= 2) & (n == np.round(n))).all():
        raise ValueError(f"n must be integers of at least 2, got {n.min():g}")
    log = np.log((1 + (n - 1) * g) / (1 - g))
    some = np.where(b == 0, 1.0, b)
    c = some / (n - 1)
    near = expi(some) - expi(some * (1 - g))
    far = exp1(c) - exp1(some * g + c)
    if weights == "softmax":
        time = ((n - 1) * log + near + np.exp(some + c) * far) / (2 * n)
    else:
        time = 0.5 * (np.exp(-some) * near + np.exp(c) * far)
    return np.where(b == 0, 0.5 * log, time)
