"""Tell runs apart, so that a checkpoint continues its own run only."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from ._results import as_numpy
from .field import Field
from .layers.euler import Layer

Array = Any


def fingerprint(arrays: Iterable[Array], system: Any, settings: Any) -> str:
    """Hash what a run depends on: arrays (parameters, start), what of a system is not in them, and settings."""
    digest = hashlib.sha256()
    for a in map(as_numpy, arrays):
        digest.update(f"{a.shape}{a.dtype}".encode() + np.ascontiguousarray(a).tobytes())
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr((settings, _describe(system)))).encode())
    return digest.hexdigest()


def _describe(part: Any) -> Any:
    """Name what of a system is not in its arrays: classes, kinds of weights and masks, plain numbers."""
    if isinstance(part, (tuple, list)):
        return [_describe(p) for p in part]
    if isinstance(part, (Field, Layer)):
        return type(part).__name__, {name: _describe(value) for name, value in part.arguments().items()}
    if hasattr(part, "shape"):
        return "array"
    return getattr(part, "__qualname__", type(part).__qualname__) if callable(part) else repr(part)
