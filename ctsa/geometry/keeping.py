"""Geometries in files of results: ours by name and arguments, one of your own by what it says of itself."""

from dataclasses import dataclass, fields
from typing import Any

from ctsa.results.values import keep

from .base import Array, Geometry
from .densities import Densities
from .euclidean import Euclidean
from .product import Product
from .sphere import Sphere

_OURS: dict[str, type[Geometry]] = {"Sphere": Sphere, "Euclidean": Euclidean, "Product": Product, "Densities": Densities}
_FLAGS = ("place", "closed", "flat", "radial", "unit", "channels")


@dataclass(frozen=True, repr=False)
class Described(Geometry):
    """What comes back from a file for a geometry of your own: its ``repr`` and its attributes, without its maps.

    The maps are code, which no file keeps; each raises TypeError. Tables and pictures of a result do without them. To
    go on with the geometry itself, give it back to the result: ``dataclasses.replace(result, geometry=yours)``.

    Attributes:
        text: its ``repr``.
    """

    text: str
    place: str = "the manifold"
    closed: bool = False
    flat: bool = False
    radial: bool = False
    unit: bool = False
    channels: int | None = None

    def retract(self, y: Array) -> Array:
        """Raise TypeError, as every map of it does."""
        raise AssertionError  # never reached, but a geometry must have it

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and callable(getattr(Geometry, name, None)):
            raise TypeError(
                f"{self.text} came from a file, which keeps the name of a geometry of your own and not its maps, such as "
                f"{name}: take your geometry itself, or dataclasses.replace(result, geometry=yours)"
            )
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return self.text


def _written(g: Geometry) -> dict[str, Any]:
    if _OURS.get(type(g).__name__) is type(g):
        return {"name": type(g).__name__, "arguments": {f.name: getattr(g, f.name) for f in fields(g)}}  # type: ignore[arg-type]
    plain = type(g).__repr__ is object.__repr__  # it would say at which address it was
    text = f"{type(g).__qualname__}(...)" if plain else repr(g)
    return {"text": text, **{name: getattr(g, name) for name in _FLAGS}}


def _read(entry: dict[str, Any]) -> Geometry:
    if "name" not in entry:
        return Described(**entry)
    return _OURS[entry["name"]](**{name: _frozen(value) for name, value in entry["arguments"].items()})


def _frozen(value: Any) -> Any:
    """Return lists, which is what JSON makes of tuples, as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


keep("geometry", Geometry, _written, _read)
