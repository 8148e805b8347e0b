"""Intervals, one after the other, operation by operation: NumPy for small states, PyTorch for large ones.

The steps of ``_jax_march.march_tangent``, with one step for all members of an ensemble.
"""

from typing import Any

import numpy as np
import torch

from ._compiling import asked
from ._march import BURST, SPREAD, TINY, Segment, Tangent, looked
from ._solve import GROW, SAFETY, SHRINK, SLIVER, error_floor
from ._torch_compile import compiled, marching, slope_of_march
from ._torch_tableaus import ORDERS, Tableau, tableau


class _Stages:
    """The slopes of a step in one buffer ``(stages, numbers)``, which a state is a view of."""

    def __init__(self, xp: Any, method: Tableau, slope: Any, y: tuple):
        self.xp, self.method, self.slope = xp, method, slope
        self.shapes = [tuple(q.shape) for q in y]
        self.ends = np.cumsum([0] + [int(np.prod(shape)) for shape in self.shapes]).tolist()
        kept = (len(method.c), self.ends[-1])
        like = y[0]
        self.slopes = np.zeros(kept, like.dtype) if xp is np else like.new_zeros(kept)
        table = np.stack([*method.a, method.step, method.error])
        self.table = table.astype(like.dtype) if xp is np else xp.as_tensor(table, dtype=like.dtype, device=like.device)

    def flat(self, y: tuple) -> Any:
        parts = [q.reshape(-1) for q in y]
        return np.concatenate(parts) if self.xp is np else self.xp.cat(parts)

    def parts(self, y: Any) -> tuple:
        bounds = zip(self.shapes, self.ends, self.ends[1:], strict=False)
        return tuple(y[a:b].reshape(shape) for shape, a, b in bounds)

    def evaluate(self, i: int, t: float, y: Any) -> None:
        f = [q.reshape(-1) for q in self.slope(t, self.parts(y))]
        if self.xp is np:
            np.concatenate(f, out=self.slopes[i])
        else:
            self.xp.cat(f, out=self.slopes[i])

    def step(self, t: float, y: Any, h: float) -> tuple[Any, Any]:
        """Return the state after a step, and the estimate of its error."""
        rows, k, s = self.table * h, self.slopes, len(self.method.c)
        z = y
        for i in range(1, s):
            z = y + rows[i, :i] @ k[:i]
            self.evaluate(i, t + h * self.method.c[i], z)
        return z if self.method.fsal else y + rows[s] @ k, rows[s + 1] @ k

    def follow(self, t: float, y: Any) -> None:
        """Have the slope at the end of a step that was taken."""
        if self.method.fsal:
            self.slopes[0] = self.slopes[-1]
        else:
            self.evaluate(0, t, y)


class _Walk:
    """One interval after the other: where a run stands, and the step that the error allows."""

    def __init__(self, p: Tangent, segment: Segment, y: tuple, interval: float, h: float):
        self.p, self.segment, self.interval, self.h = p, segment, interval, h
        x = y[0]
        self.xp: Any = np if isinstance(x, np.ndarray) else torch
        self.ensemble, self.order = x.ndim - 2, ORDERS[segment.solver]
        self.eps = float(self.xp.finfo(x.dtype).eps)
        self.floor = error_floor(self.eps, segment.rtol, segment.atol)
        compiles = self.xp is torch and asked() is not None
        self.slope = compiled(slope_of_march) if compiles else slope_of_march
        self.program = compiled(marching(segment.solver)) if compiles else None
        self.stages = _Stages(self.xp, tableau(segment.solver), self._slope, y)
        self.z = self.stages.flat(y)

    def _slope(self, t: float, y: tuple) -> tuple:
        x = y[0]
        now = t if self.xp is np else torch.as_tensor(t, dtype=x.dtype, device=x.device)
        return self.slope(self.p.coordinates, self.p.field, now, y)

    def begin(self, t: float) -> None:
        """Evaluate the slope where it is not known: at the start, and after a reorthonormalisation."""
        s = self.stages
        s.evaluate(0, t, self.z)
        y, slope = s.parts(self.z), s.parts(s.slopes[0])
        products = self.p.coordinates.products
        self.rate = _greatest(products(y[-1], slope[-1]) / products(y[-1], y[-1]))
        if not self.h > 0:
            ratio = [_rms(q) / max(_rms(k), 1e-30) for q, k in zip(y, slope, strict=True)]
            self.h = min(max(0.01 * min(ratio), 1e-6 * self.interval), self.interval)

    def advance(self, origin: float) -> tuple | None:
        """Go from ``origin`` to the end of an interval; return state, frame, folded factors; None where it breaks off."""
        p, s, xp = self.p, self.stages, self.xp
        done, settled, longest, steps = 0.0, 0.0, float("inf"), 0
        total = p.begin(s.parts(self.z)[-1])
        kept = self.z, total
        while steps < self.segment.max_steps:
            left, step = self.interval - done, min(self.h, longest - (done - settled))
            lands = left - step < SLIVER * step
            step = left if lands else step
            steps += 1
            z, off, grown = self._try(origin + done, step)
            grow = min(max(SAFETY * off ** (-1.0 / self.order), SHRINK), GROW)
            if not off <= 1:
                if step <= TINY * self.eps * self.interval:
                    return None
                self.h = step * min(grow, 1.0)
                continue
            grow = max(grow, 1.0) if off < 1 else grow
            self.h = max(self.h, step * grow) if step < self.h else step * grow
            done, self.z = self.interval if lands else done + step, z
            since = done - settled
            if not (lands or grown > SPREAD or since * self.rate > SPREAD or since >= longest):
                s.follow(origin + done, z)
                continue
            x, frame, factor = p.coordinates.settle(s.parts(z))
            if _greatest(xp.log(xp.linalg.diagonal(factor))) > BURST and since > self.eps**0.5:
                (self.z, total), done = kept, settled
                longest, self.h = since / 2, min(self.h, since / 2)
                self.begin(origin + done)
                continue
            self.z, total = s.flat(p.coordinates.enter(x, frame)), p.rule.fold(total, factor)
            kept, settled, longest = (self.z, total), done, 2 * longest
            self.begin(origin + done)
            if lands:
                return x, frame, total
        return None

    def _try(self, t: float, h: float) -> tuple[Any, float, float]:
        """Return the state after a step, its error in units of the tolerance, and the growth of the tangent vectors."""
        s, coordinates, rtol, atol = self.stages, self.p.coordinates, self.segment.rtol, self.segment.atol
        if self.program is None:
            z, error = s.step(t, self.z, h)
            found = looked(
                self.xp, coordinates, s.parts(error), s.parts(self.z), s.parts(z), rtol or None, atol, self.ensemble
            )  # fmt: skip
        else:
            clock = torch.tensor((t, h, rtol, atol), dtype=self.z.dtype, device=self.z.device)
            z, s.slopes[-1], found = self.program(
                coordinates, self.p.field, s.shapes, self.ensemble, bool(rtol), clock, self.z, s.slopes[0]
            )
        *sizes, grown = (float(v) for v in found)
        fine = all(e >= 0 for e in sizes)  # nan: again, shorter
        return z, max(*sizes, self.floor) if fine else float("inf"), grown


