r"""The uniform density under attention and noise: how fast its modes grow, and how much noise keeps it stable.

For ``Q^T K = a I``, ``V = v I`` and ``beta`` times a in place of ``beta``, harmonics diagonalise everything (Funk and
Hecke):

.. math:: \int e^{\beta \langle x, y \rangle}\, Y_l(y)\, dy / |S| = \lambda_l Y_l(x), \qquad
          \frac{\lambda_l}{\lambda_0} = \frac{I_{l + \nu}(\beta)}{I_\nu(\beta)}, \quad
          \lambda_0 = \Gamma(\nu + 1) (2 / \beta)^\nu I_\nu(\beta), \quad \nu = d / 2 - 1 .

The perturbation ``Y_l`` changes the attention by ``(v / beta) lambda_l / lambda_0`` times its gradient, and so its own
size at the rate ``v l (l + d - 2) lambda_l / (beta lambda_0)``; unnormalised weights lack the ``lambda_0``, and noise
takes ``(sigma^2 / 2) l (l + d - 2)``. All of it is odd or even in ``beta``: ``lambda_l(-beta) = (-1)^l
lambda_l(beta)``.
"""

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, hyp0f1, ive

from ctsa.checks import choice, integer, number, numbers


def uniform_growth_rate(
    k: Any, beta: float, d: int = 2, *, value: float = 1.0, sigma: float = 0.0, weights: str = "softmax"
) -> np.ndarray:
    r"""Return the growth rate of mode ``k`` of the uniform density: harmonics of degree k on the sphere of dimension d - 1.

    .. math:: k (k + d - 2) \left( \frac{v\, I_{k + \nu}(\beta)}{\beta\, I_\nu(\beta)} - \frac{\sigma^2}{2} \right), \qquad
              \nu = d / 2 - 1,

    with ``Q^T K`` the identity (``beta`` stands for ``beta a`` where it is ``a I``) and ``V = v I``; for unnormalised
    weights the first term is multiplied by :math:`\Gamma(\nu + 1) (2 / \beta)^\nu I_\nu(\beta)`. On the circle a
    density ``(1 + eps cos(k theta)) / 2 pi`` grows like ``exp(t k^2 I_k(beta) / (beta I_0(beta)))``.

    Args:
        k: degrees, integers of at least 0.
        beta: inverse temperature, of either sign.
        d: dimension of a token, at least 2.
        value: v.
        sigma: strength of the noise.
        weights: "softmax" or "unnormalised".

    Example:
        >>> import ctsa
        >>> float(ctsa.theory.uniform_growth_rate(1, 0.0)), float(ctsa.theory.uniform_growth_rate(1, 0.0, d=3).round(4))
        (0.5, 0.6667)

    References:
        arXiv 2410.06833 (metastability), arXiv 2410.23228, arXiv 2512.01868.
    """
    k, v, s = numbers("k", k), number("value", value), number("sigma", sigma, low=0.0)
    b, d = number("beta", beta), integer("d", d, low=2)
    choice("weights", weights, ("softmax", "unnormalised"))
    if not ((k >= 0) & (k == np.round(k))).all():
        raise ValueError(f"k must be integers of at least 0, got {k.min():g}")
    nu, r = d / 2 - 1, abs(b)
    share = _shares(k, r, nu) * np.where(k % 2 == 0, math.copysign(1.0, b), 1.0)  # lambda_k / (beta lambda_0)
    if weights == "unnormalised":
        share = share * math.exp(_log_mean(r, nu))
    return k * (k + d - 2) * (v * share - s * s / 2)


def _shares(k: np.ndarray, r: float, nu: float) -> np.ndarray:
    """Return ``I_(k + nu)(r) / (r I_nu(r))``, which at r = 0 is that of k = 1 alone (k = 0 has no rate)."""
    if r < 1e-8:
        return np.where(k == 1, 1 / (2 * nu + 2), 0.0)
    low = ive(nu, r)
    if low > 1e-200:
        return ive(k + nu, r) / (r * low)
    ratio, top = 0.0, int(np.max(k)) + 100  # underflow says that r is small beside nu: the continued fraction is short
    ratios = np.ones(top + 1)
    for j in range(top, 0, -1):
        ratios[j] = ratio = r / (2 * (nu + j) + r * ratio)
    return np.cumprod(ratios)[k.astype(int)] / r


