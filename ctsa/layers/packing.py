"""How the parts of a state, each on a manifold of its own, lie in the one array that analyses see."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from ctsa import checks
from ctsa._backend import backend
from ctsa.geometry import Euclidean, Geometry, Product, check_geometry

Array = Any


@dataclass(frozen=True)
class Packing:
    """One array ``(n, d)``, or a tuple or dict of arrays of any shape.

    Parts that are tokens of one dimension on one manifold lie one below the other, ``(n_1 + n_2 + ..., d)``. Others lie one
    after the other in a single row, ``(1, size)``.

    Attributes:
        kind: "array", "tuple" or "dict".
        names: of the parts.
        shapes: of the parts of one member; empty for one array of any ``(n, d)``.
        geometries: where each part lives.
        scales: lengths that the step expects of tokens on the sphere.
    """

    kind: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    geometries: tuple[Geometry, ...]
    scales: tuple[float, ...]

    @property
    def below(self) -> bool:
        """Whether the parts lie one below the other."""
        tokens = {(len(shape), shape[-1]) for shape in self.shapes}
        return len(tokens) == 1 and next(iter(tokens))[0] == 2 and len(set(self.geometries)) == 1

    @property
    def geometry(self) -> Geometry:
        """Where the packed state lives."""
        if not self.shapes or self.below:
            return self.geometries[0]
        return Euclidean() if all(g.flat for g in self.geometries) else Product(self.shapes, self.geometries)

    @property
    def shape(self) -> tuple[int, int] | None:
        """Shape of a packed state; None if that is not fixed."""
        if not self.shapes:
            return None
        rows = [_tokens(shape) for shape in self.shapes]
        return (sum(n for n, _ in rows), rows[0][1]) if self.below else (1, sum(n * d for n, d in rows))

    def columns(self, x: Array) -> dict[str, Array]:
        """Return the parts of packed states ``(..., n, d)`` by name, each ``(..., n_i, d_i)``."""
        if not self.shapes:
            return {self.names[0]: x}
        found, at = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            if self.below:
                found[name] = x[..., at : at + shape[0], :]
                at += shape[0]
            else:
                size = prod(shape)
                found[name] = x[..., 0, at : at + size].reshape(*x.shape[:-2], *_tokens(shape))
                at += size
        return found

    def take(self, x: Array) -> Any:
        """Return packed states ``(..., n, d)`` as the step knows them, with the same leading axes and ``scale``."""
        batch = tuple(x.shape[:-2])
        if not self.shapes:
            return self.scales[0] * x if self.scales[0] != 1 else x
        parts = [
            (a if scale == 1 else scale * a).reshape(*batch, *shape)
            for a, scale, shape in zip(self.columns(x).values(), self.scales, self.shapes, strict=True)
        ]
        return dict(zip(self.names, parts, strict=True)) if self.kind == "dict" else self._nested(parts)

    def _nested(self, parts: list) -> Any:
        return tuple(parts) if self.kind == "tuple" else parts[0]

    def parts(self, state: Any, what: str = "state") -> list[Array]:
        """Return the parts of a state in their order, checked against names and shapes.

        Raises:
            TypeError, ValueError: it has other parts, or other shapes.
        """
        if self.kind == "dict":
            if not isinstance(state, Mapping) or set(state) != set(self.names):
                got = f"a dict of {', '.join(map(repr, state))}" if isinstance(state, Mapping) else type(state).__name__
                raise TypeError(f"{what} must be a dict of {', '.join(map(repr, self.names))}, got {got}")
            parts = [state[name] for name in self.names]
        elif self.kind == "tuple":
            if not isinstance(state, (tuple, list)) or len(state) != len(self.names):
                got = f"{len(state)} entries" if isinstance(state, (tuple, list)) else type(state).__name__
                raise TypeError(f"{what} must be a tuple of {len(self.names)} arrays, as parts= says, got {got}")
            parts = list(state)
        else:
            parts = [state]
        for name, a, shape in zip(self.names, parts, self.shapes or [()] * len(parts), strict=True):
            which = what if self.kind == "array" else f"part {name!r} of {what}"
            if not hasattr(a, "shape"):
                raise TypeError(f"{which} must be an array, got {type(a).__name__}")
            if shape and tuple(a.shape)[-len(shape) :] != shape:
                raise ValueError(f"{which} must have shape (..., {', '.join(map(str, shape))}), got {tuple(a.shape)}")
        batches = {tuple(a.shape[: a.ndim - len(s)]) for a, s in zip(parts, self.shapes, strict=False)}
        if len(batches) > 1:
            raise ValueError(f"the parts of {what} must have the same leading axes, got {sorted(batches)}")
        return parts

    def put(self, state: Any, what: str = "state") -> Array:
        """Return a state ``(..., *shape)`` as one array ``(..., n, d)``: the inverse of ``take``, before normalisation."""
        parts = self.parts(state, what)
        if not self.shapes:
            return parts[0]
        be = backend(parts[0])
        flat = []
        for a, scale, shape in zip(parts, self.scales, self.shapes, strict=True):
            rows = _tokens(shape) if self.below else (1, prod(shape))
            a = a.reshape(*a.shape[: a.ndim - len(shape)], *rows)
            flat.append(a if scale == 1 else a / scale)
        return be.xp.concatenate(flat, -2 if self.below else -1)


def _tokens(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a part as tokens."""
    return prod(shape[:-1]), shape[-1] if shape else 1


