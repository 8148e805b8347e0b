"""What all layers share: a move in the ambient space, then normalisation; steps of a field."""

from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, backend, framework, on_graph
from ctsa.derivatives import jvp_batched
from ctsa.geometry import Geometry, geometry_of
from ctsa.parts import Part, constant, inner, parameter, parts_of

Array = Any


def time_of(layer: Any) -> Any:
    """Return when a layer of ours stands, for fields that depend on time; 0 for all that say nothing about it."""
    return layer.t if "t" in parts_of(type(layer)) else 0.0


class Layer:
    """What all layers share: a move in the ambient space, then normalisation, and the derivative of both.

    A layer tells which flow it is a step of: ``field``, with step size ``step``. Where there is none, ``field`` is None
    and ``no_flow`` says why.

    Plain layers of ``ctsa`` hold numbers; those of ``ctsa.torch`` and ``ctsa.jax`` hold parameters that can be learnt.
    """

    field: Any
    geometry: Geometry
    no_flow: str | None = None
    parts: ClassVar[dict[str, Part]] = {}

    def _assign(self, **values: Any) -> None:
        parts = parts_of(type(self))
        for name, value in values.items():
            if value is not None and parts[name].is_array:
                if on_graph(value):
                    kind = type(self).__name__
                    raise TypeError(
                        f"{name} is traced or requires a gradient, but ctsa.{kind} holds plain numbers: use the {kind} of "
                        f"ctsa.{autodiff(value)}, whose {name} can be learnt, or pass its value"
                    )
                value = np.asarray(checks.concrete(value), dtype=float)
                value = float(value) if value.ndim == 0 else value
            setattr(self, name, value)

    @property
    def home(self) -> Any:
        """What tells framework and dtype: the layer itself, or its field."""
        return self if framework(self) else self.field

    @property
    def flow_step(self) -> Any:
        """The size of the step of the flow of ``field``; None where there is no flow."""
        return None if self.field is None or self.no_flow else self.step  # type: ignore[attr-defined]

    def tokens(self, u: Array) -> Array:
        """Return the tokens of the model at a state of the layer: here the state itself."""
        return u

    def units(self, x: Array) -> Array:
        """Return the state of the layer at tokens ``x`` of the model, the inverse of ``tokens``: here ``N(x)``."""
        return self.geometry.retract(x)

    def arguments(self) -> dict[str, Any]:
        """Return what the layer is made of, by name."""
        return {name: getattr(self, name) for name in parts_of(type(self))}

    def describe(self) -> str:
        """Return the numbers that matter, for ``repr``."""
        return f"step={shown(self.step)}"  # type: ignore[attr-defined]

    def move(self, x: Array) -> Array:
        """Return the next state before normalisation, of the shape of ``x``."""
        raise NotImplementedError

    def move_tangent(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return ``move(x)`` and its derivative along ``u`` of shape ``(k, ..., n, d)``."""
        return jvp_batched(self.move, x, u)

    def euler_step(self, x: Array) -> Array:
        """Return ``s`` such that ``layer(x) = N(x + s field(x))``: one number a token (or oscillator)."""
        raise ValueError(f"{type(self).__name__} is no Euler step of a flow")

    def update(self, x: Array) -> Array:
        """Return the next state, of the shape of ``x``."""
        return self.geometry.retract(self.move(x))

    def tangent(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the next state and its derivative along ``u`` of shape ``(k, ..., n, d)``.

        ``N(y) = y / |y|`` has the derivative ``P_y / |y|``.
        """
        y, dy = self.move_tangent(x, u)
        return self.geometry.retract(y), self.geometry.retract_tangent(y, dy)

    def __call__(self, x: Array) -> Array:
        home = self.home
        return self.update(checks.given(x, home) if hasattr(home, "drift") else x)


def no_step(step: Any) -> str | None:
    """Say why a step, which may have been learnt, is none of a flow; None where it is one, or is traced."""
    size = step if isinstance(step, float) else checks.concrete(step)
    return None if size is None or size > 0 else f"step is {float(size):g}, and a flow's step is positive"


def shown(number: Any) -> str:
    """Return a number of a layer as text, also where it is traced."""
    values = number if isinstance(number, float) else checks.concrete(number)
    return "traced" if values is None else f"{float(values):g}" if np.ndim(values) == 0 else "vector"


def check_field(layer: Any, field: Any) -> None:
    """Raise unless ``field`` is callable and of the framework of ``layer``."""
    if not callable(field) or isinstance(field, Layer):
        raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
    home, own = framework(layer), framework(field)
    if None not in (home, own) and home != own:
        kind = type(layer).__name__
        raise TypeError(f"field is one of {own}, but the layer is one of {home}: use the {kind} of ctsa.{own}")


def check_step(step: Any) -> Any:
    """Return a positive number, or a scalar array."""
    step = checks.parameter("step", step, 0)
    if step is None:
        raise TypeError("step must be a positive number, got None")
    size = checks.concrete(step)
    if size is not None and not 0 < float(size) < 1e100:  # squares of what it moves must not overflow
        raise ValueError(f"step must be positive, and below 1e100, got {float(size):g}")
    return step


class FieldStep(Layer):
    """A step of a given field: what ``EulerLayer``, ``PostNormLayer`` and ``RungeKuttaLayer`` share."""

    step: Any
    t: Any
    parts = dict(field=inner(), step=parameter(), t=constant())

    @property
    def no_flow(self):  # type: ignore[override]
        """Why the layer is no step of the flow of ``field``, or None: a step that was learnt may be negative."""
        return no_step(self.step)

    def _step_of(self, field, step, geometry, t, **static):
        check_field(self, field)
        t = checks.parameter("t", t, 0)
        if t is None:
            raise TypeError("t must be a number, got None")
        own = geometry_of(field, geometry)
        self._assign(step=check_step(step), t=t, field=field, geometry=own, **static)

    def _now(self, x: Array) -> Array:
        return backend(x).like(self.t, x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()}, field={type(self.field).__name__})"
