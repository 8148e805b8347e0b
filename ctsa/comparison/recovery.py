"""Read layers as Euler steps of a flow: exactly for layers that know theirs, by a best fit for any module."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, framework, load
from ctsa.flows.opening import check_velocity
from ctsa.flows.systems import home_of
from ctsa.geometry import Geometry, geometry_of
from ctsa.layers import EulerLayer, Layer
from ctsa.layers.wrap import WrappedLayer
from ctsa.results.base import Result, as_numpy, picture

Array = Any
_STATES, _TOKENS, _DIMENSION = 16, 6, 4  # random states to try a layer on, where nothing else fixes their sizes


# ------------------------------------------------------------------------------------------------- layers with a flow
@dataclass(frozen=True)
class EulerForm:
    """A layer as Euler steps of a flow: ``layer(x) = N(x + steps(x) field(x))``, with the evidence. See ``as_euler``.

    Attributes:
        layer: the layer.
        field: the field of the flow.
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
    step: float
    constant: bool
    difference: float
    smallest: float
    largest: float
    flips: float
    states: int

    def steps(self, x: Array) -> Array:
        """Return the step of every token of a state ``(..., n, d)``: ``(..., n)``, or ``(..., n, oscillators)``."""
        return self.layer.euler_step(checks.tokens(x, home_of(self.layer), self.layer.geometry, name="x"))

    def __repr__(self) -> str:
        size = f"step={self.step:g}" if self.constant else f"steps {self.smallest:.3g} ... {self.largest:.3g}"
        flips = f", flips={self.flips:.1%}" if self.flips else ""
        return (
            f"EulerForm({type(self.layer).__name__}: {size} of the flow of {type(self.field).__name__}, "
            f"difference={self.difference:.1e} on {self.states} states{flips})"
        )


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
    v = be.call(field, be.like(getattr(layer, "time", 0.0), x), x)
    sign = be.xp.where(s < 0, -be.xp.ones_like(s), be.xp.ones_like(s))
    euler = g.spread(sign, g.retract(x + g.spread(s, v)))
    difference = _farthest(y, euler)
    steps, step = as_numpy(s), float(as_numpy(layer.flow_step))
    constant = bool((steps == np.asarray(step, dtype=steps.dtype)).all())
    if constant:
        plain = EulerLayer(field, step, geometry=g, time=getattr(layer, "time", 0.0))
        difference = max(difference, _farthest(y, be.call(plain, x)))
    return EulerForm(
        layer, field, step, constant, difference, float(steps.min()), float(steps.max()), float((steps < 0).mean()),
        int(np.prod(x.shape[:-2])),
    )  # fmt: skip


def _farthest(a: Array, b: Array) -> float:
    return float(np.abs(as_numpy(a) - as_numpy(b)).max())


def _sizes(field: Any, geometry: Geometry) -> tuple[int, int]:
    """Return numbers of tokens and of components that fit the parameters of a field."""
    found = checks.sizes(field)
    group = geometry.channels or 1
    return found.get("n", _TOKENS), found.get("d", _DIMENSION * group)


# --------------------------------------------------------------------------------------------------------- any module
@dataclass(frozen=True)
class EffectiveStep(Result):
    """How much of a move ``x -> x'`` a field explains, see ``effective_step``. Arrays are NumPy, one number a token.

    Attributes:
        steps: best step of every token (oscillator), ``(..., n)``; nan where it turned by a right angle or more, or where
            the field vanishes.
        residuals: share of the update that no step explains, in [0, 1], ``(..., n)``; nan where it turned too far.
        angles: how far every token moved, radians (flat space: a length).
        turned: whether it turned by a right angle or more.
        common_step: the one step for all tokens that explains most.
        common_residual: share of all updates together that this step does not explain; nan if nothing moves beyond
            rounding, or all tokens turn too far.
        channels: components of an oscillator, 0 for whole tokens; with them the arrays are ``(..., n, oscillators)``.
    """

    steps: Any
    residuals: Any
    angles: Any
    turned: Any
    common_step: float
    common_residual: float
    channels: int = 0
    _static: ClassVar[tuple[str, ...]] = ("common_step", "common_residual", "channels")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("steps", "residuals", "angles", "turned"), ("...", "token")
    )

    def _axes_of(self, name: str, ndim: int, outer: list[str]) -> list[str]:
        names = super()._axes_of(name, ndim - bool(self.channels), outer)
        return [*names, "oscillator"] if self.channels else names

    def __repr__(self) -> str:
        turned = f", {int(np.sum(self.turned))} turned too far" if np.any(self.turned) else ""
        if np.isnan(self.common_residual) and not np.all(self.turned):
            return f"EffectiveStep(x does not move, {np.size(self.steps)} tokens: no update to explain)"
        return (
            f"EffectiveStep(step={self.common_step:.4g}, unexplained={self.common_residual:.2%}, "
            f"{np.size(self.steps)} tokens{turned})"
        )

    def table(self) -> str:
        """Return a table as text: quantiles over tokens of step, unexplained share and angle."""
        lines = [f"{'over tokens':<24}{'least':>10}{'median':>10}{'most':>10}"]
        rows = (("step", self.steps), ("unexplained share", self.residuals), ("angle moved", self.angles))
        for name, values in rows:
            kept = np.asarray(values)[np.isfinite(values)]
            numbers = (kept.min(), np.median(kept), kept.max()) if kept.size else (np.nan,) * 3
            lines.append(f"{name:<24}" + "".join(f"{v:>10.4g}" for v in numbers))
        lines.append(f"one step for all: {self.common_step:.4g}, unexplained {self.common_residual:.4g}")
        lines.append(f"turned by a right angle or more: {int(np.sum(self.turned))} of {np.size(self.turned)}")
        return "\n".join(lines)

    def plot(self, ax=None, **kwargs):
        """Draw step and unexplained share of every token; return the ``Axes``."""
        return picture("comparison.effective")(self, ax=ax, **kwargs)


