"""The picture of a survey."""

from typing import Any

import numpy as np
from matplotlib import colors

import ctsa.plot._given as given

from ._style import INK, PALETTE, axes_for, finish


def ends_and_eigenvalues(survey: Any, ends: tuple[str, ...], *, axes: Any = None) -> np.ndarray[Any, Any]:
    """Draw where the tokens of every head end, layers by heads, and the leading eigenvalues by end.

    Args:
        survey: a ``Survey``.
        ends: the names that an end can have, in the order of their colours.
        axes: two Axes to draw on; None makes a figure.

    Returns:
        The two Axes.
    """
    given.result("survey", survey, "Survey", "ctsa.pretrained.survey")
    left, right = axes = axes_for(axes, "axes", (7.8, 2.9), (1, 2))
    code = {end: i for i, end in enumerate(ends)}
    colour = dict(zip(ends, (*PALETTE[:5], "0.75"), strict=True))
    image = np.vectorize(code.__getitem__)(survey.end)
    table = colors.ListedColormap(list(colour.values()))
    left.imshow(image, cmap=table, vmin=-0.5, vmax=len(ends) - 0.5, aspect="auto")
    for i, j in np.argwhere(survey.clusters > 1):
        ink = "white" if survey.end[i, j] in ends[:4] else INK  # as can be read on the colour
        left.text(j, i, int(survey.clusters[i, j]), ha="center", va="center", fontsize=6, color=ink)
    left.set_xticks(range(len(survey.heads)), survey.heads)
    left.set_yticks(range(len(survey.layers)), survey.layers)
    finish(left, "head", "layer")
    lead = survey.eigenvalues[..., 0]
    right.axvline(0, color="0.5", linewidth=0.9, zorder=0)
    entries = []
    for end, count in survey.counts.items():
        z = lead[survey.end == end]
        entries += right.plot(
            z.real, np.abs(z.imag), "o", markersize=3.5, color=colour[end], label=f"{end} ({count})", clip_on=False
        )
    low, high = min(0.0, float(lead.real.min())), max(0.0, float(lead.real.max()))
    pad = 0.04 * (high - low) or 0.1  # no mark lies on the frame
    right.set_xlim(low - pad, high + pad)
    top = float(np.abs(lead.imag).max())
    right.set_ylim(0, 1.08 * top if top > 0 else 1.0)
    finish(right, "leading eigenvalue of V: real part", "imaginary part", legend=entries, loc="beside")
    flat: np.ndarray[Any, Any] = axes
    return flat
