"""Counting: stable states over all assignments of signs, and how likely a hemisphere is."""

from math import comb
from typing import Any

import numpy as np

from ctsa.checks import choice, integer

from ._eigen import SLACK, WEIGHTS, eigenpair, eigenvalues, self_score, shared, stable
from .spectra import bipartite_modes, consensus_spectrum

Census = dict[tuple[str, int], int]


def _stable_splits(lam: float, mus: np.ndarray, z: float, n: int, weights: str) -> np.ndarray:
    """Return, for n_plus = 1..n-1, whether bipartite consensus with that many tokens at v_k is stable."""
    n_plus = np.arange(1, n)
    within, blocks = bipartite_modes(lam, mus, z, n_plus, n - n_plus, weights)
    within[np.stack([n_plus, n - n_plus], -1) == 1] = -np.inf  # a single token has no modes within its group
    top = np.maximum(within.max(-1), blocks.real.max((-2, -1)))
    size = np.maximum(np.abs(np.where(np.isinf(within), 0, within)).max(-1), np.abs(blocks).max((-2, -1)))
    return top < -SLACK * np.where(size > 0, size, 1)


def census(value: Any, A: Any, beta: float, n: int, *, weights: str = "softmax") -> Census:
    """Count the stable states among all those with every token at an eigenvector ``v_k`` of V or at its opposite.

    Of the ``2^n`` assignments of signs, 2 are consensus and the others bipartite consensus; their spectra depend on the
    size of the groups alone, so ``C(n, n_plus)`` states are judged at once, and n may be large. Counts are exact integers.

    A state counts as stable if all real parts of its spectrum are negative; a zero (to 1e-10 of the largest) is not. So
    states of a degenerate ``lambda_k`` count 0: they belong to continuous families, which can attract as a whole only.
    (At a defective eigenvalue rounding may decide: its copies differ by the root of the rounding error.)

    Args:
        value: V, ``(d, d)``, symmetric or not; ``(heads, d, d)`` acts by its sum.
        A: ``Q^T K``, ``(d, d)``; None is the identity.
        beta: inverse temperature.
        n: number of tokens, at least 1.
        weights: "softmax" or "unnormalised".

    Returns:
        ``{("consensus", k): count, ("bipartite consensus", k): count}`` for every real eigenvalue, zeros included. Complex
        ones carry no states of this kind.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0])
        >>> ctsa.theory.census(V, V, 1.0, 10)[("bipartite consensus", 0)]
        1022

    References:
        Altafini, arXiv 2511.11553.
    """
    choice("weights", weights, WEIGHTS)
    v, a, beta = shared(value, A, beta)
    n = integer("n", n, low=1)
    w = eigenvalues(v)
    counts: Census = {}
    for k in np.flatnonzero(w.imag == 0).tolist():
        lam, mus, basis = eigenpair(v, k)
        counts["consensus", k] = 2 * stable(consensus_spectrum(v, k, n))  # weights only scale it
        splits = np.zeros(0, dtype=bool)
        if n > 1 and np.abs(mus - lam).min() > SLACK * np.abs(w).max():  # degenerate: a zero eigenvalue
            splits = _stable_splits(lam, mus, beta * self_score(a, basis), n, weights)
        counts["bipartite consensus", k] = _choices(n, splits)
    return counts


def _choices(n: int, splits: np.ndarray) -> int:
    """Return the sum of C(n, m) over the m = 1, 2, ... that are marked."""
    total, ways = 0, 1
    for m, marked in enumerate(splits.tolist(), start=1):
        ways = ways * (n - m + 1) // m
        total += ways * marked
    return total


def census_table(
    value: Any, A: Any, betas: Any, n: int, *, weights: str = "softmax"
) -> dict[tuple[str, int], list[int]]:
    """Count stable states for several ``beta``: the columns of a chart.

    Args:
        value: V, ``(d, d)``; ``(heads, d, d)`` acts by its sum.
        A: ``Q^T K``, ``(d, d)``; None is the identity.
        betas: inverse temperatures.
        n: number of tokens, at least 1.
        weights: "softmax" or "unnormalised".

    Returns:
        ``{(kind, k): [count for every beta]}``, keys as in ``census``, exact integers.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0, 1.0])
        >>> ctsa.theory.census_table(V, V, [0.1, 0.25, 0.5, 1.0], 10)[("bipartite consensus", 0)]
        [0, 0, 1002, 1022]
    """
    betas = np.asarray(betas)
    if betas.ndim != 1 or not len(betas):
        raise ValueError(
            f"betas must be a list of at least one number, got shape {betas.shape}: one beta is for census"
        )
    columns = [census(value, A, b, n, weights=weights) for b in betas]
    return {key: [column[key] for column in columns] for key in columns[0]}


def hemisphere_probability(n: int, d: int) -> float:
    """Return the probability that n uniform points of the sphere in R^d lie in an open hemisphere.

    ``2^-(n-1) sum_{k<d} C(n-1, k)`` (Wendel): 1 for ``n <= d``, 1/2 for ``n = 2 d``. Under Q = K = V = I tokens that start
    so collapse to one point, whatever beta is.

    Args:
        n: number of points, at least 1.
        d: dimension, at least 1.

    Example:
        >>> hemisphere_probability(4, 3), hemisphere_probability(6, 3)
        (0.875, 0.5)

    References:
        Wendel, Math. Scand. 11 (1962); Geshkovski et al., arXiv 2312.10794.
    """
    n, d = integer("n", n, low=1), integer("d", d, low=1)
    if n <= d:
        return 1.0
    return sum(comb(n - 1, k) for k in range(d)) / 2 ** (n - 1)  # integers: no overflow, and rounded once
