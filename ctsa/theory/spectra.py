"""Spectra of the tangent Jacobian at equilibria of self-attention on the sphere, in closed form.

Throughout ``dx_i/dt = P_i sum_j a_ij V x_j`` with ``a_ij = softmax_j(beta x_i^T A x_j)``, ``A = Q^T K`` (that is
``query.T @ key``), V and A any real square matrices, n tokens on the unit sphere of dimension d - 1. Eigenvalues of V are
sorted by real part, descending; ``k`` counts them from 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from ctsa.checks import choice, concrete, integer, parameter

from ._eigen import (
    SLACK,
    WEIGHTS,
    descending,
    eigenpair,
    eigenvalues,
    finite,
    self_score,
    shared,
    square,
    stable,
    tangent_bases,
)


# ------------------------------------------------------------------------------------------------------------ consensus
def _read_mask(mask: Any, n: int, weights: str) -> np.ndarray:
    m = np.asarray(concrete(parameter("mask", mask, 2, 3)), dtype=float)
    if m.shape[-2:] != (n, n):
        raise ValueError(f"mask must be 'causal' or have shape ({n}, {n}) or (heads, {n}, {n}), got {m.shape}")
    if (m < 0).any():
        raise ValueError("mask must be booleans or non-negative numbers that multiply the weights, got negative ones")
    sums = m.sum(-1, keepdims=True)
    if weights == "softmax":
        if not sums.all():
            raise ValueError(f"mask row {int(np.argwhere(sums[..., 0] == 0)[0][-1])} is empty: no token to attend to")
        return m / sums
    return m / n


def _coupled(mus: np.ndarray, lam: float, k: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of ``mu K - lam diag(K 1)`` for every mu."""
    rates = k.sum(-1)
    if not (np.triu(k, 1).any() and np.tril(k, -1).any()):  # triangular: exact, where a general solver loses digits
        return np.outer(mus, np.diag(k)) - lam * rates
    return np.linalg.eigvals(mus[:, None, None] * k - lam * np.diag(rates))


def consensus_spectrum(
    value: Any, k: int, n: int, *, mask: Any = None, weights: str = "softmax", A: Any = None, beta: float | None = None
) -> np.ndarray:
    """Return the spectrum of consensus at the eigenvector ``v_k`` of V: all n tokens are equal to it (or to minus it).

    Consensus rests at real eigenvectors of V whatever A and beta are. With softmax weights the spectrum is
    ``{mu - lambda_k}`` for the other eigenvalues mu of V, and ``-lambda_k`` another ``(n-1)(d-1)`` times: stable iff
    ``lambda_k`` exceeds the real parts of all others and, for n of 2 or more, is positive. With a mask it is
    ``{mu w - lambda_k}`` for w in the spectrum of the row-normalised mask (``w = 1/j``, j = 1..n, if causal).
    Unnormalised weights multiply by ``exp(beta kappa)``, ``kappa = v_k^T A v_k``; masked, their rows do not sum to one,
    and the eigenvalues are those of ``mu K - lambda_k diag(K 1)`` with ``K = mask / n``, times that factor.

    Args:
        value: V, ``(d, d)``, symmetric or not; ``(heads, d, d)`` acts by its sum (with a mask for each head it is no
            longer the sum alone that matters, which is taken into account).
        k: index of a real eigenvalue of V.
        n: number of tokens, at least 1.
        mask: None, "causal", or ``(n, n)`` or ``(heads, n, n)``, booleans or factors, as in ``SelfAttention``.
        weights: "softmax" (the same for all weights whose rows sum to one) or "unnormalised".
        A: ``(d, d)``, for unnormalised weights only; None is the identity.
        beta: inverse temperature, for unnormalised weights only.

    Returns:
        NumPy complex ``(n (d-1),)``, by real part, descending.

    Raises:
        ValueError: eigenvalue k is complex, k is out of range, the mask does not fit.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.theory.consensus_spectrum(np.diag([3.0, 2.0, 1.0]), 0, 2).real
        array([-1., -2., -3., -3.])

    References:
        Altafini, arXiv 2511.11553; masks: arXiv 2411.04990.
    """
    choice("weights", weights, WEIGHTS)
    n, v = integer("n", n, low=1), square("value", value)
    if isinstance(mask, str):
        choice("mask", mask, ["causal"])
    elif mask is not None:
        mask = _read_mask(mask, n, weights)
        if mask.ndim == 3:
            return _headed_consensus(v, k, mask, weights)
    lam, mus, basis = eigenpair(v.sum(0) if v.ndim == 3 else v, k)
    gain = 1.0
    if weights == "unnormalised":
        if beta is None:
            raise ValueError("weights='unnormalised' need beta (and A, unless it is the identity), got None")
        _, a, beta = shared(v, A, beta)
        with np.errstate(over="ignore"):
            gain = float(finite(np.exp(beta * self_score(a, basis))))
    if mask is None:
        values = np.concatenate([mus - lam, np.full((n - 1) * len(mus), -lam)])
    elif isinstance(mask, str):
        j = np.arange(1, n + 1)
        own, rates = (1 / j, 1 + 0 * j) if weights == "softmax" else (np.full(n, 1 / n), j / n)
        values = np.outer(mus, own) - lam * rates
    else:
        values = _coupled(mus, lam, mask)
    return descending(gain * values)


