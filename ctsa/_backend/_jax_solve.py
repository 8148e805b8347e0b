"""diffrax, asked the way that makes it agree with torch: one first step, one place of outputs, one norm, all counted."""

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import diffrax as dx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from ._events import Crossing, first_of_several
from ._interpolants import MEASURED_ORDER, MEASURES
from ._jax_compile import compiled
from ._jax_devices import spread
from ._jax_precision import precisely
from ._solve import GROW, SAFETY, SHRINK, SLIVER, Notice, Problem, Solved, error_floor, first_step, progress_bar


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


class _Dopri8(dx.Dopri8):
    """diffrax' method, whose error estimate is a pair: of the step, and of the interpolant inside it."""

    def step(self, *args, **kwargs):
        y1, y_error, dense_info, state, result = super().step(*args, **kwargs)
        measure = MEASURES["dopri8"]
        off = jax.tree_util.tree_map(lambda k: jnp.tensordot(jnp.asarray(measure, k.dtype), k, 1), dense_info["k"])
        return y1, (y_error, off), dense_info, state, result


def _kvaerno5(tol):
    # diffrax' default root finder stops at the first doubtful iteration: at atol = 1e-8 it took 78 steps and 76
    # rejections where iterating to convergence takes 17 and none.
    return dx.Kvaerno5(root_finder=optx.Chord(rtol=0.01 * tol, atol=0.01 * tol))


_SOLVERS = {
    "dopri5": dx.Dopri5, "dopri8": _Dopri8, "bosh3": dx.Bosh3, "heun": dx.Heun, "tsit5": dx.Tsit5,
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


# Methods whose interpolants are as good as the error that a step is accepted for, see ``_interpolants``. All others land.
_INTERPOLATING = (dx.Dopri5, dx.Tsit5, dx.Bosh3, dx.Heun)


class _Outputs(dx.AbstractAdaptiveStepSizeController):
    """Sees to it that outputs are right: lands on them, or lets steps go over those that can be interpolated.

    The same as ``stretch`` and the loop around it in torch. Its state counts the outputs inside of steps.
    """

    controller: dx.AbstractAdaptiveStepSizeController
    ts: jax.Array
    kind: str = eqx.field(static=True)  # "interpolate", "measure" or "land"

    @property
    def rtol(self):
        return self.controller.rtol

    @property
    def atol(self):
        return self.controller.atol

    @property
    def norm(self):
        return self.controller.norm

    def wrap(self, direction):
        inner, ts = self.controller.wrap(direction), jnp.sort(self.ts * direction)
        return eqx.tree_at(lambda c: (c.controller, c.ts), self, (inner, ts))

    def _end(self, t, end, good):
        """Return ``stretch`` of a step from ``t`` that may go to ``end``."""
        last = self.ts[-1]
        if self.kind != "interpolate":
            output = jnp.min(jnp.where(self.ts > t, self.ts, last))
            end = jnp.where(output < end, jnp.maximum(jnp.minimum(end, t + good), output), end)
            last = jnp.where(end > output, last, output)
        return jnp.where(last - end < SLIVER * (end - t), last, end)

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        end, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return self._end(t0, end, 0.0 if self.kind == "land" else jnp.inf), (inner, jnp.array(0))

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        inner, count = controller_state
        off, good = None, 0.0
        if self.kind == "measure":
            y_error, off = y_error
        keep, next_t0, next_t1, jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, inner
        )
        same = ~keep & (next_t1 >= t1)  # of a few roundings of the clock: it would be the same step for ever
        result = dx.RESULTS.where(same, dx.RESULTS.dt_min_reached, result)
        inside = jnp.sum((self.ts > t0) & (self.ts < t1))
        if off is not None:

            def scale(a, b, e):
                return e / (self.atol + jnp.maximum(jnp.abs(a), jnp.abs(b)) * self.rtol)

            size = jax.lax.stop_gradient(self.norm(jax.tree_util.tree_map(scale, y0, y1_candidate, off)))
            good = (t1 - t0) * jnp.clip(SAFETY / size.astype(t1.dtype) ** (1 / MEASURED_ORDER), SHRINK, GROW)
            again = keep & (inside > 0) & ~(size <= 1)
            keep, next_t0 = keep & ~again, jnp.where(again, t0, next_t0)
            next_t1 = jnp.where(again, t0 + (next_t1 - t1), next_t1)
        next_t1 = self._end(next_t0, next_t1, good)
        return keep, next_t0, next_t1, jump, (inner, count + jnp.where(keep, inside, 0)), result


