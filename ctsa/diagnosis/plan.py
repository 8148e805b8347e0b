"""The settings of a diagnosis, and what is applied in which loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa.flows.systems import System
from ctsa.layers.loop import Loop

Array = Any


@dataclass(frozen=True)
class Plan:
    """The settings of a diagnosis, checked."""

    loops: int
    restarts: int
    exponents: int
    period: int
    multipliers: int
    tolerance: float
    trained: int | None
    band: float
    rules: dict[str, float]
    readout: Callable | None
    score: Callable | None
    field: Any
    tokens: bool
    probes: int
    gap: float
    seed: int


def first_of(system: System) -> Any:
    """Return the layer, or the first of a sequence."""
    return system.source[0] if system.kind == "layers" else system.source


def map_of(system: System, k: int) -> Any:
    """Return the layer that is applied in loop ``k``."""
    if system.kind == "layers":
        return system.source[k]
    return system.source.at(k) if counting(system.source) else system.source


def counting(layer: Any) -> bool:
    """Tell whether a layer is another map in every loop."""
    return isinstance(layer, Loop) and layer.counts and layer.k is None


def of_members(system: System, index: np.ndarray) -> System:
    """Return a system with the inputs of some members of a batch."""

    def some(layer):
        return layer.members(index) if isinstance(layer, Loop) else layer

    source = tuple(map(some, system.source)) if system.kind == "layers" else some(system.source)
    return System(system.kind, source, system.geometry)
