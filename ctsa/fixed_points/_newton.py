"""Newton's method for fixed points of many states side by side, damped: dense, or by GMRES from products.

Unknowns are tangent vectors ``s`` at the present state, ``(P J P - 1) s = -P (f(x) - x)``; then ``x <- exp_x(s)``.
Where points come in continuous families the equations are singular: the shortest solution is taken.
"""

import numpy as np

from ctsa.tangent._arnoldi import solve_shifted

from ._anderson import Path, visit
from ._map import Map, lengths

RANK = 1e-7  # singular values below this share of the largest count as zero
_TRIES = (1.0, 0.5, 0.25, 0.1, 0.03)  # shares of a step
_INNER = 50  # products of one GMRES
_FORCING = 1e-3  # its relative residual


def polish(
    f: Map, here: Path, least: np.ndarray, tol: np.ndarray, most: int, dense: bool
) -> tuple[Path, np.ndarray]:
    """Take Newton steps as long as they make the residual smaller.

    Args:
        f: the map.
        here: where to begin.
        least: see ``visit``.
        tol: residual ``(B,)`` at which a member has arrived. Without a dense Jacobian it then stays.
        most: steps at most.
        dense: form the Jacobian.

    Returns:
        the last points, and how many evaluations and products each took ``(B,)``.
    """
    count = len(here.x)
    taken = np.zeros(count, int)
    rounding = 2 * f.eps
    going = np.isfinite(here.off) & ((here.residual > rounding) if dense else (here.residual > tol))
    for _ in range(most):
        if not going.any():
            break
        s, products = (_dense if dense else _krylov)(f, here, going)
        taken += products * going
        share = np.minimum(1.0, np.maximum(here.size, here.worst) / np.maximum(lengths(s), 1e-300))
        s = np.where(np.isfinite(share), share, 0.0)[:, None, None] * s
        moved, before = ~going, here
        for part in _TRIES:
            x = f.point(np.asarray(f.geometry.exp(here.x, part * s)), here.x)
            new = visit(f, np.where(moved[:, None, None], here.x, x), least)
            taken += ~moved
            better = ~moved & (new.off < before.off)
            here, moved = new.where(better, here), moved | better | (part == 1.0) & (before.residual <= tol)
            if moved.all():
                break
        going &= moved & (here.off < before.off)
        going &= (here.residual > rounding) if dense else (here.residual > tol)
    return here, taken


def _dense(f: Map, here: Path, going: np.ndarray) -> tuple[np.ndarray, int]:
    e, j = f.jacobian(here.x)
    off = (e.swapaxes(-1, -2) @ (here.y - here.x)[..., None]).reshape(len(j), -1)
    good = going & np.isfinite(j).all((1, 2)) & np.isfinite(off).all(1)
    a = np.where(good[:, None, None], j - np.eye(j.shape[-1]), 0.0)
    s = -(np.linalg.pinv(a, rcond=RANK) @ np.where(good[:, None], off, 0.0)[..., None])[..., 0]
    return (e @ s.reshape(*e.shape[:2], -1, 1))[..., 0], f.dimension


def _krylov(f: Map, here: Path, going: np.ndarray) -> tuple[np.ndarray, int]:
    """Solve by GMRES, all members in step; one product serves all."""
    count, shape = len(here.x), here.x.shape
    project, product = f.projector(here.x)

    def each(function):  # of states, as one of columns
        return lambda v: function(v[..., 0].reshape(shape)).reshape(count, -1, 1)

    b = project(np.where(going[:, None, None], here.y - here.x, 0.0)).reshape(count, -1)
    s, _, products = solve_shifted(
        each(product), b, rank=f.dimension, tol=_FORCING, most=_INNER, inside=each(project), singular=RANK
    )
    return np.where(np.isfinite(s), s, 0.0).reshape(shape), products
