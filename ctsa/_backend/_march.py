"""What a long run in equal intervals needs: how it is solved, and how adaptive steps are chosen."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = Any

SPREAD = 2.0  # growth or decay of a direction, in powers of e, after which the frame is made orthonormal again
BURST = 3 * SPREAD  # with more than that the way since the last time is gone again, in parts
TINY = 4  # ulps of an interval: shorter steps are given up


@dataclass(frozen=True)
class Segment:
    """Solver settings of one interval; ``steps`` cuts it into equal fixed steps (None: adaptive)."""

    solver: Any
    rtol: float
    atol: float
    max_steps: int
    steps: int | None

    def grid(self, interval: float) -> np.ndarray | None:
        """Return the times of the fixed steps, counted from the start of the interval."""
        return None if self.steps is None else np.linspace(0.0, interval, self.steps + 1)


class Tangent(NamedTuple):
    """A flow with tangent vectors, to be marched in intervals.

    Attributes:
        coordinates: has ``enter(x, u)``, ``slope(field, t, y)``, ``settle(y)``, ``products(a, b)``, ``size(c)`` and
            ``one(c)``, see ``ctsa.tangent.coordinates``.
        field: the field.
        looks: what ``rule.row`` is given.
        rule: what is kept of an interval, see ``ctsa.tangent.pieces.Rule``.
    """

    coordinates: Any
    field: Any
    looks: Any
    rule: Any

    def begin(self, c: Array) -> Array:
        """Return the total of no triangular factors, for tangent vectors ``c``."""
        return self.rule.begin(self.coordinates.one(c))


def errors(
    xp: Any, coordinates: Any, error: tuple, y: tuple, z: tuple, lengths: Array, rtol: Any, atol: Any, batch: int
) -> list:
    """Return the errors of a step in units of the tolerance, one a part of the state, ``(*batch,)``.

    The root of the mean square of ``error / (atol + rtol max(|y|, |z|))``; a tangent vector counts relative to its length
    after the step, so that what shrinks keeps its digits: its entries may be off by ``atol`` times its length.

    Args:
        xp: of the arrays.
        coordinates: see ``Tangent``.
        error: estimates, a part of the state each, tangent vectors last.
        y: state before the step.
        z: state after it.
        lengths: squared lengths of the tangent vectors after it, ``(*batch, k)``.
        rtol: relative tolerance; None is 0.
        atol: absolute tolerance.
        batch: the number of leading axes that are no part of a state.
    """
    *parts, vectors = error
    squares = []
    for e, a, b in zip(parts, y, z, strict=False):
        e = e / (atol if rtol is None else atol + rtol * xp.maximum(xp.abs(a), xp.abs(b)))
        squares.append((e * e).mean(tuple(range(batch, e.ndim))))
    size = coordinates.size(vectors)
    scale = atol if rtol is None else atol + rtol / size**0.5
    relative = coordinates.products(vectors, vectors) / lengths
    return [s**0.5 for s in [*squares, relative.mean(-1) / (size * scale**2)]]


def looked(
    xp: Any, coordinates: Any, error: tuple, y: tuple, z: tuple, rtol: Any, atol: Any, batch: int
) -> list:
    """Return what one step for all members is judged by: the largest of ``errors`` a part, and the greatest growth.

    Growth, or decay, of the length of a tangent vector is in powers of e.
    """
    squares = coordinates.products(z[-1], z[-1])
    sizes = errors(xp, coordinates, error, y, z, squares, rtol, atol, batch)
    return [*(size.max() for size in sizes), 0.5 * xp.abs(xp.log(squares)).max()]
