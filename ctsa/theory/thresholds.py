"""Inverse temperatures at which bipartite consensus gains or loses stability."""

from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from scipy.optimize import brentq

from ctsa.checks import choice, integer

from ._eigen import SLACK, WEIGHTS, eigenpair, leading, self_score, shared
from .spectra import bipartite_modes


def balanced_threshold(value: Any, A: Any, k: int = 0) -> float:
    """Return the ``beta`` above which balanced bipartite consensus at ``+-v_k`` is stable.

    For two groups of equal size, 2 or more each, ``beta* = atanh(max(mu, 0) / |lambda_k|) / |kappa|``, mu the largest real
    part among the other eigenvalues of V, ``kappa = v_k^T A v_k``: for V = A positive definite and k = 0 that is
    ``atanh(lambda_2 / lambda_1) / lambda_1``. Once stable it stays so. It needs ``lambda_k kappa > 0`` and ``|lambda_k|``
    above all real parts, and where lambda_k is negative it must also be the smallest.

    Args:
        value: V, ``(d, d)``; ``(heads, d, d)`` acts by its sum.
        A: ``Q^T K``, ``(d, d)``; None is the identity.
        k: index of a real eigenvalue of V, sorted by real part, descending.

    Returns:
        ``beta*``; 0.0 if it is stable for every ``beta > 0``, inf if for none.

    Raises:
        ValueError: eigenvalue k is complex.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0, 1.0])
        >>> round(ctsa.theory.balanced_threshold(V, V), 6)
        0.26824

    References:
        Altafini, arXiv 2511.11553.
    """
    v, a, _ = shared(value, A, 0.0)
    lam, mus, basis = eigenpair(v, k)
    # The block of mu has the eigenvalues mu - lambda m (groups move alike) and m (mu - lambda) (opposed), m = tanh(z).
    real, size = mus.real, SLACK * np.abs(np.append(mus, lam)).max()
    if (np.sign(lam) * (real - lam) >= -size).any():
        return np.inf
    kappa = self_score(a, basis)
    top = max(float(real.max()), 0.0)
    if lam * kappa <= 0 or abs(lam) - top <= size:
        return np.inf
    return float(np.arctanh(top / abs(lam)) / abs(kappa))


def bipartite_windows(value: Any, A: Any, k: int, n_plus: int, n_minus: int, *, weights: str = "softmax") -> np.ndarray:
    """Return the open intervals of ``beta > 0`` in which bipartite consensus at ``+-v_k`` is stable.

    An eigenvalue crosses the imaginary axis where a polynomial in ``exp(2 beta kappa)`` vanishes: the rates within the
    groups, the determinant of the block of a real mu, the Hurwitz determinant of the block of a complex one. All roots
    are found, the verdict is taken between them, and the ends of the intervals are refined on the spectrum itself.

    Args:
        value: V, ``(d, d)``; ``(heads, d, d)`` acts by its sum.
        A: ``Q^T K``, ``(d, d)``; None is the identity.
        k: index of a real eigenvalue of V, sorted by real part, descending.
        n_plus: tokens at ``v_k``, at least 1.
        n_minus: tokens at ``-v_k``, at least 1.
        weights: "softmax" or "unnormalised".

    Returns:
        ``(m, 2)``: where each interval starts (0: at once) and ends (inf: never); m = 0 if it is never stable.

    Raises:
        ValueError: eigenvalue k is complex, or so degenerate that ``v_k^T A v_k`` is not determined.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0, 1.0])
        >>> ctsa.theory.bipartite_windows(V, V, 0, 9, 1).round(6)
        array([[0.550224,      inf]])
    """
    choice("weights", weights, WEIGHTS)
    v, a, _ = shared(value, A, 0.0)
    n_plus, n_minus = integer("n_plus", n_plus, low=1), integer("n_minus", n_minus, low=1)
    lam, mus, basis = eigenpair(v, k)
    kappa = self_score(a, basis)
    grouped = [n_plus > 1, n_minus > 1]

    def rate(beta):
        within, blocks = bipartite_modes(lam, mus, beta * kappa, n_plus, n_minus, weights)
        return leading(np.append(within[grouped], blocks))

    if abs(kappa) <= SLACK * np.linalg.norm(a):  # beta does not matter
        return np.array([[0.0, np.inf]] if rate(0.0) < -SLACK else []).reshape(-1, 2)
    crossings = np.log(_crossings(lam, mus, n_plus, n_minus, weights)) / 2  # beta |kappa|
    crossings = np.sort(np.sign(kappa) * crossings)
    crossings = crossings[crossings > 1e-7] / abs(kappa)  # beta = 0 itself may be a double root
    edges = np.concatenate([[0.0], crossings])
    inner = np.append((edges[1:] + edges[:-1]) / 2, edges[-1] + 1 / abs(kappa))  # one point of every interval between
    verdicts = [rate(b) < -SLACK for b in inner]
    changes = [i for i in range(len(crossings)) if verdicts[i] != verdicts[i + 1]]
    ends = [_refined(rate, inner[i], inner[i + 1], crossings[i]) for i in changes]
    ends = [0.0] * verdicts[0] + ends + [np.inf] * verdicts[-1]
    return np.array(ends).reshape(-1, 2)


