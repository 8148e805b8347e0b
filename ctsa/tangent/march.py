"""March state and tangent frame in equal intervals, reorthonormalising: what spectra and covariant vectors stand on."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, dtype_name, rounding
from ctsa.derivatives import layer_pushforward, pushforward, variational
from ctsa.events import depends_on_time
from ctsa.flows.opening import check_solver, check_velocity
from ctsa.flows.solver import Solver
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry, direction_generator
from ctsa.layers.check import check_foreign
from ctsa.motion import projection
from ctsa.results.base import as_numpy

Array = Any
_BURST = 3.0  # a piece with that many times more is done again
_PIECE = 1.0  # most growth or decay, in powers of e, between two reorthonormalisations inside an interval
_BLOCK = 64  # most intervals between two looks of the host; buffers of compiled loops have this length


def flatten_frame(u: Array) -> Array:
    """Turn directions ``(k, ..., n, d)`` into columns ``(..., n d, k)``."""
    flat = u.reshape(*u.shape[:-2], u.shape[-2] * u.shape[-1])
    return backend(u).xp.moveaxis(flat, 0, -1)


def unflatten_frame(q: Array, shape: tuple[int, ...]) -> Array:
    """Turn columns ``(..., n d, k)`` back into directions of ``shape`` ``(k, ..., n, d)``."""
    return backend(q).xp.moveaxis(q, -1, 0).reshape(shape)


def qr_positive(a: Array) -> tuple[Array, Array]:
    """Factor ``a = q r`` with orthonormal columns and a positive diagonal, which makes the factors unique."""
    xp = backend(a).xp
    q, r = xp.linalg.qr(a)
    diagonal = xp.linalg.diagonal(r)
    s = xp.where(diagonal < 0, -xp.ones_like(diagonal), xp.ones_like(diagonal))
    return q * s[..., None, :], r * s[..., :, None]


def _reorthonormalise(g, x, u):
    """Return retracted state, orthonormal tangent frame, and the triangular factor ``(..., k, k)``."""
    x = g.retract(x)
    u = g.project(x, u)
    q, r = qr_positive(flatten_frame(u))
    return x, unflatten_frame(q, u.shape), r


def _log_diagonal(r: Array) -> Array:
    xp = backend(r).xp
    return xp.log(xp.linalg.diagonal(r))


def _compound(total: Array, r: Array) -> Array:
    return r @ total


def _add_logs(total: Array, r: Array) -> Array:
    return total + _log_diagonal(r)


def _push_flow(field, g, segment, interval, t, x, u, total, fold):
    """Advance by ``interval`` in pieces over which no direction shrinks or grows by much more than ``exp(_PIECE)``.

    Directions that shrink far below ``atol`` would escape the error control, and directions whose growth differs by more
    than 1e16 cannot be told apart; reorthonormalising in between changes no exponent.
    """
    be = backend(x)
    xp = be.xp
    rhs = be.partial(variational, field, g)

    def going(carry):
        done, _, _, _, _, _, ok = carry
        return ok & (done < interval)

    def piece(carry):
        done, split, taken, x, u, total, ok = carry
        _, du = pushforward(field, t + done, x, u)
        rate = xp.amax(xp.abs((u * du).sum((-2, -1))))  # of growth or decay; turning needs no reorthonormalisation
        left = interval - done
        count = split * xp.ceil(left * rate / _PIECE)
        count = xp.where(count >= split, count, split)
        # Each piece takes a step at least. A hundred times too many will not do, whatever the rate becomes: no need to try.
        hopeful = count <= 100 * segment.max_steps
        (y, v), solved, steps = be.flow_map(rhs, (x, u), t + done, left / count, segment)
        y, v, r = _reorthonormalise(g, y, v)
        # The rate at the start does not see a burst ahead: a piece with more growth than that is done again, in halves.
        again = solved & (split < 2**20) & ~(xp.amax(xp.abs(_log_diagonal(r))) < _BURST * _PIECE) & xp.isfinite(v).all()
        ok = ok & solved & xp.isfinite(rate)
        taken = taken + (steps if segment.steps is None else 1)  # all pieces of an interval share its steps
        ok = ok & hopeful & (taken <= segment.max_steps)
        end = xp.where(count == 1, interval, done + left / count)

        def keep(old, new):
            return xp.where(again, old, new)

        split = keep(2 * split, 0 * split + 1)
        return keep(done, end), split, taken, keep(x, y), keep(u, v), keep(total, fold(total, r)), ok

    start = (0 * interval, 0 * interval + 1, 0 * interval, x, u, total, xp.isfinite(x).all())
    _, _, _, x, u, total, ok = be.repeat_while(going, piece, start)
    return x, u, total, ok


def _push_layer(layers, g, interval, x, u, total, fold):
    """Also return by how much the last layer moved the state."""
    be = backend(x)
    before = x
    for i in range(interval):
        before = x
        x, u = layer_pushforward(layers[i % len(layers)], x, u)
    ok = be.xp.amax(be.xp.abs(g.radius(x) - 1)) < 1e3 * rounding(x)
    x, u, r = _reorthonormalise(g, x, u)
    return x, u, fold(total, r), ok, x - before


def _advance(source, static, interval, t0, carry, total, fold):
    """Advance by one interval; return carry, total, whether it went well, and a layer's last step (None for a flow)."""
    index, x, u = carry
    kind, g, segment = static
    if kind == "flow":
        x, u, total, ok = _push_flow(source, g, segment, interval, t0 + index * interval, x, u, total, fold)
        return (index + 1, x, u), total, ok, None
    layers = source if kind == "layers" else (source,)
    x, u, total, ok, step = _push_layer(layers, g, int(interval), x, u, total, fold)
    return (index + 1, x, u), total, ok, step