def _headed_consensus(v: np.ndarray, k: int, masks: np.ndarray, weights: str) -> np.ndarray:
    """Masks of heads do not commute with their values: ``sum_h K_h (x) P V_h P - lambda_k`` is taken as it is."""
    if weights != "softmax":
        raise ValueError("a mask for each head goes with weights='softmax': with others eigenvectors are no equilibria")
    heads = len(masks)
    if v.ndim == 3 and len(v) != heads:
        raise ValueError(f"mask has {heads} heads, but value has {len(v)}")
    v = np.broadcast_to(v, (heads, *v.shape[-2:]))
    lam, _, basis = eigenpair(v.sum(0), k)
    e = tangent_bases(basis[:, :1].T)[0]
    values = np.linalg.eigvals(sum(np.kron(m, e.T @ h @ e) for m, h in zip(masks, v, strict=True)))
    return descending(values - lam)


def consensus_period(value: Any) -> float:
    """Return the period ``2 pi / w`` at which consensus rotates where the leading eigenvalues of V are ``a +- i w``.

    Args:
        value: V, ``(d, d)`` or ``(heads, d, d)``, which acts by its sum.

    Raises:
        ValueError: the leading eigenvalue is real; consensus then comes to rest.

    Example:
        >>> import numpy as np, ctsa
        >>> round(ctsa.theory.consensus_period([[1.0, -2.0], [2.0, 1.0]]) / np.pi, 12)
        1.0
    """
    v = square("value", value)
    top = eigenvalues(v.sum(0) if v.ndim == 3 else v)[0]
    if not top.imag:
        raise ValueError(
            f"value must have a leading complex pair for consensus to rotate, but its leading eigenvalue is "
            f"{top.real:.6g}: consensus rests there, see consensus_spectrum"
        )
    return float(2 * np.pi / abs(top.imag))


