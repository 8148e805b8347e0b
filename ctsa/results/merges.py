"""Which tokens met when."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .base import Result, picture
from .text import lines


@dataclass(frozen=True)
class Merges(Result):
    """Mergers of tokens along a flow, see ``ctsa.integrate(..., merge=True)``. A cluster is named by its first token.

    Attributes:
        times: when two clusters met, ``(m,)``, increasing: when their distance was ``gap``.
        joined: which ones, ``(m, 2)``: the cluster that goes on, and the one that is part of it from then on.
        labels: cluster of every token at every output, ``(T, n)``.
        gap: distance at which tokens have met.
        apart: the largest distance that merged tokens would have had by the bound on their inner modes.
    """

    times: Any
    joined: Any
    labels: Any
    gap: float
    apart: float
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "times": ("merger",), "joined": ("merger", "cluster"), "labels": ("time", "token"),
    }  # fmt: skip
    _units: ClassVar[dict[str, str]] = {"times": "units of time"}

    def __repr__(self) -> str:
        return f"Merges({len(self.times)} mergers, {int(self.counts[-1])} clusters at the end)"

    @property
    def counts(self) -> np.ndarray:
        """The number of clusters at every output, ``(T,)``."""
        labels = np.asarray(self.labels)
        return (labels == np.arange(labels.shape[-1])).sum(-1)

    def sizes(self, index: int = -1) -> np.ndarray:
        """Return the numbers of tokens of all clusters at an output, in the order of their names."""
        return np.unique(np.asarray(self.labels)[index], return_counts=True)[1]

    def plot(self, ax=None):
        """Draw the number of clusters against time and return the ``Axes``."""
        return picture("tokens.mergers")(self, ax=ax)

    def table(self) -> str:
        """Return the number of mergers, of clusters left, and the first and last times as text."""
        rows: list[tuple[str, Any]] = [("mergers", len(self.times)), ("clusters at the end", int(self.counts[-1]))]
        if len(self.times):
            rows += [("times", f"{self.times[0]:.4g} ... {self.times[-1]:.4g}")]
        return lines(rows)


def labels_at(ts: np.ndarray, times: np.ndarray, pairs: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of each of ``n`` tokens at ``ts`` ``(T, n)``, and the names of clusters that joined ``(m, 2)``.

    Args:
        ts: output times, increasing.
        times: of mergers, increasing.
        pairs: a token of each cluster, ``(m, 2)``.
        n: number of tokens.
    """
    now, done = np.arange(n), 0
    labels, joined = np.empty((len(ts), n), int), np.empty((len(times), 2), int)
    for k, t in enumerate(ts):
        while done < len(times) and times[done] <= t:
            joined[done] = kept, lost = sorted(now[pairs[done]])
            now = np.where(now == lost, kept, now)
            done += 1
        labels[k] = now
    return labels, joined[:done]
