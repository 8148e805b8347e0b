"""Events that end a run: what ``until`` must return, where it crosses zero, and how that moves with the data."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa._backend._events import Crossing
from ctsa._backend._solve import Problem, Solved

Array = Any
_SHAPE = (
    "until(t, x) must return a scalar array whose zero ends the run, or for a batch an array of its leading axes {batch}, "
    "a number a member, got {got}"
)
_JUMP = (
    "the time at which until(t, x) crosses zero has no derivative here: the value does not change along the flow, because "
    "it jumps or only touches zero. Give until a value that is smooth there, or detach the result"
)


def check_until(until: Any, direction: Any) -> int:
    """Check the kind of ``until`` and the direction of its crossing."""
    direction = checks.integer("direction", direction, low=-1)
    if direction > 1:
        raise ValueError(f"direction must be 1 (upward), -1 (downward) or 0 (either), got {direction}")
    if isinstance(until, str):
        if until != "equilibrium":
            raise ValueError(f"until must be None, 'equilibrium' or a callable until(t, x), got {until!r}")
        if direction:
            raise ValueError("direction is for a callable until(t, x): until='equilibrium' crosses nothing, leave it out")
    elif not callable(until):
        raise ValueError(f"until must be None, 'equilibrium' or a callable until(t, x), got {until!r}")
    return direction


def start_value(until: Callable, field: Callable, geometry: Any, t0: Array, x: Array, span: float) -> tuple[Array, Array]:
    """Return the value of ``until`` at the start, checked, and ``x``, now traced if the value is.

    A value that starts at zero gets the sign that it leaves with.

    A run that begins where another has stopped is at zero to rounding only: a zero within 1000 ulps of time counts.
    """
    be = backend(x)
    value = until(t0, x)
    batch = tuple(x.shape[:-2])
    if getattr(value, "shape", None) is None or tuple(value.shape) not in ((), batch):
        got = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
        raise ValueError(_SHAPE.format(batch=batch, got=got if isinstance(got, str) else f"shape {got}"))
    if "float" not in str(value.dtype):
        raise TypeError(f"until(t, x) must return a real number that crosses zero, got {value.dtype}")
    known = be.concrete(value)
    if known is not None and not np.isfinite(known).all():
        raise ValueError(f"until(t, x) returned {known} at the start, t={float(be.to_numpy(t0)):g}: it must be finite")
    if known is None and be.concrete(x) is not None:  # until knows something that is traced, such as a threshold
        x = x + 0 * value.reshape(*value.shape, *[1] * (x.ndim - value.ndim))
    if value.ndim:
        return value, x
    value, still, xp = be.stop_gradient(value), be.stop_gradient(x), be.xp
    v = be.stop_gradient(field(t0, still))

    def ahead(s):
        return be.stop_gradient(until(t0 + s, geometry.retract(still + s * v)))

    near = 1e-6 * span
    rate = (ahead(near) - ahead(-near)) / (2 * abs(near))  # along the run
    small = 1e3 * rounding(x) * xp.maximum(xp.abs(t0), xp.ones_like(t0))
    zero = (value == 0) | (xp.abs(value) <= small * xp.abs(rate))
    leaving = xp.where(rate != 0, rate, ahead(1e-3 * span))
    return xp.where(zero, leaving, value), x


def crossing(be: Any, until: Callable, direction: int, geometry: Any, sign: int, s0: float, start: Array) -> Crossing:
    """Return the event as solvers see it, in the time ``s`` in which the run goes forward."""
    return Crossing(be.partial(_value, until, geometry, sign, be.like(s0, start), start), direction)


def _value(until, geometry, sign, s0, start, s, state):
    value = until(sign * s, geometry.retract(state[0]))
    return backend(value).xp.where(s <= s0, start, value)


def raise_lost(lost: tuple, geometry: Any, sign: int) -> None:
    """Raise because the value of ``until`` became nan or inf."""
    t, state = lost
    raise ValueError(
        f"until(t, x) returned nan or inf at t={sign * float(t):g}: it must be a finite number wherever the run may go"
    )


def locate(be: Any, problem: Problem, solved: Solved) -> Solved:
    """Refine the time of an event from the end of a step to the solver's tolerance, by solving again up to it."""
    from scipy.optimize import brentq

    if solved.stopped is None:  # none, or located already
        return solved
    assert problem.event is not None
    event, end = problem.event, float(solved.stopped[0])
    start, origin = solved.previous  # the event lies in the last step: only that one is cut short
    states = {start: origin, end: solved.stopped[1]}

    def value(s):
        if s not in states:
            ts = np.array([start, s])
            grid = None if problem.grid is None else ts
            shorter = replace(problem, y0=origin, ts=ts, grid=grid, event=None, progress=False)
            states[s] = tuple(y[-1] for y in be.odeint(shorter).ys)
        return float(be.to_numpy(event.value(be.like(s, states[s][0]), states[s])))

    ulp = np.finfo(float).eps * max(1.0, abs(end))
    if value(start) * value(end) < 0:
        root = brentq(value, start, end, xtol=4 * ulp, rtol=1e-15)
    else:  # one of the ends is the zero, as far as the tolerance tells
        root = min(start, end, key=lambda s: abs(value(s)))
    output = float(problem.ts[np.abs(problem.ts - root).argmin()])
    root = output if abs(output - root) <= 8 * ulp and start < output else root
    value(root)
    reached = min(int(np.searchsorted(problem.ts, root, side="right")), solved.reached)
    solved.stats["interpolated"] -= max(0, solved.reached - reached - (problem.ts[solved.reached - 1] == end))
    solved.stopped, solved.reached = (root, states[root]), reached
    return solved


