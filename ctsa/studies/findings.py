"""What a study found: a table, sentences, and numbers held against what is known."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.npz import replacing
from ctsa.results.text import columns

MOST = 100  # rows that are printed; a file of values has all


@dataclass(frozen=True)
class Check:
    """A number that was found, against what is known of it.

    Attributes:
        what: the quantity, in words.
        found: its value.
        wanted: what is known.
        within: how far apart they may be; for "at least" and "at most" on the wrong side.
        relation: "about", "at least" or "at most".
        source: where it is known from: a theorem, a closed form, a paper.
    """

    what: str
    found: float
    wanted: float
    within: float = 0.0
    relation: str = "about"
    source: str = ""

    @property
    def passed(self) -> bool:
        """Whether it agrees; nan does not."""
        off = self.found - self.wanted
        off = {"about": abs(off), "at least": -off, "at most": off}[self.relation]
        return bool(off <= self.within)

    def __str__(self) -> str:
        bar = f" +- {self.within:.2g}" if self.within else ""
        relation = "" if self.relation == "about" else f"{self.relation} "
        source = f"; {self.source}" if self.source else ""
        word = "agrees" if self.passed else "DIFFERS"
        return f"{word:8}{self.what}: {_digits(self.found, self.within)}, known {relation}{self.wanted:.8g}{bar}{source}"


def _digits(value: float, within: float) -> str:
    """Write a number to one digit below what matters."""
    if not (math.isfinite(value) and value and within):
        return f"{value:.8g}"
    return f"{value:#.{min(max(math.ceil(math.log10(abs(value) / within)) + 2, 3), 15)}g}"


@dataclass(frozen=True)
class Findings(Result):
    """What an experiment found.

    Attributes:
        name: of the experiment.
        title: what it asks.
        rows: columns of a table by name, lists of equal length.
        notes: sentences, each with its numbers.
        settings: what it was run with.
        checks: numbers held against what is known, the attributes of ``Check`` each.
        source: the paper, where there is one.
    """

    name: str
    title: str
    rows: dict[str, list]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    checks: tuple[dict[str, Any], ...] = ()
    source: str = ""
    _static: ClassVar[tuple[str, ...]] = ("name", "title", "rows", "notes", "settings", "checks", "source")

    @property
    def checked(self) -> list[Check]:
        """The checks."""
        return [Check(**check) for check in self.checks]

    @property
    def passed(self) -> bool:
        """Whether all checks agree."""
        return all(check.passed for check in self.checked)

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table."""
        return np.array(self.rows[name])

    def where(self, **values: Any) -> dict[str, np.ndarray]:
        """Return the rows in which columns have these values."""
        keep = np.ones(len(next(iter(self.rows.values()))), bool)
        for name, value in values.items():
            keep &= self.column(name) == value
        return {name: np.array(column)[keep] for name, column in self.rows.items()}

    def table(self) -> str:
        """Return the rows as text, the first 100 of them, the notes, and the checks."""
        shown = [[_shown(v) for v in row] for row in zip(*self.rows.values(), strict=True)]
        checks = [str(check) for check in self.checked]
        return "\n".join([columns(list(self.rows), shown, MOST), "", *self.notes, *([""] if checks else []), *checks])

    def write(self, folder: Path) -> None:
        """Write the findings, their table and their picture into a folder, which is made if need be.

        Each file appears whole or not at all.
        """
        import matplotlib.pyplot as plt

        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / f"{self.name}.npz")
        self.write_csv(folder / f"{self.name}.csv")
        figure = np.ravel(self.plot())[0].figure
        try:
            with replacing(folder / f"{self.name}.png") as stream:
                figure.savefig(stream, dpi=200, format="png")
        finally:
            plt.close(figure)

    def write_csv(self, path: Path) -> None:
        """Write the rows as comma-separated values."""
        with replacing(path) as raw:
            stream = io.TextIOWrapper(raw, "utf-8", newline="")
            writer = csv.writer(stream)
            writer.writerow(self.rows)
            writer.writerows(zip(*self.rows.values(), strict=True))
            stream.detach()

    def _restored(self) -> Any:
        return replace(self, notes=tuple(self.notes), checks=tuple(self.checks))

    def __repr__(self) -> str:
        return f"Findings({self.name}: {self.title}; {len(next(iter(self.rows.values()), []))} rows)"

    def plot(self, axes=None, **kwargs):
        """Draw the picture of the study; return the ``Axes``."""
        from .names import module_of

        draw = getattr(import_module(module_of(self.name)), "draw", None)
        if draw is None:
            draw = picture(f"experiments.{self.name.replace('-', '_')}")
        return draw(self, axes=axes, **kwargs)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_table(rows: Sequence[dict[str, Any]]) -> dict[str, list]:
    """Return columns by name of one dict a row; what a row lacks is nan."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [_plain(row.get(key, float("nan"))) for row in rows] for key in names}


def as_checks(checks: Sequence[Check]) -> tuple[dict[str, Any], ...]:
    """Return checks as findings hold them."""
    return tuple({key: _plain(value) for key, value in asdict(check).items()} for check in checks)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
