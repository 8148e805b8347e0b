"""What a sweep holds: its axes, its numbers, its texts."""

from typing import Any, NamedTuple

import numpy as np

from .pieces import short, told_apart

LINKS, ERRORS, DONE = "report", "error", "done"  # variables that mean something


class Axis(NamedTuple):
    """A dimension of a sweep: its name, its values, and whether they are numbers, spread evenly on a logarithmic scale.

    ``texts``: the values in as many digits as tell them apart.
    """

    name: str
    values: np.ndarray
    numeric: bool
    log: bool
    title: str
    texts: tuple[str, ...]


def axis_of(data: Any, name: str) -> Axis:
    """Return a dimension of a Dataset."""
    size = data.sizes[name]
    values = np.asarray(data.coords[name].values) if name in data.coords else np.arange(size)
    values = values.astype(str) if values.dtype.kind in "mM" else values  # times
    numeric = values.dtype.kind in "iuf"
    log = False
    if numeric and size > 2 and np.all(values > 0) and values.max() >= 8 * values.min():
        ratios = np.diff(np.log(np.sort(values.astype(float))))
        log = bool(np.ptp(ratios) < 0.35 * np.abs(ratios).max())
    about = data.coords[name].attrs if name in data.coords else {}
    return Axis(name, values, numeric, log, title_of(name, about), told_apart(values.tolist()))


def title_of(name: str, about: Any) -> str:
    """Return what to call a variable or an axis, by its attributes ``long_name`` and ``units``."""
    units = f" ({about['units']})" if about.get("units") else ""
    return str(about.get("long_name", name)).replace("_", " ") + units


def texts_of(values: np.ndarray) -> np.ndarray:
    """Return values as text, "" where there is none."""
    flat = ["" if v is None or v != v else short(v) for v in np.asarray(values, object).ravel().tolist()]
    return np.array(flat, object).reshape(values.shape)


def is_text(array: Any) -> bool:
    """Tell whether an array holds text, or yes and no."""
    return array.dtype.kind in "OUSTb"


def answered(data: Any) -> Any:
    """Return a sweep whose truth values are None where a point failed or was not run: the store has False there.

    Complex variables become two.
    """
    split = [n for n in data.data_vars if data[n].dtype.kind == "c"]
    data = data.assign({f"{n}_{part}": getattr(data[n], part) for n in split for part in ("real", "imag")}).drop_vars(
        split
    )
    marks = [data[ERRORS].astype(str) == ""] if ERRORS in data else []
    marks += [data[DONE].astype(bool)] if DONE in data else []
    if not marks:
        return data
    fine = marks[0] if len(marks) == 1 else marks[0] & marks[1]
    bare = [
        n for n in data.data_vars if n != DONE and data[n].dtype.kind == "b" and set(fine.dims) <= set(data[n].dims)
    ]
    return data.assign({n: data[n].astype(object).where(fine, None).transpose(*data[n].dims) for n in bare})


def ascending(data: Any) -> Any:
    """Return a sweep with its numeric axes in order: plotly draws the cells of a map between neighbours as they come."""
    for name, values in data.coords.items():
        if values.dims == (name,) and values.dtype.kind in "iuf" and np.any(np.diff(values.values) < 0):
            data = data.sortby(name)
    return data


def variables(data: Any) -> tuple[list[str], list[str]]:
    """Return the names of numbers and of texts, without error bars, error messages and links."""
    names = [str(n) for n in data.data_vars if n not in (LINKS, ERRORS)]
    if DONE in names and bool(np.all(data[DONE].values)):
        names.remove(DONE)
    bars = {n for n in names if n.endswith("_stderr") and n.removesuffix("_stderr") in names}
    names = [n for n in names if n not in bars]
    texts = [n for n in names if is_text(data[n])]
    kept = [n for n in names if n not in texts and data[n].dtype.kind in "iuf"]
    return kept, texts
