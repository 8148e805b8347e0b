"""What comes back from somebody else's code, made a state."""

from typing import Any

from ctsa._backend import dtype_name, framework

Array = Any


def first_array(y: Any) -> Any:
    """Return of a tuple the first entry, of an output object of ``transformers`` the ``last_hidden_state``."""
    y = getattr(y, "last_hidden_state", y)
    return y[0] if isinstance(y, (tuple, list)) and y else y


def received(be: Any, y: Any, shape: tuple, x: Array, coarse: str | None, name: str = "module", hint: str = "") -> Array:
    """Return what code of others made of a state like ``x``, of the shape that was handed over.

    Raises:
        TypeError: it is no array of the framework.
        ValueError: it has another shape or dtype.
    """
    if framework(y) != be.name:
        raise TypeError(f"{name} must return an array of {be.name}, got {type(y).__name__}: use pick=")
    if coarse and y.shape == shape:
        y = be.asarray(y, dtype_name(x))
    if y.shape != shape or y.dtype != x.dtype:
        raise ValueError(
            f"{name} must keep shape and dtype of the state, {tuple(shape)} of {x.dtype}, got "
            f"{tuple(y.shape)} of {y.dtype}{hint}"
        )
    return y
