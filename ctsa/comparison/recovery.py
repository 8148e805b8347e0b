"""Read layers that know their flow as Euler steps of it, and prove it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend
from ctsa.flows.systems import home_of
from ctsa.geometry import Geometry
from ctsa.layers import EulerLayer, Layer
from ctsa.layers.base import time_of
from ctsa.results.base import Result, as_numpy
from ctsa.results.text import lines

Array = Any
_STATES, _TOKENS, _DIMENSION = 16, 6, 4  # random states to try a layer on, where nothing else fixes their sizes


@dataclass(frozen=True)
class EulerForm(Result):
    """A layer as Euler steps of a flow: ``layer(x) = N(x + steps(x) field(x))``, with the evidence. See ``as_euler``.

    Files keep the numbers and the names. Layer and field are code, which no file keeps: they come back as None.

    Attributes:
        layer: the layer.
        field: the field of the flow.
        layer_name: class of the layer.
        field_name: class of the field.
        step: size of the step in the limit of small steps (``layer.flow_step``).
        constant: whether every token takes steps of exactly that size.
        difference: largest difference between both sides over all components of all states tried.
        smallest: smallest step that a token took; negative where one jumped to the far side.
        largest: largest step.
        flips: share of tokens (oscillators) that jumped to the far side: ``layer(x) = -N(x + s field(x))``, s < 0.
        states: how many states were tried.
    """

    layer: Any
    field: Any
    layer_name: str
    field_name: str
    step: float
    constant: bool
    difference: float
    smallest: float
    largest: float
    flips: float
    states: int
    _code: ClassVar[tuple[str, ...]] = ("layer", "field")
    _static: ClassVar[tuple[str, ...]] = (
        "layer_name", "field_name", "step", "constant", "difference", "smallest", "largest", "flips", "states",
    )  # fmt: skip

    def steps(self, x: Array) -> Array:
        """Return the step of every token of a state ``(..., n, d)``: ``(..., n)``, or ``(..., n, oscillators)``.

        Raises:
            ValueError: this form came from a file, which keeps no layer.
        """
        if self.layer is None:
            raise ValueError(
                f"this form came from a file, which does not keep the {self.layer_name} itself: ctsa.as_euler(layer), or "
                "dataclasses.replace(form, layer=layer)"
            )
        return self.layer.euler_step(checks.tokens(x, home_of(self.layer), self.layer.geometry, name="x"))

    def __repr__(self) -> str:
        size = f"step={self.step:g}" if self.constant else f"steps {self.smallest:.3g} ... {self.largest:.3g}"
        flips = f", flips={self.flips:.1%}" if self.flips else ""
        return (
            f"EulerForm({self.layer_name}: {size} of the flow of {self.field_name}, "
            f"difference={self.difference:.1e} on {self.states} states{flips})"
        )

    def table(self) -> str:
        """Return the form and the evidence as text, a line each."""
        kind = "of this size for every token" if self.constant else "by token and state"
        return lines([
            ("layer", self.layer_name), ("field", self.field_name), ("step, for small steps", self.step),
            ("steps taken", f"{self.smallest:.4g} ... {self.largest:.4g}, {kind}"),
            ("tokens that jumped", f"{self.flips:.1%}"), ("largest difference", f"{self.difference:.1e}"),
            ("states tried", self.states),
        ])  # fmt: skip


@analysis
def as_euler(layer: Any, states: Any = None, seed: int = 0) -> EulerForm:
    """Recover field and step of a layer, and prove it: compare ``layer(x)`` with ``N(x + s field(x))`` on states.

    The steps s are those the layer names, ``layer.euler_step(x)``: one number for ``EulerLayer`` and ``AKOrN``, one a
    token that depends on the state for ``PostNormLayer``, ``ItrSA`` and the geodesic retraction. A layer with one number
    is also compared with ``EulerLayer(field, step)``.

    Args:
        layer: a layer of ours, or a ``Layer`` of yours that has ``field`` and ``euler_step``.
        states: ``(..., n, d)``; None draws 16 random ones of the size that the parameters ask for.
        seed: of the random states.

    Returns:
        ``EulerForm``; ``difference`` is rounding error if the layer is what it says.

    Raises:
        ValueError: the layer is no Euler step: a vector gamma, a Runge--Kutta layer, a wrapped module.
        TypeError: not a layer of ours; ``effective_step`` takes any callable.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> form = ctsa.as_euler(ctsa.PostNormLayer(SelfAttention(beta=2.0), step=0.5))
        >>> form.step, form.constant, form.difference < 1e-14
        (0.5, False, True)
    """
    if not isinstance(layer, Layer):
        raise TypeError(
            f"layer must be a layer of ctsa, which knows its flow, got {type(layer).__name__}: "
            "ctsa.effective_step(module, x, field) compares any callable with a field"
        )
    if layer.field is None or layer.no_flow:
        raise ValueError(f"{type(layer).__name__} has no flow: {layer.no_flow}")
    field, g = layer.field, layer.geometry
    if states is None:
        n, d = _sizes(field, g)
        g.check_dimension(d)
        states = g.random(n, d, np.random.default_rng(checks.seed(seed)), (_STATES,))
    x = checks.tokens(states, home_of(layer), g, name="states")
    checks.fit_field(field, x.shape, "states")
    be = backend(x)
    y, s = be.call(layer, x), layer.euler_step(x)
    v = be.call(field, be.like(time_of(layer), x), x)
    sign = be.xp.where(s < 0, -be.xp.ones_like(s), be.xp.ones_like(s))
    euler = g.spread(sign, g.retract(x + g.spread(s, v)))
    difference = _farthest(y, euler)
    steps, step = as_numpy(s), float(as_numpy(layer.flow_step))
    constant = bool((steps == np.asarray(step, dtype=steps.dtype)).all())
    if constant:
        plain = EulerLayer(field, step, geometry=g, t=time_of(layer))
        difference = max(difference, _farthest(y, be.call(plain, x)))
    return EulerForm(
        layer, field, type(layer).__name__, type(field).__name__, step, constant, difference, float(steps.min()),
        float(steps.max()), float((steps < 0).mean()), int(np.prod(x.shape[:-2])),
    )  # fmt: skip


def _farthest(a: Array, b: Array) -> float:
    return float(np.abs(as_numpy(a) - as_numpy(b)).max())


def _sizes(field: Any, geometry: Geometry) -> tuple[int, int]:
    """Return numbers of tokens and of components that fit the parameters of a field."""
    found = checks.sizes(field)
    group = geometry.channels or 1
    return found.get("n", _TOKENS), found.get("d", _DIMENSION * group)
