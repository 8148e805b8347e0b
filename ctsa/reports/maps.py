"""Charts of sweeps: a variable as lines, as a map, or as a map of names."""

from itertools import islice, product
from typing import Any, NamedTuple

import numpy as np

from .pieces import Chart, axis, label, log_axis, numbers, scatter, short, thinned, with_error
from .sweep_data import ERRORS, LINKS, Axis, ascending, axis_of, is_text, texts_of, title_of, variables
from .theme import DIVERGING, colour, sequence

_CELLS, _CHOICES = 10_000, 60  # the most points of a chart, combinations of choices


class _Cut(NamedTuple):
    """One variable over at most two axes, for one choice of the others."""

    values: np.ndarray
    errors: np.ndarray | None
    hover: np.ndarray
    links: np.ndarray | None
    failed: np.ndarray | None


def chart(data: Any, name: str, detail: float = 1.0) -> Chart | None:
    """Return a variable as lines or as a map, with lists to choose what lies on further axes; None if it is one number.

    Args:
        data: the sweep.
        name: of the variable.
        detail: share of the usual number of points.
    """
    data = ascending(data)
    array, most = data[name], max(int(_CELLS * detail), 4)
    axes = [axis_of(data, str(d)) for d in array.dims]
    rank = sorted(
        range(len(axes)), key=lambda i: (len(axes[i].values) < 2, not axes[i].numeric, axes[i].name == "seed")
    )
    shown = sorted(rank[:2]) if len(axes) > 1 and len(axes[rank[1]].values) > 1 else rank[:1]
    if not shown or array.size < 2:
        return None
    inside, outside = [axes[i] for i in shown], [axes[i] for i in range(len(axes)) if i not in shown]
    remarks = ""
    side = int(most ** (1 / len(inside)))
    if np.prod([len(a.values) for a in inside]) > most:
        kept = {a.name: thinned(len(a.values), side) for a in inside}
        data, array = data.isel(kept), array.isel(kept)
        inside = [axis_of(data, a.name) for a in inside]
        remarks = f" At most {side} values of a parameter are shown."
    cells = int(np.prod([len(a.values) for a in inside]))
    combinations = int(np.prod([len(a.values) for a in outside]))
    choices = [(a.title, list(a.texts)) for a in outside if len(a.values) > 1]
    if combinations > min(_CHOICES, max(1, most // cells)):
        remarks += f" Of {', '.join(title for title, _ in choices)} the first value is shown."
        choices, outside = [], [a._replace(values=a.values[:1]) for a in outside]
    text, title = is_text(array), title_of(name, array.attrs)
    categories = sorted({t for t in texts_of(array.values).ravel() if t}) if text else []
    variants = []
    for where in islice(product(*[range(len(a.values)) for a in outside]), _CHOICES):
        cut = _cut(data, name, inside, {a.name: i for a, i in zip(outside, where)})
        variants.append(_names(cut, inside, categories) if text else _numbers(cut, inside, title))
    bars = " with standard errors" if not text and f"{name}_stderr" in data and _lines(inside) else ""
    caption = f"{title[:1].upper()}{title[1:]} by {' and '.join(a.title for a in inside)}{bars}.{remarks}"
    if LINKS in data:
        caption += " Click a point to open its report."
    layout = _layout(inside, categories if text else None, title)
    return Chart(caption, variants[0], layout, 380, choices, variants if len(variants) > 1 else ())


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

    values, errors, failed, links = part(name), part(f"{name}_stderr"), part(ERRORS), part(LINKS)
    assert values is not None
    hover = np.empty(values.shape, object)
    title = title_of(name, data[name].attrs)
    _, texts = variables(data)
    others = {t: p for t in texts if t != name and (p := part(t)) is not None}
    for at in np.ndindex(values.shape):
        value = values[at]
        shown = (
            short(value)
            if is_text(values)
            else with_error(float(value), float(errors[at]) if errors is not None else np.nan)
        )
        lines = [f"{a.title} = {a.texts[i]}" for a, i in zip(inside, at)] + [f"{title}: {shown}"]
        lines += [f"{t}: {texts_of(np.asarray([p[at]], object))[0]}" for t, p in others.items()]
        if failed is not None and str(failed[at] or ""):
            lines.append(f"failed: {str(failed[at])[:120]}")
        if links is not None and str(links[at] or ""):
            lines.append(f"report: {links[at]}")
        hover[at] = "<br>".join(label(line) for line in lines)
    return _Cut(values, errors, hover, links, failed)


def _ticks(a: Axis) -> Any:
    return numbers(a.values, 16) if a.numeric else [label(text) for text in a.texts]


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
            heat | ({"customdata": texts_of(cut.links).tolist()} if cut.links is not None else {}),
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
            options["name"] = label(f"{other.title} = {other.texts[i]}")
        if cut.errors is not None:
            bars = {"type": "data", "array": numbers(np.nan_to_num(cut.errors[at].astype(float)))}
            options["error_y"] = bars | {"color": colour(i), "thickness": 1.2, "width": 3}
        if cut.links is not None:
            options["customdata"] = texts_of(cut.links[at]).tolist()
        text = cut.hover[at].tolist()
        trace = scatter(np.arange(len(x.values)), cut.values[at], mode="lines+markers", text=text, **options)
        traces.append(trace | {"x": _ticks(x), "hovertemplate": "%{text}<extra></extra>"})
    return traces


def _names(cut: _Cut, inside: list[Axis], categories: list[str]) -> list[dict[str, Any]]:
    """Return the traces of names: a map in their colours, or marks on a line a name."""
    texts = texts_of(cut.values)
    links = {"customdata": texts_of(cut.links).tolist()} if cut.links is not None else {}
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
    if cut.failed is None or not (where := np.argwhere(texts_of(cut.failed) != "")).size:
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
