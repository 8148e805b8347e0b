"""Segments, one after the other, in torch."""

import numpy as np
import torch

from ._march import Segment
from ._solve import Problem
from ._torch_solve import odeint


def flow_map(rhs, y0, t0, interval, segment: Segment):
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


def march(step, carry, count, size):
    """Call ``carry, out = step(carry)`` ``count`` times; return the last carry and the outs, stacked."""
    outs = []
    with torch.no_grad():
        for _ in range(count):
            carry, out = step(carry)
            outs.append(out)
    return carry, tuple(torch.stack(column) for column in zip(*outs, strict=True))
