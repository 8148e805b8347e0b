"""Special points of a curve of equilibria, as results."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines


@dataclass(frozen=True)
class SpecialPoint(Result):
    """A fold, a branch point or a Hopf point of a curve of equilibria.

    Attributes:
        kind: "fold" (the parameter turns), "branch point" (curves cross; ``k`` real eigenvalues are zero) or "Hopf"
            (complex pairs are imaginary).
        parameter: value of the parameter.
        x: state ``(n, d)``.
        vectors: null directions ``(k, n, d)``: at a fold the tangent of the curve; at a branch point an orthonormal basis
            of the null directions across the curve; at a Hopf point real and imaginary parts of the eigenvectors.
        slopes: the parameter's part of each null direction, in widths of the span ``(k,)``.
        frequency: imaginary part of the eigenvalue at a Hopf point, else 0.
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
    def multiplicity(self) -> int:
        """How many null directions there are (at a Hopf point: eigenvalues on the imaginary axis)."""
        return len(self.vectors)

    def __repr__(self) -> str:
        extra = f", frequency={self.frequency:.6g}" if self.kind == "Hopf" else ""
        count = f", multiplicity={self.multiplicity}" if self.multiplicity > 1 else ""
        return f"SpecialPoint({self.kind} at {self.parameter:.10g}{count}{extra})"

    def table(self) -> str:
        """Return the numbers as text, a line each, and how each null direction moves the tokens."""
        rows: list[tuple[str, Any]] = [("kind", self.kind), ("parameter", f"{self.parameter + 0.0:.10g}")]
        rows += [("frequency", self.frequency if self.kind == "Hopf" else None), ("arclength", self.arclength)]
        rows += [("slope of the curve", self.slope), ("null directions", self.multiplicity)]
        heads = ("direction", "slope", *(f"token {i}" for i in range(len(self.x))))
        lengths = np.linalg.norm(self.vectors, axis=-1)  # (k, n)
        moved = [(i, s, *row) for i, (s, row) in enumerate(zip(self.slopes, lengths, strict=True))]
        return f"{lines(rows)}\n{columns([*heads[:10]], [row[:10] for row in moved])}"

    def plot(self, direction: int = 0, *, ax: Any = None) -> Any:
        """Draw the state and where a null direction moves its tokens, see ``ctsa.plot.continuation.special_point``."""
        return picture("continuation.special_point")(self, direction, ax=ax)
