"""diffrax, asked the way that makes it agree with torchdiffeq: one first step, exact landing, one norm, all counted."""

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


def _this() -> ModuleType:
    return sys.modules[__package__ + "._jax"]


def _norm(floor, error):
    rms = [jnp.sqrt(jnp.mean(leaf**2)) for leaf in jax.tree_util.tree_leaves(error)]
    return jnp.maximum(floor, rms[0] if len(rms) == 1 else jnp.max(jnp.stack(rms)))


def _term(t, y, rhs):
    return rhs(t, y)


def _event(t, y, rhs, *, stop, t0, **_):
    return (t > t0) & stop(t, y)  # after a step, as in torch, not before the first


@eqx.filter_jit
def _solve(rhs, y0, ts, grid, rtol, atol, floor, stop, *, solver, max_steps, adjoint, bar, throw):
    if grid is None:
        dt0 = first_step(_this(), rhs, ts[0].astype(y0[0].dtype), y0, rtol, atol, solver.order(None))
        dt0 = jax.lax.stop_gradient(jnp.where(jnp.isfinite(dt0), dt0, 0.0)).astype(ts.dtype)
        # A step that small cannot move the clock (nan, a blow-up): stop instead of counting down to max_steps.
        dtmin = 0.5 * jnp.finfo(ts.dtype).eps * jnp.maximum(jnp.abs(ts[0]), jnp.abs(ts[-1]))
        pid = dx.PIDController(rtol=rtol, atol=atol, norm=eqx.Partial(_norm, floor), dtmin=dtmin, force_dtmin=False)
        controller: Any = _Landing(pid, step_ts=ts[1:])
    else:
        dt0, controller = None, dx.StepTo(ts=grid)
    saves: Any = dx.SubSaveAt(ts=ts)
    if stop is not None:
        saves = (saves, dx.SubSaveAt(t1=True))
    return dx.diffeqsolve(
        dx.ODETerm(_term), solver, ts[0], ts[-1], dt0, y0, args=rhs, saveat=dx.SaveAt(subs=saves),
        stepsize_controller=controller, adjoint=adjoint, max_steps=max_steps, throw=throw,
        event=None if stop is None else dx.Event(eqx.Partial(_event, stop=stop)),
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
        )  # fmt: skip
    finally:
        if notice is not None:
            notice.end()
    if p.stop is None:
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
        ys = tuple(jnp.where(cut.reshape(-1, *[1] * (y.ndim - 1)), end, y) for y, end in zip(ys, last, strict=True))
        counts["stopped"] = sol.result == dx.RESULTS.event_occurred
        return Solved(ys, len(p.ts), None, None, counts, jnp.where(cut, ends, ts))
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
    elif any(not bool(jnp.isfinite(y[reached - 1]).all()) for y in ys):
        finite = np.min([np.isfinite(np.asarray(y)).reshape(len(p.ts), -1).all(1) for y in ys], axis=0)
        reached, failure = int(np.argmin(finite)), "step_size"
    stopped = None
    if last is not None and ends is not None and sol.result == dx.RESULTS.event_occurred:
        stopped = ends[-1], tuple(y[-1] for y in last)
    return Solved(ys, reached, stopped, failure, counts)
