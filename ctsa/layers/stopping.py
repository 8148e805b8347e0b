"""When to stop applying a layer: at rest, or by a condition of the caller's."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import rounding
from ctsa.calling import Calling
from ctsa.geometry import Geometry
from ctsa.results.base import as_numpy

from .check import output_noise

Array = Any
Met = Callable[[Array, Array], np.ndarray]
_REST = 1e-6  # of the longest token
_COARSE = 1e-3  # at most, however noisy the layer is
_START = 1e-2  # and of the longest one at the start: a state may shrink to nothing
_BLOCK = 16  # layers that JAX runs between two looks


def following(layer: Callable[[Array], Array], x: Array) -> Array:
    """Return the next state, which must be like the one before."""
    with Calling(layer, x):
        y = layer(x)
    if getattr(y, "shape", None) != x.shape or y.dtype != x.dtype:
        got = f"{tuple(y.shape)} of {y.dtype}" if hasattr(y, "dtype") else type(y).__name__
        raise ValueError(f"layer must return a state like x, {tuple(x.shape)} of {x.dtype}, got {got}")
    return y


def _advance(layer, x):
    x = following(layer, x)
    return x, x


def run_until(
    be: Any, layer: Any, g: Geometry, x: Array, depth: int, every: int, until: Any, rest: Any
) -> tuple[list[int], Array, dict[str, Any]]:
    """Apply a layer until all members of a batch meet a condition; return layers passed, states, and stats."""
    if checks.concrete(x) is None:
        raise TypeError("until needs values, but x0 is traced (under jit, grad or vmap): leave until out there")
    met = _condition(be, layer, g, x, until, rest)
    since = np.full(tuple(x.shape[:-2]), -1)
    ts, kept, k, block = [0], [x], 0, 1 if be.name == "torch" else min(_BLOCK, depth)
    while k < depth and not (since >= 0).all():
        _, states = be.scan(be.partial(_advance, layer), x, block)
        for y in states[: depth - k]:
            k += 1
            good = met(x, y)
            since, x = np.where(good, np.where(since < 0, k, since), -1), y
            stop = bool((since >= 0).all())
            if stop or k % every == 0:
                ts.append(k)
                kept.append(y)
            if stop:
                break
    stats = {"layers": k, "stopped": bool((since >= 0).all()), "stop_layers": since if since.ndim else int(since)}
    return ts, be.xp.stack(kept), stats


def _condition(be: Any, layer: Any, g: Geometry, x: Array, until: Any, rest: Any) -> Met:
    """Return what tells, of two states one after the other, which members may stop."""
    if callable(until):
        if rest is not None:
            raise ValueError('rest goes with until="fixed point"')
        count, batch = checks.arity(until), tuple(x.shape[:-2])
        if count not in (-1, 1, 2):
            raise TypeError(f"until must be callable as until(x) or until(x, before), but takes {count} arguments")

        def asked(before: Array, after: Array) -> np.ndarray:
            answer = np.asarray(as_numpy(until(after, before) if count == 2 else until(after)))
            if answer.dtype != bool or answer.shape not in ((), batch):
                raise TypeError(
                    f"until must return True or False, or one a member {batch}, got {answer.dtype} of shape "
                    f"{answer.shape}"
                )
            return np.broadcast_to(answer, batch)

        return asked
    if until != "fixed point":
        raise TypeError(f'until must be "fixed point", or callable as until(x), got {until!r}')
    if rest is None:
        with Calling(layer, x):
            noise = output_noise(be.partial(be.call, layer), x, g)
        rest = np.maximum(max(_REST, 100 * rounding(x)), np.minimum(30 * noise, _COARSE))
    else:
        rest = checks.number("rest", rest, low=0.0, strict=True)

    start = _START * np.sqrt((as_numpy(x).astype(float) ** 2).sum(-1)).max(-1)

    def at_rest(before: Array, after: Array) -> np.ndarray:
        a, b = (as_numpy(y).astype(float) for y in (before, after))
        with np.errstate(all="ignore"):
            moved, size = (np.sqrt((y * y).sum(-1)).max(-1) for y in (b - a, b))
            return moved <= rest * np.maximum(size, start)

    return at_rest
