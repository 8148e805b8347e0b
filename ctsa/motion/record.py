"""What a run records for its verdict, and the numbers that all rules read."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ctsa.errorbars import standard_error

REST = 1e-6  # of the longest token seen: less is rest, where rounding and tolerance allow
DIRECTIONS = 8


def projection(size: int, seed: int = 0) -> np.ndarray:
    """Return the matrix ``(size, m)`` that takes a flat state to the coordinates which are recorded.

    The identity up to 8 coordinates; beyond, 8 fixed random orthonormal directions, scaled so that lengths keep their size
    on average. Random directions mix derivatives with the rest, which averages of bounded motion need.
    """
    if size <= DIRECTIONS:
        return np.eye(size)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, DIRECTIONS)))
    return q * (size / DIRECTIONS) ** 0.5


@dataclass(frozen=True)
class Record:
    """One run at its N interval ends.

    Attributes:
        x: recorded coordinates of the state ``(N, m)``.
        v: the same of the velocity; for a layer of the last layer's step ``x_k - x_(k-1)``.
        speed: largest token velocity or step, ``(N,)``.
        rates: local exponents ``(N, k)``.
        interval: time or layers between rows.
        flow: whether time is continuous.
        first: length of the longest token at the very start.
        size: the largest since, transient included.
        bounded: whether the manifold is compact.
        driven: whether the law changes with time: a field that depends on t, or a sequence of different layers.
        eps: rounding of the type that was computed in.
        atol: absolute tolerance of the solver; 0 where there is none.
        overflow: whether the run ended because the state overflowed.
    """

    x: Any
    v: Any
    speed: Any
    rates: Any
    interval: float
    flow: bool
    first: float
    size: float
    bounded: bool = False
    driven: bool = False
    eps: float = 2.2e-16
    atol: float = 1e-8
    overflow: bool = False

    def __post_init__(self):
        rates = np.maximum(np.asarray(self.rates, dtype=float), -700 / self.interval)  # a lost direction has rate -inf
        values = {"x": self.x, "v": self.v, "speed": self.speed, "rates": rates[:, np.argsort(-rates.mean(0))]}
        for name, value in values.items():
            object.__setattr__(self, name, np.asarray(value, dtype=float))

    @property
    def count(self) -> int:
        """N, the number of intervals."""
        return len(self.rates)

    @property
    def half(self) -> int:
        """Where the second half begins."""
        return self.count // 2

    @property
    def total(self) -> float:
        """Duration of the record."""
        return self.count * self.interval

    @cached_property
    def times(self) -> np.ndarray:
        """Times of the rows."""
        return np.arange(self.count) * self.interval

    @cached_property
    def e(self) -> np.ndarray:
        """Exponents, descending."""
        return self.rates.mean(0)

    @cached_property
    def errors(self) -> np.ndarray:
        """Standard errors of the exponents."""
        return np.array([standard_error(column) for column in self.rates.T])

    @cached_property
    def resolution(self) -> np.ndarray:
        """How far from zero an exponent may be and still count as zero."""
        return 3 * np.where(np.isfinite(self.errors), self.errors, np.inf) + 5 / self.total

    @property
    def top(self) -> str:
        """The largest exponent, in words."""
        return f"largest exponent {self.e[0]:.3g} +- {self.errors[0]:.1g}"

    @property
    def unit(self) -> str:
        """What rates are per."""
        return "unit time" if self.flow else "layer"

    @cached_property
    def tolerance(self) -> float:
        """Relative size of what counts as rest."""
        solver = 10 * self.atol / max(self.size, 1e-300) if self.flow else 0.0
        return max(REST, 100 * self.eps, solver)

    @cached_property
    def natural(self) -> float:
        """A speed, relative to the size: what the system's own time scale makes of a length."""
        return float(np.sqrt((self.rates**2).mean()) + 1 / self.interval) if self.flow else 1.0

    @property
    def rest(self) -> float:
        """Speeds below this are rest."""
        return self.tolerance * self.size * self.natural

    def stability(self, rows: int | None = None) -> str:
        """Of where the state is at the end: from the exponents of the last ``rows`` intervals (None: half of them)."""
        late = self.rates[-(rows or self.count - self.half) :]
        leader = late.mean(0).argmax()
        rate = late[:, leader].mean()
        wide = self.rates[-max(len(late), 8) :, leader]  # fewer have no error bar
        spread = 3 * standard_error(wide) * (len(wide) / len(late)) ** 0.5 if len(wide) >= 8 else np.inf
        if rate > spread + 5 / self.total:
            return "unstable"
        # Slow oscillation makes the bar of a short piece wide; the whole run may then speak for it.
        falls = rate < -2 / self.total and (rate < -spread - 2 / self.total or self.e[0] < -self.resolution[0])
        return "stable" if falls else "neutral"
