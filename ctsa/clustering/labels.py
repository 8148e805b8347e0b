"""Clusters as chains of tokens, each nearer than a gap to the next."""

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend
from ctsa._types import States

from .finding import find_clusters
from .graph import in_order, linked


@analysis
def clusters(x: States, gap: float | str = 1e-3) -> np.ndarray:
    """Label the clusters: tokens linked by chains of distances below ``gap`` share a label.

    Args:
        x: tokens ``(..., n, d)``.
        gap: distance in the ambient space (equals the angle for small angles), or "auto": where the distances at which
            clusters merge jump the clearest, see ``find_clusters``, which also says how sure that is.

    Returns:
        NumPy integers ``(..., n)``; labels count from 0 in order of first appearance.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.clusters(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        array([0, 1, 0])
    """
    if isinstance(gap, str):
        checks.choice("gap", gap, ["auto"])
        return find_clusters(x).labels
    gap = checks.number("gap", gap, low=0.0, strict=True)
    x = checks.states(x, finite=True)
    points = np.asarray(backend(x).to_numpy(x), dtype=float)
    flat = points.reshape(-1, *points.shape[-2:])
    labels = np.empty(flat.shape[:2], dtype=int)
    for row, sample in zip(labels, flat, strict=True):
        row[:] = in_order(linked(sample, gap))
    return labels.reshape(points.shape[:-1])


@analysis
def cluster_count(x: States, gap: float | str = 1e-3) -> np.ndarray:
    """Return the number of clusters, see ``clusters``: NumPy integers ``(...)``.

    Example:
        >>> import numpy as np, ctsa
        >>> int(ctsa.cluster_count(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])))
        2
    """
    return clusters(x, gap).max(-1) + 1