def packing_of(parts: Any, geometry: Any, scale: Any) -> Packing:
    """Read ``parts=``, ``geometry=`` and ``scale=`` of a loop."""
    shapes: tuple[tuple[int, ...], ...] = ()
    names: tuple[str, ...] = ("x",)
    if parts is None:
        kind = "array"
    elif isinstance(parts, Mapping):
        kind, names = "dict", tuple(parts)
        shapes = tuple(_shape(name, parts[name]) for name in names)
    elif isinstance(parts, (tuple, list)) and not all(hasattr(p, "__index__") and not hasattr(p, "shape") for p in parts):
        kind, names = "tuple", tuple(map(str, range(len(parts))))
        shapes = tuple(_shape(name, part) for name, part in zip(names, parts, strict=True))
    else:
        kind, shapes = "array", (_shape("parts", parts),)
    if not names:
        raise ValueError("parts must name at least one part of the state")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"the names of parts must be strings, got {names}")
    own = [check_geometry(g) for g in _each("geometry", geometry, names, Euclidean())]
    scales = [checks.number("scale", s, low=0.0, strict=True) for s in _each("scale", scale, names, 1.0)]
    for name, g, s, shape in zip(names, own, scales, shapes or [()] * len(names), strict=True):
        if s != 1 and not g.radial:
            raise ValueError(f"scale is the length of tokens on the sphere; in {g.place} leave it at 1")
        if shape:
            g.check_dimension(_tokens(shape)[1])
            if g.dimension(*_tokens(shape)) == 0:
                raise ValueError(f"part {name!r} of shape {shape} cannot move on {g.place}")
    return Packing(kind, names, shapes, tuple(own), tuple(scales))


def _each(what: str, value: Any, names: tuple[str, ...], default: Any) -> list[Any]:
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in names]
        if unknown:
            raise ValueError(f"{what} names {unknown[0]!r}, which is no part of the state: {', '.join(map(repr, names))}")
        return [value.get(name, default) for name in names]
    if isinstance(value, (tuple, list)):
        if len(value) != len(names):
            raise ValueError(f"{what} must have an entry for each of the {len(names)} parts, got {len(value)}")
        return list(value)
    return [default if value is None else value] * len(names)


def _shape(name: str, part: Any) -> tuple[int, ...]:
    if hasattr(part, "shape"):
        part = tuple(part.shape)
    if not isinstance(part, (tuple, list)):
        raise TypeError(f"parts: {name} must be a shape, or an array of one member, got {type(part).__name__}")
    shape = tuple(checks.integer(f"parts: sizes of {name}", size, low=1) for size in part)
    if not shape:
        raise ValueError(f"parts: {name} must have at least one axis, got shape ()")
    return shape
