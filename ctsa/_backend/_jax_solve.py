"""diffrax, asked the way that makes it agree with torch: one first step, exact landing, one norm, all counted."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import diffrax as dx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from ._events import Crossing, first_of_several
from ._jax_precision import precisely
from ._solve import SLIVER, Notice, Problem, Solved, error_floor, first_step, progress_bar


class RK4(dx.AbstractERK):
    """Kutta's 3/8 rule, fourth order: the ``rk4`` of torchdiffeq, which diffrax lacks."""

    tableau: ClassVar[dx.ButcherTableau] = dx.ButcherTableau(
        a_lower=(np.array([1 / 3]), np.array([-1 / 3, 1.0]), np.array([1.0, -1.0, 1.0])),
        b_sol=np.array([1 / 8, 3 / 8, 3 / 8, 1 / 8]),
        b_error=np.zeros(4),
        c=np.array([1 / 3, 2 / 3, 1.0]),
    )
    interpolation_cls: ClassVar[Callable] = dx.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 4


def _kvaerno5(tol):
    # diffrax' default root finder stops at the first doubtful iteration: at atol = 1e-8 it took 78 steps and 76
    # rejections where iterating to convergence takes 17 and none.
    return dx.Kvaerno5(root_finder=optx.Chord(rtol=0.01 * tol, atol=0.01 * tol))


_SOLVERS = {
    "dopri5": dx.Dopri5, "dopri8": dx.Dopri8, "bosh3": dx.Bosh3, "heun": dx.Heun, "tsit5": dx.Tsit5,
    "kvaerno5": _kvaerno5, "euler": dx.Euler, "midpoint": dx.Midpoint, "rk4": RK4,
}  # fmt: skip


class _Bar(dx.TqdmProgressMeter):
    """diffrax' tqdm meter, shown only for runs that last."""

    @staticmethod
    def _init_bar():
        for notice in list(Notice.waiting):  # what runs is compiled
            notice.end()
        return progress_bar(100.0)

    @staticmethod
    def _step_bar(bar, progress):  # diffrax' own draws at once, whatever the delay
        bar.update(100 * float(progress) - bar.n)


class _Landing(dx.ClipStepSizeController):
    """diffrax' landing on ``step_ts``, without slivers."""

    def adapt_step_size(self, *args, **kwargs):
        keep, t0, t1, jump, state, result = super().adapt_step_size(*args, **kwargs)
        index, times = state.step_info
        target = times[jnp.minimum(index, len(times) - 1)]
        short = (t1 < target) & (target - t1 < SLIVER * (t1 - t0))
        return keep, t0, jnp.where(short, target, t1), jump, state, result


class _Watching(dx.AbstractStepSizeController):
    """Remembers when the last step began; ends a step early where the event function changes sign several times in it."""

    controller: dx.AbstractStepSizeController
    event: Any
    direction: int = eqx.field(static=True)
    cuts: bool = eqx.field(static=True)

    def wrap(self, direction):
        return eqx.tree_at(lambda w: w.controller, self, self.controller.wrap(direction))

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        t1, state = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return t1, (state, t0)

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        state, began = controller_state
        keep, next_t0, next_t1, jump, new, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, state
        )
        if self.cuts:
            event = Crossing(self.event, self.direction)
            several, share = first_of_several(_this(), event, args, t0, y0, t1, y1_candidate)
            cut, at = keep & several, t0 + share.astype(t0.dtype) * (t1 - t0)
            new = jax.tree_util.tree_map(lambda a, b: jnp.where(cut, a, b), state, new)
            keep, next_t0, next_t1 = keep & ~cut, jnp.where(cut, t0, next_t0), jnp.where(cut, at, next_t1)
        return keep, next_t0, next_t1, jump, (new, jnp.where(keep, t0, began)), result


def _this() -> ModuleType:
    return sys.modules[__package__ + "._jax"]


