"""Clusters as hills of the density of tokens: where each ends that climbs it."""

import numpy as np

_SCORES = 2**22  # of a block of rows


def climbed(points: np.ndarray, kappa: float, rounds: int = 10_000) -> np.ndarray:
    """Return where tokens ``(n, d)`` end that climb the von Mises-Fisher density ``sum_j exp(kappa <x, x_j>)``.

    Mean shift, ``x <- sum_j exp(kappa <x, x_j>) x_j / |...|``, never lowers the density: the tokens stay, copies climb. It
    is a layer of attention with beta = kappa, from tokens that move to tokens that are held.

    References:
        Cheng, *Mean shift, mode seeking, and clustering*, IEEE PAMI 17 (1995); Kobayashi, Otsu, *Von Mises-Fisher mean
        shift for clustering on a hypersphere*, ICPR 2010.
    """
    n, ends = len(points), points.copy()
    moving = np.arange(n)
    rows = max(1, _SCORES // n)
    still = 1e-6 / np.sqrt(kappa)
    for _ in range(rounds):
        speed = np.empty(len(moving))
        for start in range(0, len(moving), rows):
            each = moving[start : start + rows]
            moved = np.exp(kappa * (ends[each] @ points.T - 1)) @ points
            moved /= np.linalg.norm(moved, axis=1, keepdims=True)
            speed[start : start + rows] = np.linalg.norm(moved - ends[each], axis=1)
            ends[each] = moved
        moving = moving[speed > still]
        if not len(moving):
            break
    return ends
