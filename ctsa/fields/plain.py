"""Fields and layers of PyTorch on NumPy views of their tensors: in small states PyTorch's calls are most of the time."""

from functools import cached_property
from typing import Any

import numpy as np

from ctsa._backend import framework
from ctsa.attention.weights import WEIGHTS, Weights
from ctsa.geometry import Euclidean, Geometry, Sphere
from ctsa.parts import formula_of, inside, parts_of

_KINDS: dict[type, Any] = {}


class NotPlainError(TypeError):
    """What cannot be computed with NumPy."""


def plain(thing: Any) -> Any:
    """Return a field or layer of ``ctsa.torch`` that computes with NumPy, on the same memory; None where it cannot be.

    It cannot if a part is a function or class of somebody else's, which may need PyTorch, if there is no closed form for
    the derivative, or if its tensors are not on a CPU.

    Example:
        >>> import numpy as np, ctsa.torch
        >>> from ctsa.fields.plain import plain
        >>> field = plain(ctsa.torch.Oja(np.diag([2.0, 1.0])))
        >>> field.drift(0.0, np.array([[1.0, 1.0]])).tolist()
        [[2.0, 1.0]]
    """
    try:
        return _plain(thing)
    except NotPlainError:
        return None


def _plain(thing: Any) -> Any:
    kind, formula = type(thing), formula_of(type(thing))
    if kind.__module__ != "ctsa.torch" or formula is None:
        raise NotPlainError
    made: Any = object.__new__(_kind(formula))
    for name, part in parts_of(kind).items():
        value = getattr(thing, name)
        if part.is_array:
            value = None if value is None else _view(value)
        elif isinstance(value, Weights):
            if value is not WEIGHTS.get(value.name) or not value.closed:
                raise NotPlainError
        elif isinstance(value, Geometry):
            if type(value) not in (Sphere, Euclidean):
                raise NotPlainError
        elif value is not None and inside(part, value):
            value = _plain(value) if part.kind == "inner" else [_plain(each) for each in value]
        elif framework(value) is not None or callable(value):
            raise NotPlainError
        object.__setattr__(made, name, value)
    return made


def _view(value: Any) -> np.ndarray:
    if value.device.type != "cpu" or str(value.dtype) not in ("torch.float32", "torch.float64"):
        raise NotPlainError
    return value.detach().numpy()


def _kind(formula: type) -> type:
    if formula not in _KINDS:
        own: dict[str, Any] = {"face": "numpy", "__call__": _call}
        if hasattr(formula, "heads"):
            own["heads"] = cached_property(formula.heads.fget)
            own["heads"].__set_name__(None, "heads")
        _KINDS[formula] = type(formula.__name__, (formula,), own)
    return _KINDS[formula]


def _call(self: Any, *args: Any) -> Any:
    return self.velocity(*args) if len(args) == 2 else self.update(*args)
