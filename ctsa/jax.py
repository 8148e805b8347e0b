"""The JAX face: every field and layer as an ``eqx.Module`` whose parameters are pytree leaves.

Needs jax, equinox and diffrax (``pip install 'ctsa[jax]'``); never imports torch. The classes, their constructors and
their attributes are those of ``ctsa.torch``. For float64 call ``jax.config.update("jax_enable_x64", True)`` first.
"""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

try:
    import diffrax as _diffrax  # noqa: F401  (imported for the message below)
    import equinox as eqx
    import jax as _jax
except ImportError as error:
    raise ImportError(f"ctsa.jax needs {error.name}: pip install 'ctsa[jax]'") from error

from . import checks, fields as formulas
from ._backend import load, modules
from .flows.systems import packed, start_of
from .layers import base, euler, loop, normalisation, recurrent, runge_kutta, wrap
from .models import recurrent as models
from .parts import STATIC, inherited_constructor, parts_of
from .results import base as _results

_be = load("jax")

__all__ = [
    "AKOrN", "EnergyAttention", "EulerLayer", "Field", "Injection", "ItrSA", "Loop", "MeanField",
    "MultiHeadAttention", "Noise", "Oja", "Perceptron", "PostNormLayer", "RecurrentModel",
    "Rescaled", "Rotation", "RungeKuttaLayer", "Scaled", "SelfAttention", "SpeedRegulated", "Sum",
    "SymmetricAttention", "WrappedLayer", "from_torch", "keep_compiled",
]  # fmt: skip


class _Assign(eqx.Module):
    """Store parameters and constants as array leaves, the rest as it is; attributes follow from what a class states."""

    face: ClassVar[str] = "jax"
    shared: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__
        cls.__annotations__ = dict(own.get("__annotations__", {}))
        for name, part in parts_of(cls).items():
            if name not in own:
                cls.__annotations__[name] = Any
                if part.kind == STATIC:
                    setattr(cls, name, eqx.field(static=True))
        if "__init__" not in own and "shared" not in own:
            cls.__init__ = inherited_constructor(cls)  # type: ignore[method-assign] # which a dataclass would replace

    def _assign(self, **values: Any) -> None:
        parts = parts_of(type(self))
        arrays = [value for name, value in values.items() if parts[name].is_array]
        others = [value for name, value in values.items() if not parts[name].is_array]
        dtype = checks.common_dtype(arrays) or checks.common_dtype([modules("jax").reference(v) for v in others])
        for name, value in values.items():
            if parts[name].is_array:
                value = None if value is None else _be.asarray(value, dtype, name=name)
            setattr(self, name, tuple(value) if isinstance(value, list) else value)


class Field(_Assign, formulas.Field):
    """Base of the fields of this face: ``field(t, x)`` is the velocity; parameters are leaves of the pytree."""

    shared: ClassVar[bool] = True

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


class MultiHeadAttention(formulas.MultiHeadAttention, Field):
    __doc__ = formulas.MultiHeadAttention.__doc__


class SymmetricAttention(formulas.SymmetricAttention, Field):
    __doc__ = formulas.SymmetricAttention.__doc__


class Oja(formulas.Oja, Field):
    __doc__ = formulas.Oja.__doc__


class Rotation(formulas.Rotation, Field):
    __doc__ = formulas.Rotation.__doc__


class Injection(formulas.Injection, Field):
    __doc__ = formulas.Injection.__doc__


class Perceptron(formulas.Perceptron, Field):
    __doc__ = formulas.Perceptron.__doc__


class EnergyAttention(formulas.EnergyAttention, Field):
    __doc__ = formulas.EnergyAttention.__doc__


class MeanField(formulas.MeanField, Field):
    __doc__ = formulas.MeanField.__doc__


class Noise(formulas.Noise, Field):
    __doc__ = formulas.Noise.__doc__


class SpeedRegulated(normalisation.SpeedRegulated, Field):
    __doc__ = normalisation.SpeedRegulated.__doc__


class Sum(formulas.Sum, Field):
    __doc__ = formulas.Sum.__doc__


