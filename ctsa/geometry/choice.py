"""Which geometry a field lives on."""

from typing import Any

from .base import Geometry
from .sphere import Sphere

Array = Any


def check_geometry(geometry: Any) -> Geometry:
    """Return ``geometry`` if it is one.

    Raises:
        TypeError: it does not derive from ``Geometry``.
    """
    if not isinstance(geometry, Geometry):
        raise TypeError(
            f"geometry must be ctsa.Sphere(...) or ctsa.Euclidean(), got {geometry!r}: one of your own derives from "
            "ctsa.Geometry"
        )
    return geometry


def geometry_of(field: Any, geometry: Geometry | None = None) -> Geometry:
    """Return the geometry a field lives on: ``geometry`` if given, else the field's own, else the sphere.

    Raises:
        ValueError: ``geometry`` contradicts the field's own.
    """
    own = getattr(field, "geometry", None)
    if geometry is None:
        return own if own is not None else Sphere()
    geometry = check_geometry(geometry)
    if own is not None and own != geometry:
        raise ValueError(f"geometry={geometry!r} contradicts the field's own {own!r}; leave it out")
    return geometry
