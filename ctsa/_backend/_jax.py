"""JAX: the names that the shared mathematics needs."""

from dataclasses import replace

import diffrax as dx
import equinox as eqx
import jax
import jax.numpy as xp
import numpy as np
from jax import jvp, vjp, vmap
from jax.lax import stop_gradient
from jax.nn import softmax
from jax.scipy.special import erf, logsumexp

from ._jax_compile import compiled
from ._jax_march import flow_map, march, march_tangent, marches, separate, timeless
from ._jax_precision import precisely
from ._jax_solve import odeint
from ._solve import SOLVERS_OF

name = "jax"
solvers = replace(SOLVERS_OF[name], objects=(dx.AbstractSolver,), adjoints=(dx.AbstractAdjoint,))
partial = eqx.Partial
__all__ = [
    "asarray", "by_rows", "call", "concrete", "cond", "differentiated", "erf", "eye", "flow_map", "guard", "jvp",
    "like", "logsumexp", "map", "march", "march_tangent", "marches", "materialise", "name", "odeint", "partial",
    "put", "qr", "refuse_gradient", "remat", "repeat", "repeat_while", "scan", "separate", "softmax", "solvers",
    "stop_gradient", "timeless", "to_numpy", "vjp", "vmap", "xp",
]  # fmt: skip

_X64 = (
    "{name} is float64, but JAX is running in 32-bit mode and would truncate it: call "
    'jax.config.update("jax_enable_x64", True) first thing in your program, or pass float32'
)


def like(value, x):
    """Make an array of the dtype of ``x``."""
    return xp.asarray(value, dtype=x.dtype)


def eye(size, x):
    """Return the identity of a size, of the dtype of ``x``."""
    return xp.eye(size, dtype=x.dtype)


def asarray(value, dtype=None, reference=None, name="array"):
    """Convert NumPy, or an array of another framework, to ``dtype`` (default: JAX' widest float)."""
    if isinstance(value, jax.Array):
        if dtype is None and not xp.issubdtype(value.dtype, xp.floating):
            dtype = float
        return value.astype(dtype) if dtype else value
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    value = np.asarray(value)
    if value.dtype == np.float64 and dtype in (None, "float64") and not jax.config.jax_enable_x64:
        raise ValueError(_X64.format(name=name))
    if value.dtype == object:
        value = value.astype(float)
    if dtype is None:
        dtype = value.dtype.name if value.dtype.kind == "f" and jax.config.jax_enable_x64 else "float"
    return xp.array(value, dtype=float if dtype == "float" else dtype)  # asarray may share memory with NumPy or torch


def to_numpy(x):
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            "this needs values, but they are traced (under jax.jit, grad or vmap) and not known yet: call it outside, with "
            "arrays"
        )
    return np.asarray(x)


def concrete(x):
    """Return the values, or None where they are not known (under jit, vmap or grad)."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def guard(x, ok, message):
    """Return ``x``; when the program runs, raise ``message`` unless ``ok``."""
    return eqx.error_if(x, ~ok, message)


@jax.custom_jvp
def _refused(x, bad):
    return x


@_refused.defjvp
def _refused_jvp(given, tangents):
    return given[0], xp.where(given[1], xp.nan, tangents[0])


def refuse_gradient(x, bad, message):
    """Return ``x``; its derivative is nan where ``bad``."""
    return _refused(x, bad)


@precisely
@compiled
def call(f, *args):
    """Return ``f(*args)``, compiled as one: operation by operation, a first evaluation takes several times as long."""
    return f(*args)


def by_rows(function, x, before, forward):
    """Return ``function``: compiled, forward mode is as fast as its Jacobian."""
    return function


def _by_cholesky(a):
    """Factor by two rounds of Cholesky factors of ``a^T a``: products, where Householder columns wait for each other."""
    q, r = a, xp.eye(a.shape[-1], dtype=a.dtype)
    for _ in range(2):
        factor = xp.linalg.cholesky(q.mT @ q, upper=True)
        q, r = jax.lax.linalg.triangular_solve(factor, q), factor @ r
    off = xp.abs(q.mT @ q - xp.eye(a.shape[-1], dtype=a.dtype)).max()
    fine = off < 1e3 * xp.finfo(a.dtype).eps  # false for nan, from columns that are close to dependent
    return jax.lax.cond(fine, lambda a: (q, r), lambda a: tuple(xp.linalg.qr(a)), a)


def qr(a):
    """Return ``q`` and ``r`` of ``a``; on a GPU by products, which takes half the time from 32 columns on."""
    if a.shape[-1] < 32:
        return xp.linalg.qr(a)
    return jax.lax.platform_dependent(a, cpu=lambda a: tuple(xp.linalg.qr(a)), default=_by_cholesky)


def materialise(values):
    """Return ``values``, computed once: XLA would fuse them into each of their uses (measured: 1.5 times slower)."""
    return jax.lax.optimization_barrier(values)


def repeat(f, x, count):
    """Apply ``f`` to ``x`` ``count`` times."""
    return jax.lax.fori_loop(0, count, lambda _, y: f(y), x)


def map(f, xs):
    """Apply ``f`` to every ``xs[i]``, or to the i-th parts of a tuple, in turn and stack the results."""
    return jax.lax.map(f, xs)


def cond(condition, yes, no, x):
    """Return ``yes(x)`` if a truth value holds, else ``no(x)``."""
    return jax.lax.cond(condition, yes, no, x)


def remat(f):
    """Return ``f`` of a tuple of arrays such that reverse mode computes it anew in place of keeping what is inside."""
    return jax.checkpoint(f, prevent_cse=False)


def differentiated(plain, whole):
    """Return ``plain``, a function of arrays; where a derivative is taken, that of ``whole``, which has the same values."""
    f = jax.custom_jvp(plain)
    f.defjvp(lambda given, tangents: jax.jvp(whole, given, tangents))
    return f


def put(a, i, row):
    """Return ``a`` with ``a[i]`` replaced; ``i`` may be a number that a loop carries."""
    return jax.lax.dynamic_update_index_in_dim(a, row, i, 0)


def repeat_while(condition, step, carry):
    """Call ``carry = step(carry)`` as long as ``condition(carry)``."""
    return jax.lax.while_loop(condition, step, carry)


@precisely
@compiled
def scan(step, carry, count):
    """Call ``carry, out = step(carry)`` ``count`` times; return the last carry and the outs, stacked."""
    return jax.lax.scan(lambda c, _: step(c), carry, None, length=count)