def _kind(solver, land):
    if land:
        return "land"
    if isinstance(solver, _Dopri8):
        return "measure"
    return "interpolate" if type(solver) in _INTERPOLATING else "land"


class _Watching(dx.AbstractStepSizeController):
    """Remembers where the last step began; ends a step early where the event function changes sign several times in it."""

    controller: dx.AbstractStepSizeController
    event: Any
    direction: int = eqx.field(static=True)
    cuts: bool = eqx.field(static=True)

    def wrap(self, direction):
        return eqx.tree_at(lambda w: w.controller, self, self.controller.wrap(direction))

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        t1, state = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return t1, (state, (t0, y0))

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
        began = jax.tree_util.tree_map(lambda a, b: jnp.where(keep, a, b), (t0, y0), began)
        return keep, next_t0, next_t1, jump, (new, began), result


def _this() -> ModuleType:
    return sys.modules[__package__ + "._jax"]


def _norm(floor, error):
    rms = [jnp.sqrt(jnp.mean(leaf**2)) for leaf in jax.tree_util.tree_leaves(error)]
    return jnp.maximum(floor, rms[0] if len(rms) == 1 else jnp.max(jnp.stack(rms)))


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


@compiled
def _solve(
    rhs, y0, ts, grid, rtol, atol, floor, stop, *, solver, max_steps, adjoint, bar, throw, event=None, direction=0,
    largest=None, read=None, land=False,
):  # fmt: skip
    """Return diffrax' solution, a ``_tally`` of it in one array, and what ``read`` makes of the outputs."""
    if grid is None:
        dt0 = first_step(_this(), rhs, ts[0].astype(y0[0].dtype), y0, rtol, atol, solver.order(None))
        dt0 = jax.lax.stop_gradient(jnp.where(jnp.isfinite(dt0), dt0, 0.0)).astype(ts.dtype)
        dt0 = dt0 if largest is None else jnp.minimum(dt0, largest)
        # A step that small cannot move the clock (nan, a blow-up): stop instead of counting down to max_steps.
        dtmin = 0.5 * jnp.finfo(ts.dtype).eps * jnp.maximum(jnp.abs(ts[0]), jnp.abs(ts[-1]))
        norm = eqx.Partial(_norm, floor)
        pid = dx.PIDController(rtol=rtol, atol=atol, norm=norm, dtmin=dtmin, dtmax=largest, force_dtmin=False)
        controller: Any = _Outputs(pid, ts, _kind(solver, land))
    else:
        dt0, controller = None, dx.StepTo(ts=grid)
    if event is not None:
        controller = _Watching(controller, event, direction, grid is None)
    counts = grid is None and not isinstance(adjoint, dx.BacksolveAdjoint)  # which returns no such state
    saves: Any = dx.SubSaveAt(ts=ts)
    if stop is not None or event is not None:
        saves = (saves, dx.SubSaveAt(t1=True))
    # A function of this trace: diffrax, which compiles by itself, would go on with what ``rhs`` read in an earlier one.
    term = dx.ODETerm(lambda t, y, rhs: rhs(t, y))
    sol = dx.diffeqsolve(
        term, solver, ts[0], ts[-1], dt0, y0, args=rhs,
        saveat=dx.SaveAt(subs=saves, controller_state=counts or event is not None),
        stepsize_controller=controller, adjoint=adjoint, max_steps=max_steps, throw=throw,
        event=_events(stop, event, direction),
        progress_meter=_Bar(refresh_steps=50) if bar else dx.NoProgressMeter(),
    )  # fmt: skip
    (saved, *_), (ys, *_) = (sol.ts, sol.ys) if isinstance(saves, tuple) else ((sol.ts,), (sol.ys,))
    return sol, _tally(sol, saved, grid, event), None if read is None else read(ys[0])


