"""Segments, one after the other, in JAX: one compiled loop for any number of them."""

import diffrax as dx
import equinox as eqx
import jax
import jax.numpy as jnp

from ._jax_precision import precisely
from ._jax_solve import _solve, make_solver
from ._march import Segment
from ._solve import error_floor


def flow_map(rhs, y0, t0, interval, segment: Segment):
    """Solve over ``[t0, t0 + interval]``; return end state, whether it was reached, and steps, rejected ones too."""
    dtype = y0[0].dtype
    ends = jnp.stack([t0, t0 + interval]).astype(dtype)
    share = None if segment.steps is None else jnp.arange(segment.steps + 1, dtype=dtype) / segment.steps
    grid = None if share is None else (t0 + interval * share).at[-1].set(ends[-1])
    floor = error_floor(float(jnp.finfo(dtype).eps), segment.rtol, segment.atol)
    solution = _solve(
        rhs, y0, ends, grid, jnp.asarray(segment.rtol, dtype), jnp.asarray(segment.atol, dtype),
        jnp.asarray(floor, dtype), None, solver=make_solver(segment.solver, segment.rtol, segment.atol),
        max_steps=segment.max_steps, adjoint=dx.RecursiveCheckpointAdjoint(), bar=False, throw=False,
    )  # fmt: skip
    reached = solution.result == dx.RESULTS.successful
    return tuple(y[-1] for y in solution.ys), reached, solution.stats["num_steps"]


@eqx.filter_jit
def _march(step, carry, count, size):
    shapes = eqx.filter_eval_shape(step, carry)[1]
    outs = tuple(jnp.zeros((size, *s.shape), s.dtype) for s in shapes)

    def body(i, state):
        carry, outs = state
        carry, out = step(carry)
        return carry, tuple(rows.at[i].set(row) for rows, row in zip(outs, out, strict=True))

    return jax.lax.fori_loop(0, count, body, (carry, outs))


@precisely
def march(step, carry, count, size):
    """Call ``carry, out = step(carry)`` ``count <= size`` times; return the last carry and the outs, stacked.

    ``count`` is traced, so that runs of any length share one program: a resumed run takes the same bits.
    """
    carry, outs = _march(step, carry, jnp.asarray(count), size)
    return carry, tuple(rows[:count] for rows in outs)