def _norm(floor, error):
    rms = [jnp.sqrt(jnp.mean(leaf**2)) for leaf in jax.tree_util.tree_leaves(error)]
    return jnp.maximum(floor, rms[0] if len(rms) == 1 else jnp.max(jnp.stack(rms)))


def _term(t, y, rhs):
    return rhs(t, y)


def _event(t, y, rhs, *, stop, t0, **_):
    return (t > t0) & stop(t, y)  # after a step, as in torch, not before the first


def _value(t, y, rhs, *, event, **_):
    return event(t, y)


def _lost(t, y, rhs, *, event, **_):
    return ~jnp.isfinite(event(t, y))


def _events(stop, event, direction):
    """Return diffrax' event: the condition ``stop``, or a value that crosses zero beside the condition that it is lost."""
    if event is None:
        return None if stop is None else dx.Event(eqx.Partial(_event, stop=stop))
    # As torch does: arriving at zero counts, in diffrax only downward.
    value = event if direction <= 0 else eqx.Partial(_negative, event)
    lost, crossing = eqx.Partial(_lost, event=event), eqx.Partial(_value, event=value)
    return dx.Event((lost, crossing), direction=(None, None if direction == 0 else False))


def _negative(event, t, y):
    return -event(t, y)


@eqx.filter_jit
def _solve(
    rhs, y0, ts, grid, rtol, atol, floor, stop, *, solver, max_steps, adjoint, bar, throw, event=None, direction=0,
    largest=None,
):  # fmt: skip
    if grid is None:
        dt0 = first_step(_this(), rhs, ts[0].astype(y0[0].dtype), y0, rtol, atol, solver.order(None))
        dt0 = jax.lax.stop_gradient(jnp.where(jnp.isfinite(dt0), dt0, 0.0)).astype(ts.dtype)
        dt0 = dt0 if largest is None else jnp.minimum(dt0, largest)
        # A step that small cannot move the clock (nan, a blow-up): stop instead of counting down to max_steps.
        dtmin = 0.5 * jnp.finfo(ts.dtype).eps * jnp.maximum(jnp.abs(ts[0]), jnp.abs(ts[-1]))
        norm = eqx.Partial(_norm, floor)
        pid = dx.PIDController(rtol=rtol, atol=atol, norm=norm, dtmin=dtmin, dtmax=largest, force_dtmin=False)
        controller: Any = _Landing(pid, step_ts=ts[1:])
    else:
        dt0, controller = None, dx.StepTo(ts=grid)
    if event is not None:
        controller = _Watching(controller, event, direction, grid is None)
    saves: Any = dx.SubSaveAt(ts=ts)
    if stop is not None or event is not None:
        saves = (saves, dx.SubSaveAt(t1=True))
    return dx.diffeqsolve(
        dx.ODETerm(_term), solver, ts[0], ts[-1], dt0, y0, args=rhs,
        saveat=dx.SaveAt(subs=saves, controller_state=event is not None),
        stepsize_controller=controller, adjoint=adjoint, max_steps=max_steps, throw=throw,
        event=_events(stop, event, direction),
        progress_meter=_Bar(refresh_steps=50) if bar else dx.NoProgressMeter(),
    )  # fmt: skip


def _evaluations(solver, attempted: Any, fixed: bool) -> Any:
    """Count from the tableau: diffrax keeps no count. -1 for implicit methods, whose inner iterations are not known."""
    tableau = getattr(solver, "tableau", None)
    if isinstance(solver, dx.Euler):
        return attempted
    if not isinstance(solver, dx.AbstractERK) or tableau is None:
        return attempted * 0 - 1
    per_step, once = (tableau.num_stages - 1, 1) if tableau.fsal else (tableau.num_stages, 0)
    return per_step * attempted + once + (0 if fixed else 2)


