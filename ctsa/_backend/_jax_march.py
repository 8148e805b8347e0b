"""Intervals, one after the other, in JAX: one compiled loop for any number of them."""

from typing import Any, NamedTuple

import diffrax as dx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._jax_precision import precisely
from ._jax_solve import _solve, make_solver
from ._march import BURST, SPREAD, TINY, Segment, Tangent, errors
from ._solve import GROW, SAFETY, SHRINK, SLIVER, error_floor


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


# ------------------------------------------------------------------------------------------- adaptive, with tangent vectors
class _State(NamedTuple):
    """What the loop carries. Numbers that steer it are a member's own, ``(*batch,)``, or shared by all, ``()``."""

    y: Any  # the state, tangent vectors last; every part has the axes of the batch in front
    slope: Any  # its time derivative, where it is known
    fresh: Any  # where it is not
    h: Any  # the step that the error allows; 0: not chosen yet
    at: Any  # intervals done, those recorded
    done: Any  # time in this interval
    landed: Any  # whether its end is reached, and not recorded
    settled: Any  # time of the last reorthonormalisation in it
    rate: Any  # of growth or decay then
    longest: Any  # until the next one, after a burst
    steps: Any  # in this interval
    total: Any  # folded triangular factors of this interval
    frame: Any  # directions (*batch, k, n, d) of the last reorthonormalisation
    kept: Any  # state and total then
    good: Any
    rows: Any
    fine: Any


def marches(solver):
    """Tell whether ``march_tangent`` takes the steps of a solver: an explicit one with an error estimate, by name."""
    return isinstance(solver, str) and solver in ("dopri5", "dopri8", "bosh3", "heun", "tsit5")


@eqx.filter_jit
def _same_at_all_times(field, t, x):
    return jax.vmap(lambda s: field(s, x), out_axes=None)(t + jnp.arange(2, dtype=x.dtype))


def separate(field, t, x):
    """Tell whether the members of an ensemble may take steps of their own: what the field computes does not know the time."""
    try:
        eqx.filter_eval_shape(_same_at_all_times, field, t, x)
    except ValueError:  # the result would depend on what is mapped
        return False
    return True


def _tableau(solver, dtype):
    t = make_solver(solver, 0.0, 1.0).tableau
    a = np.zeros((len(t.b_sol),) * 2)
    for i, row in enumerate(t.a_lower):
        a[i + 1, : len(row)] = row
    fsal = bool(t.b_sol[-1] == 0 and np.array_equal(t.b_sol, a[-1]))
    return *(jnp.asarray(w, dtype) for w in (a, np.array([0.0, *t.c]), t.b_sol, t.b_error)), fsal


def _select(mask, new, old):
    """Choose a member at a time: ``mask`` has the leading axes of every leaf."""

    def choose(a, b):
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree_util.tree_map(choose, new, old)


def _settle(p, due, lands, growth, s: _State) -> _State:
    """Make frames orthonormal where it is due; where they have grown or shrunk too much meanwhile, go back."""
    since = s.done - s.settled
    y, frame, factor = p.coordinates.settle(s.y)
    logs = growth(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)))
    burst = due & (logs > BURST) & (since > jnp.finfo(since.dtype).eps ** 0.5)
    fine = due & ~burst
    new = y, p.rule.fold(s.total, factor), jnp.moveaxis(frame, 0, frame.ndim - 3)
    y, total, frame = _select(fine, new, (s.y, s.total, s.frame))
    y, total = _select(burst, s.kept, (y, total))
    return s._replace(
        y=y, total=total, frame=frame, kept=_select(fine, (y, total), s.kept), fresh=due, landed=lands & fine,
        done=jnp.where(burst, s.settled, s.done), settled=jnp.where(fine, s.done, s.settled),
        longest=jnp.where(burst, since / 2, jnp.where(lands, jnp.inf, 2 * s.longest)),
        h=jnp.where(burst, jnp.minimum(s.h, since / 2), s.h),
    )  # fmt: skip


