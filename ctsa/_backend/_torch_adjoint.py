"""Gradients by the adjoint equation, solved backward from output to output, in memory that no number of steps changes."""

import functools
from dataclasses import replace
from typing import Any

import torch

from ._solve import Problem
from ._torch_adaptive import solve


class _Quiet:
    """What follows the backward solves: their end is all that is wanted."""

    def __init__(self, p: Problem, watch: Any):
        self.problem, self.steps, self.end = p, 0, p.y0
        self.outer, self.shortest = watch, watch.shortest

    def rhs(self, t, y):
        return self.problem.rhs(t, y)

    def arrive(self, t, y):
        self.end = y

    def begin(self, h):
        self.outer.check_backward(self.steps, h)

    def accept(self):
        self.steps += 1

    reject = accept


def _augmented(rhs: Any, count: int, params: tuple) -> Any:
    """Return ``s = -t -> (-f, a^T df/dy, a^T df/dp)`` for states ``(y, a, gradients)``, ``y`` of ``count`` arrays."""

    def call(s, state):
        y, a = state[:count], state[count : 2 * count]
        with torch.enable_grad():
            y = tuple(part.detach().requires_grad_() for part in y)
            f = rhs(-s, y)
            pulled = torch.autograd.grad(f, (*y, *params), a, allow_unused=True)
        back = (torch.zeros_like(z) if g is None else g for z, g in zip((*y, *params), pulled, strict=True))
        return (*(-part.detach() for part in f), *back)

    return call


def _cut(field: Any, params: tuple) -> tuple[Any, tuple]:
    """Return a field whose computed tensors are leaves, and ``params`` with these in their places.

    The adjoint equation asks for the gradient at the tensors that a field holds. Where these were computed, a backward pass
    would go on into their graph, again in every evaluation; the graph is for what comes after, once.
    """
    leaves = {id(a): a.detach().requires_grad_() for a in params if a.grad_fn is not None}
    if not leaves:
        return field, params
    made: dict[int, Any] = {}

    def twin(module: torch.nn.Module) -> torch.nn.Module:
        if id(module) not in made:
            new: Any = object.__new__(type(module))
            made[id(module)] = new
            new.__dict__ = dict(module.__dict__)
            new._modules = {k: None if m is None else twin(m) for k, m in module._modules.items()}
            for name in getattr(module, "computed", ()):
                a = getattr(module, name)
                new.__dict__[name] = leaves.get(id(a), a)
        return made[id(module)]

    return twin(field), tuple(leaves.get(id(a), a) for a in params)


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, p, leaves, watch, be, count, *tensors):
        ctx.p, ctx.watch, ctx.be, ctx.count, ctx.leaves = p, watch, be, count, leaves
        solve(replace(p, y0=tensors[:count]), watch, be)
        ys = watch.outputs()
        ctx.save_for_backward(*ys, *tensors[count:])  # kept so that PyTorch notices if they are written to
        return ys

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        p, n = ctx.p, ctx.count
        ys, params = ctx.saved_tensors[:n], ctx.leaves
        a = tuple(g[-1] for g in grads)
        totals = tuple(torch.zeros_like(w) for w in params)
        rhs = _augmented(p.rhs, n, params)
        for i in range(len(p.ts) - 1, 0, -1):
            start = (*(y[i] for y in ys), *a, *totals)
            piece = replace(p, rhs=rhs, y0=start, ts=-p.ts[[i, i - 1]], event=None, stop=None, progress=False)
            quiet = _Quiet(piece, ctx.watch)
            solve(piece, quiet, ctx.be)
            a = tuple(part + g[i - 1] for part, g in zip(quiet.end[n : 2 * n], grads, strict=True))
            totals = quiet.end[2 * n :]
        return None, None, None, None, None, *a, *totals


def solve_adjoint(p: Problem, watch: Any, be: Any, params: tuple) -> tuple[torch.Tensor, ...]:
    """Solve such that gradients come from the adjoint equation; they carry the solver's own error.

    After Chen et al., arXiv 1806.07366. ``params`` are the tensors that gradients are wanted for, beside ``y0``.
    """
    given = getattr(p.rhs, "args", ())
    field, leaves = _cut(given[0] if given else None, params)
    if given and field is not given[0]:
        function: Any = p.rhs
        p = replace(p, rhs=functools.partial(function.func, field, *given[1:]))
    return _Adjoint.apply(p, leaves, watch, be, len(p.y0), *p.y0, *params)
