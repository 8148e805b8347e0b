"""Lyapunov spectra of flows and layers on manifolds, with error bars."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa._backend._solve import progress_bar, show_progress
from ctsa.errorbars import ONE_SIGMA, ErrorBar, error_bars, standard_error
from ctsa.flows.solver import takes_solver
from ctsa.geometry import Geometry
from ctsa.motion import Record, Verdict, judge
from ctsa.results.base import Result, archive, as_numpy
from ctsa.results.files import load
from ctsa.results.identity import Identity
from ctsa.symmetry.rotations import rotation_modes

from .march import March

Array = Any


_RECORD = ("states", "velocities", "speeds", "reach")


class LyapunovError(RuntimeError):
    """A run that could not go on; ``spectrum`` holds the history so far (None if there is none)."""

    def __init__(self, message: str, spectrum: "LyapunovSpectrum | None"):
        super().__init__(message)
        self.spectrum = spectrum


@dataclass(frozen=True)
class LyapunovSpectrum(Result):
    """Lyapunov exponents with their history; everything else follows from it.

    Attributes:
        history: local exponents ``(intervals, ..., k)`` in the order of the frame: the growth rate of every direction in
            every interval, per unit time for a flow, per layer for a layer. float64.
        x: final state ``(..., n, d)``.
        frame: final orthonormal frame ``(k, ..., n, d)``.
        interval: duration of an interval (layers: how many).
        start: intervals before the history began (transient included).
        speed: ``(...)``: largest token velocity at the end, or for a layer the largest change of a token in the last one.
        rotations: ``(...)``: neutral exponents that the rotational symmetry of system and final state accounts for.
        dimension: dimension of the manifold, the number of exponents there are.
        continuous: whether time is continuous.
        identity: which run it comes from: hashes of its system, its start and its settings, see ``resume=``.
        states: coordinates ``(intervals, ..., m)`` of the state at interval ends, the record that the verdict reads: all
            of them if ``n d <= 8``, otherwise along 8 fixed random directions.
        velocities: the same of the velocity; for a layer of the last layer's step.
        speeds: ``(intervals, ...)``: ``speed`` at interval ends.
        reach: ``(2, ...)``: length of the longest token at the very start, and the largest since.
        driven: whether the law changes with time: a field that depends on t, or layers that differ.
        bounded: whether the manifold is compact.
        eps: rounding of the type that was computed in.
        atol: absolute tolerance of the solver; 0 without step size control.
        overflow: whether the run ended because the state overflowed.
    """

    history: Any
    x: Any
    frame: Any
    interval: float
    start: int
    speed: Any
    rotations: Any
    dimension: int
    continuous: bool
    identity: str = ""
    states: Any = None
    velocities: Any = None
    speeds: Any = None
    reach: Any = None
    driven: bool = False
    bounded: bool = False
    eps: float = 2.220446049250313e-16
    atol: float = 0.0
    overflow: bool = False
    _static: ClassVar[tuple[str, ...]] = (
        "interval", "start", "dimension", "continuous", "identity", "driven", "bounded", "eps", "atol", "overflow",
    )  # fmt: skip
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "history": ("interval_index", "exponent"),
        "states": ("interval_index", "coordinate"),
        "velocities": ("interval_index", "coordinate"),
        "speeds": ("interval_index",),
        "reach": ("start_or_largest",),
        "frame": ("exponent", "token", "component"),
        "x": ("...", "token", "component"),
        **dict.fromkeys(("speed", "rotations"), ("...",)),
    }

    def __repr__(self) -> str:
        if self.exponents.ndim > 1:
            return self._ensemble()
        shown = ", ".join(f"{v:.4g}+-{s:.1g}" for v, s in zip(self.exponents[:6], self.stderr[:6], strict=True))
        more = ", ..." if len(self.exponents) > 6 else ""
        return f"LyapunovSpectrum([{shown}{more}], {self.verdict})"

    def _ensemble(self) -> str:
        """Describe the members of an ensemble together: mean and spread of the leading exponents."""
        every = self.exponents.reshape(-1, self.exponents.shape[-1])
        lead = zip(self.mean[:6], self.spread[:6], strict=True)
        shown = ", ".join(f"{mean:.4g} (spread {spread:.1g})" for mean, spread in lead)
        more = ", ..." if every.shape[1] > 6 else ""
        return f"LyapunovSpectrum(ensemble {self.exponents.shape[:-1]}, mean [{shown}{more}], see .member(i))"

    @property
    def _order(self) -> np.ndarray:
        return np.argsort(-self.history.mean(0), axis=-1, kind="stable")

    @property
    def exponents(self) -> np.ndarray:
        """The exponents ``(..., k)``, descending: means of the local ones."""
        return np.take_along_axis(self.history.mean(0), self._order, -1)

    @property
    def mean(self) -> np.ndarray:
        """Means of the exponents over the members of an ensemble ``(k,)``; of a single run its exponents."""
        return self.exponents.reshape(-1, self.exponents.shape[-1]).mean(0)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviations of the exponents over the members of an ensemble ``(k,)``; 0 for a single run.

        Members that end on different attractors, or have not run for long, have different exponents; ``stderr`` is about
        each run by itself.
        """
        every = self.exponents.reshape(-1, self.exponents.shape[-1])
        return every.std(0, ddof=min(1, len(every) - 1))

    @cached_property
    def _bars(self) -> ErrorBar:
        return ErrorBar(*(np.take_along_axis(a, self._order, -1) for a in error_bars(self.history)))

    def _half_width(self, level: float) -> np.ndarray:
        return self._bars.half_width(level)

    @property
    def stderr(self) -> np.ndarray:
        """Half-widths ``(..., k)`` of the 68 % intervals, see ``ctsa.errorbars.error_bar``; nan below 8 intervals."""
        return self._half_width(ONE_SIGMA)

    def confidence_interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper ends ``(..., k)`` of the intervals that hold the exponents with probability ``level``.

        Student's t about the means, with the degrees of freedom of each error bar: wider than normal intervals, the more
        so the shorter the run. Measured coverage: ``docs/lyapunov.md``.

        Raises:
            ValueError: ``level`` does not lie between 0 and 1.
        """
        level = checks.number("level", level, low=0.0, strict=True)
        if level >= 1:
            raise ValueError(f"level must be a probability between 0 and 1, such as 0.95, got {level:g}")
        width = self._half_width(level)
        return self.exponents - width, self.exponents + width

    @property
    def few(self) -> np.ndarray:
        """Whether the run is shorter than 20 correlation times ``(..., k)``: its error bars are then rough guesses."""
        return self._bars.few

    @property
    def correlation_time(self) -> np.ndarray:
        """How many intervals ``(..., k)`` count as one independent sample; below 1 where fluctuations cancel."""
        return self._bars.correlation_time

    @property
    def running(self) -> np.ndarray:
        """Running means ``(intervals, ..., k)`` of the local exponents, in the order of ``exponents``."""
        counts = np.arange(1, len(self.history) + 1).reshape(-1, *[1] * (self.history.ndim - 1))
        return np.take_along_axis(np.cumsum(self.history, 0) / counts, self._order[None], -1)

    @property
    def duration(self) -> float:
        """Time (or layers) over which was averaged."""
        return len(self.history) * self.interval

    def member(self, *index: int) -> "LyapunovSpectrum":
        """Return one member of an ensemble (leading batch axes) as a spectrum of its own."""
        if len(index) != self.history.ndim - 2:
            raise ValueError(f"index must have {self.history.ndim - 2} entries, one a batch axis, got {len(index)}")
        rows = (slice(None), *index)
        record: dict[str, Any] = {name: None if self.states is None else getattr(self, name)[rows] for name in _RECORD}
        return replace(
            self, history=self.history[rows], x=self.x[index], frame=self.frame[rows],
            speed=np.asarray(self.speed)[index], rotations=np.asarray(self.rotations)[index], identity="",
            **record,
        )  # fmt: skip

    def _one(self) -> None:
        if self.history.ndim != 2:
            batch = tuple(self.history.shape[1:-1])
            raise ValueError(
                f"the spectrum is that of an ensemble {batch}; verdict and dimension belong to one member: "
                f"take it from spectrum.member({', '.join('ijklmn'[: len(batch)])})"
            )

    def _linear(self, weights: np.ndarray) -> float:
        """Return the standard error of a linear combination of the sorted exponents."""
        return standard_error(np.take_along_axis(self.history, self._order[None], -1) @ weights)

    @property
    def kaplan_yorke(self) -> float:
        """Kaplan--Yorke dimension ``j + (l_1 + ... + l_j) / |l_{j+1}|``; nan if the exponents at hand do not settle it.

        Exponents within ``resolution`` of zero count as zero, so that a torus gets its dimension whatever the sign of
        the noise. 0 if all exponents are negative.
        """
        return self._kaplan_yorke()[0]

    @property
    def kaplan_yorke_stderr(self) -> float:
        """Standard error of the Kaplan--Yorke dimension, to first order in the exponents' fluctuations."""
        return self._kaplan_yorke()[1]

    def _kaplan_yorke(self) -> tuple[float, float]:
        self._one()
        e = np.where(
            np.abs(self.exponents) <= np.where(np.isfinite(self.stderr), self.resolution, 0), 0, self.exponents
        )
        if e[0] < 0:
            return 0.0, 0.0
        sums = np.cumsum(e)
        below = np.flatnonzero(sums < 0)
        if len(below) == 0:
            return (float(len(e)), 0.0) if len(e) == self.dimension else (float("nan"), float("nan"))
        j = int(below[0])
        weights = np.zeros(len(e))
        weights[:j] = 1 / abs(e[j])
        weights[j] = sums[j - 1] / e[j] ** 2
        return j + float(sums[j - 1] / abs(e[j])), self._linear(weights)

    @property
    def entropy(self) -> float:
        """Sum of the positive exponents, the Kolmogorov--Sinai entropy by Pesin's formula (an upper bound in general)."""
        self._one()
        e = self.exponents
        return float(e[e > 0].sum())

    @property
    def entropy_stderr(self) -> float:
        """Standard error of ``entropy``."""
        self._one()
        return self._linear((self.exponents > 0).astype(float))

    @property
    def resolution(self) -> np.ndarray:
        """How far from zero each exponent may be and still count as zero: ``3 stderr + 5 / duration``.

        The growth of a neutral direction stays bounded, so that its mean vanishes like 1 / duration.
        """
        s = self.stderr
        return 3 * np.where(np.isfinite(s), s, np.inf) + 5 / self.duration

    @property
    def neutral_expected(self) -> int:
        """How many zero exponents theory asks for: the direction of a flow that moves, and rotational symmetry.

        A field that depends on time has no zero exponent along its flow, and a flow that settles contracts along it.
        """
        self._one()
        settling = self.verdict.name == "settling" and self.verdict.period is None
        along = int(self.continuous and not self.driven and not settling and float(self.speed) > self._motion.rest)
        # A rotating rigid state moves along its own symmetry: one direction serves both.
        return max(int(self.rotations), along) if int(self.rotations) else along

    @property
    def neutral_found(self) -> int:
        """How many exponents are zero within ``resolution``."""
        self._one()
        return int((np.abs(self.exponents) <= self.resolution).sum())

    @property
    def _motion(self) -> Record:
        """The record that verdicts read; without one (files of older versions) a single row stands in for it."""
        x = np.zeros((1, 1)) if self.states is None else self.states
        v = np.zeros((1, 1)) if self.velocities is None else self.velocities
        speeds = np.reshape(self.speed, (1,)) if self.speeds is None else self.speeds
        first, size = (1.0, 1.0) if self.reach is None else (float(a) for a in self.reach)
        return Record(
            x, v, speeds, self.history, self.interval, self.continuous, first, size, self.bounded, self.driven,
            self.eps, self.atol, self.overflow,
        )  # fmt: skip

    @cached_property
    def verdict(self) -> Verdict:
        """What the motion is, and the evidence; also the pair (name, evidence).

        The names are "equilibrium", "settling", "periodic", "quasi-periodic", "chaotic", "drifting", "expanding", and
        "undecided" with how much longer to run. See ``ctsa.motion`` and the page "What a verdict means".
        """
        self._one()
        if self.states is None:
            return Verdict("undecided", f"the run has no record of its states (an older file); {self._motion.top}")
        return judge(self._motion)

    def plot(self, ax=None, **kwargs):
        """Draw the exponents with error bars and the neutral ones marked, or those of an ensemble; return the ``Axes``."""
        from ctsa.plot import spectra

        return spectra.spectrum(self, ax=ax, **kwargs)


