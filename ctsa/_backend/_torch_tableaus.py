"""The adaptive methods of torchdiffeq as tables of numbers."""

import importlib
from functools import cache
from typing import NamedTuple

import numpy as np

from ._interpolants import MEASURES, polynomials

ORDERS = {"dopri5": 5, "dopri8": 8, "bosh3": 3, "heun": 2, "adaptive_heun": 2, "fehlberg2": 2}


class Tableau(NamedTuple):
    """Stage times ``c`` (s,), rows ``a`` (s, s), weights of step and error (s,); whether the last slope is the next.

    ``within`` (s, p) are polynomials of states inside a step, ``measure`` (s,) weighs their error, see ``_interpolants``.
    """

    c: np.ndarray
    a: np.ndarray
    step: np.ndarray
    error: np.ndarray
    fsal: bool
    within: np.ndarray
    measure: np.ndarray | None

    def shares(self, times: np.ndarray, h: float) -> np.ndarray:
        """Return the weights ``(m, s)`` of the slopes for states at ``times`` after the start of a step of length ``h``."""
        powers = (times[:, None] / h) ** np.arange(1, self.within.shape[1] + 1)
        return h * powers @ self.within.T


@cache
def tableau(name: str) -> Tableau:
    """Return the tableau that torchdiffeq has for a method."""
    if name in ("heun", "adaptive_heun"):
        c, rows, step, error = [1.0], [[1.0]], [0.5, 0.5], [0.5, -0.5]
    else:
        t = importlib.import_module("torchdiffeq._impl.odeint").SOLVERS[name].tableau
        c, rows, step, error = ([r.tolist() for r in t.beta] if k == 1 else t[k].tolist() for k in range(4))
    s = len(step)
    a = np.zeros((s, s))
    for i, row in enumerate(rows):
        a[i + 1, : len(row)] = row
    fsal = step[-1] == 0 and np.array_equal(step, a[-1])
    within = polynomials(name, tuple(step))
    return Tableau(np.array([0.0, *c]), a, np.array(step), np.array(error), bool(fsal), within, MEASURES.get(name))
