"""Which framework something belongs to, told by the modules of its classes: nothing is imported for it."""

from typing import Any

_ROOTS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "equinox": "jax", "numpy": "numpy"}

_KNOWN: dict[type, str | None] = {}  # looked up in every formula


def _found(kind: Any) -> str | None:
    for base in kind.__mro__:
        name = _ROOTS.get(base.__module__.partition(".")[0])
        if name is not None:
            return name
    return None


def framework(thing: Any) -> str | None:
    """Name the framework of an array, a module or a field: "torch", "jax", "numpy", or None where it cannot be told."""
    kind = thing.__class__
    if kind not in _KNOWN:
        _KNOWN[kind] = _found(kind)
    return _KNOWN[kind]
