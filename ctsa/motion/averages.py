"""Weighted averages tell regular from chaotic motion: of regular motion those over two halves agree to many digits."""

import numpy as np

LEAST = 4.0  # digits that only regular motion reaches, other than by chance


def bump_average(y: np.ndarray) -> np.ndarray:
    """Average rows with the weights ``exp(-1 / (t (1 - t)))``: of regular motion faster than any power of their number.

    References:
        Das, Saiki, Sander, Yorke, Nonlinearity 30 (2017) 4111.
    """
    t = np.arange(1.0, len(y) + 1) / (len(y) + 1)
    w = np.exp(-1 / (t * (1 - t)))
    return np.tensordot(w / w.sum(), y, 1)


def digits(y: np.ndarray) -> float:
    """Return to how many digits averages over two halves agree, for the worst of the columns that vary; at most 16."""
    half, spread = len(y) // 2, y.std(0)
    varies = spread > 1e-9 * (np.abs(y).max() + 1e-300)
    if half < 2 or not varies.any():
        return 16.0
    off = bump_average(y[:half, varies]) - bump_average(y[half : 2 * half, varies])
    return float(-np.log10(np.clip(np.abs(off) / spread[varies], 1e-16, None).max()))


def observables(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return functions of the state, squares and products among them: the worst is looked at.

    What is the derivative of something bounded averages out fast for any motion, so that the best would tell nothing.
    """
    z = np.concatenate([x, v * (x.std() + 1e-300) / (v.std() + 1e-300)], 1)
    z = z - z.mean(0)
    return np.concatenate([x, z**2, z * np.roll(z, 1, 1), z**2 * np.roll(z, 1, 1)], 1)


def convergence(seen: np.ndarray) -> tuple[float, float]:
    """Return the digits of a run, and how many more it has than its last quarter.

    Of random fluctuations a run four times as long has 0.3 digits more, of regular motion several, until rounding or the
    solver ends it: the best of a ladder of lengths n, n / 2, n / 4, ... counts, as far down as the digits are still many.
    """
    n = len(seen)
    ladder = [digits(seen[-(n >> j) :]) for j in range(5) if j == 0 or n >> j >= 16]
    gains = [ladder[j] - ladder[j + 2] for j in range(len(ladder) - 2) if min(ladder[: j + 1]) >= LEAST]
    return ladder[0], max(gains, default=0.0)
