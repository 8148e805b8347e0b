"""Spectra of clustered equilibria: modes within the clusters, and modes that move clusters as wholes."""

from typing import Any

import numpy as np

from ctsa.checks import choice, concrete, integer, number, parameter

from ._eigen import WEIGHTS, descending, finite, scored, square, tangent_bases


class _Clusters:
    """Directions (q, d) with counts (q,), and the derivative of attention between and within them."""

    def __init__(self, directions, counts, value, A, beta, weights, rest):
        choice("weights", weights, WEIGHTS)
        v = square("value", value)
        d = v.shape[-1]
        a = scored(A, d)
        b = np.asarray(concrete(parameter("beta", beta, 0, 1)), dtype=float)
        self.w = w = self._directions(directions, d)
        self.r = r = self._counts(counts, len(w))
        several = {len(m) for m, rank in ((v, 2), (a, 2), (b, 0)) if m.ndim > rank}
        if len(several) > 1:
            raise ValueError(
                f"value, A and beta must have the same number of heads, got {v.shape}, {a.shape}, {b.shape}"
            )
        heads = several.pop() if several else 1
        v, a = (np.broadcast_to(m, (heads, d, d)) for m in (v, a))
        b = np.broadcast_to(b, (heads,))

        s = b[:, None, None] * (w @ a @ w.T)  # (heads, q, q)
        if weights == "softmax":
            p = r * np.exp(s - s.max(-1, keepdims=True))
            p = p / p.sum(-1, keepdims=True)
            m = p @ w
        else:  # no normalisation, so no mean to subtract
            with np.errstate(over="ignore"):
                p = finite(r * np.exp(s) / r.sum())
            m = np.zeros((heads, *w.shape))
        away = w - m[:, :, None]  # (heads, q, q, d): w_b - m_a
        covariance = np.einsum("hab,habi,habj->haij", p, away, away)
        outputs = np.einsum("hij,haj->ai", v, p @ w)
        self.phi = (w * outputs).sum(-1)
        off = float(np.abs(outputs - self.phi[:, None] * w).max())
        if off > rest * max(1.0, float(np.abs(outputs).max())):
            raise ValueError(
                f"directions with these counts must be an equilibrium, but a cluster moves at {off:.3g} (rest={rest:g}): "
                "refine it with ctsa.find_equilibria or by integrating for longer"
            )
        q = b[:, None, None] * (w @ a)  # beta A^T w_a, (heads, q, d)
        # What the tokens of b, moved together, do to a; and what a token of a does to itself through its scores.
        self.between = np.einsum("hab,hij->aibj", p, v) + np.einsum("hab,hij,habj,hak->aibk", p, v, away, q)
        self.own = np.einsum("h,hij,hajk,hlk->ail", b, v, covariance, a)
        self.bases = tangent_bases(w)

    @staticmethod
    def _directions(directions, d):
        w = np.asarray(concrete(parameter("directions", directions, 2)), dtype=float)
        if w.shape[1] != d:
            raise ValueError(f"directions has shape {w.shape}, but must be (q, {d}) to match value")
        off = np.abs(np.linalg.norm(w, axis=-1) - 1).max()
        if off > 1e-6:
            raise ValueError(f"directions must be unit rows, but a length differs from 1 by {off:.3g}: normalise them")
        return w / np.linalg.norm(w, axis=-1, keepdims=True)

    @staticmethod
    def _counts(counts, q):
        r = np.asarray(counts)
        if r.shape != (q,) or r.dtype.kind not in "iu" or (r < 1).any():
            raise ValueError(f"counts must be {q} positive integers, one a direction, got {counts!r}")
        return r

    def within(self, a):
        """The d - 1 eigenvalues of modes within cluster a that leave its mean where it is."""
        e = self.bases[a]
        return np.linalg.eigvals(e.T @ self.own[a] @ e) - self.phi[a]

    def collective(self):
        """The q (d-1) eigenvalues of modes that move clusters as wholes."""
        e, (q, d) = self.bases, self.w.shape
        j = np.einsum("aic,aibj,bje->acbe", e, self.between, e)
        i = np.arange(q)
        j[i, :, i] += np.einsum("aic,aij,aje->ace", e, self.own, e) - self.phi[:, None, None] * np.eye(d - 1)
        return np.linalg.eigvals(j.reshape(q * (d - 1), q * (d - 1)))