_RESULTS = (dx.RESULTS.successful, dx.RESULTS.event_occurred, dx.RESULTS.max_steps_reached, dx.RESULTS.dt_min_reached)


def _tally(sol, ts, grid, event):
    """Return steps accepted, rejected, tried; outputs interpolated (-1: not told) and reached; the number of the result."""
    inside: Any = 0 if grid is not None else -1
    if grid is None and sol.controller_state is not None:
        inside = (sol.controller_state if event is None else sol.controller_state[0])[1]
    which = [sol.result == result for result in _RESULTS]
    code = jnp.argmax(jnp.stack([*which, jnp.array(True)]))
    stats = [sol.stats[f"num_{name}steps"] for name in ("accepted_", "rejected_", "")]
    return jnp.stack([*stats, jnp.asarray(inside), jnp.isfinite(ts).sum(), code])


def _evaluations(solver, attempted: Any, fixed: bool) -> Any:
    """Count from the tableau: diffrax keeps no count. -1 for implicit methods, whose inner iterations are not known."""
    tableau = getattr(solver, "tableau", None)
    if isinstance(solver, dx.Euler):
        return attempted
    if not isinstance(solver, dx.AbstractERK) or tableau is None:
        return attempted * 0 - 1
    per_step, once = (tableau.num_stages - 1, 1) if tableau.fsal else (tableau.num_stages, 0)
    return per_step * attempted + once + (0 if fixed else 2)


@cache
def _named(solver: str) -> Any:
    return _SOLVERS[solver]()


def make_solver(solver: Any, rtol: float, atol: float) -> Any:
    """Return the diffrax solver of a name; a solver object as it is."""
    if solver == "kvaerno5":
        return _kvaerno5(jnp.asarray(rtol + atol))
    if type(solver) is dx.Dopri8:
        return _Dopri8(scan_kind=solver.scan_kind)
    return _named(solver) if isinstance(solver, str) else solver


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
    ts, (began, _) = sol.ts[0], sol.controller_state[1]
    reached = jnp.sum(~cut & ~(happened & (ts > began))) - 1  # the last output before the last step
    origin, y0 = jax.lax.stop_gradient(ts[reached]), tuple(y[reached] for y in sol.ys[0])
    still = jax.lax.stop_gradient(y0)

    def solve(y, s, adjoint):
        span = jnp.stack([origin, s]).astype(clock)
        floor = jnp.asarray(error_floor(float(jnp.finfo(clock).eps), p.rtol, p.atol), clock)
        rtol, atol = jnp.asarray(p.rtol, clock), jnp.asarray(p.atol, clock)
        found, _, _ = _solve(
            p.rhs, y, span, None, rtol, atol, floor, None, solver=solver, max_steps=p.max_steps, adjoint=adjoint,
            bar=False, throw=False,
        )  # fmt: skip
        return tuple(a[-1] for a in found.ys)

    def at(s):
        return value(s, solve(still, s, dx.ForwardMode()))

    end = jax.lax.stop_gradient(ends[-1])
    low = jnp.where(happened, jnp.maximum(began, origin), end)
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


def _finite(ys, i: int) -> bool:
    """Tell whether a state is finite: by NumPy, which is quick, or where it lies on several devices."""
    return bool(jnp.isfinite(ys[i]).all()) if spread(ys) else bool(np.isfinite(np.asarray(ys)[i]).all())


