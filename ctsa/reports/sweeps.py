"""Sweeps: variables over parameters as lines and maps, verdicts as maps of names, a table of points with links."""

from collections import Counter
from itertools import islice, product
from typing import Any, NamedTuple

import numpy as np

from .pieces import Chart, Section, axis, count, label, log_axis, numbers, scatter, short, with_error
from .theme import DIVERGING, colour, sequence

_CELLS, _ROWS, _CHOICES = 40_000, 400, 60  # the most numbers of a chart, rows of the table, combinations of choices
_LINKS, _ERRORS = "report", "error"


class Axis(NamedTuple):
    """A dimension of a sweep: its name, its values, and whether they are numbers, spread evenly on a logarithmic scale."""

    name: str
    values: np.ndarray
    numeric: bool
    log: bool
    title: str


def axis_of(data: Any, name: str) -> Axis:
    """Return a dimension of a Dataset."""
    size = data.sizes[name]
    values = np.asarray(data.coords[name].values) if name in data.coords else np.arange(size)
    numeric = values.dtype.kind in "iuf"
    log = False
    if numeric and size > 2 and np.all(values > 0) and values.max() >= 8 * values.min():
        ratios = np.diff(np.log(values.astype(float)))
        log = bool(np.ptp(ratios) < 0.35 * np.abs(ratios).max())
    about = data.coords[name].attrs if name in data.coords else {}
    return Axis(name, values, numeric, log, _title(name, about))


def _title(name: str, about: Any) -> str:
    units = f" ({about['units']})" if about.get("units") else ""
    return str(about.get("long_name", name)).replace("_", " ") + units


def _texts(values: np.ndarray) -> np.ndarray:
    """Return values as text, "" where there is none."""
    flat = ["" if v is None or v != v else short(v) for v in np.asarray(values, object).ravel().tolist()]
    return np.array(flat, object).reshape(values.shape)


def _is_text(array: Any) -> bool:
    return array.dtype.kind in "OUSTb"


def variables(data: Any) -> tuple[list[str], list[str]]:
    """Return the names of numbers and of texts, without error bars, error messages and links."""
    names = [str(n) for n in data.data_vars if n not in (_LINKS, _ERRORS)]
    bars = {n for n in names if n.endswith("_stderr") and n.removesuffix("_stderr") in names}
    names = [n for n in names if n not in bars]
    texts = [n for n in names if _is_text(data[n])]
    kept = [n for n in names if n not in texts and data[n].dtype.kind in "iuf"]
    return kept, texts


class _Cut(NamedTuple):
    """One variable over at most two axes, for one choice of the others."""

    values: np.ndarray
    errors: np.ndarray | None
    hover: np.ndarray
    links: np.ndarray | None
    failed: np.ndarray | None


