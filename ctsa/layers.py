"""Discrete maps ``layer(x) -> x``, and their iteration."""

from collections.abc import Callable
from typing import Any

from . import checks
from ._backend import backend, framework
from ._results import Trajectory
from .geometry import Geometry, geometry_of
from .variational import pushforward

Array = Any


class EulerLayer:
    """One explicit Euler step of a field, retracted: ``layer(x) = N(x + step * field(0, x))``.

    ``ctsa.EulerLayer`` takes any field; ``ctsa.torch.EulerLayer`` is an ``nn.Module`` and ``ctsa.jax.EulerLayer`` an
    ``eqx.Module`` whose ``step`` can be learnt.

    Args:
        field: any field; the layer lives on its geometry.
        step: size of the step, positive.
        geometry: where a bare callable lives.

    Raises:
        TypeError: ``field`` is not callable.
        ValueError: ``step`` is not a positive number.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> path = ctsa.iterate(ctsa.EulerLayer(SelfAttention(beta=4.0), step=0.1), ctsa.random_tokens(8, 3), depth=50)
        >>> tuple(path.xs.shape)
        (51, 8, 3)
    """

    field: Any
    step: Any
    geometry: Geometry

    def __init__(self, field, step, geometry=None):
        if not callable(field):
            raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
        home, own = framework(self), framework(field)
        if None not in (home, own) and home != own:
            raise TypeError(f"field is one of {own}, but the layer is one of {home}: use the EulerLayer of ctsa.{own}")
        step = checks.parameter("step", step, 0)
        if step is None:
            raise TypeError("step must be a positive number, got None")
        size = checks.concrete(step)
        if size is not None and not size > 0:
            raise ValueError(f"step must be positive, got {float(size):g}")
        self._assign(dict(step=step), {}, field=field, geometry=geometry_of(field, geometry))

    def _assign(self, parameters: dict[str, Any], constants: dict[str, Any], **static: Any) -> None:
        self.step = float(parameters["step"])
        for name, value in static.items():
            setattr(self, name, value)

    def update(self, x: Array) -> Array:
        """Return the next state, of the shape of ``x``."""
        t = backend(x).like(0.0, x)
        return self.geometry.retract(x + self.step * self.field(t, x))

    def tangent(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the next state and its derivative along ``u`` of shape ``(k, ..., n, d)``.

        ``N(y)`` has the derivative ``P_y / |y|`` for ``y = x + step F(x)``.
        """
        f, df = pushforward(self.field, backend(x).like(0.0, x), x, u)
        y, dy = x + self.step * f, u + self.step * df
        return self.geometry.retract(y), self.geometry.retract_tangent(y, dy)

    def __call__(self, x: Array) -> Array:
        return self.update(x)

    def __repr__(self) -> str:
        return f"EulerLayer(step={float(self.step):g}, field={type(self.field).__name__})"


def _next(layer, x):
    y = layer(x)
    if getattr(y, "shape", None) != x.shape or y.dtype != x.dtype:
        got = f"{tuple(y.shape)} of {y.dtype}" if hasattr(y, "dtype") else type(y).__name__
        raise ValueError(f"layer must return a state like x, {tuple(x.shape)} of {x.dtype}, got {got}")
    return y


def _apply(layer, every, x):
    be = backend(x)
    x = be.repeat(be.partial(_next, layer), x, every)
    return x, x


def iterate(
    layer: Callable[[Array], Array], x0: Array, depth: int, *, every: int = 1, normalize: bool = False, geometry=None
) -> Trajectory:
    """Apply a layer ``depth`` times and return the states on the way.

    Args:
        layer: any callable ``layer(x) -> x``.
        x0: unit tokens ``(..., n, d)``; NumPy is converted to the layer's framework and dtype.
        depth: how many times.
        every: keep every so many layers; divides ``depth``.
        normalize: normalise ``x0`` instead of refusing tokens that are not unit.
        geometry: where a bare callable lives.

    Returns:
        ``Trajectory`` with ``ts = 0, every, ..., depth`` (layers passed) and ``xs`` of shape
        ``(depth / every + 1, ..., n, d)``.

    Raises:
        ValueError: ``depth`` or ``every`` is not a positive integer, or ``every`` does not divide ``depth``.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.EulerLayer(Oja([[2.0, 0.0], [0.0, 1.0]]), step=0.5)
        >>> ctsa.iterate(layer, ctsa.random_tokens(3, 2), depth=10, every=5).ts.tolist()
        [0.0, 5.0, 10.0]
    """
    if not callable(layer):
        raise TypeError(f"layer must be callable as layer(x), got {type(layer).__name__}")
    depth, every = checks.integer("depth", depth, low=1), checks.integer("every", every, low=1)
    if depth % every:
        raise ValueError(f"every={every} does not divide depth={depth}")
    geometry = geometry_of(layer, geometry)
    home = layer if framework(layer) else getattr(layer, "field", layer)
    x = checks.tokens(x0, home, geometry, normalize=normalize)
    checks.fit_field(getattr(layer, "field", None), *x.shape[-2:])
    be = backend(x)
    _, xs = be.scan(be.partial(_apply, layer, every), x, depth // every)
    ts = be.like([every * i for i in range(depth // every + 1)], x)
    return Trajectory(ts, be.xp.concatenate([x[None], xs]), {"layers": depth})
