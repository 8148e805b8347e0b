"""The PyTorch face: every field and layer as an ``nn.Module`` whose parameters are ``nn.Parameter`` objects.

Needs torch and torchdiffeq (``pip install 'ctsa[torch]'``); never imports JAX. The classes, their constructors and
their attributes are those of ``ctsa.jax``.
"""

import copy
import functools
import sys
import warnings
import weakref
from typing import Any

try:
    import torch
    import torchdiffeq as _torchdiffeq  # noqa: F401  (imported for the message below)
except ImportError as error:
    raise ImportError(f"ctsa.torch needs {error.name}: pip install 'ctsa[torch]'") from error

from . import checks, fields as formulas
from ._backend import backend, framework, load, modules, on_graph
from ._backend._compiling import compiling as _compiling
from ._backend._torch_attention import differentiable, in_transform
from .flows.systems import packed, start_of
from .layers import euler, loop, normalisation, recurrent, runge_kutta, wrap
from .models import recurrent as models
from .parts import INNER, INNERS, PARAMETER, inherited_constructor, parts_of

_be = load("torch")
for _known in (torch.zeros(()), torch.nn.Parameter(torch.zeros(()))):
    backend(_known)  # what is looked up while torch.compile traces would make it trace anew

__all__ = [
    "AKOrN", "EnergyAttention", "EulerLayer", "Field", "Injection", "ItrSA", "Loop", "MeanField",
    "MultiHeadAttention", "Noise", "Oja", "Perceptron", "PostNormLayer", "RecurrentModel",
    "Rescaled", "Rotation", "RungeKuttaLayer", "Scaled", "SelfAttention", "SpeedRegulated", "Sum",
    "SymmetricAttention", "WrappedLayer", "compiling", "from_jax",
]  # fmt: skip


class _Assign(torch.nn.Module):
    """Store parameters as ``nn.Parameter``s, constants as buffers, the rest as attributes or submodules.

    A tensor that belongs to somebody else's graph (computed, or a leaf that requires a gradient) stays that tensor: it is
    kept as a plain attribute, through which gradients reach what it was computed from. It moves along in ``to()``, and is
    neither in ``parameters()`` nor in the ``state_dict``, since its owner keeps it.
    """

    face, shared = "torch", True
    computed: tuple[str, ...] = ()  # names of such attributes

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" not in vars(cls) and "shared" not in vars(cls):
            cls.__init__ = inherited_constructor(cls)  # type: ignore[method-assign] # nn.Module's may stand before it

    def _assign(self, **values: Any) -> None:
        torch.nn.Module.__init__(self)
        framework(self)  # remembered for the same reason
        parts = parts_of(type(self))
        arrays = {name: value for name, value in values.items() if parts[name].is_array}
        static = {name: value for name, value in values.items() if name not in arrays}
        dtype = checks.common_dtype(arrays.values())
        dtype = dtype or checks.common_dtype([modules("torch").reference(v) for v in static.values()])
        for name, value in arrays.items():
            if on_graph(value) and not isinstance(value, torch.nn.Parameter):
                setattr(self, name, _be.asarray(value, dtype))
                self.computed = (*self.computed, name)
            elif parts[name].kind == PARAMETER:
                if value is not None and not isinstance(value, torch.nn.Parameter):
                    value = torch.nn.Parameter(_be.asarray(value, dtype).clone())
                self.register_parameter(name, value)
            elif isinstance(value, torch.nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, None if value is None else _be.asarray(value, dtype or "float64").clone())
        for name, value in static.items():
            if isinstance(value, list):
                value = torch.nn.ModuleList(v if isinstance(v, torch.nn.Module) else _Bare(v) for v in value)
            setattr(self, name, value)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        for name in self.computed:
            setattr(self, name, fn(getattr(self, name)))
        _FITS.pop(self, None)
        return self

    def __deepcopy__(self, memo):
        for name in self.computed:
            if getattr(self, name).grad_fn is not None:
                raise RuntimeError(
                    f"{name} of {type(self).__name__} is computed from another tensor, whose graph a copy cannot have: "
                    f"make the copy from the values, {type(self).__name__}({name}=....detach()), or build it anew"
                )
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__dict__, memo))
        return copied


