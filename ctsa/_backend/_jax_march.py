"""Intervals, one after the other, in JAX: one compiled loop for any number of them."""

from typing import Any, NamedTuple

import diffrax as dx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._jax_compile import compiled
from ._jax_precision import precisely
from ._jax_solve import _solve, make_solver
from ._march import BURST, SPREAD, TINY, Segment, Tangent, errors
from ._solve import GROW, SAFETY, SHRINK, SLIVER, error_floor


def flow_map(rhs, y0, t0, interval, segment: Segment, adjoint=None):
    """Solve over ``[t0, t0 + interval]``; return end state, whether it was reached, and steps, rejected ones too.

    ``adjoint`` is one of diffrax, which has one for every mode of differentiation; None is for reverse mode.
    """
    dtype = y0[0].dtype
    ends = jnp.stack([t0, t0 + interval]).astype(dtype)
    share = None if segment.steps is None else jnp.arange(segment.steps + 1, dtype=dtype) / segment.steps
    grid = None if share is None else (t0 + interval * share).at[-1].set(ends[-1])
    floor = error_floor(float(jnp.finfo(dtype).eps), segment.rtol, segment.atol)
    solution, _, _ = _solve(
        rhs, y0, ends, grid, jnp.asarray(segment.rtol, dtype), jnp.asarray(segment.atol, dtype),
        jnp.asarray(floor, dtype), None, solver=make_solver(segment.solver, segment.rtol, segment.atol),
        max_steps=segment.max_steps, adjoint=adjoint or dx.RecursiveCheckpointAdjoint(), bar=False, throw=False,
    )  # fmt: skip
    reached = solution.result == dx.RESULTS.successful
    return tuple(y[-1] for y in solution.ys), reached, solution.stats["num_steps"]


@compiled
def _march(step, carry, count, size):
    shapes = eqx.filter_eval_shape(step, carry)[1]
    outs = tuple(jnp.zeros((size, *s.shape), s.dtype) for s in shapes)

    def body(i, state):
        carry, outs = state
        carry, out = step(carry)
        return carry, tuple(rows.at[i].set(row) for rows, row in zip(outs, out, strict=True))

    return jax.lax.fori_loop(0, count, body, (carry, outs))


@precisely
def march(step, carry, count, size, whole=False):
    """Call ``carry, out = step(carry)`` ``count <= size`` times; return the last carry and the outs, stacked.

    ``count`` is traced, so that runs of any length share one program: a resumed run takes the same bits.
    """
    carry, outs = _march(step, carry, jnp.asarray(count), size)
    return carry, tuple(np.asarray(rows)[:count] for rows in outs)  # in NumPy: JAX would compile every slice


# ------------------------------------------------------------------------------------------- adaptive, with tangent vectors
class _State(NamedTuple):
    """What the loop carries. Numbers that steer it are a member's own, ``(*batch,)``, or shared by all, ``()``."""

    y: Any  # the state, tangent vectors last; every part has the axes of the batch in front
    slope: Any  # its time derivative, where it is known
    fresh: Any  # where it is not: of y only the tokens are right, and the tangent vectors are those of ``frame``
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
    kept: Any  # tokens, frame and total then
    good: Any
    rows: Any
    fine: Any


def marches(solver):
    """Tell whether ``march_tangent`` takes the steps of a solver: an explicit one with an error estimate, by name."""
    return isinstance(solver, str) and solver in ("dopri5", "dopri8", "bosh3", "heun", "tsit5")


@compiled
def timeless(field, t, x):
    """Tell whether what a field computes does not know the time, for certain: False may only mean that it might."""
    try:
        jax.vmap(lambda s: field(s, x), out_axes=None)(t + jnp.arange(2, dtype=x.dtype))
    except Exception:  # a result that depends on what is mapped, or a field that cannot be mapped
        return False
    return True


separate = timeless  # the members of an ensemble may then take steps of their own


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


class _Layout(NamedTuple):
    """Shapes of the parts of a state but the last: they are one vector ``(*batch, numbers)``, beside the tangent vectors.

    The fewer arrays, the less to compile; but the tangent vectors are most of the state, and joining them costs a pass.
    """

    shapes: tuple
    ends: tuple

    def parts(self, y):
        v, vectors = y
        bounds = zip(self.shapes, (0, *self.ends), self.ends, strict=False)
        return *(v[..., a:b].reshape(*v.shape[:-1], *shape) for shape, a, b in bounds), vectors

    def flat(self, y):
        *small, vectors = y
        lead = small[0].ndim - len(self.shapes[0])
        return jnp.concatenate([q.reshape(*q.shape[:lead], -1) for q in small], -1), vectors

    def with_first(self, y, x):
        v, vectors = y
        return v.at[..., : self.ends[0]].set(x.reshape(*v.shape[:-1], -1)), vectors