def _longest(y: Array) -> Array:
    """Return the length of the longest token, ``(..., n, d)`` to ``(...)``, without overflow in between."""
    xp = backend(y).xp
    largest = xp.amax(xp.abs(y), (-2, -1))
    scale = xp.where(largest > 0, largest, xp.ones_like(largest))
    return scale * xp.amax(((y / scale[..., None, None]) ** 2).sum(-1), -1) ** 0.5


def _flat(y: Array) -> Array:
    return y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1])


def _full(source, static, interval, t0, carry):
    """Advance ``(index, x, u)`` by one interval, keeping the triangular factor, state and frame."""
    _, _, u = carry
    be, k = backend(u), u.shape[0]
    one = be.eye(k, u) + be.xp.zeros_like(flatten_frame(u)[..., :1, :])
    carry, total, ok, _ = _advance(source, static, interval, t0, carry, one, _compound)
    return carry, (total, ok, carry[1], carry[2])


def _thin(looks, source, static, interval, t0, carry):
    """Advance ``(index, x, u)`` by one interval; keep the logarithms of the growth factors, and what verdicts need.

    That is: coordinates of state and velocity along the columns of ``looks``, the largest velocity of a token (for a
    layer: of the last layer's step), and the longest token. A flow pays one evaluation of the field for it.
    """
    zero = backend(carry[2]).xp.zeros_like(flatten_frame(carry[2])[..., 0, :])
    carry, total, ok, v = _advance(source, static, interval, t0, carry, zero, _add_logs)
    index, x, _ = carry
    v = source(t0 + index * interval, x) if v is None else v
    return carry, (total, ok, _flat(x) @ looks, _flat(v) @ looks, _longest(v), _longest(x))


