"""Results as text: aligned lines."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def shown(value: Any) -> str:
    """Return a value as text: numbers with four digits, nan as "not known", True and False as yes and no."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) and not np.ndim(value) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, complex):
        return shown(value.real) if not value.imag else f"{value.real:.4g}{value.imag:+.4g}i"
    if isinstance(value, float):
        return "not known" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def lines(rows: Iterable[tuple[str, Any]]) -> str:
    """Return a line a row, a name and what it is, the second in a column; rows whose value is None are left out."""
    kept = [(name, shown(value)) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in kept)


def columns(heads: Sequence[str], rows: Iterable[Sequence[Any]], most: int | None = None) -> str:
    """Return a table: heads, then a line a row; the first column to the left, the others to the right."""
    every = [list(row) for row in rows]
    cells = [list(heads), *([shown(value) for value in row] for row in every[:most])]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    text = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]
    left = len(every) - (len(cells) - 1)
    return "\n".join([*text, f"... {left} more"] if left else text)
