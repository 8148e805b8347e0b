"""Error bars of time averages of correlated series: the periodogram, continued to frequency zero.

The mean of a window of N samples has the variance ``E I_0 / N``, where ``I_k = |sum_t x_t exp(-2 pi i k t / N)|^2 / N``
is the periodogram of the window less the true mean, its ends included. At k = 0 it cannot be read off, since the sample
mean leaves nothing there, so it is continued from ``I_1 ... I_m``: an autoregressive pilot predicts ``E I_k`` *for a
window of N samples*, and a log-quadratic in k, fitted to ``I_k / E I_k`` by maximum likelihood, corrects it near zero.
Spectral lines, fluctuations that cancel, and strong correlation leak into k = 1, 2, ... as they leak into k = 0, and so
need no treatment of their own.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

ONE_SIGMA = math.erf(0.5**0.5)  # 0.6827, what +- one standard deviation covers of a normal variable
_SHORTEST = 8  # samples below which nothing is said


class ErrorBar(NamedTuple):
    """How well the mean of a series is known: ``(mean - truth) / sigma`` follows about Student's t with ``dof`` degrees.

    Numbers for one series, arrays for many (``error_bars``).

    Attributes:
        sigma: estimated standard deviation of the mean; nan below 8 samples.
        dof: degrees of freedom of that estimate; infinite for a constant series.
        correlation_time: samples that count as one independent one, ``N sigma^2 / var(x)``.
        few: whether the series is shorter than 20 correlation times, and ``sigma`` a rough guess.
    """

    sigma: Any
    dof: Any
    correlation_time: Any
    few: Any

    def half_width(self, level: float = ONE_SIGMA) -> Any:
        """Return ``w`` such that ``mean +- w`` covers the true mean with probability ``level`` between 0 and 1."""
        return self.sigma * student(level, self.dof)


def student(level: float, dof: Any) -> Any:
    """Return the half-width of the central interval of Student's t that has the probability ``level``."""
    return stdtrit(np.minimum(dof, 1e9), 0.5 + level / 2)


def error_bar(series: Any) -> ErrorBar:
    """Estimate how well the mean of a stationary, possibly correlated series is known.

    Args:
        series: ``(N,)`` with N >= 8. Fewer, or entries that are not finite, give nan.

    Returns:
        ``ErrorBar``. Measured coverage of its 68 and 95 % intervals: ``docs/lyapunov.md``.

    Example:
        >>> import numpy as np
        >>> from ctsa.errorbars import error_bar
        >>> bar = error_bar(np.random.default_rng(0).normal(size=10_000))
        >>> bool(abs(bar.half_width() - 0.01) < 0.002), bar.few
        (True, False)

    References:
        Heidelberger and Welch, Commun. ACM 24 (1981) 233 (continuing the periodogram to zero); Burg, *Maximum entropy
        spectral analysis* (1967); Hurvich and Tsai, Biometrika 76 (1989) 297 (AICc).
    """
    x = np.asarray(series, dtype=float)
    n = len(x)
    if n < _SHORTEST or not np.isfinite(x).all():
        return ErrorBar(math.nan, math.nan, math.nan, True)
    size = np.abs(x).max()
    x = x - x.mean()
    scale = np.abs(x).max()
    if scale <= 1e-13 * size:
        return ErrorBar(0.0, math.inf, 1.0, False)
    x = x / scale
    coefficients, innovation = _burg(x, int(min(1.5 * n**0.5, n / 3, 64)))
    expected = _expected_periodogram(coefficients, innovation, n)
    m = max(2 * int(min(2 * n**0.5, 0.45 * n) / 2), 4)
    periodogram = np.abs(np.fft.rfft(x))[1 : m + 1] ** 2 / n + 1e-30
    level, doubt = _continued(periodogram / expected[1 : m + 1])
    loose = _doubt_at_zero(coefficients, n)
    variance = expected[0] / n * math.exp(level + min(loose, 2.0))
    tau = float(max(variance * n / (x @ x / n), 1 / n))
    return ErrorBar(float(scale * variance**0.5), max(1 / (doubt / 2 + loose), 1.0), tau, n < 20 * max(tau, 1.0))