def make_solver(solver: Any, rtol: float, atol: float) -> Any:
    """Return the diffrax solver of a name; a solver object as it is."""
    if solver == "kvaerno5":
        return _kvaerno5(jnp.asarray(rtol + atol))
    return _SOLVERS[solver]() if isinstance(solver, str) else solver


@jax.custom_jvp
def _no_derivative(x, data):
    """Return ``x``, whose derivative by ``data`` is nan."""
    return x


@_no_derivative.defjvp
def _no_derivative_jvp(given, tangents):
    moved = sum(u.sum() for u in jax.tree_util.tree_leaves(tangents[1]))
    return given[0], jnp.nan * moved.astype(given[0].dtype)


def _located(p: Problem, solver, adjoint, sol, ends, last, cut):
    """Find the time of an event to rounding, where values are not known: by halving the last step, solving up to it.

    The time found carries no derivative; that of the state is the one at a fixed time. ``correct_stop`` adds the rest.
    A fixed-step run ends at the end of its step, whose time depends on nothing: its derivative is refused (nan), since that
    of the event is not 0.
    """
    assert p.event is not None
    value, (lost, happened), clock = p.event.value, sol.event_mask, ends.dtype
    fine = jnp.isfinite(value(ends[-1], tuple(y[-1] for y in last)))
    ends = eqx.error_if(ends, lost | ~fine, "until(t, x) returned nan or inf")
    if p.grid is not None:
        return ends + _no_derivative(jnp.zeros(()).astype(clock), last), last, cut
    ts = sol.ts[0]
    reached = jnp.sum(~cut & ~(happened & (ts >= ends[-1]))) - 1  # the last output before the end
    origin, y0 = jax.lax.stop_gradient(ts[reached]), tuple(y[reached] for y in sol.ys[0])
    still = jax.lax.stop_gradient(y0)

    def solve(y, s, adjoint):
        span = jnp.stack([origin, s]).astype(clock)
        floor = jnp.asarray(error_floor(float(jnp.finfo(clock).eps), p.rtol, p.atol), clock)
        rtol, atol = jnp.asarray(p.rtol, clock), jnp.asarray(p.atol, clock)
        found = _solve(
            p.rhs, y, span, None, rtol, atol, floor, None, solver=solver, max_steps=p.max_steps, adjoint=adjoint,
            bar=False, throw=False,
        )  # fmt: skip
        return tuple(a[-1] for a in found.ys)

    def at(s):
        return value(s, solve(still, s, dx.ForwardMode()))

    end = jax.lax.stop_gradient(ends[-1])
    low = jnp.where(happened, jnp.maximum(sol.controller_state[1], origin), end)
    falling = at(low) > 0

    def halve(state):
        low, high, k = state
        middle = 0.5 * (low + high)
        before = (at(middle) > 0) == falling
        return jnp.where(before, middle, low), jnp.where(before, high, middle), k + 1

    def going(state):
        return (state[2] < 60) & (state[1] - state[0] > 2 * jnp.finfo(clock).eps * jnp.maximum(1.0, jnp.abs(state[1])))

    _, root, _ = jax.lax.while_loop(going, halve, jax.lax.stop_gradient((low, end, 0)))
    root = jax.lax.stop_gradient(root)
    last = tuple(jnp.where(happened, y, was) for y, was in zip(solve(y0, root, adjoint), last, strict=True))
    return jnp.where(happened, root, ends), last, cut | (happened & (ts > root))


