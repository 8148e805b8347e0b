"""PyTorch: the names that the shared mathematics needs."""

import functools

import numpy as np
import torch as xp
from torch import logsumexp, softmax
from torch.func import vmap
from torch.special import erf

from ._solve import SOLVERS_OF
from ._torch_attention import differentiable, in_transform, jvp, vjp
from ._torch_march import flow_map, march, march_tangent, marches, separate, timeless
from ._torch_rows import by_rows
from ._torch_solve import odeint

name = "torch"
qr = xp.linalg.qr
solvers = SOLVERS_OF[name]
clock = xp.float64  # dtype of output times
partial = functools.partial
__all__ = [
    "asarray", "by_rows", "call", "clock", "concrete", "differentiable", "erf", "eye", "flow_map", "guard", "half",
    "in_transform", "jvp", "like", "logsumexp", "map", "march", "march_tangent", "marches", "materialise", "name",
    "named_parameters", "numbers", "odeint", "on_graph", "partial", "qr", "reference", "refuse_gradient", "repeat",
    "repeat_while", "restless", "scan", "separate", "softmax", "solvers", "stop_gradient", "timeless", "to_numpy",
    "traced", "vjp", "vmap", "with_number", "xp",
]  # fmt: skip


def like(value, x):
    """Make an array of the dtype and device of ``x``."""
    return xp.as_tensor(value, dtype=x.dtype, device=x.device)


def eye(size, x):
    """Return the identity of a size, of the dtype and device of ``x``; not to be written to, as it is made once."""
    if xp.compiler.is_compiling() or in_transform():
        return xp.eye(size, dtype=x.dtype, device=x.device)
    return _eye(size, x.dtype, x.device)


@functools.lru_cache(64)
def _eye(size, dtype, device):
    with xp.inference_mode(False):  # or it could not enter a graph later
        return xp.eye(size, dtype=dtype, device=device)


def asarray(value, dtype=None, reference=None, name="array"):
    """Convert NumPy, or an array of another framework, to ``dtype`` (default float64), on ``reference.device``."""
    if isinstance(value, xp.Tensor):
        if dtype is None and not value.is_floating_point():
            dtype = "float64"
        return value.to(getattr(xp, dtype)) if dtype else value
    if not isinstance(value, np.ndarray):
        value = np.asarray(value)
    if dtype is None:
        dtype = value.dtype.name if value.dtype.kind == "f" else "float64"
    if value.dtype == object:
        value = value.astype(float)
    if min(value.strides, default=0) < 0:  # a reversed view, which torch does not read
        value = value.copy()
    return xp.tensor(value, dtype=getattr(xp, dtype), device=None if reference is None else reference.device)


def to_numpy(x):
    values = concrete(x)
    if values is None:
        raise TypeError(
            "this needs values, but they are traced (under torch.func or torch.compile) and not known yet: "
            "call it outside, with tensors"
        )
    return values


def concrete(x):
    """Return the values, or None where they are not known (under torch.func transforms and torch.compile)."""
    if xp.compiler.is_compiling() or xp._C._functorch.is_functorch_wrapped_tensor(x):
        return None
    with xp._C._DisableFuncTorch():  # inside of a transform even what it does not trace comes out wrapped
        x = x.detach().cpu()
        return (x.float() if x.dtype == xp.bfloat16 else x).numpy()


def stop_gradient(x):
    return x.detach()


def guard(x, ok, message):
    """Return ``x``: values that are not known cannot be checked in torch."""
    return x


def refuse_gradient(x, bad, message):
    """Return ``x``; asking for its gradient raises ``message`` if ``bad``."""
    if bool(bad) and x.requires_grad:

        def refuse(gradient):
            raise ValueError(message)

        x = x.view_as(x)
        x.register_hook(refuse)
    return x


def reference(field):
    """Return the first floating parameter or buffer of a field, or None."""
    return next((a for a in tensors(field) if a.is_floating_point()), None)


def tensors(field):
    """Return parameters, buffers and computed attributes of a field; none of what is no module."""
    if not isinstance(field, xp.nn.Module):
        return []
    computed = [getattr(m, name) for m in field.modules() for name in getattr(m, "computed", ())]
    return [*field.parameters(), *field.buffers(), *computed]


def on_graph(value):
    """Tell whether a value is a tensor through which a gradient passes on."""
    return isinstance(value, xp.Tensor) and (value.requires_grad or xp._C._functorch.is_functorch_wrapped_tensor(value))


def traced(thing):
    """Tell whether values of an array, or of what a module is made of, are not known yet."""
    parts = [thing] if isinstance(thing, xp.Tensor) else tensors(thing)
    return xp.compiler.is_compiling() or any(xp._C._functorch.is_functorch_wrapped_tensor(a) for a in parts)


def half(module):
    """Name the half precision that a module computes in, or None."""
    a = reference(module)
    return {xp.float16: "float16", xp.bfloat16: "bfloat16"}.get(None if a is None else a.dtype)


def restless(module):
    """Say why every call of a module is another map, as it is in training mode; None if it is not."""
    for name, part in module.named_modules() if isinstance(module, xp.nn.Module) else ():
        name = name or type(part).__name__
        drops = isinstance(part, xp.nn.modules.dropout._DropoutNd)
        rate = part.p if drops else part.dropout if isinstance(part, xp.nn.MultiheadAttention) else 0.0
        if part.training and rate > 0:
            return f"draws random numbers ({name})"
        if part.training and isinstance(part, xp.nn.modules.batchnorm._BatchNorm):
            return f"normalises by the batch, and remembers ({name})"
    return None


def named_parameters(module):
    """Return name and value of everything trainable in a module, at any depth."""
    return list(module.named_parameters())


def numbers(module):
    """Return the parameters and buffers of a module that are single floating numbers, by name."""
    if not isinstance(module, xp.nn.Module):
        return {}
    every = (*module.named_parameters(), *module.named_buffers())
    return {name: a.detach().reshape(()) for name, a in every if a.numel() == 1 and a.is_floating_point()}


def with_number(module, name, value):
    """Return the module as a function, with another value of one of its ``numbers``."""
    shape = dict((*module.named_parameters(), *module.named_buffers()))[name].shape

    def call(*args):
        return xp.func.functional_call(module, {name: value.reshape(shape)}, args)

    return call


def call(f, *args):
    """Return ``f(*args)``."""
    return f(*args)


def materialise(values):
    """Return ``values``; JAX is kept from computing them anew in every use."""
    return values


def repeat(f, x, count):
    """Apply ``f`` to ``x`` ``count`` times."""
    for _ in range(count):
        x = f(x)
    return x


def map(f, xs):
    """Apply ``f`` to every ``xs[i]`` in turn and stack the results."""
    return xp.stack([f(x) for x in xs])


def repeat_while(condition, step, carry):
    """Call ``carry = step(carry)`` as long as ``condition(carry)``."""
    while bool(condition(carry)):
        carry = step(carry)
    return carry


def scan(step, carry, count):
    """Call ``carry, out = step(carry)`` ``count`` times; return the last carry and the outs, stacked (tuples too)."""
    outs = []
    for _ in range(count):
        carry, out = step(carry)
        outs.append(out)
    if outs and isinstance(outs[0], tuple):
        return carry, tuple(xp.stack(column) for column in zip(*outs, strict=True))
    return carry, xp.stack(outs)
