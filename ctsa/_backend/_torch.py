"""PyTorch: the names that the shared mathematics needs."""

import functools

import numpy as np
import torch as xp
from torch import logsumexp, softmax
from torch.func import vmap
from torch.special import erf
from torch.utils.checkpoint import checkpoint

from ._solve import SOLVERS_OF
from ._torch_attention import compiling, in_transform, jvp, vjp
from ._torch_march import flow_map, march, march_tangent, marches, separate, timeless
from ._torch_modules import tensors as tensors  # for _torch_solve
from ._torch_rows import by_rows
from ._torch_solve import odeint

name = "torch"
qr = xp.linalg.qr
solvers = SOLVERS_OF[name]
partial = functools.partial
__all__ = [
    "asarray", "by_rows", "call", "concrete", "cond", "differentiated", "erf", "eye", "flow_map", "guard", "jvp",
    "like", "logsumexp", "map", "march", "march_tangent", "marches", "materialise", "name", "odeint", "partial",
    "put", "qr", "refuse_gradient", "remat", "repeat", "repeat_while", "scan", "separate", "softmax", "solvers",
    "stop_gradient", "timeless", "to_numpy", "vjp", "vmap", "xp",
]  # fmt: skip


def like(value, x):
    """Make an array of the dtype and device of ``x``."""
    return xp.as_tensor(value, dtype=x.dtype, device=x.device)


def eye(size, x):
    """Return the identity of a size, of the dtype and device of ``x``; not to be written to, as it is made once."""
    if compiling() or in_transform():
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
    if compiling() or xp._C._functorch.is_functorch_wrapped_tensor(x):
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
    """Apply ``f`` to every ``xs[i]``, or to the i-th parts of a tuple, in turn and stack the results."""
    return xp.stack([f(x) for x in (zip(*xs, strict=True) if isinstance(xs, tuple) else xs)])


@functools.cache
def _keep_freed_memory():
    """Let glibc keep what blocks free: it gives small heaps back at once, and maps their pages anew for the next block.

    Its thresholds follow the largest block that was freed, up to 32 MiB. Nothing is written to this one. Measured on a flow
    of 16384 tokens: 11 CPU seconds in place of 37.
    """
    xp.empty(2**22 - 1024, dtype=xp.float64, device="cpu")  # freed at once


def cond(condition, yes, no, x):
    """Return ``yes(x)`` if a truth value holds, else ``no(x)``."""
    return yes(x) if bool(condition) else no(x)


def remat(f):
    """Return ``f`` of a tuple of arrays such that reverse mode computes it anew in place of keeping what is inside."""
    _keep_freed_memory()

    def called(xs):
        wanted = xp.is_grad_enabled() and not in_transform() and not compiling()
        return checkpoint(f, xs, use_reentrant=False) if wanted else f(xs)

    return called


def differentiated(plain, whole):
    """Return ``plain``, a function of arrays, or ``whole``, which has the same values, where a derivative may be taken."""

    def called(*given):
        wanted = in_transform() or (xp.is_grad_enabled() and any(a.requires_grad for a in given))
        return (whole if wanted else plain)(*given)

    return called


def put(a, i, row):
    """Return ``a`` with ``a[i]`` replaced; ``i`` may be a number that a loop carries."""
    return a.index_copy(0, i.reshape(1), row[None])


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
