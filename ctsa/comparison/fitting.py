"""Fit Euler steps of a field to what any module does to tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, autodiff, backend, framework, modules, rounding
from ctsa._types import States
from ctsa.flows.opening import check_velocity
from ctsa.flows.systems import home_of
from ctsa.geometry import Geometry, geometry_of
from ctsa.layers import Layer
from ctsa.layers.wrap import WrappedLayer
from ctsa.results.base import Result, as_numpy, picture

Array = Any


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
        geometry: where tokens live, a ``ctsa.Geometry``; where they are oscillators, the arrays are
            ``(..., n, oscillators)``.
    """

    steps: Any
    residuals: Any
    angles: Any
    turned: Any
    common_step: float
    common_residual: float
    geometry: Any
    _static: ClassVar[tuple[str, ...]] = ("common_step", "common_residual", "geometry")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("steps", "residuals", "angles", "turned"), ("...", "token")
    )

    def _axes_of(self, name: str, ndim: int, outer: list[str]) -> list[str]:
        oscillators = self.geometry.channels is not None
        names = super()._axes_of(name, ndim - oscillators, outer)
        return [*names, "oscillator"] if oscillators else names

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
    x: States,
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
    home = homes[0] if homes else field
    kinds = {str(r.dtype) for a in homes if (r := modules(autodiff(a)).reference(a)) is not None}
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
    return _fit(g, as_numpy(state).astype(float), as_numpy(moved).astype(float), v, rounding(state))


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
    return EffectiveStep(steps, residuals, angles, turned, common, share, g)
