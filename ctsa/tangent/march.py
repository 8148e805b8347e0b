"""March state and tangent frame in equal intervals, reorthonormalising: what spectra and covariant vectors stand on."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, dtype_name, load, rounding
from ctsa._backend._march import Tangent
from ctsa.events import depends_on_time
from ctsa.fields.plain import plain
from ctsa.flows.opening import check_solver, check_velocity
from ctsa.flows.solver import Solver
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry, direction_generator
from ctsa.layers.check import check_foreign
from ctsa.motion import projection
from ctsa.results.base import as_numpy

from .coordinates import Carried, Directions, flatten_frame, qr_positive, unflatten_frame
from .pieces import FULL, THIN, advance, longest

Array = Any
_SMALL = 2**16  # numbers in the tangent vectors of a state up to which NumPy is faster than PyTorch
_BLOCK = 64  # most intervals between two looks of the host; buffers of compiled loops have this length


class March:
    """A run in equal segments: state, orthonormal frame, and how to advance them."""

    def __init__(
        self, system: Any, x0: Any, solver: Solver, *, interval: Any, count: Any = None, frame: Any = None,
        seed: int = 0, t0: float = 0.0, geometry: Geometry | None = None, normalize: bool = False,
    ):  # fmt: skip
        s = system_of(system, geometry)
        x = s.start(x0, normalize)
        s = s.settled(x)
        be = backend(x)
        if s.flow:
            self.interval: float = checks.number("interval", interval, low=0.0, strict=True)
        else:
            self.interval = float(number_of_layers(interval))
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
        check_moving(self.dimension, x)
        u = self._frame(x, count, frame, seed)
        self.looks = be.like(projection(x.shape[-2] * x.shape[-1]), x)
        self.adaptive = self.segment is not None and self.segment.steps is None and be.marches(self.segment.solver)
        # Steps of its own for every member, unless the field tells the members apart or knows the time.
        own = self.adaptive and x.ndim > 2 and be.separate(s.source, be.like(self.t0, x), x)
        self.carry = (be.like(0.0, x), x, u, be.like(np.zeros(x.shape[:-2] if own else ()), x))
        small = u.shape[0] * u.shape[-2] * u.shape[-1] <= _SMALL
        alone = self.adaptive or s.kind == "layer"
        self.plain = plain(s.source) if be.name == "torch" and small and alone else None
        self.source = s.source if s.kind == "layers" or x.ndim > 2 else be.by_rows(
            s.source, x, (be.like(self.t0, x),) if s.flow else (), lambda u: s.derivative(x, u, self.t0)
        )

    def _frame(self, x: Array, count: Any, frame: Any, seed: int) -> Array:
        be, g, dim = self.be, self.system.geometry, self.dimension
        if frame is None:
            k = how_many(count, dim)
            u = g.project(as_numpy(x), direction_generator(seed).normal(size=(k, *x.shape)).astype(dtype_name(x)))
            return be.like(unflatten_frame(qr_positive(flatten_frame(u))[0], u.shape), x)
        u = be.asarray(checks.plain("frame", as_numpy(frame)), dtype_name(x), x, "frame")
        fit_frame(u, x, count, dim)
        values = as_numpy(u)
        off = g.project(as_numpy(x), values) - values
        if not np.isfinite(values).all():
            raise ValueError("frame must be finite, got nan or inf")
        worst = float(np.abs(off).max())
        if worst > 1e4 * rounding(x) * max(1.0, float(np.abs(values).max())):
            raise ValueError(f"frame is not tangent at x0 (off by up to {worst:.3g}): pass geometry.project(x0, frame)")
        q, r = qr_positive(flatten_frame(values))
        diagonal = np.abs(np.linalg.diagonal(r))
        if not (diagonal > 1e-10 * np.abs(values).max()).all():
            raise ValueError("frame is rank deficient: its directions are not linearly independent")
        return be.like(unflatten_frame(q, u.shape), x)

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
        be, rule = self.be, THIN if thin else FULL
        if self.system.kind != "layers":
            carry, outs = self._many(rule, count) if self.plain is None else self._with_numpy(rule, count)
            self.carry = carry
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
            step = be.partial(advance, rule, self.looks, piece, self._static, self._interval, self._t0)
            self.carry, outs = be.call(step, self.carry)
            rows.append(tuple(as_numpy(o) for o in outs))
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    def _many(self, rule: Any, count: int) -> tuple:
        be = self.be
        if self.adaptive:
            p = Tangent(self._coordinates(self.source), self.source, self.looks, rule)
            return be.march_tangent(p, self.segment, self._t0, self._interval, self.carry, count, _BLOCK)
        step = be.partial(advance, rule, self.looks, self.source, self._static, self._interval, self._t0)
        return be.march(step, self.carry, count, _BLOCK, whole=self.system.kind == "layer")

    def _with_numpy(self, rule: Any, count: int) -> tuple:
        """The same on NumPy views of PyTorch's memory."""
        from ctsa._backend._eager_march import march_tangent

        be, numpy = self.be, load("numpy")
        looks, carry = as_numpy(self.looks), tuple(as_numpy(a) for a in self.carry)
        if self.adaptive:
            p = Tangent(self._coordinates(self.plain), self.plain, looks, rule)
            carry, outs = march_tangent(p, self.segment, self.t0, self.interval, carry, count, _BLOCK)
        else:
            step = numpy.partial(advance, rule, looks, self.plain, self._static, self.interval, self.t0)
            carry, outs = numpy.march(step, carry, count, _BLOCK)
        return tuple(be.like(a, old) for a, old in zip(carry, self.carry, strict=True)), outs

    def _coordinates(self, source: Any) -> Any:
        g, (_, x, u, _) = self.system.geometry, self.carry
        dense = getattr(source, "dense_pays", None)
        carried = g.carries and hasattr(source, "drift_compressed") and dense is not None and dense(x, u.shape[0])
        return Carried(g) if carried else Directions(g)

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
        return longest(as_numpy(self.carry[1])).astype(float)

    def driven(self, intervals: int) -> bool:
        """Tell whether the law changes with time: a field that depends on t, or layers that differ.

        The field is compared at the present state at times of the first ``intervals``, which no period fits all.
        """
        s, (_, x, _, _) = self.system, self.carry
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


