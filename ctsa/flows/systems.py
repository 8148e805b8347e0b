"""One shape for what analyses take: a flow ``field(t, x)``, a layer ``layer(x)``, or a sequence of layers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ctsa._backend import autodiff, backend, dtype_name, framework, half, load
from ctsa.calling import Calling
from ctsa.checks import arity, fit_field, tokens
from ctsa.derivatives import layer_pushforward, pushforward
from ctsa.geometry import Geometry, geometry_of
from ctsa.parts import wholly_ours

from .opening import settled

Array = Any


def home_of(layer: Any) -> Any:
    """Return what tells framework and dtype of a field or layer: itself, or what it is made of."""
    if framework(layer):
        return layer
    inside = (getattr(layer, name, None) for name in ("home", "field"))
    return next((part for part in inside if part is not None), layer)


def start_of(x0: Any, home: Any, geometry: Geometry, normalize: bool | None = False, name: str = "x0") -> Array:
    """Check and convert a state; that of a module in half precision is kept in float32, or in float64 if it comes so."""
    own = autodiff(home)
    if own and not hasattr(home, "drift"):
        kind = dtype_name(x0) if hasattr(x0, "dtype") else "float32"
        if half(home, own) and framework(x0) in (None, "numpy", own):
            x = load(own).asarray(x0, kind if kind == "float64" else "float32")
            coarse = kind in ("float16", "bfloat16")
            return tokens(x, None, geometry, normalize=True if coarse else normalize, name=name)
    return tokens(x0, home, geometry, normalize=normalize, name=name)


def packed(source: Any, state: Any) -> Any:
    """Return the state of a loop of several parts as one array, see ``ctsa.Loop.pack``; other states as they are."""
    pack = getattr(source, "pack", None)
    return pack(state) if pack is not None and isinstance(state, dict | tuple) else state


def member_of(layer: Any, at: tuple[int, ...]) -> Any:
    """Return a layer with the inputs of one member of a batch, see ``ctsa.Loop.members``; other layers as they are."""
    return layer.members(at[-1]) if at and hasattr(layer, "members") else layer


@dataclass(frozen=True)
class System:
    """A flow or a map with its geometry.

    Attributes:
        kind: "flow", "layer" or "layers" (a sequence).
        source: the field, the layer, or the tuple of layers.
        geometry: where it lives.
    """

    kind: str
    source: Any
    geometry: Geometry

    @property
    def flow(self) -> bool:
        """Whether time is continuous."""
        return self.kind == "flow"

    @property
    def home(self) -> Any:
        """What tells framework and dtype: the field or layer itself, or what it is made of."""
        return home_of(self.source[0] if self.kind == "layers" else self.source)

    def start(self, x0: Any, normalize: bool | None = False, name: str = "x0") -> Array:
        """Check and convert a state, see ``ctsa.checks.tokens``."""
        parts = self.source if self.kind == "layers" else [self.source]
        x = start_of(packed(parts[0], x0), self.home, self.geometry, normalize, name)
        for part in parts:
            fit_field(part, x.shape, name)
        return x

    def settled(self, x: Array) -> "System":
        """Return the system with a field that is evaluated in the fastest way for tokens like ``x``."""
        return replace(self, source=settled(self.source, x)) if self.flow else self

    def member(self, at: tuple[int, ...]) -> "System":
        """Return the system of one member of a batch: a loop then has the inputs of that member."""
        return replace(self, source=member_of(self.source, at)) if self.kind == "layer" else self

    def image(self, x: Array, t: float = 0.0) -> Array:
        """Return the velocity of a flow at ``x``, or a layer's next state."""
        with Calling(self.source, x, "field" if self.flow else "layer"):
            return self.call(self.source, backend(x).like(t, x), x) if self.flow else self.call(self.source, x)

    def derivative(self, x: Array, u: Array, t: float = 0.0) -> Array:
        """Return the derivative of ``image`` along directions ``u`` of shape ``(k, ..., n, d)``."""
        if self.flow:
            return self.call(pushforward, self.source, backend(x).like(t, x), x, u)[1]
        return self.call(layer_pushforward, self.source, x, u)[1]

    def call(self, f: Any, *args: Any) -> Any:
        """Call as one program what is ours: JAX compiles it once, functions of others it would compile every time."""
        # A part of somebody else's may branch on values, which a program cannot.
        ours = wholly_ours(self.source) and hasattr(self.source, "tangent")
        return backend(args[-1]).call(f, *args) if ours else f(*args)


def system_of(system: Any, geometry: Geometry | None = None) -> System:
    """Tell a flow (two arguments: t, x) from a layer (one argument: x) and from a sequence of layers.

    Raises:
        TypeError: not callable, or the number of arguments does not tell.
    """
    if isinstance(system, Sequence):
        if not system or not all(callable(layer) for layer in system):
            raise TypeError("system must be a field, a layer, or a non-empty sequence of layers")
        own = {geometry_of(layer, geometry) for layer in system}
        if len(own) > 1:
            raise ValueError(f"the layers live on different geometries: {own}")
        return System("layers", tuple(system), own.pop())
    if not callable(system):
        raise TypeError(
            f"system must be a field(t, x), a layer(x), or a sequence of layers, got {type(system).__name__}"
        )
    count = arity(system)
    if count not in (1, 2):
        raise TypeError(
            f"system must be callable as field(t, x) or as layer(x), but takes {count} arguments: wrap it in a function"
        )
    return System("flow" if count == 2 else "layer", system, geometry_of(system, geometry))
