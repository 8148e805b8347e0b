"""The distances at which clusters merge (single linkage), and the clearest jump among them."""

import numpy as np

BLOCK = 2**13  # points from which those that were reached are left out of later rounds


def merges(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of a minimum spanning tree, from the shortest: pairs ``(n - 1, 2)`` and lengths ``(n - 1,)``.

    At the k-th length the number of clusters falls to ``n - k``. On the circle neighbours are found by sorting; elsewhere
    the tree grows by its nearest point (Prim): time ``O(n^2 d)``, memory ``O(n d)``.

    Args:
        points: ``(n, d)``.

    References:
        Gower, Ross, *Minimum spanning trees and single linkage cluster analysis*, Appl. Stat. 18 (1969).
    """
    pairs, lengths = _around(points)[:2] if on_circle(points) else _grown(points)
    order = np.argsort(lengths, kind="stable")
    return pairs[order], lengths[order]


def on_circle(points: np.ndarray) -> bool:
    """Tell whether points ``(n, d)`` are unit vectors of the plane."""
    return points.shape[1] == 2 and bool(np.abs(np.linalg.norm(points, axis=1) - 1).max() < 1e-5)


def _around(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return neighbours on the circle but for those at the largest arc, their distances, and that of the largest arc."""
    angle = np.arctan2(points[:, 1], points[:, 0])
    order = np.argsort(angle, kind="stable")
    after = np.roll(order, -1)
    arcs = np.append(np.diff(angle[order]), angle[order[0]] + 2 * np.pi - angle[order[-1]])
    widest = int(arcs.argmax())
    # |x - y| and not 2 sin(arc / 2): angles near pi have the rounding of pi, differences of components none.
    pairs = np.delete(np.stack([order, after], 1), widest, axis=0)
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    return pairs, lengths, float(arcs[widest])


def _grown(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(points)
    left, rest = np.arange(1, n), points[1:].copy()  # indices and places of what the tree has not reached
    nearest, gaps = np.zeros(n - 1, int), np.full(n - 1, np.inf)
    reached = np.zeros(n - 1, bool)
    pairs, lengths, at = np.empty((n - 1, 2), int), np.empty(n - 1), 0
    for i in range(n - 1):
        away = rest - points[at]
        squares = np.einsum("nd,nd->n", away, away)
        closer = (squares < gaps) & ~reached
        gaps[closer], nearest[closer] = squares[closer], at
        best = int(gaps.argmin())
        at = int(left[best])
        pairs[i], lengths[i] = (nearest[best], at), gaps[best] ** 0.5
        gaps[best], reached[best] = np.inf, True
        if len(left) > BLOCK and 4 * reached.sum() > len(left):
            keep = ~reached
            left, rest, nearest, gaps, reached = left[keep], rest[keep], nearest[keep], gaps[keep], reached[keep]
    return pairs, lengths


def empty_space(points: np.ndarray) -> float | None:
    """Return the distance across what the points leave empty, None where they are no unit vectors.

    On the circle the widest arc; on spheres the distance from the token nearest to the far side of the mean token. Points
    that are close together leave most of the sphere empty: so one cluster is known from points all over it.
    """
    if np.abs(np.linalg.norm(points, axis=1) - 1).max() > 1e-5:
        return None
    if on_circle(points):
        return 2.0 if len(points) == 1 else _around(points)[2]
    mean = points.mean(0)
    size = np.linalg.norm(mean)
    if size < 1e-12:
        return 0.0
    return float(np.linalg.norm(points + mean / size, axis=1).min())


def clearest_jump(lengths: np.ndarray, space: float | None, eps: float) -> tuple[int, float, float]:
    r"""Return how many merges are within clusters, the length to cut at, and how likely chance makes so clear a jump.

    Of ``m`` gaps between points at random on a line or a circle, the (k + 1)-th is longer than the k shortest by as much as
    it is, or more, with probability :math:`(1 + s)^{-k}`,

    .. math::
        s = \frac{(m - k)(h_{k+1} - h_k)}{h_1 + \dots + h_k + (m - k)\, h_k}.

    (Spacings are exponential, so that this is the test of an outlier among exponential variables.) ``m`` times the
    probability bounds that of any such jump. Of the jumps with a chance below 1e-2 the clearest is taken with lengths below
    1e-4 of the largest counted as that, lest tokens that have met to more digits than others be a cluster apart.
    In more dimensions lengths spread less than on a line, and the chance is an upper bound.

    Args:
        lengths: merge distances ``(n - 1,)``, in order.
        space: the distance across what the points leave empty, a merge that comes last; None: there is no such thing.
        eps: lengths below this are rounding.

    Returns:
        ``k`` (0: no clear jump), the length in the middle of the jump (geometric mean), and the chance, at most 1.
    """
    h = lengths if space is None else np.append(lengths, max(space, lengths.max(initial=0.0)))
    m = len(h)
    if m < 2 or h[-1] <= eps:
        return (len(lengths), max(eps, 2 * float(h.max(initial=0.0))), 0.0) if m and h[-1] <= eps else (0, eps, 1.0)
    k = np.arange(1, m)

    def chances(h: np.ndarray) -> np.ndarray:
        """Return the log of m (1 + s)^-k, k = 1 ... m - 1."""
        s = (m - k) * np.diff(h) / (np.cumsum(h)[:-1] + (m - k) * h[:-1])
        return np.log(m) - k * np.log1p(s)

    exact = chances(np.maximum(h, eps))
    coarse = np.where(exact < np.log(1e-2), chances(np.maximum(h, 1e-4 * h[-1])), np.inf)
    best = int(coarse.argmin())
    if not np.isfinite(coarse[best]):
        return 0, eps, float(min(1.0, np.exp(exact.min())))
    cut = float(np.sqrt(max(h[best], eps) * h[best + 1]))
    return best + 1, cut, float(np.exp(exact[best]))