@eqx.filter_jit
def _march_tangent(p: Tangent, segment: Segment, t0, interval, carry, count, size):
    index, x, u, h = carry
    dtype, shape, ensemble = x.dtype, h.shape, x.ndim - 2
    a, c, b, b_error, fsal = _tableau(segment.solver, dtype)
    order = make_solver(segment.solver, 0.0, 1.0).order(None)
    eps = float(jnp.finfo(dtype).eps)
    floor, axes = error_floor(eps, segment.rtol, segment.atol), p.coordinates.axes

    def worst(w):  # what all members share suits the worst of them
        return w if shape else jnp.max(w)

    def growth(logs):
        return worst(jnp.max(jnp.abs(logs), -1))

    def along(y, slopes, weights, step):
        moved = (jnp.tensordot(weights, k, 1) for k in slopes)
        return tuple(q + step.reshape(step.shape + (1,) * (q.ndim - step.ndim)) * m for q, m in zip(y, moved, strict=True))

    def first_step(y, slope):
        size = [_rms(q, ensemble) / jnp.maximum(_rms(k, ensemble), 1e-30) for q, k in zip(y, slope, strict=True)]
        return jnp.clip(0.01 * -worst(-jnp.min(jnp.stack(size), 0)), 1e-6 * interval, interval)

    def record(s, velocity):
        row = s.total, *p.rule.row(p.looks, s.y[0], jnp.moveaxis(s.frame, ensemble, 0), velocity)
        place = jnp.where(s.landed, s.at, size)  # beyond the end: nowhere
        if shape:
            place = (place, *jnp.indices(shape))
        rows = tuple(r.at[place].set(new, mode="drop") for r, new in zip(s.rows, row, strict=True))
        return rows, s.fine.at[place].set(True, mode="drop")

    def begin_interval(s):
        total = _select(s.landed, p.begin(s.y[-1]), s.total)
        zero = {key: jnp.where(s.landed, 0, getattr(s, key)) for key in ("done", "settled", "steps")}
        kept = _select(s.landed, (s.y, total), s.kept)
        return s._replace(at=s.at + s.landed, landed=s.landed & False, total=total, kept=kept, **zero)

    def body(s):
        after = begin_interval(s)
        now = t0 + (index + after.at) * interval + after.done
        active = s.good & (after.at < count) & (s.h > 0)
        left = interval - after.done
        h = jnp.minimum(s.h, after.longest - (after.done - after.settled))
        lands = left - h < SLIVER * h
        step = jnp.where(active, jnp.where(lands, left, h), 0)

        def stage(i, state):
            slopes, _ = state
            z = along(s.y, slopes, a[i], step)
            f = p.coordinates.slope(p.field, now + c[i] * step, z)
            return tuple(k.at[i].set(part) for k, part in zip(slopes, f, strict=True)), z

        slopes = tuple(jnp.zeros((len(a), *k.shape), dtype).at[0].set(k) for k in s.slope)
        begin = jnp.where(jnp.any(s.fresh) | (not fsal), 0, 1)
        slopes, z = jax.lax.fori_loop(begin, jnp.where(jnp.any(active), len(a), 1), stage, (slopes, s.y))
        z = z if fsal else along(s.y, slopes, b, step)
        slope = tuple(k[0] for k in slopes)
        rows, fine = record(s, slope[0])  # the velocity is known only now
        s = after._replace(rows=rows, fine=fine, slope=slope, h=jnp.where(s.h > 0, s.h, first_step(s.y, slope)))

        error = along(tuple(jnp.zeros_like(q) for q in z), slopes, b_error, step)
        lengths = (z[-1] * z[-1]).sum(axes, keepdims=True)
        parts = errors(jnp, error, s.y, z, lengths, segment.rtol or None, segment.atol, axes, ensemble)
        off = worst(jnp.max(jnp.stack(parts), 0))
        off = jnp.where(off >= 0, jnp.maximum(off, floor), jnp.inf)  # nan: again, shorter
        taken = active & (off <= 1)
        grow = jnp.clip(SAFETY * off ** (-1.0 / order), SHRINK, GROW)
        grow = jnp.where(taken, jnp.where(off < 1, jnp.maximum(grow, 1), grow), jnp.minimum(grow, 1))
        longer = jnp.where(taken & (step < s.h), jnp.maximum(s.h, step * grow), step * grow)
        stuck = ~taken & (step <= TINY * eps * jnp.maximum(jnp.abs(now), interval))
        steps = s.steps + active
        tangent = s.y[-1]
        rate = growth((tangent * slope[-1]).sum(axes) / (tangent * tangent).sum(axes))
        rate = jnp.where(s.fresh, rate, s.rate)
        lands, done = taken & lands, s.done + jnp.where(taken, step, 0)
        due = lands | (growth(0.5 * jnp.log(lengths.squeeze(axes))) > SPREAD) | ((done - s.settled) * rate > SPREAD)
        due = taken & (due | (done - s.settled >= s.longest))
        y, slope = _select(taken, (z, tuple(k[-1] for k in slopes)), (s.y, slope))
        s = s._replace(
            y=y, slope=slope, fresh=due, h=jnp.where(active, longer, s.h), done=jnp.where(lands, interval, done), rate=rate,
            steps=steps, good=s.good & ~(active & (stuck | (steps > segment.max_steps))),
        )  # fmt: skip
        return jax.lax.cond(jnp.any(due), lambda s: _settle(p, due, lands, growth, s), lambda s: s, s)

    def going(s):
        return jnp.any(s.good & (s.at < count))

    y, zero = p.coordinates.enter(x, u), jnp.zeros(shape, dtype)
    total, frame, no = p.begin(y[-1]), jnp.moveaxis(u, 0, ensemble), jnp.zeros(shape, bool)
    row = eqx.filter_eval_shape(lambda: (total, *p.rule.row(p.looks, x, u, x)))
    start = _State(
        y=y, slope=tuple(jnp.zeros_like(q) for q in y), fresh=~no, h=h, at=jnp.zeros(shape, int), done=zero, landed=no,
        settled=zero, rate=zero, longest=zero + jnp.inf, steps=jnp.zeros(shape, int), total=total, frame=frame,
        kept=(y, total), good=~no & jnp.isfinite(x).all(), rows=tuple(jnp.zeros((size, *r.shape), r.dtype) for r in row),
        fine=jnp.zeros((size, *shape), bool),
    )  # fmt: skip
    s = jax.lax.while_loop(going, body, start)
    carry = index + count, s.y[0], jnp.moveaxis(s.frame, ensemble, 0), s.h
    return carry, (s.rows[0], s.fine, *s.rows[1:])


def _rms(q, batch):
    return jnp.sqrt((q * q).mean(tuple(range(batch, q.ndim))))


@precisely
def march_tangent(p, segment, t0, interval, carry, count, size):
    """March ``carry = (index, x, u, h)`` through ``count <= size`` intervals in adaptive steps; return it, and the rows.

    The rows of all intervals: folded triangular factors, whether the interval was reached, and what ``p.rule`` makes.
    The step is carried over the ends of intervals, on which it lands, and over reorthonormalisations, which come between
    steps. The field is traced once, in a loop over the stages of a step. ``h`` is a step a member, or one for all.
    """
    carry, rows = _march_tangent(p, segment, t0, interval, carry, jnp.asarray(count), size)
    return carry, tuple(r[:count] for r in rows)