def _log_mean(r: float, nu: float) -> float:
    """Return ``log lambda_0``, the mean of ``e^(r x_1)`` over the sphere."""
    low = ive(nu, r)
    if r < 1e-8 or low < 1e-200:
        return math.log(hyp0f1(nu + 1, r * r / 4))
    return float(gammaln(nu + 1) + nu * math.log(2 / r) + math.log(low) + r)


def most_unstable_mode(
    beta: float, d: int = 2, *, value: float = 1.0, sigma: float = 0.0, weights: str = "softmax"
) -> tuple[int, float]:
    """Return the degree that grows fastest from the uniform density, and its rate; (0, 0.0) where none grows.

    For large ``beta`` without noise the degree is about ``sqrt(2 beta)``, since ``I_k(beta) / I_0(beta)`` is about
    ``exp(-k^2 / (2 beta))``: on the circle that is how many clusters appear first. Arguments as for
    ``uniform_growth_rate``.

    Example:
        >>> import ctsa
        >>> [ctsa.theory.most_unstable_mode(beta)[0] for beta in (1.0, 9.0, 50.0, 200.0)]
        [1, 4, 10, 20]

    References:
        Bruno, Pasqualotto, Agazzi, arXiv 2410.23228.
    """
    k = np.arange(int(20 + 4 * math.sqrt(abs(number("beta", beta)))))
    rates = uniform_growth_rate(k, beta, d, value=value, sigma=sigma, weights=weights)
    best = int(np.argmax(rates))
    return (best, float(rates[best])) if rates[best] > 0 else (0, 0.0)


def critical_noise(beta: float, d: int = 2, *, value: float = 1.0, weights: str = "softmax") -> tuple[float, int]:
    r"""Return the strength of noise at which the uniform density loses its stability, and the degree of the mode that does.

    The mode of degree k is damped iff ``sigma^2 / 2`` exceeds ``v lambda_k / (beta lambda_0)`` (softmax). For ``v > 0``
    that is largest for k = 1, and

    .. math:: \sigma_c^2 = \frac{2 v\, I_{1 + \nu}(\beta)}{\beta\, I_\nu(\beta)}, \qquad \nu = d / 2 - 1,

    times :math:`\lambda_0` for unnormalised weights. Those are a gradient flow of the free energy whose coupling is
    :math:`\kappa = 2 v / \sigma^2` with the kernel ``exp(beta <x, y>) / beta``, and the condition reads :math:`\kappa_c
    = \beta / \hat\lambda_1`, with :math:`\hat\lambda_1 = \lambda_1` of this page. Where the transition is discontinuous
    other states are stable at more noise already. For v < 0 and ``beta`` < 0 degree 2 is the first; for v < 0 and
    ``beta`` > 0 no noise is needed: (0.0, 0).

    Example:
        >>> import ctsa
        >>> sigma, k = ctsa.theory.critical_noise(2.0)
        >>> round(sigma, 6), k, round(float(ctsa.theory.uniform_growth_rate(1, 2.0, sigma=sigma)), 12)
        (0.835329, 1, 0.0)

    References:
        Shalova, Schlichting, arXiv 2412.14813; Balasubramanian, Banerjee, Rigollet, arXiv 2510.20094.
    """
    degrees = np.arange(1, 4)  # shares of one sign fall off with the degree
    rates = uniform_growth_rate(degrees, beta, d, value=value, weights=weights) / (degrees * (degrees + d - 2))
    best = int(np.argmax(rates))
    if rates[best] <= 0:
        return 0.0, 0
    return math.sqrt(2 * rates[best]), int(degrees[best])
