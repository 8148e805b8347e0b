"""Regularisers of the Jacobian at a state: mean gain, largest gain, spectral radius."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend, no_graph
from ctsa._types import Directions, States
from ctsa.geometry import Geometry

from ._opening import (
    directions,
    given,
    lengths,
    limit,
    linearised,
    logarithm,
    look,
    opened,
    pushed,
    relu,
    tangential,
    unit,
)

Array = Any


def rms_gain(
    layer: Any,
    x: States,
    *,
    probes: int = 1,
    seed: Any = None,
    v: Directions | None = None,
    geometry: Geometry | None = None,
) -> Array:
    """Return the mean squared gain ``|J^T v|^2`` over ``probes`` random directions of length one, for every sample.

    v is uniform on the unit sphere of the tangent space at ``layer(x)``, so that the mean over v is ``|J|_F^2 / N`` with N
    the dimension of the manifold: ``n (d - 1)`` on the sphere, ``n d`` in flat space. That is neither the norm nor the
    radius, and says little of a single mode that grows.

    Reverse products serve in both frameworks: with the gradient in the parameters a step took 0.5 to 0.75 of the time that
    forward products need in torch, 0.9 in JAX, and all probes share one forward.

    Cost: 1 forward, and a backward a probe, differentiated again: about 4 times a plain step of training.

    Args:
        layer: a layer or module. Dropout in training mode is fine: forward and products have one mask, since the layer is
            called once. Batch statistics are refused, as they couple samples.
        x: states ``(..., n, d)``, one a sample. Detach them to leave the path that led there alone.
        probes: how many directions.
        seed: of the directions: an integer, or on JAX a key, which may be traced. Take another one in every step
            (``seed=step``). Under ``jax.vmap`` every sample needs a key of its own.
        v: the directions instead, ``(probes, ..., n, d)`` or ``(..., n, d)``; they are projected and made unit.
        geometry: where a bare module or function lives; the sphere, if nothing says otherwise.

    Returns:
        ``(...)``.

    Raises:
        TypeError: neither ``seed`` nor ``v`` is given, or ``layer`` is no layer.
        ValueError: a shape is wrong, or the layer left the manifold.

    Example:
        >>> import torch, ctsa
        >>> j = torch.diag(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)).requires_grad_()
        >>> x = torch.zeros(2000, 1, 3, dtype=torch.float64)
        >>> gain = ctsa.regularise.rms_gain(lambda x: x @ j, x, seed=0, geometry=ctsa.Euclidean())
        >>> gain.mean().backward()
        >>> tuple(gain.shape), abs(gain.mean().item() - 3) < 0.2, bool(j.grad[0, 0] > 0)  # |J|_F^2 / N = 9 / 3
        ((2000,), True, True)

    References:
        Bai, Koltun, Kolter, arXiv 2106.14342. The code of STARS has it with v of length one over the whole batch.
    """
    probes = checks.integer("probes", probes, low=1)
    if seed is None and v is None:
        raise TypeError("seed must be given (seed=step: other directions in every step), or v, the directions")
    r = opened(layer, x, geometry, once=True)
    w = directions(r.x, probes, seed) if v is None else given("v", v, r.x)
    y, back = linearised(r)
    w = unit(tangential(r.geometry, y, w))
    back_to_x = [tangential(r.geometry, r.x, back(one)) for one in w]
    return sum((u * u).sum((-2, -1)) for u in back_to_x) / len(back_to_x)


def spectral_norm(
    layer: Any,
    x: States,
    *,
    above: float | None = 1.0,
    steps: int = 4,
    seed: Any = 0,
    start: Any = None,
    carry: bool = False,
    geometry: Geometry | None = None,
) -> Any:
    """Return ``relu(|J v| - above)^2``, v after ``steps`` power steps of ``J^T J``, for every sample.

    ``|J v|`` never exceeds the largest singular value, and reaches it at a rate of ``(sigma_2 / sigma_1)^(2 steps)``. The
    gradient is that of ``|J v|`` at the v found, taken as ``<J^T u, v>`` with ``u = J v / |J v|``: where v has converged,
    the gradient of the norm itself.

    Cost: 1 forward; without a graph a forward and a backward product a step; a backward that is differentiated again.

    Args:
        layer, x, geometry: as for ``rms_gain``, but without dropout: products of several masks are of several maps.
        above: smaller norms cost nothing; None returns the norm.
        steps: power steps; with ``start`` from the batch before, one or two are enough.
        seed: of the first direction, see ``rms_gain``.
        start: first directions ``(..., n, d)`` instead.
        carry: also return v, for the next ``start``.

    Returns:
        ``(...)``, with ``carry`` also v ``(..., n, d)``, without a gradient.

    Raises:
        ValueError: the layer is in training mode and draws random numbers; call ``eval()`` for it.

    Example:
        >>> import torch, ctsa
        >>> j = torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
        >>> x = torch.zeros(2, 1, 3, dtype=torch.float64)
        >>> off = ctsa.regularise.spectral_norm(lambda x: x @ j, x, steps=20, geometry=ctsa.Euclidean())
        >>> off.numpy().round(9).tolist()  # (3 - 1)^2
        [4.0, 4.0]

    References:
        Tomihari and Karakida, arXiv 2505.19458, for weights; power steps as in Miyato et al., arXiv 1802.05957.
    """
    above, steps, carry = limit("above", above, 0.0), checks.integer("steps", steps), bool(checks.flag("carry", carry))
    r = opened(layer, x, geometry)
    be, g = backend(r.x), r.geometry
    v = _first(r.x, g, seed, start)
    fixed = be.stop_gradient(r.x)
    _, back = linearised(r)

    def image(v: Array) -> Array:
        return be.stop_gradient(unit(pushed(layer, fixed, v[None])[1][0]))

    def power(v: Array) -> Array:
        return be.stop_gradient(unit(tangential(g, fixed, back(image(v)))))

    with no_graph():
        v = be.repeat(power, v, steps)
        u = image(v)
    norm = (back(u) * v).sum((-2, -1))  # <u, J v>
    value = norm if above is None else relu(norm - above) ** 2
    return (value, v) if carry else value


def spectral_radius(
    layer: Any,
    x: States,
    *,
    above: float | None = None,
    steps: int = 10,
    last: int | None = None,
    seed: Any = 0,
    start: Any = None,
    carry: bool = False,
    geometry: Geometry | None = None,
) -> Any:
    """Return the growth of ``v <- J v``, the geometric mean of the ``last`` of ``steps``, for every sample.

    It tends to the spectral radius; the mean over several steps is for complex pairs, under which lengths swing. At a fixed
    point the radius is the rate at which a loop settles. The gradient is exact for the mean of the last steps, with the
    direction before them held fixed.

    Cost: ``steps`` forward products, of which the last ones have a graph.

    Args:
        layer, x, geometry: as for ``spectral_norm``. The image of v is projected onto the tangent space at x, as in
            ``ctsa.eigenvalues``: at a fixed point both are the same.
        above: ``relu(radius - above)^2`` is returned; None returns the radius.
        steps: how many products.
        last: over how many of them the mean is taken; None for the second half.
        seed, start, carry: as for ``spectral_norm``.

    Returns:
        ``(...)``, with ``carry`` also v ``(..., n, d)``, without a gradient.

    Raises:
        ValueError: ``last`` exceeds ``steps``, or the layer is in training mode and draws random numbers.

    Example:
        >>> import torch, ctsa
        >>> turn = 0.9 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
        >>> x = torch.zeros(1, 1, 2, dtype=torch.float64)
        >>> round(ctsa.regularise.spectral_radius(lambda x: x @ turn, x, geometry=ctsa.Euclidean()).item(), 9)
        0.9

    References:
        What the regulariser of STARS is named after; its code with one iteration is ``rms_gain``.
    """
    above, steps = limit("above", above, 0.0), checks.integer("steps", steps, low=1)
    last = (steps + 1) // 2 if last is None else checks.integer("last", last, low=1)
    carry = bool(checks.flag("carry", carry))
    if last > steps:
        raise ValueError(f"last={last} is more than steps={steps}: raise steps")
    r = opened(layer, x, geometry)
    be, g = backend(r.x), r.geometry
    v = _first(r.x, g, seed, start)

    def image(x: Array, v: Array) -> Array:
        return tangential(g, x, pushed(layer, x, v[None])[1][0])

    fixed = be.stop_gradient(r.x)
    look(r)
    with no_graph():
        v = be.repeat(lambda v: be.stop_gradient(unit(image(fixed, v))), v, steps - last)
    logs = 0.0
    for _ in range(last):
        w = image(r.x, v)
        logs, v = logs + logarithm(lengths(w)), unit(w)
    radius = be.xp.exp(logs / last)
    value = radius if above is None else relu(radius - above) ** 2
    return (value, be.stop_gradient(v)) if carry else value


def _first(x: Array, g: Geometry, seed: Any, start: Any) -> Array:
    """Return tangent directions of length one ``(..., n, d)``, without a gradient."""
    be = backend(x)
    v = directions(x, 1, seed) if start is None else given("start", start, x)
    if v.shape[0] != 1:
        raise ValueError(f"start must be one direction a sample, {tuple(x.shape)}, got shape {tuple(v.shape)}")
    return be.stop_gradient(unit(tangential(g, x, v[0])))
