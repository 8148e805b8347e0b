"""Leading eigenvalues, and solutions of ``(1 - J) y = b``, from products with J alone, for many maps side by side."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_TINY = 1e-13  # a new direction shorter than this share lies in the space that there is


@dataclass(frozen=True)
class Krylov:
    """``J Q_m = Q_(m+1) H`` with orthonormal columns: ``basis`` ``(members, size, m + 1)``, ``h`` ``(members, m + 1, m)``.

    ``scale`` is the length of the vector that the space began with, ``(members,)``.
    """

    basis: np.ndarray
    h: np.ndarray
    scale: np.ndarray

    @property
    def steps(self) -> int:
        """m, how many products were taken."""
        return self.h.shape[-1]


def arnoldi(forward: Callable, start: np.ndarray, steps: int, inside: Callable, krylov: Krylov | None = None) -> Krylov:
    """Build the Krylov space of J and ``start`` ``(members, size)`` by Arnoldi's method, orthogonalised twice.

    Where a space is invariant, it goes on with a random direction, so that eigenvalues outside of it are found, too.

    Args:
        forward: ``J v`` for ``v`` of shape ``(members, size, 1)``.
        start: first vectors.
        steps: m, at most the dimension of the space in which J acts.
        inside: projects onto that space.
        krylov: a space to continue.
    """
    rng = np.random.default_rng(0)
    members, size = start.shape
    basis, h = np.zeros((members, size, steps + 1)), np.zeros((members, steps + 1, steps))
    if krylov is None:
        scale = np.linalg.norm(start, axis=-1)
        random = inside(rng.normal(size=(members, size, 1)))[..., 0]
        first = np.where(scale[:, None] > 0, start, random)
        basis[:, :, 0] = first / np.linalg.norm(first, axis=-1, keepdims=True)
        done = 0
    else:
        scale, done = krylov.scale, krylov.steps
        basis[:, :, : done + 1], h[:, : done + 1, :done] = krylov.basis, krylov.h
    for j in range(done, steps):
        w = forward(basis[:, :, j : j + 1])[..., 0]
        before = np.linalg.norm(w, axis=-1)
        w, h[:, : j + 1, j] = _cleared(w, basis[:, :, : j + 1])
        rest = np.linalg.norm(w, axis=-1)
        lost = ~(rest > _TINY * np.maximum(before, np.abs(h[:, : j + 1]).max((1, 2))))
        h[:, j + 1, j] = np.where(lost, 0.0, rest)
        if lost.any():
            other = inside(rng.normal(size=(members, size, 1)))[..., 0]
            other = _cleared(other, basis[:, :, : j + 1])[0]
            w = np.where(lost[:, None], other, w)
        basis[:, :, j + 1] = w / (np.linalg.norm(w, axis=-1, keepdims=True) + 1e-300)
    return Krylov(basis, h, scale)


def _cleared(w: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what of vectors ``(members, size)`` is orthogonal to a basis, and their coordinates in it."""
    total = np.zeros((len(w), basis.shape[-1]))
    for _ in range(2):
        part = (basis.swapaxes(-1, -2) @ w[..., None])[..., 0]
        w = w - (basis @ part[..., None])[..., 0]
        total += part
    return w, total


def ritz(krylov: Krylov, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues of largest modulus ``(members, count)``, descending, and their residuals ``|J v - theta v|``.

    Values that are not there are nan.
    """
    m = krylov.steps
    fine = np.isfinite(krylov.h).all((-2, -1))
    values, vectors = np.linalg.eig(np.where(fine[:, None, None], krylov.h[:, :m, :m], 0.0))
    values = np.where(fine[:, None], values, np.nan)
    off = np.abs(krylov.h[:, m, m - 1])[:, None] * np.abs(vectors[:, -1, :])
    order = np.lexsort((-values.imag, -np.abs(values).round(12)), axis=-1)[:, :count]
    found = np.full((len(values), count), np.nan, dtype=complex)
    errors = np.full((len(values), count), np.nan)
    found[:, : order.shape[1]] = np.take_along_axis(values, order, -1)
    errors[:, : order.shape[1]] = np.take_along_axis(off, order, -1)
    return found, errors


def leading_of(
    forward: Callable, start: np.ndarray, count: int, *, rank: int, tol: float, most: int, inside: Callable
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``count`` eigenvalues of J of largest modulus, and their residuals, ``(members, count)``.

    Stops when all of them have residuals below ``tol`` of the largest, or at ``most`` products.
    """
    krylov, steps = None, min(rank, max(12, 3 * count))
    while True:
        krylov = arnoldi(forward, start, steps, inside, krylov)
        values, errors = ritz(krylov, min(count, rank))
        errors = 0 * errors if steps >= rank else errors
        if steps >= min(rank, most) or (errors <= tol * np.abs(values[:, :1])).all():
            return values, errors
        steps = min(rank, most, 2 * steps)


def solve_shifted(
    forward: Callable, b: np.ndarray, *, rank: int, tol: float, most: int, inside: Callable, singular: float = 1e-12
) -> tuple[np.ndarray, np.ndarray, int]:
    """Solve ``(1 - J) y = b`` by GMRES; return ``y`` ``(members, size)``, the residual relative to ``|b|``, and products.

    Of singular equations the shortest solution in the Krylov space: singular values below that share count as zero.

    SciPy's takes one system at a time, and here every product serves all members.

    References:
        Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856.
    """
    krylov, steps = None, min(rank, 10)
    while True:
        krylov = arnoldi(forward, b, steps, inside, krylov)
        shifted = np.eye(steps + 1, steps) - krylov.h
        right = np.zeros((len(b), steps + 1))
        right[:, 0] = krylov.scale
        shifted = np.where(np.isfinite(shifted).all((-2, -1), keepdims=True), shifted, 0.0)
        z = (np.linalg.pinv(shifted, rcond=singular) @ right[..., None])[..., 0]
        off = np.linalg.norm((shifted @ z[..., None])[..., 0] - right, axis=-1) / (krylov.scale + 1e-300)
        if steps >= min(rank, most) or (off <= tol).all():
            return (krylov.basis[..., :steps] @ z[..., None])[..., 0], off, steps
        steps = min(rank, most, 2 * steps)
