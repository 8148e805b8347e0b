"""Which ends are the same: closer than a distance, modulo the symmetries of a layer, and wherever a cycle begins."""

from typing import Any

import numpy as np

from ctsa.geometry import Geometry
from ctsa.layers.base import Layer, time_of
from ctsa.layers.displacement import Displacement
from ctsa.symmetry import Symmetry, symmetry_of

from ._map import lengths

Array = Any
SAME = 1e-5  # relative distance within which two points are one
_SMALL = 128  # unknowns up to which the symmetries of a layer that is not a step of a field are looked for


def layer_symmetry(layer: Any, g: Geometry, like: Array, symmetric: bool = True) -> Symmetry:
    """Return the symmetries of a layer on states like given ones ``(S, n, d)``; none if not ``symmetric``.

    Those of the field that it is a step of; of other layers those of how far it moves a state, if that is small enough.
    """
    n, d = like.shape[1:]
    field = getattr(layer, "field", None) if isinstance(layer, Layer) else None
    if symmetric and field is not None and not layer.no_flow:
        return symmetry_of(field, n, d, t=float(time_of(layer)), geometry=g, like=like)
    if symmetric and n * d <= _SMALL:
        return symmetry_of(Displacement(layer, g), n, d, geometry=g, like=like)
    return Symmetry(np.arange(n), np.eye(d), np.ones((1, d)))


def distinct(
    orbits: np.ndarray, rows: np.ndarray, symmetry: Symmetry, gap: float, least: float, errors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose one of each set of orbits that are the same.

    Args:
        orbits: states ``(S, p, n, d)``.
        rows: which of them to compare ``(R,)``; the first of a set is chosen.
        symmetry: what maps states to ones that count as the same.
        gap: distance of the worst token, relative to the longest one.
        least: the shortest length that this is relative to.
        errors: how far each may be off ``(R,)``.

    Returns:
        the chosen rows ``(C,)``, and for each of ``rows`` which it is the same as, an index into ``orbits`` ``(R,)``.
    """
    chosen: list[int] = []
    slack: list[float] = []
    owner = np.zeros(len(rows), int)
    # Singular values, which no symmetry changes.
    marks = np.linalg.svd(orbits[:, 0], compute_uv=False) if orbits.shape[1] == 1 else None
    for r, i in enumerate(rows.tolist()):
        error = 0.0 if errors is None else float(errors[r])
        size = max(float(lengths(orbits[i]).max()), least)
        for k, c in enumerate(chosen):
            near = max(gap * size, error + slack[k])
            if marks is not None and np.abs(marks[i] - marks[c]).max() > near * orbits.shape[2] ** 0.5:
                continue
            if any(symmetry.same(orbits[i, 0], y, near) for y in orbits[c]):
                owner[r] = c
                break
        else:
            chosen.append(i)
            slack.append(error)
            owner[r] = i
    return np.array(chosen, dtype=int), owner
