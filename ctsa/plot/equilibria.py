"""Pictures of equilibria: states and trajectories among the eigenvectors of V, counts, and shares of random starts.

Functions return the Axes they drew on. They make a figure only if given no Axes, and show none. Kinds have the same colours
everywhere; states on other eigenvectors than the first are paler.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Patch

import ctsa.plot._given as given
import ctsa.plot._labels as written
from ctsa.ensembles._limits import KINDS
from ctsa.fields.matrices import consensus_matrix, eigenspaces
from ctsa.observables import clusters
from ctsa.results.base import as_numpy

from ._given import need, read, real
from ._globe import both_sides, draw_globe
from ._style import COLUMN, INK, PALETTE, axes_for, finish
from .tokens import sphere

# Consensus, bipartite, clustering, polygonal; what turns is as what rests, hatched; grey is what is not known.
_INKS = (*PALETTE[:4], *PALETTE[:3], "#BBBBBB", "#555555", PALETTE[0], PALETTE[1])
KIND_INKS = dict(zip(KINDS, _INKS, strict=True))
_STABLE, _UNSTABLE = PALETTE[0], PALETTE[1]
_LABEL = {"fontsize": 7, "color": INK}
_NUMBER = {"fontsize": 6.5, "color": INK}


# ------------------------------------------------------------------------------------------------------------- globes
def _spaces(value: Any, d: int) -> list[tuple[int, float, np.ndarray]]:
    """Return index, eigenvalue and vector of every real eigenvector of V, or of the V of a field."""
    if value is None:
        return []
    matrix = consensus_matrix(value, d) if callable(value) else real("value", as_numpy(value))
    need(matrix is not None, "value", "a matrix, or a field that has one", value, "value=None for no axes")
    assert matrix is not None
    matrix = matrix.sum(0) if matrix.ndim == 3 else matrix
    need(matrix.shape == (d, d), "value", f"shape ({d}, {d}) as the tokens", matrix.shape, "the V of this field")
    return [(k, value, v) for k, value, space in eigenspaces(matrix) for v in space.T]


def _in_space(x: np.ndarray, spaces: list) -> tuple[np.ndarray, list]:
    """Return tokens and eigenvectors as points of space: as they are, or their first three principal coordinates."""
    d = x.shape[-1]
    if d <= 3:
        pad = np.eye(d, 3)
    else:
        rows = x.reshape(-1, d)
        pad = np.linalg.eigh(rows.T @ rows)[1][:, :-4:-1]
        pad = pad * np.where(pad[np.abs(pad).argmax(0), np.arange(3)] < 0, -1, 1)
    return x @ pad, [(k, value, v @ pad) for k, value, v in spaces]


def _look_at(ax: Any, spaces: list, flat: bool) -> None:
    """Turn a globe so that one end of every axis is in sight, the first the most."""
    if flat:
        ax.view_init(90, -90)
    elif spaces:
        toward = sum(w * v for w, (_, _, v) in zip((1.0, 0.75, 0.55), spaces, strict=False))
        x, y, z = toward / max(float(np.linalg.norm(toward)), 1e-12)
        ax.view_init(np.degrees(np.arcsin(np.clip(z, -1, 1))), np.degrees(np.arctan2(y, x)))


def _draw_axes(ax: Any, spaces: list) -> None:
    """Let the ends of the eigenvectors of V stick out of the globe."""
    for k, _, v in spaces:
        if np.linalg.norm(v) < 0.1:  # seen end on, in principal coordinates
            continue
        for sign in (1.0, -1.0):
            stick = np.stack([sign * v, 1.22 * sign * v])
            both_sides(ax, stick, np.stack([sign * v] * 2), INK, 4, linewidth=1.0, label=f"_v{k}")
        ax.text(*(1.4 * v), rf"$v_{k}$", ha="center", va="center", zorder=40, gid=f"v{k}", **_LABEL)


def _new_globe(ax: Any, spaces: list, flat: bool, size: float) -> Any:
    new, ax = ax is None, axes_for(ax, "ax", (size, size), projection="3d")[0]
    if new:
        _look_at(ax, spaces, flat)
    ax.set_proj_type("ortho")
    ax.computed_zorder = False
    return ax


def _state(found: Any) -> np.ndarray:
    x = real("found", as_numpy(getattr(found, "x", found)))
    need(x.ndim == 2 and x.size, "found", "an Equilibrium, or a state (n, d)", x.shape, "one of ctsa.find_equilibria")
    need(np.isfinite(x).all(), "found", "a finite state", "nan or inf", "one of ctsa.find_equilibria")
    return x


def equilibrium(found: Any, value: Any = None, *, ax: Any = None, title: bool = True) -> Any:
    """Draw an equilibrium on the globe: blue if stable, red and hollow if not; numbers count the tokens at a place.

    Tokens of other dimensions than 3 are shown by their first three principal coordinates, on the circle for d = 2.

    Args:
        found: an ``Equilibrium``, or a state ``(n, d)`` (then grey: nothing is known of its stability).
        value: V, or a field, whose real eigenvectors are drawn as axes.
        ax: 3-D Axes to draw on; None makes a figure.
        title: whether to say what it is.

    Example:
        >>> import numpy as np
        >>> ax = equilibrium([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], value=np.diag([3.0, 2.0, 1.0]))
    """
    x = _state(found)
    stable = getattr(found, "stable", None)
    ink = "0.35" if stable is None else _STABLE if stable else _UNSTABLE
    points, spaces = _in_space(x, _spaces(value, x.shape[1]))
    ax = _new_globe(ax, spaces, x.shape[1] == 2, 2.0)
    draw_globe(ax)
    _draw_axes(ax, spaces)
    labels = clusters(x, 1e-3)
    for label in range(labels.max() + 1):
        many = int((labels == label).sum())
        place = points[labels == label].mean(0)[None]
        face = {} if stable is not False else {"markerfacecolor": str(0.955)}
        style = {"marker": "o", "markersize": 9.5, "markeredgewidth": 1.2, "linestyle": "none", **face}
        both_sides(ax, place, place, ink, 5, label=f"_tokens{label}", **style)
        number = {"fontsize": 6.5, "color": "white" if stable is not False else ink, "weight": "bold"}
        ax.text(*place[0], str(many), ha="center", va="center_baseline", zorder=41, **number)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    ax.set_box_aspect((1, 1, 1), zoom=1.2)
    if title and hasattr(found, "kind"):
        verdict = "stable" if stable else "marginal" if found.marginal else f"unstable, index {found.index}"
        ax.set_title(f"{found.kind}\n{verdict}", fontsize=7, color=ink, pad=5)
    return finish(ax)


def equilibria(
    found: Sequence[Any], value: Any = None, *, axes: Any = None, columns: int = 4, most: int = 12
) -> np.ndarray:
    """Draw several equilibria, a globe each, see ``equilibrium``.

    Args:
        found: ``Equilibria``, or any sequence of what ``equilibrium`` draws.
        value: V, or a field, whose real eigenvectors are drawn as axes.
        axes: 3-D Axes to draw on; None makes a figure.
        columns: globes in a row.
        most: draw the first ones only.

    Returns:
        Array of Axes.

    Example:
        >>> axes = equilibria([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    """
    if isinstance(found, (str, Mapping)) or not hasattr(found, "__iter__"):
        raise TypeError(f"found must be Equilibria or a list of states, got {type(found).__name__}: wrap one as [found]")
    columns, most = given.count("columns", columns), given.count("most", most)
    shown = list(found)[:most]
    need(len(shown), "found", "at least one equilibrium", found, "ctsa.find_equilibria")
    states = [_state(e) for e in shown]
    width = min(columns, len(shown))
    shape = (-(-len(shown) // width), width)
    if axes is None:
        every = axes_for(None, "axes", (1.75 * width, 2.1 * shape[0]), shape, "3d")
        for ax in every[len(shown) :]:
            ax.remove()
        axes = every[: len(shown)]
        for ax, x in zip(axes, states, strict=True):
            _look_at(ax, _in_space(x, _spaces(value, x.shape[1]))[1], x.shape[1] == 2)
    axes = axes_for(axes, "axes", (1, 1), (1, len(shown)), "3d")
    for ax, e in zip(axes, shown, strict=True):
        equilibrium(e, value, ax=ax)
    return axes


def trajectory(traj: Any, value: Any = None, *, ax: Any = None, title: str | None = None, **options: Any) -> Any:
    """Draw tokens on the two-sphere (d = 3) among the eigenvectors of V, see ``ctsa.plot.sphere``.

    Args:
        traj: a ``Trajectory``, or what else ``ctsa.plot.sphere`` draws.
        value: V, or a field, whose real eigenvectors are drawn as axes; a new globe is turned towards them.
        ax: 3-D Axes to draw on; None makes a figure.
        title: what to write above.
        options: passed on: ``labels``, ``tail``, ``sample``.

    Example:
        >>> import numpy as np
        >>> ax = trajectory([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.diag([3.0, 2.0, 1.0]))
    """
    read(traj, options.get("sample"), d=3, unit=True)  # before a globe is made
    spaces = _spaces(value, 3)
    ax = sphere(traj, ax=_new_globe(ax, spaces, False, COLUMN), **options)
    _draw_axes(ax, spaces)
    ax.set_box_aspect((1, 1, 1), zoom=1.25)
    if title is not None:
        ax.set_title(title, fontsize=8, color=INK, pad=5)
    return ax


def trajectories(runs: Mapping[str, Any], value: Any = None, *, axes: Any = None, columns: int = 3) -> np.ndarray:
    """Draw several trajectories on the two-sphere, a globe each; tokens that end together have one colour.

    Args:
        runs: trajectories by title.
        value: V, or a field, whose real eigenvectors are drawn as axes; or a list of them, one a trajectory.
        axes: 3-D Axes to draw on; None makes a figure.
        columns: globes in a row.

    Returns:
        Array of Axes.

    Example:
        >>> axes = trajectories({"start": [[[1.0, 0.0, 0.0]]], "end": [[[0.0, 1.0, 0.0]]]})
    """
    need(isinstance(runs, Mapping) and len(runs), "runs", "trajectories by title", runs, '{"beta = 1": traj}')
    values = list(value) if isinstance(value, (list, tuple)) and np.ndim(value[0]) != 1 else [value] * len(runs)
    columns = given.count("columns", columns)
    for traj in runs.values():
        read(traj, None, d=3, unit=True)
    need(len(values) == len(runs), "value", f"one for each of {len(runs)} trajectories", len(values), "one for all")
    if axes is None:
        width = min(columns, len(runs))
        shape = (-(-len(runs) // width), width)
        every = axes_for(None, "axes", (2.3 * width, 2.5 * shape[0]), shape, "3d")
        for ax in every[len(runs) :]:
            ax.remove()
        axes = every[: len(runs)]
        for ax, v in zip(axes, values, strict=True):
            _look_at(ax, _spaces(v, 3), False)
    axes = axes_for(axes, "axes", (1, 1), (1, len(runs)), "3d")
    for ax, (title, traj), v in zip(axes, runs.items(), values, strict=True):
        states = real("runs", as_numpy(getattr(traj, "xs", traj)))
        trajectory(traj, v, ax=ax, title=title, labels=clusters(states[-1], 0.05))
    return axes


# --------------------------------------------------------------------------------------------------------------- bars
def _ink(label: str) -> tuple[Any, str]:
    """Return colour and hatch of a label of ``Basins``."""
    kind = max((k for k in KINDS if label.startswith(k)), key=len)
    on = re.search(r" on v(\d+)", label)
    pale = 0.0 if on is None else 1 - 0.6 ** int(on[1])
    colour = (1 - pale) * np.array(colors.to_rgb(KIND_INKS[kind])) + pale
    odd = "(unstable)" in label or "(marginal)" in label
    return colour, "////" if kind.startswith("rotating") else "...." if odd else ""


def _bars(ax: Axes, places: Any, heights: Any, label: str, **options: Any) -> None:
    colour, hatch = _ink(label)
    ax.bar(places, heights, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=label, **options)


def _legend(ax: Axes, labels: Sequence[str]) -> None:
    handles = [Patch(facecolor=_ink(s)[0], hatch=_ink(s)[1], edgecolor="white", label=_short(s)) for s in labels]
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0.2}
    columns = 2 if written.fits_columns(ax, [_short(s) for s in labels], 2) else 1
    ax.legend(handles=handles[::-1], fontsize=6.5, frameon=False, handlelength=1.1, ncols=columns, **place)


def _short(label: str) -> str:
    return re.sub(r" on v(\d+)", r" on $v_{\1}$", label)


def multipliers(found: Any, *, ax: Any = None) -> Axes:
    """Draw the multipliers of fixed points or cycles of a layer with the unit circle, a colour each; bars are their errors.

    Filled marks belong to stable ones, hollow marks to those that are not.

    Args:
        found: ``FixedPoints`` or ``Cycles``.
        ax: Axes to draw on; None makes a figure.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.EulerLayer(Oja([[2.0, 0.0], [0.0, 1.0]]), step=0.5)
        >>> ax = multipliers(ctsa.find_fixed_points(layer, 4, n=2, d=2))
    """
    given.result("found", found, "FixedPoints", "ctsa.find_fixed_points", "Cycles")
    ax = axes_for(ax, "ax", (2.8 + 0.9 * (len(found) > 1), 2.8))[0]
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.5", linewidth=0.9))
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    for i in range(min(len(found), len(PALETTE))):
        z, slack = np.asarray(found.multipliers[i]), np.minimum(np.nan_to_num(np.asarray(found.slack[i])), 1.0)
        face = PALETTE[i] if found.stable[i] else "white"
        ax.errorbar(
            z.real, z.imag, xerr=slack, fmt="o", markersize=3.5, color=PALETTE[i], mfc=face, elinewidth=0.8,
            label=f"{i}: {found.stability[i]}",
        )  # fmt: skip
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    legend = ax.get_legend_handles_labels()[0] if len(found) > 1 else ()
    return finish(ax, "real part", "imaginary part", legend, "beside")  # the circle leaves no room within


def basin_bars(found: Any, *, ax: Any = None, by: str = "eigenvector", most: int = 12) -> Axes:
    """Draw the shares of random starts that go to each limit, with their confidence intervals.

    Args:
        found: ``ctsa.Basins``.
        ax: Axes to draw on; None makes a figure.
        by: level of the labels: "kind", "eigenvector" or "sizes".
        most: show the most frequent ones only, and the others together.
    """
    given.result("found", found, "Basins", "ctsa.basins")
    shares, most = found.shares(by), given.count("most", most)
    labels = list(shares)[:most]
    ax = axes_for(ax, "ax", (COLUMN, 0.55 + 0.24 * min(len(shares), most + 1)))[0]
    for i, label in enumerate(labels):
        share, low, high = shares[label]
        colour, hatch = _ink(label)
        ax.barh(i, share, 0.7, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4)
        error = {"fmt": "none", "ecolor": INK, "elinewidth": 0.8, "capsize": 2}
        ax.errorbar(share, i, xerr=[[max(share - low, 0)], [max(high - share, 0)]], **error)
        ax.annotate(f"{share:.1%}", (high, i), (4, 0), textcoords="offset points", va="center", **_NUMBER)
    rest = 1 - sum(shares[label][0] for label in labels)
    if len(shares) > most:
        ax.barh(most, rest, 0.7, color="0.85")
        ax.annotate(f"{rest:.1%}", (rest, most), (4, 0), textcoords="offset points", va="center", **_NUMBER)
        labels.append(f"{len(shares) - most} others")
    ax.set_yticks(range(len(labels)), [_short(s) for s in labels])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * max(rest, *(high for _, _, high in shares.values())))
    ax.xaxis.set_major_locator(
        ticker.FixedLocator([0, 0.25, 0.5, 0.75, 1]) if ax.get_xlim()[1] > 0.6 else ticker.MaxNLocator(4)
    )
    ax.xaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
    return finish(ax, f"share of {len(found)} random starts")


def basin_shares(found: Mapping[Any, Any], *, ax: Any = None, by: str = "eigenvector", name: str = r"$\beta$") -> Axes:
    """Draw stacked shares of random starts against a parameter.

    Args:
        found: ``{value of the parameter: ctsa.Basins}``.
        ax: Axes to draw on; None makes a figure.
        by: level of the labels: "kind", "eigenvector" or "sizes".
        name: of the parameter.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Oja
        >>> runs = {a: ctsa.basins(Oja(np.diag([a, 1.0])), 10, n=2, d=2) for a in (2.0, 3.0)}
        >>> ax = basin_shares(runs, name="a")
    """
    need(isinstance(found, Mapping) and len(found), "found", "Basins by value", found, "{beta: ctsa.basins(...)}")
    for b in found.values():
        given.result("found", b, "Basins", "ctsa.basins")
    rows = [b.shares(by) for b in found.values()]
    labels = sorted({label for row in rows for label in row}, key=_rank)
    ax = axes_for(ax, "ax", (COLUMN, 2.1 + 0.15 * len(labels)))[0]
    places, low = np.arange(len(rows)), np.zeros(len(rows))
    for label in labels:
        heights = np.array([row.get(label, (0.0,))[0] for row in rows])
        _bars(ax, places, heights, label, width=0.78, bottom=low)
        low = low + heights
    ax.set_xticks(places, [f"{value:g}" for value in found])
    ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_ylim(0, 1)
    _legend(ax, labels)
    return finish(ax, name, f"share of {len(next(iter(found.values())))} starts")


def _rank(label: str) -> tuple:
    kind = max((k for k in KINDS if label.startswith(k)), key=len)
    on = re.search(r" on v(\d+)", label)
    return KINDS.index(kind), int(on[1]) if on else 99, label


def census_bars(table: Mapping[tuple[str, int], Any], betas: Any, *, ax: Any = None, name: str = r"$\beta$") -> Axes:
    """Draw how many stable states there are of each kind, on each eigenvector, against beta; logarithmic.

    Args:
        table: what ``ctsa.theory.census_table`` returned.
        betas: the inverse temperatures it was asked for.
        ax: Axes to draw on; None makes a figure.
        name: of the parameter.

    Example:
        >>> import numpy as np, ctsa
        >>> v, betas = np.diag([3.0, 2.0, 1.0]), [0.1, 0.5, 1.0]
        >>> ax = census_bars(ctsa.theory.census_table(v, v, betas, 10), betas)
    """
    betas = real("betas", betas)
    fits = isinstance(table, Mapping) and table and all(np.shape(v) == betas.shape for v in table.values())
    need(fits, "table", f"counts for each of {betas.size} betas by (kind, k)", table, "ctsa.theory.census_table")
    rows = {
        f"{kind} on v{k}": np.array([float(c) for c in counts]) for (kind, k), counts in table.items() if any(counts)
    }
    need(rows, "table", "at least one stable state", table, "other betas")
    ax = axes_for(ax, "ax", (COLUMN, 2.1 + 0.15 * len(rows)))[0]
    places, width = np.arange(len(betas)), 0.84 / len(rows)
    room = width * 0.85 * ax.bbox.width / ax.figure.dpi * 72 / len(betas)  # points, of a bar
    labels = sorted(rows, key=_rank)
    for i, label in enumerate(labels):
        at = places + (i - (len(labels) - 1) / 2) * width
        counts = rows[label]
        _bars(ax, at[counts > 0], counts[counts > 0], label, width=0.92 * width)
        for x, count in zip(at[counts > 0], counts[counts > 0], strict=True):
            text = f"{count:.0f}" if count < 1e5 else f"{count:.0e}"
            upright = 3.6 * len(text) <= max(room, 8)
            ax.text(x, 1.15 * count, text, ha="center", va="bottom", fontsize=6, color=INK, rotation=90 * (not upright))
    ax.set_yscale("log")
    ax.set_ylim(0.8, 6 * max(v.max() for v in rows.values()))
    ax.set_xticks(places, [f"{b:g}" for b in betas])
    _legend(ax, labels)
    return finish(ax, name, "stable states")