def consensus_multipliers(value: Any, n: int) -> np.ndarray:
    """Return the Floquet multipliers over one period T of the consensus that rotates under a leading pair ``a +- i w``.

    ``exp((mu - a) T)`` for the d - 2 other eigenvalues mu of V, 1 along the orbit, and ``exp(-a T)`` another
    ``(n-1)(d-1)`` times (no mask, weights whose rows sum to one). The orbit is a great circle, along which
    parallel transport is the identity, so that nothing else turns up. Stable iff ``a > 0``.

    Args:
        value: V, ``(d, d)`` or ``(heads, d, d)``, which acts by its sum.
        n: number of tokens, at least 1.

    Returns:
        NumPy complex ``(n (d-1),)``, by modulus, descending.

    Raises:
        ValueError: the leading eigenvalue is real.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.theory.consensus_multipliers([[0.0, -1.0], [1.0, 0.0]], 2).real
        array([1., 1.])
    """
    n, period, v = integer("n", n, low=1), consensus_period(value), square("value", value)
    mus = eigenvalues(v.sum(0) if v.ndim == 3 else v)
    a = mus[0].real
    rest = np.full((n - 1) * (len(mus) - 1), np.exp(-a * period))
    values = np.concatenate([[1.0], np.exp((mus[2:] - a) * period), rest]).astype(complex)
    return values[np.lexsort((-values.imag, -np.abs(values)))]


@dataclass(frozen=True, eq=False)
class OjaEquilibrium:
    """A resting token of Oja's flow: a unit eigenvector of V.

    Attributes:
        k: index of the eigenvalue.
        eigenvalue: ``lambda_k``.
        direction: ``(d,)``.
        spectrum: ``mu - lambda_k`` for the other eigenvalues mu, complex ``(d-1,)``, by real part, descending.
        stable: whether all real parts are negative.
        family: dimension of the sphere of equilibria it belongs to, 0 where it is isolated.
    """

    k: int
    eigenvalue: float
    direction: np.ndarray
    spectrum: np.ndarray
    stable: bool
    family: int

    def __repr__(self) -> str:
        verdict = "stable" if self.stable else "not stable"
        family = f", family of dimension {self.family}" if self.family else ""
        return f"OjaEquilibrium(k={self.k}, eigenvalue={self.eigenvalue:.6g}, {verdict}{family})"


def oja_equilibria(value: Any) -> list[OjaEquilibrium]:
    """Return all equilibria of Oja's flow ``dx/dt = V x - (x^T V x) x``: both signs of every real eigenvector of V.

    A degenerate eigenvalue has a sphere of them; a basis of it is listed, with zeros in the spectrum, and none of these
    counts as stable. n tokens that share the flow at ``beta = 0`` have these as consensus, see ``consensus_spectrum``.

    Args:
        value: V, any real ``(d, d)``; ``(heads, d, d)`` acts by its sum.

    Returns:
        List of ``OjaEquilibrium``, by eigenvalue, descending; empty if no eigenvalue is real.

    Example:
        >>> import numpy as np, ctsa
        >>> [(e.k, e.stable) for e in ctsa.theory.oja_equilibria(np.diag([3.0, 2.0]))]
        [(0, True), (0, True), (1, False), (1, False)]
    """
    v = square("value", value)
    v = v.sum(0) if v.ndim == 3 else v
    found: list[OjaEquilibrium] = []
    listed = 0
    for k, w in enumerate(eigenvalues(v)):
        if w.imag:
            continue
        lam, mus, basis = eigenpair(v, k)
        same = bool(found) and abs(lam - found[-1].eigenvalue) <= SLACK * np.linalg.norm(v)
        listed = listed + 1 if same else 0
        if listed >= basis.shape[1]:  # a defective eigenvalue has fewer vectors than its multiplicity
            continue
        spectrum = descending(mus - lam)
        for x in (basis[:, listed], -basis[:, listed]):
            found.append(OjaEquilibrium(k, lam, x, spectrum, stable(spectrum), basis.shape[1] - 1))
    return found


