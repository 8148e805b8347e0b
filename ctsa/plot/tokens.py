"""Draw trajectories of tokens, Gram matrices and observables.

Functions return the Axes they drew on (``gram`` and ``panels``: an array of them). They make a figure only if
given no Axes, show none, and leave ``matplotlib.rcParams`` alone. Arrays are NumPy, PyTorch or JAX. Bad input
raises a ValueError that names the argument, before any figure is made. Shared arguments:

- ``traj``: an object with ``ts`` (T,) and ``xs`` (T, n, d), a tuple ``(ts, xs)``, or states (T, n, d) or (n, d).
- ``sample``: index into the batch axes of states (T, ..., n, d). ``ax``, ``axes``: to draw on; None: a new figure.
- ``labels``: (n,) clusters or names to colour by (names get a legend); None colours by token.
- ``tail``: draw only the last ``tail`` units of time; the marks of the start go if that cuts it off.
- ``log_time``: logarithmic time axis; times <= 0 are left out.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colors, lines, patches, ticker
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d.art3d import Line3D

from . import _given as given, _labels as written
from ._globe import draw_marks, draw_paths, toward

# Okabe and Ito's colour-blind safe palette, without the yellow that is lost on white paper.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A")
_NAMED = (*_PALETTE, "#882255", "#999933", "#332288", "#7A3E0E", "#7CCBA2")  # more, for a sentence of names
_INK, _SURFACE, _COLUMN = "0.15", 0.955, 3.4  # of text; grey of the globe; inches, one column of two
_FEW = 64  # tokens that are drawn as lines of their own on the sphere
_STYLE = {"figure.dpi": 150, "figure.facecolor": "white", "axes.facecolor": "white", "axes.grid": False}


def _need(ok: Any, name: str, wanted: str, got: Any, hint: str) -> None:
    if not ok:
        raise ValueError(f"{name}: wanted {wanted}, got {got}; try {hint}")


def _numpy(x: Any) -> np.ndarray:
    x = x.detach().cpu() if hasattr(x, "detach") else x
    return np.asarray(x.double() if hasattr(x, "double") and x.is_floating_point() else x)  # for bfloat16


def _real(name: str, x: Any) -> np.ndarray:
    try:
        array = _numpy(x)
        if not array.ndim and array.dtype.kind not in "biufcV":
            raise AttributeError
        return array.astype(float, casting="unsafe" if array.dtype.kind in "biufV" else "safe")
    except AttributeError:
        raise TypeError(f"{name} must be an array of real numbers, got {type(x).__name__}: see the docstring") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: wanted real numbers, got {error}; try a regular array of floats") from None


def _on_sphere(xs: np.ndarray) -> bool:
    """Say whether tokens are unit vectors to the eye; NaN, as after a failed solve, does not count."""
    return not np.any(np.abs(np.linalg.norm(xs, axis=-1) - 1) > 0.02)


def _read(traj: Any, sample: Any, tail: float | None = None, d: Any = None, unit: bool = False) -> tuple:
    """Return times (T,), states (T, n, d) of one sample, and whether the first is the trajectory's first."""
    if hasattr(traj, "xs"):
        if not hasattr(traj, "ts"):
            raise TypeError(f"traj must have times ts beside xs, as a Trajectory, got {type(traj).__name__}: pass its .xs")
        ts, xs = traj.ts, traj.xs
    elif traj is None or isinstance(traj, (str, Mapping)) or callable(traj):
        raise TypeError(f"traj must be a Trajectory, or states (T, n, d), got {type(traj).__name__}: ctsa.integrate")
    elif isinstance(traj, tuple) and len(traj) == 2 and np.ndim(_numpy(traj[0])) == 1:
        ts, xs = traj
    else:
        xs = np.atleast_1d(_real("traj", traj))
        xs = xs[None] if xs.ndim == 2 else xs
        ts = np.arange(len(xs))
    ts, xs = _real("traj.ts", ts), _real("traj.xs", xs)
    _need(xs.ndim > 2 and xs.size, "traj", "states (T, n, d)", xs.shape, "shape (T, 1, d) for a single token")
    _need(ts.shape == xs.shape[:1], "traj", f"a time a state {xs.shape}", f"times {ts.shape}", "time first")
    batch, index = xs.shape[1:-2], () if sample is None else tuple(np.ravel(np.asarray(sample)).tolist())
    fits = len(index) == len(batch) and all(isinstance(i, int) and -b <= i < b for i, b in zip(index, batch))
    first = f"sample={0 if len(batch) == 1 else (0,) * len(batch) or None}"
    _need(fits, "sample", f"an index into the batch axes {batch} of states {xs.shape}", sample, first)
    xs = xs[(slice(None), *index)]
    other = f"plot.trajectory, or for oscillators to reshape the states to (T, -1, {d})"
    _need(np.isfinite(xs).any(), "traj", "finite states", "nan or inf everywhere", "a run that did not fail")
    _need(d in (None, xs.shape[-1]), "traj", f"tokens with d = {d}", f"states {xs.shape}", other)
    norms = f"norms up to {np.linalg.norm(xs, axis=-1).max():.3g}"
    _need(not unit or _on_sphere(xs), "traj", "unit tokens", norms, "plot.principal, or to normalise them")
    tail = tail if tail is None or isinstance(tail, (int, float)) else given.number("tail", tail)
    _need(tail is None or tail >= 0, "tail", "a length of time >= 0", tail, "None for whole paths")
    keep = np.abs(ts[-1] - ts) <= (np.inf if tail is None else tail)
    return ts[keep], xs[keep], bool(keep[0])


