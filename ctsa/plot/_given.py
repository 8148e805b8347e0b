"""Checks of what pictures are given: each error names the argument, what was wanted, what came, and what to try."""

import math
from typing import Any


def result(name: str, value: Any, kind: str, maker: str, *others: str) -> None:
    """Raise TypeError unless ``value`` is a result of the named class (or one of the others), which ``maker`` returns."""
    if not {c.__name__ for c in type(value).__mro__} & {kind, *others}:
        wanted = " or a ".join((kind, *others))
        raise TypeError(f"{name} must be a {wanted}, got {type(value).__name__}: {maker} returns one")


def flag(name: str, value: Any) -> bool:
    """Return True or False, which ``value`` must be."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def number(name: str, value: Any, low: float = -math.inf) -> float:
    """Return a finite number of at least ``low``, which ``value`` must be."""
    try:
        if isinstance(value, str):
            raise TypeError
        x = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(x) or x < low:
        raise ValueError(f"{name} must be a finite number of at least {low:g}, got {value!r}")
    return x


def count(name: str, value: Any, low: int = 1) -> int:
    """Return an integer of at least ``low``, which ``value`` must be."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value.__index__() < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
    return int(value.__index__())