def correct_stop(be: Any, problem: Problem, solved: Solved) -> Solved:
    """Let time and state of the stop depend on the data as they do, by the implicit function theorem.

    Solved up to a fixed time ``s``, the state misses that ``s`` itself moves: ``ds = -dg / g'`` with ``g' = g_s + g_y f``,
    and the state moves by ``f ds``. Values stay as they are; the derivative is right to first order.
    """
    event, traced = problem.event, solved.cut is not None
    assert event is not None
    if traced:
        assert solved.ts is not None
        s, y = solved.ts[-1], tuple(y[-1] for y in solved.ys)
    elif solved.stopped is None:
        return solved
    else:
        s, y = solved.stopped
    s = be.like(s, y[0])
    g = event.value(s, y)
    if not (getattr(g, "requires_grad", traced) or getattr(y[0], "requires_grad", traced)):
        return solved
    still = tuple(be.stop_gradient(a) for a in y)
    f = tuple(be.stop_gradient(a) for a in problem.rhs(s, still))
    _, pull = be.vjp(event.value, s, still)
    by_s, by_y = pull(be.xp.ones_like(g))
    slope = be.stop_gradient(by_s + sum((a * b).sum() for a, b in zip(by_y, f, strict=True)))
    flat = (slope == 0) | ~be.xp.isfinite(slope)
    delta = (be.stop_gradient(g) - g) / be.xp.where(flat, be.xp.ones_like(slope), slope)
    if not traced:
        at = be.like(0.0, s) + delta + (solved.stopped[0] if solved.stopped else 0.0)
        end = tuple(be.refuse_gradient(a + b * delta, flat, _JUMP) for a, b in zip(y, f, strict=True))
        solved.stopped = be.refuse_gradient(at, flat, _JUMP), end
        return solved
    assert solved.cut is not None
    moved, rows = be.refuse_gradient(delta, flat & solved.cut[-1], _JUMP), solved.cut
    solved.ts = be.xp.where(rows, solved.ts + moved, solved.ts)
    solved.ys = tuple(
        be.xp.where(rows.reshape(-1, *[1] * b.ndim), a + moved * b, a) for a, b in zip(solved.ys, f, strict=True)
    )
    return solved
