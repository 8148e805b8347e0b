"""Results as labelled arrays of xarray: a dataset, or a tree of datasets where results hold results."""

import dataclasses
import json
from typing import Any

import numpy as np

from .values import as_numpy, is_kept

_LARGEST = 2**31 - 1  # integer that classic netCDF files hold


def labelled(result: Any) -> Any:
    """Return a result as an ``xarray.Dataset``, one that holds results as an ``xarray.DataTree``.

    Raises:
        ImportError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError("to_xarray needs xarray: pip install xarray") from error
    variables, attributes = contents(result)
    data = xarray.Dataset(variables, attrs=attributes)
    data = data.set_coords("ts") if "ts" in variables else data
    parts = result._parts()
    if not parts:
        return data

    def node(part: Any) -> Any:
        if isinstance(part, tuple | list):
            return xarray.DataTree(children={str(i): node(each) for i, each in enumerate(part)})
        found = labelled(part)
        return found if isinstance(found, xarray.DataTree) else xarray.DataTree(found)

    children = {name: node(part) for name, part in parts.items()}
    # A tree shares the axes of a node with those below it, which here may be other axes of the same name.
    below = [(axis, size) for child in children.values() for each in child.subtree for axis, size in each.sizes.items()]
    taken = {
        axis: f"{axis}_outer" for axis, size in data.sizes.items() if any(a == axis and s != size for a, s in below)
    }
    return xarray.DataTree(data.rename_dims(taken), children=children)


def contents(result: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the variables and attributes of a result, without the results in it, and without code."""
    outer = [f"sample_{i}" for i in range(np.ndim(as_numpy(getattr(result, "ts", 0))) - 1)]  # made by jax.vmap
    variables: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    empty = []
    left_out = {*result._parts(), *result._code}
    for name in (f.name for f in dataclasses.fields(result) if f.name not in left_out):
        value = as_numpy(getattr(result, name))
        entries = {str(k): as_numpy(v) for k, v in value.items()} if isinstance(value, dict) else {name: value}
        for key, v in entries.items():
            key = key if key not in variables and key not in attributes else f"{name}_{key}"
            if not isinstance(v, np.ndarray) or not (v.ndim or name in result._dims):
                attributes |= {key: _attribute(v)} if v is not None else {}
            elif not v.size:
                empty.append(key)
            else:
                axes = outer if isinstance(value, dict) and v.ndim == len(outer) else None
                axes = result._axes_of(key, v.ndim, outer) if axes is None else axes
                variables |= {part: (axes, a) for part, a in _real(key, v)}
    return variables, attributes | ({"empty": " ".join(empty)} if empty else {})


def _real(name: str, a: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return an array as variables of types that netCDF has."""
    if a.dtype.kind == "c":
        return [(f"{name}_real", a.real), (f"{name}_imag", a.imag)]
    if a.dtype.kind == "f" and a.dtype.itemsize not in (4, 8):
        a = a.astype(np.float32 if a.dtype.itemsize < 4 else np.float64)
    if a.dtype.kind in "iu" and max(int(a.max()), -int(a.min())) > _LARGEST:
        a = a.astype(np.float64)
    return [(name, a.astype(str) if a.dtype.kind == "O" else a)]


def _attribute(value: Any) -> Any:
    """Return a value as an attribute that netCDF can hold: a number or a string."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) and not np.ndim(value) else value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else float(value)
    if isinstance(value, float | str):
        return value
    return str(value) if is_kept(value) else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    value = as_numpy(value)
    if np.iscomplexobj(value):
        return [np.asarray(value).real.tolist(), np.asarray(value).imag.tolist()]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
