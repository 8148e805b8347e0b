"""NumPy: for observables, so that loaded results need no framework, and for small states of PyTorch."""

import functools

import numpy as xp
from scipy.special import erf

name = "numpy"
partial = functools.partial
__all__ = [
    "call", "concrete", "cond", "differentiated", "erf", "eye", "guard", "like", "logsumexp", "map", "march",
    "materialise", "name", "partial", "put", "qr", "remat", "repeat", "scan", "softmax", "stop_gradient", "to_numpy",
    "xp",
]  # fmt: skip


def like(value, x):
    return xp.asarray(value, dtype=x.dtype)


@functools.lru_cache(64)
def _eye(size, dtype):
    unit = xp.eye(size, dtype=dtype)
    unit.flags.writeable = False
    return unit


def eye(size, x):
    """Return the identity of a size, of the dtype of ``x``; not to be written to, as it is made once."""
    return _eye(size, x.dtype)


def softmax(s, axis):
    e = xp.exp(s - xp.amax(s, axis, keepdims=True))  # SciPy's takes ten times as long for a small array
    return e / e.sum(axis, keepdims=True)


def logsumexp(s, axis):
    largest = xp.amax(s, axis, keepdims=True)
    largest = xp.where(xp.isfinite(largest), largest, 0.0)
    with xp.errstate(divide="ignore"):
        return xp.log(xp.exp(s - largest).sum(axis)) + xp.squeeze(largest, axis)


def to_numpy(x):
    return xp.asarray(x)


concrete = stop_gradient = to_numpy


def guard(x, ok, message):
    return x


def materialise(values):
    return values


def map(f, xs):
    """Apply ``f`` to every ``xs[i]``, or to the i-th parts of a tuple, in turn and stack the results."""
    return xp.stack([f(x) for x in (zip(*xs, strict=True) if isinstance(xs, tuple) else xs)])


def scan(step, carry, count):
    """Call ``carry, out = step(carry)`` ``count`` times; return the last carry and the outs, stacked."""
    outs = []
    for _ in range(count):
        carry, out = step(carry)
        outs.append(out)
    return carry, xp.stack(outs)


def cond(condition, yes, no, x):
    """Return ``yes(x)`` if a truth value holds, else ``no(x)``."""
    return yes(x) if bool(condition) else no(x)


def remat(f):
    """Return ``f``: there are no derivatives here."""
    return f


qr = xp.linalg.qr


def call(f, *args):
    """Return ``f(*args)``."""
    return f(*args)


def put(a, i, row):
    """Return ``a`` with ``a[i]`` replaced."""
    a = a.copy()
    a[i] = row
    return a


def differentiated(plain, whole):
    """Return ``plain``: there are no derivatives here."""
    return plain


def repeat(f, x, count):
    """Apply ``f`` to ``x`` ``count`` times."""
    for _ in range(count):
        x = f(x)
    return x


def march(step, carry, count, size):
    """Call ``carry, out = step(carry)`` ``count`` times; return the last carry and the outs, stacked."""
    outs = []
    for _ in range(count):
        carry, out = step(carry)
        outs.append(out)
    return carry, tuple(xp.stack(column) for column in zip(*outs, strict=True))
