"""Rules by which loop models stop early: the loop at which each fires, and the error that it leaves."""

from typing import Any

import numpy as np

from ctsa import checks

# Thresholds: Huginn's for the first order, KL and argmax; 2509.23314's idea, twice below, for the second order.
RULES = {"first order": 0.03, "second order": 0.03, "cosine": 1e-3, "kl": 1e-3, "argmax": 5.0}
_OF_READOUT = ("kl", "argmax")


def rules_of(given: Any, readout: bool) -> dict[str, float]:
    """Return the rules and their thresholds: the usual ones, or those of ``exits=``."""
    if given is None:
        return {name: value for name, value in RULES.items() if readout or name not in _OF_READOUT}
    if not isinstance(given, dict):
        raise TypeError(f"exits must be a dict of rules and thresholds, got {type(given).__name__}")
    for name in given:
        checks.choice("exits", name, RULES)
        if name in _OF_READOUT and not readout:
            raise ValueError(f"exits: {name!r} looks at a readout, and there is none: readout=")
    return {name: checks.number(f"exits[{name!r}]", value, low=0.0, strict=True) for name, value in given.items()}


def fired(rules: dict[str, float], series: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the loop after which each rule stops first, ``(members,)``; nan where it never does.

    Args:
        rules: thresholds by name.
        series: what each rule looks at, ``(loops, members)``, nan where it is not known.
    """
    found = {}
    for name, threshold in rules.items():
        with np.errstate(invalid="ignore"):
            if name == "argmax":  # as often the same in a row
                below = series[name] >= threshold
            else:
                below = series[name] < threshold
        if name == "second order":  # twice in a row
            below = below & np.concatenate([np.zeros_like(below[:1]), below[:-1]])
        found[name] = np.where(below.any(0), 1.0 + below.argmax(0), np.nan)
    return found


def of_states(steps: np.ndarray, turned: np.ndarray, cosines: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the rules for states look at, from relative steps, their differences, and cosines between states."""
    return {"first order": steps, "second order": turned, "cosine": 1 - cosines}


class Readouts:
    """Follows the readout loop after loop: how far its distribution moves, and for how long its argmax stays."""

    def __init__(self):
        self.before: Any = None
        self.kl: list[np.ndarray] = []
        self.same: list[np.ndarray] = []
        self.change: list[np.ndarray] = []
        self.size: list[np.ndarray] = []

    def add(self, y: np.ndarray) -> None:
        """Take the readout ``(members, ..., classes)`` after one more loop, the start first."""
        y = np.asarray(y, dtype=float)
        y = y.reshape(len(y), -1, y.shape[-1] if y.ndim > 1 else 1)
        now = (y, _log_softmax(y), y.argmax(-1))
        self.size.append(np.linalg.norm(y, axis=(1, 2)))
        if self.before is not None:
            old, log_p, best = self.before
            self.kl.append((np.exp(log_p) * (log_p - now[1])).sum(-1).mean(-1))
            kept = (best == now[2]).all(-1)
            self.same.append(np.where(kept, (self.same[-1] if self.same else 0) + 1, 0))
            self.change.append(np.linalg.norm(y - old, axis=(1, 2)) / (self.size[-1] + 1e-300))
        self.before = now


def _log_softmax(y: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax

    return np.asarray(log_softmax(y, -1))
