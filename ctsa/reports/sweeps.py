"""Sweeps: what they say in words, a table of points with links, and a chart for each variable."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from .maps import chart
from .pieces import Section, count, short, with_error
from .sweep_data import DONE, ERRORS, LINKS, Axis, answered, axis_of, texts_of, title_of, variables

_ROWS, _CHARTS = 400, 16  # the most rows of the table, and charts


def sentences(data: Any) -> list[str]:
    """Say how many points there are, which failed, and between what the numbers lie."""
    dims = data[ERRORS].dims if ERRORS in data else data.sizes  # a variable may have axes of its own
    axes = [axis_of(data, str(d)) for d in dims]
    total = int(np.prod([len(a.values) for a in axes])) if axes else 1
    spans = [f"{a.title} ({len(a.values)}: {_ends(a)})" for a in axes]
    found = [f"{count(total, 'point')} over {', '.join(spans)}." if spans else "A sweep of one point."]
    if DONE in data and not bool(np.all(data[DONE].values)):
        found.append(f"{int(np.sum(data[DONE].values))} of {int(data[DONE].size)} points were run.")
    if ERRORS in data:
        errors = [e for e in texts_of(data[ERRORS].values).ravel() if e]
        total = int(data[ERRORS].size)
        found.append(f"{len(errors)} of {total} points failed." if errors else "No point failed.")
        found += [f"{n} failed with: {e[:160].rstrip('.')}." for e, n in Counter(errors).most_common(3)]
    kept, texts = variables(data)
    for name in texts[:4]:
        names = Counter(t for t in texts_of(data[name].values).ravel() if t).most_common(6)
        if names:
            found.append(
                f"{title_of(name, data[name].attrs).capitalize()}: " + ", ".join(f"{n} {t}" for t, n in names) + "."
            )
    for name in kept[:6]:
        values = np.asarray(data[name].values, float)
        if np.isfinite(values).any():
            low, high = (np.unravel_index(f(values), values.shape) for f in (np.nanargmin, np.nanargmax))
            at = [_where(data, name, i) for i in (low, high)]
            title = title_of(name, data[name].attrs)
            if values[low] == values[high]:
                found.append(f"{title[:1].upper()}{title[1:]} is {short(values[low])} everywhere.")
                continue
            found.append(
                f"{title[:1].upper()}{title[1:]} lies between {short(values[low])}{at[0]} and {short(values[high])}{at[1]}."
            )
    return found


def _ends(a: Axis) -> str:
    first, last = a.texts[0], a.texts[-1]
    return (
        first
        if len(a.values) == 1
        else f"{first} to {last}"
        if a.numeric
        else f"{first}, \N{HORIZONTAL ELLIPSIS}, {last}"
    )


def _where(data: Any, name: str, index: tuple) -> str:
    axes = [axis_of(data, str(d)) for d in data[name].dims]
    said = ", ".join(f"{a.title} = {a.texts[i]}" for a, i in zip(axes, index) if len(a.values) > 1)
    return f" ({said})" if said else ""


def table(data: Any, most: int = _ROWS) -> tuple[list[str], list[list[Any]], int]:
    """Return heads, a row a point, and how many rows were left out; reports as pairs of a text and a link."""
    told = [tuple(map(str, data[n].dims)) for n in (ERRORS, LINKS) if n in data]
    dims = max(told, key=len, default=tuple(map(str, data.sizes)))
    kept, texts = variables(data)
    columns = [n for n in (*kept, *texts) if set(data[n].dims) <= set(dims)][:12]
    extra = [n for n in (ERRORS, LINKS) if n in data]
    axes = [axis_of(data, d) for d in dims]
    shape = tuple(len(a.values) for a in axes)
    heads = [a.title for a in axes] + [title_of(n, data[n].attrs) for n in columns] + extra
    readers = [_reader(data, n, dims) for n in (*columns, *extra)]
    rows = [
        [*(a.texts[i] for a, i in zip(axes, at)), *(read(at) for read in readers)]
        for at in islice(np.ndindex(shape), most)
    ]
    return heads, rows, max(0, int(np.prod(shape)) - len(rows))


def _reader(data: Any, name: str, dims: tuple[str, ...]) -> Callable[[tuple[int, ...]], Any]:
    """Return a function of a point that returns the cell of a variable."""
    places = [dims.index(str(d)) for d in data[name].dims]
    values, bars = data[name].values, f"{name}_stderr"
    errors = data[bars].values if bars in data and data[bars].dims == data[name].dims else None

    def read(at: tuple[int, ...]) -> Any:
        here = tuple(at[i] for i in places)
        if errors is not None:
            return with_error(float(values[here]), float(errors[here]))
        text = str(texts_of(np.asarray([values[here]], object))[0])
        return ("report", text) if name == LINKS and text else text

    return read


def sweep(data: Any, detail: float = 1.0) -> Section:
    """Return the section of a sweep."""
    if 0 in data.sizes.values() and not any(data[n].size for n in data.data_vars):
        return Section("sweep", ["A sweep of no points."])
    data = answered(data)
    kept, texts = variables(data)
    names = [*kept, *texts]
    shown = names[: max(2, int(_CHARTS * detail))]
    notes = [f"Charts show {len(shown)} of {len(names)} variables."] if len(shown) < len(names) else []
    charts = [c for name in shown if (c := chart(data, name, detail)) is not None]
    heads, rows, left = table(data, max(int(_ROWS * detail), 1))
    notes += [f"The table shows {len(rows)} of {len(rows) + left} points."] if left else []
    return Section("sweep", sentences(data), [*charts], "", notes, [(f"Points ({len(rows)})", heads, rows)])
