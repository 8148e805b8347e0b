"""How all pictures look: colours, axes, type, sizes; and the one place where a figure is made."""

import contextlib
import math
import re
import textwrap
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colors, lines
from matplotlib.axes import Axes

from ._given import need, number, to_numpy

STYLE = mpl.rc_params_from_file(Path(__file__).with_name("house.mplstyle"), use_default_template=False)
PALETTE = tuple(entry["color"] for entry in STYLE["axes.prop_cycle"])  # safe for the colour-blind
NAMED = (*PALETTE, "#882255", "#999933", "#332288", "#7A3E0E", "#7CCBA2")  # more, for a sentence of names
INK, SURFACE, COLUMN = "0.15", 0.955, 3.4  # of text; grey of the globe; inches, one column of two
WIDTHS = {"column": COLUMN, "page": 7.0}  # inches
_LEAST, _LOW = 1.6, 1.9  # inches, of a panel: narrower ones go below each other; lower ones hold little

_width: ContextVar[float | None] = ContextVar("width", default=None)


@contextlib.contextmanager
def style(width: str | float | None = None) -> Iterator[None]:
    """Make pictures of a width for print, and your own in the same look, within a ``with`` block.

    Type keeps its size, 7 and 8 points, whatever the width; panels that do not fit side by side go below each other. What
    is drawn on Axes of yours has the look alone. Files written within have 300 dots an inch, and text that stays text in
    PDF. Nothing is left behind in ``matplotlib.rcParams``. The look alone is also ``plt.style.use("ctsa.plot.house")``.

    Args:
        width: "column" (3.4 inches, one column of two), "page" (7.0 inches), inches, or None for each picture's own.

    Raises:
        ValueError: there is no such width.

    Example:
        >>> import ctsa
        >>> with style("page"):
        ...     ax = ctsa.plot.sphere([[1, 0, 0], [0, 1, 0]])
        >>> float(ax.figure.get_figwidth())
        7.0
    """
    if isinstance(width, str):
        need(width in WIDTHS, "width", f"{', '.join(map(repr, WIDTHS))}, or inches", repr(width), "3.4")
    inches = None if width is None else WIDTHS[width] if isinstance(width, str) else number("width", width, 1.0)
    token = _width.set(inches)
    try:
        with mpl.rc_context(STYLE):
            yield
    finally:
        _width.reset(token)


def _fitted(size: tuple[float, float], shape: tuple[int, int]) -> tuple[tuple[float, float], tuple[int, int]]:
    """Return the size and the shape of a grid of panels at the width that is asked for."""
    width = _width.get()
    if width is None:
        return size, shape
    count, panel, low = math.prod(shape), size[0] / shape[1], size[1] / shape[0]
    columns = max(1, min(shape[1], math.floor(width / min(panel, _LEAST) + 1e-9)))
    rows = -(-count // columns)
    wide = width / columns
    return (width, rows * max(low * wide / panel, min(low, _LOW, 1.1 * wide))), (rows, columns)


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
        size, grid = _fitted(size, shape)
        with mpl.rc_context(STYLE):  # "compressed" also packs panels of fixed aspect
            every = plt.subplots(*grid, figsize=size, layout="compressed", **options)[1].ravel()
        for ax in every[math.prod(shape) :]:
            ax.remove()
        return every[: math.prod(shape)]
    flat, count, kind = np.ravel(np.asarray(on, dtype=object)), np.prod(shape), projection or "2-D"
    fits = len(flat) == count and all(isinstance(ax, Axes) and (ax.name == "3d") == (kind == "3d") for ax in flat)
    got = [getattr(ax, "name", type(ax).__name__) for ax in flat]
    need(fits, name, f"{count} {kind} Axes", got, f'{name}=None, or subplot_kw={{"projection": {projection!r}}}')
    return flat


def _folded(text: str, pixels: float, dpi: float) -> str:
    """Break a label into lines where it would be longer than an axis of so many pixels; formulas stay whole."""
    letters = int(pixels / dpi / 0.058)  # of 8 points
    whole = re.sub(r"\$[^$]*\$", lambda found: found[0].replace(" ", "\0"), text)
    length = len(re.sub(r"\$[^$]*\$", lambda found: "x" * (len(found[0]) // 2), text))
    if length <= letters or "\n" in text:
        return text
    return textwrap.fill(whole, max(letters, 12), break_long_words=False).replace("\0", " ")


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
        ax.set_xlabel(_folded(xlabel, ax.bbox.width + 0.25 * ax.figure.dpi, ax.figure.dpi), fontsize=8, color=INK)
        ax.set_ylabel(_folded(ylabel, ax.bbox.height, ax.figure.dpi), fontsize=8, color=INK)
    if len(legend):
        place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if loc == "beside" else {"loc": loc}
        ax.legend(handles=legend, fontsize=7, frameon=False, handlelength=1.4, **place)
    return ax


def time_axis(ax: Axes, ts: np.ndarray, log_time: bool) -> None:
    ax.set_xscale("log" if log_time else ax.get_xscale())
    ts = ts[ts > 0] if log_time else ts
    ax.set_xlim(*((ts.min(), ts.max()) if ts.min() < ts.max() else (None, None)))
