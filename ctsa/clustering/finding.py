"""Clusters without a tolerance: by the clearest gap, or by hills of density."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import States
from ctsa.results.base import Result, picture
from ctsa.results.text import lines

from .density import climbed
from .graph import in_order, linked
from .merging import clearest_jump, empty_space, merges

METHODS = ("gaps", "density")


@dataclass(frozen=True)
class Clustering(Result):
    """Clusters of a state, see ``find_clusters``.

    Attributes:
        labels: of the tokens ``(..., n)``, from 0 in order of first appearance.
        count: clusters ``(...)``.
        gap: the distance below which tokens are linked ``(...)``; of density, links are between where tokens end.
        chance: a bound on how often tokens at random on a line show so clear a gap ``(...)``; nan by density.
        distances: at which clusters merge (single linkage) ``(..., n - 1)``, from the shortest.
        method: "gaps" or "density".
    """

    labels: Any
    count: Any
    gap: Any
    chance: Any
    distances: Any
    method: str
    _static: ClassVar[tuple[str, ...]] = ("method",)
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "labels": ("...", "token"), "count": ("...",), "gap": ("...",), "chance": ("...",), "distances": ("...", "merge")
    }  # fmt: skip

    @property
    def sure(self) -> Any:
        """Whether a gap is clear, ``chance < 0.01``; without one every token is a cluster of its own."""
        return self.chance < 1e-2

    def __repr__(self) -> str:
        if np.ndim(self.count):
            return f"Clustering(of {np.size(self.count)} states: {np.min(self.count)}...{np.max(self.count)} clusters)"
        how = f"gap {float(self.gap):.3g}" if self.method == "density" or self.sure else "no clear gap"
        return f"Clustering({int(self.count)} of {len(self.labels)} tokens, {how})"

    def table(self) -> str:
        """Return what was found as text: clusters and their sizes, the gap; of several states how many have how many."""
        if np.ndim(self.count):
            sure = np.ravel(self.sure) if self.method == "gaps" else np.full(self.count.size, True)
            each = np.unique(np.ravel(self.count)[sure], return_counts=True)
            rows = [(f"{c} cluster{'s' if c > 1 else ''}", f"{k} states") for c, k in zip(*each, strict=True)]
            return lines([*rows, ("no clear gap", f"{(~sure).sum()} states" if (~sure).any() else None)])
        sizes = np.bincount(self.labels)
        return lines([
            ("clusters", int(self.count)), ("sizes", ", ".join(map(str, sorted(sizes.tolist(), reverse=True)))),
            ("gap", float(self.gap)), ("chance", None if self.method == "density" else float(self.chance)),
        ])  # fmt: skip

    def plot(self, ax=None, **kwargs):
        """Draw the number of clusters against the distance at which tokens are linked; return the ``Axes``."""
        return picture("clusters.merges")(self, ax=ax, **kwargs)


@analysis
def find_clusters(x: States, method: str = "gaps", *, kappa: float | None = None) -> Clustering:
    """Find clusters without a tolerance, and say how sure they are.

    - **gaps**: as the distance at which tokens are linked grows, clusters merge; they are cut apart where the distances of
      merges jump the clearest. How clear is measured by the chance of such a jump among random gaps, see
      ``ctsa.clustering.merging.clearest_jump``. Unit tokens that are all close together are one cluster, since they leave
      most of the sphere empty; elsewhere one cluster is seen only if tokens coincide. Without a clear gap, as for tokens at
      random, every token is a cluster of its own, and ``sure`` is False. On the circle the time is that of sorting,
      elsewhere ``O(n^2 d)`` (2 s for 2e4 tokens in d = 3, a minute for 1e5); memory is ``O(n d)``. The chance is
      an upper bound in more than two dimensions, and the looser the more there are: look by density there, too.
    - **density**: unit tokens share a cluster if they climb to the same maximum of ``sum_j exp(kappa <x, x_j>)``. Two
      tokens alone part at a distance of ``2 / sqrt(kappa)``; with kappa = beta that is where attention lets go of them.
      Chains of tokens do not join clusters, as they do by gaps. Time ``O(n^2 d)`` a round, tens of rounds; memory
      ``O(n d)``.

    Args:
        x: tokens ``(..., n, d)``.
        method: "gaps" or "density".
        kappa: concentration of the kernel, for density: beta of the field is natural.

    Returns:
        ``Clustering``: ``labels``, ``count``, ``gap``, ``chance`` and ``sure``.

    Raises:
        ValueError, TypeError: an argument is wrong; "density" without ``kappa``, or with tokens that are not unit.

    Example:
        >>> import numpy as np, ctsa
        >>> angles = np.array([0.0, 0.01, 0.02, 2.0, 2.01, 4.0])
        >>> found = ctsa.find_clusters(np.stack([np.cos(angles), np.sin(angles)], 1))
        >>> found.labels.tolist(), bool(found.sure)
        ([0, 0, 0, 1, 1, 2], True)

    References:
        Gower, Ross, Appl. Stat. 18 (1969), for single linkage; Cheng, IEEE PAMI 17 (1995), for mean shift.
    """
    checks.choice("method", method, METHODS)
    x = checks.states(x, finite=True)
    points = np.asarray(backend(x).to_numpy(x), dtype=float)
    flat = points.reshape(-1, *points.shape[-2:])
    if method == "gaps":
        if kappa is not None:
            raise ValueError(f"kappa is for method='density', got kappa={kappa!r} with method='gaps': leave it out")
        eps = 16 * (2.0**-52 if x.dtype == object else rounding(x))
        found = [_by_gaps(sample, eps * float(np.abs(sample).max())) for sample in flat]
    else:
        if kappa is None:
            raise ValueError("kappa must be a number for method='density', got None: beta of the field is natural")
        kappa = checks.number("kappa", kappa, low=0.0, strict=True)
        off = np.abs(np.linalg.norm(flat, axis=-1) - 1).max(initial=0.0)
        if off > 1e-5:
            raise ValueError(
                f"x must have unit tokens for method='density', but a length is off by {off:.3g}: use 'gaps'"
            )
        found = [_by_density(sample, kappa) for sample in flat]
    batch, n = points.shape[:-2], points.shape[-2]
    labels = np.array([labels for labels, *_ in found], int).reshape(*batch, n)
    gap, chance = (np.array([each[i] for each in found], float).reshape(batch) for i in (1, 2))
    distances = np.array([each[3] for each in found], float).reshape(*batch, n - 1)
    return Clustering(labels, labels.max(-1) + 1, gap, chance, distances, method)


def _by_gaps(points: np.ndarray, eps: float) -> tuple[np.ndarray, float, float, np.ndarray]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(points)
    pairs, lengths = merges(points)
    within, cut, chance = clearest_jump(lengths, empty_space(points), eps)
    a, b = pairs[:within].T
    joined = connected_components(coo_array((np.ones(within), (a, b)), shape=(n, n)), directed=False)[1]
    return in_order(joined), cut, chance if n > 1 else 0.0, lengths


def _by_density(points: np.ndarray, kappa: float) -> tuple[np.ndarray, float, float, np.ndarray]:
    gap = 0.1 / np.sqrt(kappa)
    return in_order(linked(climbed(points, kappa), gap)), gap, np.nan, merges(points)[1]