class _Bare(torch.nn.Module):
    """A plain callable among the terms of a sum, which stays a module with everybody's parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        if hasattr(function, "tangent"):
            self.tangent = function.tangent

    def forward(self, t, x):
        return self.function(t, x)

    def extra_repr(self):
        return repr(self.function)


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.item():g}" if value.ndim == 0 else str(tuple(value.shape))
    return repr(getattr(value, "name", value))


_FITS: "weakref.WeakKeyDictionary[Any, tuple]" = weakref.WeakKeyDictionary()  # shape and dtype that were last found to fit


def _given(part: Any, x: Any) -> Any:
    """Check and convert what a field or layer is called with, once a shape and dtype."""
    if isinstance(x, torch.Tensor) and (torch.compiler.is_compiling() or _FITS.get(part) == (x.shape, x.dtype)):
        return x
    x = checks.given(x, part)
    _FITS[part] = x.shape, x.dtype
    return x


class Field(_Assign, formulas.Field):
    """Base of the fields of this face: ``field(t, x)`` is the velocity; parameters train as in any module."""

    shared = True

    def extra_repr(self):
        parts = parts_of(type(self))
        given = {k: v for k, v in self.arguments().items() if v is not None}
        inner = {k: v for k, v in given.items() if k not in parts or parts[k].kind not in (INNER, INNERS)}
        return ", ".join(f"{name}={_shown(value)}" for name, value in inner.items())

    def forward(self, t, x):
        return self.velocity(t, _given(self, x))

    def tangent(self, t, x, u):
        x = _given(self, x)
        u = u if isinstance(u, torch.Tensor) else _be.asarray(checks.plain("u", u), str(x.dtype)[6:], x, "u")
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
    shared = True

    def forward(self, x):
        return self.update(_given(self, x))

    def extra_repr(self):
        return self.describe()


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
    """Around a module of somebody else's."""

    shared = True

    def _assign(self, **values):
        super()._assign(**values)
        restless = modules("torch").restless(self.module)
        if restless:
            message = f"module is in training mode and {restless}: every call is another map; module.eval() makes it one"
            warnings.warn(message, UserWarning, stacklevel=3)

    def forward(self, x):
        return self.update(x if isinstance(x, torch.Tensor) else start_of(packed(self, x), self, self.geometry))

    def run(self, *args):
        return (differentiable(self.module) if in_transform() else self.module)(*args)


class WrappedLayer(_Foreign, wrap.WrappedLayer):
    __doc__ = wrap.WrappedLayer.__doc__


class Loop(_Foreign, loop.Loop):
    __doc__ = loop.Loop.__doc__

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)

        def moved(tree):
            return loop.mapped(lambda a: fn(a) if isinstance(a, torch.Tensor) else a, tree)

        self.inputs, step = moved(self.inputs), self.module
        if isinstance(step, functools.partial):  # whose tensors move with the loop, too
            self.module = functools.partial(step.func, *moved(step.args), **moved(step.keywords))
        return self


class RecurrentModel(_Assign, models.RecurrentModel):
    __doc__ = models.RecurrentModel.__doc__

    @staticmethod
    def kit():
        return sys.modules[__name__]

    def forward(self, inputs, depth=16, seed=0, **options):
        return self.logits(inputs, depth, seed, **options)

    def extra_repr(self):
        return self.describe()


def from_jax(field: Any) -> Any:
    """Rebuild a field or model of ``ctsa.jax`` in PyTorch, keeping every parameter.

    Example:
        >>> import ctsa.jax, ctsa.torch
        >>> ctsa.torch.from_jax(ctsa.jax.SelfAttention(beta=2.0)).beta.item()
        2.0
    """
    return formulas.convert(field, sys.modules[__name__])


def compiling(**options: Any) -> Any:
    """Compile what long runs repeat, by ``torch.compile``, while the context that this returns lasts.

    Spectra, covariant vectors and ``integrate`` then take an adaptive step as one program (fields), and spectra an interval
    (layers), where PyTorch is in charge and records no gradients. It takes 5 to 15 s, for every kind of field and size
    once a process, and pays in long runs: your own functions and modules are then 2 to 13 times as fast, large states of
    the fields of ctsa up to 1.3 times, see the page "Benchmarks"; small ones stay with NumPy, which is as fast. Numbers
    change by rounding. JAX always compiles, and takes no notice. On a CPU ``torch.compile`` needs a C++ compiler.

    Args:
        options: of ``torch.compile``: ``mode="reduce-overhead"`` for CUDA graphs, ``options={...}``, ``backend=``;
            ``fullgraph`` and ``dynamic`` are ctsa's.

    Raises:
        ValueError: by the analysis, where a field cannot be made one program, with what ``torch.compile`` says, or where it
            takes hundreds of them, one for every value of a Python number.

    Example:
        >>> import torch, ctsa, ctsa.torch
        >>> def pendulum(t, x):
        ...     return torch.stack([x[..., 1], -torch.sin(x[..., 0])], -1)
        >>> options = dict(intervals=100, geometry=ctsa.Euclidean(), atol=1e-6)
        >>> with ctsa.torch.compiling(backend="eager"):
        ...     found = ctsa.lyapunov_spectrum(pendulum, torch.tensor([[1.0, 0.0]], dtype=torch.float64), **options)
        >>> bool(abs(found.exponents.sum()) < 1e-6)  # area is preserved
        True
    """
    ours = sorted({"dynamic", "fullgraph", "model"} & set(options))
    if ours:
        raise ValueError(f"{ours[0]} is not an option of compiling(), which sets it itself: leave it out")
    return _compiling(**options)
