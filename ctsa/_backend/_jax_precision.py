"""Matrix products of float32 arrays in float32: on GPUs JAX takes TF32 for them, of three digits."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

_Function = TypeVar("_Function", bound=Callable[..., Any])


def precisely(function: _Function) -> _Function:
    """Compute what a function does in full precision, unless ``jax_default_matmul_precision`` is set by the user."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if jax.default_backend() == "cpu" or jax.config.jax_default_matmul_precision is not None:
            return function(*args, **kwargs)
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return called  # type: ignore[return-value]
