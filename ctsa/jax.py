"""The JAX face: every field and layer as an ``eqx.Module`` whose parameters are pytree leaves.

Needs jax, equinox and diffrax (``pip install 'ctsa[jax]'``); never imports torch. The classes, their constructors and
their attributes are those of ``ctsa.torch``. For float64 call ``jax.config.update("jax_enable_x64", True)`` first.
"""

from typing import Any

try:
    import diffrax as _diffrax  # noqa: F401  (imported for the message below)
    import equinox as eqx
    import jax as _jax
except ImportError as error:
    raise ImportError(f"ctsa.jax needs {error.name}: pip install 'ctsa[jax]'") from error

from . import checks, fields as formulas
from ._backend import load
from .attention.weights import Weights
from .flows.systems import start_of
from .geometry import Geometry
from .layers import base, euler, normalisation, recurrent, runge_kutta, wrap
from .results import base as _results

_be = load("jax")

__all__ = [
    "AKOrN", "EnergyAttention", "EulerLayer", "Field", "Injection", "ItrSA", "Oja", "Perceptron", "PostNormLayer",
    "Rescaled", "Rotation", "RungeKuttaLayer", "Scaled", "SelfAttention", "SpeedRegulated", "Sum", "WrappedLayer",
    "from_torch",
]  # fmt: skip


class _Assign(eqx.Module):
    """Store parameters and constants as array leaves, the rest as it is."""

    def _assign(self, parameters: dict[str, Any], constants: dict[str, Any], **static: Any) -> None:
        given = [*parameters.values(), *constants.values()]
        dtype = checks.common_dtype(given) or checks.common_dtype([_be.reference(v) for v in static.values()])
        for name, value in (*parameters.items(), *constants.items()):
            setattr(self, name, None if value is None else _be.asarray(value, dtype, name=name))
        for name, value in static.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)


class Field(_Assign, formulas.Field):
    """Base of the fields of this face: ``field(t, x)`` is the velocity; parameters are leaves of the pytree."""

    def __call__(self, t, x):
        return self.velocity(t, checks.given(x, self))

    def tangent(self, t, x, u):
        x = checks.given(x, self)
        u = u if isinstance(u, _jax.Array) else _be.asarray(checks.plain("u", u), str(x.dtype), x, "u")
        checks.directions(x, u)
        return super().tangent(t, x, u)

    def _sum(self, terms):
        return Sum(terms)

    def _scaled(self, field, factor):
        return Scaled(field, factor)

    def rescaled(self, gain, bias=None):
        return Rescaled(self, gain, bias)


class SelfAttention(formulas.SelfAttention, Field):
    __doc__ = formulas.SelfAttention.__doc__
    query: Any
    key: Any
    value: Any
    beta: Any
    key_field: Any
    mask: Any
    causal: bool = eqx.field(static=True)
    weights: Weights = eqx.field(static=True)
    tangent_form: str = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.SelfAttention.__init__


class Oja(formulas.Oja, Field):
    __doc__ = formulas.Oja.__doc__
    value: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Oja.__init__


class Rotation(formulas.Rotation, Field):
    __doc__ = formulas.Rotation.__doc__
    omega: Any
    frequencies: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Rotation.__init__


class Injection(formulas.Injection, Field):
    __doc__ = formulas.Injection.__doc__
    input: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Injection.__init__


class Perceptron(formulas.Perceptron, Field):
    __doc__ = formulas.Perceptron.__doc__
    weight_in: Any
    weight_out: Any
    bias_in: Any
    bias_out: Any
    activation: str = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Perceptron.__init__


class EnergyAttention(formulas.EnergyAttention, Field):
    __doc__ = formulas.EnergyAttention.__doc__
    query: Any
    key: Any
    beta: Any
    memory: Any
    mask: Any
    gain: Any
    bias: Any
    causal: bool = eqx.field(static=True)
    eps: float = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.EnergyAttention.__init__


