"""torchdiffeq, asked the way that makes it agree with diffrax: one first step, exact landing, one norm, all counted."""

import functools
import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ._events import crossed, first_of_several
from ._solve import JAX_ONLY, SLIVER, Problem, Solved, error_floor, first_step, progress_bar

_ORDERS = {"dopri5": 5, "dopri8": 8, "bosh3": 3, "heun": 2, "adaptive_heun": 2, "fehlberg2": 2}


@cache
def _register() -> None:
    """Give torchdiffeq adaptive methods ``ctsa_*`` that land without slivers, and a true Heun's method.

    torchdiffeq counts an output time as passed only if a step had to be cut for it: one that ends there by itself, or an
    ulp short, would make it miss the later ones, or begin again from a step of an ulp.

    Its own ``adaptive_heun`` starts every step with the slope at the last predictor, as if the method were FSAL: at
    atol = 1e-8 a flow to t = 5 ended 1.7e-8 away from Heun's method.
    """
    from torchdiffeq._impl.rk_common import RKAdaptiveStepsizeODESolver, _ButcherTableau

    def row(*entries):
        return torch.tensor(entries, dtype=torch.float64)

    class Heun(RKAdaptiveStepsizeODESolver):
        order = 2
        tableau = _ButcherTableau(
            alpha=row(1.0, 1.0), beta=[row(1.0), row(0.5, 0.5)], c_sol=row(0.5, 0.5, 0.0), c_error=row(0.5, -0.5, 0.0)
        )
        mid = row(0.375, 0.125, 0.0)  # midpoint value of the quadratic through both slopes

    def landing(base):
        class Landing(base):  # type: ignore[valid-type, misc]
            def __init__(self, *args, cut=None, **options):
                super().__init__(*args, **options)
                self.cut = cut

            def _adaptive_step(self, rk_state):
                index = int(vars(self)["next_step_index"])
                new = self._landing_step(rk_state)
                if self.cut is None or not new.t1 > rk_state.t1:
                    return new
                length = self.cut(rk_state.t1, rk_state.y1, new.t1, new.y1)
                if length is None:
                    return new
                self.next_step_index = index
                return rk_state._replace(dt=length)

            def _landing_step(self, rk_state):
                if len(self.step_t):
                    left = self.step_t[self.next_step_index] - rk_state.t1
                    if 0 <= left - rk_state.dt < SLIVER * rk_state.dt:
                        rk_state = rk_state._replace(dt=left * (1 + 1e-9))  # to be cut, exactly
                return super()._adaptive_step(rk_state)

        return Landing

    solvers = importlib.import_module("torchdiffeq._impl.odeint").SOLVERS
    for name in _ORDERS:
        solvers[f"ctsa_{name}"] = landing(Heun if name == "heun" else solvers[name])


def _norm(floor: float):
    def rms(a):
        return a.pow(2).mean().sqrt()

    def norm(error):
        size = torch.stack([rms(a) for a in error]).amax() if isinstance(error, tuple) else rms(error)
        # A step into nan is retried with a shorter one, as diffrax does; torchdiffeq would give up.
        return torch.where(size.isnan(), torch.inf, size).clamp(min=floor)

    return norm


class _Stop(Exception):
    pass


class _TooManySteps(Exception):
    pass


class _StepTooSmall(Exception):
    pass


def _this() -> ModuleType:
    return sys.modules[__package__ + "._torch"]


