"""Tell whether a field depends on time: by looking at it at several times that no period has in common."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, dtype_name, rounding
from ctsa.calling import Calling

Array = Any
# After the given time, in units of time: short and long, incommensurate, so that no period hides a drive from all.
_LATER = (2**0.5 / 100, (5**0.5 - 1) / 2, np.e, 7 * 3**0.5, 31 * np.pi)
_WITHIN = (5**0.5 - 2, (5**0.5 - 1) / 2)
_ROUNDING = 64  # ulps of the largest velocity that an autonomous field may differ by (order of summation)


def depends_on_time(field: Callable, x: Array, t: Any = 0.0, geometry: Any = None, reach: float = 0.0) -> bool:
    """Tell whether ``field(t, x)`` depends on ``t``, at ``x`` and at a state beside it.

    A field that cannot be evaluated at other times, or is nan there, depends on time, too. What changes with every call
    (noise) is not called time-dependent. Under ``jax.jit`` values are not known, and the answer is False.

    Args:
        field: any callable ``field(t, x)``.
        x: a state ``(..., n, d)`` of the field's framework; one member of a large batch is enough.
        t: the time to compare with.
        geometry: where the second state is put, ``retract``; without one only ``x`` is looked at.
        reach: a duration within which to look, too, for what acts late only.

    Example:
        >>> import torch, ctsa
        >>> from ctsa.events import depends_on_time
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> depends_on_time(lambda t, u: -u, x), depends_on_time(lambda t, u: -u + torch.cos(t), x)
        (False, True)
    """
    be = backend(x)
    x = be.stop_gradient(x)
    if be.concrete(x) is None:
        return False
    if be.timeless(field, be.like(0.0, x), x):
        return False
    states = [x]
    if geometry is not None:  # at a zero of x * cos(t) nothing is seen
        beside = np.random.default_rng(0).normal(size=x.shape)
        near = be.to_numpy(x) + (0.3 * beside).astype(dtype_name(x))
        states.append(be.like(geometry.retract(near), x))
    later = (*_LATER, *(share * reach for share in _WITHIN if reach))
    return any(_differs(be, field, state, t, later) for state in states)


def _differs(be, field, x, t, later) -> bool:
    def value(time):
        with Calling(field, x, "field"):
            v = be.call(field, be.like(time, x), x)
        return be.concrete(be.stop_gradient(v)) if hasattr(v, "dtype") else None  # what is no array is refused elsewhere

    t = float(be.concrete(t)) if hasattr(t, "dtype") else float(t)
    here = value(t)
    if here is None:
        return False
    noise = None
    for s in later:
        try:
            there = value(t + s)
        except (ArithmeticError, LookupError, RuntimeError, ValueError):  # a table that ends, say
            return True
        finite = np.isfinite(here)
        size = float(np.abs(here[finite]).max(initial=0.0))
        allowed = _ROUNDING * rounding(x) * size
        if np.array_equal(here, there, equal_nan=True):
            continue
        if noise is None:  # only now: a second look at the same time
            noise = not np.array_equal(here, value(t), equal_nan=True)
        same = (np.isfinite(there) == finite).all() and np.abs(there[finite] - here[finite]).max(initial=0.0) <= allowed
        if not noise and not same:
            return True
    return False


def still_time(field: Callable, x: Array, t: float | None, geometry: Any, what: str) -> float:
    """Return the time at which an analysis of equilibria looks at a field: ``t``, or 0 for a field that knows no time.

    Raises:
        ValueError: no ``t`` was given, and the field depends on it: an equilibrium of the field at one time is none of the
            flow.
    """
    if t is not None:
        return checks.number("t", t)
    if depends_on_time(field, x, 0.0, geometry):
        raise ValueError(
            f"field depends on time, and {what} is about fields that do not: pass t=, a time at which to freeze it, or "
            "study the map over one period of the drive, ctsa.layers.Stroboscopic(field, period)"
        )
    return 0.0
