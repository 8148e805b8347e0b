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

import numpy as np
from matplotlib import patches, ticker
from matplotlib.axes import Axes

import ctsa.plot._given as given
import ctsa.plot._labels as written

from ._given import need, on_sphere, read, real, to_numpy
from ._globe import both_sides, draw_globe, draw_marks, draw_paths, facing, paled
from ._style import COLUMN, INK, PALETTE, SURFACE, axes_for, colours_of, finish, time_axis

_FEW = 64  # tokens that are drawn as lines of their own on the sphere


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
    _, xs, whole = read(traj, sample, tail, d=3, unit=True)
    n, last, width = xs.shape[1], xs[-1], 1.4 / xs.shape[1] ** 0.15
    inks, legend = colours_of(n, labels)
    u = np.zeros((0, n, 3)) if vectors is None else real("vectors", vectors)
    need(u.shape[-2:] == (n, 3) and u.ndim < 4, "vectors", f"({n}, 3) or (k, {n}, 3)", u.shape, "one each")
    new, ax = ax is None, axes_for(ax, "ax", (COLUMN + written.room(legend), COLUMN), projection="3d")[0]
    if new:
        ax.view_init(*facing(last))
    ax.set_proj_type("ortho")  # only then is the near side a half-sphere
    ax.computed_zorder = False
    draw_globe(ax)
    start = {"marker": "o", "markersize": 3.2, "markeredgewidth": 0.8, "markerfacecolor": str(SURFACE)}
    end = {"marker": "o", "markersize": 4.6, "markeredgewidth": 0.5, "markeredgecolor": "white"}
    if n > _FEW:  # as collections, which are drawn faster than as many lines
        pale, blank = paled(inks), np.full((n, 3), SURFACE)
        draw_paths(ax, xs.swapaxes(0, 1), inks, pale, width, 2)
        if whole and len(xs) > 1:
            draw_marks(ax, xs[0], (blank, blank), (pale, inks), 3.2, 0.8, 3)
        draw_marks(ax, last, (pale, inks), ("white", "white"), 4.6, 0.5, 5)
    for i, (path, ink) in enumerate(zip(xs.swapaxes(0, 1), inks[: _FEW * (n <= _FEW)])):
        both_sides(ax, path, path, ink, 2, linewidth=width, solid_capstyle="round", label=f"_path{i}")
        if whole and len(path) > 1:
            both_sides(ax, path[:1], path[:1], ink, 3, label=f"_start{i}", **start)
        both_sides(ax, path[-1:], path[-1:], ink, 5, label=f"_end{i}", **end)
    for j, v in enumerate(u.reshape(-1, n, 3)):
        v = 0.35 * v / max(np.nanmax(np.linalg.norm(v, axis=-1)), np.finfo(float).tiny)
        back, side, tip = -0.25 * v, 0.14 * np.cross(last, v), last + v
        head = (np.linalg.norm(v, axis=-1) > 0.07)[:, None]  # shorter ones start at their tokens, which is enough
        barbs = (np.where(head, end, tip) for end in (tip + back + side, tip, tip + back - side))
        arrows = np.stack([last, tip, *barbs], 1)  # (n, 5, 3)
        arrows = arrows[np.linalg.norm(v, axis=-1) > 1e-3]
        apart = np.unique(np.round(arrows.reshape(-1, 15), 2), axis=0, return_index=True)[1]  # one a cluster
        for arrow in arrows[np.sort(apart)]:
            both_sides(ax, arrow, arrow[:1], ("0.35", *PALETTE)[j % 8], 4, linewidth=0.7, label="_vector")
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    ax.set_box_aspect((1, 1, 1), zoom=1.55)
    return finish(ax, legend=legend, loc="beside")