def within_cluster_spectrum(
    directions: Any,
    counts: Any,
    value: Any,
    A: Any,
    beta: Any,
    cluster: int,
    *,
    weights: str = "softmax",
    rest: float = 1e-6,
) -> np.ndarray:
    """Return the rates at which one cluster of an equilibrium contracts, or tears: modes that leave its mean in place.

    They are the eigenvalues of ``beta P_a V C_a A^T P_a - phi_a`` on the tangent space at ``w_a``, each
    ``counts[a] - 1`` times: ``C_a`` is the covariance of all tokens under the attention weights of cluster a, and
    ``phi_a = <w_a, V m_a>`` the radial part of its output, ``m_a`` the mean. (Unnormalised weights: the second moment
    instead of the covariance.) Heads are summed.

    Args:
        directions: the clusters ``w_a``, unit rows ``(q, d)``, an equilibrium with these counts.
        counts: tokens in each, integers ``(q,)``.
        value: V, ``(d, d)`` or ``(heads, d, d)``.
        A: ``Q^T K``, ``(d, d)`` or ``(heads, d, d)``; None is the identity.
        beta: inverse temperature, a number or one a head.
        cluster: index a.
        weights: "softmax" or "unnormalised".
        rest: how fast a cluster may move, relative to the output of attention, and still count as resting.

    Returns:
        NumPy complex ``((counts[a] - 1)(d-1),)``, by real part, descending; empty for a single token.

    Raises:
        ValueError: the state is no equilibrium, or shapes do not fit.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0])
        >>> ctsa.theory.within_cluster_spectrum([[1.0, 0.0], [-1.0, 0.0]], [2, 2], V, V, 1.0, 0).real.round(6)
        array([-2.985164])

    References:
        Altafini, arXiv 2511.11553.
    """
    state = _Clusters(directions, counts, value, A, beta, weights, number("rest", rest, low=0.0))
    a = integer("cluster", cluster)
    if a >= len(state.w):
        raise ValueError(f"cluster must be below {len(state.w)}, the number of directions, got {a}")
    return descending(np.repeat(state.within(a), state.r[a] - 1))


def clustering_spectrum(
    directions: Any, counts: Any, value: Any, A: Any, beta: Any, *, weights: str = "softmax", rest: float = 1e-6
) -> np.ndarray:
    """Return the spectrum of any clustered equilibrium without forming its Jacobian, so that n may be large.

    Modes within the clusters (see ``within_cluster_spectrum``), and the ``q (d-1)`` modes that move clusters as wholes:
    the Jacobian of q tokens of weights ``counts``. Consensus (q = 1), bipartite consensus (``w_2 = -w_1``), polygons and
    states without equal tokens (all counts 1) are special cases; an n-token Jacobian costs ``(n d)^3``, this ``(q d)^3``.

    Args:
        directions: the clusters ``w_a``, unit rows ``(q, d)``, an equilibrium with these counts.
        counts: tokens in each, integers ``(q,)``; n is their sum.
        value: V, ``(d, d)`` or ``(heads, d, d)``.
        A: ``Q^T K``, ``(d, d)`` or ``(heads, d, d)``; None is the identity.
        beta: inverse temperature, a number or one a head.
        weights: "softmax" or "unnormalised".
        rest: how fast a cluster may move, relative to the output of attention, and still count as resting.

    Returns:
        NumPy complex ``(n (d-1),)``, by real part, descending.

    Raises:
        ValueError: the state is no equilibrium, or shapes do not fit.

    Example:
        >>> import numpy as np, ctsa
        >>> turn = 2 * np.pi * np.arange(3) / 3
        >>> triangle = np.stack([np.cos(turn), np.sin(turn)], -1)  # three clusters of a million tokens
        >>> spectrum = ctsa.theory.clustering_spectrum(triangle, [10**6] * 3, np.eye(2), np.eye(2), 9.0)
        >>> len(spectrum), bool(spectrum[0].real > 0)
        (3000000, True)

    References:
        Altafini, arXiv 2511.11553.
    """
    state = _Clusters(directions, counts, value, A, beta, weights, number("rest", rest, low=0.0))
    inner = [np.repeat(state.within(a), r - 1) for a, r in enumerate(state.r)]
    return descending(np.concatenate([state.collective(), *inner]))
