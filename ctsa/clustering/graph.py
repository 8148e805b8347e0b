"""Components of points that are nearer than a gap, in memory that grows as n."""

import numpy as np


def _linked_cells(points: np.ndarray, members: np.ndarray, gap: float) -> np.ndarray:
    """The same for points in cells of a diameter of ``gap / 8``, few of them: those of one cell are linked."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    order = np.argsort(members, kind="stable")
    groups = np.split(points[order], np.flatnonzero(np.diff(members[order])) + 1)
    first = np.array([group[0] for group in groups])
    apart = np.linalg.norm(first[:, None] - first[None], axis=-1)
    near = apart < 0.75 * gap  # any two of them are nearer than gap
    trees: dict[int, KDTree] = {}
    for a, b in np.argwhere(np.triu((apart < 1.25 * gap) & ~near, 1)):
        tree = trees.setdefault(a, KDTree(groups[a]))
        near[a, b] = tree.query(groups[b])[0].min() < gap
    return connected_components(near, directed=False)[1][members]


_PAIRS = 2**24  # of near points that are listed; where there are more, groups are tight, and few rounds do


def linked(points: np.ndarray, gap: float) -> np.ndarray:
    """Label the components of points ``(n, d)`` that are nearer than ``gap``, in memory that grows as n."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    n, d = points.shape
    labels = np.arange(n)
    rows = max(1, 2**22 // (n * d))
    if rows >= n:
        near = np.linalg.norm(points[:, None] - points[None], axis=-1) < gap
        return connected_components(near, directed=False)[1]
    tree = KDTree(points)
    if tree.count_neighbors(tree, gap) <= _PAIRS:
        a, b = tree.query_pairs(np.nextafter(gap, 0.0), output_type="ndarray").T
        return connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)[1]
    cells, members = np.unique(np.floor(points / (gap / (8 * d**0.5))), axis=0, return_inverse=True)
    if len(cells) <= 2**11:
        return _linked_cells(points, members.reshape(-1), gap)
    while True:  # every point is joined to the neighbour of least label: components at least halve in number
        least = np.empty(n, int)
        for i in range(0, n, rows):
            near = np.linalg.norm(points[i : i + rows, None] - points[None], axis=-1) < gap
            least[i : i + rows] = np.where(near, labels, n).argmin(1)
        graph = coo_array((np.ones(2 * n), (np.tile(np.arange(n), 2), np.concatenate([least, labels]))), shape=(n, n))
        merged = connected_components(graph, directed=False)[1]
        if merged.max() == len(np.unique(labels)) - 1:
            return merged
        first = np.full(n, n)
        np.minimum.at(first, merged, np.arange(n))
        labels = first[merged]


def in_order(labels: np.ndarray) -> np.ndarray:
    """Number labels from 0 in order of first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