def chart(data: Any, name: str) -> Chart | None:
    """Return a variable as lines or as a map, with lists to choose what lies on further axes; None if it is one number."""
    array = data[name]
    axes = [axis_of(data, str(d)) for d in array.dims]
    rank = sorted(
        range(len(axes)), key=lambda i: (len(axes[i].values) < 2, not axes[i].numeric, axes[i].name == "seed")
    )
    shown = sorted(rank[:2]) if len(axes) > 1 and len(axes[rank[1]].values) > 1 else rank[:1]
    if not shown or array.size < 2:
        return None
    inside, outside = [axes[i] for i in shown], [axes[i] for i in range(len(axes)) if i not in shown]
    text = _is_text(array)
    variants = []
    cells = int(np.prod([len(a.values) for a in inside]))
    most = max(1, min(_CHOICES, _CELLS // cells))
    whole = int(np.prod([len(a.values) for a in outside]))
    choices = [(a.title, [short(v) for v in a.values.tolist()]) for a in outside if len(a.values) > 1]
    if whole > most:  # the first of every axis that does not fit
        outside = [a if len(a.values) == 1 else a._replace(values=a.values[:1]) for a in outside]
        choices = []
    categories = sorted({t for t in _texts(array.values).ravel() if t}) if text else []
    for where in islice(product(*[range(len(a.values)) for a in outside]), most):
        cut = _cut(data, name, inside, {a.name: i for a, i in zip(outside, where)})
        variants.append(_names(cut, inside, categories) if text else _numbers(cut, inside, _title(name, array.attrs)))
    layout = _layout(inside, categories if text else None, _title(name, array.attrs))
    fixed = f" Only the first value of {', '.join(a.title for a in outside)} is shown." if whole > most else ""
    by = " and ".join(a.title for a in inside)
    bars = " with standard errors" if not text and f"{name}_stderr" in data and len(_lines(inside)) else ""
    caption = f"{_title(name, array.attrs)} by {by}{bars}.{fixed}"
    if _LINKS in data:
        caption += " Click a point to open its report."
    return Chart(
        caption[:1].upper() + caption[1:], variants[0], layout, 380, choices, variants if len(variants) > 1 else ()
    )


def _lines(inside: list[Axis]) -> list[int]:
    """Return the lines to draw: one for one axis, for two one for each of a few values of the shorter; none for a map."""
    if len(inside) == 1:
        return [0]
    sizes = [len(a.values) for a in inside]
    return list(range(min(sizes))) if min(sizes) <= 3 else []


def _cut(data: Any, name: str, inside: list[Axis], where: dict[str, int]) -> _Cut:
    dims = [a.name for a in inside]

    def part(other: str) -> np.ndarray | None:
        if other not in data or not set(data[other].dims) <= {*dims, *where}:
            return None
        found = data[other].isel({d: i for d, i in where.items() if d in data[other].dims})
        missing = {d: len(a.values) for d, a in zip(dims, inside) if d not in found.dims}
        return np.asarray(found.expand_dims(missing).transpose(*dims).values)

    values, errors, failed, links = part(name), part(f"{name}_stderr"), part(_ERRORS), part(_LINKS)
    assert values is not None
    hover = np.empty(values.shape, object)
    title = _title(name, data[name].attrs)
    _, texts = variables(data)
    others = {t: p for t in texts if t != name and (p := part(t)) is not None}
    for at in np.ndindex(values.shape):
        value = values[at]
        shown = (
            short(value)
            if _is_text(values)
            else with_error(float(value), float(errors[at]) if errors is not None else np.nan)
        )
        lines = [f"{a.title} = {short(a.values[i])}" for a, i in zip(inside, at)] + [f"{title}: {shown}"]
        lines += [f"{t}: {_texts(np.asarray([p[at]], object))[0]}" for t, p in others.items()]
        if failed is not None and str(failed[at] or ""):
            lines.append(f"failed: {str(failed[at])[:120]}")
        if links is not None and str(links[at] or ""):
            lines.append(f"report: {links[at]}")
        hover[at] = "<br>".join(label(line) for line in lines)
    return _Cut(values, errors, hover, links, failed)


def _ticks(a: Axis) -> Any:
    return numbers(a.values, 6) if a.numeric else [label(short(v)) for v in a.values.tolist()]


def _numbers(cut: _Cut, inside: list[Axis], title: str) -> list[dict[str, Any]]:
    """Return the traces of numbers."""
    rows = _lines(inside)
    if not rows:
        y, x = inside
        bar = {"thickness": 12, "outlinewidth": 0, "title": {"text": label(title), "side": "right"}}
        heat = {"type": "heatmap", "x": _ticks(x), "y": _ticks(y), "z": numbers(cut.values, 5), "colorbar": bar}
        signed = np.nanmin(cut.values, initial=0.0) < 0 < np.nanmax(cut.values, initial=0.0)
        heat |= {"colorscale": DIVERGING, "zmid": 0} if signed else {"colorscale": sequence()}
        heat |= {"text": cut.hover.tolist(), "hovertemplate": "%{text}<extra></extra>"}
        return [
            heat | ({"customdata": _texts(cut.links).tolist()} if cut.links is not None else {}),
            *_crosses(cut, inside),
        ]
    short_first = len(inside) == 2 and len(inside[0].values) <= len(inside[1].values)
    x = inside[-1] if short_first or len(inside) == 1 else inside[0]
    other = None if len(inside) == 1 else inside[0] if short_first else inside[1]
    traces = []
    for i in rows:
        at: Any = (slice(None),) if other is None else (i, slice(None)) if short_first else (slice(None), i)
        options: dict[str, Any] = {"marker": {"size": 7, "symbol": i}, "line": {"color": colour(i), "width": 1.6}}
        if other is not None:
            options["name"] = label(f"{other.title} = {short(other.values[i])}")
        if cut.errors is not None:
            bars = {"type": "data", "array": numbers(np.nan_to_num(cut.errors[at].astype(float)))}
            options["error_y"] = bars | {"color": colour(i), "thickness": 1.2, "width": 3}
        if cut.links is not None:
            options["customdata"] = _texts(cut.links[at]).tolist()
        text = cut.hover[at].tolist()
        trace = scatter(np.arange(len(x.values)), cut.values[at], mode="lines+markers", text=text, **options)
        traces.append(trace | {"x": _ticks(x), "hovertemplate": "%{text}<extra></extra>"})
    return traces


def _names(cut: _Cut, inside: list[Axis], categories: list[str]) -> list[dict[str, Any]]:
    """Return the traces of names: a map in their colours, or marks on a line a name."""
    texts = _texts(cut.values)
    links = {"customdata": _texts(cut.links).tolist()} if cut.links is not None else {}
    hover = {"text": cut.hover.tolist(), "hovertemplate": "%{text}<extra></extra>"}
    code = {t: i for i, t in enumerate(categories)}
    if len(inside) == 1:
        style = {
            "size": 11,
            "color": [colour(code.get(t, 6)) for t in texts],
            "symbol": [code.get(t, 0) % 8 for t in texts],
        }
        base = scatter(np.arange(len(texts)), np.zeros(len(texts)), mode="markers", marker=style, **links)
        return [base | {"x": _ticks(inside[0]), "y": [label(t) or None for t in texts]} | hover]
    y, x = inside
    k = max(len(categories), 1)
    scale = [[edge, colour(i)] for i in range(k) for edge in (i / k, (i + 1) / k)]
    z = [[code.get(t) for t in row] for row in texts]
    bar = {"thickness": 12, "outlinewidth": 0, "tickvals": list(range(k)), "ticktext": [label(c) for c in categories]}
    heat = {
        "type": "heatmap", "x": _ticks(x), "y": _ticks(y), "z": z, "zmin": -0.5, "zmax": k - 0.5, "colorscale": scale,
        "colorbar": bar, "xgap": 1, "ygap": 1,
    }  # fmt: skip
    return [heat | hover | links, *_crosses(cut, inside)]


def _crosses(cut: _Cut, inside: list[Axis]) -> list[dict[str, Any]]:
    """Return a cross at every point of a map that failed."""
    if cut.failed is None or not (where := np.argwhere(_texts(cut.failed) != "")).size:
        return []
    y, x = (_ticks(a) for a in inside)
    cross = {"symbol": "x-thin", "size": 9, "line": {"color": "@ink", "width": 1.5}}
    trace = scatter(np.zeros(0), np.zeros(0), mode="markers", marker=cross, hovertemplate="%{text}<extra></extra>")
    trace |= {"x": [x[j] for _, j in where], "y": [y[i] for i, _ in where], "text": [cut.hover[i, j] for i, j in where]}
    return [trace | ({"customdata": [str(cut.links[i, j] or "") for i, j in where]} if cut.links is not None else {})]


def _layout(inside: list[Axis], categories: list[str] | None, title: str) -> dict[str, Any]:
    def look(a: Axis) -> dict[str, Any]:
        if a.log:
            return log_axis(a.title, a.values) | {"autorange": True}
        return axis(a.title, type="linear" if a.numeric else "category")

    if len(inside) == 1:
        names = {"type": "category", "categoryorder": "array", "categoryarray": [label(c) for c in categories or ()]}
        return {
            "xaxis": look(inside[0]),
            "yaxis": axis(title, automargin=True, **(names if categories is not None else {})),
        }
    if _lines(inside) and categories is None:
        long = inside[1] if len(inside[0].values) <= len(inside[1].values) else inside[0]
        return {"xaxis": look(long), "yaxis": axis(title, automargin=True)}
    return {"xaxis": look(inside[1]) | {"showgrid": False}, "yaxis": look(inside[0]) | {"showgrid": False}}


# ------------------------------------------------------------------------------------------------------------ in words
def sentences(data: Any) -> list[str]:
    """Say how many points there are, which failed, and between what the numbers lie."""
    axes = [axis_of(data, str(d)) for d in data.sizes]
    total = int(np.prod([len(a.values) for a in axes])) if axes else 1
    spans = [f"{a.title} ({len(a.values)}: {_ends(a)})" for a in axes]
    found = [f"{count(total, 'point')} over {', '.join(spans)}." if spans else "A sweep of one point."]
    if _ERRORS in data:
        errors = [e for e in _texts(data[_ERRORS].values).ravel() if e]
        total = int(data[_ERRORS].size)
        found.append(f"{len(errors)} of {total} points failed." if errors else "No point failed.")
        found += [f"{n} failed with: {e[:160].rstrip('.')}." for e, n in Counter(errors).most_common(3)]
    kept, texts = variables(data)
    for name in texts[:4]:
        names = Counter(t for t in _texts(data[name].values).ravel() if t).most_common(6)
        if names:
            found.append(
                f"{_title(name, data[name].attrs).capitalize()}: " + ", ".join(f"{n} {t}" for t, n in names) + "."
            )
    for name in kept[:6]:
        values = np.asarray(data[name].values, float)
        if np.isfinite(values).any():
            low, high = (np.unravel_index(f(values), values.shape) for f in (np.nanargmin, np.nanargmax))
            at = [_where(data, name, i) for i in (low, high)]
            title = _title(name, data[name].attrs)
            found.append(
                f"{title[:1].upper()}{title[1:]} lies between {short(values[low])}{at[0]} and {short(values[high])}{at[1]}."
            )
    return found


def _ends(a: Axis) -> str:
    first, last = short(a.values[0]), short(a.values[-1])
    return (
        first
        if len(a.values) == 1
        else f"{first} to {last}"
        if a.numeric
        else f"{first}, \N{HORIZONTAL ELLIPSIS}, {last}"
    )


def _where(data: Any, name: str, index: tuple) -> str:
    axes = [axis_of(data, str(d)) for d in data[name].dims]
    said = ", ".join(f"{a.title} = {short(a.values[i])}" for a, i in zip(axes, index) if len(a.values) > 1)
    return f" ({said})" if said else ""


def table(data: Any) -> tuple[list[str], list[list[Any]], int]:
    """Return heads, a row a point, and how many rows were left out; reports as pairs of a text and a link."""
    full = [n for n in data.data_vars if data[n].ndim] or list(data.data_vars)
    dims = max((tuple(map(str, data[n].dims)) for n in full if n in (_ERRORS, _LINKS)), key=len, default=None)
    dims = tuple(map(str, data.sizes)) if dims is None else dims
    kept, texts = variables(data)
    columns = [n for n in (*kept, *texts) if set(data[n].dims) <= set(dims)][:12]
    extra = [n for n in (_ERRORS, _LINKS) if n in data]
    axes = [axis_of(data, d) for d in dims]
    shape = tuple(len(a.values) for a in axes)
    heads = [a.title for a in axes] + [_title(n, data[n].attrs) for n in columns] + extra
    rows: list[list[Any]] = []
    arrays = {n: data[n].values for n in (*columns, *extra)}
    for at in islice(np.ndindex(shape), _ROWS):
        row: list[Any] = [short(a.values[i]) for a, i in zip(axes, at)]
        place = dict(zip(dims, at))
        for n in (*columns, *extra):
            value = arrays[n][tuple(place[str(d)] for d in data[n].dims)]
            bars = f"{n}_stderr"
            if n == _LINKS:
                row.append(("report", str(value)) if str(value or "") else "")
            elif bars in data and data[bars].dims == data[n].dims:
                row.append(
                    with_error(float(value), float(data[bars].values[tuple(place[str(d)] for d in data[n].dims)]))
                )
            else:
                row.append(_texts(np.asarray([value], object))[0])
        rows.append(row)
    return heads, rows, max(0, int(np.prod(shape)) - len(rows))


def sweep(data: Any) -> Section:
    """Return the section of a sweep."""
    kept, texts = variables(data)
    charts = [c for name in (*kept, *texts) if (c := chart(data, name)) is not None]
    heads, rows, left = table(data)
    notes = [f"The table shows {len(rows)} of {len(rows) + left} points."] if left else []
    return Section("sweep", sentences(data), [*charts], "", notes, [(f"Points ({len(rows)})", heads, rows)])
