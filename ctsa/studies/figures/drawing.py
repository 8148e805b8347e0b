"""How the pictures of figures begin and end: the house style, a row of panels, entries of a legend."""

from typing import Any

from matplotlib.lines import Line2D

from ctsa.plot._style import axes_for, finish as finish


def panels(axes: Any, count: int = 1, *, height: float = 2.6, projection: Any = None) -> Any:
    """Return ``count`` Axes side by side: those given, or those of a new figure of the width of a page."""
    width = 3.4 if count == 1 else 7.0
    return axes_for(axes, "axes", (width, height), (1, count), projection)


def entry(colour: Any, label: str, style: str = "-", mark: str = "o") -> Line2D:
    """Return an entry of a legend."""
    return Line2D([], [], color=colour, label=label, linestyle=style, marker=mark, markersize=3, linewidth=1)
