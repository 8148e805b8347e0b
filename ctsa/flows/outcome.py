"""What a solver sees of a field, and what is said when it gives up."""

from typing import Any

from ctsa._backend import backend
from ctsa.results.base import Trajectory


class IntegrationError(RuntimeError):
    """A solve that could not reach its end time; ``trajectory`` holds the outputs that it did reach."""

    def __init__(self, message: str, trajectory: Trajectory):
        super().__init__(message)
        self.trajectory = trajectory


def why_failed(failure: str, max_steps: int) -> str:
    """Say what a solver's failure means, and what to try."""
    return {
        "max_steps": f"more than max_steps={max_steps} steps would be needed; raise max_steps, loosen "
        "atol, or, if the problem is stiff (large beta or large value), use solver='kvaerno5' on JAX",
        "step_size": "the step size went to zero or the state became nan or inf; look at the velocity there",
    }.get(failure, failure)


def extended(field: Any, geometry: Any, sign: int, s: Any, state: tuple) -> tuple:
    """Return the right-hand side that solvers see: the degree-1 extension, backward in time for sign = -1."""
    (y,) = state
    if sign == 1:
        return (geometry.extend(lambda x: field(s, x), y),)
    return (-geometry.extend(lambda x: field(-s, x), y),)


def retracted(geometry: Any, y: Any) -> tuple:
    """Return states put back on the manifold, and how far they were off."""
    xp = backend(y).xp
    return geometry.retract(y), xp.amax(xp.abs(geometry.radius(y) - 1))
