"""Which variables a sweep has, of what kind and shape: fixed by the first point that is done."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .answers import Answer
from .grid import Region

# What stands where a point has no value.
NOTHING: dict[str, Any] = {"float64": np.nan, "float32": np.nan, "bool": False, "text": ""}


@dataclass(frozen=True)
class Variable:
    """One variable: its own axes and shape, without those of the parameters, and "float64", "float32", "bool" or "text"."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str

    @property
    def dtype(self) -> Any:
        """The type of NumPy arrays that hold it."""
        return np.dtype(object if self.kind == "text" else self.kind)

    def empty(self, points: tuple[int, ...]) -> np.ndarray:
        """Return an array for a block of points that holds nothing yet."""
        return np.full((*points, *self.shape), NOTHING[self.kind], dtype=self.dtype)


Layout = tuple[Variable, ...]


def layout_of(answer: Answer) -> Layout:
    """Return the layout of which a point is the first."""
    kinds = {"O": "text", "b": "bool"}
    return tuple(
        Variable(name, dims, array.shape, kinds.get(array.dtype.kind, array.dtype.name))
        for name, (dims, array) in answer.items()
    )


def written(layout: Layout) -> list[dict[str, Any]]:
    """Return a layout as what JSON can say."""
    return [asdict(variable) for variable in layout]


def read(entries: Iterable[dict[str, Any]]) -> Layout:
    """Return the layout of what ``written`` has made."""
    return tuple(Variable(e["name"], tuple(e["dims"]), tuple(e["shape"]), e["kind"]) for e in entries)


def bytes_of(layout: Layout) -> int:
    """Return about how many bytes a point takes."""
    return sum(int(np.prod(v.shape)) * (32 if v.kind == "text" else v.dtype.itemsize) for v in layout)


def misfit(answer: Answer, layout: Layout) -> str:
    """Say why a point does not fit beside the first one; "" if it does. What it lacks stays empty."""
    known = {variable.name: variable for variable in layout}
    for name, (dims, array) in answer.items():
        if name not in known:
            return f"{name} is no variable of the first point ({', '.join(known)}): return the same from all"
        first = known[name]
        if array.shape != first.shape or dims != first.dims:
            return (
                f"{name} has the shape {array.shape}, axes {dims}, and at the first point {first.shape}, {first.dims}: "
                "return arrays of one shape, for instance filled up with nan"
            )
        text, number = array.dtype.kind == "O", array.dtype.kind == "f"
        if text != (first.kind == "text") or (number and first.kind == "bool"):
            return f"{name} is {'text' if text else 'a number'}, and at the first point {first.kind}: return one kind"
        if first.kind == "float32" and array.dtype != np.float32 and _rounded(array):
            return f"{name} is {array.dtype}, and at the first point float32, which would round it: return one kind"
    return ""


def _rounded(array: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return not np.array_equal(array, array.astype(np.float32), equal_nan=array.dtype.kind == "f")


class Block:
    """A block of points in memory, as it goes into a store: variables, ``error`` and ``done``."""

    def __init__(self, region: Region, layout: Layout | None):
        self.region, self.layout = region, layout or ()
        points = tuple(b - a for a, b in region)
        self.arrays = {variable.name: variable.empty(points) for variable in self.layout}
        self.error = np.full(points, "", dtype=object)
        self.done = np.zeros(points, dtype=bool)

    def take(self, index: tuple[int, ...], answer: Answer | str) -> str:
        """Put the answer of a point, or its error, where it belongs, and return the error, "" if there is none."""
        inside = tuple(i - a for i, (a, _) in zip(index, self.region, strict=True))
        error = answer if isinstance(answer, str) else misfit(answer, self.layout)
        error = error if isinstance(answer, str) or not error else f"ValueError: {error}"
        for variable in self.layout:
            value = NOTHING[variable.kind] if error or variable.name not in answer else answer[variable.name][1]  # type: ignore[index]
            self.arrays[variable.name][inside] = value
        self.error[inside], self.done[inside] = error, True
        return error