@analysis
@takes_solver
def lyapunov_spectrum(
    system: Any,
    x0: Any,
    *,
    intervals: int = 200,
    interval: float = 1.0,
    transient: int = 50,
    count: int | None = None,
    frame: Any = None,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-8,
    step: float | None = None,
    max_steps: int = 100_000,
    seed: int = 0,
    t0: float = 0.0,
    geometry: Geometry | None = None,
    normalize: bool = False,
    stop_stderr: float | None = None,
    resume: LyapunovSpectrum | None = None,
    checkpoint: Any = None,
    allow_unverified: bool = False,
    progress: bool | None = None,
) -> LyapunovSpectrum:
    """Compute Lyapunov exponents of a flow, a layer, or a sequence of layers, by reorthonormalisation.

    State and frame follow the variational equation ``x' = F(x), U' = DF(x) U`` with the error norm
    ``max(rms(x), rms(U))``, land on every multiple of ``interval``, and the frame is reorthonormalised there with fixed
    signs: the logarithms of the diagonal of R, divided by ``interval``, are the local exponents. On the sphere only the
    n (d - 1) tangent directions exist: no radial exponents.

    Args:
        system: a field ``(t, x)``, a layer ``(x)``, or a sequence of layers (used one after the other, once).
        x0: unit tokens ``(..., n, d)``; leading axes make an ensemble (one shared step size).
        intervals: how many intervals to average over.
        interval: time between reorthonormalisations; for layers their number. Exponents do not depend on it, as long as
            growth over an interval stays far below 1e16.
        transient: intervals left out at the start; state and frame evolve in them.
        count: how many exponents, the largest ones, at proportional cost; None for all n (d - 1).
        frame: initial directions ``(k, ..., n, d)``, tangent at ``x0``; None draws a random orthonormal frame.
        solver: as for ``integrate``; ignored for layers.
        rtol: relative tolerance.
        atol: absolute tolerance.
        step: step of a fixed-step solver.
        max_steps: most steps in one interval.
        seed: of the random frame.
        t0: time at the start.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.
        stop_stderr: stop as soon as every ``stderr`` is below this (after at least 32 intervals).
        resume: a spectrum to continue: its final state and frame go on and its history is extended by ``intervals``, as if
            the run had never stopped. System, ``x0`` (the original start) and settings must be those of its run, or it is
            refused; ``max_steps`` may change.
        checkpoint: path of a file in which the run is kept, about every half second. If it exists and belongs to the
            same run, the run continues from it, to the same bits as if it had not been interrupted; a file of another
            run is refused. Runs are told apart by the values of all that the system is made of, at any depth:
            parameters, attributes, closures, code.
        allow_unverified: continue also where the system, or the file, does not show which run it belongs to.
        progress: draw a bar with the leading exponents; None draws it in a terminal.

    Returns:
        ``LyapunovSpectrum`` with ``exponents``, ``stderr``, ``history``, ``kaplan_yorke``, ``verdict``, ...

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.
        LyapunovError: nan, overflow, a solver that gives up, or a layer that leaves the sphere; carries the history so
            far.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> x0 = np.ones((3, 1)) * [[1.0, 0.0]]  # consensus: exponents 0, -1, -1
        >>> spec = ctsa.lyapunov_spectrum(SelfAttention(), x0, intervals=10, transient=30)
        >>> [round(float(v), 6) + 0.0 for v in spec.exponents]
        [0.0, -1.0, -1.0]

    References:
        Benettin et al., Meccanica 15 (1980) 9; Shimada and Nagashima, Prog. Theor. Phys. 61 (1979) 1605; Geist,
        Parlitz, Lauterborn, Prog. Theor. Phys. 83 (1990) 875.
    """
    intervals = checks.integer("intervals", intervals, low=1)
    transient = checks.integer("transient", transient, low=0)
    if stop_stderr is not None:
        stop_stderr = checks.number("stop_stderr", stop_stderr, low=0.0, strict=True)
    march = March(
        system, x0, interval=interval, count=count, frame=frame, solver=solver, rtol=rtol, atol=atol, step=step,
        max_steps=max_steps, seed=seed, t0=t0, geometry=geometry, normalize=normalize,
    )  # fmt: skip
    checks.room(
        f"the history of {transient + intervals} intervals", float(transient + intervals) * march.carry[2].shape[0],
        remedy="take fewer, and resume=",
    )  # fmt: skip
    run = _Run(march, intervals, transient, stop_stderr, checkpoint, bool(allow_unverified))
    if resume is not None:
        run.continue_from(resume)
    run.go(progress)
    return run.result()


