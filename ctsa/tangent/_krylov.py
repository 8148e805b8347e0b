"""The largest singular values of a linear map from products alone, for many maps side by side."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ctsa import checks

_FIRST = 8  # blocks before the first look at what has converged
_TINY = 1e-12  # a new direction shorter than this share lies in the space that there is


@dataclass(frozen=True)
class Singular:
    """Largest singular values, of every member.

    Attributes:
        values: ``(members, count)``, descending.
        vectors: right singular vectors ``(members, size, count)``.
        errors: estimates of the errors of the values, ``(members, count)``.
        products: how many products were taken with the map and with its transpose, per member.
        converged: whether all errors are below the tolerance.
    """

    values: np.ndarray
    vectors: np.ndarray
    errors: np.ndarray
    products: int
    converged: bool


def largest_singular(
    forward: Callable, transposed: Callable, start: np.ndarray, count: int, *, rank: int, tol: float, budget: int,
    inside: Callable = lambda v: v, seed: int = 0, floor: float = 0.0,
) -> Singular:  # fmt: skip
    """Find the ``count`` largest singular values of J in the block Krylov space of ``J^T J``, fully reorthogonalised.

    Golub's and Kahan's method with blocks. SciPy's PROPACK does the same for one map and one direction at a time, with its
    storage fixed beforehand and nothing to show where that did not do; blocks find values that are repeated.

    With ``Q`` an orthonormal basis of the space, the values are those of ``J Q``. They are below the true ones, by at most
    ``rho^2 / gap`` in the square, where ``rho = |J^T J v - s^2 v|`` and ``gap`` is how far the square of the next value is.

    Args:
        forward: ``J v`` for ``v`` of shape ``(members, size, k)``.
        transposed: ``J^T w``.
        start: first block ``(members, size, block)``, block >= count.
        count: how many.
        rank: dimension of the space in which J acts; with as many directions the values are exact.
        tol: largest error wanted, relative to each value.
        budget: most products.
        inside: projects onto the space in which J acts.
        seed: of the directions that replace those that give nothing new.
        floor: values below this share of the largest are not waited for.
    """
    rng = np.random.default_rng(seed)
    members, size, block = start.shape
    entries = 2.0 * members * size * min(rank, budget // 2)
    checks.room("a Krylov space", entries, remedy="take fewer states at a time, or a smaller budget")
    q, _ = _new_directions(start, np.empty((members, size, 0)), inside, rng)
    basis, images = np.empty((members, size, 0)), np.empty((members, size, 0))
    columns: list[np.ndarray] = []  # Q^T J^T J q for each block q, with the Q that there was
    found, before, look, products = None, None, _FIRST, 0
    while True:
        w = forward(q)
        p = transposed(w)
        if not (np.isfinite(w).all() and np.isfinite(p).all()):
            raise ValueError("a product with the Jacobian, or with its transpose, is nan or inf at this state")
        products += 2 * q.shape[-1]
        basis, images = np.concatenate([basis, q], -1), np.concatenate([images, w], -1)
        have = basis.shape[-1]
        columns.append(basis.swapaxes(-1, -2) @ p)
        left = min(block, rank - have)
        if left > 0:
            q, beta = _new_directions(p, basis, inside, rng)
            q, beta = q[..., :left], beta
        else:
            beta = np.zeros((members, p.shape[-1], p.shape[-1]))
        ends = left <= 0 or products + 2 * left > budget
        if ends or len(columns) >= look:
            look = max(look + 2, int(1.25 * look))
            found = _ritz(basis, images, columns, beta, count, products, tol, floor, left <= 0)
            idle = found.values < floor * found.values[:, :1]
            settled = before is not None and (idle | (np.abs(found.values - before) <= tol * found.values)).all()
            if ends or (found.converged and settled):
                return found
            before = found.values


def _new_directions(v: np.ndarray, basis: np.ndarray, inside: Callable, rng: np.random.Generator) -> tuple:
    """Return orthonormal columns orthogonal to a basis that span ``v`` with it, and ``beta``: what they have of ``v``."""

    def clear(a):
        for _ in range(2):
            a = a - basis @ (basis.swapaxes(-1, -2) @ a)
        return a

    scale = np.linalg.norm(v, axis=(-2, -1))[:, None] + 1e-300
    rest = clear(v)
    q, r = np.linalg.qr(rest)
    lost = np.abs(np.diagonal(r, axis1=-2, axis2=-1)) <= _TINY * scale
    if lost.any():  # an invariant space: go on with another direction, which beta does not count
        q = np.where(lost[:, None, :], clear(inside(rng.normal(size=v.shape))), q)
        q, _ = np.linalg.qr(clear(np.linalg.qr(q)[0]))
    else:
        q = clear(q)
        q = q / np.linalg.norm(q, axis=-2, keepdims=True)
    return q, q.swapaxes(-1, -2) @ rest


def _ritz(
    basis: np.ndarray, images: np.ndarray, columns: list, beta: np.ndarray, count: int, products: int, tol: float,
    floor: float, whole: bool,
) -> Singular:  # fmt: skip
    members, _, have = basis.shape
    _, s, zh = np.linalg.svd(np.linalg.qr(images)[1])
    z = zh.swapaxes(-1, -2)[..., : count + 1]
    square = s[:, : count + 1] ** 2
    h = np.zeros((members, have, have))  # Q^T J^T J Q: upper blocks as they came, lower ones by symmetry
    at = 0
    for column in columns:
        k = column.shape[-1]
        h[:, : column.shape[-2], at : at + k] = column
        at += k
    h = np.triu(h) + np.triu(h, 1).swapaxes(-1, -2)
    last = columns[-1].shape[-1]
    within = h @ z - square[:, None, :] * z
    beyond = beta @ z[:, have - last :, :]
    rho = np.sqrt((within**2).sum(-2) + (beyond**2).sum(-2))  # |J^T J v - s^2 v|
    first = s[:, :1]
    if square.shape[-1] > count:
        gap = square[:, :count] - square[:, count:] - rho[:, count:]
    else:
        gap = np.zeros((members, count))
    rho, s, z = rho[:, :count], s[:, :count], z[..., :count]
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.where(gap > rho, rho**2 / np.where(gap > 0, gap, 1.0), rho)
        errors = np.where(s > 0, off / (2 * s), np.sqrt(off))
    errors = np.minimum(errors, np.sqrt(off))
    errors = np.zeros_like(errors) if whole else errors
    fine = bool(((errors <= tol * s + 1e-15 * first) | (s < floor * first)).all()) and bool(np.isfinite(s).all())
    return Singular(s, basis @ z, errors, products, fine)
