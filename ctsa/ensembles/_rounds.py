"""Starts followed round by round, those that have arrived leaving, and kept in a file: for flows and layers alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctsa._backend._solve import progress_bar
from ctsa.results.checkpoints import Checkpoint
from ctsa.results.identity import Identity

from ._limits import UNKNOWN, UNRESOLVED

Array = Any
LOOKS = 6  # how often the states are looked at, at times that double
CLOSE = 1e3  # Newton's method takes over at this many times the speed that counts as rest


class GaveUp(RuntimeError):
    """The solver could not go on; ``rows`` holds what was known by then."""

    def __init__(self, message: str, rows: dict[str, np.ndarray]):
        super().__init__(message)
        self.rows = rows


class Rounds:
    """Many starts on their way; ``rows`` has a column for each of the arrays of ``ctsa.Basins``.

    A kind of run gives ``_round``, which advances some rows to a time; ``looks``, the times; and ``settings``, which
    tell it from other runs.
    """

    field: Any
    duration: float
    batch: int

    def __init__(self, x: np.ndarray):
        count, n, _ = x.shape
        self.kept = Checkpoint(None, "basins")
        self.rows: dict[str, np.ndarray] = dict(
            ends=x, kind_index=np.full(count, UNRESOLVED), eigenvector=np.full(count, -1), overlap=np.zeros(count),
            sizes=np.zeros((count, n), int), stability_index=np.full(count, UNKNOWN), growth=np.full(count, np.nan),
            speed=np.full(count, np.nan), times=np.zeros(count), rounds=np.zeros(count, int),
            period=np.zeros(count, int),
        )  # fmt: skip

    def looks(self) -> Sequence[float]:
        """Return the times at which states are looked at."""
        return (self.duration * 0.5 ** np.arange(LOOKS - 1, -1, -1)).tolist()

    def settings(self) -> tuple:
        """Return what tells this run from others of the same system and starts."""
        raise NotImplementedError

    def columns(self) -> dict[str, np.ndarray]:
        """Return what is known."""
        raise NotImplementedError

    def _round(self, rows: np.ndarray, end: float, number: int) -> None:
        raise NotImplementedError

    def _put(self, rows: np.ndarray, new: dict[str, np.ndarray]) -> None:
        """Write what is new of some rows: at once, so that an interrupt finds a batch done or not begun."""
        whole = {name: values.copy() for name, values in self.rows.items()}
        for name, values in new.items():
            whole[name][rows] = values
        self.rows = whole

    # ------------------------------------------------------------------------------------------------------- the run
    def go(self, progress: bool) -> None:
        """Go through all rounds, batch by batch."""
        bar = progress_bar(float(len(self.rows["kind_index"]))) if progress else None
        ends = self.looks()
        try:
            with self.kept:
                for number, end in enumerate(ends, 1):
                    # Those on their way when the round began; an interrupted round is cut into the same batches.
                    active = np.flatnonzero((self.rows["kind_index"] == UNRESOLVED) | (self.rows["rounds"] >= number))
                    for first in range(0, len(active), self.batch):
                        rows = active[first : first + self.batch]
                        if (self.rows["rounds"][rows] >= number).all():
                            continue
                        self._round(rows, end, number)
                        self.kept.offer(self.rows)
                        if bar is not None:
                            arrived = int((self.rows["kind_index"] != UNRESOLVED).sum())
                            bar.update(arrived - bar.n)
                            bar.set_postfix_str(f" {arrived} have arrived by t={end:g}")
        finally:
            if bar is not None:
                bar.close()

    def keep_in(self, path: Any, allow_unverified: bool) -> None:
        """Keep the run in a file, and continue from what is there."""
        identity = Identity(field=self.field, starts=self.rows["ends"], settings=self.settings())
        self.kept = Checkpoint(path, "basins", identity, allow_unverified=allow_unverified)
        state = self.kept.load(*self.rows)
        if state is not None:
            self.rows = {name: state.arrays[name] for name in self.rows}
