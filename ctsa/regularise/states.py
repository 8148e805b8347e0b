"""Regularisers of states: at rest, of a given scale, the same from every start."""

from typing import Any

from ctsa import checks
from ctsa._types import States
from ctsa.geometry import Geometry

from ._reading import lengths, read

Array = Any


def residual(layer: Any, x: States, *, geometry: Geometry | None = None) -> Array:
    """Return ``|f(x) - x|^2 / |x|^2``, how far states are from rest, for every sample.

    At the end of a run of random length it asks for a fixed point wherever the run may stop. Cost: 1 forward.

    Args:
        layer: any layer or module.
        x: states ``(..., n, d)``, one a sample.
        geometry: where a bare module lives; the sphere by default.

    Returns:
        ``(...)``; where x is 0, ``|f(x)|^2``.

    Example:
        >>> import torch, ctsa
        >>> x = torch.ones(2, 1, 3, dtype=torch.float64)
        >>> ctsa.regularise.residual(lambda x: 0.5 * x, x, geometry=ctsa.Euclidean()).tolist()
        [0.25, 0.25]

    References:
        A terminal objective for fixed points: arXiv 2608.18222; the residual as a measure of equilibrium reasoning: arXiv
        2605.21488.
    """
    r = read(layer, x, geometry)
    moved = ((r.layer(r.x) - r.x) ** 2).sum((-2, -1))
    size = (r.x * r.x).sum((-2, -1))
    return moved / (size + (size == 0))


def scale(x: States) -> Array:
    """Return the mean over tokens of ``(|x_i|^2 / d - 1)^2``, for every sample: 0 where components have size one.

    A readout behind a norm does not see how long tokens are, so that nothing else keeps them from growing.

    Args:
        x: states ``(..., n, d)``, such as those after every loop.

    Returns:
        ``(...)``.

    Example:
        >>> import torch, ctsa
        >>> ctsa.regularise.scale(torch.full((1, 5, 4), 2.0)).tolist()  # (4 - 1)^2
        [9.0]
    """
    x = checks.states(x)
    return (((x * x).mean(-1) - 1) ** 2).mean(-1)


def restart(layer: Any, x0: States, other: States, loops: int, *, geometry: Geometry | None = None) -> Array:
    """Return ``|f^T(x0) - f^T(x0')|^2 / |f^T(x0)|^2`` after T loops from two starts, for every sample.

    The answer should depend on the input, not on the start. Cost: ``2 T`` forwards.

    Args:
        layer: any layer or module, with its inputs.
        x0: states ``(..., n, d)``.
        other: other starts, of the same shape.
        loops: T.
        geometry: where a bare module lives; the sphere by default.

    Returns:
        ``(...)``.

    Example:
        >>> import torch, ctsa
        >>> x0, other = torch.ones(1, 1, 2), torch.full((1, 1, 2), 3.0)
        >>> ctsa.regularise.restart(lambda x: 0.5 * x + 1, x0, other, 60, geometry=ctsa.Euclidean()).item() < 1e-12
        True

    References:
        Restarts as breadth of a reasoning model: arXiv 2605.21488.
    """
    loops = checks.integer("loops", loops, low=1)
    a, b = read(layer, x0, geometry, "x0"), read(layer, other, geometry, "other")
    if a.x.shape != b.x.shape:
        raise ValueError(f"other must have the shape of x0, {tuple(a.x.shape)}, got {tuple(b.x.shape)}")
    x, y = a.x, b.x
    for _ in range(loops):
        x, y = layer(x), layer(y)
    size = (x * x).sum((-2, -1))
    return lengths(x - y) ** 2 / (size + (size == 0))
