"""What functions and objects of others read besides their arguments: a program of JAX has it inside."""

import dis
import functools
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ._inside import NAMED, PLAIN, Walk, of_library

_LARGE = 2**20  # numbers of an array beyond which a few of them stand for all
_CHANGED = (list, dict, set, np.ndarray)
_CHANGING = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear"}
_PASSED: dict[type, bool] = {}  # whether what is of a type is a number, a name or an array: looked up in every call


def _values(a: Any) -> np.ndarray | None:
    return None if isinstance(a, jax.core.Tracer) else np.asarray(a)


class _Read(Walk):
    """What code of others reads: arrays that functions hold, not those that a program is given, nothing that they write."""

    def __init__(self) -> None:
        super().__init__(_values)
        self.held = 0
        self.attributes: set[str] = set()  # that methods write, other than those that make an object
        self.changes = False  # whether they change items of something

    def counts(self, name: str, value: Any, code: types.CodeType | None = None) -> bool:
        names, changes = (self.attributes, self.changes) if code is None else _written(code)
        return name not in names and not (changes and isinstance(value, _CHANGED))

    def _array(self, a: Any, where: str) -> None:
        if self.held and a.size > _LARGE:  # hashing it whole in every call would take longer than many a run
            self.say("array", id(a), tuple(a.shape), str(a.dtype))
            a = np.asarray(a).reshape(-1)[:: a.size // 4096]
        if self.held:
            super()._array(a, where)

    def _function(self, f: Any, where: str) -> None:
        if f.__name__ not in ("__init__", "__post_init__", "__new__"):
            names, changes = _written(f.__code__)
            self.attributes |= names
            self.changes = self.changes or changes
        self.held += 1
        super()._function(f, where)
        self.held -= 1


@functools.lru_cache(1024)
def _written(code: types.CodeType) -> tuple[frozenset[str], bool]:
    """Return the variables and attributes that a function sets, and whether it changes items of something."""
    names: set[str] = set()
    changes = not _CHANGING.isdisjoint(code.co_names)
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR"):
            names.add(step.argval)
        changes = changes or step.opname == "STORE_SUBSCR"
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more, also = _written(inner)
            names |= more
            changes = changes or also
    return frozenset(names), changes


def surroundings(given: Any) -> str | None:
    """Return a hash of what functions and objects of others among arguments read besides: globals, closures, attributes.

    None where there are none: what is ours reads its arguments only.
    """
    walk = _Read()
    try:
        if not _of_others(given, set()):
            return None
        walk.enter(given, "")
    except Exception:  # of objects that do not want to be looked into: they are told apart by what they are
        return "unknown"
    return walk.digest.hexdigest()


def _of_others(part: Any, seen: set[int]) -> bool:
    """Tell whether there is code of somebody else's in a graph of objects."""
    kind = part.__class__
    if kind not in _PASSED:
        array = hasattr(kind, "dtype") and hasattr(kind, "shape")
        _PASSED[kind] = array or issubclass(kind, (*PLAIN, *NAMED))
    if _PASSED[kind] or id(part) in seen:
        return False
    seen.add(id(part))
    inner: Any
    if isinstance(part, types.FunctionType):
        if not of_library(part.__module__ or ""):
            return True
        cells = (cell.cell_contents for cell in part.__closure__ or () if cell != types.CellType())
        inner = (*cells, *(part.__defaults__ or ()))
    elif isinstance(part, types.MethodType):
        inner = part.__func__, part.__self__
    elif isinstance(part, functools.partial):
        inner = part.func, part.args, part.keywords
    elif isinstance(part, (tuple, list, set, frozenset)):
        inner = part
    elif isinstance(part, Mapping):
        inner = part.values()
    else:
        if not of_library(kind.__module__ or ""):
            return True
        wrapped = getattr(part, "__wrapped__", None) if callable(part) else None
        inner = (wrapped, *getattr(part, "__dict__", {}).values())
    return any(_of_others(each, seen) for each in inner)