def _colours(n: int, labels: Any) -> tuple[np.ndarray, list[lines.Line2D]]:
    """Return a colour a token (n, 4), and what to put in a legend."""
    labels = np.arange(n) if labels is None else _numpy(labels)
    _need(labels.shape == (n,), "labels", f"one label a token ({n},)", labels.shape, "the final clusters")
    names, first, group = np.unique(labels, return_index=True, return_inverse=True)
    k, style = len(names), {"marker": "o", "markersize": 3.5, "linewidth": 1.2}
    if names.dtype.kind not in "biuf":  # names in the order of the tokens
        order = np.argsort(first)
        names, group = names[order], np.argsort(order)[group]
    table = mpl.colormaps["viridis"](np.linspace(0, 0.92, k))  # safe however many
    if names.dtype.kind != "f":  # numbers of tokens and clusters are names: neighbours look unlike
        table = table[np.argsort(np.arange(k) * 0.618 % 1)]
    table = colors.to_rgba_array(_NAMED[:k]) if k <= len(_NAMED) else table
    entries = [lines.Line2D([], [], color=c, label=str(s), **style) for s, c in zip(names, table)]
    return table[group], entries if names.dtype.kind not in "biuf" and k <= 12 else []


def _axes(on: Any, name: str, size: tuple, shape: tuple = (1, 1), projection: Any = None, **options: Any) -> Any:
    """Return the Axes given, or those of a new figure, as a flat array."""
    if on is None:
        import matplotlib.pyplot as plt  # here, so that importing ctsa chooses no backend

        options |= {"squeeze": False, "subplot_kw": {"projection": projection}}
        with mpl.rc_context(_STYLE):  # "compressed" also packs panels of fixed aspect
            return plt.subplots(*shape, figsize=size, layout="compressed", **options)[1].ravel()
    flat, count, kind = np.ravel(np.asarray(on, dtype=object)), np.prod(shape), projection or "2-D"
    fits = len(flat) == count and all(isinstance(ax, Axes) and (ax.name == "3d") == (kind == "3d") for ax in flat)
    got = [getattr(ax, "name", type(ax).__name__) for ax in flat]
    _need(fits, name, f"{count} {kind} Axes", got, f'{name}=None, or subplot_kw={{"projection": {projection!r}}}')
    return flat


def _finish(ax: Any, xlabel: str | None = None, ylabel: str = "", legend: Any = (), loc: str = "best") -> Any:
    """Give ``ax`` thin spines and small type, or no frame if no label; and a legend."""
    if xlabel is None:
        ax.set_axis_off()
    else:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[:].set(linewidth=0.6, color=_INK)
        ax.tick_params(labelsize=7, width=0.6, length=2.5, color=_INK, labelcolor=_INK)
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_offset_text().set(fontsize=7, color=_INK)
        ax.set_xlabel(xlabel, fontsize=8, color=_INK)
        ax.set_ylabel(ylabel, fontsize=8, color=_INK)
    if len(legend):
        place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if loc == "beside" else {"loc": loc}
        ax.legend(handles=legend, fontsize=7, frameon=False, handlelength=1.4, **place)
    return ax