@precisely
def odeint(problem: Problem) -> Solved:
    """Solve with diffrax; see ``Problem`` and ``Solved``. Jitted; compiled once for each kind of problem."""
    p = problem
    if isinstance(p.solver, str) and p.solver not in _SOLVERS:
        raise ValueError(f"solver={p.solver!r} is unknown on JAX: one of {', '.join(_SOLVERS)}, or a diffrax solver")
    solver = make_solver(p.solver, p.rtol, p.atol)
    if p.land and isinstance(solver, _Dopri8):
        solver = dx.Dopri8(scan_kind=solver.scan_kind)
    traced = any(isinstance(a, jax.core.Tracer) for a in jax.tree_util.tree_leaves((p.rhs, p.y0)))
    adjoint = p.adjoint
    if adjoint is False:  # where nothing is traced nothing is differentiated, and ForwardMode compiles faster
        adjoint = dx.RecursiveCheckpointAdjoint() if traced else dx.ForwardMode()
    elif adjoint is True:
        adjoint = dx.BacksolveAdjoint()
    clock = p.y0[0].dtype  # diffrax would promote a float32 state to the dtype of time
    settings = p.ts, p.grid, p.rtol, p.atol, error_floor(float(jnp.finfo(clock).eps), p.rtol, p.atol), p.largest
    ts, grid, rtol, atol, floor, largest = (None if a is None else np.asarray(a, clock) for a in settings)
    notice = Notice() if p.progress and not traced else None
    try:
        sol, tally, read = _solve(
            p.rhs, p.y0, ts, grid, rtol, atol, floor, p.stop, solver=solver, max_steps=p.max_steps, adjoint=adjoint,
            bar=p.progress and not traced, throw=traced, event=None if p.event is None else p.event.value,
            direction=0 if p.event is None else p.event.direction, largest=largest, land=p.land,
            read=None if traced or p.stop is not None or p.event is not None else p.read,
        )  # fmt: skip
    finally:
        if notice is not None:
            notice.end()
    if p.stop is None and p.event is None:
        ts, ys, ends, last = sol.ts, sol.ys, None, None
    else:
        (ts, ends), (ys, last) = sol.ts, sol.ys
    if traced:
        steps, rejected, attempted, inside, _, _ = tally
        evaluations = _evaluations(solver, attempted, p.grid is not None)
        counts = {"steps": steps, "rejected": rejected, "evaluations": evaluations, "interpolated": inside}
        if last is None or ends is None:
            return Solved(ys, len(p.ts), None, None, counts)
        cut = ~jnp.isfinite(ts)  # output times that the stop left out
        if p.event is not None:
            ends, last, cut = _located(p, solver, adjoint, sol, ends, last, cut)
        ys = tuple(jnp.where(cut.reshape(-1, *[1] * (y.ndim - 1)), end, y) for y, end in zip(ys, last, strict=True))
        counts["stopped"] = sol.result == dx.RESULTS.event_occurred
        exact = p.event is not None and p.grid is None
        return Solved(ys, len(p.ts), None, None, counts, jnp.where(cut, ends, ts), cut=cut if exact else None)
    steps, rejected, attempted, inside, reached, code = np.asarray(tally).tolist()
    evaluations = _evaluations(solver, attempted, p.grid is not None)
    counts = {"steps": steps, "rejected": rejected, "evaluations": evaluations, "interpolated": inside}
    if not reached:  # no step was accepted
        ys, reached = tuple(y.at[0].set(start) for y, start in zip(ys, p.y0, strict=True)), 1
    failure = (None, None, "max_steps", "step_size", "")[code]
    if failure == "":
        failure = str(sol.result)
    elif failure is None and not all(_finite(y, reached - 1) for y in ys):
        finite = np.min([np.isfinite(np.asarray(y)).reshape(len(p.ts), -1).all(1) for y in ys], axis=0)
        reached, failure = int(np.argmin(finite)), "step_size"
    stopped = lost = previous = None
    if last is not None and ends is not None and code == 1:
        stopped = ends[-1], tuple(y[-1] for y in last)
    if p.event is not None:
        began, state = sol.controller_state[1]
        previous = float(began), state
        if bool(sol.event_mask[0]):
            stopped, lost = None, stopped
    read = read if failure is None and reached == len(p.ts) else None  # the rest has no values
    return Solved(ys, reached, stopped, failure, counts, previous=previous, lost=lost, read=read)
