"""Pictures of continuation: bifurcation diagrams, eigenvalues along a branch, special points."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

import ctsa.plot._given as given
import ctsa.plot._labels as written
from ctsa.observables import order_parameter

from ._given import on_sphere
from ._style import PALETTE, axes_for, finish
from .tokens import sphere

_MARKERS = {
    "fold": ("s", "fold"), "branch point": ("o", "branch point"), "Hopf": ("D", "Hopf point"),
    "period doubling": ("^", "period doubling"), "Neimark-Sacker": ("v", "Neimark\u2013Sacker point"),
}  # fmt: skip
_DASHES = (":", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 3)))
INK = "0.15"

Observable = Callable[[np.ndarray], Any]


def _observed(result: Any, observable: Observable | None) -> tuple[Observable, str]:
    if observable is not None:
        if not callable(observable):
            raise TypeError(f"observable must be a function of a state (n, d), got {type(observable).__name__}")
        return observable, getattr(observable, "__name__", "observable").replace("<lambda>", "observable")
    if on_sphere(np.asarray(result.xs)):
        return order_parameter, "order parameter"
    return lambda x: x[..., 0, 0], "first component"


def diagram(
    result: Any, observable: Observable | None = None, *, ax: Any = None, label: str | None = None, legend: bool = True
) -> Axes:
    """Draw an observable of equilibria against the parameter: stable parts solid, unstable parts dashed.

    Squares mark folds, circles branch points, diamonds Hopf points, triangles period doublings and Neimark-Sacker points.
    Each branch has a colour.

    Args:
        result: a ``Branch``, a ``Diagram``, or a list of branches.
        observable: function of a state ``(n, d)`` that returns a number; None takes the order parameter, in flat space the
            first component of the first token.
        ax: Axes to draw on; None makes a figure.
        label: name of the observable on the axis.
        legend: whether to explain lines and markers.

    Returns:
        The Axes.

    Raises:
        TypeError: ``observable`` is not callable.
        ValueError: it does not return one number a state, or there is no branch.
    """
    found = getattr(result, "branches", [result] if hasattr(result, "xs") else result)
    if not isinstance(found, (list, tuple)):
        given.result("result", result, "Branch", "ctsa.continue_equilibrium", "Diagram", "list of them")
    branches = list(found)
    for branch in branches:
        given.result("result", branch, "Branch", "ctsa.continue_equilibrium", "Diagram", "list of them")
    if not branches:
        raise ValueError("result must hold at least one branch, got none")
    function, name = _observed(branches[0], observable)
    lines = [_line(branch, function) for branch in branches]
    ax = axes_for(ax, "ax", (3.4, 2.6))[0]
    kinds: list[str] = []
    styles: set[bool] = set()
    for i, (p, y, stable, special, marks) in enumerate(lines):
        for first, last in _runs(stable, special):
            piece = np.stack([p, y])[:, first : last + 1]
            if tuple(piece[:, 0]) > tuple(piece[:, -1]):
                piece = piece[:, ::-1]  # the dashes of arms that look alike fall upon each other
            styles.add(bool(stable[first]))
            ax.plot(
                *piece, color=PALETTE[i % len(PALETTE)], linewidth=1.3 if stable[first] else 0.9,
                linestyle="-" if stable[first] else (0, (3, 2)), zorder=3 if stable[first] else 2,
            )  # fmt: skip
        for kind, at, height in marks:
            kinds.append(kind)
            ax.plot(
                [at], [height], _MARKERS[kind][0], markersize=4, color=INK, markerfacecolor="white", zorder=5,
                linestyle="none",
            )  # fmt: skip
    if legend:
        entries = [Line2D([], [], color=INK, linewidth=1.3, label="stable")] if True in styles else []
        entries += [Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (3, 2)), label="unstable")] * (
            False in styles
        )
        for kind, (marker, text) in _MARKERS.items():
            if kind in kinds:
                entries.append(
                    Line2D([], [], color=INK, marker=marker, mfc="white", markersize=4, linestyle="none", label=text)
                )
        ax.legend(handles=entries, loc="best", frameon=False, fontsize=7)
    return finish(ax, written.symbol(branches[0].parameter), name if label is None else label)


def _line(branch: Any, function: Observable) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list]:
    """Return parameters and values with the special points put in, what segments are stable, where these are, marks."""

    def value(x: np.ndarray) -> float:
        number = np.asarray(function(x))
        if number.size != 1:
            raise ValueError(f"observable must return one number for a state (n, d), got shape {number.shape}")
        return float(number.reshape(()))

    points = branch.points
    at = np.concatenate([branch.arclength, branch.point_arclength])
    p = np.concatenate([branch.parameters, branch.point_parameters])
    y = np.array([value(x) for x in (*branch.xs, *branch.point_xs)])
    # Between special points stability is constant; at one, an eigenvalue is zero and says nothing.
    known = np.concatenate([branch.stable.astype(float), np.full(len(points), np.nan)])
    for s in branch.point_arclength:
        known[np.abs(at - s) < 1e-9] = np.nan
    order = np.argsort(at, kind="stable")
    known, special = known[order], np.flatnonzero(order >= len(branch.parameters))
    segments = np.where(np.isnan(known[:-1]), known[1:], known[:-1])
    for i in np.flatnonzero(np.isnan(segments)):  # between two special points
        segments[i] = segments[i - 1] if i else 0.0
    marks = [(q.kind, q.parameter, value(q.x)) for q in points]
    return p[order], y[order], segments == 1.0, special, marks


def _runs(stable: np.ndarray, special: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last point of each run of equal segments without a special point inside."""
    changes = np.flatnonzero(np.diff(stable.astype(int))) + 1
    edges = np.unique([0, *changes, *special, len(stable)]).tolist()
    return list(zip(edges, edges[1:], strict=False))