def _time_axis(ax: Axes, ts: np.ndarray, log_time: bool) -> None:
    ax.set_xscale("log" if log_time else ax.get_xscale())
    ts = ts[ts > 0] if log_time else ts
    ax.set_xlim(*((ts.min(), ts.max()) if ts.min() < ts.max() else (None, None)))


def _paths(ax: Axes, xy: np.ndarray, colours: np.ndarray, whole: bool, rings: Mapping[float, str]) -> None:
    """Draw plane paths (T, n, 2), hollow marks where they start, filled ones where they end, and circles."""
    for path, colour in zip(xy.swapaxes(0, 1), colours):
        ax.plot(*path.T, color=colour, linewidth=1.4 / len(colours) ** 0.15, solid_capstyle="round", zorder=3)
    if whole and len(xy) > 1:
        ax.scatter(*xy[0].T, s=11, facecolors="white", edgecolors=colours, linewidths=0.8, zorder=4)
    ax.scatter(*xy[-1].T, s=20, facecolors=colours, edgecolors="white", linewidths=0.5, zorder=5)
    for radius, grey in rings.items():
        ax.add_patch(patches.Circle((0, 0), radius, fill=False, edgecolor=grey, linewidth=0.6, zorder=1))
    ax.set_aspect("equal")


class _ViewLine(Line3D):
    """Points (m, 3), shown where their anchors face the viewer, at every drawing; or the rim."""

    def __init__(self, points: Any = None, anchors: Any = None, **style: Any) -> None:
        super().__init__([], [], [], **style)
        self._points, self._anchors = points, points if anchors is None else anchors

    def draw(self, renderer: Any) -> None:
        viewer, a = toward(self.axes.elev, self.axes.azim), np.linspace(0, 2 * np.pi, 181)
        if self._points is None:  # the great circle across the line of sight
            shown = np.stack([np.cos(a), np.sin(a)], 1) @ np.linalg.svd(viewer[None])[2][1:]
        else:
            shown = np.where((self._anchors @ viewer >= 0)[:, None], self._points, np.nan)
        self.set_data_3d(*shown.T)
        super().draw(renderer)


def _globe(ax: Any) -> None:
    """Draw a faint lit unit sphere with a graticule every 30 degrees, once an Axes."""
    if any(artist.get_gid() == "globe" for artist in ax.collections):
        return
    lon, lat = np.meshgrid(np.linspace(0, 2 * np.pi, 121), np.linspace(-np.pi / 2, np.pi / 2, 61))
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])  # (3, 61, 121)
    light = np.tensordot(toward(ax.elev + 35, ax.azim - 35), xyz, 1)[..., None]
    grey = np.clip(_SURFACE - 0.035 + 0.07 * np.clip(light, -0.5, 1), 0, 1) * np.ones(3)
    # Opaque and not antialiased, as see-through facets show their seams; the rim hides the ragged edge.
    flat: dict[str, Any] = {"shade": False, "linewidth": 0, "antialiased": False, "rasterized": True}
    ax.plot_surface(*xyz, facecolors=grey, rcount=61, ccount=121, zorder=0, gid="globe", **flat)
    for line in [*xyz[:, 10:51:10].transpose(1, 2, 0), *xyz[:, :, :-1:10].transpose(2, 1, 0)]:
        ax.add_line(_ViewLine(line, color="0.84", linewidth=0.4, zorder=1))
    ax.add_line(_ViewLine(color="0.6", linewidth=0.8, zorder=1))


def _pale(colour: Any) -> np.ndarray:
    return 0.3 * colors.to_rgba_array(colour)[..., :3].squeeze() + 0.7 * _SURFACE


def _both_sides(ax: Any, points: np.ndarray, anchors: np.ndarray, colour: Any, zorder: int, **style: Any) -> None:
    """Draw points (m, 3) palely (see-through adds up), in full and on top where anchors face the viewer."""
    pale = _pale(colour)
    for ink, near in (pale, False), (colour, True):
        look = {"color": ink, "markerfacecolor": ink, "markeredgecolor": ink, "zorder": zorder + 10 * near} | style
        ax.add_line(_ViewLine(points, anchors, **look) if near else Line3D(*points.T, **look))


