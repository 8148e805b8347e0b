"""Exponents as a plain function of arrays, for gradients and transforms."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend, dtype_name, full_precision
from ctsa._types import Directions, States
from ctsa.derivatives import layer_pushforward, variational
from ctsa.flows.opening import check_solver, check_velocity
from ctsa.flows.solver import Solver, takes_solver
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry, direction_generator
from ctsa.layers.check import check_restless
from ctsa.layers.iteration import on_manifold
from ctsa.layers.stopping import following

from .coordinates import flatten_frame, qr_positive, reorthonormalise, unflatten_frame
from .march import check_moving, fit_frame, how_many, number_of_layers
from .pieces import log_diagonal

Array = Any


@takes_solver
def exponents(
    system: Any,
    x0: States,
    *,
    intervals: int = 10,
    interval: float = 1.0,
    transient: int = 0,
    count: int | None = None,
    frame: Directions | None = None,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-8,
    step: float | None = None,
    max_steps: int = 4096,
    seed: int = 0,
    t0: float = 0.0,
    geometry: Geometry | None = None,
    normalize: bool = False,
    adjoint: Any = None,
) -> Array:
    """Return exponents over a short horizon as an array through which gradients and transforms go.

    The mean over ``intervals`` of ``log(R_kk) / interval``, where ``R`` is the triangular factor of the frame that flow or
    layer have carried through an interval: what ``lyapunov_spectrum`` computes, without error bars, checkpoints and
    verdicts, in the framework of the system and on its graph. ``jax.jit``, ``vmap``, ``grad`` and ``jacrev`` go through on
    JAX, ``backward`` on torch. ``jax.vmap`` over a parameter is a sweep.

    **Gradients mean something on short horizons only.** Where motion is chaotic the derivative of an exponent along a
    trajectory of length T grows like ``exp(lambda_1 T)``, while that of its limit stays bounded (it need not even exist):
    no average over a long run brings it back. At equilibria, cycles and tori it converges. Frames are kept orthonormal at
    ends of intervals only, so that growth over one should differ by less than a factor of 1e8 between directions.

    Args:
        system: a field ``(t, x)``, a layer ``(x)``, or a sequence of layers.
        x0: unit tokens ``(n, d)``, or ``(..., n, d)`` for an ensemble with one step size.
        intervals: how many to average over.
        interval: time between reorthonormalisations; for layers their number.
        transient: intervals left out at the start.
        count: how many directions; None for all.
        frame: initial directions ``(k, ..., n, d)``; they are projected and made orthonormal. None draws them.
        solver, rtol, atol, step, max_steps: as for ``integrate``; a ``ctsa.Solver`` holds them all.
        seed: of the random frame.
        t0: time at the start.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.
        adjoint: on JAX how gradients go through a flow: None for reverse mode, ``diffrax.ForwardMode()`` for ``jvp`` and
            ``jacfwd``. torch takes both modes as it is.

    Returns:
        ``(..., k)`` in the order of the frame, of the framework and dtype of the system. They are not sorted: where two
        exponents cross, sorting has no derivative. Sums of the first j are smooth, the sum of all is the mean divergence.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.
        RuntimeError: the solver gave up.

    Example:
        >>> import torch, ctsa
        >>> from ctsa.torch import Oja
        >>> v = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
        >>> rate = ctsa.exponents(Oja(v), [[1.0, 0.0]], intervals=2)[0]  # at the pole: v_22 - v_11
        >>> rate.backward()
        >>> v.grad.diagonal().numpy().round(6).tolist()
        [-1.0, 1.0]

    References:
        Benettin et al., Meccanica 15 (1980) 9; on gradients of chaotic averages: Wang, Hu, Blonigan, J. Comput. Phys. 267
        (2014) 210.
    """
    intervals = checks.integer("intervals", intervals, low=1)
    transient = checks.integer("transient", transient, low=0)
    s = system_of(system, geometry)
    x = s.start(x0, normalize)
    be, g = backend(x), s.geometry
    t0 = checks.number("t0", t0)
    u = _frame(g, x, count, frame, seed)
    if adjoint is not None and not isinstance(adjoint, be.solvers.adjoints):
        raise TypeError(f"adjoint must be None, or on JAX an adjoint of diffrax, got {adjoint!r}")
    if s.flow:
        interval = checks.number("interval", interval, low=0.0, strict=True)
        x = check_velocity(be, system, g, be.like(t0, x), x)
        advance = be.partial(
            _through_flow, s.source, g, check_solver(Solver(solver, rtol, atol, step, max_steps), x).segment(interval),
            be.like(t0, x), be.like(interval, x), adjoint,
        )  # fmt: skip
    else:
        if step is not None:
            raise ValueError("step is for flows with a fixed-step solver; a layer is its own step")
        interval = number_of_layers(interval)
        for layer in s.source if s.kind == "layers" else (s.source,):
            check_restless(layer, x)
        on_manifold(be, [g], following(s.source[0] if s.kind == "layers" else s.source, x)[None], 1)
        advance = be.partial(_through_layers, s.source, g, interval)
    carry = (be.like(0.0, x), x, u)
    with full_precision(be.name):
        if s.kind == "layers":
            needed = (transient + intervals) * int(interval)
            if needed > len(s.source):
                raise ValueError(f"system has {len(s.source)} layers, but {needed} are asked for: take fewer intervals")
            logs = []
            for i in range(transient + intervals):
                piece = s.source[i * int(interval) : (i + 1) * int(interval)]
                carry, row = _through_layers(piece, g, int(interval), carry)
                logs.append(row)
            logs = be.xp.stack(logs)
        else:
            _, logs = be.scan(advance, carry, transient + intervals)
    return logs[transient:].mean(0) / interval


def _frame(g: Geometry, x: Array, count: Any, frame: Any, seed: int) -> Array:
    be, size = backend(x), g.dimension(*x.shape[-2:])
    check_moving(size, x)
    if frame is None:
        u = be.like(direction_generator(seed).normal(size=(how_many(count, size), *x.shape)), x)
    else:
        u = be.asarray(checks.plain("frame", frame), dtype_name(x), x, "frame")
        fit_frame(u, x, count, size)
    return unflatten_frame(qr_positive(flatten_frame(g.project(x, u)))[0], u.shape)


def _through_flow(field: Any, g: Geometry, segment: Any, t0: Array, interval: Array, adjoint: Any, carry: tuple) -> tuple:
    index, x, u = carry
    be = backend(x)
    rhs = be.partial(variational, field, g)
    (y, v), solved, _ = be.flow_map(rhs, (x, u), t0 + index * interval, interval, segment, adjoint)
    known = be.concrete(solved)
    message = "the solver gave up in an interval: raise max_steps, loosen atol, or shorten interval"
    if known is not None and not known:
        raise RuntimeError(message)
    y, v, r = reorthonormalise(g, y, v)
    return (index + 1, be.guard(y, solved, message), v), log_diagonal(r)


def _through_layers(source: Any, g: Geometry, interval: int, carry: tuple) -> tuple:
    index, x, u = carry
    layers = source if isinstance(source, tuple) else (source,) * interval
    for layer in layers:
        x, u = layer_pushforward(layer, x, u)
    x, u, r = reorthonormalise(g, x, u)
    return (index + 1, x, u), log_diagonal(r)
