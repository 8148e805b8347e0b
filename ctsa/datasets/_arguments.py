"""Checks of arguments that only data sets have: pairs of integers, and ranges."""

from typing import Any

from ctsa import checks


def pair(name: str, value: Any, low: int = 0) -> tuple[int, int]:
    """Return two integers of at least ``low``."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of integers, got {value!r:.60}")
    first, second = (checks.integer(f"{name}[{i}]", v, low=low) for i, v in enumerate(value))
    return first, second


def span(name: str, value: Any, low: int, high: int, why: str) -> tuple[int, int]:
    """Return a range of integers, both ends included, within ``low ... high``."""
    first, last = pair(name, value)
    if first > last:
        raise ValueError(f"{name} must be a range (least, most), got ({first}, {last}): exchange them")
    if first < low or last > high:
        raise ValueError(f"{name} must be within {low} ... {high}, {why}, got ({first}, {last})")
    return first, last


def apart(name: str, value: tuple[int, int], other: str, than: tuple[int, int]) -> None:
    """Raise ValueError where two ranges meet."""
    if value[0] <= than[1] and than[0] <= value[1]:
        raise ValueError(f"{name}={value} and {other}={than} must not meet: samples of one could be in the other")