def sphere(
    traj: Any, *, ax: Any = None, labels: Any = None, tail: float | None = None, vectors: Any = None, sample: Any = None
) -> Any:
    """Draw tokens on the two-sphere (d = 3): hollow marks at the start, filled ones at the end.

    The far side is pale, also after ``ax.view_init``. New Axes are seen from where most tokens end.
    Lines are labelled ``_path0``, ``_start0``, ``_end0``, ...; more than 64 tokens are drawn as collections.

    Args:
        vectors: (n, 3) or (k, n, 3), arrows at the last states (velocities, Lyapunov vectors); longest: 0.35. Those
            that fall upon each other are drawn once.

    Example:
        >>> ax = sphere([[1, 0, 0], [0, 1, 0]])
    """
    _, xs, whole = _read(traj, sample, tail, d=3, unit=True)
    n, last, width = xs.shape[1], xs[-1], 1.4 / xs.shape[1] ** 0.15
    inks, legend = _colours(n, labels)
    u = np.zeros((0, n, 3)) if vectors is None else _real("vectors", vectors)
    _need(u.shape[-2:] == (n, 3) and u.ndim < 4, "vectors", f"({n}, 3) or (k, {n}, 3)", u.shape, "one each")
    new, ax = ax is None, _axes(ax, "ax", (_COLUMN + written.room(legend), _COLUMN), projection="3d")[0]
    x, y, z = np.nan_to_num(last).mean(0)
    if new and np.hypot(x, y) > 0.1:  # a little from the side, as clusters in the middle look flat
        ax.view_init(15 + np.clip(60 * z, -25, 25), np.degrees(np.arctan2(y, x)) + 25)
    ax.set_proj_type("ortho")  # only then is the near side a half-sphere
    ax.computed_zorder = False
    _globe(ax)
    start = {"marker": "o", "markersize": 3.2, "markeredgewidth": 0.8, "markerfacecolor": str(_SURFACE)}
    end = {"marker": "o", "markersize": 4.6, "markeredgewidth": 0.5, "markeredgecolor": "white"}
    if n > _FEW:  # as collections, which are drawn faster than as many lines
        pale, blank = _pale(inks), np.full((n, 3), _SURFACE)
        draw_paths(ax, xs.swapaxes(0, 1), inks, pale, width, 2)
        if whole and len(xs) > 1:
            draw_marks(ax, xs[0], (blank, blank), (pale, inks), 3.2, 0.8, 3)
        draw_marks(ax, last, (pale, inks), ("white", "white"), 4.6, 0.5, 5)
    for i, (path, ink) in enumerate(zip(xs.swapaxes(0, 1), inks[: _FEW * (n <= _FEW)])):
        _both_sides(ax, path, path, ink, 2, linewidth=width, solid_capstyle="round", label=f"_path{i}")
        if whole and len(path) > 1:
            _both_sides(ax, path[:1], path[:1], ink, 3, label=f"_start{i}", **start)
        _both_sides(ax, path[-1:], path[-1:], ink, 5, label=f"_end{i}", **end)
    for j, v in enumerate(u.reshape(-1, n, 3)):
        v = 0.35 * v / max(np.nanmax(np.linalg.norm(v, axis=-1)), np.finfo(float).tiny)
        back, side, tip = -0.25 * v, 0.14 * np.cross(last, v), last + v
        arrows = np.stack([last, tip, tip + back + side, tip, tip + back - side], 1)  # (n, 5, 3)
        arrows = arrows[np.linalg.norm(v, axis=-1) > 1e-3]
        apart = np.unique(np.round(arrows.reshape(-1, 15), 2), axis=0, return_index=True)[1]  # one a cluster
        for arrow in arrows[np.sort(apart)]:
            _both_sides(ax, arrow, arrow[:1], (_INK, *_PALETTE)[j % 8], 4, linewidth=0.8, label="_vector")
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    ax.set_box_aspect((1, 1, 1), zoom=1.55)
    return _finish(ax, legend=legend, loc="beside")


def circle(
    traj: Any, *, ax: Any = None, labels: Any = None, tail: float | None = None, spread: float = 0.4, sample: Any = None
) -> Axes:
    """Draw tokens on the circle (d = 2) at ``(1 - spread (1 - s)) x_i``, with s from 0 to 1 in time.

    Paths thus do not cover each other; they start on an inner ring and end at their true places.
    ``spread=0`` draws the states as they are.

    Example:
        >>> ax = circle([[1, 0], [0, 1]])
    """
    ts, xs, whole = _read(traj, sample, tail, d=2, unit=True)
    _need(0 <= given.number("spread", spread) < 1, "spread", "0 <= spread < 1", spread, "0.4")
    colours, legend = _colours(xs.shape[1], labels)
    r = 1 - spread * (ts[-1] - ts) / (ts[-1] - ts[0] or 1)  # (T,); zero time leaves one
    ax = _axes(ax, "ax", (_COLUMN + written.room(legend), _COLUMN))[0]
    _paths(ax, r[:, None, None] * xs, colours, whole, {r[0]: "0.8", 1.0: "0.45"})
    ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    return _finish(ax, legend=legend, loc="beside")


