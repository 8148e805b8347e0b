"""Apply a layer, or one layer after the other, and keep the states on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa._types import States
from ctsa.flows.systems import home_of, packed, start_of
from ctsa.geometry import Geometry, geometry_of
from ctsa.results.base import Trajectory

from .stopping import following, run_until

Array = Any
_MOST = 10**9  # layers: hours even for the smallest


def _apply(layer, every, x):
    be = backend(x)
    x = be.repeat(be.partial(following, layer), x, every)
    return x, x


def _stack(be, layers, every, x):
    """Pass through layers that differ; on JAX those of one structure are compiled once."""
    kept = []
    for i, layer in enumerate(layers, 1):
        x = be.call(following, layer, x)
        if i % every == 0:
            kept.append(x)
    return be.xp.stack(kept)


def passed(layer: Any, x: Array, depth: int, every: int = 1) -> Array:
    """Return the states after ``every``, ``2 every``, ... layers, unchecked: of one layer, or of a list of ``depth``."""
    be = backend(x)
    if isinstance(layer, Sequence):
        return _stack(be, layer, every, x)
    return be.scan(be.partial(_apply, layer, every), x, depth // every)[1]


def on_manifold(be: Any, homes: list[Geometry], xs: Array, every: int) -> None:
    """Raise if a state is not finite, or not where its layer lives; nothing where values are not known.

    ``homes`` has the geometry of each state's layer, or of all of them.
    """
    values = checks.concrete(xs)
    if values is None:
        return
    rows = (len(xs), -1)
    sound = np.isfinite(values).reshape(rows).all(1)
    if not sound.all():
        raise ValueError(f"layer returned nan or inf within the first {every * (1 + int(np.argmin(sound)))} layers")
    length = np.ones(len(xs))  # of the token of each state that is farthest from 1
    for g in set(homes):
        radii = be.to_numpy(g.radius(xs)).astype(float).reshape(rows)
        worst = np.take_along_axis(radii, np.abs(radii - 1).argmax(1)[:, None], 1)[:, 0]
        length = np.where([home == g for home in homes], worst, length)
    far = np.abs(length - 1) > 1e3 * rounding(xs)
    if far.any():
        at = int(np.argmax(far))
        if not homes[at % len(homes)].unit:
            raise ValueError(
                f"layer left {homes[at % len(homes)].place}: after {every * (1 + at)} layers a token is off by "
                f"{abs(length[at] - 1):.3g}. Wrap it, ctsa.WrappedLayer(layer, geometry), which retracts"
            )
        raise ValueError(
            f"layer left the sphere: after {every * (1 + at)} layers a token has length {length[at]:.3g}. Wrap it, "
            "ctsa.WrappedLayer(layer), which normalises, or pass geometry=ctsa.Euclidean() if its states do not live there"
        )


def iterate(
    layer: Callable[[Array], Array] | Sequence[Callable[[Array], Array]],
    x0: States,
    depth: int | None = None,
    *,
    every: int = 1,
    until: str | Callable[..., Any] | None = None,
    rest: float | None = None,
    normalize: bool = False,
    geometry: Geometry | None = None,
) -> Trajectory:
    """Apply a layer ``depth`` times, or pass through a sequence of layers, and return the states on the way.

    Args:
        layer: any callable ``layer(x) -> x``, or a sequence of them, each used once.
        x0: unit tokens ``(..., n, d)``; NumPy is converted to the layer's framework and dtype.
        depth: how many times; for a sequence its length, or fewer to use the first ones only.
        every: keep every so many layers; divides ``depth``.
        until: "fixed point" stops when every member of a batch is at rest: no token moved by more than ``rest`` in the last
            layer. A slow passage is taken for rest, too: ``ctsa.find_fixed_points`` tells. A callable ``until(x)``, or
            ``until(x, before)`` with the state one layer earlier, stops when it returns True, for every member if it
            returns one boolean each. Values decide, so not under ``jax.jit``; not for a sequence.
        rest: for "fixed point": length of a step, relative to the longest token; None takes 1e-6, or more where the
            rounding of the layer, which is measured, wants it.
        normalize: normalise ``x0`` instead of refusing tokens that are not unit.
        geometry: where a bare callable lives.

    Returns:
        ``Trajectory`` with ``ts = 0, every, ..., depth`` (layers passed) and ``xs`` of shape
        ``(depth / every + 1, ..., n, d)``. With ``until`` states after the stop are missing, the last one is where it
        stopped, and ``stats`` has "stopped", and "stop_layers": after how many layers each member met the condition for
        good, -1 if it did not.

    Raises:
        ValueError: ``depth`` or ``every`` is not a positive integer, ``every`` does not divide ``depth``, or the layer
            changes shape or dtype.
        TypeError: ``until`` is neither "fixed point" nor callable, or returns no booleans.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.EulerLayer(Oja([[2.0, 0.0], [0.0, 1.0]]), step=0.5)
        >>> ctsa.iterate(layer, ctsa.random_tokens(3, 2), depth=10, every=5).ts.tolist()
        [0.0, 5.0, 10.0]
        >>> ctsa.iterate(layer, ctsa.random_tokens(3, 2), depth=100, until="fixed point").stats["stop_layers"]
        24
    """
    stack = isinstance(layer, Sequence)
    layers: Sequence[Any] = layer if isinstance(layer, Sequence) else [layer]
    if not layers or not all(callable(each) for each in layers):
        wrong = next((type(each).__name__ for each in layers if not callable(each)), "an empty sequence")
        raise TypeError(f"layer must be callable as layer(x), or a sequence of such, got {wrong}")
    wrong_arity = [checks.arity(each) for each in layers if checks.arity(each) not in (-1, 1)]
    if wrong_arity and not any(hasattr(each, "drift") for each in layers):
        raise TypeError(f"layer must be callable as layer(x), but takes {wrong_arity[0]} arguments")
    if any(hasattr(each, "drift") for each in layers):
        raise TypeError("layer is a field(t, x): ctsa.EulerLayer(field, step) makes a layer of it")
    if depth is None:
        if not stack:
            raise TypeError("depth must be an integer, how many times to apply the layer, got None")
        depth = len(layers)
    depth, every = checks.integer("depth", depth, low=1), checks.integer("every", every, low=1)
    if depth % every:
        raise ValueError(f"every={every} does not divide depth={depth}")
    if stack and depth > len(layers):
        raise ValueError(f"depth={depth}, but there are {len(layers)} layers")
    first = layers[0]
    if not stack and getattr(first, "counts", False) and first.k is None:
        layers, stack = first.layers(depth), True
    g = geometry_of(first, geometry)
    x = start_of(packed(first, x0), home_of(first), g, normalize)
    for each in layers[:depth]:
        checks.fit_field(each, x.shape)
    be = backend(x)
    if depth > _MOST:
        raise ValueError(f"depth={depth:.3g} layers would not end: at most {_MOST:.0e}")
    size = float(np.prod(x.shape, dtype=float))
    checks.room(f"{depth // every} states", depth / every * size, remedy="keep fewer of them, every=")
    if until is not None:
        if stack:
            raise TypeError("until goes with one layer that is applied again and again, not with a sequence")
        ts, states, stats = run_until(be, first, g, x, depth, every, until, rest)
        on_manifold(be, [g] * (len(states) - 1), states[1:], every)
        return Trajectory(be.like(ts, x), states, stats)
    if rest is not None:
        raise ValueError('rest goes with until="fixed point"')
    xs = passed(layers[:depth] if stack else first, x, depth, every)
    homes = [geometry_of(each, geometry) for each in layers[every - 1 : depth : every]] if stack else [g] * len(xs)
    on_manifold(be, homes, xs, every)
    ts = be.like([every * i for i in range(depth // every + 1)], x)
    return Trajectory(ts, be.xp.concatenate([x[None], xs]), {"layers": depth})