class _Watch:
    """Follows a solve from torchdiffeq's callbacks: counts, keeps the outputs so far, stops, draws the bar."""

    def __init__(self, problem: Problem, unwrap: bool):
        self.problem, self.unwrap = problem, unwrap
        self.accepted = self.rejected = self.evaluations = 0
        self.kept: list = [problem.y0]
        self.now = self.previous = -np.inf
        self.at: tuple | None = None
        self.lost: tuple | None = None
        self.value: float | None = None  # of the event function at the last step
        # As in diffrax: a step that small cannot move the clock.
        self.shortest = 0.5 * torch.finfo(problem.y0[0].dtype).eps * float(np.abs(problem.ts[[0, -1]]).max())
        self.bar = progress_bar(float(problem.ts[-1] - problem.ts[0])) if problem.progress else None

    def rhs(self, t, y):
        self.evaluations += 1
        return self.problem.rhs(t, (y,))[0] if self.unwrap else self.problem.rhs(t, y)

    def arrive(self, t, y):
        """Keep the state if ``t`` is an output time, and see whether the run should end here."""
        y = (y,) if self.unwrap else y
        now, ts = float(t), self.problem.ts
        if now == self.now:  # the same step again, after a rejection
            return
        self.now, self.previous = now, self.now
        if len(self.kept) < len(ts) and now >= ts[len(self.kept)]:
            self.kept.append(y)
        if self.problem.event is not None and self.watch_event(t, y):
            raise _Stop
        if self.problem.stop is not None and now > ts[0]:
            with torch.no_grad():
                if bool(self.problem.stop(t, y)):
                    self.at = (t, y)
                    raise _Stop
        if self.bar is not None:
            self.bar.update(now - ts[0] - self.bar.n)

    def watch_event(self, t, y) -> bool:
        """See whether the event has happened, or its value was lost."""
        event = self.problem.event
        assert event is not None
        with torch.no_grad():
            value = float(event.value(t, y))
        before, self.value = self.value, value
        if not np.isfinite(value):
            self.lost = (t, y)
        elif before is not None and crossed(event.direction, before, value):
            self.at = (t, y)
        return self.at is not None or self.lost is not None

    def cut(self, t0, y0, t1, y1):
        """Return a shorter step where the event function changes sign several times in an accepted one."""
        y0, y1 = ((y0,), (y1,)) if self.unwrap else (y0, y1)
        assert self.problem.event is not None
        with torch.no_grad():
            several, share = first_of_several(_this(), self.problem.event, self.problem.rhs, t0, y0, t1, y1)
            if not bool(several):
                return None
            self.accepted, self.rejected = self.accepted - 1, self.rejected + 1
            return share.to(t0.dtype) * (t1 - t0)

    def begin(self, t, y, dt):
        self.arrive(t, y)
        if self.accepted + self.rejected >= self.problem.max_steps:
            raise _TooManySteps

    def begin_adaptive(self, t, y, dt):
        self.begin(t, y, dt)
        if dt < self.shortest:
            raise _StepTooSmall

    def begin_fixed(self, t, y, dt):
        self.begin(t, y, dt)
        self.accepted += 1

    def accept(self, t, y, dt):
        self.accepted += 1

    def reject(self, t, y, dt):
        self.rejected += 1


def _leaves(tensors) -> set:
    """Return the leaves that require gradients in the graphs of some tensors."""
    found, seen = set(), set()
    todo = [t.grad_fn if t.grad_fn is not None else t for t in tensors if t.requires_grad]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = node if isinstance(node, torch.Tensor) else getattr(node, "variable", None)
        if leaf is not None:
            found.add(leaf)
        else:
            todo += [inner for inner, _ in node.next_functions if inner is not None]
    return found


def _adjoint_parameters(p: Problem, t0) -> tuple:
    """Return the tensors for which the adjoint equation finds gradients, and refuse if the field hides others."""
    field = getattr(p.rhs, "args", (None,))[0]
    params = tuple(a for a in _this().tensors(field) if a.requires_grad)
    if torch.is_grad_enabled():
        seen = _leaves(p.rhs(t0.to(p.y0[0].dtype), tuple(y.detach() for y in p.y0)))
        if seen - _leaves(params):
            raise ValueError(
                "adjoint=True finds what to differentiate in the parameters of an nn.Module, but this field, or a term of "
                "it, is a plain callable around them: make it a torch.nn.Module, or use adjoint=False"
            )
    return params


def _untransformed(solve):
    """Say it where torchdiffeq cannot run under a transform of torch.func."""

    @functools.wraps(solve)
    def called(problem):
        try:
            return solve(problem)
        except RuntimeError as error:
            if torch._C._functorch.peek_interpreter_stack() is None:
                raise
            raise TypeError(
                f"integrate with solver={problem.solver!r} does not go through this transform of torch.func: for gradients "
                "use requires_grad and backward, or a fixed-step solver ('rk4'); for vmap pass a batch of states"
            ) from error

    return called


