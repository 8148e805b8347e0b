"""What XLA compiles: small programs on a CPU in half the time, large ones for speed."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
from jax.extend.core import get_opaque_trace_state

from ._jax_surroundings import surroundings

_Function = TypeVar("_Function", bound=Callable[..., Any])

# XLA's older emitters compile in half the time. Their kernels are as fast up to about a hundred tokens, and up to a tenth
# slower beyond (docs/benchmarks.md).
_QUICK = {"xla_cpu_use_fusion_emitters": False}
_SMALL = 20_000  # numbers, scores counted, up to which a program is small

with jax.core.eval_context():
    _OUTSIDE = get_opaque_trace_state(convention="nnx")


def compiled(function: _Function) -> _Function:
    """Return ``eqx.filter_jit`` of a function, which compiles quickly where all its arrays are small.

    Compiler options are for a whole program: within ``jax.jit``, ``grad`` and ``vmap`` the function is a part of another.

    A program has inside what functions of others read when it was made. Where that is not what it was (a global, a variable
    of a closure, an attribute), another program is made.
    """

    def keyed(read: Any, /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    keyed.__name__, keyed.__qualname__ = function.__name__, function.__qualname__
    plain, quick = eqx.filter_jit(keyed), eqx.filter_jit(keyed, compiler_options=_QUICK)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        outside = _offered() and _OUTSIDE == get_opaque_trace_state(convention="nnx")
        run = quick if outside and _small((args, kwargs)) else plain
        return run(surroundings((args, kwargs)), *args, **kwargs)

    called.programs = lambda: plain._cached._cache_size() + quick._cached._cache_size()  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


@functools.cache
def _offered() -> bool:
    """Tell whether this XLA has the option."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=_QUICK).lower().compile()
    except (RuntimeError, ValueError):
        return False
    return True


def _small(tree: Any) -> bool:
    """Tell whether states, and the scores between their tokens, are few."""
    size = 0
    for leaf in jax.tree_util.tree_leaves(tree):
        shape: tuple[int, ...] = getattr(leaf, "shape", ())
        if len(shape) > 1:
            count = 1
            for length in shape:
                count *= length
            size += count + shape[-2] ** 2
            if size > _SMALL:
                return False
    return True