@precisely
def odeint(problem: Problem) -> Solved:
    """Solve with diffrax; see ``Problem`` and ``Solved``. Jitted; compiled once for each kind of problem."""
    p = problem
    if isinstance(p.solver, str) and p.solver not in _SOLVERS:
        raise ValueError(f"solver={p.solver!r} is unknown on JAX: one of {', '.join(_SOLVERS)}, or a diffrax solver")
    solver = make_solver(p.solver, p.rtol, p.atol)
    traced = any(isinstance(a, jax.core.Tracer) for a in jax.tree_util.tree_leaves((p.rhs, p.y0)))
    adjoint = p.adjoint
    if adjoint is False:  # where nothing is traced nothing is differentiated, and ForwardMode compiles faster
        adjoint = dx.RecursiveCheckpointAdjoint() if traced else dx.ForwardMode()
    elif adjoint is True:
        adjoint = dx.BacksolveAdjoint()
    floor = error_floor(float(jnp.finfo(p.y0[0].dtype).eps), p.rtol, p.atol)
    clock = p.y0[0].dtype  # diffrax would promote a float32 state to the dtype of time
    notice = Notice() if p.progress and not traced else None
    try:
        sol = _solve(
            p.rhs, p.y0, jnp.asarray(p.ts, clock), None if p.grid is None else jnp.asarray(p.grid, clock),
            jnp.asarray(p.rtol, clock), jnp.asarray(p.atol, clock), jnp.asarray(floor, clock), p.stop,
            solver=solver, max_steps=p.max_steps, adjoint=adjoint, bar=p.progress and not traced, throw=traced,
            event=None if p.event is None else p.event.value, direction=0 if p.event is None else p.event.direction,
            largest=None if p.largest is None else jnp.asarray(p.largest, clock),
        )  # fmt: skip
    finally:
        if notice is not None:
            notice.end()
    if p.stop is None and p.event is None:
        ts, ys, ends, last = sol.ts, sol.ys, None, None
    else:
        (ts, ends), (ys, last) = sol.ts, sol.ys
    steps, rejected = sol.stats["num_accepted_steps"], sol.stats["num_rejected_steps"]
    attempted = sol.stats["num_steps"]
    if traced:
        evaluations = _evaluations(solver, attempted, p.grid is not None)
        counts = {"steps": steps, "rejected": rejected, "evaluations": evaluations}
        if last is None or ends is None:
            return Solved(ys, len(p.ts), None, None, counts)
        cut = ~jnp.isfinite(ts)  # output times that the stop left out
        if p.event is not None:
            ends, last, cut = _located(p, solver, adjoint, sol, ends, last, cut)
        ys = tuple(jnp.where(cut.reshape(-1, *[1] * (y.ndim - 1)), end, y) for y, end in zip(ys, last, strict=True))
        counts["stopped"] = sol.result == dx.RESULTS.event_occurred
        exact = p.event is not None and p.grid is None
        return Solved(ys, len(p.ts), None, None, counts, jnp.where(cut, ends, ts), cut=cut if exact else None)
    evaluations = _evaluations(solver, int(attempted), p.grid is not None)
    counts = {"steps": int(steps), "rejected": int(rejected), "evaluations": int(evaluations)}
    reached = int(np.isfinite(np.asarray(ts)).sum())
    if not reached:  # no step was accepted
        ys, reached = tuple(y.at[0].set(start) for y, start in zip(ys, p.y0, strict=True)), 1
    failure = None
    if sol.result == dx.RESULTS.max_steps_reached:
        failure = "max_steps"
    elif sol.result == dx.RESULTS.dt_min_reached:
        failure = "step_size"
    elif sol.result not in (dx.RESULTS.successful, dx.RESULTS.event_occurred):
        failure = str(sol.result)
    elif any(not np.isfinite(np.asarray(y)[reached - 1]).all() for y in ys):
        finite = np.min([np.isfinite(np.asarray(y)).reshape(len(p.ts), -1).all(1) for y in ys], axis=0)
        reached, failure = int(np.argmin(finite)), "step_size"
    stopped = lost = previous = None
    if last is not None and ends is not None and sol.result == dx.RESULTS.event_occurred:
        stopped = ends[-1], tuple(y[-1] for y in last)
    if p.event is not None:
        previous = float(sol.controller_state[1])
        if bool(sol.event_mask[0]):
            stopped, lost = None, stopped
    return Solved(ys, reached, stopped, failure, counts, previous=previous, lost=lost)