class SpeedRegulated(normalisation.SpeedRegulated, Field):
    __doc__ = normalisation.SpeedRegulated.__doc__
    field: Any
    alpha: Any
    switch: Any
    scheme: str = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = normalisation.SpeedRegulated.__init__


class Sum(formulas.Sum, Field):
    __doc__ = formulas.Sum.__doc__
    fields: tuple
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Sum.__init__


class Scaled(formulas.Scaled, Field):
    __doc__ = formulas.Scaled.__doc__
    field: Any
    factor: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Scaled.__init__


class Rescaled(formulas.Rescaled, Field):
    __doc__ = formulas.Rescaled.__doc__
    field: Any
    gain: Any
    bias: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = formulas.Rescaled.__init__


class _Layer(_Assign):
    def __call__(self, x):
        return self.update(checks.given(x, self))


class EulerLayer(_Layer, euler.EulerLayer):
    __doc__ = euler.EulerLayer.__doc__
    field: Any
    step: Any
    time: Any
    retraction: str = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = euler.EulerLayer.__init__


class PostNormLayer(_Layer, euler.PostNormLayer):
    __doc__ = euler.PostNormLayer.__doc__
    field: Any
    step: Any
    time: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = euler.PostNormLayer.__init__


class RungeKuttaLayer(_Layer, runge_kutta.RungeKuttaLayer):
    __doc__ = runge_kutta.RungeKuttaLayer.__doc__
    field: Any
    step: Any
    time: Any
    method: str = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = runge_kutta.RungeKuttaLayer.__init__


class ItrSA(_Layer, recurrent.ItrSA):
    __doc__ = recurrent.ItrSA.__doc__
    attention: Any
    step: Any
    gamma: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = recurrent.ItrSA.__init__


class AKOrN(_Layer, recurrent.AKOrN):
    __doc__ = recurrent.AKOrN.__doc__
    coupling: Any
    rotation: Any
    step: Any
    identity: bool = eqx.field(static=True)
    project: bool = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = recurrent.AKOrN.__init__


class WrappedLayer(_Layer, wrap.WrappedLayer):
    __doc__ = wrap.WrappedLayer.__doc__
    module: Any
    scale: float = eqx.field(static=True)
    batched: bool = eqx.field(static=True)
    pick: Any = eqx.field(static=True)
    check: bool = eqx.field(static=True)
    geometry: Geometry = eqx.field(static=True)
    __init__ = wrap.WrappedLayer.__init__

    def __call__(self, x):
        return self.update(x if isinstance(x, _jax.Array) else start_of(x, self, self.geometry))


def from_torch(field: Any) -> Any:
    """Rebuild a field of ``ctsa.torch`` in JAX, keeping every parameter.

    Example:
        >>> import ctsa.jax, ctsa.torch
        >>> float(ctsa.jax.from_torch(ctsa.torch.SelfAttention(beta=2.0)).beta)
        2.0
    """
    import sys

    return formulas.convert(field, sys.modules[__name__])


for _result in _results.Result.kinds.values():
    _data, _meta = _result.leaves()
    _jax.tree_util.register_dataclass(_result, _data, _meta)


def _plain_layer(kind: type[base.Layer]) -> None:
    """Register a layer of ``ctsa`` itself, outside of both faces, as a pytree."""

    def flatten(layer):
        return [getattr(layer, name) for name in kind._leaves], tuple(getattr(layer, name) for name in kind._static)

    def unflatten(static, leaves):
        layer = object.__new__(kind)
        layer.__dict__.update(zip((*kind._leaves, *kind._static), (*leaves, *static), strict=True))
        return layer

    _jax.tree_util.register_pytree_node(kind, flatten, unflatten)


for _kind in (
    euler.EulerLayer, euler.PostNormLayer, runge_kutta.RungeKuttaLayer, recurrent.ItrSA, recurrent.AKOrN,
    wrap.WrappedLayer,
):  # fmt: skip
    _plain_layer(_kind)