def angles(traj: Any, *, ax: Any = None, labels: Any = None, sample: Any = None, log_time: bool = False) -> Axes:
    """Draw angles ``atan2(x_i2, x_i1)`` (d = 2) against time, unwrapped: right for turns below pi between outputs.

    Example:
        >>> ax = angles([[[1, 0]], [[0, 1]], [[-1, 0]]])
    """
    ts, xs, _ = _read(traj, sample, d=2)
    colours, legend = _colours(xs.shape[1], labels)
    given.flag("log_time", log_time)
    _need(not log_time or np.any(ts > 0), "log_time", "times > 0", f"up to {ts.max():g}", "log_time=False")
    ax = _axes(ax, "ax", (_COLUMN + written.room(legend), 0.68 * _COLUMN))[0]
    for path, colour in zip(np.unwrap(np.arctan2(xs[..., 1], xs[..., 0]), axis=0).T, colours):
        ax.plot(ts, path, color=colour, linewidth=1.4 / len(colours) ** 0.15)
    half_turns = np.ptp(ax.get_ylim()) / np.pi
    if 0.5 < half_turns < 600:
        step = next(s for s in (0.25, 0.5, 1, 2, 4, 10, 20, 50, 100) if half_turns <= 6 * s)
        ax.yaxis.set_major_locator(ticker.MultipleLocator(step * np.pi))
        ax.yaxis.set_major_formatter(_in_pi)
    _time_axis(ax, ts, log_time)
    return _finish(ax, "time $t$", r"angle $\theta_i$", legend, "beside")


def _in_pi(value: float, _: Any = None) -> str:
    q = Fraction(value / np.pi).limit_denominator(4)
    top = {1: r"\pi", -1: r"-\pi"}.get(q.numerator, rf"{q.numerator}\pi")
    return "$0$" if q == 0 else f"${top}$" if q.denominator == 1 else f"${top}/{q.denominator}$"


def principal(traj: Any, *, ax: Any = None, labels: Any = None, tail: float | None = None, sample: Any = None) -> Axes:
    """Draw tokens projected on the plane that holds most of all their states, whatever ``tail`` is.

    Its orthonormal rows B (2, d) maximise ``sum_{t,i} |B x_i(t)|^2``; labels give each one's share of the sum
    of ``|x|^2``. States are not centred: the origin stays the centre of the sphere, unit tokens lie within
    the unit circle, near its rim if near the plane. Signs make the mean state positive.

    Example:
        >>> ax = principal([[1, 0, 0, 0], [0, 0, 1, 0]])
    """
    (_, every, _), (_, xs, whole) = _read(traj, sample), _read(traj, sample, tail)
    states, unit = every.reshape(-1, every.shape[-1]), _on_sphere(every)
    _need(xs.shape[-1] > 1, "traj", "d >= 2", f"states {xs.shape}", "plot.observables(ts, {'x': xs[..., 0]})")
    colours, legend = _colours(xs.shape[1], labels)
    states = states[np.isfinite(states).all(-1)]  # a failed solve leaves NaN behind
    plane = np.linalg.eigh(states.T @ states)[1][:, :-3:-1]  # (d, 2)
    plane = plane * np.where(states.sum(0) @ plane < 0, -1, 1)
    share = np.sum((states @ plane) ** 2, 0) / max(np.sum(states**2), np.finfo(float).tiny)
    ax = _axes(ax, "ax", (_COLUMN + written.room(legend), _COLUMN))[0]
    _paths(ax, xs @ plane, colours, whole, {1.0: "0.75"} if unit else {})
    if unit:
        ax.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    one, two = (f"principal direction {i} ({p:.0%})" for i, p in enumerate(share, 1))
    return _finish(ax, one, two, legend, "beside")


