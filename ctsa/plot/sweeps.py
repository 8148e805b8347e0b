"""Pictures of sweeps: a number against one parameter as lines, against two as a map; verdicts as phase diagrams."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

import ctsa.plot._labels as written

from ._given import need
from ._style import COLUMN, INK, NAMED, PALETTE, axes_for, finish
from .diagnosis import VERDICTS
from .equilibria import KIND_INKS

_MANY = 25  # points, from which on errors are bands
_KNOWN = {**KIND_INKS, **VERDICTS}  # verdicts look in phase diagrams as they do elsewhere
_HATCHED: dict[str, Any] = {"hatch": "//////", "facecolor": "0.97", "edgecolor": "0.7", "linewidth": 0}
_NOT_DRAWN = ("error", "failed", "done", "report")


def sweep(
    dataset: Any,
    variable: str | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    over: str | Sequence[str] | None = None,
    ax: Any = None,
) -> Axes:
    """Draw one variable of a sweep: lines against one parameter, a map over two, a phase diagram of verdicts.

    Lines have their standard errors, as bars or, of many points, as bands; an axis of the variable's own, such as that of
    the exponents, makes a line for each index, and so does a second parameter that is text. Maps of numbers of both signs
    have the colours of both about 0. Points that failed are hatched in maps, and gaps in lines.

    Args:
        dataset: an ``xarray.Dataset`` whose dimensions are the axes of parameters, with their values as coordinates. Beside
            ``NAME`` there may be standard errors ``NAME_stderr``, and ``error``, text that is not empty where a point
            failed. ``long_name`` and ``units`` among the attributes name the axes.
        variable: which one to draw; None where there is one.
        x: the parameter to the right; None takes the first one with numbers.
        y: the parameter upwards, of a map; None takes the other one.
        over: parameters, such as ``"seed"``, to take the mean over; the errors are then the standard errors of these means,
            and verdicts the most frequent ones.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.

    Raises:
        TypeError: ``dataset`` is not one.
        ValueError: there is no such variable or axis, axes remain, or nothing was computed.

    Example:
        >>> import numpy as np, xarray as xr
        >>> beta, noise = np.linspace(0, 4, 9), np.linspace(0, 1, 5)
        >>> found = xr.Dataset(
        ...     {"exponent": (("beta", "noise"), np.subtract.outer(beta, 2 * noise + 1))}, {"beta": beta, "noise": noise}
        ... )
        >>> ax = sweep(found)
        >>> ax = sweep(found, over="noise")
    """
    name = _variable(dataset, variable)
    parameters = _parameters(dataset, name)
    reduced = [] if over is None else list(over) if isinstance(over, list | tuple) else [over]
    for axis in reduced:
        need(
            axis in parameters, "over", f"axes of the sweep, {', '.join(map(str, parameters))}", repr(axis), "over=None"
        )
    left = [p for p in parameters if p not in reduced]
    for word, axis in (("x", x), ("y", y)):
        need(
            axis is None or axis in left, word, f"an axis of the sweep, {', '.join(map(str, left))}", repr(axis), "None"
        )
    need(y is None or (x != y and len(left) > 1), "y", "another axis than x", repr(y), "y=None")
    need(
        0 < len(left) < 3,
        "dataset",
        "one or two axes",
        f"{len(left)}: {', '.join(map(str, left))}",
        _less(left, parameters),
    )
    own = [d for d in dataset[name].dims if d not in parameters]
    text = dataset[name].dtype.kind in "UOSTb"
    need(len(own) < 2 and not (text and own), "dataset", "one axis of the variable's own at most", own, _less(own, own))
    numbers, errors = _reduced(dataset, name, (*left, *own), reduced, text)
    need(text or np.isfinite(numbers).any(), "dataset", f"numbers in {name!r}", "nan everywhere", "the variable error")
    at = {axis: _coordinate(dataset, axis) for axis in left}
    numeric = [axis for axis in left if at[axis].dtype.kind in "iuf"]
    if x is None:
        x = next((axis for axis in numeric if axis != y), next(axis for axis in left if axis != y))
    rows = [axis for axis in left if axis != x]
    lines = not text and (not rows or (y is None and rows[0] not in numeric))
    need(not (rows and own), "dataset", "no axis of its own for a map", own, _less(own, own))
    order = [left.index(x), *(left.index(axis) for axis in rows), *range(len(left), numbers.ndim)]
    idle = _idle(dataset, name, left).transpose(order[: len(left)])
    numbers, errors = numbers.transpose(order), None if errors is None else errors.transpose(order)
    ax = axes_for(ax, "ax", (COLUMN if lines else 1.12 * COLUMN, 2.5))[0]
    if lines:
        keys = at[rows[0]] if rows else _coordinate(dataset, own[0], 1) if own else None
        title = _label(dataset, rows[0] if rows else own[0]) if keys is not None else ""
        _lines(ax, at[x], numbers, errors, keys, title, idle)
        return _named(ax, dataset, x, at[x], _label(dataset, name))
    grid = numbers if rows else numbers[:, None]
    if text:
        _phases(ax, at[x], at[rows[0]] if rows else np.zeros(1), grid, int(idle.sum()))
    else:
        _map(ax, at[x], at[rows[0]], grid, _label(dataset, name), int(idle.sum()))
    if not rows:
        ax.set_yticks([])
        return _named(ax, dataset, x, at[x], "")
    _ticks(ax.yaxis, at[rows[0]])
    return _named(ax, dataset, x, at[x], _label(dataset, rows[0]))


# --------------------------------------------------------------------------------------------------- what is there
def _variable(dataset: Any, variable: str | None) -> Any:
    if not all(hasattr(dataset, word) for word in ("data_vars", "dims", "coords")):
        raise TypeError(f"dataset must be an xarray.Dataset, got {type(dataset).__name__}: result.to_xarray() is one")
    drawn = [v for v in dataset.data_vars if v not in _NOT_DRAWN and not str(v).endswith("_stderr")]
    names = ", ".join(map(str, drawn)) or "none"
    if variable is None:
        need(len(drawn) == 1, "variable", "a name, as there is not just one", f"None with {names}", "one of these")
        return drawn[0]
    able = [v for v in dataset.data_vars if v not in _NOT_DRAWN]
    need(variable in able, "variable", f"one of {names}", repr(variable), "one of these")
    return variable


def _parameters(dataset: Any, name: Hashable) -> list:
    """Return the axes of parameters of a variable: those of ``error``; else those that have values."""
    if "error" in dataset.data_vars:
        axes = list(dataset["error"].dims)
    else:
        axes = [d for d in dataset[name].dims if d in dataset.coords]
    return [d for d in axes if d in dataset[name].dims]


def _less(axes: Sequence, parameters: Sequence) -> str:
    if not axes:
        return "over= with fewer axes"
    axis = axes[-1]
    return f"dataset.isel({axis}=0)" + (
        f", or over={str(axis)!r}" if axis in parameters and axes is not parameters else ""
    )


def _coordinate(dataset: Any, axis: Hashable, first: int = 0) -> np.ndarray:
    values = np.asarray(dataset[axis].values) if axis in dataset.coords else first + np.arange(dataset.sizes[axis])
    return values if values.dtype.kind in "iuf" else values.astype(str)


def _label(dataset: Any, name: Hashable) -> str:
    attributes = dataset[name].attrs if name in dataset.coords or name in dataset.data_vars else {}
    text = str(attributes.get("long_name", written.symbol(str(name))))
    return f"{text} ({attributes['units']})" if attributes.get("units") else text


def _reduced(dataset: Any, name: Hashable, kept: tuple, over: list, text: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a variable over the axes that are kept, and its standard errors, where they are known."""
    fine = dataset["error"].astype(str) == "" if "error" in dataset.data_vars else None
    if "failed" in dataset.data_vars:
        fine = ~dataset["failed"].astype(bool) if fine is None else fine & ~dataset["failed"].astype(bool)

    if "done" in dataset.data_vars:
        done = dataset["done"].astype(bool)
        fine = done if fine is None else fine & done

    def values(key: str) -> np.ndarray:
        a = dataset[key]
        a = a.expand_dims({d: dataset.sizes[d] for d in (*kept, *over) if d not in a.dims})
        if fine is not None:
            here = fine.any([d for d in fine.dims if d not in a.dims])
            a = a.astype(str).where(here, "") if text else a.where(here)
        return np.asarray(a.transpose(*kept, *over).values).reshape(*(dataset.sizes[d] for d in kept), -1)

    every = values(str(name))
    if text:
        return _most_frequent(every.astype(str)), None
    every = every.astype(float)
    if not over:
        own = f"{name}_stderr"
        return every[..., 0], values(own)[..., 0].astype(float) if own in dataset.data_vars else None
    seen = np.isfinite(every)
    count, clean = seen.sum(-1), np.where(seen, every, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = clean.sum(-1) / count
        spread = np.where(seen, every - mean[..., None], 0.0)
        return mean, np.sqrt((spread**2).sum(-1) / (count - 1) / count)


def _idle(dataset: Any, name: Hashable, left: list) -> np.ndarray:
    """Return at which values of the parameters that are left no point was run, as between those of a refinement."""
    if "done" not in dataset.data_vars:
        return np.zeros([dataset.sizes[d] for d in left], bool)
    done = dataset["done"].astype(bool)
    done = done.any([d for d in done.dims if d not in left])
    done = done.expand_dims({d: dataset.sizes[d] for d in left if d not in done.dims})
    return ~np.asarray(done.transpose(*left).values)


def _most_frequent(every: np.ndarray) -> np.ndarray:
    """Return the most frequent text along the last axis; that of points that failed is empty, and does not count."""
    names = np.unique(every[every != ""])
    if not len(names):
        return np.full(every.shape[:-1], "")
    counts = np.stack([(every == name).sum(-1) for name in names], -1)
    return np.where(counts.any(-1), names[counts.argmax(-1)], "")


# ----------------------------------------------------------------------------------------------------------- lines
def _lines(ax: Axes, xs: np.ndarray, numbers: np.ndarray, errors: Any, keys: Any, title: str, idle: np.ndarray) -> None:
    """Draw numbers (x,) or (x, lines) with their errors; ``idle`` (x,) or (x, lines): where nothing was run."""
    at = xs if xs.dtype.kind in "iuf" else np.arange(len(xs))
    order = np.argsort(at, kind="stable")
    at, numbers, idle = at[order], numbers.reshape(len(at), -1)[order], idle.reshape(len(at), -1)[order]
    errors = None if errors is None else errors.reshape(len(at), -1)[order]
    count = numbers.shape[1]
    few = PALETTE if count <= len(PALETTE) else NAMED
    table = [few[i % len(few)] for i in range(count)]
    if count > len(NAMED) or (count > len(PALETTE) and np.asarray(keys).dtype.kind in "iuf"):
        from matplotlib import colormaps

        table = list(colormaps["viridis"](np.linspace(0, 0.92, count)))
    shown = set(np.linspace(0, count - 1, min(count, len(PALETTE))).round().astype(int).tolist())
    entries = []
    for i, ink in enumerate(table):
        bars = None if errors is None or len(at) > _MANY or not np.isfinite(errors[:, i]).any() else errors[:, i]
        label = "" if keys is None else f"{keys[i]:g}" if keys.dtype.kind in "iuf" else str(keys[i])
        style: dict[str, Any] = {"color": ink, "linewidth": 1.2, "markersize": 3, "elinewidth": 0.8, "capsize": 1.5}
        mark = "o-" if len(at) <= _MANY else "-"
        entry = ax.errorbar(at, numbers[:, i], bars, fmt=mark, label=label, **style)
        if errors is not None and bars is None:
            low, high = numbers[:, i] - errors[:, i], numbers[:, i] + errors[:, i]
            ax.fill_between(at, low, high, color=ink, alpha=0.18, linewidth=0)
        entries += [entry] if keys is not None and i in shown else []
    seen = numbers[np.isfinite(numbers)]
    if seen.min() <= 0 <= seen.max():
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    gaps = ~(np.isfinite(numbers) | idle).all(1)
    if gaps.any():
        style = {"color": "0.45", "markersize": 4, "clip_on": False, "transform": ax.get_xaxis_transform()}
        entries += ax.plot(at[gaps], np.zeros(gaps.sum()), "x", label="failed", **style)
    finish(ax, "", "", entries, "beside")
    if title:
        ax.get_legend().set_title(title, prop={"size": 7})


# ------------------------------------------------------------------------------------------------------------ maps
def _geometric(values: np.ndarray) -> bool:
    """Say whether values are at even logarithms, which is where a logarithmic axis serves them."""
    if values.dtype.kind not in "iuf" or len(values) < 3 or values.min() <= 0 or values.max() < 8 * values.min():
        return False
    steps, logs = np.diff(np.sort(values)), np.diff(np.log(np.sort(values)))
    return bool(np.ptp(logs) / logs.mean() < 0.5 * np.ptp(steps) / steps.mean())


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the bounds of cells about values in order: half-way, of even logarithms those of the logarithms."""
    at = values.astype(float) if values.dtype.kind in "iuf" else np.arange(len(values), dtype=float)
    if _geometric(at):
        return np.exp(_edges(np.log(at)))
    if len(at) == 1:
        return at[0] + np.array([-0.5, 0.5])
    middle = (at[1:] + at[:-1]) / 2
    return np.r_[2 * at[0] - middle[0], middle, 2 * at[-1] - middle[-1]]


def _sorted(xs: np.ndarray, ys: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bounds of cells to the right and upwards, and the grid ``(y, x)`` in the order of them."""
    i, j = (np.argsort(v) if v.dtype.kind in "iuf" else np.arange(len(v)) for v in (xs, ys))
    return _edges(xs[i]), _edges(ys[j]), grid[i][:, j].T


def _mesh(ax: Axes, right: np.ndarray, up: np.ndarray, grid: np.ndarray, missing: np.ndarray, **look: Any) -> Any:
    """Draw cells, hatched where nothing was found."""
    mesh = ax.pcolormesh(right, up, np.ma.array(grid, mask=missing), rasterized=True, **look)
    cells = [
        [(right[i], up[j]), (right[i + 1], up[j]), (right[i + 1], up[j + 1]), (right[i], up[j + 1])]
        for j, i in np.argwhere(missing)
    ]
    if cells:
        ax.add_collection(PolyCollection(cells, label="_failed", **_HATCHED), autolim=False)
    ax.set(xlim=(right[0], right[-1]), ylim=(up[0], up[-1]))
    return mesh


def _failed(missing: np.ndarray, idle: int) -> list[Patch]:
    counts = {"failed": int(missing.sum()) - idle, "not run": idle}
    return [Patch(label=f"{word} ({count})", **_HATCHED) for word, count in counts.items() if count]


def _map(ax: Axes, xs: np.ndarray, ys: np.ndarray, grid: np.ndarray, label: str, idle: int) -> None:
    """Draw numbers ``(x, y)`` as colours, those of both signs about 0."""
    right, up, grid = _sorted(xs, ys, grid)
    missing = ~np.isfinite(grid)
    low, high = float(grid[~missing].min()), float(grid[~missing].max())
    both = low < 0 < high
    top = max(-low, high)
    look: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if both else {"cmap": "viridis"}
    mesh = _mesh(ax, right, up, grid, missing, **look)
    bar = ax.figure.colorbar(mesh, ax=ax, aspect=22, pad=0.03)
    if both:  # only the part of the colours that occurs
        bar.ax.set_ylim(low, high)
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)
    bar.outline.set(linewidth=0.6, edgecolor=INK)
    _above(ax, _failed(missing, idle))


