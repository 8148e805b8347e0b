"""What the shared mathematics needs from a framework: about a dozen names, one module a framework.

The arrays decide: ``backend(x)`` looks at the type of ``x`` and returns the module that speaks its language.
There is no global switch, no environment variable and no registry.
"""

from types import ModuleType
from typing import Any

_ROOTS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "equinox": "jax", "numpy": "numpy"}


def _framework_of_type(kind: Any) -> str | None:
    for base in kind.__mro__:
        name = _ROOTS.get(base.__module__.partition(".")[0])
        if name is not None:
            return name
    return None


def framework(thing: Any) -> str | None:
    """Name the framework of an array, a module or a field: "torch", "jax", "numpy", or None where it cannot be told."""
    return _framework_of_type(thing.__class__)


def load(name: str) -> ModuleType:
    """Import the backend module called ``name`` ("torch", "jax" or "numpy")."""
    # Spelled out, because torch.compile traces through plain imports but not through importlib.
    if name == "torch":
        from . import _torch

        return _torch
    if name == "jax":
        from . import _jax

        return _jax
    if name == "numpy":
        from . import _numpy

        return _numpy
    raise ValueError(f"unknown framework {name!r}: expected 'torch', 'jax' or 'numpy'")


def backend(x: Any) -> ModuleType:
    """Return the backend module that speaks the framework of the array ``x``.

    Raises:
        TypeError: ``x`` is not an array of torch, JAX or NumPy.
    """
    name = framework(x)
    if name is None:
        raise TypeError(f"expected an array of torch, jax or numpy, got {type(x).__module__}.{type(x).__qualname__}")
    return load(name)
