"""Integrate a field with adaptive or fixed-step solvers, the same in both frameworks."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa._backend._solve import (
    Problem,
    Solved,
    show_progress,
)
from ctsa._types import States, Times
from ctsa.events import (
    check_until,
    correct_stop,
    crossing,
    depends_on_time,
    each_member,
    locate,
    raise_lost,
    start_value,
)
from ctsa.flows.merging import integrate_merging
from ctsa.flows.opening import account, check_solver, check_velocity, needs_check, settled
from ctsa.flows.outcome import IntegrationError, extended, retracted, why_failed
from ctsa.flows.solver import Solver, takes_solver
from ctsa.flows.stochastic import integrate_noise, noisy
from ctsa.geometry import Geometry, geometry_of
from ctsa.parts import everything
from ctsa.results.base import Trajectory

Array = Any


def _at_rest(field, geometry, sign, rest, s, state):
    x = geometry.retract(state[0])
    v = field(sign * s, x)
    return ((v * v).sum(-1) < rest * rest).all()


def _grid(ts: np.ndarray, step: float) -> np.ndarray:
    """Cut every output interval into equal steps of at most ``step``, so that outputs are landed on."""
    counts = np.maximum(1, np.ceil(np.diff(ts) / step - 1e-9).astype(int))
    if counts.sum() > 10**8:
        raise ValueError(f"step={step:g} would need {counts.sum():.3g} steps")
    pieces = [np.linspace(a, b, c, endpoint=False) for a, b, c in zip(ts[:-1], ts[1:], counts, strict=True)]
    return np.concatenate([*pieces, ts[-1:]])


@takes_solver
def integrate(
    field: Callable[[Array, Array], Array],
    x0: States,
    ts: Times,
    solver: Any = "dopri5",
    *,
    rtol: float = 0.0,
    atol: float = 1e-8,
    step: float | None = None,
    max_steps: int = 100_000,
    until: str | Callable[[Array, Array], Array] | None = None,
    direction: int = 0,
    largest_step: float | None = None,
    rest: float = 1e-6,
    adjoint: Any = False,
    normalize: bool = False,
    geometry: Geometry | None = None,
    land: bool = False,
    progress: bool | None = None,
    merge: bool | float = False,
    seed: int | None = None,
) -> Trajectory:
    """Integrate ``dx/dt = field(t, x)`` from ``x(ts[0]) = x0`` and return the states at ``ts``.

    On the sphere the solver sees the degree-1 extension ``|y| F(y / |y|)``, so tokens stay on it to rounding, whatever
    the tolerance. Outputs inside of steps are interpolated where that is as good as the step, and cost nothing; ``ts[-1]``
    is landed on. Both frameworks start with the same step and take the same steps.

    Args:
        field: ``field(t, x) -> dx/dt``, ours or any callable; ``t`` is a scalar array, ``x`` is ``(..., n, d)``. A bare
            callable is taken to live on the sphere unless ``geometry`` says otherwise. On JAX define it once: a new
            closure every call compiles every call, and so does another value of a global or variable that it reads.
        x0: unit tokens ``(..., n, d)``; NumPy or lists are converted to the field's framework and dtype. Leading axes
            are a batch with one shared step size; for a step of its own a sample use ``jax.vmap`` over ``integrate``.
        ts: output times, increasing, or decreasing to run backward; ``ts[0]`` is the time of ``x0``.
        solver: adaptive "dopri5", "dopri8", "bosh3", "heun"; fixed-step "euler", "midpoint", "rk4" (with ``step``); on
            JAX also "tsit5" and, for stiff problems, "kvaerno5", or any diffrax solver; on torch any method name of
            torchdiffeq. Or a ``ctsa.Solver``, which holds tolerances, ``step`` and ``max_steps`` as well.
        rtol: relative local tolerance, elementwise; 0 by default, because states are O(1) on the sphere and an
            elementwise tolerance would make the steps depend on a rotation of the data.
        atol: absolute local tolerance: the rms over all entries of the local error stays below it.
        step: step size of fixed-step solvers; every output interval is cut into equal steps of at most this.
        max_steps: steps (rejected ones included) after which the solve gives up.
        until: "equilibrium" stops at the end of the first step where every token is slower than ``rest``; the field
            must not depend on time, and derivatives are those at a fixed time. A callable ``until(t, x)`` returning a
            real number stops where it first crosses zero, located to the solver's tolerance. A zero at the start
            counts only once it has been left. Adaptive solvers look inside their steps, too; zeros much closer to
            each other than a step need ``largest_step``. Time and state of the stop carry first derivatives in all
            data. The end state is the last one returned. If ``until`` returns one number a member of a batch, members
            are run one by one up to their own stops: all ``ts`` are returned, outputs after the stop hold its state,
            and ``stats["stop_times"]`` the times. Under ``jax.jit`` and ``jax.grad`` shapes are fixed: outputs after
            the stop all hold its time and state, and a fixed-step solver stops at the end of the step.
        direction: 1 stops only where a callable ``until`` goes up through zero (as the run goes, backward ones too), -1
            down, 0 either way.
        largest_step: longest step of an adaptive solver, so that nothing shorter is stepped over.
        rest: speed for ``until="equilibrium"``. The attainable speed near an equilibrium is of the order of ``atol``.
        adjoint: True solves the adjoint equation backward for gradients in O(1) memory (they then carry the solver's
            error); False differentiates the steps themselves (torch records them unless under
            ``torch.no_grad()``). On JAX also any diffrax adjoint, e.g. ``diffrax.ForwardMode()`` for ``jax.jvp``.
        normalize: normalise ``x0`` instead of refusing tokens that are not unit.
        geometry: where a bare callable lives: ``ctsa.Sphere()``, ``ctsa.Euclidean()`` or a ``ctsa.Geometry`` of yours.
        land: True ends a step on every output, which then is as accurate as the ends of steps are; many outputs cost steps.
        progress: draw a progress bar on stderr; None draws it in a terminal for solves of more than a second.
            With ``merge`` there is none.
        merge: True lets tokens that have met go on as one token of their joint mass, so that nothing stiff is left of them
            and steps grow to the time scale of what still moves: runs of length ``exp(beta)`` end. A number is the distance
            at which tokens have met; True is ``10 (atol + rtol)``, or the root of the rounding, whichever is larger. For
            fields of ctsa that treat tokens alike and do not depend on time, one state ``(n, d)``, an adaptive solver;
            forward in time, without ``until``, ``adjoint`` and gradients. See ``ctsa.flows.merging``.
        seed: of the noise of a field with a ``Noise``, 0 if None. Such a field takes ``step`` and solver "heun" (if none is
            named) or "euler", see ``ctsa.flows.stochastic``; members of a batch have independent noises.

    Returns:
        ``Trajectory`` with ``ts``, ``xs`` of shape ``(len(ts), ..., n, d)``, and ``stats``; with ``merge`` also
        ``merges``, which tokens met when. With ``until``, output
        times after the stop are missing and the stopping state is appended.

    Raises:
        ValueError, TypeError: an argument is wrong, or ``until`` returned nan or inf; the message names it and says what to
            try.
        IntegrationError: the solver gave up (too many steps, vanishing step, nan); carries the trajectory so far.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> traj = ctsa.integrate(SelfAttention(beta=2.0), np.eye(8), np.arange(7.0))
        >>> round(float(ctsa.gram(traj.xs)[3, 0, 1].detach()), 6)  # the equiangular solution at t = 3
        0.931626

    References:
        Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*; Kidger, arXiv 2202.02435 (diffrax);
        Chen et al., arXiv 1806.07366 (torchdiffeq).
    """
    if not callable(field):
        raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
    geometry = geometry_of(field, geometry)
    merge = bool(merge) if isinstance(merge, np.bool_) else merge
    if noisy(field):
        _without_noise(until=until, adjoint=adjoint or None, largest_step=largest_step, merge=merge or None)
        return integrate_noise(field, x0, ts, solver, step, seed, max_steps, normalize, geometry, _grid)
    if seed is not None:
        raise ValueError("seed is for the noise of a field, and this field has none: leave it out, or add ctsa.torch.Noise")
    x = checks.tokens(x0, field, geometry, normalize=normalize)
    if merge is False:  # merged tokens are few before long
        field = settled(field, x)
    be = backend(x)
    eps = rounding(x)
    times = checks.output_times(ts, eps=eps if merge is False else 0.0)  # clocks of segments are short
    entries = float(len(times)) * math.prod(x.shape)
    checks.room(f"{len(times)} outputs of {x.shape[-2]} tokens", entries, x.dtype.itemsize, "take fewer of them")
    given = Solver(solver, rtol, atol, step, max_steps)
    method = check_solver(given, x)
    if not isinstance(adjoint, (bool, *be.solvers.adjoints)):
        raise TypeError(f"adjoint must be True or False, or on JAX a diffrax adjoint, got {adjoint!r}")
    if adjoint is True and until is not None:
        raise ValueError("until does not go with adjoint=True: the adjoint equation has no stop; use adjoint=False")
    largest = _largest_step(largest_step, step, solver)
    land = bool(checks.flag("land", land))
    sign = 1 if times[-1] > times[0] else -1
    if merge is not False:
        others = dict(until=until, adjoint=adjoint, step=method.step, progress=progress)
        return integrate_merging(field, x, times, method, geometry, merge, largest, land, others)
    t0 = be.like(times[0], x)
    early = until is not None or needs_check(be, field, x)
    if early:
        x = check_velocity(be, field, geometry, t0, x)
    stop = start = None
    if until is not None:
        direction = check_until(until, direction)
    if callable(until):
        start, x = start_value(until, field, geometry, t0, x, float(times[-1] - times[0]))
        if start.ndim:
            one: dict[str, Any] = dict(
                solver=given, until=until, direction=direction, largest_step=largest, adjoint=adjoint, geometry=geometry,
                land=land, progress=False,
            )  # fmt: skip
            return each_member(lambda member: integrate(field, member, times, **one), field, x, times)
    elif until is not None:
        stop = _stop_condition(be, field, geometry, sign, rest, t0, x)
    event = None
    if start is not None:
        assert callable(until)
        event = crossing(be, until, direction, geometry, sign, float(sign * times[0]), start)
    problem = Problem(
        rhs=be.partial(extended, field, geometry, sign), y0=(x,), ts=sign * times, solver=method.name, rtol=method.rtol,
        atol=method.atol, grid=None if method.step is None else _grid(sign * times, method.step),
        max_steps=method.max_steps, stop=stop, adjoint=adjoint, progress=show_progress(progress), largest=largest,
        event=event, read=be.partial(retracted, geometry), land=land,
    )  # fmt: skip
    try:
        solved = be.odeint(problem)
        failed = solved.reached == 1
    except (TypeError, ValueError, RuntimeError):
        if not early:
            check_velocity(be, field, geometry, t0, x)  # it may have more to say
        raise
    if failed and not early:
        check_velocity(be, field, geometry, t0, x)
    if problem.event is not None:
        if solved.lost is not None:
            raise_lost(solved.lost, geometry, sign)
        solved = locate(be, problem, solved)
        solved = correct_stop(be, problem, solved)
    found = _judged(field, _read_out(be, solved, times, geometry, sign, problem))
    found.stats.update(account(field, found.xs[-1]))
    return found


def _without_noise(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} does not go with noise: leave it out")


def _judged(field: Any, run: Trajectory) -> Trajectory:
    """Return a run with what its field has to say of it."""
    for part in everything(field):
        if hasattr(part, "judge"):
            run, words = part.judge(run)
            if words:
                warnings.warn(words, UserWarning, stacklevel=4)
    return run


def _stop_condition(be, field, geometry, sign, rest, t0, x):
    """Return the condition of rest, for a field that knows no time: one still instant of a driven field is no rest."""
    rest = be.like(checks.number("rest", rest, low=0.0, strict=True), x)
    if depends_on_time(field, x, t0, geometry):
        raise ValueError(
            "until='equilibrium' is for fields that do not depend on time: this one does, and would be taken for at rest "
            "at an instant when it is still. Leave until out, or freeze the field: lambda t, x: field(t0, x)"
        )
    return be.partial(_at_rest, field, geometry, sign, rest)


def _largest_step(largest: Any, step: Any, solver: Any) -> float | None:
    if largest is None:
        return None
    if step is not None:
        raise ValueError("largest_step is for adaptive solvers: with a fixed step, step is the largest")
    if solver == "scipy_solver":
        raise ValueError("largest_step does not go with solver='scipy_solver': use 'dopri5' or 'dopri8'")
    return checks.number("largest_step", largest, low=0.0, strict=True)


def _read_out(be, solved: Solved, times, geometry, sign, problem: Problem) -> Trajectory:
    """Normalise what the solver returned and raise if it failed."""
    y = solved.ys[0] if solved.reached == len(times) else solved.ys[0][: solved.reached]
    kept = times[: solved.reached]
    if solved.stopped is not None:
        at, (end,) = solved.stopped
        time = sign * float(be.to_numpy(at) if hasattr(at, "dtype") else at)
        rest = len(kept) - (time == kept[-1])
        y, kept = be.xp.concatenate([y[:rest], end[None]]), np.append(kept[:rest], time)
    if solved.ts is not None:
        kept = sign * solved.ts
    xs, error = be.call(retracted, geometry, y) if solved.read is None else solved.read
    values = checks.concrete(error)
    stats = dict(solved.stats, radius_error=error if values is None else float(values))
    stats.setdefault("stopped", solved.stopped is not None)
    reached_ts = be.xp.asarray(kept)  # NumPy's float64, or the widest float of JAX
    if solved.stopped is not None and getattr(solved.stopped[0], "requires_grad", False):
        reached_ts = be.xp.concatenate([reached_ts[:-1], sign * solved.stopped[0][None].double()])
    trajectory = Trajectory(reached_ts, xs, stats)
    if isinstance(solved.failure, BaseException):  # an interrupt: hand over what there is
        solved.failure.trajectory = trajectory  # type: ignore[attr-defined]
        raise solved.failure
    if solved.failure is not None:
        reached = f"reached t={kept[-1]:g} of {times[-1]:g} in {stats['steps']} steps"
        why = why_failed(solved.failure, problem.max_steps)
        message = f"integrate {reached}: {why}. The error's .trajectory holds the outputs so far"
        raise IntegrationError(message, trajectory)
    return trajectory
