"""Pictures of clusters: the distances at which they merge."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

import ctsa.plot._given as given

from ._style import PALETTE, axes_for, finish


def merges(found: Any, *, ax: Any = None) -> Axes:
    """Draw the number of clusters against the distance at which tokens are linked, and where they were cut apart.

    Args:
        found: a ``Clustering`` of one state.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("found", found, "Clustering", "ctsa.find_clusters")
    given.need(np.ndim(found.count) == 0, "found", "clusters of one state", f"of {np.shape(found.count)}", "x[0]")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    n, least = len(found.labels), 1e-17
    distances = np.concatenate([[least], np.maximum(found.distances, least)])
    low = max(1e-16, 0.3 * distances[1:].min(initial=1.0))
    ax.step([*distances, 10 * max(1.0, distances[-1])], [*np.arange(n, 0, -1), 1], where="post", color=PALETTE[0], linewidth=1.2)
    ax.axvline(float(found.gap), color=PALETTE[1], linewidth=0.9, linestyle=":", label=f"{int(found.count)} clusters")
    ax.set(xscale="log", xlim=(low, 3 * max(distances[-1], 0.1)), ylim=(0, n + 1))
    ax.legend(loc="best", frameon=False, fontsize=7, handlelength=1.4)
    return finish(ax, "distance below which tokens are linked", "clusters")