class Scaled(formulas.Scaled, Field):
    __doc__ = formulas.Scaled.__doc__


class Rescaled(formulas.Rescaled, Field):
    __doc__ = formulas.Rescaled.__doc__


class _Layer(_Assign):
    shared: ClassVar[bool] = True

    def __call__(self, x):
        return self.update(checks.given(x, self))


class EulerLayer(_Layer, euler.EulerLayer):
    __doc__ = euler.EulerLayer.__doc__


class PostNormLayer(_Layer, euler.PostNormLayer):
    __doc__ = euler.PostNormLayer.__doc__


class RungeKuttaLayer(_Layer, runge_kutta.RungeKuttaLayer):
    __doc__ = runge_kutta.RungeKuttaLayer.__doc__


class ItrSA(_Layer, recurrent.ItrSA):
    __doc__ = recurrent.ItrSA.__doc__


class AKOrN(_Layer, recurrent.AKOrN):
    __doc__ = recurrent.AKOrN.__doc__


class _Foreign(_Layer):
    shared: ClassVar[bool] = True

    def __call__(self, x):
        return self.update(x if isinstance(x, _jax.Array) else start_of(packed(self, x), self, self.geometry))


class WrappedLayer(_Foreign, wrap.WrappedLayer):
    __doc__ = wrap.WrappedLayer.__doc__


class Loop(_Foreign, loop.Loop):
    __doc__ = loop.Loop.__doc__


class RecurrentModel(_Assign, models.RecurrentModel):
    __doc__ = models.RecurrentModel.__doc__

    @staticmethod
    def kit():
        return sys.modules[__name__]

    def __call__(self, inputs, depth=16, seed=0, **options):
        return self.logits(inputs, depth, seed, **options)

    def __repr__(self):
        return f"RecurrentModel({self.describe()})"


def from_torch(field: Any) -> Any:
    """Rebuild a field or model of ``ctsa.torch`` in JAX, keeping every parameter.

    Example:
        >>> import ctsa.jax, ctsa.torch
        >>> float(ctsa.jax.from_torch(ctsa.torch.SelfAttention(beta=2.0)).beta)
        2.0
    """
    return formulas.convert(field, sys.modules[__name__])


def keep_compiled(folder: Any = None) -> Path:
    """Let JAX keep what it compiles in a folder, for later processes; the command line does.

    The first spectrum of a process then takes .3 CPU seconds instead of 2. It is a setting of the whole process: JAX' own
    compilation cache, with everything in it that takes more than 50 ms to compile. Programs that call back into Python
    (``integrate`` has checks that do) are not kept.

    Args:
        folder: where; None is ``ctsa/jax`` in the user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``).

    Returns:
        The folder.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> import tempfile, ctsa.jax
        >>> ctsa.jax.keep_compiled(tempfile.mkdtemp()).is_dir()
        True
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "ctsa" / "jax" if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _jax.config.update("jax_compilation_cache_dir", str(folder))
    _jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    return folder


for _result in _results.Result.kinds.values():
    _data, _meta = _result.leaves()
    _jax.tree_util.register_dataclass(_result, _data, _meta)


def _plain_layer(kind: type[base.Layer]) -> None:
    """Register a layer of ``ctsa`` itself, outside of both faces, as a pytree."""
    static = [name for name, part in parts_of(kind).items() if part.kind == STATIC]
    leaves = [name for name in parts_of(kind) if name not in static]

    def flatten(layer):
        return [getattr(layer, name) for name in leaves], tuple(getattr(layer, name) for name in static)

    def unflatten(settings, values):
        layer = object.__new__(kind)
        layer.__dict__.update(zip((*leaves, *static), (*values, *settings), strict=True))
        return layer

    _jax.tree_util.register_pytree_node(kind, flatten, unflatten)


for _kind in (
    euler.EulerLayer, euler.PostNormLayer, runge_kutta.RungeKuttaLayer, recurrent.ItrSA, recurrent.AKOrN,
    wrap.WrappedLayer, loop.Loop,
):  # fmt: skip
    _plain_layer(_kind)
