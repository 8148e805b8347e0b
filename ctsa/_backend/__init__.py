"""What the shared mathematics needs from a framework: the 37 names in ``__all__``, one module a framework.

The arrays decide: ``backend(x)`` looks at the type of ``x`` and returns the module that speaks its language.
There is no global switch, no environment variable and no registry.

What is asked about modules, not about arrays, is apart: the 6 names of ``modules(home)``.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from ._frameworks import framework as framework

_MODULES: dict[type, ModuleType] = {}  # looked up in every formula


def autodiff(thing: Any) -> str | None:
    """Name the framework of what can be differentiated, and be made of parameters: "torch" or "jax", else None."""
    name = framework(thing)
    return name if name != "numpy" else None


def dtype_name(x: Any) -> str:
    """Name the dtype of an array alike in all frameworks: "float64"."""
    return str(x.dtype).rpartition(".")[2]


def rounding(x: Any) -> float:
    """Return the distance from 1 to the next number of the dtype of an array."""
    return float(backend(x).xp.finfo(x.dtype).eps)


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


def modules(home: str | None) -> ModuleType:
    """Import what is asked about the modules of a framework ("torch" or "jax"): their parameters, dtype and mode."""
    if home == "torch":
        from . import _torch_modules

        return _torch_modules
    if home == "jax":
        from . import _jax_modules

        return _jax_modules
    raise ValueError(f"unknown framework of modules {home!r}: expected 'torch' or 'jax'")


def trainer(home: str) -> Any:
    """Import the class that moves the parameters of a model of a framework ("torch" or "jax"), see ``ctsa.training``."""
    if home == "torch":
        from ._torch_train import Trainer as of_torch

        return of_torch
    from ._jax_train import Trainer as of_jax

    return of_jax


def ring(home: str) -> ModuleType:
    """Import what passes blocks on among devices, which JAX alone has, see ``ctsa.attention.ring``."""
    if home != "jax":
        raise ValueError(f"how='ring' is for JAX, whose arrays are spread over devices, got {home}: use how='chunked'")
    from . import _jax_devices

    return _jax_devices


def spread(x: Any) -> bool:
    """Tell whether an array lies on several devices, so that NumPy would gather it."""
    return framework(x) == "jax" and ring("jax").spread(x)


def placed(x: Any, name: str) -> Any:
    """Return an array where its framework says by itself which device holds what of a result, see ``_jax_devices``."""
    return ring("jax").automatic(x, name) if framework(x) == "jax" else x


def half(module: Any, home: str) -> str | None:
    """Name the half precision that a module of a framework computes in, or None."""
    reference = modules(home).reference(module)
    kind = None if reference is None else dtype_name(reference)
    return kind if kind in ("float16", "bfloat16") else None


def on_graph(value: Any) -> bool:
    """Tell whether a value is an array through which a gradient may pass on, or one that is not known yet."""
    home = autodiff(value)
    return home is not None and (bool(getattr(value, "requires_grad", False)) or bool(modules(home).traced(value)))


def graded(value: Any) -> bool:
    """Tell whether PyTorch records a graph of what is computed from ``value``, a tensor: a number made of it is cut off."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled()


def normal_of_key(key: Any, shape: tuple[int, ...], x: Any) -> Any:
    """Draw normal numbers of the dtype of ``x`` from a random key of JAX, which may be traced; None if it is no key."""
    if framework(key) != "jax" or not hasattr(key, "dtype"):
        return None
    if not str(key.dtype).startswith("key") and (str(key.dtype) != "uint32" or tuple(key.shape) != (2,)):
        return None
    from jax import random

    return random.normal(key, shape, x.dtype)


def no_graph() -> AbstractContextManager:
    """Return what PyTorch records nothing within; JAX needs no telling."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.no_grad()


def full_precision(home: str | None) -> AbstractContextManager:
    """Return what products of a framework have all the digits of their dtype within, see ``_jax_precision``."""
    if home != "jax":
        return nullcontext()
    from ._jax_precision import full_precision

    return full_precision()


_Function = TypeVar("_Function", bound=Callable[..., Any])


def inside(value: Any) -> list[Any]:
    """Return a value and what it is made of: items, cells of closures, arguments of partials and of plain layers."""
    parts = [value]
    for part in parts:  # which grows
        if len(parts) > 1000:
            break
        if isinstance(part, (list, tuple)):
            parts += part
        elif isinstance(part, functools.partial):
            parts += [part.func, *part.args, *part.keywords.values()]
        elif isinstance(part, FunctionType):
            cells = [cell.cell_contents for cell in part.__closure__ or () if cell != CellType()]
            parts += [a for a in cells if not isinstance(a, list)]  # a list may hold what an earlier trace left in it
        elif isinstance(part, MethodType):
            parts.append(part.__self__)
        elif framework(part) is None and hasattr(part, "arguments"):  # a plain layer
            parts += part.arguments().values()
    return parts


def analysis(function: _Function) -> _Function:
    """Mark a function that returns values, not arrays on a graph: PyTorch records nothing in it, and tracers are refused.

    Raises:
        TypeError: an argument is traced (``jax.jit``, ``grad``, ``vmap``, ``torch.func``, ``torch.compile``).
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        homes = set()
        for key, value in (*zip(names, args, strict=False), *kwargs.items()):
            parts = [(home, part) for part in inside(value) if (home := autodiff(part))]
            homes |= {home for home, _ in parts}
            if any(modules(home).traced(part) for home, part in parts):
                raise TypeError(
                    f"{function.__name__} needs values, but {key} is traced (under jit, grad, vmap or compile) and not "
                    "known yet: call it outside of the transformation, in a loop instead of vmap. It has no gradient; "
                    "ctsa.jacobian, ctsa.integrate and layers have one"
                )
        with full_precision("jax" if "jax" in homes else None), no_graph():
            return function(*args, **kwargs)

    called.returns_values = True  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def backend(x: Any) -> ModuleType:
    """Return the backend module that speaks the framework of the array ``x``.

    Raises:
        TypeError: ``x`` is not an array of torch, JAX or NumPy.
    """
    known = _MODULES.get(x.__class__)
    if known is not None:
        return known
    name = framework(x)
    if name is None:
        raise TypeError(f"expected an array of torch, jax or numpy, got {type(x).__module__}.{type(x).__qualname__}")
    module = load(name)
    _MODULES[x.__class__] = module
    return module
