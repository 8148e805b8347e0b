"""Special points of a curve of equilibria, as results."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines


@dataclass(frozen=True)
class SpecialPoint(Result):
    """A special point of a curve of equilibria of a field, or of fixed points of a layer.

    Attributes:
        kind: "fold" (the parameter turns), "branch point" (curves cross; ``k`` real eigenvalues are zero) or "Hopf"
            (complex pairs are imaginary). Of a layer: "fold" and "branch point" (a multiplier is 1), "period doubling"
            (-1), "Neimark-Sacker" (complex pairs are on the unit circle).
        parameter: value of the parameter.
        x: state ``(n, d)``.
        vectors: null directions ``(k, n, d)``: at a fold the tangent of the curve; at a branch point an orthonormal basis
            of the null directions across the curve; elsewhere eigenvectors, of pairs their real and imaginary
            parts.
        slopes: the parameter's part of each null direction, in widths of the span ``(k,)``.
        frequency: imaginary part of the eigenvalue at a Hopf point, angle of the multiplier in radians at a Neimark-Sacker
            point, else 0.
        tangent: unit tangent of the curve ``(n, d)``.
        slope: the parameter's part of the tangent.
        arclength: position on the branch.
    """

    kind: str
    parameter: float
    x: Any
    vectors: Any
    slopes: Any
    frequency: float
    tangent: Any
    slope: float
    arclength: float
    _static: ClassVar[tuple[str, ...]] = ("kind",)
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("token", "component"),
        "vectors": ("vector", "token", "component"),
        "slopes": ("vector",),
        "tangent": ("token", "component"),
    }

    @property
    def turns(self) -> bool:
        """Whether a pair of eigenvalues crosses, so that what is born there turns."""
        return self.kind in ("Hopf", "Neimark-Sacker")

    @property
    def multiplicity(self) -> int:
        """How many null directions there are: how many eigenvalues are on the boundary of stability."""
        return len(self.vectors)

    def __repr__(self) -> str:
        extra = f", frequency={self.frequency:.6g}" if self.turns else ""
        count = f", multiplicity={self.multiplicity}" if self.multiplicity > 1 else ""
        return f"SpecialPoint({self.kind} at {self.parameter:.10g}{count}{extra})"

    def table(self) -> str:
        """Return the numbers as text, a line each, and how each null direction moves the tokens."""
        rows: list[tuple[str, Any]] = [("kind", self.kind), ("parameter", f"{self.parameter + 0.0:.10g}")]
        rows += [("frequency", self.frequency if self.turns else None), ("arclength", self.arclength)]
        rows += [("slope of the curve", self.slope), ("null directions", self.multiplicity)]
        heads = ("direction", "slope", *(f"token {i}" for i in range(len(self.x))))
        lengths = np.linalg.norm(self.vectors, axis=-1)  # (k, n)
        moved = [(i, s, *row) for i, (s, row) in enumerate(zip(self.slopes, lengths, strict=True))]
        return f"{lines(rows)}\n{columns([*heads[:10]], [row[:10] for row in moved])}"

    def plot(self, direction: int = 0, *, ax: Any = None) -> Any:
        """Draw the state and where a null direction moves its tokens, see ``ctsa.plot.continuation.special_point``."""
        return picture("continuation.special_point")(self, direction, ax=ax)
