"""A walk through all that a value depends on, to any depth: what tells runs, and compiled programs, apart.

Parameters and buffers, attributes of objects, items of containers, cells of closures, defaults, code and constants of
functions, and the globals that they read. Library code counts by its name. What cannot be looked into (objects of C
extensions without a state to show) is listed.
"""

import functools
import hashlib
import sysconfig
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._frameworks import framework

_LIBRARY = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, np.generic, np.dtype)
NAMED = (type, types.ModuleType, np.ufunc)
_INNER = ("__func__", "__wrapped__", "fget", "func", "method")  # where descriptors keep their function
_OURS = ("ctsa", "builtins", "torch", "jax", "jaxlib", "equinox", "diffrax", "numpy", "scipy")
_OF_CLASSES = ("__module__", "__doc__", "__qualname__", "__firstlineno__")


class Walk:
    """One pass over a graph of objects; ``concrete`` gives the values of an array of a framework, None for a traced one."""

    def __init__(self, concrete: Callable[[Any], Any]):
        self.concrete = concrete
        self.digest = hashlib.blake2b(digest_size=12)
        self.seen: dict[int, int] = {}
        self.alive: list[Any] = []  # ids of what has been freed would be given again
        self.unseen: list[str] = []

    def say(self, *words: Any) -> None:
        self.digest.update(repr(words).encode())

    def enter(self, part: Any, where: str) -> None:
        if isinstance(part, PLAIN):
            return self.say(type(part).__name__, repr(part))
        if isinstance(part, NAMED):
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
        values = a if isinstance(a, np.ndarray) else self.concrete(a)
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
                if isinstance(inner, (types.FunctionType, *PLAIN)) and name not in _OF_CLASSES:
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