def error_bars(series: Any) -> ErrorBar:
    """Estimate the error bars of many series ``(N, ...)`` at once; every entry of the result has the shape ``(...)``."""
    x = np.asarray(series, dtype=float)
    bars = [error_bar(column) for column in x.reshape(len(x), -1).T] if x.size else []
    columns = zip(*bars, strict=True) if bars else ([np.nan] * math.prod(x.shape[1:]) for _ in range(4))
    sigma, dof, tau, few = (np.array(c).reshape(x.shape[1:]) for c in columns)
    return ErrorBar(sigma, dof, tau, few if bars else np.ones(few.shape, bool))


def standard_error(series: Any) -> float:
    """Return the half-width of the 68 % interval of the mean of a stationary, possibly correlated series ``(N,)``.

    That of ``error_bar``; nan below 8 samples, 0 for a constant series.

    Example:
        >>> import numpy as np
        >>> from ctsa.errorbars import standard_error
        >>> standard_error(np.full(10, 3.0))
        0.0
    """
    return float(error_bar(series).half_width())


def _burg(x: np.ndarray, most: int) -> tuple[np.ndarray, float]:
    """Fit ``x_t = sum_j a_j x_(t-j) + noise`` by Burg's recursion, order of the least AICc; return a, noise variance."""
    n = len(x)
    a, v = np.zeros(0), float(x @ x / n)
    forward = backward = x
    least, best = n * math.log(v) + n * n / (n - 2), (a, v)
    for p in range(1, most + 1):
        forward, backward = forward[1:], backward[:-1]
        power = float(forward @ forward + backward @ backward)
        if power <= 1e-24 * n * best[1]:
            break
        r = 2 * float(forward @ backward) / power
        a, v = np.append(a - r * a[::-1], r), v * (1 - r * r)
        if v <= 0:
            break
        forward, backward = forward - r * backward, backward - r * forward
        criterion = n * math.log(v) + n * (n + p) / (n - p - 2)
        if criterion < least:
            least, best = criterion, (a, v)
    a, v = best
    # A line of zero width gets one that N samples cannot resolve.
    return a * (1 - 0.25 / n) ** np.arange(1, len(a) + 1), v * n / (n - len(a) - 1)


def _expected_periodogram(a: np.ndarray, v: float, n: int) -> np.ndarray:
    """Return ``E I_k``, k = 0 ... n // 2, for n samples of the fitted process: its spectrum smeared by the Fejer kernel."""
    points = 1 << math.ceil(math.log2(8 * n))
    spectrum = v / np.maximum(np.abs(np.fft.rfft(np.append(1.0, -a), points)) ** 2, 1e-12)
    acf = np.fft.irfft(spectrum)[:n] * (1 - np.arange(n) / n)
    acf[1:] += acf[:0:-1].copy()  # lags l and n - l look the same to k
    return np.fft.rfft(acf).real


def _doubt_at_zero(a: np.ndarray, n: int) -> float:
    """Return the variance of ``log (1 - sum a)`` under the fit: how badly the pilot knows the spectrum at zero."""
    gain = max(1 - float(a.sum()), 1e-9)
    return max(len(a) + 2 * float(a @ np.arange(1, len(a) + 1)) / gain, 0.0) / n


def _continued(ratio: np.ndarray) -> tuple[float, float]:
    """Fit ``log E ratio_k`` by a parabola in k (a line, a constant if there are few); return its value at 0, and variance.

    ``ratio_k`` is exponentially distributed about its mean, so that Fisher scoring has weights 1. The value is corrected
    for exp(fit) to be unbiased to first order.
    """
    m = len(ratio)
    terms = 1 + (m >= 6) + (m >= 12)
    basis = np.vander(np.arange(1, m + 1) / m, terms, increasing=True)
    inverse = np.linalg.inv(basis.T @ basis)
    pairs, middles = ratio.reshape(-1, 2).mean(1), basis.reshape(-1, 2, terms)
    # E log of the mean of two exponential variables is log E - 0.27.
    beta = np.linalg.lstsq(middles.mean(1), np.log(pairs) + 0.27, rcond=None)[0]
    for _ in range(6):
        residual = np.minimum(ratio * np.exp(-np.clip(basis @ beta, -60, 60)), 20) - 1
        beta = beta + inverse @ (basis.T @ residual)
    leverage = np.einsum("ki,ij,kj->k", basis, inverse, basis)
    level = beta[0] - inverse[0, 0] / 2 + inverse[0] @ (basis.T @ leverage) / 2
    return float(level), float(inverse[0, 0])
