"""What a field or a layer is made of, stated once by its class, and the one walk over it.

A class lists its parts: ``parts = dict(value=parameter("dd", role="weight"), mask=constant("nn"), scheme=static())``. From
this follow the attributes of both faces (trainable, buffer or static), the checks of sizes, the constructor arguments,
conversion between frameworks, what the regulariser and continuation see, and whether rotations are symmetries.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

PARAMETER, CONSTANT, STATIC, INNER, INNERS = "parameter", "constant", "static", "inner", "inners"


@dataclass(frozen=True)
class Part:
    """One part of a field or layer.

    Attributes:
        kind: "parameter" (an array that is trained), "constant" (one that is not), "inner" (a field, layer or module),
            "inners" (a list of them), or "static" (anything else).
        axes: letters of the last axes: n tokens, d components of one, p = d / 2 planes; any other letter is free, and axes
            before them are, too (heads, batches).
        role: "weight" or "bias" for the spectral regulariser.
        optional: whether None stands for its absence.
    """

    kind: str
    axes: str = ""
    role: str = ""
    optional: bool = False

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return self.kind in (PARAMETER, CONSTANT)


def parameter(axes: str = "", role: str = "", optional: bool = False) -> Part:
    """Return the description of an array that is trained."""
    return Part(PARAMETER, axes, role, optional)


def constant(axes: str = "", optional: bool = False) -> Part:
    """Return the description of an array that is not trained."""
    return Part(CONSTANT, axes, optional=optional)


def static() -> Part:
    """Return the description of what is no array: names, flags, geometries, functions."""
    return Part(STATIC)


def inner() -> Part:
    """Return the description of a field, layer or module inside."""
    return Part(INNER)


def inners() -> Part:
    """Return the description of a list of fields inside."""
    return Part(INNERS)


def parts_of(kind: type) -> Mapping[str, Part]:
    """Return the parts of a class of fields or layers by name, its geometry last; none of other classes."""
    return _parts_of(kind)


@functools.lru_cache(maxsize=512)  # asked for some ten times in every call of a field that continuation builds anew
def _parts_of(kind: Any) -> Mapping[str, Part]:
    own = getattr(kind, "parts", None)
    ours = isinstance(own, dict) and all(isinstance(part, Part) for part in own.values())
    return MappingProxyType({**own, "geometry": static()} if ours else {})  # type: ignore[dict-item]


@functools.lru_cache(maxsize=512)
def constructor_names(kind: Any) -> tuple[str, ...]:
    """Return the parts that the constructor of a class takes."""
    signature = inspect.signature(kind.__init__)  # type: ignore[misc]
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return tuple(parts_of(kind))
    return tuple(name for name in signature.parameters if name in parts_of(kind))


def formula_of(kind: type) -> type | None:
    """Return the class of formulas that a class of a face gives parameters to; None if it has its own."""
    ours = (c for c in kind.__mro__ if hasattr(c, "parts") and not hasattr(c, "face"))
    return next((c for c in ours if c.__mro__[1] is not object), None)


def inherited_constructor(kind: type) -> Any:
    """Return the constructor of the next class that has one written out; those that faces share have none."""
    found = (c for c in kind.__mro__[1:] if hasattr(c, "parts") and "__init__" in vars(c) and "shared" not in vars(c))
    return vars(next(found))["__init__"]


def inside(part: Part, value: Any) -> list[Any]:
    """Return the fields, layers or modules that a part holds."""
    if part.kind == INNER:
        return [] if value is None else [value]
    return list(value) if part.kind == INNERS else []


def walk(thing: Any, path: tuple = ()) -> Iterator[tuple[tuple, Part, Any]]:
    """Yield place, description and value of every part of a field or layer, and of those inside it.

    A place is made of names, and of numbers within lists: ``("fields", 1, "value")``.
    """
    for name, part in parts_of(type(thing)).items():
        value = getattr(thing, name)
        yield (*path, name), part, value
        for i, each in enumerate(inside(part, value)):
            yield from walk(each, (*path, name, i) if part.kind == INNERS else (*path, name))


def everything(thing: Any) -> Iterator[Any]:
    """Yield a field or layer and all the fields, layers and modules inside it, at any depth."""
    yield thing
    for name, part in parts_of(type(thing)).items():
        for each in inside(part, getattr(thing, name)):
            yield from everything(each)


def wholly_ours(thing: Any) -> bool:
    """Tell whether a field or layer is made of classes of the faces alone, without a function or module of others."""
    return all(type(each).__module__ in ("ctsa.torch", "ctsa.jax") for each in everything(thing))
