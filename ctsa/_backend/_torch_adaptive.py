"""Adaptive Runge-Kutta steps in torch: torchdiffeq's tableaus and controller, on few tensors, outputs inside of steps.

torchdiffeq interpolates dopri8 by a quartic, which costs its digits. Its ``adaptive_heun`` starts every step with the slope
at the last predictor, as if the method were FSAL (1.7e-8 off at atol = 1e-8). And its many small operations take most of
the time of a small problem.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ._compiling import asked
from ._interpolants import MEASURED_ORDER
from ._solve import GROW, SAFETY, SHRINK, Problem, error_floor, first_step, stretch
from ._torch_compile import compiled, slope, stepping
from ._torch_tableaus import ORDERS, Tableau, tableau

State = tuple[torch.Tensor, ...]


class _Flat:
    """Stages in one buffer: for solves that record no gradients."""

    def __init__(self, method: Tableau, rhs: Callable, y: State):
        self.method, self.rhs = method, rhs
        self.shapes, self.sizes = [a.shape for a in y], [a.numel() for a in y]
        self.slopes = y[0].new_empty(len(method.c), sum(self.sizes))
        self.table = torch.as_tensor(np.stack([*method.a, method.step, method.error]), dtype=y[0].dtype, device=y[0].device)

    def enter(self, y: State) -> torch.Tensor:
        return torch.cat([a.reshape(-1) for a in y])

    def leave(self, y: torch.Tensor) -> State:
        return tuple(a.view(shape) for a, shape in zip(y.split(self.sizes), self.shapes, strict=True))

    def evaluate(self, i: int, t: torch.Tensor, y: torch.Tensor) -> None:
        for to, f in zip(self.slopes[i].split(self.sizes), self.rhs(t, self.leave(y)), strict=True):
            to.copy_(f.reshape(-1))

    def step(self, ts: torch.Tensor, y: torch.Tensor, h: float) -> tuple[torch.Tensor, torch.Tensor]:
        rows, k = self.table * h, self.slopes
        s = len(self.method.c)
        for i in range(1, s):
            last = torch.addmv(y, k[:i].T, rows[i, :i])
            self.evaluate(i, ts[i], last)
        end = last if self.method.fsal else torch.addmv(y, k.T, rows[s])
        return end, torch.mv(k.T, rows[s + 1])

    def weigh(self, weights: np.ndarray) -> torch.Tensor:
        return torch.mv(self.slopes.T, torch.as_tensor(weights, dtype=self.slopes.dtype, device=self.slopes.device))

    def within(self, y: torch.Tensor, weights: np.ndarray) -> State:
        rows = torch.as_tensor(weights, dtype=y.dtype, device=y.device)
        parts = torch.addmm(y, rows, self.slopes).split(self.sizes, 1)
        return tuple(a.reshape(-1, *shape) for a, shape in zip(parts, self.shapes, strict=True))

    def follow(self, t: torch.Tensor, y: torch.Tensor) -> None:
        if self.method.fsal:
            self.slopes[0].copy_(self.slopes[-1])
        else:
            self.evaluate(0, t, y)


class _Compiled(_Flat):
    """The stages of a step in one program."""

    def __init__(self, name: str, problem: Problem, watch: Any):
        super().__init__(tableau(name), watch.rhs, problem.y0)
        self.watch, self.problem = watch, problem
        self.first, self.program = compiled(slope), compiled(stepping(name))

    def evaluate(self, i: int, t: torch.Tensor, y: torch.Tensor) -> None:
        self.watch.evaluations += 1
        self.slopes[i] = self.first(self.problem.rhs, self.shapes, t, y)

    def step(self, ts: torch.Tensor, y: torch.Tensor, h: float) -> tuple[torch.Tensor, torch.Tensor]:
        self.watch.evaluations += len(self.slopes) - 1
        clock = torch.stack((ts[0], ts.new_tensor(h)))
        end, self.slopes = self.program(self.problem.rhs, self.shapes, clock, y, self.slopes[0])
        return end, torch.mv(self.slopes.T, self.table[-1] * h)


class _Graph:
    """Stages as tensors of their own, on the graph."""

    def __init__(self, method: Tableau, rhs: Callable, y: State):
        self.method, self.rhs = method, rhs
        self.slopes: list[Any] = [None] * len(method.c)

    def enter(self, y: State) -> State:
        return y

    leave = enter

    def evaluate(self, i: int, t: torch.Tensor, y: State) -> None:
        self.slopes[i] = self.rhs(t, y)

    def _combine(self, start: State | None, weights: np.ndarray) -> State:
        out = start
        for w, slopes in zip(weights.tolist(), self.slopes, strict=False):
            if w:
                old = (None,) * len(slopes) if out is None else out
                out = tuple(f * w if y is None else y.add(f, alpha=w) for y, f in zip(old, slopes, strict=True))
        assert out is not None
        return out

    def step(self, ts: torch.Tensor, y: State, h: float) -> tuple[State, State]:
        for i in range(1, len(self.method.c)):
            last = self._combine(y, h * self.method.a[i, :i])
            self.evaluate(i, ts[i], last)
        end = last if self.method.fsal else self._combine(y, h * self.method.step)
        with torch.no_grad():
            return end, self._combine(None, h * self.method.error)

    @torch.no_grad()
    def weigh(self, weights: np.ndarray) -> State:
        return self._combine(None, weights)

    def within(self, y: State, weights: np.ndarray) -> State:
        return tuple(
            a + torch.tensordot(torch.as_tensor(weights, dtype=a.dtype, device=a.device), torch.stack(slopes), 1)
            for a, slopes in zip(y, zip(*self.slopes, strict=True), strict=True)
        )

    def follow(self, t: torch.Tensor, y: State) -> None:
        if self.method.fsal:
            self.slopes[0] = self.slopes[-1]
        else:
            self.evaluate(0, t, y)


@torch.no_grad()
def _size(error: State, y: State, z: State, rtol: float, atol: float) -> float:
    """Return the error in units of the tolerance: the largest rms of a part of the state."""
    if rtol:
        error = tuple(e / (1 + rtol / atol * torch.maximum(a.abs(), b.abs())) for e, a, b in zip(error, y, z, strict=True))
    return float(torch.stack([torch.linalg.vector_norm(e) / e.numel() ** 0.5 for e in error]).max()) / atol


def solve(p: Problem, watch: Any, be: Any) -> None:
    """Take adaptive steps to the end of ``p.ts``, telling ``watch`` of each; it keeps the outputs, and may raise.

    Outputs inside a step are interpolated where the interpolant is as good as the step is; see ``stretch``.

    Args:
        p: the problem, whose ``solver`` is one of ``ORDERS``.
        watch: is told of states (``arrive``, ``between``) and steps (``begin``, ``accept``, ``reject``), may ``cut`` one
            short.
        be: the backend.
    """
    order, y0 = ORDERS[p.solver], p.y0
    method, like = tableau(p.solver), y0[0]
    ts = p.ts.tolist()

    def clock(times: Any) -> torch.Tensor:
        return torch.as_tensor(times, dtype=like.dtype, device=like.device)

    def scaled(error: Any, y: Any, z: Any) -> float:
        size = _size(*(stages.leave(part) for part in (error, y, z)), p.rtol, p.atol)
        return max(size, floor) if size == size else float("inf")  # a step into nan is tried again, shorter

    def growth(size: float, power: int) -> float:
        return SAFETY / size ** (1.0 / power) if size < float("inf") else 0.0

    with torch.no_grad():
        h = float(first_step(be, watch.rhs, clock(ts[0]), y0, p.rtol, p.atol, order))
    h = max(h, watch.shortest)  # at rest it is a guess, which must move the clock
    floor, largest = error_floor(torch.finfo(like.dtype).eps, p.rtol, p.atol), p.largest or float("inf")
    stages: Any
    if torch.is_grad_enabled():
        stages = _Graph(method, watch.rhs, y0)
    else:
        compiles = asked() is not None and not p.adjoint  # whose backward solve is another program every time
        stages = _Compiled(p.solver, p, watch) if compiles else _Flat(method, watch.rhs, y0)
    t, y, at, good = ts[0], stages.enter(y0), 1, 0.0 if p.land else float("inf")
    careful = p.land or method.measure is not None
    stages.evaluate(0, clock(t), y)
    while True:
        h = min(h, largest)
        watch.arrive(t, stages.leave(y))
        if at == len(ts):
            return
        watch.begin(h)
        end = stretch(t, t + h, ts[at], ts[-1], good, careful)
        h = end - t
        z, error = stages.step(clock(t + h * method.c), y, h)
        size = scaled(error, y, z)
        grow = growth(size, order)
        off = 0.0  # of the interpolant, where the error of the step does not tell
        if method.measure is not None and not p.land:
            off = scaled(stages.weigh(h * method.measure), y, z)
            good = h * min(max(growth(off, MEASURED_ORDER), SHRINK), GROW)
        if size > 1:
            watch.reject()
            h *= max(grow, SHRINK)
            if t + h >= end:  # of a few roundings of the clock: it would be the same step for ever
                h = 0.0
            continue
        following = h * min(max(grow, 1.0 if size < 1 else SHRINK), GROW)
        if off > 1 and ts[at] < end:
            watch.reject()
            h = following
            continue
        watch.accept()
        if p.event is not None:
            shorter = watch.cut(t, stages.leave(y), end, stages.leave(z))
            if shorter is not None:
                h = shorter
                continue
        inside = bisect_left(ts, end, at)
        if inside > at:
            watch.between(stages.within(y, method.shares(p.ts[at:inside] - t, h)), inside - at)
        t, y, at = end, z, inside + (ts[inside] == end)
        if at < len(ts):
            stages.follow(clock(t), y)
        h = following
