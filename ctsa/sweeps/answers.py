"""What a point's function returns, as variables: a name, the names of its axes, an array of numbers or text."""

import dataclasses
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from ctsa.motion import Verdict
from ctsa.results.base import Result, as_numpy
from ctsa.results.labelled import contents

from .grid import is_name, is_text

Answer = dict[str, tuple[tuple[str, ...], np.ndarray]]

BARE = "value"  # the name of what comes without one


def answer(value: Any, taken: Set[str] = frozenset()) -> Answer:
    """Return what a function returned as variables, by name: (names of axes, array).

    A number, a text or an array is called "value". A dict gives names; each of its values is a number, a text, an array
    (axes ``NAME_0``, ``NAME_1``, ...), a pair (names of axes, array) as in xarray, a result of ``ctsa`` (its variables then
    begin with ``NAME_``), or None, which is left out. A result gives its own variables and axes. Complex numbers become
    two, ``NAME_real`` and ``NAME_imag``.

    Args:
        value: what was returned.
        taken: names that a variable or axis cannot have; it then gets an underscore at its end.

    Raises:
        TypeError: it is none of these.
        ValueError: axes do not fit.
    """
    if value is None:
        raise TypeError("function returned None: return a number, a text, an array, a result, or a dict of these")
    if isinstance(value, Result):
        return _settled(_of_result(value), taken)
    return _settled(_of_dict(value if isinstance(value, Mapping) else {BARE: value}), taken)


def answers(value: Any, count: int, taken: Set[str] = frozenset()) -> list[Answer]:
    """Return what a function that was given ``count`` points at once returned, point by point.

    Arrays have a leading axis of points, which a pair (names of axes, array) does not name. Results of ensembles are
    taken apart by their ``member``.

    Raises:
        TypeError, ValueError: as ``answer``, or there are not so many.
    """
    if value is None:
        raise TypeError("function returned None: return arrays with a leading axis of points, or a dict of these")
    parts = value if isinstance(value, Mapping) else {BARE: value}
    split = {str(name): _split(str(name), part, count) for name, part in parts.items() if part is not None}
    rows = [{name: several[i] for name, several in split.items()} for i in range(count)]
    return [answer(row if isinstance(value, Mapping) else row[BARE], taken) for row in rows]


def _split(name: str, value: Any, count: int) -> list[Any]:
    dims: Any = None
    if isinstance(value, Result):
        axes = len(_of_result(value).get("exponents", ((), np.zeros(())))[0])
        ensemble = axes == 2 and np.shape(getattr(value, "exponents", ()))[0] == count
        if not (hasattr(value, "member") and ensemble):
            raise ValueError(
                f"function returned a {type(value).__name__} that is not one of {count} points: return a dict of arrays "
                "with a leading axis of points"
            )
        return [value.member(i) for i in range(count)]
    if _is_pair(value):
        dims, value = value
    array = np.asarray(as_numpy(value))
    if array.ndim == 0 or len(array) != count:
        raise ValueError(
            f"{name} must have a leading axis of {count} points with batched=True, got an array of shape {array.shape}"
        )
    return [row if dims is None else (dims, row) for row in array]


