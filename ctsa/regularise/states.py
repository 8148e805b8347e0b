"""Regularisers of states: at rest, of one scale, the same from every start."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend
from ctsa._types import States
from ctsa.geometry import Geometry

from ._opening import landed, opened, stepped

Array = Any


def residual(layer: Any, x: States, *, geometry: Geometry | None = None) -> Array:
    """Return ``|f(x) - x|^2 / |x|^2``, how far states are from rest, for every sample.

    At the end of a run of random length it asks for a fixed point wherever the run may stop. A loop that creeps has a small
    one, too.

    Cost: 1 forward.

    Args:
        layer: a layer or module; dropout in training mode is fine, as it is called once.
        x: states ``(..., n, d)``, one a sample.
        geometry: where a bare module or function lives.

    Returns:
        ``(...)``; of the state 0, which has no scale, ``|f(0)|^2``.

    Raises:
        TypeError: ``layer`` is no layer.
        ValueError: a shape is wrong, or the layer left the manifold.

    Example:
        >>> import torch, ctsa
        >>> x = torch.ones(2, 1, 3, dtype=torch.float64)
        >>> ctsa.regularise.residual(lambda x: 0.5 * x, x, geometry=ctsa.Euclidean()).tolist()
        [0.25, 0.25]

    References:
        Terminal objectives for fixed points, arXiv 2608.18222; EqR, arXiv 2605.21488.
    """
    r = opened(layer, x, geometry, once=True)
    xp, y = backend(r.x).xp, landed(r, stepped(layer, r.x))
    size = (r.x * r.x).sum((-2, -1))
    return ((y - r.x) ** 2).sum((-2, -1)) / xp.where(size > 0, size, xp.ones_like(size))


def scale(x: States) -> Array:
    """Return the mean over tokens of ``(|x_i|^2 / d - 1)^2``, for every sample: 0 where components have size one.

    A readout behind a norm does not see how long tokens are, so that nothing else keeps them from growing with the loops.

    Cost: none.

    Args:
        x: states ``(..., n, d)``, such as those after every loop.

    Returns:
        ``(...)``.

    Raises:
        TypeError, ValueError: ``x`` is no array ``(..., n, d)``, or has nan or inf.

    Example:
        >>> import torch, ctsa
        >>> ctsa.regularise.scale(torch.full((1, 5, 4), 2.0)).tolist()  # (4 - 1)^2
        [9.0]
    """
    x = checks.states(x, finite=True)
    return (((x * x).mean(-1) - 1) ** 2).mean(-1)


def restart(layer: Any, x0: States, other: States, *, loops: int, geometry: Geometry | None = None) -> Array:
    """Return ``|f^T(x0) - f^T(x0')|^2`` after T loops from two starts, for every sample.

    The answer should depend on the input, not on the start.

    Cost: ``2 T`` forwards, with their graph.

    Args:
        layer: a layer or module, with its inputs; without dropout, whose noise would be measured, too.
        x0: states ``(..., n, d)``, one a sample.
        other: other starts, of the same shape.
        loops: T.
        geometry: where a bare module or function lives.

    Returns:
        ``(...)``.

    Raises:
        TypeError: ``layer`` is no layer.
        ValueError: shapes differ, or the layer is in training mode and draws random numbers.

    Example:
        >>> import torch, ctsa
        >>> x0, other = torch.ones(1, 1, 2), torch.full((1, 1, 2), 3.0)
        >>> ctsa.regularise.restart(lambda x: 0.5 * x + 1, x0, other, loops=2, geometry=ctsa.Euclidean()).tolist()
        [0.5]

    References:
        EqR, arXiv 2605.21488.
    """
    loops = checks.integer("loops", loops, low=1)
    a, b = opened(layer, x0, geometry, "x0"), opened(layer, other, geometry, "other")
    if a.x.shape != b.x.shape or a.x.dtype != b.x.dtype:
        raise ValueError(
            f"other must be like x0, {tuple(a.x.shape)} of {a.x.dtype}, got {tuple(b.x.shape)} of {b.x.dtype}"
        )
    be = backend(a.x)
    step = be.partial(stepped, layer)
    x, y = (landed(a, be.repeat(step, start, loops)) for start in (a.x, b.x))
    return ((x - y) ** 2).sum((-2, -1))
