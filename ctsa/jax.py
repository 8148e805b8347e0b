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

from . import _results, checks, fields as formulas, layers
from ._backend import load
from .attention import Weights
from .geometry import Geometry

_be = load("jax")

__all__ = [
    "EulerLayer", "Field", "Injection", "Oja", "Perceptron", "Rotation", "Scaled", "SelfAttention", "Sum", "from_torch",
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
        return self.velocity(t, x)

    def _sum(self, terms):
        return Sum(terms)

    def _scaled(self, field, factor):
        return Scaled(field, factor)


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


class EulerLayer(_Assign, layers.EulerLayer):
    __doc__ = layers.EulerLayer.__doc__
    field: Any
    step: Any
    geometry: Geometry = eqx.field(static=True)
    __init__ = layers.EulerLayer.__init__

    def __call__(self, x):
        return self.update(x)


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


def _layer_leaves(layer: Any) -> tuple:
    return (layer.field, layer.step), layer.geometry


def _layer_from_leaves(geometry: Geometry, leaves: tuple) -> Any:
    layer = object.__new__(layers.EulerLayer)
    layer.field, layer.step = leaves
    layer.geometry = geometry
    return layer


_jax.tree_util.register_pytree_node(layers.EulerLayer, _layer_leaves, _layer_from_leaves)