def circle(
    traj: Any, *, ax: Any = None, labels: Any = None, tail: float | None = None, spread: float = 0.4, sample: Any = None
) -> Axes:
    """Draw tokens on the circle (d = 2) at ``(1 - spread (1 - s)) x_i``, with s from 0 to 1 in time.

    Paths thus do not cover each other; they start on an inner ring and end at their true places.
    ``spread=0`` draws the states as they are.

    Example:
        >>> ax = circle([[1, 0], [0, 1]])
    """
    ts, xs, whole = read(traj, sample, tail, d=2, unit=True)
    need(0 <= given.number("spread", spread) < 1, "spread", "0 <= spread < 1", spread, "0.4")
    colours, legend = colours_of(xs.shape[1], labels)
    r = 1 - spread * (ts[-1] - ts) / (ts[-1] - ts[0] or 1)  # (T,); zero time leaves one
    ax = axes_for(ax, "ax", (COLUMN + written.room(legend), COLUMN))[0]
    _paths(ax, r[:, None, None] * xs, colours, whole, {r[0]: "0.8", 1.0: "0.45"})
    ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    return finish(ax, legend=legend, loc="beside")


def angles(traj: Any, *, ax: Any = None, labels: Any = None, sample: Any = None, log_time: bool = False) -> Axes:
    """Draw angles ``atan2(x_i2, x_i1)`` (d = 2) against time, unwrapped: right for turns below pi between outputs.

    Example:
        >>> ax = angles([[[1, 0]], [[0, 1]], [[-1, 0]]])
    """
    ts, xs, _ = read(traj, sample, d=2)
    colours, legend = colours_of(xs.shape[1], labels)
    given.flag("log_time", log_time)
    need(not log_time or np.any(ts > 0), "log_time", "times > 0", f"up to {ts.max():g}", "log_time=False")
    ax = axes_for(ax, "ax", (COLUMN + written.room(legend), 0.68 * COLUMN))[0]
    for path, colour in zip(np.unwrap(np.arctan2(xs[..., 1], xs[..., 0]), axis=0).T, colours):
        ax.plot(ts, path, color=colour, linewidth=1.4 / len(colours) ** 0.15)
    half_turns = np.ptp(ax.get_ylim()) / np.pi
    if 0.5 < half_turns < 600:
        step = next(s for s in (0.25, 0.5, 1, 2, 4, 10, 20, 50, 100) if half_turns <= 6 * s)
        ax.yaxis.set_major_locator(ticker.MultipleLocator(step * np.pi))
        ax.yaxis.set_major_formatter(_in_pi)
    time_axis(ax, ts, log_time)
    return finish(ax, "time $t$", r"angle $\theta_i$", legend, "beside")


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
    (_, every, _), (_, xs, whole) = read(traj, sample), read(traj, sample, tail)
    unit = on_sphere(every)
    need(xs.shape[-1] > 1, "traj", "d >= 2", f"states {xs.shape}", "plot.observables(ts, {'x': xs[..., 0]})")
    colours, legend = colours_of(xs.shape[1], labels)
    plane, share = _plane_of(every)
    ax = axes_for(ax, "ax", (COLUMN + written.room(legend), COLUMN))[0]
    _paths(ax, xs @ plane, colours, whole, {1.0: "0.75"} if unit else {})
    if unit:
        ax.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    one, two = (f"principal direction {i} ({p:.0%})" for i, p in enumerate(share, 1))
    return finish(ax, one, two, legend, "beside")