def number_of_layers(interval: Any) -> int:
    """Return an interval of layers as an integer, which may come as a float without decimals."""
    whole = isinstance(interval, float) and interval.is_integer()
    return checks.integer("interval", int(interval) if whole else interval, low=1)


def check_moving(dimension: int, x: Array) -> None:
    """Raise ValueError if tokens cannot move."""
    if not dimension:
        raise ValueError(f"d={x.shape[-1]}: tokens of the sphere of dimension 0 cannot move; d must be at least 2")


def how_many(count: Any, dimension: int) -> int:
    """Return ``count`` directions, all if it is None."""
    k = dimension if count is None else checks.integer("count", count, low=1)
    if k > dimension:
        raise ValueError(f"count={k} is more than the dimension of the manifold, {dimension}")
    return k


def fit_frame(u: Array, x: Array, count: Any, dimension: int) -> None:
    """Raise ValueError unless a frame ``(k, ..., n, d)`` fits states ``x`` and ``count``."""
    if tuple(u.shape[1:]) != tuple(x.shape) or u.shape[0] == 0:
        raise ValueError(f"frame must have shape (k, ..., n, d) = (k, {str(tuple(x.shape))[1:]}, got {tuple(u.shape)}")
    if count is not None and count != u.shape[0]:
        raise ValueError(f"count={count} contradicts frame, which has {u.shape[0]} directions: leave one out")
    if u.shape[0] > dimension:
        raise ValueError(f"frame has {u.shape[0]} directions, more than the dimension of the manifold, {dimension}")
