"""What the closed forms of equilibria read from matrices: eigenvalues in order, real eigenvectors, verdicts."""

from typing import Any

import numpy as np

from ctsa.checks import concrete, integer, number, parameter

# Below this, relative to the largest number beside it, an eigenvalue (or a difference of two) is taken to be zero.
SLACK = 1e-10
WEIGHTS = ("softmax", "unnormalised")


def square(name: str, value: Any) -> np.ndarray:
    """Read square matrices ``(d, d)`` or ``(heads, d, d)``, d at least 2, as float64."""
    checked = parameter(name, value, 2, 3)
    values = None if checked is None else concrete(checked)
    if values is None:
        raise TypeError(f"{name} must be an array (d, d) or (heads, d, d) of known numbers, got {type(value).__name__}")
    a = np.asarray(values, dtype=float)
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"{name} must be square, (d, d) or (heads, d, d), got shape {a.shape}")
    if a.shape[-1] < 2:
        raise ValueError(f"{name} has d = {a.shape[-1]}, but tokens on a sphere need d of at least 2")
    return a


def scored(A: Any, d: int) -> np.ndarray:
    """Read the matrix ``A = Q^T K`` of the scores, ``(d, d)`` or ``(heads, d, d)``; None is the identity."""
    a = np.eye(d) if A is None else square("A", A)
    if a.shape[-1] != d:
        raise ValueError(f"A has shape {a.shape}, but must be ({d}, {d}) to match value")
    return a


def shared(value: Any, A: Any, beta: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Read value (summed over heads), A and beta where all heads have the same weights."""
    v = square("value", value)
    a, b = scored(A, v.shape[-1]), number("beta", beta)
    if a.ndim == 3:
        raise ValueError(
            f"A has shape {a.shape}, scores of its own for every head, and then the eigenvectors of value need not be "
            "equilibria: pass one (d, d), or the directions and counts to clustering_spectrum"
        )
    return (v.sum(0) if v.ndim == 3 else v), a, b


def descending(values: Any) -> np.ndarray:
    """Sort complex numbers by real part, descending; of equal ones the larger imaginary part comes first."""
    values = np.asarray(values, dtype=complex).ravel()
    return values[np.lexsort((-values.imag, -values.real))]


def eigenvalues(v: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of ``v``, descending; what is real to rounding has imaginary part zero."""
    w = np.linalg.eigvalsh(v) if (v == v.T).all() else np.linalg.eigvals(v)
    real = np.abs(w.imag) <= 1e-12 * np.abs(w).max()
    return descending(np.where(real, w.real, w))


def eigenpair(v: np.ndarray, k: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the real eigenvalue k, the other eigenvalues ``(d-1,)``, and a basis ``(d, m)`` of the eigenspace.

    Raises:
        ValueError: ``k`` is out of range, or eigenvalue k is complex.
    """
    w, k = eigenvalues(v), integer("k", k)
    if k >= len(w):
        raise ValueError(f"k must be below d = {len(w)}, the number of eigenvalues of value, got {k}")
    if w[k].imag:
        real = np.flatnonzero(w.imag == 0).tolist()
        raise ValueError(
            f"value has the complex eigenvalue {w[k]:.6g} at k={k}: no token rests there, and a leading pair makes "
            f"consensus rotate, see consensus_period; real eigenvalues are at k in {real}"
        )
    lam = float(w[k].real)
    _, s, vh = np.linalg.svd(v - lam * np.eye(len(v)))
    null = max(1, int((s <= SLACK * np.linalg.norm(v)).sum()))
    return lam, np.delete(w, k), vh[len(v) - null :].T


def self_score(A: np.ndarray, basis: np.ndarray) -> float:
    """Return ``kappa = v^T A v`` for the unit vectors of an eigenspace.

    Raises:
        ValueError: kappa depends on which vector of a degenerate eigenspace is meant.
    """
    form = basis.T @ (A + A.T) @ basis / 2
    kappa = float(np.trace(form)) / len(form)
    if np.abs(form - kappa * np.eye(len(form))).max() > SLACK * float(np.linalg.norm(A)):
        raise ValueError(
            f"the eigenvalue of value has {len(form)} independent eigenvectors, and v^T A v is not the same for all: "
            "say which you mean by passing directions and counts to clustering_spectrum"
        )
    return kappa


def tangent_bases(w: np.ndarray) -> np.ndarray:
    """Return orthonormal bases ``(q, d, d-1)`` of the tangent spaces at unit rows ``(q, d)``."""
    return np.linalg.svd(w[:, None, :])[2][:, 1:].swapaxes(-1, -2)


def finite(values: np.ndarray) -> np.ndarray:
    """Return what did not overflow."""
    if not np.isfinite(values).all():
        raise ValueError("weights='unnormalised' overflow, exp(beta x^T A x) is beyond float64: lower beta or scale A")
    return values


def leading(values: np.ndarray) -> float:
    """Return the largest real part relative to the largest modulus: stable if below ``-SLACK``."""
    size = float(np.abs(values).max(initial=0.0))
    return float(values.real.max(initial=-np.inf)) / (size or 1.0)


def stable(values: np.ndarray) -> bool:
    """Tell whether all eigenvalues have negative real parts, zeros to rounding not being negative."""
    return leading(values) < -SLACK
