"""How far a layer moves a state, as a field: what rests under the layer is an equilibrium of it."""

from collections.abc import Callable
from typing import Any

from ctsa.derivatives import layer_pushforward
from ctsa.flows.systems import home_of
from ctsa.geometry import Geometry

Array = Any


class Displacement:
    """The field ``F(t, x) = P_x (f(x) - x)``, which has the symmetries of the layer.

    Where ``f(x) = x`` its Jacobian is that of the layer less 1. On the sphere it vanishes as well where the layer maps
    a token to its opposite.
    """

    def __init__(self, layer: Callable[[Array], Array], geometry: Geometry):
        self.layer, self.geometry, self.home = layer, geometry, home_of(layer)

    def __call__(self, t: Array, x: Array) -> Array:
        """Return the displacement of every token."""
        return self.geometry.project(x, self.layer(x) - x)

    def tangent(self, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the displacement and its derivative along directions ``u`` of shape ``(k, ..., n, d)``."""
        y, dy = layer_pushforward(self.layer, x, u)
        return self.geometry.project(x, y - x), self.geometry.project_tangent(x, u, y - x, dy - u)


def displaced(layer_of: Callable[[Any], Any], geometry: Geometry, p: Any) -> Displacement:
    """Return the displacement of one of a family of layers."""
    return Displacement(layer_of(p), geometry)
