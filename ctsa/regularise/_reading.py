"""What all regularisers begin with: a layer, states, and random directions."""

from typing import Any, NamedTuple

import numpy as np

from ctsa import checks
from ctsa._backend import backend, framework
from ctsa.derivatives import layer_pushforward
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry
from ctsa.layers.check import check_restless

Array = Any


class Read(NamedTuple):
    """A layer, where its states live, and states ``(..., n, d)``."""

    layer: Any
    geometry: Geometry
    x: Array


def read(layer: Any, x: Any, geometry: Geometry | None, name: str = "x") -> Read:
    """Check a layer and states; gradients pass through."""
    s = system_of(layer, geometry)
    if s.kind != "layer":
        raise TypeError(f"layer must be callable as layer(x), got {'a field(t, x)' if s.flow else 'a sequence of layers'}")
    x = s.start(x, None, name)
    check_restless(layer, x)
    return Read(layer, s.geometry, x)


def directions(r: Read, count: int, key: Any) -> Array:
    """Draw ``count`` tangent directions at every state, of length one per sample: ``(count, ..., n, d)``."""
    be = backend(r.x)
    if be.concrete(r.x) is None and isinstance(key, np.random.Generator):
        raise TypeError("key is a NumPy Generator, drawn from once only, when the program is traced: pass a key of JAX")
    if not isinstance(key, np.random.Generator) and framework(key) is None:
        key = checks.seed(key, "key")
    u = r.geometry.project(r.x, be.normal(key, (count, *r.x.shape), r.x))
    return unit(u)


def unit(u: Array) -> Array:
    """Return directions of length one per sample."""
    return u / lengths(u)[..., None, None]


def lengths(u: Array) -> Array:
    """Return lengths over the last two axes; the derivative at 0 is 0."""
    xp, s = backend(u).xp, (u * u).sum((-2, -1))
    return xp.where(s > 0, xp.where(s > 0, s, xp.ones_like(s)) ** 0.5, s)


def push(r: Read, x: Array, u: Array) -> tuple[Array, Array]:
    """Return the next state, and ``J u`` for directions ``(k, ..., n, d)``."""
    if hasattr(r.layer, "module") or not hasattr(r.layer, "tangent"):
        be = backend(x)
        pairs = [be.jvp(r.layer, (x,), (v,)) for v in u]  # few: cheaper than vmap, and modules need not know it
        return pairs[0][0], r.geometry.project(pairs[0][0], be.xp.stack([du for _, du in pairs]))
    y, du = layer_pushforward(r.layer, x, u)
    return y, du


def pull(r: Read, x: Array, w: Array) -> Array:
    """Return ``J^T w`` for one direction ``(..., n, d)``."""
    return r.geometry.project(x, backend(x).vjp(r.layer, x)[1](w)[0])


def hinge(values: Array, above: float | None) -> Array:
    """Return ``relu(values - above)^2``; the values themselves if ``above`` is None."""
    if above is None:
        return values
    over = values - above
    return backend(values).xp.where(over > 0, over, 0 * over) ** 2