@analysis
def effective_step(
    module: Callable[[Array], Any],
    x: Any,
    field: Any = None,
    *,
    t: float = 0.0,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> EffectiveStep:
    """Fit Euler steps of a field to what any module does to tokens, and say what no step explains.

    On the sphere an Euler step goes along a straight line in the gnomonic chart at x, where ``x' = N(x + s v)`` is
    ``w = x' / <x, x'> - x = s v``. So for every token the best step and the unexplained share are::

        s = <w, v> / <v, v>,      residual = |w - s v| / |w|,

    exact for Euler and post-norm layers of the field (residual 0). In flat space ``w = x' - x``. Angles in the chart are
    stretched: a token that turns by a right angle leaves it, and is flagged.

    Args:
        module: a layer, or any callable ``x -> x'`` that keeps the shape; its outputs are normalised. For modules that
            want a batch axis or another length of tokens, see ``WrappedLayer``.
        x: unit tokens ``(..., n, d)``.
        field: any field ``(t, x)``; None takes that of the layer.
        t: time at which the field is read.
        geometry: where bare callables live.
        normalize: normalise ``x`` first.

    Returns:
        ``EffectiveStep``.

    Raises:
        ValueError: no field is given and the layer has none, the module changes the shape, or the geometries of layer
            and field differ.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(beta=2.0)
        >>> fit = ctsa.effective_step(ctsa.EulerLayer(field, 0.25), ctsa.random_tokens(8, 3), field)
        >>> round(fit.common_step, 12), fit.common_residual < 1e-14
        (0.25, True)
    """
    if not callable(module):
        raise TypeError(f"module must be callable as module(x), got {type(module).__name__}")
    if field is None:
        field = getattr(module, "field", None)
        if field is None:
            why = getattr(module, "no_flow", None) or "a plain callable does not say which flow it is a step of"
            raise ValueError(f"field is needed to compare {type(module).__name__} with: {why}")
    elif not callable(field):
        raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
    g = geometry_of(field, geometry if geometry is not None else getattr(module, "geometry", None))
    layer = module if isinstance(module, Layer) else WrappedLayer(module, geometry=g)
    homes = [a for a in (home_of(layer), field) if framework(a)]
    home = homes[0] if homes else x
    kinds = {str(r.dtype) for a in homes if (r := load(str(framework(a))).reference(a)) is not None}
    if len(kinds) > 1:
        raise TypeError(
            f"module and field are of different precision ({', '.join(sorted(kinds))}): convert one, e.g. module.double()"
        )
    state = checks.tokens(x, home, g, normalize=normalize, name="x")
    checks.fit_field(field, state.shape, "x")
    be = backend(state)
    if not hasattr(field, "drift"):
        check_velocity(be, field, g, be.like(t, state), state)
    moved = be.call(layer, state)
    if getattr(moved, "shape", None) != state.shape:
        raise ValueError(f"module must keep the shape of x, {tuple(state.shape)}, got {getattr(moved, 'shape', moved)}")
    v = as_numpy(be.call(field, be.like(t, state), state)).astype(float)
    for name, values in (("module", as_numpy(moved)), ("field", v)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} returned nan or inf at x: there is no step to find")
    return _fit(g, as_numpy(state).astype(float), as_numpy(moved).astype(float), v, float(be.xp.finfo(state.dtype).eps))


def _fit(g: Geometry, x: np.ndarray, y: np.ndarray, v: np.ndarray, eps: float) -> EffectiveStep:
    """Fit steps, all arrays ``(..., n, d)``."""
    w, turned = g.chart(x, y)
    ww, wv, vv = (np.asarray(g.inner(a, b)) for a, b in ((w, w), (w, v), (v, v)))
    steps = np.where(turned | (vv == 0), np.nan, wv / np.where(vv == 0, 1.0, vv))
    left = w - np.asarray(g.spread(np.nan_to_num(steps), v))
    rest = np.sqrt(np.asarray(g.inner(left, left)) / np.where(ww == 0, 1.0, ww))
    residuals = np.where(turned, np.nan, rest)
    kept = ~turned
    total, common = float(ww[kept].sum()), float("nan")
    if vv[kept].sum() > 0:
        common = float(wv[kept].sum() / vv[kept].sum())
    away = w - (0.0 if np.isnan(common) else common) * v
    share = float(np.sqrt(np.asarray(g.inner(away, away))[kept].sum() / total)) if total > 0 else 0.0
    angles = np.asarray(g.distance(x, y))
    if not kept.any() or angles.max() <= 8 * eps * max(1.0, float(np.abs(x).max())):
        share = float("nan")  # nothing moved beyond rounding: no update to explain
    return EffectiveStep(steps, residuals, angles, turned, common, share, g.channels or 0)
