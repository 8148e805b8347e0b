"""Matrix products of float32 arrays in float32: on GPUs JAX takes TF32 for them, of three digits."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import jax

_Function = TypeVar("_Function", bound=Callable[..., Any])


def full_precision() -> AbstractContextManager:
    """Return what full precision is taken within, unless ``jax_default_matmul_precision`` is set by the user."""
    if jax.default_backend() == "cpu" or jax.config.jax_default_matmul_precision is not None:
        return nullcontext()
    return jax.default_matmul_precision("highest")


def precisely(function: _Function) -> _Function:
    """Compute what a function does in full precision."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with full_precision():
            return function(*args, **kwargs)

    return called  # type: ignore[return-value]