# -------------------------------------------------------------------------------------------------- bipartite consensus
def bipartite_modes(lam: float, mus: np.ndarray, z: Any, n_plus: Any, n_minus: Any, weights: str):
    """Return the rates within both groups ``(..., 2)``, and the eigenvalues of the 2x2 blocks ``(..., 2, d-1)``.

    ``z = beta kappa``, ``n_plus`` and ``n_minus`` broadcast. Within a group all modes share one rate.
    """
    z, n_plus, n_minus = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (z, n_plus, n_minus)))
    if weights == "softmax":
        bias = np.log(n_plus / n_minus)
        pp, pm = expit(2 * z + bias), expit(-2 * z - bias)  # what + gives to +, to -
        mm, mp = expit(2 * z - bias), expit(bias - 2 * z)
    else:
        n = n_plus + n_minus
        with np.errstate(over="ignore"):
            pp, pm, mm, mp = n_plus * np.exp(z), n_minus * np.exp(-z), n_minus * np.exp(z), n_plus * np.exp(-z)
        pp, pm, mm, mp = finite(np.stack([pp, pm, mm, mp]) / n)
    plus, minus = -lam * (pp - pm), -lam * (mm - mp)
    # [[mu pp + plus, mu pm], [mu mp, mu mm + minus]] on the common tangent space, one block for each mu.
    a, d = mus * pp[..., None] + plus[..., None], mus * mm[..., None] + minus[..., None]
    root = np.sqrt(((a - d) / 2) ** 2 + mus**2 * (pm * mp)[..., None])
    return np.stack([plus, minus], -1), np.stack([(a + d) / 2 + root, (a + d) / 2 - root], -2)


def bipartite_spectrum(
    value: Any, A: Any, beta: float, k: int, n_plus: int, n_minus: int, *, weights: str = "softmax"
) -> np.ndarray:
    """Return the spectrum of bipartite consensus: ``n_plus`` tokens at ``v_k``, ``n_minus`` at ``-v_k``.

    With ``z = beta v_k^T A v_k`` (all that A contributes, symmetric or not), ``m_+- = tanh(z +- ln(n_+/n_-) / 2)`` and
    ``S = (m_+ + m_-)/2``, the modes within the groups have the rates ``-lambda_k m_+``, ``(n_+ - 1)(d-1)`` times, and
    ``-lambda_k m_-``, ``(n_- - 1)(d-1)`` times; and every other eigenvalue mu of V gives the two eigenvalues of a block of
    trace ``mu (1 + S) - 2 lambda_k S`` and determinant ``(mu - lambda_k)(S mu - lambda_k m_+ m_-)``. Unnormalised weights
    have the block ``mu K - lambda_k diag(K s) diag(s)``, K the weights summed over each group, s = (1, -1).

    Args:
        value: V, ``(d, d)``, symmetric or not; ``(heads, d, d)`` acts by its sum, as the heads have one A and one beta.
        A: ``Q^T K``, ``(d, d)``; None is the identity.
        beta: inverse temperature.
        k: index of a real eigenvalue of V.
        n_plus: tokens at ``v_k``, at least 1.
        n_minus: tokens at ``-v_k``, at least 1.
        weights: "softmax" or "unnormalised".

    Returns:
        NumPy complex ``(n (d-1),)``, by real part, descending.

    Raises:
        ValueError: eigenvalue k is complex, or so degenerate that ``v_k^T A v_k`` is not determined.

    Example:
        >>> import numpy as np, ctsa
        >>> V = np.diag([3.0, 2.0, 1.0])
        >>> ctsa.theory.bipartite_spectrum(V, V, 1.0, 0, 2, 1).real.round(6)
        array([-0.978768, -0.996549, -1.97501 , -1.994136, -2.992573, -2.992573])

    References:
        Altafini, arXiv 2511.11553.
    """
    choice("weights", weights, WEIGHTS)
    v, a, beta = shared(value, A, beta)
    n_plus, n_minus = integer("n_plus", n_plus, low=1), integer("n_minus", n_minus, low=1)
    lam, mus, basis = eigenpair(v, k)
    within, blocks = bipartite_modes(lam, mus, beta * self_score(a, basis), n_plus, n_minus, weights)
    times = [(n_plus - 1) * len(mus), (n_minus - 1) * len(mus)]
    return descending(np.concatenate([np.repeat(within, times), blocks.ravel()]))
