"""Infinitesimal motions ``x_i -> W x_i + c`` of all tokens that commute with a field."""

from collections.abc import Iterable

import numpy as np
from scipy.linalg import null_space

from ctsa.geometry import Densities, Geometry

Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def motions(g: Geometry, d: int, shifts: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations that keep a geometry, with ``shifts`` the translations of flat space, too.

    Returns:
        antisymmetric matrices ``(k, d, d)`` and translations ``(k, d)``.
    """
    shifts = shifts and g.flat and not isinstance(g, Densities)  # whose coefficients are no places
    w, c = g.generators(d), np.eye(d) if shifts else np.zeros((0, d))
    return np.concatenate([w, np.zeros((len(c), d, d))]), np.concatenate([np.zeros((len(w), d)), c])


def velocities(w: np.ndarray, c: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return how the motions move the tokens, ``W x_i + c``: ``(k, n, d)``."""
    return x @ w.swapaxes(-1, -2) + c[:, None]


def commuting(w: np.ndarray, c: np.ndarray, samples: Iterable[Sample], tol: float = 1e-9) -> np.ndarray:
    """Return which combinations of motions commute with a field: orthonormal columns ``(k, g)``.

    ``DF(x)[W x + c] = W F(x)`` is linear in ``(W, c)``, and asked for at the samples.

    Args:
        w: matrices ``(k, d, d)``.
        c: translations ``(k, d)``.
        samples: states ``(n, d)``, bases of their tangent spaces ``(n, d, r)``, velocities ``(n, d)``, and Jacobians
            ``(n r, n r)`` in these bases, see ``ctsa.derivatives.tangent_jacobian``.
        tol: relative to the largest entry of the Jacobians (at least 1), what counts as zero.

    Example:
        >>> import numpy as np, torch, ctsa
        >>> from ctsa.derivatives import tangent_jacobian
        >>> from ctsa.torch import SelfAttention
        >>> field, x = SelfAttention(value=np.diag([2.0, 1.0, 1.0])), ctsa.random_tokens(4, 3)
        >>> found = tangent_jacobian(field, ctsa.Sphere(), 0.0, torch.as_tensor(x))
        >>> sample = (x, *(a.numpy(force=True) for a in found))
        >>> w, c = ctsa.symmetry.motions(ctsa.Sphere(), 3)
        >>> ctsa.symmetry.commuting(w, c, [sample]).shape  # one rotation, in the plane of the equal eigenvalues
        (3, 1)
    """
    rows, scale = [], 1.0
    for x, e, v, j in samples:
        moved, turned = (
            (e.swapaxes(-1, -2) @ u[..., None]).reshape(len(w), -1)  # in the basis
            for u in (velocities(w, c, x), velocities(w, 0 * c, v))
        )
        rows.append(j @ moved.T - turned.T)
        scale = max(scale, float(np.abs(j).max()))
    matrix = np.concatenate(rows)
    if np.abs(matrix).max() <= tol * scale:
        return np.eye(len(w))
    largest = float(np.linalg.norm(matrix, 2))
    return null_space(matrix, rcond=tol * scale / largest)
