"""Values inside results: arrays as NumPy, and small objects, such as geometries, that files keep as words and numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctsa._backend import backend, framework

_MARK = "kept as"  # the entry by which JSON tells a kept object from a dict


class _Keeper(NamedTuple):
    kind: type
    write: Callable[[Any], dict[str, Any]]
    read: Callable[[dict[str, Any]], Any]


_KEEPERS: dict[str, _Keeper] = {}


def as_numpy(value: Any) -> Any:
    """Return arrays of any framework as NumPy, other values as they are."""
    return backend(value).to_numpy(value) if framework(value) is not None else value


def keep(name: str, kind: type, write: Callable[[Any], dict[str, Any]], read: Callable[[dict[str, Any]], Any]) -> None:
    """Let results hold objects of a class: files keep what ``write`` says of one, and ``read`` makes one of that.

    The class need not be known here: what lies above registers its own.
    """
    _KEEPERS[name] = _Keeper(kind, write, read)


def is_kept(value: Any) -> bool:
    """Tell whether a value is an object of a class that was registered."""
    return any(isinstance(value, keeper.kind) for keeper in _KEEPERS.values())


def encode(value: Any) -> Any:
    """Return what JSON writes for a value that it does not know: ``json.dumps(..., default=encode)``.

    Raises:
        TypeError: files cannot keep it.
    """
    for name, keeper in _KEEPERS.items():
        if isinstance(value, keeper.kind):
            return {_MARK: name, **keeper.write(value)}
    value = as_numpy(value)
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        return value.tolist()
    raise TypeError(
        f"a result cannot keep a {type(value).__name__}: its fields are arrays, numbers, text, geometries, results, and "
        "lists and dicts of these"
    )


def decode(entry: dict[str, Any]) -> Any:
    """Return what an object of JSON stands for: ``json.loads(..., object_hook=decode)``."""
    if entry.get(_MARK) not in _KEEPERS:
        return entry
    return _KEEPERS[entry[_MARK]].read({key: value for key, value in entry.items() if key != _MARK})
