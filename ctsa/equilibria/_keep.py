"""Equilibria on disk: a list of them, with how the search went, as one table with a row each."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result
from ctsa.symmetry import Symmetry

from .find import Equilibria, Equilibrium

_ROWS = tuple(f.name for f in fields(Equilibrium))
_LOOSE = ("multiplicities",)  # as many entries as there are clusters: zeros fill up
_SYMMETRY = ("classes", "basis", "signs", "generators")


@dataclass(frozen=True)
class EquilibriaTable(Result):
    """What ``Equilibria`` holds: the attributes of ``Equilibrium`` in columns, then those of the search."""

    x: Any
    kind: Any
    eigenvalues: Any
    stable: Any
    index: Any
    speed: Any
    multiplicities: Any
    labels: Any
    eigenvector: Any
    overlap: Any
    neutral: Any
    neutral_symmetry: Any
    family: Any
    orbit: Any
    reason: str
    report: dict[str, Any]
    classes: Any
    basis: Any
    signs: Any
    generators: Any
    blocks: list[list[int]]
    complete: bool
    _static: ClassVar[tuple[str, ...]] = ("reason", "complete")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(_ROWS, ("equilibrium",)),
        "x": ("equilibrium", "token", "component"), "eigenvalues": ("equilibrium", "mode"),
        "multiplicities": ("equilibrium", "cluster"), "labels": ("equilibrium", "token"),
        "classes": ("token",), "basis": ("component", "column"), "signs": ("reflection", "column"),
        "generators": ("generator", "component", "component_to"),
    }  # fmt: skip

    @classmethod
    def of(cls, found: Equilibria) -> "EquilibriaTable":
        """Return equilibria as a table."""
        most = max((len(e.multiplicities) for e in found), default=0)
        columns: dict[str, Any] = {}
        for name in _ROWS:
            rows = [np.asarray(getattr(e, name)) for e in found]
            rows = [np.pad(r, (0, most - len(r))) for r in rows] if name in _LOOSE else rows
            columns[name] = np.array(rows)
        s = found.symmetry
        return cls(
            **columns, reason=found.reason, report=found.report, **{name: getattr(s, name) for name in _SYMMETRY},
            blocks=[np.asarray(block).tolist() for block in s.blocks], complete=s.complete,
        )  # fmt: skip

    def _restored(self) -> Equilibria:
        symmetry = Symmetry(
            **{name: np.asarray(getattr(self, name)) for name in _SYMMETRY},
            blocks=[np.asarray(block) for block in self.blocks], complete=self.complete,
        )  # fmt: skip
        items = [self._row(i) for i in range(len(self.kind))]
        return Equilibria(items, self.reason, self.report, symmetry)

    def _row(self, i: int) -> Equilibrium:
        row: dict[str, Any] = {name: np.asarray(getattr(self, name)[i]) for name in _ROWS}
        sizes = row["multiplicities"]
        row["multiplicities"] = sizes[sizes > 0]
        return Equilibrium(**{name: v if v.ndim else v.item() for name, v in row.items()})