def _plane_of(xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the plane that holds most of states (..., d), as columns (d, 2), and the share of either direction."""
    states = xs.reshape(-1, xs.shape[-1])
    states = states[np.isfinite(states).all(-1)]  # a failed solve leaves NaN behind
    plane = np.linalg.eigh(states.T @ states)[1][:, :-3:-1]  # (d, 2)
    plane = plane * np.where(states.sum(0) @ plane < 0, -1, 1)
    return plane, np.sum((states @ plane) ** 2, 0) / max(np.sum(states**2), np.finfo(float).tiny)


def trajectory(traj: Any, *, ax: Any = None, **options: Any) -> Any:
    """Draw tokens with ``circle`` (d = 2), ``sphere`` (d = 3), or ``principal`` (other d, or not unit).

    Other ``options`` are passed on; ``labels``, ``tail`` and ``sample`` suit all three.

    Example:
        >>> ax = trajectory([[1, 0], [0, 1]])
    """
    xs = read(traj, options.get("sample"))[1]
    draw: dict[int, Any] = {2: circle, 3: sphere}
    return draw.get(xs.shape[-1] if on_sphere(xs) else 0, principal)(traj, ax=ax, **options)


def gram_matrix(x: Any, *, ax: Axes | None = None, order: Any = None, names: Any = None) -> Axes:
    """Draw the Gram matrix ``G = x x^T`` of one state (n, d), colours from -1 to 1; arguments as in ``gram``.

    Example:
        >>> ax = gram_matrix([[1, 0], [0.6, 0.8]], names=["cat", "dog"])
    """
    x = real("x", x)
    need(x.ndim == 2 and x.size, "x", "one state (n, d)", x.shape, "plot.gram for a trajectory")
    need(np.isfinite(x).any(), "x", "a finite state", "nan or inf everywhere", "a run that did not fail")
    return _heat(_order(order, names, x), axes_for(ax, "ax", (COLUMN, 2.9)), x[None], order is not None, names)[0]


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
    ts, xs, _ = read(traj, sample)
    times = (4 if axes is None else np.size(np.asarray(axes, dtype=object))) if times is None else times
    if isinstance(times, (int, np.integer)):
        need(times > 0, "times", "at least one panel", times, "4, or a list of times")
        count, end = min(times, len(ts)), len(ts) - 1
        moved = np.r_[0, np.cumsum(np.nan_to_num(np.linalg.norm(np.diff(xs, axis=0), axis=(1, 2))))]
        index = np.unique(np.r_[np.searchsorted(moved, moved[-1] * np.linspace(0, 1, count)[:-1]), end])
        if len(index) < count:  # nothing moves, or all at once
            index = np.linspace(0, end, count).round().astype(int)
    else:
        wanted = np.ravel(real("times", times))
        inside = wanted.size and np.allclose(wanted, np.clip(wanted, ts.min(), ts.max()))
        need(inside, "times", f"times from {ts.min():g} to {ts.max():g}", times, "a count, as 4")
        index = np.abs(ts[:, None] - wanted).argmin(0)
    places = _order(order, names, xs[-1])
    axes = axes_for(axes, "axes", (1.45 * len(index) + 0.7, 2.1), (1, len(index)), sharey=True)
    for ax, t in zip(_heat(places, axes, xs[index], order is not None, names), ts[index]):
        ax.set_title(f"$t = {t:.3g}$", fontsize=8, color=INK)
    return axes


def _order(order: Any, names: Any, x: np.ndarray) -> np.ndarray:
    """Return the tokens (n,) in the order in which to draw them."""
    n = len(x)
    need(names is None or len(names) == n, "names", f"{n} names", names, "None for numbers")
    if isinstance(order, str) and order == "clusters" and n > 1:
        from scipy.cluster.hierarchy import leaves_list, linkage

        return leaves_list(linkage(np.nan_to_num(x), "average", optimal_ordering=n <= 256))
    places = np.arange(n) if order is None or n == 1 else np.ravel(to_numpy(order))
    fits = sorted(places.tolist()) == list(range(n))
    need(fits, "order", f'None, "clusters" or a permutation of 0..{n - 1}', order, "np.argsort(labels)")
    return places.astype(int)


def _heat(places: np.ndarray, axes: np.ndarray, xs: np.ndarray, ordered: bool, names: Any) -> np.ndarray:
    """Draw the Gram matrix of each state on its Axes, and one colour bar."""
    n, what = len(places), "" if names is not None else "token (ordered)" if ordered else "token"
    for ax, x in zip(axes, xs[:, places]):
        image = ax.imshow(x @ x.T, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        left = abs(ax.bbox.x0 - axes[0].bbox.x0) < 1
        finish(ax, what, what if left else "").spines[:].set_visible(True)
        room = 0.8 * ax.bbox.height / ax.figure.dpi * 72 / n  # points a token
        step = int(np.ceil(4.8 / room))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
            if names is not None:
                text = {"fontsize": min(7, room * step / 1.2), "rotation": 90 * (axis is ax.xaxis)}
                axis.set_ticks(range(0, n, step), [str(names[i]) for i in places[::step]], **text)
            elif ordered:  # places in the order are not the tokens' numbers
                axis.set_ticks([])
        ax.tick_params("y", labelleft=left)
    bar = axes[0].figure.colorbar(image, ax=list(axes), ticks=[-1, 0, 1], shrink=0.8, aspect=18)
    bar.set_label(r"$\langle x_i, x_j\rangle$", fontsize=8, color=INK)
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


def mergers(found: Any, *, ax: Any = None) -> Axes:
    """Draw the number of clusters against time, on a logarithmic axis, and how large those are that are left.

    Args:
        found: the ``Merges`` of a trajectory.
    """
    given.result("found", found, "Merges", "the .merges of ctsa.integrate(..., merge=True)")
    ax = axes_for(ax, "ax", (COLUMN, 2.3))[0]
    n, times = np.shape(found.labels)[-1], np.asarray(found.times, float)
    left, later = n - np.arange(len(times) + 1), times[times > 0]
    first = later[0] / 3 if len(later) else 0.1
    ends = np.concatenate([[first], np.maximum(times, first), [(later[-1] if len(later) else first) * 3]])
    ax.plot(ends, [*left, left[-1]], color=PALETTE[0], drawstyle="steps-post", linewidth=1.3)
    ax.set(xscale="log", yscale="log" if n > 16 else "linear", xlim=(ends[0], ends[-1]))
    sizes = found.sizes()
    shown = ", ".join(map(str, np.sort(sizes)[::-1][:8])) + (", ..." if len(sizes) > 8 else "")
    ax.set_title(f"at the end {len(sizes)} of {shown} tokens", fontsize=7, color=INK, loc="left")
    return finish(ax, "time $t$", "clusters")


def panels(ts: Any, series: Mapping[str, Any], *, axes: Any = None, log_time: bool = False) -> np.ndarray:
    """Draw ``observables`` in stacked panels, each with its own scale.

    Example:
        >>> axes = panels([0, 1, 2], {"energy": [0.1, 0.7, 0.9], "clusters": [3, 3, 1]})
    """
    return _curves(ts, series, log_time, axes, False)


def _curves(ts: Any, series: Any, log_time: bool, on: Any, together: bool) -> np.ndarray:
    """Draw each series, together in one Axes or each in its own."""
    given.flag("log_time", log_time)
    ts = real("ts", ts)
    need(ts.ndim == 1 and ts.size, "ts", "times (T,)", ts.shape, "traj.ts")
    need(isinstance(series, Mapping) and series, "series", "arrays by name", series, '{"energy": energies}')
    values = {str(name): real(f"series[{name!r}]", v) for name, v in series.items()}
    for name, v in values.items():
        fits = v.ndim in (1, 2) and v.size and len(v) == len(ts)
        need(fits, f"series[{name!r}]", f"shape ({len(ts)},) or ({len(ts)}, m)", v.shape, "time as the first axis")
        need(np.isfinite(v).any(), f"series[{name!r}]", "finite numbers", "nan or inf everywhere", "to leave it out")
    need(not log_time or np.any(ts > 0), "log_time", "times > 0", f"up to {ts.max():g}", "log_time=False")
    k, name = (1, "ax") if together else (len(values), "axes")
    axes = axes_for(on, name, (COLUMN, 2.3 if together else 0.35 + 1.05 * k), (k, 1), sharex=True)
    colours = colours_of(len(values), None)[0] if together else [PALETTE[0]] * k
    for i, ((name, v), colour) in enumerate(zip(values.items(), colours)):
        ax, counts, thin = axes[i % k], np.all(v[np.isfinite(v)] % 1 == 0), v.ndim == 2 and v.shape[1] > 1
        style = {"linewidth": 0.6, "alpha": 0.6} if thin else {"linewidth": 1.3}
        ax.plot(ts, v, color=colour, drawstyle="steps-post" if counts else None, **style)[0].set_label(name)
        if counts and len(values) // k == 1:
            ax.yaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, min_n_ticks=1))
        handles = ax.get_legend_handles_labels()[0]
        legend, label = (handles, "") if len(handles) > 1 else ((), name)
        finish(ax, "time $t$" if ax is axes[-1] else "", label, legend)
        time_axis(ax, ts, log_time)
    axes[0].figure.align_ylabels(list(axes))
    return axes