def _layout(y, lead):
    shapes = tuple(q.shape[lead:] for q in y[:-1])
    return _Layout(shapes, tuple(np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()))


def _along(y, step, weights, slopes):
    """Return ``y + step * sum_i weights_i slopes_i`` of both arrays; ``y`` None: zero."""
    moved = []
    for i, k in enumerate(slopes):
        m = jnp.tensordot(weights, k, 1)
        m = step.reshape(step.shape + (1,) * (m.ndim - step.ndim)) * m
        moved.append(m if y is None else y[i] + m)
    return tuple(moved)


def _settle(p, layout, due, lands, growth, s: _State) -> _State:
    """Make frames orthonormal where it is due; where they have grown or shrunk too much meanwhile, go back."""
    since = s.done - s.settled
    x, frame, factor = p.coordinates.settle(layout.parts(s.y))
    logs = growth(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)))
    burst = due & (logs > BURST) & (since > jnp.finfo(since.dtype).eps ** 0.5)
    fine = due & ~burst
    begun = layout.parts(s.y)[0], s.frame, s.total
    x, frame, total = _select(fine, (x, jnp.moveaxis(frame, 0, frame.ndim - 3), p.rule.fold(s.total, factor)), begun)
    x, frame, total = _select(burst, s.kept, (x, frame, total))
    landed = lands & fine
    done = jnp.where(burst, s.settled, jnp.where(landed, 0, s.done))  # counted from the next interval's start
    kept = x, frame, _select(landed, p.begin(layout.parts(s.y)[-1]), total)
    return s._replace(
        y=layout.with_first(s.y, x), total=total, frame=frame, kept=_select(fine, kept, s.kept), fresh=due, landed=landed,
        done=done, settled=jnp.where(fine, done, s.settled), steps=jnp.where(landed, 0, s.steps),
        longest=jnp.where(burst, since / 2, jnp.where(lands, jnp.inf, 2 * s.longest)),
        h=jnp.where(burst, jnp.minimum(s.h, since / 2), s.h),
    )  # fmt: skip


