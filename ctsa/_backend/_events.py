"""Events inside a step: where a step must end earlier, because the event function changes sign more than once in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
_NODES = 0.5 - 0.5 * np.cos(np.pi * np.arange(9) / 8)  # shares of a step where the event function is looked at
_FINE = np.arange(257) / 256  # shares at which its polynomial is


def _interpolation() -> np.ndarray:
    """Return the matrix ``(257, 9)`` from values at the nodes to those of the polynomial through them."""
    weights = np.where(np.arange(9) % 2, -1.0, 1.0) * np.where(np.arange(9) % 8, 1.0, 0.5)
    gap = _FINE[:, None] - _NODES
    hit: Any = np.abs(gap) < 1e-14
    ratio = weights / np.where(hit, 1.0, gap)
    rows = ratio / ratio.sum(1, keepdims=True)
    return np.where(hit.any(1)[:, None], hit.astype(float), rows)


_MATRIX = _interpolation()


@dataclass(frozen=True)
class Crossing:
    """An event: ``value(s, y)`` crosses zero, upward (``direction`` 1), downward (-1) or either way (0)."""

    value: Callable[[Array, tuple[Array, ...]], Array]
    direction: int


def crossed(direction: int, before: Any, now: Any) -> Any:
    """Tell whether a value went through zero in the wanted direction; arriving there counts."""
    up, down = (before < 0) & (now >= 0), (before > 0) & (now <= 0)
    return up if direction > 0 else down if direction < 0 else up | down


def _hermite(share, y0, f0, y1, f1, length):
    r = share
    a, b = (1 + 2 * r) * (1 - r) ** 2, r * (1 - r) ** 2
    c, d = r * r * (3 - 2 * r), r * r * (r - 1)
    return tuple(
        a * y + c * z + length * (b * f + d * g) for y, z, f, g in zip(y0, y1, f0, f1, strict=True)
    )  # fmt: skip


def first_of_several(be: Any, event: Crossing, rhs: Callable, t0: Array, y0: tuple, t1: Array, y1: tuple) -> tuple:
    """Look for several zeros of the event function in the step from ``t0`` to ``t1``.

    It is looked at at nine points of the cubic through states and slopes at both ends, and on a fine grid of the polynomial
    through these nine values. Where that changes sign more than once, the first change is confirmed at its state.

    Returns:
        whether there are several, and the share of the step that has just the first.
    """
    xp, x = be.xp, y0[0]
    length = be.like(t1 - t0, x)
    f0, f1 = rhs(be.like(t0, x), y0), rhs(be.like(t1, x), y1)

    def value(share):
        return event.value(t0 + share * (t1 - t0), _hermite(be.like(share, x), y0, f0, y1, f1, length))

    inner = be.map(value, be.like(_NODES[1:-1], x))
    values = xp.concatenate([event.value(t0, y0)[None], inner, event.value(t1, y1)[None]])
    above = be.like(_MATRIX, x) @ values > 0
    other = above != above[0]
    count = (above[1:] != above[:-1]).sum()
    first = xp.argmax(1 * other)  # the first where the sign is another
    share = be.like(_FINE, x)[first]
    return (count > 1) & ((value(share) > 0) != (values[0] > 0)), share
