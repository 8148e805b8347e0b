"""Some inputs side by side, and what they pass through: states, records, exponents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ctsa._backend import backend, rounding
from ctsa.flows.systems import System
from ctsa.geometry import direction_generator
from ctsa.layers.iteration import passed
from ctsa.layers.packing import Packing
from ctsa.motion import Record, Verdict, judge
from ctsa.results.base import as_numpy
from ctsa.tangent.lyapunov import lyapunov_spectrum
from ctsa.tangent.spectrum import LyapunovError

from .plan import Plan, counting, first_of, map_of, of_members

Array = Any
_QUIET = 1e-4  # relative: a state that comes back as close is on a cycle, or nearly


def norm(a: np.ndarray) -> np.ndarray:
    """Return the length over the last two axes."""
    return np.sqrt((a**2).sum((-2, -1)))


@dataclass(frozen=True)
class Passed:
    """Inputs ``(members, n, d)`` of a chunk, and the loops that they pass through.

    Attributes:
        system: the layer, with the inputs of these members.
        x: starts.
        plan: settings.
        first: number of the first member among all.
        noise: rounding of the layer, relative.
        given: mean and spread of the starts of all members, by part.
    """

    system: System
    x: Array
    plan: Plan
    first: int
    noise: float
    given: dict[str, tuple[float, float]]

    @property
    def members(self) -> int:
        """How many inputs."""
        return len(self.x)

    @property
    def packing(self) -> Packing | None:
        """How the parts of a state lie in one array; None where there is one part."""
        return getattr(first_of(self.system), "packing", None)

    @property
    def last_map(self) -> Any:
        """The layer of the last loop."""
        return map_of(self.system, self.plan.loops - 1)

    def like(self, values: np.ndarray) -> Array:
        """Return numbers as an array of the framework."""
        return backend(self.x).like(values, self.x)

    def maps(self, system: System | None = None, loops: int | None = None) -> Any:
        """Return what is applied: one layer, or the layers one after the other."""
        system, loops = system or self.system, loops or self.plan.loops
        if system.kind == "layers":
            return list(system.source[:loops])
        return system.source.layers(loops) if counting(system.source) else system.source

    def some(self, at: np.ndarray) -> "Passed":
        """Return some of the members."""
        if len(at) == self.members:
            return self
        x = backend(self.x).xp.stack([self.x[int(i)] for i in at])
        return replace(self, system=of_members(self.system, at), x=x)

    # ------------------------------------------------------------------------------------------------------------- the run
    @cached_property
    def raw(self) -> np.ndarray:
        """States ``(loops + 1, members, n, d)``, whatever they are."""
        xs = passed(self.maps(), self.x, self.plan.loops)
        return np.concatenate([as_numpy(self.x)[None], as_numpy(xs)]).astype(np.float64)

    @cached_property
    def sound(self) -> np.ndarray:
        """After how many loops every member is still far from overflow."""
        far = 1e30 if rounding(self.x) > 1e-10 else 1e100
        with np.errstate(invalid="ignore"):
            fine = (np.abs(self.raw) < far).reshape(len(self.raw), self.members, -1).all(-1)
        return np.where(fine.all(0), self.plan.loops, np.maximum(fine.argmin(0) - 1, 0))

    @cached_property
    def xs(self) -> np.ndarray:
        """States, nan where they are not finite."""
        return np.where(np.isfinite(self.raw), self.raw, np.nan)

    @cached_property
    def last(self) -> np.ndarray:
        """The last sound state of every member."""
        return self.raw[self.sound, np.arange(self.members)]

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """The parts of the state along the run, each ``(loops + 1, members, n_i, d_i)``."""
        return {"x": self.xs} if self.packing is None else self.packing.columns(self.xs)

    @cached_property
    def whole(self) -> np.ndarray:
        """Length of the state ``(loops + 1, members)``."""
        return norm(self.xs)

    @cached_property
    def step(self) -> np.ndarray:
        """Length of the steps ``(loops, members)``."""
        return norm(np.diff(self.xs, axis=0))

    @cached_property
    def relative(self) -> np.ndarray:
        """Length of the steps relative to that of the largest state so far."""
        with np.errstate(invalid="ignore"):
            largest = np.maximum.accumulate(np.fmax(self.whole[1:], self.whole[:-1])) + 1e-300
            return self.step / largest

    @cached_property
    def successive(self) -> tuple[np.ndarray, np.ndarray]:
        """Cosines between successive steps, and lengths of their differences, relative ``(loops, members)``."""
        cosines, turned = np.full_like(self.step, np.nan), np.full_like(self.step, np.nan)
        for k in range(1, len(self.step)):
            now, before = self.xs[k + 1] - self.xs[k], self.xs[k] - self.xs[k - 1]
            with np.errstate(invalid="ignore", divide="ignore"):
                cosines[k] = (now * before).sum((-2, -1)) / (self.step[k] * self.step[k - 1])
                turned[k] = norm(now - before) / (self.whole[k + 1] + 1e-300)
        return cosines, turned

    @cached_property
    def gaps(self) -> np.ndarray:
        """``|x_k - x_(k-p)|``, relative, ``(period, loops, members)``; nan where there is none."""
        loops = len(self.xs) - 1
        gaps = np.full((min(self.plan.period, loops), loops, self.members), np.nan)
        for p in range(1, 1 + len(gaps)):
            gaps[p - 1, p - 1 :] = norm(self.xs[p:] - self.xs[:-p]) / (self.whole[p:] + 1e-300)
        return gaps

    @property
    def frame(self) -> np.ndarray:
        """Directions at the starts, the same for all members but for the projection ``(k, members, n, d)``."""
        x = as_numpy(self.x).astype(float)
        draws = direction_generator(self.plan.seed).normal(size=(self.plan.exponents, 1, *x.shape[1:]))
        return np.asarray(self.system.geometry.project(x, draws + 0 * x))

    @cached_property
    def verdicts(self) -> list[Verdict | None]:
        """What the rule of ``ctsa.motion`` says of every member."""
        return [None if record is None else judge(record) for record in self.tangents[0]]

    def quiet(self, at: np.ndarray, loops: int) -> np.ndarray:
        """Run some members on to loop ``loops``, and tell whether they come back within the longest period then."""
        some, x = self.some(at), self.like(self.last[at])
        layer = some.last_map
        left = loops - self.plan.loops
        x = passed(layer, x, left, left)[0] if left > 0 else x
        end = as_numpy(x).astype(np.float64)
        on = as_numpy(passed(layer, x, self.plan.period)).astype(np.float64)
        return ~(norm(on - end).min(0) > _QUIET * norm(end))

    @cached_property
    def tangents(self) -> tuple[Sequence[Record | None], np.ndarray, np.ndarray]:
        """The record of every member (None of one that overflows at once), its exponents and their error bars."""
        k = self.plan.exponents
        records: list[Record | None] = [None] * self.members
        exponents, stderr = (np.full((self.members, k), np.nan) for _ in range(2))
        for loops in np.unique(self.sound[self.sound > 0]):
            at = np.flatnonzero(self.sound == loops)
            some = self.some(at)
            own = hasattr(first_of(some.system), "geometry")
            try:
                spectrum: Any = lyapunov_spectrum(
                    some.maps(loops=int(loops)), some.x, intervals=int(loops), transient=0,
                    progress=False, geometry=None if own else self.system.geometry, frame=some.frame,
                )  # fmt: skip
            except LyapunovError as error:
                spectrum = error.spectrum
            for j, i in enumerate(at if spectrum is not None else ()):
                one = spectrum.member(j)
                broke = one.overflow or loops < self.plan.loops
                records[i] = replace(one.record, eps=self.noise, overflow=broke)
                exponents[i], stderr[i] = one.exponents, one.stderr
        return records, exponents, stderr
