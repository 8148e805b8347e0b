"""Layers that take a step of higher order: several evaluations of the field, one normalisation."""

from typing import Any

from ctsa import checks
from ctsa.derivatives import pushforward
from ctsa.geometry import Geometry
from ctsa.parts import static

from .base import FieldStep

Array = Any

# method -> (rows of the tableau, weights, times of the stages)
TABLEAUS: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, ...], tuple[float, ...]]] = {
    "midpoint": (((), (1 / 2,)), (0.0, 1.0), (0.0, 1 / 2)),
    "heun": (((), (1.0,)), (1 / 2, 1 / 2), (0.0, 1.0)),
    "rk4": (((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), (0.0, 1 / 3, 2 / 3, 1.0)),
}


class RungeKuttaLayer(FieldStep):
    """One step of a Runge--Kutta method of order 2 or 4 as a layer: what an Euler layer becomes with more stages.

    The stages see the degree-1 extension ``|y| F(y / |y|)`` of the field, which keeps the order of the method on the
    sphere; the result is normalised once. Iterating it is ``ctsa.integrate`` with that method and a fixed step.

    Args:
        field: any field; the layer lives on its geometry.
        step: size of the step, positive.
        method: "midpoint" and "heun" (order 2), "rk4" (order 4, the 3/8 rule that ``integrate`` uses).
        geometry: where a bare callable lives.
        t: when the step begins, for fields that depend on time.

    Raises:
        TypeError: ``field`` is not callable.
        ValueError: ``step`` is not a positive number, or ``method`` is unknown.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> layer = ctsa.RungeKuttaLayer(SelfAttention(beta=4.0), step=0.1, method="rk4")
        >>> tuple(ctsa.iterate(layer, ctsa.random_tokens(8, 3), depth=5).xs.shape)
        (6, 8, 3)

    References:
        Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, section II.1.
    """

    method: str
    parts = dict(FieldStep.parts, method=static())

    def __init__(self, field: Any, step: Any, method: str = "rk4", geometry: Geometry | None = None, t: Any = 0.0):
        checks.choice("method", method, TABLEAUS)
        self._step_of(field, step, geometry, t, method=method)

    def _stages(self, slope, y):
        """Run the tableau on a state that is a tuple of arrays; ``slope(t, y)`` returns a tuple as well."""
        rows, weights, times = TABLEAUS[self.method]
        slopes: list[tuple] = []
        for row, c in zip(rows, times, strict=True):
            slopes.append(slope(self._now(y[0]) + c * self.step, _add(y, self.step, row, slopes)))
        return _add(y, self.step, weights, slopes)

    def move(self, x):
        extend, field = self.geometry.extend, self.field
        return self._stages(lambda t, y: (extend(lambda z: field(t, z), y[0]),), (x,))[0]

    def move_tangent(self, x, u):
        extend, field = self.geometry.extend_tangent, self.field
        return self._stages(lambda t, y: extend(lambda z, v: pushforward(field, t, z, v), *y), (x, u))

    def euler_step(self, x):
        raise ValueError(
            f"RungeKuttaLayer(method={self.method!r}) is a step of the flow of its field, but of higher order: "
            "no Euler step of that field equals it"
        )


def _add(y: tuple, step: Array, weights: tuple, slopes: list) -> tuple:
    for w, k in zip(weights, slopes, strict=True):
        if w:
            y = tuple(a + step * w * b for a, b in zip(y, k, strict=True))
    return y
