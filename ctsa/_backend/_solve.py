"""What both solver libraries are given, and what they give back; the first step, computed once for both."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ._events import Crossing

Array = Any
State = tuple[Array, ...]

# Names of solvers that both frameworks have, and that one of them has beside.
FIXED_STEP = ("euler", "midpoint", "rk4")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "heun")


@dataclass(frozen=True)
class Solvers:
    """The solvers of a framework by name, and classes of solver and adjoint objects that it takes."""

    adaptive: tuple[str, ...]
    fixed: tuple[str, ...]
    objects: tuple[type, ...] = ()
    adjoints: tuple[type, ...] = ()
    hint: str = ""  # what to take in place of another framework's


SOLVERS_OF = {
    "torch": Solvers(
        (*ADAPTIVE, "adaptive_heun", "fehlberg2", "scipy_solver"),
        (*FIXED_STEP, "heun2", "heun3", "explicit_adams", "implicit_adams", "fixed_adams"), hint="'dopri5' or 'dopri8'",
    ),
    "jax": Solvers((*ADAPTIVE, "tsit5", "kvaerno5"), FIXED_STEP, hint="'dopri5', 'dopri8' or 'tsit5'"),
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """An initial value problem: ``y' = rhs(s, y)`` over the increasing times ``ts``, ``y`` a tuple of arrays.

    ``grid`` holds the times of all steps of a fixed-step method (None: adaptive). ``stop(s, y)`` ends the run after the
    first accepted step for which it is true, ``event`` after the first in which its value crosses zero, or is nan or inf.
    No step is longer than ``largest``. ``read(ys)`` is what is wanted of the outputs, where it can be had with them. With
    ``land`` a step ends on every output.
    """

    rhs: Callable[[Array, State], State]
    y0: State
    ts: np.ndarray
    solver: Any
    rtol: float
    atol: float
    grid: np.ndarray | None
    max_steps: int
    stop: Callable[[Array, State], Array] | None
    adjoint: Any
    progress: bool
    event: Crossing | None = None
    largest: float | None = None
    read: Callable[[Array], Any] | None = None
    land: bool = False


@dataclass
class Solved:
    """What came out: states at ``ts[:reached]``; where ``stop`` ended the run; why it failed, if it did.

    Where values are not known yet, a run that ``stop`` ended has all its outputs: the last ones repeat the end state,
    and ``ts`` holds their times. ``previous`` is time and state at which the last step began, for a run with an event;
    ``lost`` those at which its value was nan or inf; ``cut`` which of the outputs repeat the end state. ``read`` is what
    ``Problem.read`` makes of all outputs; None where it was not asked yet.
    """

    ys: State
    reached: int
    stopped: tuple[Array, State] | None
    failure: str | BaseException | None
    stats: dict[str, Any]
    ts: Array | None = None
    previous: Any = None
    lost: Any = None
    cut: Array | None = None
    read: Any = None


def first_step(be: Any, rhs: Callable, t0: Array, y0: State, rtol: Array, atol: Array, order: int) -> Array:
    """Choose the first step so that an Euler step's error is well inside the tolerance.

    Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, section II.4; the norm is the largest rms over
    the entries of the state, as in the error control. Both frameworks start with this step, hence take the same steps.
    """
    xp = be.xp
    scale = [atol + rtol * xp.abs(y) for y in y0]

    def norm(parts):
        rms = [(((a / s) ** 2).mean()) ** 0.5 for a, s in zip(parts, scale, strict=True)]
        return rms[0] if len(rms) == 1 else xp.amax(xp.stack(rms))

    f0 = rhs(t0, y0)
    d0, d1 = norm(y0), norm(f0)
    tiny = 0 * d0 + 1e-6
    h0 = xp.where((d0 < 1e-5) | (d1 < 1e-5), tiny, 0.01 * d0 / xp.where(d1 == 0, tiny, d1))
    f1 = rhs(t0 + h0, tuple(y + h0 * f for y, f in zip(y0, f0, strict=True)))
    d2 = norm(tuple(b - a for a, b in zip(f0, f1, strict=True))) / h0
    slope = xp.maximum(d1, d2)
    flat = slope <= 1e-15
    h1 = xp.where(flat, xp.maximum(tiny, 1e-3 * h0), (0.01 / xp.where(flat, tiny, slope)) ** (1.0 / order))
    return xp.minimum(100 * h0, h1)


# A step that would end closer than this share of itself before the last time, or an output time that may be landed on, is
# stretched to it: left alone, steps as long as the spacing of outputs stop an ulp short, and the solver starts again from a
# step of an ulp.
SLIVER = 1e-3


def stretch(t: float, end: float, output: float, last: float, good: float, careful: bool) -> float:
    """Return where a step from ``t`` ends that the error of the method lets go to ``end``.

    Args:
        t: where it begins.
        end: where it may end.
        output: the next output time; one inside the step is interpolated if the step is no longer than ``good``, and a step
            that would have to be shorter than the way to it lands on it.
        last: the last output time.
        good: how long the interpolant is expected to be within the tolerance.
        careful: whether that is not known before, or never so: then no step is stretched over an output.
    """
    if output < end:
        end = max(min(end, t + good), output)
    goal = output if careful and end <= output else last
    return goal if goal - end < SLIVER * (end - t) else end


# The controller of both libraries: the next step is SAFETY * error^(-1 / order) times as long, within these bounds.
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


def error_floor(eps: float, rtol: float, atol: float) -> float:
    """Return the scaled error below which an estimate is rounding noise.

    Steps cut short by landing on an output time have errors of a few ulps; the next step would be chosen from noise,
    and the two frameworks would part (measured: dopri8 end states 4e-12 apart instead of 1e-14).
    """
    return min(4096 * eps / (atol + rtol), 0.01)


def show_progress(progress: bool | None) -> bool:
    """Return whether to draw a bar: None draws it in a terminal."""
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress must be True, False or None, got {progress!r}")
    return sys.stderr.isatty() if progress is None else bool(progress)


class Notice:
    """A line on stderr that appears after one second and goes with ``end``: JAX compiles, and nothing else would show."""

    text, after = "JAX compiles what is new to it ...", 1.0
    waiting: ClassVar[set["Notice"]] = set()

    def __init__(self):
        self.shown = False
        self.timer = threading.Timer(self.after, self._show)
        self.timer.daemon = True
        self.waiting.add(self)
        self.timer.start()

    def _show(self) -> None:
        if self in self.waiting:
            self.shown = True
            print(f"\r{self.text}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away, or see to it that it never comes."""
        self.timer.cancel()
        self.waiting.discard(self)
        if self.shown:
            self.shown = False
            print(f"\r{' ' * len(self.text)}\r", end="", file=sys.stderr, flush=True)


def progress_bar(total: float, framework: str = ""):
    """Open a bar on stderr that appears after one second, for runs long enough to wonder about.

    With ``framework="jax"`` a ``Notice`` stands in its place until the first update.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        notice = Notice() if framework == "jax" else None

        def update(self, n=1):
            """Move on; the first time, instead of the notice."""
            self._end_notice()
            return super().update(n)

        def close(self):
            """Take everything away."""
            self._end_notice()
            return super().close()

        def _end_notice(self):
            if self.notice is not None:
                self.notice.end()
                self.notice = None

    form = "integrate {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    return Bar(total=total, bar_format=form, delay=1.0, leave=False, mininterval=0.2)