def _phases(ax: Axes, xs: np.ndarray, ys: np.ndarray, grid: np.ndarray, idle: int) -> None:
    """Draw texts ``(x, y)`` as colours, with a legend."""
    right, up, grid = _sorted(xs, ys, grid)
    missing = grid == ""
    names, counts = np.unique(grid[~missing], return_counts=True)
    names = names[np.argsort(-counts, kind="stable")]
    inks: dict[str, Any] = {}
    spare = [ink for ink in NAMED if ink not in {_KNOWN.get(str(name)) for name in names}]
    for name in names.tolist():
        ink = _KNOWN.get(name)
        if ink is None or ink in inks.values():
            ink = spare.pop(0) if spare else "0.5"
        inks[name] = ink
    code = np.zeros(grid.shape)
    for i, name in enumerate(inks):
        code[grid == name] = i
    table = colors.ListedColormap(list(inks.values()) or ["white"])
    _mesh(ax, right, up, code, missing, cmap=table, vmin=-0.5, vmax=max(len(inks), 1) - 0.5)
    entries = [Patch(facecolor=ink, label=name) for name, ink in inks.items()]
    finish(ax, "", "", [*entries, *_failed(missing, idle)], "beside")


def _above(ax: Axes, entries: list) -> None:
    if entries:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        ax.legend(handles=entries, fontsize=7, frameon=False, handlelength=1.4, **place)


def _ticks(axis: Any, values: np.ndarray) -> None:
    if values.dtype.kind not in "iuf":
        axis.set_ticks(range(len(values)), list(values))
    elif _geometric(values):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_tick_params(which="minor", width=0.4, length=1.5, labelsize=6)
        if values.max() < 100 * values.min():  # too few decades for powers of ten
            axis.set_major_locator(ticker.FixedLocator(np.sort(values)[:: math.ceil(len(values) / 6)]))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
            axis.set_minor_locator(ticker.NullLocator())
    elif values.dtype.kind in "iu":
        axis.set_major_locator(ticker.MaxNLocator(6, integer=True, min_n_ticks=1))


def _named(ax: Axes, dataset: Any, x: Hashable, values: np.ndarray, ylabel: str) -> Axes:
    _ticks(ax.xaxis, values)
    finish(ax, _label(dataset, x), ylabel)
    return ax