def _refined(rate, low: float, high: float, guess: float) -> float:
    return brentq(rate, low, high, xtol=1e-15, rtol=1e-14) if rate(low) * rate(high) < 0 else float(guess)


def _crossings(lam: float, mus: np.ndarray, n_plus: int, n_minus: int, weights: str) -> np.ndarray:
    """Return all ``y = exp(2 beta kappa) > 0`` where an eigenvalue may cross the imaginary axis (and maybe some more)."""
    f, g, y = n_plus / (n_plus + n_minus), n_minus / (n_plus + n_minus), Polynomial([0.0, 1.0])
    # Weights of the groups, each row and then the whole times something positive, so that signs are kept.
    plus, minus = (f + g * y, f * y + g) if weights == "softmax" else (Polynomial([1.0]), Polynomial([1.0]))
    pp, pm, mp, mm = f * y * plus, g * plus, f * minus, g * y * minus
    tests = [pp - pm, mm - mp]
    for mu in mus[mus.imag >= 0]:
        a, d = mu * pp - lam * (pp - pm), mu * mm - lam * (mm - mp)
        trace, det = a + d, a * d - mu**2 * pm * mp
        p, q = (Polynomial(-trace.coef.real), Polynomial(-trace.coef.imag))
        r, s = (Polynomial(det.coef.real), Polynomial(det.coef.imag))
        # s^2 - trace s + det has both roots to the left iff Re(-trace) > 0 and this determinant is positive.
        tests += [p, r if mu.imag == 0 else p * p * r + p * q * s - s * s]
    roots = np.concatenate([_positive_roots(t) for t in tests])
    return np.unique(roots)


def _positive_roots(test: Polynomial) -> np.ndarray:
    size = float(np.abs(test.coef).max())
    roots = test.trim(1e-14 * size).roots() if size > 0 else np.array([])
    roots = roots[(np.abs(roots.imag) <= 1e-5 * np.abs(roots)) & (roots.real > 0)]
    return roots.real.astype(float)


def bipartite_threshold(value: Any, A: Any, k: int, n_plus: int, n_minus: int, *, weights: str = "softmax") -> float:
    """Return the ``beta`` from which on bipartite consensus at ``+-v_k`` stays stable.

    For real mu and softmax it is the largest, over the other eigenvalues mu of V, of ``ln(y) / (2 kappa)`` with
    ``y = (lambda_k C + sqrt(lambda_k^2 (C^2 - 1) + mu^2)) / (lambda_k - mu)``, ``2C = n_+/n_- + n_-/n_+``, and of
    ``|ln(n_+/n_-)| / (2 kappa)``, below which the smaller group (of 2 or more) tears.

    Args:
        value: V, ``(d, d)``; ``(heads, d, d)`` acts by its sum.
        A: ``Q^T K``, ``(d, d)``; None is the identity.
        k: index of a real eigenvalue of V, sorted by real part, descending.
        n_plus: tokens at ``v_k``, at least 1.
        n_minus: tokens at ``-v_k``, at least 1.
        weights: "softmax" or "unnormalised".

    Returns:
        ``beta*``; 0.0 if it is stable for every ``beta > 0``; inf if it is unstable for large ``beta``. Should it be
        stable for a while below, ``bipartite_windows`` says so.

    Raises:
        ValueError: as ``bipartite_windows``.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0, 1.0])
        >>> [round(ctsa.theory.bipartite_threshold(V, V, 0, n, 10 - n), 3) for n in (5, 7, 9)]
        [0.268, 0.339, 0.55]
    """
    windows = bipartite_windows(value, A, k, n_plus, n_minus, weights=weights)
    return float(windows[-1, 0]) if len(windows) and np.isinf(windows[-1, 1]) else np.inf
