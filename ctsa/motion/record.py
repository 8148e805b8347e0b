"""What a run keeps of its motion: a few projections of state and velocity at the end of every interval."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

PROJECTIONS = 8  # directions kept of larger states


@cache
def projection(size: int) -> np.ndarray | None:
    """Return fixed orthonormal directions ``(8, size)``; None where all components are kept.

    Fixed for every run, so that runs can be continued; random, so that each mixes all components: an observable that is the
    derivative of something bounded averages out fast for chaos, too, and would tell nothing.
    """
    if size <= PROJECTIONS:
        return None
    return np.linalg.qr(np.random.default_rng(size).normal(size=(size, PROJECTIONS)))[0].T


@dataclass
class Record:
    """One run of one state, as the rule reads it.

    Attributes:
        x: ``(N, m)`` states, or their projections, at the ends of the intervals.
        v: ``(N, m)`` velocities there; of a layer the change by its last application.
        speed: ``(N,)`` length of the whole velocity.
        rates: ``(N, k)`` local exponents.
        interval: duration of an interval, or how many layers.
        flow: whether time is continuous.
        size: largest length of the whole state since the very start, transient included.
        began: length of the state at the very start.
        bounded: whether the state lives on a compact manifold.
        driven: whether the system depends on time, as a sequence of layers does.
        eps: rounding of the numbers of the run.
        atol: tolerance of its solver, 0 for layers.
    """

    x: np.ndarray
    v: np.ndarray
    speed: np.ndarray
    rates: np.ndarray
    interval: float = 1.0
    flow: bool = True
    size: float = 1.0
    began: float = 1.0
    bounded: bool = False
    driven: bool = False
    eps: float = 2.2e-16
    atol: float = 0.0
    times: np.ndarray = field(init=False)

    def __post_init__(self):
        self.times = self.interval * np.arange(1, len(self.rates) + 1)