def _greatest(logs: Any) -> float:
    return float(abs(logs).max())


def _rms(q: Any) -> float:
    return float((q * q).mean()) ** 0.5


@torch.no_grad()
def march_tangent(p: Tangent, segment: Segment, t0: Any, interval: Any, carry: tuple, count: int, size: int):
    """March ``carry = (index, x, u, h)`` through ``count`` intervals in adaptive steps; return it, and the rows.

    The rows of all intervals: folded triangular factors, whether the interval was reached, and what ``p.rule`` makes. An
    ensemble takes the steps that suit the worst member, or, where ``h`` has a step a member, is marched one by one.
    """
    index, x, u, h = carry
    with np.errstate(all="ignore"):
        if h.ndim == 0:
            return _march(p, segment, float(t0), float(interval), carry, count)
        ends, columns = [], []
        for i in np.ndindex(*h.shape):
            member = index, x[i], u[(slice(None), *i)], h[i]
            end, rows = _march(p, segment, float(t0), float(interval), member, count)
            ends.append(end)
            columns.append(rows)
    rows = [_members(column, 1, h.shape) for column in zip(*columns, strict=True)]
    _, xs, us, steps = zip(*ends, strict=True)
    return (index + count, _members(xs, 0, h.shape), _members(us, 1, h.shape), np.reshape(steps, h.shape)), rows


def _members(arrays: Any, axis: int, shape: Any) -> Any:
    xp: Any = np if isinstance(arrays[0], np.ndarray) else torch
    stacked = xp.stack(list(arrays), axis)
    return stacked.reshape(*stacked.shape[:axis], *shape, *stacked.shape[axis + 1 :])


def _march(p: Tangent, segment: Segment, t0: float, interval: float, carry: tuple, count: int) -> tuple:
    index, x, u, h = carry
    y, first = p.coordinates.enter(x, u), round(float(index))
    walk = _Walk(p, segment, y, interval, float(h))
    walk.begin(t0 + first * interval)
    rows: list[tuple] = []
    for at in range(first, first + count):
        end = walk.advance(t0 + at * interval)
        if end is None:
            break
        x, u, total = end
        velocity = walk.stages.parts(walk.stages.slopes[0])[0]
        rows.append((total, *p.rule.row(p.looks, x, u, velocity)))
    reached = len(rows)
    rows += [(p.begin(y[-1]), *p.rule.row(p.looks, x, u, x))] * (count - reached)  # not fine: looked at by nobody
    stack = np.stack if isinstance(x, np.ndarray) else torch.stack
    columns = [stack(column) for column in zip(*rows, strict=True)]
    return (index + count, x, u, np.asarray(walk.h)), (columns[0], np.arange(count) < reached, *columns[1:])
