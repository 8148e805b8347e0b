"""A walk through all that a value depends on, to any depth: what tells runs, and compiled programs, apart.

Parameters and buffers, attributes of objects, items of containers, cells of closures, defaults, code and constants of
functions, and the globals that they read. Library code counts by its name. What cannot be looked into (objects of C
extensions without a state to show) is listed.
"""

import dis
import functools
import hashlib
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import backend, framework

_LIBRARY = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, np.generic, np.dtype)
_NAMED = (type, types.ModuleType, np.ufunc)
_INNER = ("__func__", "__wrapped__", "fget", "func", "method")  # where descriptors keep their function
_OURS = ("ctsa", "builtins", "torch", "jax", "jaxlib", "equinox", "diffrax", "numpy", "scipy")
_LARGE = 2**20  # numbers of an array beyond which a few of them stand for all
_CHANGED = (list, dict, set, np.ndarray)
_CHANGING = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear"}
_OF_CLASSES = ("__module__", "__doc__", "__qualname__", "__firstlineno__")


class Walk:
    """One pass over a graph of objects."""

    def __init__(self):
        self.digest = hashlib.blake2b(digest_size=12)
        self.seen: dict[int, int] = {}
        self.alive: list[Any] = []  # ids of what has been freed would be given again
        self.unseen: list[str] = []

    def say(self, *words: Any) -> None:
        self.digest.update(repr(words).encode())

    def enter(self, part: Any, where: str) -> None:
        if isinstance(part, _PLAIN):
            return self.say(type(part).__name__, repr(part))
        if isinstance(part, _NAMED):
            return self._named(part, where)
        if id(part) in self.seen:
            return self.say("again", self.seen[id(part)])
        self.seen[id(part)] = len(self.seen)
        self.alive.append(part)
        if framework(part) is not None and hasattr(part, "dtype") and hasattr(part, "shape"):
            self._array(part, where)
        elif isinstance(part, types.FunctionType):
            self._function(part, where)
        elif isinstance(part, types.CodeType):
            self._code(part, where)
        elif isinstance(part, types.MethodType):
            self.enter(part.__func__, where)
            self.enter(part.__self__, f"{where}.__self__")
        elif isinstance(part, types.BuiltinFunctionType):
            self.say("builtin", part.__qualname__)
            self.enter(part.__self__, f"{where}.__self__")
        elif isinstance(part, functools.partial):
            self._items("partial", (part.func, part.args, part.keywords), where)
        elif isinstance(part, (list, tuple)):
            self._items(type(part).__name__, part, where)
        elif isinstance(part, (set, frozenset)):
            self._items("set", sorted(part, key=repr), where)
        elif isinstance(part, (dict, Mapping)):
            self._mapping(part, where)
        else:
            self._object(part, where)

    def counts(self, name: str, value: Any, code: types.CodeType | None = None) -> bool:
        """Tell whether a variable of a function, or an attribute, is a part of what is walked through: here all are."""
        return True

    def _items(self, kind: str, parts: Any, where: str) -> None:
        self.say(kind, len(parts))
        for i, each in enumerate(parts):
            self.enter(each, f"{where}[{i}]")

    def _mapping(self, part: Mapping, where: str) -> None:
        self.say("mapping", len(part))
        hooks = "_hooks" in where.rpartition(".")[2]  # keyed by a counter of the process
        for key, value in part.items():
            if not hooks:
                self.enter(key, f"{where} key")
            self.enter(value, f"{where}[{key!r}]")

    def _array(self, a: Any, where: str) -> None:
        self.say("array", tuple(a.shape), str(a.dtype))
        values = a if isinstance(a, np.ndarray) else backend(a).concrete(a)
        if values is None:
            self.unseen.append(f"{where} (a traced array)")
        elif values.dtype == object:
            self._items("objects", values.ravel().tolist(), where)
        else:
            self.digest.update(np.ascontiguousarray(values).tobytes())

    def _named(self, part: Any, where: str) -> None:
        module = getattr(part, "__module__", None) or ""
        self.say("name", module, getattr(part, "__qualname__", None) or part.__name__)
        if isinstance(part, type) and not of_library(module) and id(part) not in self.seen:
            self.seen[id(part)] = len(self.seen)
            self.alive.append(part)
            for name, value in sorted(vars(part).items()):  # methods, and numbers kept on the class
                inner = next((getattr(value, n) for n in _INNER if isinstance(value, object) and hasattr(value, n)), value)
                if isinstance(inner, (types.FunctionType, *_PLAIN)) and name not in _OF_CLASSES:
                    self.say("attribute", name)
                    self.enter(inner, f"{where}.{name}")

    def _function(self, f: Any, where: str) -> None:
        where = f"{where} ({f.__qualname__})"
        known = of_library(f.__module__ or "") or f.__code__.co_filename.startswith(_LIBRARY)
        if known:
            self.say("function", f.__module__, f.__qualname__)
        else:
            self._code(f.__code__, where)
            self._globals(f, where)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                self.say("empty", name)
                continue
            if self.counts(name, value, f.__code__):
                self.enter(value, f"{where} variable {name}")
        self.enter(f.__defaults__, f"{where} defaults")
        self.enter(f.__kwdefaults__, f"{where} defaults")
        if not known:
            self.enter({name: value for name, value in vars(f).items() if self.counts(name, value)}, where)

    def _globals(self, f: Any, where: str) -> None:
        names = sorted(_names(f.__code__))
        for name in (n for n in names if n in f.__globals__):
            value = f.__globals__[name]
            if not self.counts(name, value, f.__code__):
                continue
            self.enter(value, f"{where} global {name}")
            if isinstance(value, types.ModuleType) and not of_library(value.__name__) and not _installed(value):
                for inner in (n for n in names if hasattr(value, n)):
                    self.enter(getattr(value, inner), f"{where} global {name}.{inner}")

    def _code(self, code: types.CodeType, where: str) -> None:
        self.say("code", code.co_code, code.co_names, code.co_varnames)
        self._items("constants", code.co_consts, where)

    def _object(self, part: Any, where: str) -> None:
        kind = type(part)
        self.enter(kind, where)
        wrapped = getattr(part, "__wrapped__", None) if callable(part) else None  # functools.wraps, jax.jit
        if wrapped is not None:
            self.enter(wrapped, where)
        names = {s for base in kind.__mro__ for s in _slots(base)} - {"__dict__", "__weakref__"}
        state = {s: getattr(part, s) for s in sorted(names) if hasattr(part, s)}
        state.update(getattr(part, "__dict__", None) or {})
        if state:
            for name, value in state.items():
                if self.counts(name, value):
                    self.say("attribute", name)
                    self.enter(value, f"{where}.{name}")
        elif wrapped is None and not hasattr(part, "__dict__"):
            self._foreign(part, where)

    def _foreign(self, part: Any, where: str) -> None:
        """An object of an extension: what it would pickle, if it says so."""
        try:
            reduced = part.__reduce_ex__(2)
        except Exception:  # whatever an extension raises here
            reduced = None
        if isinstance(reduced, str):
            self.say("global", reduced)
        elif reduced is not None and (len(reduced) > 2 or reduced[1] not in ((type(part),), (type(part), object, None))):
            self._items("reduced", [tuple(r) if isinstance(r, types.GeneratorType) else r for r in reduced], where)
        else:
            self.unseen.append(f"{where} (a {type(part).__module__}.{type(part).__qualname__})")


class _Read(Walk):
    """What code of others reads: arrays that functions hold, not those that a program is given, nothing that they write."""

    def __init__(self) -> None:
        super().__init__()
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
    if isinstance(part, _PLAIN) or hasattr(part, "dtype") or id(part) in seen:
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
    elif isinstance(part, _NAMED):
        return False
    else:
        if not of_library(type(part).__module__ or ""):
            return True
        wrapped = getattr(part, "__wrapped__", None) if callable(part) else None
        inner = (wrapped, *getattr(part, "__dict__", {}).values())
    return any(_of_others(each, seen) for each in inner)


def of_library(module: str) -> bool:
    """Whether a module is one of ours, of the frameworks, or built in: its name then stands for its code."""
    return module.partition(".")[0] in _OURS


def _installed(module: types.ModuleType) -> bool:
    return (getattr(module, "__file__", None) or _LIBRARY[0]).startswith(_LIBRARY)


def _names(code: types.CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
