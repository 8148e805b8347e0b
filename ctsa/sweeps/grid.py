"""The points of a sweep: axes with their values, all combinations of them, and blocks of points."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

RESERVED = ("error", "done")  # variables that every sweep has
_FILES = ("", ".", "..", "zarr.json")  # what no array in a store can be called
Region = tuple[tuple[int, int], ...]  # of a block: first and last + 1, along every axis


@dataclass(frozen=True)
class Axis:
    """One parameter: coordinates ``(m,)``, numbers, truth values or text; ``values``: what labels mean."""

    name: str
    coordinates: np.ndarray
    values: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.coordinates)

    def with_one_more(self, coordinate: Any) -> "Axis":
        """Return the axis with another coordinate at its end."""
        more = np.array([coordinate], dtype=self.coordinates.dtype)
        return Axis(self.name, np.append(self.coordinates, more), self.values)


def axes_of(grid: Any) -> tuple[Axis, ...]:
    """Check a grid, a mapping of names to values, and return its axes.

    Raises:
        TypeError, ValueError: it is none, is empty, or has values that are not of one kind.
    """
    if not isinstance(grid, Mapping):
        raise TypeError(
            f"grid must map names of parameters to their values, as {{'beta': [1.0, 2.0]}}, got a {type(grid).__name__}"
        )
    if not grid:
        raise ValueError("grid has no parameters: name at least one, as {'beta': [1.0, 2.0]}")
    return tuple(_axis(name, values) for name, values in grid.items())


def _axis(name: Any, values: Any) -> Axis:
    if not isinstance(name, str) or "/" in name or not is_name(name):
        raise TypeError(f"grid: names of parameters must be text without a slash that can name a file, got {name!r}")
    if name in RESERVED:
        raise ValueError(f"grid: a parameter cannot be called {name!r}, as a variable of every sweep is: rename it")
    wanted = (
        f"grid[{name!r}] must be a sequence of numbers, of truth values or of text, or a dict from labels to anything"
    )
    if isinstance(values, Mapping):
        if not values or not all(isinstance(label, str) for label in values):
            raise TypeError(f"{wanted}; the labels of a dict are text, and there is at least one")
        if not all(map(is_text, values)):
            raise ValueError(f"grid[{name!r}]: labels must be text that a file can hold, got {_short(list(values))}")
        return Axis(name, np.array(list(values)), dict(values))
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise TypeError(f"{wanted}, got {values!r}: put a single value into a list")
    entries = list(values)
    if not entries:
        raise ValueError(f"{wanted}, got none")
    try:
        plain = [v.item() if hasattr(v, "item") else v for v in entries]
        array = np.array(plain)
    except (ValueError, TypeError, RuntimeError):
        plain, array = [], np.array(None)
    kind = array.dtype.kind
    mixed = kind in "Ub" and not all(isinstance(v, str | bool) for v in plain)
    mixed |= kind in "iuf" and any(isinstance(v, bool) for v in plain)
    if array.ndim != 1 or kind not in "biufU" or mixed:
        raise TypeError(f"{wanted}, all of one kind, got {_short(entries)}")
    if kind == "U" and not all(map(is_text, plain)):
        raise ValueError(f"grid[{name!r}]: text must be such as a file can hold, got {_short(entries)}")
    if kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{wanted}; numbers must be finite, got {_short(entries)}")
    if kind == "u" and array.max() > np.iinfo(np.int64).max or kind in "iuf" and array.tolist() != plain:
        raise ValueError(
            f"grid[{name!r}] holds whole numbers that 64 bits do not, or not beside others with a point: "
            f"{_short(entries)}; take smaller ones, or text"
        )
    if len(np.unique(array)) != len(array):
        raise ValueError(f"grid[{name!r}] holds a value twice: {_short(entries)}; each may stand there once")
    return Axis(name, array.astype(np.int64) if array.dtype.kind in "iu" else array)


def is_name(name: str) -> bool:
    """Tell whether an array in a store can be called that."""
    return name not in _FILES and is_text(name) and len(name.encode()) <= 200


def is_text(text: str) -> bool:
    """Tell whether a text comes back from a store as it is: NumPy drops zeros, and half characters are no UTF-8."""
    return "\0" not in text and text == text.encode(errors="replace").decode()


def _short(entries: list[Any]) -> str:
    text = repr(entries)
    return text if len(text) <= 80 else f"{text[:76]}...]"


def block_shape(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """Return the shape of blocks of about ``batch`` points, never more, that cover a grid: the last axes are filled first.

    Example:
        >>> from ctsa.sweeps.grid import block_shape
        >>> block_shape((20, 8), 16), block_shape((20, 8), 3), block_shape((100, 100), 64)
        ((2, 8), (1, 3), (1, 50))
    """
    block, left = [], max(1, batch)
    for size in reversed(shape):
        most = min(size, left)
        block.append(math.ceil(size / math.ceil(size / most)))  # parts of like length
        left = left // size if most == size else 1
    return tuple(reversed(block))


def blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[Region]:
    """Yield the blocks of a grid in the order of its points."""
    starts = (range(0, size, step) for size, step in zip(shape, block, strict=True))
    for corner in itertools.product(*starts):
        yield tuple((a, min(a + b, size)) for a, b, size in zip(corner, block, shape, strict=True))


def slices(region: Region) -> tuple[slice, ...]:
    """Return a block as slices."""
    return tuple(slice(a, b) for a, b in region)


def home(index: tuple[int, ...], block: tuple[int, ...], shape: tuple[int, ...]) -> Region:
    """Return the block that a point lies in."""
    corner = [(i // b) * b for i, b in zip(index, block, strict=True)]
    return tuple((a, min(a + b, size)) for a, b, size in zip(corner, block, shape, strict=True))
