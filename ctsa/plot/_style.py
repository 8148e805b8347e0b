"""How all pictures look: colours, axes, type; and the one place where a figure is made."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colors, lines
from matplotlib.axes import Axes

from ._given import need, to_numpy

# Okabe and Ito's colour-blind safe palette, without the yellow that is lost on white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A")
NAMED = (*PALETTE, "#882255", "#999933", "#332288", "#7A3E0E", "#7CCBA2")  # more, for a sentence of names
INK, SURFACE, COLUMN = "0.15", 0.955, 3.4  # of text; grey of the globe; inches, one column of two
STYLE = {"figure.dpi": 150, "figure.facecolor": "white", "axes.facecolor": "white", "axes.grid": False}


def colours_of(n: int, labels: Any) -> tuple[np.ndarray, list[lines.Line2D]]:
    """Return a colour a token (n, 4), and what to put in a legend."""
    labels = np.arange(n) if labels is None else to_numpy(labels)
    need(labels.shape == (n,), "labels", f"one label a token ({n},)", labels.shape, "the final clusters")
    names, first, group = np.unique(labels, return_index=True, return_inverse=True)
    k, style = len(names), {"marker": "o", "markersize": 3.5, "linewidth": 1.2}
    if names.dtype.kind not in "biuf":  # names in the order of the tokens
        order = np.argsort(first)
        names, group = names[order], np.argsort(order)[group]
    table = mpl.colormaps["viridis"](np.linspace(0, 0.92, k))  # safe however many
    if names.dtype.kind != "f":  # numbers of tokens and clusters are names: neighbours look unlike
        table = table[np.argsort(np.arange(k) * 0.618 % 1)]
    table = colors.to_rgba_array(NAMED[:k]) if k <= len(NAMED) else table
    entries = [lines.Line2D([], [], color=c, label=str(s), **style) for s, c in zip(names, table)]
    return table[group], entries if names.dtype.kind not in "biuf" and k <= 12 else []


def axes_for(on: Any, name: str, size: tuple, shape: tuple = (1, 1), projection: Any = None, **options: Any) -> Any:
    """Return the Axes given, or those of a new figure, as a flat array."""
    if on is None:
        import matplotlib.pyplot as plt  # here, so that importing ctsa chooses no backend

        options |= {"squeeze": False, "subplot_kw": {"projection": projection}}
        with mpl.rc_context(STYLE):  # "compressed" also packs panels of fixed aspect
            return plt.subplots(*shape, figsize=size, layout="compressed", **options)[1].ravel()
    flat, count, kind = np.ravel(np.asarray(on, dtype=object)), np.prod(shape), projection or "2-D"
    fits = len(flat) == count and all(isinstance(ax, Axes) and (ax.name == "3d") == (kind == "3d") for ax in flat)
    got = [getattr(ax, "name", type(ax).__name__) for ax in flat]
    need(fits, name, f"{count} {kind} Axes", got, f'{name}=None, or subplot_kw={{"projection": {projection!r}}}')
    return flat


def finish(ax: Any, xlabel: str | None = None, ylabel: str = "", legend: Any = (), loc: str = "best") -> Any:
    """Give ``ax`` thin spines and small type, or no frame if no label; and a legend."""
    if xlabel is None:
        ax.set_axis_off()
    else:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[:].set(linewidth=0.6, color=INK)
        ax.tick_params(labelsize=7, width=0.6, length=2.5, color=INK, labelcolor=INK)
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_offset_text().set(fontsize=7, color=INK)
        ax.set_xlabel(xlabel, fontsize=8, color=INK)
        ax.set_ylabel(ylabel, fontsize=8, color=INK)
    if len(legend):
        place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if loc == "beside" else {"loc": loc}
        ax.legend(handles=legend, fontsize=7, frameon=False, handlelength=1.4, **place)
    return ax


def time_axis(ax: Axes, ts: np.ndarray, log_time: bool) -> None:
    ax.set_xscale("log" if log_time else ax.get_xscale())
    ts = ts[ts > 0] if log_time else ts
    ax.set_xlim(*((ts.min(), ts.max()) if ts.min() < ts.max() else (None, None)))