def _is_pair(value: Any) -> bool:
    """Whether a value is (names of axes, array)."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    dims = value[0]
    return isinstance(dims, str) or (isinstance(dims, tuple | list) and all(isinstance(d, str) for d in dims))


def _of_dict(parts: Mapping[Any, Any]) -> Answer:
    found: Answer = {}
    for key, value in parts.items():
        name = str(key).replace("/", "_")
        if isinstance(value, Result):
            for inner, variable in _of_result(value).items():
                _put(found, f"{name}_{inner}", variable)
        elif value is not None:
            dims, value = value if _is_pair(value) else (None, value)
            given = (dims,) if isinstance(dims, str) else dims
            _exact(name, value)
            for part, array in _arrays(name, value):
                axes = tuple(f"{name}_{i}" for i in range(array.ndim)) if given is None else tuple(given)
                if len(axes) != array.ndim or len(set(axes)) != len(axes):
                    raise ValueError(
                        f"{name} has the shape {array.shape}, which axes {axes} do not fit: name each once"
                    )
                _put(found, part, (axes, array))
    return found


def _put(found: Answer, name: str, variable: tuple[tuple[str, ...], np.ndarray]) -> None:
    """Add a variable; two of one name would leave one."""
    if name in found:
        raise ValueError(f"two variables would be called {name!r}: give one of them another name")
    if not is_name(name):
        raise ValueError(f"{name!r} cannot name an array in a store: choose a short name of usual letters")
    found[name] = variable


def _exact(name: str, value: Any) -> None:
    """Raise ValueError for whole numbers that float64 would change."""
    array = np.asarray(as_numpy(value))
    if array.dtype.kind in "iu" and array.size and (array.max() > 2**53 or array.min() < -(2**53)):
        if [int(v) for v in array.astype(np.float64).flat] != array.ravel().tolist():
            raise ValueError(f"{name} holds whole numbers beyond 2**53, which float64 would round: return them as text")


def _of_result(result: Result) -> Answer:
    found: Answer = {}
    left_out = {"identity", *result._parts(), *result._code, *(name for name, _ in result._derived.values())}
    for name, (axes, value) in contents(result)[0].items():
        if name not in left_out:
            found |= {part: (tuple(axes), array) for part, array in _arrays(name, value)}
    for field in dataclasses.fields(result):  # type: ignore[arg-type]
        value = as_numpy(getattr(result, field.name))
        entries = {str(k): as_numpy(v) for k, v in value.items()} if isinstance(value, dict) else {field.name: value}
        for name, v in entries.items():
            single = isinstance(v, bool | int | float | complex | str | np.generic)
            if field.name not in left_out and name not in found and (single or getattr(v, "ndim", None) == 0):
                found |= {part: ((), array) for part, array in _arrays(name, v)}
    for name, (attribute, dims) in result._derived.items():
        try:
            value = getattr(result, attribute)
        except ValueError:  # of one run, and this is an ensemble
            continue
        for part, array in _arrays(name, value) if value is not None else ():
            spare = array.ndim - len(dims) + 1
            axes = [d for dim in dims for d in ([f"batch_{i}" for i in range(spare)] if dim == "..." else [dim])]
            found[part] = tuple(axes), array
    return found


def _arrays(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    """Return a value as arrays of float64, float32, bool, or of Python's str."""
    array = np.asarray(value.name if isinstance(value, Verdict) else as_numpy(value))
    kind = array.dtype.kind
    if kind == "c":
        return [(f"{name}_real", _real(array.real)), (f"{name}_imag", _real(array.imag))]
    if kind == "T" or kind == "U" or (kind == "O" and array.size and all(isinstance(v, str) for v in array.flat)):
        texts = np.array(value if isinstance(value, str) else array.astype(object), dtype=object)
        if not all(is_text(v) for v in texts.flat):
            raise ValueError(f"{name} holds text that no file keeps as it is, with a zero or half a character")
        return [(name, texts)]
    if kind not in "biuf" and not (kind == "V" and array.dtype.itemsize == 2):  # bfloat16
        raise TypeError(
            f"{name} must be a number, a text, an array, a result, or a pair (names of axes, array), got a "
            f"{type(value).__name__}"
        )
    return [(name, array if kind == "b" else _real(array))]


def _real(array: np.ndarray) -> np.ndarray:
    small = array.ndim and array.dtype.kind not in "iu" and array.dtype.itemsize <= 4
    return array.astype(np.float32 if small else np.float64)


def _settled(found: Answer, taken: Set[str]) -> Answer:
    """Give another name to what has one that is taken, and to axes of the same name but another length."""
    names = {name: f"{name}_" if name in taken else name for name in found}
    used = {*taken, *names.values()}
    sizes: dict[str, int] = {}
    settled: Answer = {}
    for name, (axes, array) in found.items():
        own: list[str] = []
        for axis, size in zip(axes, array.shape, strict=True):
            free = _free(axis, used)
            if free in own or sizes.get(free, size) != size:
                free = _free(f"{name}_{axis}", {*used, *own, *(a for a, known in sizes.items() if known != size)})
            sizes[free] = size
            own.append(free)
        _put(settled, names[name], (tuple(own), array))
    return settled


def _free(axis: str, used: Set[str]) -> str:
    """Return the name of an axis, with as many underscores as make it another one than those used."""
    while axis in used:
        axis += "_"
    return axis
