"""What training returns."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import lines

from .watching import SERIES


@dataclass(frozen=True)
class TrainingRun(Result):
    """A model that was trained, and how it went.

    Attributes:
        model: the model, with averaged weights where an average was kept; files of a run keep it apart.
        losses: cross entropy of every step's batch, ``(steps,)``, before the step.
        rates, gradients, layers: of every step, its learning rate, the norm of the gradient before clipping, and the layers
            (or units of time) that it took.
        penalties: value, times weight, of every regulariser at every step, ``(steps, penalties)``; nan where not due.
        validated: steps after which accuracy was measured.
        accuracy: on validation data, at the depth of training, after these.
        watched: steps after which ``watch`` was asked.
        largest, mean, asymptotic, norm, oscillating, energy, contribution: what it said, means over samples; nan where it
            was not asked, see ``Watched``.
        settings: as a dict.
        task: name of the data.
        seconds: of training, without what came before a resume.
        diverged: step at which loss or gradient was nan or inf, or the step of the layers no longer positive, where the
            run ended; None.
    """

    model: Any
    losses: Any
    rates: Any
    gradients: Any
    layers: Any
    penalties: Any
    validated: Any
    accuracy: Any
    watched: Any
    largest: Any
    mean: Any
    asymptotic: Any
    norm: Any
    oscillating: Any
    energy: Any
    contribution: Any
    settings: dict[str, Any]
    task: str
    seconds: float
    diverged: int | None
    _static: ClassVar[tuple[str, ...]] = ("settings", "task", "seconds", "diverged")
    _code: ClassVar[tuple[str, ...]] = ("model",)
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("losses", "rates", "gradients", "layers"), ("step",)), "penalties": ("step", "penalty"),
        **dict.fromkeys(("validated", "accuracy"), ("validation",)),
        **dict.fromkeys(("watched", *SERIES), ("watch",)),
    }  # fmt: skip

    def __repr__(self) -> str:
        end = "" if not len(self.accuracy) else f", validation accuracy {self.accuracy[-1]:.3f}"
        broken = "" if self.diverged is None else f", diverged at step {self.diverged}"
        tail = float(np.mean(self.losses[-50:])) if len(self.losses) else float("nan")
        return f"TrainingRun({self.task}, {len(self.losses)} steps: loss {tail:.4g}{end}{broken})"

    def table(self) -> str:
        """Return steps, losses and accuracy as text."""
        rows: list[tuple[str, Any]] = [("task", self.task), ("steps", len(self.losses)), ("seconds", f"{self.seconds:.1f}")]
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            if len(self.losses):
                at = min(int(share * len(self.losses)), len(self.losses) - 1)
                rows.append((f"loss around step {at}", f"{np.mean(self.losses[max(0, at - 10) : at + 10]):.4g}"))
        rows += [(f"accuracy at step {s}", f"{a:.3f}") for s, a in zip(self.validated, self.accuracy, strict=True)]
        return lines(rows)

    def plot(self, axes=None, **kwargs):
        """Draw loss, accuracy and what was watched against steps; return the ``Axes``."""
        return picture("training.run")(self, axes=axes, **kwargs)
