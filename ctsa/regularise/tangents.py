"""The regulariser of Lyapunov exponents along a loop."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend, no_graph
from ctsa._types import Directions, States
from ctsa.geometry import Geometry
from ctsa.tangent.coordinates import flatten_frame, qr_positive, unflatten_frame

from ._opening import directions, given, lengths, limit, logarithm, look, opened, pushed, relu, tangential, unit

Array = Any


def exponent(
    layer: Any,
    x: States,
    *,
    loops: int = 8,
    count: int = 1,
    above: float | None = None,
    target: float | None = None,
    transient: int = 0,
    seed: Any = 0,
    frame: Directions | None = None,
    carry: bool = False,
    geometry: Geometry | None = None,
) -> Any:
    """Return what exponents over the next loops cost, for every sample.

    ``sum_i relu(lambda_i - above)^2``, or ``sum_i (lambda_i - target)^2``, or with neither ``sum_i lambda_i``, over the
    first ``count`` exponents, per loop: ``lambda_i`` is the mean over ``loops`` of ``log R_ii``, R the triangular factor of
    the frame that the layer has carried on. The first frame has no gradient; from there on the gradient is exact, through
    states and frame, so that ``loops`` should be few: it grows like the product of Jacobians. Detach x to cut off the path
    before.

    Cost: ``loops`` forwards and ``count loops`` forward products with a graph; ``transient`` of these without one.

    Args:
        layer, geometry: as for ``spectral_norm``.
        x: states ``(..., n, d)`` where the loops begin.
        loops: over how many.
        count: how many exponents.
        above: smaller exponents cost nothing.
        target: what each exponent should be; 0 is gradient flossing.
        transient: loops before, without a gradient, in which a random frame finds the directions that grow.
        seed: of the first frame, see ``rms_gain``.
        frame: the first frame instead, ``(count, ..., n, d)``.
        carry: also return the last frame, for the next ``frame``.

    Returns:
        ``(...)``, with ``carry`` also the frame ``(count, ..., n, d)``, without a gradient.

    Raises:
        ValueError: both ``above`` and ``target`` are given, ``count`` exceeds the dimension, or the layer is in training
            mode and draws random numbers.

    Example:
        >>> import torch, ctsa
        >>> x = torch.zeros(2, 1, 3, dtype=torch.float64)
        >>> off = ctsa.regularise.exponent(lambda x: 0.5 * x, x, target=-1.0, geometry=ctsa.Euclidean())
        >>> off.numpy().round(6).tolist()  # (log(1/2) + 1)^2
        [0.094159, 0.094159]

    References:
        Engelken, *Gradient flossing*, NeurIPS 2023.
    """
    loops, count = checks.integer("loops", loops, low=1), checks.integer("count", count, low=1)
    transient, carry = checks.integer("transient", transient), bool(checks.flag("carry", carry))
    above, target = limit("above", above), limit("target", target)
    if above is not None and target is not None:
        raise ValueError(f"above={above:g} and target={target:g} are two regularisers: leave one out")
    r = opened(layer, x, geometry)
    be, g = backend(r.x), r.geometry
    size = g.dimension(*r.x.shape[-2:])
    if count > size:
        raise ValueError(f"count={count} is more than the dimension of the manifold, {size}")
    u = directions(r.x, count, seed) if frame is None else given("frame", frame, r.x)
    if u.shape[0] != count:
        raise ValueError(f"frame must have count={count} directions, got {u.shape[0]}")
    state = r.x, be.stop_gradient(_orthonormal(tangential(g, r.x, u))[0])
    step = be.partial(_step, layer, g)
    look(r)
    if transient:
        with no_graph():
            state, _ = be.scan(be.partial(_cut, step), tuple(be.stop_gradient(a) for a in state), transient)
    (_, u), logs = be.scan(step, state, loops)
    found = logs.mean(0)  # (..., count)
    if above is not None:
        found = relu(found - above) ** 2
    if target is not None:
        found = (found - target) ** 2
    value = found.sum(-1)
    return (value, be.stop_gradient(u)) if carry else value


def _step(layer: Any, g: Geometry, state: tuple) -> tuple:
    """Carry state and frame through a loop; return them, and the logarithms of growth ``(..., k)``."""
    x, du = pushed(layer, *state)
    x = g.retract(x)
    u, logs = _orthonormal(tangential(g, x, du))
    return (x, u), logs


def _cut(step: Any, state: tuple) -> tuple:
    """Do ``step`` without a gradient."""
    (x, u), logs = step(state)
    stop = backend(x).stop_gradient
    return (stop(x), stop(u)), stop(logs)


def _orthonormal(u: Array) -> tuple[Array, Array]:
    """Return an orthonormal frame of ``(k, ..., n, d)``, and the logarithms of the diagonal factor, ``(..., k)``."""
    xp = backend(u).xp
    if u.shape[0] == 1:  # also where nothing is left, at which QR has no derivative
        return unit(u), logarithm(lengths(u))[0][..., None]
    q, factor = qr_positive(flatten_frame(u))
    return unflatten_frame(q, u.shape), logarithm(xp.linalg.diagonal(factor))