def trajectory(traj: Any, *, ax: Any = None, **options: Any) -> Any:
    """Draw tokens with ``circle`` (d = 2), ``sphere`` (d = 3), or ``principal`` (other d, or not unit).

    Other ``options`` are passed on; ``labels``, ``tail`` and ``sample`` suit all three.

    Example:
        >>> ax = trajectory([[1, 0], [0, 1]])
    """
    xs = _read(traj, options.get("sample"))[1]
    draw: dict[int, Any] = {2: circle, 3: sphere}
    return draw.get(xs.shape[-1] if _on_sphere(xs) else 0, principal)(traj, ax=ax, **options)


def gram_matrix(x: Any, *, ax: Axes | None = None, order: Any = None, names: Any = None) -> Axes:
    """Draw the Gram matrix ``G = x x^T`` of one state (n, d), colours from -1 to 1; arguments as in ``gram``.

    Example:
        >>> ax = gram_matrix([[1, 0], [0.6, 0.8]], names=["cat", "dog"])
    """
    x = _real("x", x)
    _need(x.ndim == 2 and x.size, "x", "one state (n, d)", x.shape, "plot.gram for a trajectory")
    _need(np.isfinite(x).any(), "x", "a finite state", "nan or inf everywhere", "a run that did not fail")
    return _heat(_order(order, names, x), _axes(ax, "ax", (_COLUMN, 2.9)), x[None], order is not None, names)[0]


def gram(
    traj: Any, times: Any = None, *, axes: Any = None, order: Any = None, names: Any = None, sample: Any = None
) -> np.ndarray:
    """Draw Gram matrices ``G = x x^T`` through time, a row of panels with one colour bar.

    Args:
        times: times to draw (the nearest outputs are taken), or a count of states, first and last among them,
            between which tokens move equally far. None: as many as ``axes``, or four.
        order: None, "clusters" (final tokens alike side by side: average linkage), or a permutation (n,).
        names: n names of tokens, in the order of the states; some are left out where not all fit.

    Example:
        >>> axes = gram([[[1, 0], [0, 1]], [[0.6, 0.8], [0, 1]]], times=2)
    """
    ts, xs, _ = _read(traj, sample)
    times = (4 if axes is None else np.size(np.asarray(axes, dtype=object))) if times is None else times
    if isinstance(times, (int, np.integer)):
        _need(times > 0, "times", "at least one panel", times, "4, or a list of times")
        count, end = min(times, len(ts)), len(ts) - 1
        moved = np.r_[0, np.cumsum(np.nan_to_num(np.linalg.norm(np.diff(xs, axis=0), axis=(1, 2))))]
        index = np.unique(np.r_[np.searchsorted(moved, moved[-1] * np.linspace(0, 1, count)[:-1]), end])
        if len(index) < count:  # nothing moves, or all at once
            index = np.linspace(0, end, count).round().astype(int)
    else:
        wanted = np.ravel(_real("times", times))
        inside = wanted.size and np.allclose(wanted, np.clip(wanted, ts.min(), ts.max()))
        _need(inside, "times", f"times from {ts.min():g} to {ts.max():g}", times, "a count, as 4")
        index = np.abs(ts[:, None] - wanted).argmin(0)
    places = _order(order, names, xs[-1])
    axes = _axes(axes, "axes", (1.45 * len(index) + 0.7, 2.1), (1, len(index)), sharey=True)
    for ax, t in zip(_heat(places, axes, xs[index], order is not None, names), ts[index]):
        ax.set_title(f"$t = {t:.3g}$", fontsize=8, color=_INK)
    return axes


def _order(order: Any, names: Any, x: np.ndarray) -> np.ndarray:
    """Return the tokens (n,) in the order in which to draw them."""
    n = len(x)
    _need(names is None or len(names) == n, "names", f"{n} names", names, "None for numbers")
    if isinstance(order, str) and order == "clusters" and n > 1:
        from scipy.cluster.hierarchy import leaves_list, linkage

        return leaves_list(linkage(np.nan_to_num(x), "average", optimal_ordering=n <= 256))
    places = np.arange(n) if order is None or n == 1 else np.ravel(_numpy(order))
    fits = sorted(places.tolist()) == list(range(n))
    _need(fits, "order", f'None, "clusters" or a permutation of 0..{n - 1}', order, "np.argsort(labels)")
    return places.astype(int)