class March:
    """A run in equal segments: state, orthonormal frame, and how to advance them."""

    def __init__(
        self, system: Any, x0: Any, solver: Solver, *, interval: Any, count: Any = None, frame: Any = None,
        seed: int = 0, t0: float = 0.0, geometry: Geometry | None = None, normalize: bool = False,
    ):  # fmt: skip
        s = system_of(system, geometry)
        x = s.start(x0, normalize)
        be = backend(x)
        if s.flow:
            self.interval: float = checks.number("interval", interval, low=0.0, strict=True)
        else:
            self.interval = float(checks.integer("interval", _whole(interval), low=1))
        if not s.flow and solver.step is not None:
            raise ValueError("step is for flows with a fixed-step solver; a layer is its own step")
        self.system, self.be = s, be
        self.segment = check_solver(solver, x).segment(self.interval) if s.flow else None
        self.t0 = checks.number("t0", t0)
        for layer in () if s.flow else s.source if s.kind == "layers" else (s.source,):
            check_foreign(layer, x, s.geometry)
        if s.flow:
            x = check_velocity(be, system, s.geometry, be.like(self.t0, x), x)
        self.dimension = s.geometry.dimension(*x.shape[-2:])
        if not self.dimension:
            raise ValueError(f"d={x.shape[-1]}: tokens of the sphere of dimension 0 cannot move; d must be at least 2")
        u = self._frame(x, count, frame, seed)
        self.carry = (be.like(0.0, x), x, u)
        self.looks = be.like(projection(x.shape[-2] * x.shape[-1]), x)

    def _frame(self, x: Array, count: Any, frame: Any, seed: int) -> Array:
        be, g, dim = self.be, self.system.geometry, self.dimension
        if frame is None:
            k = dim if count is None else checks.integer("count", count, low=1)
            if k > dim:
                raise ValueError(f"count={k} is more than the dimension of the manifold, {dim}")
            u = be.like(direction_generator(seed).normal(size=(k, *x.shape)), x)
            return unflatten_frame(qr_positive(flatten_frame(g.project(x, u)))[0], u.shape)
        u = be.asarray(checks.plain("frame", as_numpy(frame)), dtype_name(x), x, "frame")
        if tuple(u.shape[1:]) != tuple(x.shape) or u.shape[0] == 0:
            raise ValueError(
                f"frame must have shape (k, ..., n, d) = (k, {str(tuple(x.shape))[1:]}, got {tuple(u.shape)}"
            )
        if count is not None and count != u.shape[0]:
            raise ValueError(f"count={count} contradicts frame, which has {u.shape[0]} directions: leave one out")
        if u.shape[0] > dim:
            raise ValueError(f"frame has {u.shape[0]} directions, more than the dimension of the manifold, {dim}")
        values, off = as_numpy(u), as_numpy(g.project(x, u) - u)
        if not np.isfinite(values).all():
            raise ValueError("frame must be finite, got nan or inf")
        worst = float(np.abs(off).max())
        if worst > 1e4 * rounding(x) * max(1.0, float(np.abs(values).max())):
            raise ValueError(f"frame is not tangent at x0 (off by up to {worst:.3g}): pass geometry.project(x0, frame)")
        q, r = qr_positive(flatten_frame(u))
        diagonal = np.abs(as_numpy(self.be.xp.linalg.diagonal(r)))
        if not (diagonal > 1e-10 * np.abs(values).max()).all():
            raise ValueError("frame is rank deficient: its directions are not linearly independent")
        return unflatten_frame(q, u.shape)

    @property
    def index(self) -> int:
        """Segments done."""
        return round(float(as_numpy(self.carry[0])))

    def advance(self, count: int, thin: bool = True) -> tuple[np.ndarray, ...]:
        """Do ``count`` segments; return for each log growth factors, whether it went well, and what ``_thin`` records.

        With ``thin=False``: triangular factor, whether it went well, state, and frame.

        Raises:
            ValueError: a sequence of layers is used up.
        """
        be = self.be
        rule = be.partial(_thin, self.looks) if thin else _full
        if self.system.kind != "layers":
            step = be.partial(rule, self.system.source, self._static, self._interval, self._t0)
            self.carry, outs = be.march(step, self.carry, count, _BLOCK)
            return tuple(as_numpy(o) for o in outs)
        stack, rows = self.system.source, []
        width = int(self.interval)
        for _ in range(count):
            first = self.index * width
            piece = stack[first : first + width]
            if len(piece) < width:
                raise ValueError(
                    f"the sequence of {len(stack)} layers ends after {self.index} intervals of {width}: "
                    "ask for fewer intervals and transient, or repeat the sequence"
                )
            step = be.partial(rule, piece, self._static, self._interval, self._t0)
            self.carry, outs = be.call(step, self.carry)
            rows.append(tuple(as_numpy(o) for o in outs))
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    @property
    def settings(self) -> tuple:
        """What the run's numbers depend on, beside system and start (``max_steps`` only ends it)."""
        s = self.segment
        return (self.interval,) if s is None else (s.solver, s.rtol, s.atol, s.steps, self.t0, self.interval)

    @property
    def _static(self) -> tuple:
        return self.system.kind, self.system.geometry, self.segment

    @property
    def _interval(self) -> Any:
        return self.be.like(self.interval, self.carry[1]) if self.system.flow else self.interval

    @property
    def _t0(self) -> Any:
        return self.be.like(self.t0, self.carry[1])

    def longest(self) -> np.ndarray:
        """Return the length of the longest token at the present state, a number a member of the ensemble."""
        return as_numpy(_longest(self.carry[1])).astype(float)

    def driven(self, intervals: int) -> bool:
        """Tell whether the law changes with time: a field that depends on t, or layers that differ.

        The field is compared at the present state at times of the first ``intervals``, which no period fits all.
        """
        s, (_, x, _) = self.system, self.carry
        if not s.flow:
            return s.kind == "layers" and any(layer is not s.source[0] for layer in s.source)
        return depends_on_time(s.source, x, self.t0, s.geometry, reach=intervals * self.interval)

    def blocks(self, total: int) -> Iterator[int]:
        """Split ``total`` segments into blocks of about half a second each."""
        size = 1
        while total > 0:
            size = min(size, total)
            began = time.perf_counter()
            yield size
            total -= size
            took = time.perf_counter() - began
            size = int(np.clip(size * np.clip(0.5 / max(took, 1e-6), 0.5, 4.0), 1, _BLOCK))


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
