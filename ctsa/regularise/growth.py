"""Regularisers of growth: gain, norm, radius, exponents."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend
from ctsa._types import States
from ctsa.geometry import Geometry
from ctsa.tangent.coordinates import reorthonormalise
from ctsa.tangent.pieces import log_diagonal

from ._reading import directions, hinge, lengths, pull, push, read, unit

Array = Any


def rms_gain(layer: Any, x: States, key: Any, *, probes: int = 1, geometry: Geometry | None = None) -> Array:
    """Return the mean squared gain ``|J v|^2`` along random tangent directions v of length one, for every sample.

    Its mean over v is ``|J|_F^2 / N`` with N the dimension of the manifold: neither norm nor radius, though the cheapest
    brake on both. With one probe it varies: its relative spread is that of ``|J v|^2`` over directions.

    Cost: about 2 forwards a probe, and their gradients.

    Args:
        layer: any layer or module.
        x: states ``(..., n, d)``, one a sample; detach them to regularise the layer alone.
        key: of the random directions: an integer, a ``numpy.random.Generator`` (which goes on from call to call), or on JAX
            a key. Take another one in every step.
        probes: how many directions.
        geometry: where a bare module lives; the sphere by default.

    Returns:
        ``(...)``.

    Raises:
        ValueError: a module is in training mode and draws random numbers: a derivative is that of one map.
        TypeError: ``layer`` is no layer.

    Example:
        >>> import numpy as np, torch, ctsa
        >>> matrix = torch.diag(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)).requires_grad_()
        >>> x = torch.zeros(4, 1, 3, dtype=torch.float64)
        >>> gain = ctsa.regularise.rms_gain(lambda x: x @ matrix, x, np.random.default_rng(0), geometry=ctsa.Euclidean())
        >>> gain.mean().backward()
        >>> tuple(gain.shape), bool(matrix.grad[0, 0] > 0)
        ((4,), True)

    References:
        Bai, Koltun, Kolter, *Stabilizing equilibrium models by Jacobian regularization*, arXiv 2106.14342 (with J
        transposed, which has the same mean).
    """
    r = read(layer, x, geometry)
    _, du = push(r, r.x, directions(r, checks.integer("probes", probes, low=1), key))
    return (du * du).sum((-2, -1)).mean(0)


def spectral_norm(
    layer: Any,
    x: States,
    key: Any,
    *,
    above: float | None = 1.0,
    steps: int = 4,
    start: Array | None = None,
    directions_too: bool = False,
    geometry: Geometry | None = None,
) -> Any:
    """Return ``relu(|J v| - above)^2`` with v after ``steps`` power steps of ``J^T J``, for every sample.

    ``|J v|`` is at most the spectral norm, and close to it once the leading singular value stands out. Gradients go through
    ``J v`` at the v that was found, which is exact where v has converged.

    Cost: ``2 steps`` products without a gradient, then about 2 forwards and their gradients. Directions that are carried
    from batch to batch (``start=``) need a step or two.

    Args:
        layer, x, geometry: as for ``rms_gain``.
        key: of the first direction, see ``rms_gain``; unused with ``start``.
        above: norms below cost nothing; None returns the norm itself.
        steps: power steps; 0 leaves the direction as it is.
        start: directions to begin with ``(..., n, d)``.
        directions_too: also return the directions.

    Returns:
        ``(...)``, or that and directions ``(..., n, d)``.

    Example:
        >>> import torch, ctsa
        >>> matrix = torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
        >>> x = torch.zeros(2, 1, 3, dtype=torch.float64)
        >>> off = ctsa.regularise.spectral_norm(lambda x: x @ matrix, x, 0, steps=20, geometry=ctsa.Euclidean())
        >>> off.numpy().round(6).tolist()  # (3 - 1)^2
        [4.0, 4.0]

    References:
        Power steps as in Miyato et al., arXiv 1802.05957; the norm of a recurrent layer's Jacobian as the quantity to
        watch: Tomihari and Karakida, arXiv 2505.19458.
    """
    steps, above = checks.integer("steps", steps), _above(above)
    r = read(layer, x, geometry)
    be = backend(r.x)
    v = directions(r, 1, key)[0] if start is None else unit(r.geometry.project(r.x, _given(start, r.x)))
    fixed = be.stop_gradient(r.x)
    for _ in range(steps):
        _, w = push(r, fixed, v[None])
        v = be.stop_gradient(unit(pull(r, fixed, be.stop_gradient(w[0]))))
    _, w = push(r, r.x, be.stop_gradient(v)[None])
    found = hinge(lengths(w[0]), above)
    return (found, be.stop_gradient(v)) if directions_too else found


def spectral_radius(
    layer: Any,
    x: States,
    key: Any,
    *,
    above: float | None = None,
    steps: int = 10,
    last: int = 4,
    geometry: Geometry | None = None,
) -> Array:
    """Return the growth of ``v <- J v`` in a step, the geometric mean of the last ones of ``steps``, for every sample.

    It tends to the spectral radius of J; the mean over several steps is for complex pairs, whose lengths swing. Only the
    last steps have a gradient. Near a fixed point it is the rate at which the layer settles.

    Cost: about ``2 steps`` forwards, of the last ones with their gradients.

    Args:
        layer, x, geometry: as for ``rms_gain``. The tangent spaces at ``x`` and ``layer(x)`` are taken for the same, as
            at a fixed point.
        key: of the first direction, see ``rms_gain``.
        above: ``relu(radius - above)^2`` is returned; None returns the radius itself.
        steps: how many products, at least ``last``.
        last: over how many of them the mean is taken.

    Returns:
        ``(...)``.

    Example:
        >>> import torch, ctsa
        >>> turn = 0.9 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
        >>> x = torch.zeros(1, 1, 2, dtype=torch.float64)
        >>> round(ctsa.regularise.spectral_radius(lambda x: x @ turn, x, 0, geometry=ctsa.Euclidean()).item(), 9)
        0.9

    References:
        The intention of Jacobian-regularised looped models (STARS), whose code with one iteration has ``rms_gain``.
    """
    last, above = checks.integer("last", last, low=1), _above(above)
    steps = checks.integer("steps", steps, low=last)
    r = read(layer, x, geometry)
    be, v, logs = backend(r.x), directions(r, 1, key)[0], []
    fixed = be.stop_gradient(r.x)
    for i in range(steps):
        late = i >= steps - last
        _, w = push(r, r.x if late else fixed, v[None])
        if late:
            logs.append(be.xp.log(lengths(w[0])))
        v = unit(r.geometry.project(r.x if late else fixed, w[0]))
        v = v if late else be.stop_gradient(v)
    return hinge(be.xp.exp(be.xp.stack(logs).mean(0)), above)


def exponent(
    layer: Any,
    x: States,
    key: Any,
    *,
    loops: int = 8,
    count: int = 1,
    target: float = 0.0,
    below: bool = True,
    geometry: Geometry | None = None,
) -> Array:
    """Return how far exponents over the next loops are from a target, for every sample.

    ``relu(lambda_1 - target)^2``, or with ``below=False`` or several exponents ``sum_i (lambda_i - target)^2``. States and
    frame are carried without a gradient: every loop contributes the derivative of its own growth. ``ctsa.exponents`` has
    the gradient through the whole run.

    Cost: ``2 count loops`` forwards and their gradients.

    Args:
        layer, x, geometry: as for ``rms_gain``.
        key: of the first frame, see ``rms_gain``.
        loops: over how many.
        count: how many exponents.
        target: per loop.
        below: exponents below the target cost nothing.

    Returns:
        ``(...)``.

    Example:
        >>> import torch, ctsa
        >>> x = torch.zeros(2, 1, 3, dtype=torch.float64)
        >>> off = ctsa.regularise.exponent(lambda x: 0.5 * x, x, 0, target=-1.0, geometry=ctsa.Euclidean())
        >>> off.numpy().round(6).tolist()  # (log(1/2) + 1)^2
        [0.094159, 0.094159]

    References:
        Engelken, *Gradient flossing*, NeurIPS 2023 (target 0, all exponents).
    """
    loops, count = checks.integer("loops", loops, low=1), checks.integer("count", count, low=1)
    target, below = checks.number("target", target), bool(checks.flag("below", below))
    r = read(layer, x, geometry)
    be, g, y = backend(r.x), r.geometry, r.x
    size = g.dimension(*y.shape[-2:])
    if count > size:
        raise ValueError(f"count={count} is more than the dimension of the manifold, {size}")
    _, u, _ = reorthonormalise(g, y, directions(r, count, key))
    total: Any = 0.0
    for _ in range(loops):
        y, u = push(r, be.stop_gradient(y), be.stop_gradient(u))
        y, u, triangle = reorthonormalise(g, y, u)
        total = total + log_diagonal(triangle)
    off = total / loops - target
    off = be.xp.where(off > 0, off, 0 * off) if below else off
    return (off**2).sum(-1)


def _above(value: Any) -> float | None:
    return None if value is None else checks.number("above", value, low=0.0)


def _given(start: Any, x: Array) -> Array:
    u = checks.plain("start", start)
    shape = tuple(getattr(u, "shape", ()))
    if shape != tuple(x.shape):
        raise ValueError(f"start must be directions of the shape of x, {tuple(x.shape)}, got shape {shape}")
    return backend(x).like(u, x)
