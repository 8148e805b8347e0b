"""Segments, one after the other, in torch."""

import functools

import numpy as np
import torch

from ._eager_march import march_tangent as march_tangent
from ._march import Segment
from ._solve import Problem
from ._torch_compile import compiled
from ._torch_solve import odeint
from ._torch_tableaus import ORDERS


def flow_map(rhs, y0, t0, interval, segment: Segment, adjoint=None):
    """Solve over ``[t0, t0 + interval]``; return end state, whether it was reached, and steps, rejected ones too."""
    start, grid = float(t0), segment.grid(float(interval))
    problem = Problem(
        rhs, y0, np.array([start, start + float(interval)]), segment.solver, segment.rtol, segment.atol,
        None if grid is None else start + grid, segment.max_steps, None, False, False,
    )  # fmt: skip
    solved = odeint(problem)
    if isinstance(solved.failure, BaseException):
        raise solved.failure
    steps = torch.tensor(solved.stats["steps"] + solved.stats["rejected"])
    return tuple(y[-1] for y in solved.ys), torch.tensor(solved.failure is None), steps


def march(step, carry, count, size, whole=False):
    """Call ``carry, out = step(carry)`` ``count`` times; return the last carry and the outs, stacked.

    ``whole`` says that a step, a ``functools.partial``, takes the same operations whatever the numbers are.
    """
    step, outs = functools.partial(compiled(step.func), *step.args) if whole else step, []
    with torch.no_grad():
        for _ in range(count):
            carry, out = step(carry)
            outs.append(out)
    return carry, tuple(torch.stack(column) for column in zip(*outs, strict=True))


def marches(solver):
    """Tell whether ``march_tangent`` takes the steps of a solver."""
    return isinstance(solver, str) and solver in ORDERS


def timeless(field, t, x):
    """Tell whether what a field computes does not know the time, for certain: in torch nothing tells."""
    return False


def separate(field, t, x):
    """Tell whether the members of an ensemble may be marched one by one: the field does not tell them apart."""
    at = (0,) * (x.ndim - 2), tuple(size - 1 for size in x.shape[:-2])
    if x.device.type != "cpu":
        return False
    with torch.no_grad():
        try:
            alone = [field(t, x[i]) for i in at]
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        together = field(t, x)
        scale = float(together.abs().max())
    pairs = [(v, together[i]) for i, v in zip(at, alone, strict=True)]
    return all(v.shape == w.shape and float((v - w).abs().max()) <= 1e-6 * scale for v, w in pairs)