def eigenvalues(branch: Any, *, ax: Any = None, imaginary: bool = False) -> Axes:
    """Draw the leading eigenvalues along a branch against the parameter, numbered in their order; special points dashed.

    Args:
        branch: a ``Branch``.
        ax: Axes to draw on; None makes a figure.
        imaginary: draw imaginary parts instead of real parts; of a layer angles instead of moduli.

    Returns:
        The Axes.
    """
    given.result("branch", branch, "Branch", "ctsa.continue_equilibrium")
    given.flag("imaginary", imaginary)
    ax = axes_for(ax, "ax", (3.4, 2.6))[0]
    values = np.asarray(branch.eigenvalues)
    part, of = (values.imag, "imaginary part of") if imaginary else (values.real, "real part of")
    if not branch.continuous:
        part, of = (np.angle(values), "angle of") if imaginary else (np.abs(values), "modulus of")
    inks = [PALETTE[i % len(PALETTE)] for i in range(part.shape[1])]
    for row, ink in zip(part.T, inks, strict=True):
        ax.plot(branch.parameters, row, ".-", markersize=2.5, linewidth=1.0, color=ink)
    ax.axhline(0 if branch.continuous or imaginary else 1, color="0.7", linewidth=0.8, zorder=0)
    for style, kind in zip(_DASHES, _MARKERS, strict=True):
        for i, point in enumerate(p for p in branch.points if p.kind == kind):
            name = None if i else _MARKERS[kind][1]
            ax.axvline(point.parameter, color="0.6", linewidth=0.8, linestyle=style, zorder=0, label=name)
    if branch.points:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, frameon=False, fontsize=7)
    if branch.parameters[-1] == branch.parameters.max() > branch.parameters[0]:  # its last points are at the right
        written.at_ends(ax, part[-1], inks, r"\mu")
    return finish(ax, written.symbol(branch.parameter), f"{of} {'eigenvalues' if branch.continuous else 'multipliers'}")


def special_point(point: Any, direction: int = 0, *, ax: Any = None) -> Any:
    """Draw the state at a special point, with arrows along which a null direction moves its tokens.

    Unit tokens with d = 3 are drawn on the sphere, others in the plane that holds most of them and of the arrows.

    Args:
        point: a ``SpecialPoint``.
        direction: which of its null directions.
        ax: Axes to draw on (3-D for the sphere); None makes a figure.

    Returns:
        The Axes.

    Raises:
        ValueError: there are fewer null directions.
    """
    given.result("point", point, "SpecialPoint", "branch.points")
    direction = given.count("direction", direction, 0)
    if direction >= len(point.vectors):
        raise ValueError(
            f"direction must be below {len(point.vectors)}, the number of null directions, got {direction}"
        )
    x, v = np.asarray(point.x, dtype=float), np.asarray(point.vectors[direction], dtype=float)
    title, unit = f"{point.kind} at {point.parameter + 0.0:.5g}", on_sphere(x)
    if x.shape[1] == 3 and unit:
        ax = sphere(x[None], vectors=v, ax=ax)
        ax.set_title(title, fontsize=8, color=INK)
        return ax
    ax = axes_for(ax, "ax", (2.8, 2.8))[0]
    v = v / max(float(np.linalg.norm(v, axis=-1).max()), np.finfo(float).tiny)
    v = v * 0.35 * float(np.linalg.norm(x, axis=-1).max())
    plane = np.eye(x.shape[1])[:2] if x.shape[1] < 3 else np.linalg.svd(np.concatenate([x, v]))[2][:2]
    x, v = x @ plane.T, v @ plane.T  # (n, 2); (n, 1) where tokens are numbers
    x, v = (np.pad(a, ((0, 0), (0, 2 - a.shape[1]))) for a in (x, v))
    if unit:
        ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.8", linewidth=0.9))
    moved = np.linalg.norm(v, axis=-1) > 1e-3 * np.abs(v).max()
    for start, arrow in zip(x[moved], v[moved], strict=True):
        ax.annotate(
            "", start + arrow, start, arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 0.9, "shrinkA": 0}
        )
    for i, token in enumerate(x):
        ax.plot(*token, "o", markersize=4.6, color=PALETTE[i % len(PALETTE)], zorder=3)
    ax.update_datalim(x + v)
    ax.margins(0.1)
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title(title, fontsize=8, color=INK)
    return finish(ax, *(("first component", "second component") if plane.shape[1] < 3 else ("leading plane",)))
