"""Lyapunov spectra of flows and layers on manifolds, by reorthonormalisation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, dtype_name, rounding
from ctsa._backend._solve import progress_bar, show_progress
from ctsa._types import Directions, States
from ctsa.errorbars import error_bars
from ctsa.flows.solver import Solver, takes_solver
from ctsa.geometry import Geometry
from ctsa.results.base import as_numpy
from ctsa.results.checkpoints import Checkpoint
from ctsa.results.identity import Identity
from ctsa.symmetry.rotations import rotation_modes

from .march import March
from .spectrum import RECORD, LyapunovError, LyapunovSpectrum

Array = Any
_KEPT = ("x", "frame", "step", "history", *RECORD)  # of a run under way, as of a spectrum that is to be continued


@analysis
@takes_solver
def lyapunov_spectrum(
    system: Any,
    x0: States,
    *,
    intervals: int = 200,
    interval: float = 1.0,
    transient: int = 50,
    count: int | None = None,
    frame: Directions | None = None,
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

    State and frame follow the variational equation ``x' = F(x), U' = DF(x) U``, with an error norm that sees every
    direction relative to its length. They land on every multiple of ``interval``, and the frame is reorthonormalised there
    (and between, where directions have grown or shrunk by much) with fixed signs: the logarithms of the diagonal of R,
    divided by ``interval``, are the local exponents. On the sphere only the n (d - 1) tangent directions exist: no radial
    exponents.

    Args:
        system: a field ``(t, x)``, a layer ``(x)``, or a sequence of layers (used one after the other, once).
        x0: unit tokens ``(..., n, d)``; leading axes make an ensemble, whose members have step
            sizes of their own (one for all, if the field depends on time or tells members apart).
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
        checkpoint: path of a file in which the run is kept (``ctsa.results.Checkpoint``), about every half second. If it
            exists and belongs to the same run, the run continues from it, to the same bits as if it had not been
            interrupted; a file of another run is refused. Runs are told apart by the values of all that the system is
            made of, at any depth: parameters, attributes, closures, code.
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
        system, x0, Solver(solver, rtol, atol, step, max_steps), interval=interval, count=count, frame=frame, seed=seed,
        t0=t0, geometry=geometry, normalize=normalize,
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


class _Run:
    def __init__(self, march, intervals, transient, stop_stderr, checkpoint, allow_unverified):
        self.march, self.intervals, self.transient, self.stop_stderr = march, intervals, transient, stop_stderr
        self.allow_unverified = allow_unverified
        self.identity = Identity(
            system=march.system.source, start=march.carry,
            settings=(march.be.name, march.settings, transient, march.system.geometry),
        )  # fmt: skip
        self.kept = Checkpoint(checkpoint, "lyapunov_spectrum", self.identity, allow_unverified=allow_unverified)
        x = march.carry[1]
        batch, looks = tuple(x.shape[:-2]), march.looks.shape[1]
        self.history = np.zeros((0, *batch, march.carry[2].shape[0]))
        self.states, self.velocities, self.speeds = (np.zeros((0, *batch, *w)) for w in ((looks,), (looks,), ()))
        self.reach = np.stack([march.longest()] * 2)
        self.driven, self.overflow = march.driven(transient + intervals), False
        state = self.kept.load(*_KEPT)
        if state is not None:
            self._place(state.values["index"], state.arrays)

    def _place(self, index: int, kept: Mapping[str, Any]) -> None:
        be, (_, x0, u0, h0) = self.march.be, self.march.carry
        name = dtype_name(x0)
        x, u, h = be.asarray(kept["x"], name, x0), be.asarray(kept["frame"], name, u0), np.asarray(kept["step"])
        h = h if h0.ndim else h.reshape(-1)[0]
        self.march.carry = (be.like(float(index), x0), x, u, be.like(h, x0))
        for name in ("history", *RECORD):
            setattr(self, name, np.asarray(kept[name]))

    def _arrays(self) -> dict[str, Any]:
        _, x, u, h = self.march.carry
        record = {name: getattr(self, name) for name in ("history", *RECORD)}
        return dict(record, x=as_numpy(x), frame=as_numpy(u), step=as_numpy(h))

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
        self._place(spectrum.start + len(spectrum.history), {name: getattr(spectrum, name) for name in _KEPT})
        self.driven = self.driven or spectrum.driven
        self.intervals += len(spectrum.history)

    def go(self, progress: bool | None) -> None:
        left = self.transient + self.intervals - self.march.index
        total = float(self.transient + self.intervals)
        bar = progress_bar(total, self.march.be.name) if show_progress(progress) else None
        try:
            with self.kept:
                for size in self.march.blocks(left):
                    self._block(size)
                    self.kept.offer(self._arrays(), {"index": self.march.index})
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
        good = ok.reshape(size, -1).all(1) & finite & grown
        first = int(np.argmin(good)) if not good.all() else size
        skip = max(0, min(self.transient - begin, first))
        self.history = np.concatenate([self.history, rates[skip:first]])
        for name, rows in zip(RECORD, (states, velocities, speeds), strict=False):
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
        _, x, u, h = m.carry
        self.driven = self.driven or m.driven(m.index)  # a drive may not act where the run begins
        atol = m.segment.atol if m.segment is not None and m.segment.steps is None else 0.0
        return LyapunovSpectrum(
            history=self.history, x=as_numpy(x), frame=as_numpy(u), interval=m.interval, start=self.transient,
            speed=self.speeds[-1], rotations=rotation_modes(m.system.source, as_numpy(x)), dimension=m.dimension,
            continuous=m.system.flow, identity=str(self.identity), states=self.states,
            velocities=self.velocities, speeds=self.speeds, reach=self.reach, driven=self.driven, bounded=self.bounded,
            eps=rounding(x), atol=atol,
            overflow=self.overflow, step=np.broadcast_to(as_numpy(h).astype(np.float64), self.history.shape[1:-1]).copy(),
        )  # fmt: skip
