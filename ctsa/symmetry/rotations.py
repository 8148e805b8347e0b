"""Continuous symmetries of a system, and the neutral directions they make."""

from typing import Any

import numpy as np

from ctsa.parts import parts_of
from ctsa.results.base import as_numpy


def rotation_modes(field: Any, x: np.ndarray, tol: float = 1e-6) -> np.ndarray:
    """Count the directions in which a rotation of all tokens moves the state: ``r (2 d - r - 1) / 2``.

    Only for fields that commute with every rotation: self-attention whose query, key and value are multiples of the
    identity (None), and multiples of such fields; 0 for all others. ``r`` is the rank of the tokens.

    Args:
        field: a field or a layer of one.
        x: state ``(..., n, d)``.
        tol: relative size of a singular value that counts as zero.

    Returns:
        Integers of shape ``(...)``.

    Example:
        >>> import numpy as np
        >>> from ctsa.torch import SelfAttention
        >>> int(rotation_modes(SelfAttention(), np.array([[1.0, 0.0, 0.0]])))  # one point on S^2
        2
    """
    if not commutes_with_rotations(field):
        return np.zeros(x.shape[:-2], dtype=int)
    d = x.shape[-1]
    singular = np.linalg.svd(x, compute_uv=False)
    r = (singular > tol * singular[..., :1]).sum(-1)
    return r * (2 * d - r - 1) // 2


def commutes_with_rotations(field: Any) -> bool:
    """Whether a field of ours is built from multiples of the identity only, so that rotations are symmetries."""
    inner = getattr(field, "field", None)  # a multiple of a field, or a layer of one
    if inner is not None:
        return commutes_with_rotations(inner)
    terms = getattr(field, "terms", None)
    home = getattr(field, "geometry", None)
    if terms is None or (home is not None and not (home.flat or home.unit and home.channels is None)):
        return False
    parts = terms()
    if len(parts) > 1:
        return all(commutes_with_rotations(part) for part in parts)
    arrays = [(part.axes, getattr(field, name)) for name, part in parts_of(type(field)).items() if "d" in part.axes]
    return bool(getattr(field, "equivariant", False)) and all(_is_scalar(axes, a) for axes, a in arrays)


def _is_scalar(axes: str, matrix: Any) -> bool:
    if matrix is None:
        return True
    m = as_numpy(matrix)
    if len(axes) < 2 or m.ndim < 2:
        return not m.any()
    if m.shape[-1] != m.shape[-2]:
        return False
    c = m[..., :1, :1]
    return bool(np.allclose(m, c * np.eye(m.shape[-1]), rtol=0, atol=1e-14 * max(1.0, float(np.abs(c).max()))))
