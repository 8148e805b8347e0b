"""Pictures of clusters: the distances at which they merge."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

import ctsa.plot._given as given

from ._style import PALETTE, axes_for, finish


def merges(found: Any, *, ax: Any = None) -> Axes:
    """Draw the number of clusters against the distance at which tokens are linked, and where they were cut apart.

    Args:
        found: a ``Clustering``; of several states, a line each.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("found", found, "Clustering", "ctsa.find_clusters")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    n, floor, one = found.labels.shape[-1], 1e-16, np.ndim(found.count) == 0
    every = np.maximum(found.distances.reshape(-1, n - 1), floor)
    low, high = 0.3 * every.min(initial=1.0), 3 * every.max(initial=0.1)
    for row in every:
        edges, counts = [0.1 * low, *row, 10 * high], [*np.arange(n, 0, -1), 1]
        ax.step(edges, counts, where="post", color=PALETTE[0], linewidth=1.2 if one else 0.7, alpha=1.0 if one else 0.5)
    if one:
        label = f"{int(found.count)} cluster{'s' if found.count > 1 else ''}"
        ax.axvline(float(found.gap), color=PALETTE[1], linewidth=0.9, linestyle=":", label=label)
        ax.legend(loc="best", frameon=False, fontsize=7, handlelength=1.4)
    ax.set(xscale="log", xlim=(low, high), ylim=(0, n + 1))
    return finish(ax, "distance below which tokens are linked", "clusters")
