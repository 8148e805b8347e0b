"""One program where JAX would make one of every operation: most of what a test costs there is compiling."""

from collections.abc import Callable

import jax


def one_program(face, function: Callable) -> Callable:
    """Return a function of arrays of ``face``, compiled as a whole on JAX."""
    return jax.jit(lambda *given: function(*given)) if face.name == "jax" else function
