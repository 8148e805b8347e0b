"""What the regularisers share: reading a layer and states, drawing directions, products with the Jacobian."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctsa import checks
from ctsa._backend import backend, dtype_name, framework, inside, modules, no_graph, normal_of_key, rounding
from ctsa.calling import Calling
from ctsa.derivatives import layer_pushforward
from ctsa.flows.systems import system_of
from ctsa.geometry import Euclidean, Geometry, Sphere, direction_generator
from ctsa.layers.check import foreign

Array = Any


class Opened(NamedTuple):
    """A layer, where its states live, and states ``(..., n, d)``, checked."""

    layer: Any
    geometry: Geometry
    x: Array


def opened(layer: Any, x: Any, geometry: Geometry | None, name: str = "x", *, once: bool = False) -> Opened:
    """Check a layer and states; nothing is cut off the graph.

    Args:
        layer: any callable ``layer(x)``.
        x: states ``(..., n, d)``.
        geometry: where a bare callable lives.
        name: of the states.
        once: the layer is called once, so that it may draw random numbers (dropout): all products are of that one map.
    """
    s = system_of(layer, geometry)
    if s.kind != "layer":
        raise TypeError(f"layer must be callable as layer(x), got {'a field(t, x)' if s.flow else 'a sequence of layers'}")
    x = s.start(x, None, name)
    _check_mode(layer, x, once)
    return Opened(layer, s.geometry, x)


def _check_mode(layer: Any, x: Array, once: bool) -> None:
    """Raise ValueError for a module, also one in a closure, of which every call is another map."""
    for part in inside(getattr(layer, "module", layer)):
        if framework(part) is None:
            continue
        restless = modules(backend(x).name).restless(part, noise=not once)
        if restless and "batch" in restless:
            raise ValueError(
                f"layer is in training mode and {restless}: its samples are not independent. Put that part into eval(), or "
                "normalise by tokens"
            )
        if restless:
            raise ValueError(
                f"layer is in training mode and {restless}: every call is another map, but this needs several products of "
                "one. Call layer.eval() for it (and layer.train() after), or take rms_gain or residual, which call it once"
            )


def stepped(layer: Any, x: Array) -> Array:
    """Return ``layer(x)``, of the shape and dtype of ``x``."""
    with Calling(layer, x):
        y = layer(x)
    if getattr(y, "shape", None) != x.shape or y.dtype != x.dtype:
        got = f"{tuple(y.shape)} of {y.dtype}" if hasattr(y, "dtype") else type(y).__name__
        raise ValueError(
            f"layer must return a state like x, {tuple(x.shape)} of {x.dtype}, got {got}: wrap it, "
            f"ctsa.{backend(x).name}.WrappedLayer(module, batched=..., pick=...)"
        )
    return y


def landed(r: Opened, y: Array) -> Array:
    """Return ``y = layer(x)``; raise ValueError if foreign code left the manifold. Traced values are not looked at."""
    values = checks.concrete(y) if foreign(r.layer) else None
    if values is None:
        return y
    if not np.isfinite(values).all():
        raise ValueError("layer returned nan or inf")
    radii = np.asarray(r.geometry.radius(values.astype(float)))
    off = float(np.abs(radii - 1).max())
    if off > 1e3 * rounding(y):
        raise ValueError(
            f"layer left {r.geometry.place}: a token is off by {off:.3g}. Wrap it, ctsa.{backend(y).name}."
            "WrappedLayer(layer), which retracts, or pass geometry=ctsa.Euclidean() if its states live in flat space"
        )
    return y


def look(r: Opened) -> None:
    """Check once where foreign code leads, before products are taken of it."""
    if foreign(r.layer) and checks.concrete(r.x) is not None:
        with no_graph():
            landed(r, stepped(r.layer, backend(r.x).stop_gradient(r.x)))


# ------------------------------------------------------------------------------------------------------------- products
def linearised(r: Opened) -> tuple[Array, Callable[[Array], Array]]:
    """Return ``layer(x)``, and ``w -> J^T w`` for one ``w`` ``(..., n, d)``: all from one call of the layer."""
    be = backend(r.x)
    y, back = be.vjp(be.partial(stepped, r.layer), r.x)
    return landed(r, y), lambda w: back(w)[0]


def pushed(layer: Any, x: Array, u: Array) -> tuple[Array, Array]:
    """Return ``layer(x)`` and ``J u`` for directions ``(k, ..., n, d)``: closed form, ``jvp``, or ``vmap`` of it."""
    if hasattr(layer, "tangent") and not hasattr(layer, "module"):
        return layer_pushforward(layer, x, u)
    be = backend(x)
    call = be.partial(stepped, layer)
    if u.shape[0] == 1:  # modules need not know vmap
        y, du = be.jvp(call, (x,), (u[0],))
        return y, du[None]
    return layer_pushforward(call, x, u)


# ----------------------------------------------------------------------------------------------------------- directions
def directions(x: Array, count: int, seed: Any) -> Array:
    """Draw normal vectors ``(count, ..., n, d)``; those of a sample do not depend on how many samples follow it."""
    be = backend(x)
    shape = (*x.shape[:-2], count, *x.shape[-2:])
    z = normal_of_key(seed, shape, x) if be.name == "jax" else None
    if z is None:
        if framework(seed) == "jax" and checks.concrete(seed) is None:
            raise TypeError("seed is traced, and not known yet: pass a key, seed=jax.random.key(seed)")
        z = be.like(direction_generator(seed).normal(size=shape), x)
    return be.xp.moveaxis(z, -3, 0)


def given(name: str, u: Any, x: Array) -> Array:
    """Return directions that were passed, of the dtype of ``x``: ``(k, ..., n, d)``, or one ``(..., n, d)``."""
    a = checks.plain(name, u)
    if framework(a) not in ("numpy", backend(x).name):
        raise TypeError(f"{name} is an array of {framework(a)}, but x is one of {backend(x).name}")
    a = a[None] if tuple(a.shape) == tuple(x.shape) else a
    if tuple(a.shape[1:]) != tuple(x.shape) or not a.shape[0]:
        shape = str(tuple(x.shape))[1:]
        raise ValueError(f"{name} must be directions (k, {shape} or ({shape}, got shape {tuple(a.shape)}")
    a = backend(x).asarray(a, dtype_name(x), x, name)
    values = checks.concrete(a)
    if values is not None and not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got nan or inf")
    return a


def tangential(g: Geometry, x: Array, v: Array) -> Array:
    """Project orthogonally onto the tangent space at ``x``."""
    if isinstance(g, (Sphere, Euclidean)):
        return g.project(x, v)
    e = g.basis(x)
    return (e @ (e.mT @ v[..., None]))[..., 0]


def lengths(u: Array) -> Array:
    """Return the length of every direction of every sample, ``(..., n, d)`` to ``(...)``; at 0 the derivative is 0."""
    xp, s = backend(u).xp, (u * u).sum((-2, -1))
    return xp.where(s > 0, xp.where(s > 0, s, xp.ones_like(s)) ** 0.5, 0 * s)


def unit(u: Array) -> Array:
    """Make every direction of every sample of length one; 0 stays 0."""
    r = lengths(u)[..., None, None]
    return u / backend(u).xp.where(r > 0, r, backend(u).xp.ones_like(r))


def logarithm(r: Array) -> Array:
    """Return ``log(r)``, and where nothing is left of a direction that of the smallest number, without a gradient."""
    xp = backend(r).xp
    tiny = xp.finfo(r.dtype).tiny
    return xp.log(xp.where(r > tiny, r, tiny * xp.ones_like(r)))


def relu(a: Array) -> Array:
    """Return the positive part."""
    return backend(a).xp.where(a > 0, a, 0 * a)


def limit(name: str, value: Any, low: float = -np.inf) -> float | None:
    """Return a number, or None."""
    return None if value is None else checks.number(name, value, low=low)