@_untransformed
def odeint(problem: Problem) -> Solved:
    """Solve with torchdiffeq; see ``Problem`` and ``Solved``."""
    import torchdiffeq  # not at the top: torch.compile would trace into it

    p = problem
    if p.solver in JAX_ONLY:
        raise ValueError(f"solver={p.solver!r} exists on JAX only; on torch use 'dopri5' or 'dopri8'")
    method = f"ctsa_{p.solver}" if p.solver in _ORDERS else p.solver
    _register()
    y0 = p.y0[0]
    ts = torch.as_tensor(p.ts, dtype=torch.float64, device=y0.device)
    unwrap = len(p.y0) == 1
    watch = _Watch(p, unwrap)

    def call(t, y):
        return watch.rhs(t, y)

    rhs: Any = call  # torchdiffeq looks for callbacks among the function's attributes

    options: dict = {}
    if p.grid is not None:
        grid = torch.as_tensor(p.grid, dtype=torch.float64, device=y0.device)

        def between(func, y, t):  # the adjoint solve goes backward through one output interval at a time
            part = grid[(grid >= t.min()) & (grid <= t.max())]
            return part if t[0] < t[-1] else part.flip(0)

        options["grid_constructor"] = between
        rhs.callback_step = watch.begin_fixed
    elif p.solver in _ORDERS:
        with torch.no_grad():
            h = first_step(_this(), p.rhs, ts[0].to(y0.dtype), p.y0, p.rtol, p.atol, _ORDERS[p.solver])
            h = h if p.largest is None else h.clamp(max=p.largest)
        watch.evaluations += 2
        options = dict(first_step=h, step_t=ts, norm=_norm(error_floor(torch.finfo(y0.dtype).eps, p.rtol, p.atol)))
        if p.largest is not None:
            options["max_step"] = p.largest
        if p.event is not None:
            options["cut"] = watch.cut
        rhs.callback_step = watch.begin_adaptive
        rhs.callback_accept_step, rhs.callback_reject_step = watch.accept, watch.reject

    solve, extra = torchdiffeq.odeint, {}
    if p.adjoint:
        solve, extra = torchdiffeq.odeint_adjoint, {"adjoint_params": _adjoint_parameters(p, ts[0])}

    failure: str | BaseException | None = None
    start = y0 if unwrap else p.y0
    try:
        ys = solve(rhs, start, ts, rtol=p.rtol, atol=p.atol, method=method, options=options, **extra)
        ys = (ys,) if unwrap else ys
        reached = len(ts)
        if p.event is not None and watch.now < p.ts[-1]:
            watch.now, watch.previous = p.ts[-1], watch.now
            watch.watch_event(ts[-1], tuple(y[-1] for y in ys))
        if p.stop is not None:
            with torch.no_grad():
                end = tuple(y[-1] for y in ys)
                if bool(p.stop(ts[-1], end)):
                    watch.at = (ts[-1], end)
    except ValueError as error:
        if str(error).startswith("Invalid method"):
            raise ValueError(f"solver={p.solver!r} is unknown to ctsa and to torchdiffeq. {error}") from None
        raise
    except (_Stop, _TooManySteps, _StepTooSmall, AssertionError, KeyboardInterrupt) as error:
        if isinstance(error, AssertionError) and not str(error).startswith(("underflow", "non-finite", "max_num")):
            raise
        if isinstance(error, _TooManySteps):
            failure = "max_steps"
        elif not isinstance(error, _Stop):
            failure = error if isinstance(error, KeyboardInterrupt) else "step_size"
        reached = len(watch.kept)
        ys = tuple(torch.stack(column) for column in zip(*watch.kept, strict=True))
    finally:
        if watch.bar is not None:
            watch.bar.close()
    for y in ys:
        if failure is None and not bool(torch.isfinite(y[-1]).all()):
            failure = "step_size"
            reached = int(np.argmin([bool(torch.isfinite(row).all()) for row in y]))
    stats = {"steps": watch.accepted, "rejected": watch.rejected, "evaluations": watch.evaluations}
    return Solved(ys, reached, watch.at, failure, stats, previous=watch.previous, lost=watch.lost)