@dataclass(frozen=True)
class _Checkpoint(Result):
    history: Any
    x: Any
    frame: Any
    states: Any
    velocities: Any
    speeds: Any
    reach: Any
    index: int
    identity: str


class _Run:
    def __init__(self, march, intervals, transient, stop_stderr, checkpoint, allow_unverified):
        self.march, self.intervals, self.transient, self.stop_stderr = march, intervals, transient, stop_stderr
        self.path = None if checkpoint is None else archive(checkpoint, "checkpoint")
        self.allow_unverified = allow_unverified
        self.identity = Identity(
            system=march.system.source, start=march.carry,
            settings=(march.be.name, march.settings, transient, march.system.geometry),
        )  # fmt: skip
        x = march.carry[1]
        batch, looks = tuple(x.shape[:-2]), march.looks.shape[1]
        self.history = np.zeros((0, *batch, march.carry[2].shape[0]))
        self.states, self.velocities, self.speeds = (np.zeros((0, *batch, *w)) for w in ((looks,), (looks,), ()))
        self.reach = np.stack([march.longest()] * 2)
        self.driven, self.overflow = march.driven(transient + intervals), False
        if self.path is not None:
            self.identity.verified(f"checkpoint {self.path}", allow_unverified)
            if self.path.exists():
                self._read()

    def _place(self, index: int, kept: Any) -> None:
        be, (_, x0, u0) = self.march.be, self.march.carry
        name = str(x0.dtype).rpartition(".")[2]
        self.march.carry = (be.like(float(index), x0), be.asarray(kept.x, name, x0), be.asarray(kept.frame, name, u0))
        self.history = np.asarray(kept.history)
        for name in _RECORD:
            setattr(self, name, np.asarray(getattr(kept, name)))

    def _read(self) -> None:
        assert self.path is not None
        kept = load(self.path)
        if not isinstance(kept, _Checkpoint):
            raise ValueError(f"checkpoint {self.path} holds a {type(kept).__name__}: choose another path")
        self.identity.require(f"checkpoint {self.path}", kept.identity, self.allow_unverified)
        self._place(kept.index, kept)

    def _write(self) -> None:
        if self.path is not None:
            _, x, u = self.march.carry
            _Checkpoint(
                history=self.history, x=as_numpy(x), frame=as_numpy(u), states=self.states, velocities=self.velocities,
                speeds=self.speeds, reach=self.reach, index=self.march.index, identity=str(self.identity),
            ).save(self.path)  # fmt: skip

    def continue_from(self, spectrum: LyapunovSpectrum) -> None:
        if not isinstance(spectrum, LyapunovSpectrum):
            raise TypeError(f"resume must be a LyapunovSpectrum, got {type(spectrum).__name__}")
        shape = tuple(self.march.carry[2].shape)
        if spectrum.interval != self.march.interval or tuple(spectrum.frame.shape) != shape:
            raise ValueError("resume must be a LyapunovSpectrum of the same interval, count, n and d")
        self.identity.require("resume", spectrum.identity, self.allow_unverified)
        self.transient = spectrum.start
        if spectrum.states is None:
            raise ValueError("resume has no record of its motion (an older file, or made by hand): begin anew")
        self._place(spectrum.start + len(spectrum.history), spectrum)
        self.driven = self.driven or spectrum.driven
        self.intervals += len(spectrum.history)

    def go(self, progress: bool | None) -> None:
        left = self.transient + self.intervals - self.march.index
        total = float(self.transient + self.intervals)
        bar = progress_bar(total, self.march.be.name) if show_progress(progress) else None
        try:
            for size in self.march.blocks(left):
                self._block(size)
                self._write()
                if bar is not None:
                    bar.update(self.march.index - bar.n)
                    if len(self.history):
                        top = self.history.mean(0).reshape(-1, self.history.shape[-1]).max(0)[:3]
                        bar.set_postfix_str(" exponents " + ", ".join(f"{v:.3g}" for v in top))
                if self.stop_stderr is not None and len(self.history) >= 32:
                    if (error_bars(self.history).half_width() < self.stop_stderr).all():
                        break
        finally:
            if bar is not None:
                bar.close()

    def _block(self, size: int) -> None:
        begin = self.march.index
        keep = self.march.carry
        logs, ok, states, velocities, speeds, longest = self.march.advance(size)
        rates = logs.astype(np.float64) / self.march.interval
        with np.errstate(invalid="ignore"):
            finite = np.isfinite(longest + speeds).reshape(size, -1).all(1)
            grown = ~(np.isnan(rates) | np.isposinf(rates)).reshape(size, -1).any(1)  # -inf: a direction that is lost
        good = ok & finite & grown
        first = int(np.argmin(good)) if not good.all() else size
        skip = max(0, min(self.transient - begin, first))
        self.history = np.concatenate([self.history, rates[skip:first]])
        for name, rows in zip(_RECORD, (states, velocities, speeds), strict=False):
            new = rows[skip:first].astype(np.float64)
            setattr(self, name, np.concatenate([getattr(self, name), new]))
        if first:
            largest = np.maximum(self.reach[1], longest[:first].astype(np.float64).max(0))
            self.reach = np.stack([self.reach[0], largest])
        if first < size:
            self.march.carry = keep
            if first:
                self.march.advance(first)  # back to the last sound state
            self._break(begin + first, bool(finite[first]))

    def _break(self, where: int, finite: bool) -> None:
        m, largest = self.march, float(self.reach[1].max())
        # Blow-up is seen before it: a state that has grown much and then is not finite has overflowed.
        self.overflow = not finite and not self.bounded and largest > 1e4 * max(1.0, float(self.reach[0].max()))
        kept = self.result() if len(self.history) else None
        at = f"t={m.t0 + where * m.interval:g}" if m.system.flow else f"interval {where}"
        if self.overflow:
            why = f"the state overflowed: its tokens had grown to {largest:.3g}, so the motion is unbounded"
        elif m.system.flow:
            why = (
                "the solver could not finish the interval (too many steps, or nan): raise max_steps, loosen atol, "
                "shorten interval"
            )
        elif not m.system.geometry.flat:
            home = m.system.geometry
            what = "unit tokens" if home.unit else "a state on it"
            why = f"the layer produced nan or left {home.place}: a layer must return {what}"
        else:
            why = f"the layer produced nan or inf, or its derivative did (tokens had length {largest:.3g})"
        raise LyapunovError(f"the run broke off at {at}: {why}. The error's .spectrum holds the history so far", kept)

    @property
    def bounded(self) -> bool:
        return self.march.system.geometry.closed

    def result(self) -> LyapunovSpectrum:
        m = self.march
        _, x, u = m.carry
        self.driven = self.driven or m.driven(m.index)  # a drive may not act where the run begins
        adaptive = m.system.flow and m.segment.steps is None
        return LyapunovSpectrum(
            history=self.history, x=as_numpy(x), frame=as_numpy(u), interval=m.interval, start=self.transient,
            speed=self.speeds[-1], rotations=rotation_modes(m.system.source, as_numpy(x)), dimension=m.dimension,
            continuous=m.system.flow, identity=str(self.identity), states=self.states,
            velocities=self.velocities, speeds=self.speeds, reach=self.reach, driven=self.driven, bounded=self.bounded,
            eps=float(m.be.xp.finfo(x.dtype).eps), atol=float(m.segment.atol) if adaptive else 0.0,
            overflow=self.overflow,
        )  # fmt: skip
