"""Fields of one framework rebuilt in the other."""

from typing import Any

from ctsa._backend import autodiff, backend
from ctsa.attention.weights import Weights
from ctsa.parts import formula_of

from .base import Field


def convert(field: Any, face: Any) -> Any:
    """Rebuild a field or model with the classes of another face, keeping every parameter.

    Args:
        field: a field of ``ctsa.torch`` or ``ctsa.jax``, or a model made of fields.
        face: the module ``ctsa.torch`` or ``ctsa.jax``.

    Raises:
        TypeError: a term of the field is not one of ours.
    """
    if not isinstance(field, Field) and not hasattr(field, "kit"):
        raise TypeError(f"only fields of ctsa convert, got {type(field).__module__}.{type(field).__qualname__}")

    def carry(value):
        if isinstance(value, Field):
            return convert(value, face)
        if isinstance(value, list):
            return [carry(v) for v in value]
        if callable(value) and not isinstance(value, Weights):
            raise TypeError(f"only fields of ctsa convert, a plain callable does not: {value!r}")
        return backend(value).to_numpy(value) if autodiff(value) else value

    kind = class_in(face, formula_of(type(field)))
    if kind is None:
        name = type(field).__qualname__
        raise TypeError(f"{name} has no class in {face.__name__}: class {name}(Formula, {face.__name__}.Field) makes one")
    return kind(**{name: carry(value) for name, value in field.arguments().items()})


def class_in(face: Any, formula: type | None) -> Any:
    """Return the class of a face that has a formula's mathematics; None if there is none."""
    if formula is None:
        return None
    own = getattr(face, formula.__name__, None)
    if isinstance(own, type) and formula_of(own) is formula:
        return own
    subclasses: list[type] = formula.__subclasses__()
    return next((kind for kind in subclasses if issubclass(kind, face.Field)), None)
