"""Fields of one framework rebuilt in the other."""

from typing import Any

from ctsa._backend import backend, framework
from ctsa.attention.weights import Weights

from .base import Field

_FACES = ("ctsa.torch", "ctsa.jax")


def convert(field: Any, face: Any) -> Any:
    """Rebuild a field with the classes of another face, keeping every parameter.

    Args:
        field: a field of ``ctsa.torch`` or ``ctsa.jax``.
        face: the module ``ctsa.torch`` or ``ctsa.jax``.

    Raises:
        TypeError: a term of the field is not one of ours.
    """
    if not isinstance(field, Field):
        raise TypeError(f"only fields of ctsa convert, got {type(field).__module__}.{type(field).__qualname__}")

    def carry(value):
        if isinstance(value, Field):
            return convert(value, face)
        if isinstance(value, list):
            return [carry(v) for v in value]
        if callable(value) and not isinstance(value, Weights):
            raise TypeError(f"only fields of ctsa convert, a plain callable does not: {value!r}")
        return backend(value).to_numpy(value) if framework(value) in ("torch", "jax") else value

    kind = next((c.__name__ for c in type(field).__mro__ if c.__module__ in _FACES and c.__name__ != "Field"), None)
    if kind is None:
        raise TypeError(f"only fields of ctsa convert, {type(field).__qualname__} is one of your own")
    return getattr(face, kind)(**{name: carry(value) for name, value in field.arguments().items()})