@compiled
def _march_tangent(p: Tangent, segment: Segment, t0, interval, carry, count, size):
    index, x, u, h = carry
    dtype, shape, lead = x.dtype, h.shape, x.ndim - 2
    a, c, b, b_error, fsal = _tableau(segment.solver, dtype)
    order = make_solver(segment.solver, 0.0, 1.0).order(None)
    eps = float(jnp.finfo(dtype).eps)
    floor = error_floor(eps, segment.rtol, segment.atol)
    start = eqx.filter_eval_shape(p.coordinates.enter, x, u)
    layout = _layout(start, lead)

    def worst(w):  # what all members share suits the worst of them
        return w if shape else jnp.max(w)

    def growth(logs):
        return worst(jnp.max(jnp.abs(logs), -1))

    def first_step(y, slope):
        size = [_rms(q, lead) / jnp.maximum(_rms(k, lead), 1e-30) for q, k in zip(y, slope, strict=True)]
        return jnp.clip(0.01 * -worst(-jnp.min(jnp.stack(size), 0)), 1e-6 * interval, interval)

    def arrive(s):
        """Look at the slope where it is new; only now the velocity at the end of an interval is known, and recorded."""
        slope, y = layout.parts(s.slope), layout.parts(s.y)
        rate = growth(p.coordinates.products(y[-1], slope[-1]) / p.coordinates.products(y[-1], y[-1]))
        h = jnp.where(s.h > 0, s.h, first_step(y, slope))
        row = s.total, *p.rule.row(p.looks, y[0], jnp.moveaxis(s.frame, lead, 0), slope[0])
        place = jnp.where(s.landed, s.at, size)  # beyond the end: nowhere
        if shape:
            place = (place, *jnp.indices(shape))
        rows = tuple(r.at[place].set(new, mode="drop") for r, new in zip(s.rows, row, strict=True))
        fine, total = s.fine.at[place].set(True, mode="drop"), _select(s.landed, p.begin(y[-1]), s.total)
        return s._replace(
            rows=rows, fine=fine, total=total, at=s.at + s.landed, landed=s.landed & False, h=h,
            rate=jnp.where(s.fresh, rate, s.rate),
        )  # fmt: skip

    def enter(s):
        # Only here, so that a run that goes on and one that is taken up again come by the same bits.
        y = p.coordinates.enter(layout.parts(s.y)[0], jnp.moveaxis(s.frame, lead, 0))
        return s._replace(y=_select(s.fresh, layout.flat(y), s.y))

    def body(s):
        s = jax.lax.cond(jnp.any(s.fresh), enter, lambda s: s, s)
        at = s.at + s.landed
        now = t0 + (index + at) * interval + s.done
        active = s.good & (at < count) & (s.h > 0)
        left = interval - s.done
        h = jnp.minimum(s.h, s.longest - (s.done - s.settled))
        lands = left - h < SLIVER * h
        step = jnp.where(active, jnp.where(lands, left, h), 0)

        def stage(i, state):
            slopes, _ = state
            z = _along(s.y, step, a[i], slopes)
            f = p.coordinates.slope(p.field, now + c[i] * step, layout.parts(z))
            return tuple(k.at[i].set(new) for k, new in zip(slopes, layout.flat(f), strict=True)), z

        slopes = tuple(jnp.zeros((len(a), *k.shape), dtype).at[0].set(k) for k in s.slope)
        begin = jnp.where(jnp.any(s.fresh) | (not fsal), 0, 1)
        slopes, z = jax.lax.fori_loop(begin, jnp.where(jnp.any(active), len(a), 1), stage, (slopes, s.y))
        z = z if fsal else _along(s.y, step, b, slopes)
        first, last = (tuple(k[i] for k in slopes) for i in (0, -1))
        s = jax.lax.cond(jnp.any(s.fresh), arrive, lambda s: s, s._replace(slope=first))

        error = layout.parts(_along(None, step, b_error, slopes))
        new = layout.parts(z)
        lengths = p.coordinates.products(new[-1], new[-1])
        parts = errors(jnp, p.coordinates, error, layout.parts(s.y), new, lengths, segment.rtol or None, segment.atol, lead)
        off = worst(jnp.max(jnp.stack(parts), 0))
        off = jnp.where(off >= 0, jnp.maximum(off, floor), jnp.inf)  # nan: again, shorter
        taken = active & (off <= 1)
        grow = jnp.clip(SAFETY * off ** (-1.0 / order), SHRINK, GROW)
        grow = jnp.where(taken, jnp.where(off < 1, jnp.maximum(grow, 1), grow), jnp.minimum(grow, 1))
        longer = jnp.where(taken & (step < s.h), jnp.maximum(s.h, step * grow), step * grow)
        stuck = ~taken & (step <= TINY * eps * interval)
        steps = s.steps + active
        lands, done = taken & lands, s.done + jnp.where(taken, step, 0)
        since = done - s.settled
        due = lands | (growth(0.5 * jnp.log(lengths)) > SPREAD) | (since * s.rate > SPREAD) | (since >= s.longest)
        due = taken & due
        y, slope = _select(taken, (z, last), (s.y, first))
        s = s._replace(
            y=y, slope=slope, fresh=due, h=jnp.where(active, longer, s.h), done=jnp.where(lands, interval, done),
            steps=steps, good=s.good & ~(active & (stuck | (steps > segment.max_steps))),
        )  # fmt: skip
        return jax.lax.cond(jnp.any(due), lambda s: _settle(p, layout, due, lands, growth, s), lambda s: s, s)

    def going(s):
        return jnp.any(s.good & (s.at < count))

    zero, no = jnp.zeros(shape, dtype), jnp.zeros(shape, bool)
    y = layout.flat(tuple(jnp.zeros(q.shape, dtype) for q in start))
    y, total, frame = layout.with_first(y, x), p.begin(y[-1]), jnp.moveaxis(u, 0, lead)
    row = eqx.filter_eval_shape(lambda: (total, *p.rule.row(p.looks, x, u, x)))
    s = _State(
        y=y, slope=tuple(jnp.zeros_like(q) for q in y), fresh=~no, h=h, at=jnp.zeros(shape, int), done=zero, landed=no,
        settled=zero, rate=zero, longest=zero + jnp.inf, steps=jnp.zeros(shape, int), total=total, frame=frame,
        kept=(x, frame, total), good=~no & jnp.isfinite(x).all(),
        rows=tuple(jnp.zeros((size, *r.shape), r.dtype) for r in row), fine=jnp.zeros((size, *shape), bool),
    )  # fmt: skip
    s = jax.lax.while_loop(going, body, s)
    carry = index + count, layout.parts(s.y)[0], jnp.moveaxis(s.frame, lead, 0), s.h
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
    return carry, tuple(np.asarray(r)[:count] for r in rows)
