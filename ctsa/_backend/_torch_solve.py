"""Solves in torch: adaptive methods by steps of our own, fixed steps and all else by torchdiffeq; all counted."""

import functools
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ._events import crossed, first_of_several
from ._solve import Problem, Solved, progress_bar
from ._torch_adaptive import solve as solve_adaptively
from ._torch_adjoint import solve_adjoint
from ._torch_tableaus import ORDERS


class _Stop(Exception):
    pass


class _TooManySteps(Exception):
    pass


class _StepTooSmall(Exception):
    pass


def _this() -> ModuleType:
    return sys.modules[__package__ + "._torch"]


class _Watch:
    """Follows a solve: counts, keeps the outputs so far, stops, draws the bar."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.accepted = self.rejected = self.evaluations = self.interpolated = 0
        self.kept: list = []  # states (m, ...) at the next m outputs
        self.count = 0  # of outputs in it
        self.now: tuple = (-np.inf, None)
        self.previous = self.now
        self.at: tuple | None = None
        self.lost: tuple | None = None
        self.value: float | None = None  # of the event function at the last step
        # As in diffrax: a step that small cannot move the clock.
        self.shortest = 0.5 * torch.finfo(problem.y0[0].dtype).eps * float(np.abs(problem.ts[[0, -1]]).max())
        self.bar = progress_bar(float(problem.ts[-1] - problem.ts[0])) if problem.progress else None

    def rhs(self, t, y):
        self.evaluations += 1
        return self.problem.rhs(t, y)

    def _clock(self, t):
        return torch.as_tensor(t, dtype=torch.float64, device=self.problem.y0[0].device)

    def between(self, ys: tuple, count: int) -> None:
        """Keep the states at the next outputs, which lie inside of a step."""
        self.kept.append(ys)
        self.count += count
        self.interpolated += count

    def arrive(self, now: float, y) -> None:
        """Keep the state if this is an output time, and see whether the run should end here."""
        p, ts = self.problem, self.problem.ts
        if now == self.now[0]:  # the same step again, after a rejection
            return
        self.now, self.previous = (now, y), self.now
        if self.count < len(ts) and now >= ts[self.count]:
            self.kept.append(tuple(part[None] for part in y))
            self.count += 1
        if p.event is not None and self.watch_event(self._clock(now), y):
            raise _Stop
        if p.stop is not None and now > ts[0]:
            with torch.no_grad():
                if bool(p.stop(self._clock(now), y)):
                    self.at = (self._clock(now), y)
                    raise _Stop
        if self.bar is not None:
            self.bar.update(now - ts[0] - self.bar.n)

    def outputs(self) -> tuple:
        """Return the outputs so far, ``(count, ...)`` for each part of the state."""
        kept = self.kept or [tuple(part[None] for part in self.problem.y0)]
        return tuple(torch.cat(column) for column in zip(*kept, strict=True))

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

    def cut(self, t0: float, y0, t1: float, y1) -> float | None:
        """Return a shorter step where the event function changes sign several times in an accepted one."""
        assert self.problem.event is not None
        with torch.no_grad():
            start, end = self._clock(t0), self._clock(t1)
            several, share = first_of_several(_this(), self.problem.event, self.problem.rhs, start, y0, end, y1)
            if not bool(several):
                return None
            self.accepted, self.rejected = self.accepted - 1, self.rejected + 1
            return float(share) * (t1 - t0)

    def begin(self, h: float) -> None:
        if self.accepted + self.rejected >= self.problem.max_steps:
            raise _TooManySteps
        if not h >= self.shortest:  # nan, too
            raise _StepTooSmall

    def check_backward(self, steps: int, h: float) -> None:
        """Give up a backward solve of the adjoint equation as a forward one would be."""
        if steps >= self.problem.max_steps or not h >= self.shortest:
            why = "took more than max_steps" if steps >= self.problem.max_steps else "needs steps too short for the clock"
            raise RuntimeError(f"the backward solve of adjoint=True {why}: use adjoint=False, or loosen atol")

    def accept(self) -> None:
        self.accepted += 1

    def reject(self) -> None:
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


def _adjoint_parameters(p: Problem) -> tuple:
    """Return the tensors for which the adjoint equation finds gradients, and refuse if the field hides others."""
    field = getattr(p.rhs, "args", (None,))[0]
    params = tuple(a for a in _this().tensors(field) if a.requires_grad)
    if torch.is_grad_enabled():
        y0 = tuple(y.detach() for y in p.y0)
        seen = _leaves(p.rhs(torch.as_tensor(p.ts[0], dtype=y0[0].dtype, device=y0[0].device), y0))
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
                "use requires_grad and backward; for vmap pass a batch of states"
            ) from error

    return called


@_untransformed
def odeint(problem: Problem) -> Solved:
    """Solve; see ``Problem`` and ``Solved``."""
    p = problem
    watch = _Watch(p)
    failure: str | BaseException | None = None
    try:
        if p.solver not in ORDERS:
            ys = _torchdiffeq(p, watch)
        elif p.adjoint:
            ys = solve_adjoint(p, watch, _this(), _adjoint_parameters(p))
        else:
            solve_adaptively(p, watch, _this())
            ys = watch.outputs()
    except (_Stop, _TooManySteps, _StepTooSmall, KeyboardInterrupt) as error:
        if not isinstance(error, _Stop):
            failure = "max_steps" if isinstance(error, _TooManySteps) else "step_size"
            failure = error if isinstance(error, KeyboardInterrupt) else failure
        ys = watch.outputs()
    finally:
        if watch.bar is not None:
            watch.bar.close()
    reached = len(ys[0])
    for y in ys:
        if failure is None and not bool(torch.isfinite(y[-1]).all()):
            failure = "step_size"
            reached = int(np.argmin([bool(torch.isfinite(row).all()) for row in y]))
    stats = {
        "steps": watch.accepted, "rejected": watch.rejected, "evaluations": watch.evaluations,
        "interpolated": watch.interpolated,
    }  # fmt: skip
    return Solved(ys, reached, watch.at, failure, stats, previous=watch.previous, lost=watch.lost)


def _torchdiffeq(p: Problem, watch: _Watch) -> tuple:
    """Solve with torchdiffeq, in fixed steps or by a method that only it has."""
    import torchdiffeq  # not at the top: torch.compile would trace into it

    y0 = p.y0[0]
    ts = torch.as_tensor(p.ts, dtype=torch.float64, device=y0.device)
    unwrap = len(p.y0) == 1

    def call(t, y):
        return watch.rhs(t, (y,))[0] if unwrap else watch.rhs(t, y)

    def step(t, y, dt):
        watch.arrive(float(t), (y,) if unwrap else y)
        watch.begin(np.inf)
        watch.accept()

    rhs: Any = call  # torchdiffeq looks for callbacks among the function's attributes
    options: dict = {}
    if p.grid is not None:
        grid = torch.as_tensor(p.grid, dtype=torch.float64, device=y0.device)

        def between(func, y, t):  # the adjoint solve goes backward through one output interval at a time
            part = grid[(grid >= t.min()) & (grid <= t.max())]
            return part if t[0] < t[-1] else part.flip(0)

        options["grid_constructor"] = between
        rhs.callback_step = step
    solve, extra = torchdiffeq.odeint, {}
    if p.adjoint:
        params = _adjoint_parameters(p)
        computed, given = ([a for a in params if (a.grad_fn is not None) == is_so] for is_so in (True, False))
        if _leaves(computed) & _leaves(given):
            raise ValueError(
                f"adjoint=True with solver={p.solver!r} is not for this field: it has a tensor that is computed from "
                "another of its parameters. Use adjoint=False, or an adaptive solver such as 'dopri5'"
            )
        solve, extra = torchdiffeq.odeint_adjoint, {"adjoint_params": params}
    start = y0 if unwrap else p.y0
    try:
        ys = solve(rhs, start, ts, rtol=p.rtol, atol=p.atol, method=p.solver, options=options, **extra)
    except ValueError as error:
        if str(error).startswith("Invalid method"):
            raise ValueError(f"solver={p.solver!r} is unknown to ctsa and to torchdiffeq. {error}") from None
        raise
    except AssertionError as error:
        if not str(error).startswith(("underflow", "non-finite", "max_num")):
            raise
        raise _StepTooSmall from error
    ys = (ys,) if unwrap else ys
    if p.event is not None or p.stop is not None:
        watch.arrive(float(p.ts[-1]), tuple(y[-1] for y in ys))
    return ys
