"""Lyapunov exponents with their history, and everything that follows from it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa.errorbars import ONE_SIGMA, ErrorBar, error_bars, standard_error
from ctsa.motion import Record, Verdict, judge
from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines

Array = Any



RECORD = ("states", "velocities", "speeds", "reach")


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
        step: ``(...)``: the step with which the solver would go on, which ``resume=`` does; 0: to be chosen.
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
    step: Any = 0.0
    _static: ClassVar[tuple[str, ...]] = (
        "interval", "start", "dimension", "continuous", "identity", "driven", "bounded", "eps", "atol", "overflow",
    )  # fmt: skip
    _units: ClassVar[dict[str, str]] = {"history": "per unit of time, or layer"}
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "history": ("interval_index", "exponent"),
        "states": ("interval_index", "coordinate"),
        "velocities": ("interval_index", "coordinate"),
        "speeds": ("interval_index",),
        "reach": ("start_or_largest",),
        "frame": ("exponent", "token", "component"),
        "x": ("...", "token", "component"),
        **dict.fromkeys(("speed", "rotations", "step"), ("...",)),
    }
    _derived: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "exponents": ("exponents", ("...", "exponent")), "exponents_stderr": ("stderr", ("...", "exponent")),
        **{name: (name, ()) for name in ("verdict", "kaplan_yorke", "kaplan_yorke_stderr", "entropy", "entropy_stderr")},
    }  # fmt: skip

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
        record: dict[str, Any] = {name: None if self.states is None else getattr(self, name)[rows] for name in RECORD}
        return replace(
            self, history=self.history[rows], x=self.x[index], frame=self.frame[rows],
            speed=np.asarray(self.speed)[index], rotations=np.asarray(self.rotations)[index], identity="",
            step=np.broadcast_to(self.step, self.x.shape[:-2])[index],
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
        along = int(self.continuous and not self.driven and not settling and float(self.speed) > self.record.rest)
        # A rotating rigid state moves along its own symmetry: one direction serves both.
        return max(int(self.rotations), along) if int(self.rotations) else along

    @property
    def neutral_found(self) -> int:
        """How many exponents are zero within ``resolution``."""
        self._one()
        return int((np.abs(self.exponents) <= self.resolution).sum())

    @property
    def record(self) -> Record:
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
            return Verdict("undecided", f"the run has no record of its states (an older file); {self.record.top}")
        return judge(self.record)

    def table(self) -> str:
        """Return a line an exponent as text, with its error bar or, of an ensemble, its spread; then what they make."""
        unit = "units of time" if self.continuous else "layers"
        about: list[tuple[str, Any]] = [("averaged over", f"{self.duration:g} {unit}, {len(self.history)} intervals")]
        if self.exponents.ndim > 1:
            rows: Any = zip(range(1, 1 + len(self.mean)), self.mean, self.spread, strict=True)
            about += [("members", int(np.prod(self.exponents.shape[:-1])))]
            return f"{columns(('index', 'mean exponent', 'spread'), rows, most=20)}\n{lines(about)}"
        low, high = self.confidence_interval()
        rows = zip(range(1, 1 + len(low)), self.exponents, self.stderr, low, high, strict=True)
        about += [("motion", str(self.verdict.name)), ("Kaplan-Yorke dimension", self.kaplan_yorke)]
        about += [("sum of the positive ones", self.entropy)]
        about += [("neutral", f"{self.neutral_found} found, {self.neutral_expected} expected")]
        return f"{columns(('index', 'exponent', 'error', '95 % from', 'to'), rows, most=20)}\n{lines(about)}"

    def plot(self, ax=None, **kwargs):
        """Draw the exponents with error bars and the neutral ones marked, or those of an ensemble; return the ``Axes``."""
        return picture("spectra.spectrum")(self, ax=ax, **kwargs)
