"""What the figures of the literature share: the face, the preset, results to keep, numbers to check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from ctsa._backend import no_graph
from ctsa.flows import integrate
from ctsa.results.base import Trajectory
from ctsa.runs.about import versions
from ctsa.studies.findings import Check, Findings, as_checks, as_table
from ctsa.studies.names import FIGURES

Say = Callable[[str], Any]


@dataclass
class Bench:
    """Where a figure is made.

    Attributes:
        name: of the figure.
        backend: "torch" or "jax".
        preset: "quick" (seconds) or "full".
        say: receives lines of progress.
        results: results to be kept, by name; they are sections of the report.
        checks: numbers held against what is known.
    """

    name: str
    backend: str = "jax"
    preset: str = "quick"
    say: Say = print
    results: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @property
    def face(self) -> Any:
        """The face of the backend."""
        return import_module(f"ctsa.{self.backend}")

    @property
    def quick(self) -> bool:
        """Whether this is the quick preset."""
        return self.preset == "quick"

    def flow(self, field: Any, x0: Any, ts: Any, **settings: Any) -> Trajectory:
        """Integrate without bars, and without a record for gradients."""
        with no_graph():
            return integrate(field, x0, ts, progress=False, **settings)

    def keep(self, name: str, result: Any) -> Any:
        """Keep a result for the report, and return it."""
        self.results[name] = result
        return result

    def check(
        self, what: str, found: float, wanted: float, within: float = 0.0, *, relation: str = "about", source: str = ""
    ) -> Check:
        """Hold a number against what is known of it."""
        check = Check(what, float(found), float(wanted), float(within), relation, source)
        self.checks.append(check)
        self.say(str(check))
        return check

    def near(self, what: str, found: Any, known: Any, within: float, *, source: str = "") -> Check:
        """Hold arrays against what is known of them: the largest difference is to be zero."""
        off = np.abs(np.asarray(found) - np.asarray(known)).max()
        return self.check(what, off, 0.0, within, source=source)

    def found(self, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> Findings:
        """Return findings, of one dict a row."""
        asks, source = FIGURES[self.name]
        told = dict(backend=self.backend, preset=self.preset, versions=versions(self.backend))
        return Findings(self.name, asks, as_table(rows), tuple(notes), told, as_checks(self.checks), source)
