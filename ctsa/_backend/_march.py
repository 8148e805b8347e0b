"""What a long run in equal segments needs: how each segment is solved."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Segment:
    """Solver settings of one segment; ``steps`` cuts it into equal fixed steps (None: adaptive)."""

    solver: Any
    rtol: float
    atol: float
    max_steps: int
    steps: int | None

    def grid(self, interval: float) -> np.ndarray | None:
        """Return the times of the fixed steps, counted from the start of the segment."""
        return None if self.steps is None else np.linspace(0.0, interval, self.steps + 1)
