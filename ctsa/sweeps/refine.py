"""Where a sweep needs more points: between neighbours whose answers differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctsa import checks

from .grid import Axis
from .layout import Layout


def rounds_of(refine: Any, rounds: Any, axes: tuple[Axis, ...]) -> dict[str, int]:
    """Check what shall be refined, and return how often, by the axis.

    Raises:
        TypeError, ValueError: these are no axes of numbers, or no counts.
    """
    if refine is None:
        return {}
    wanted = {refine: rounds} if isinstance(refine, str) else refine
    if not isinstance(wanted, Mapping):
        raise TypeError(
            f"refine must be the name of a parameter, or a dict from names to rounds, as {{'beta': 3}}, got {refine!r}"
        )
    known = {axis.name: axis for axis in axes}
    for name in wanted:
        if name not in known:
            raise ValueError(f"refine: {name!r} is no parameter of the grid, which has {', '.join(known)}")
        if known[name].coordinates.dtype.kind not in "if":
            raise ValueError(
                f"refine: {name!r} has no numbers between whose values others lie: choose another parameter"
            )
    return {name: checks.integer("rounds", count, low=1) for name, count in wanted.items()}


def judged(by: str | None, layout: Layout) -> str:
    """Return the variable whose changes decide where points are added; None takes "verdict".

    Raises:
        ValueError: there is none of that name.
    """
    names = [variable.name for variable in layout]
    name = "verdict" if by is None else by
    if name not in names:
        raise ValueError(
            f"by must name a variable of the sweep, one of {', '.join(names)}, got {by!r}: by='exponents' adds points "
            "where one changes its sign"
        )
    return name


def midpoints(
    axes: tuple[Axis, ...], along: int, values: np.ndarray, known: np.ndarray
) -> list[tuple[Any, np.ndarray]]:
    """Find where neighbours along an axis differ: coordinates between them, and for which values of the other parameters.

    Neighbours are the points next to each other that have an answer; text and truth values differ if they are not the same,
    numbers if one is positive and one negative. A parameter that counts gets whole numbers only.

    Args:
        axes: of the grid.
        along: the axis.
        values: of the variable that decides ``(grid..., own...)``.
        known: which points have an answer ``(grid...)``.

    Returns:
        Pairs of a coordinate and a mask over the other axes.
    """
    coordinates = axes[along].coordinates
    order = np.argsort(coordinates, kind="stable")
    rank = known.ndim
    if values.dtype.kind in "fc":
        values = np.nan_to_num(np.sign(values), nan=0.0)
    last = np.moveaxis(known, along, -1)[..., order]  # (others..., m)
    flat = np.moveaxis(values.reshape(*known.shape, -1), along, rank - 1)[..., order, :]  # (others..., m, own)
    found: dict[Any, np.ndarray] = {}
    for where in np.ndindex(last.shape[:-1]):
        at = np.flatnonzero(last[where])
        for i, j in zip(at[:-1], at[1:], strict=True):
            a, b = flat[where][i], flat[where][j]
            differ = (a * b < 0).any() if values.dtype.kind == "f" else (a != b).any()
            middle = _between(coordinates[order[i]], coordinates[order[j]]) if differ else None
            if middle is not None:
                found.setdefault(middle, np.zeros(last.shape[:-1], bool))[where] = True
    return sorted(found.items(), key=lambda item: item[0])


def _between(a: Any, b: Any) -> Any:
    middle = (a + b) // 2 if isinstance(a, np.integer) else a + (b - a) / 2
    return None if middle in (a, b) else middle.item()
