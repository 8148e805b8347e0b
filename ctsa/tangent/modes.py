"""Leading eigenpairs and singular values of a Jacobian, as a result."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns

_NAMES = {"real": "eigenvalue", "modulus": "eigenvalue", "singular": "singular value", "symmetric": "rate of growth"}


@dataclass(frozen=True)
class Leading(Result):
    """Leading eigenpairs or singular values of a Jacobian, found without forming it.

    Attributes:
        values: ``(count,)``; of a batch of states ``(..., count)``.
        vectors: ``(..., count, n, d)``: eigenvectors, or right singular vectors.
        residuals: ``(..., count)``: ``|J v - value v|``, or ``|J^T J v - value^2 v|`` for singular values.
        which: what they lead in: "real", "modulus", "singular" or "symmetric", see ``ctsa.leading``.
        continuous: whether of a flow (True) or of a layer.
    """

    values: Any
    vectors: Any
    residuals: Any
    which: str
    continuous: bool
    _static: ClassVar[tuple[str, ...]] = ("which", "continuous")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "values": ("...", "mode"), "vectors": ("...", "mode", "token", "component"), "residuals": ("...", "mode")
    }  # fmt: skip

    def __repr__(self) -> str:
        batch = np.shape(self.values)[:-1]
        if batch:
            return f"Leading(batch {batch} of {self.values.shape[-1]}, largest residual {np.max(self.residuals):.1e})"
        shown = ", ".join(f"{v:.6g}" for v in self.values[:6]) + (", ..." if len(self.values) > 6 else "")
        return f"Leading([{shown}], largest residual {np.max(self.residuals):.1e})"

    def member(self, index: int | tuple[int, ...]) -> "Leading":
        """Return what belongs to one state of a batch."""
        return replace(self, values=self.values[index], vectors=self.vectors[index], residuals=self.residuals[index])

    def of_one_state(self) -> None:
        """Raise ValueError if these are values of a batch of states."""
        batch = np.shape(self.values)[:-1]
        if batch:
            raise ValueError(f"these are values of a batch of states {batch}, and this is about one: take .member(i)")

    def table(self) -> str:
        """Return a line a value as text: itself, its modulus if it is complex, its residual, how it is spread on tokens."""
        self.of_one_state()
        values = np.asarray(self.values)
        weights = (np.abs(self.vectors) ** 2).sum(-1)  # (count, n)
        tokens = weights.sum(-1) ** 2 / (weights**2).sum(-1)  # 1 where one token moves, n where all do alike
        series = {_NAMES[self.which]: values, "residual": self.residuals, "tokens that take part": tokens}
        if np.iscomplexobj(values):
            series["modulus"] = np.abs(values)
        rows = zip(range(len(values)), *series.values(), strict=True)
        return columns(("mode", *series), rows, most=30)

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw eigenvalues in the complex plane, singular values and rates by size; return the ``Axes``."""
        return picture("spectra.leading")(self, ax=ax, **kwargs)