def _heat(places: np.ndarray, axes: np.ndarray, xs: np.ndarray, ordered: bool, names: Any) -> np.ndarray:
    """Draw the Gram matrix of each state on its Axes, and one colour bar."""
    n, what = len(places), "" if names is not None else "token (ordered)" if ordered else "token"
    for ax, x in zip(axes, xs[:, places]):
        image = ax.imshow(x @ x.T, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        _finish(ax, what, what if ax is axes[0] else "").spines[:].set_visible(True)
        room = 0.8 * ax.bbox.height / ax.figure.dpi * 72 / n  # points a token
        step = int(np.ceil(4.8 / room))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
            if names is not None:
                text = {"fontsize": min(7, room * step / 1.2), "rotation": 90 * (axis is ax.xaxis)}
                axis.set_ticks(range(0, n, step), [str(names[i]) for i in places[::step]], **text)
            elif ordered:  # places in the order are not the tokens' numbers
                axis.set_ticks([])
        ax.tick_params("y", labelleft=ax is axes[0])
    bar = axes[0].figure.colorbar(image, ax=list(axes), ticks=[-1, 0, 1], shrink=0.8, aspect=18)
    bar.set_label(r"$\langle x_i, x_j\rangle$", fontsize=8, color=_INK)
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)
    return axes


def observables(ts: Any, series: Mapping[str, Any], *, ax: Any = None, log_time: bool = False) -> Axes:
    """Draw observables against times ``ts`` (T,) in one Axes; whole numbers (cluster counts) as steps.

    Args:
        series: arrays (T,) by name, or (T, m) for m thin lines of a colour; ``panels`` suits unlike scales.

    Example:
        >>> ax = observables([0, 1, 2], {"energy": [0.1, 0.7, 0.9], "order": [0.0, 0.5, 1.0]})
    """
    return _curves(ts, series, log_time, ax, True)[0]


def panels(ts: Any, series: Mapping[str, Any], *, axes: Any = None, log_time: bool = False) -> np.ndarray:
    """Draw ``observables`` in stacked panels, each with its own scale.

    Example:
        >>> axes = panels([0, 1, 2], {"energy": [0.1, 0.7, 0.9], "clusters": [3, 3, 1]})
    """
    return _curves(ts, series, log_time, axes, False)


def _curves(ts: Any, series: Any, log_time: bool, on: Any, together: bool) -> np.ndarray:
    """Draw each series, together in one Axes or each in its own."""
    given.flag("log_time", log_time)
    ts = _real("ts", ts)
    _need(ts.ndim == 1 and ts.size, "ts", "times (T,)", ts.shape, "traj.ts")
    _need(isinstance(series, Mapping) and series, "series", "arrays by name", series, '{"energy": energies}')
    values = {str(name): _real(f"series[{name!r}]", v) for name, v in series.items()}
    for name, v in values.items():
        fits = v.ndim in (1, 2) and v.size and len(v) == len(ts)
        _need(fits, f"series[{name!r}]", f"shape ({len(ts)},) or ({len(ts)}, m)", v.shape, "time as the first axis")
        _need(np.isfinite(v).any(), f"series[{name!r}]", "finite numbers", "nan or inf everywhere", "to leave it out")
    _need(not log_time or np.any(ts > 0), "log_time", "times > 0", f"up to {ts.max():g}", "log_time=False")
    k, name = (1, "ax") if together else (len(values), "axes")
    axes = _axes(on, name, (_COLUMN, 2.3 if together else 0.35 + 1.05 * k), (k, 1), sharex=True)
    colours = _colours(len(values), None)[0] if together else [_PALETTE[0]] * k
    for i, ((name, v), colour) in enumerate(zip(values.items(), colours)):
        ax, counts, thin = axes[i % k], np.all(v[np.isfinite(v)] % 1 == 0), v.ndim == 2 and v.shape[1] > 1
        style = {"linewidth": 0.6, "alpha": 0.6} if thin else {"linewidth": 1.3}
        ax.plot(ts, v, color=colour, drawstyle="steps-post" if counts else None, **style)[0].set_label(name)
        if counts and len(values) // k == 1:
            ax.yaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, min_n_ticks=1))
        handles = ax.get_legend_handles_labels()[0]
        legend, label = (handles, "") if len(handles) > 1 else ((), name)
        _finish(ax, "time $t$" if ax is axes[-1] else "", label, legend)
        _time_axis(ax, ts, log_time)
    axes[0].figure.align_ylabels(list(axes))
    return axes
