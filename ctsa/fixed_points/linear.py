"""How a layer acts near its fixed points: multipliers with errors, stability, and how far off a point still is."""

from typing import Any, NamedTuple

import numpy as np

from ctsa.geometry import Geometry
from ctsa.tangent.jacobians import DENSE
from ctsa.tangent.leading_modes import leading

from ._map import Map, lengths
from ._newton import RANK

_CHUNK = 8  # points linearised at a time: numbers of points share one compiled program
_SLACK = 30  # how many times its rounding a Jacobian may be off
_REST = 4  # at a degenerate point one Newton step changes the Jacobian by a part of what it is off by: half at a fold

_LOOSE = 1e-6  # an error of a multiplier above this, relative to the Jacobian's norm, is looked at again where it decides


class Linear(NamedTuple):
    """What holds near points ``(P, n, d)``.

    ``multipliers`` ``(P, k)``, by modulus, descending, and their errors; ``errors`` ``(P,)``: how far each point may be
    from the exact one, nan if not known; ``complete``: whether these are all multipliers.
    """

    multipliers: np.ndarray
    slack: np.ndarray
    errors: np.ndarray
    complete: bool

    def take(self, rows: Any) -> "Linear":
        """Return what holds near some of the points."""
        return Linear(self.multipliers[rows], self.slack[rows], self.errors[rows], self.complete)


NOTHING = Linear(np.zeros((0, 1), complex), np.zeros((0, 1)), np.zeros(0), True)


def linearise(layer: Any, g: Geometry, x: Any, period: int, floor: float, count: int) -> Linear:
    """Linearise ``f^p`` at points ``(P, n, d)`` of a framework, which have been checked.

    The multipliers' errors are those that the Jacobian's make of them, by the condition of each eigenvalue: its
    rounding, and how it differs at the point where one more Newton step leads.
    """
    n, d = x.shape[-2:]
    if n * d > DENSE and count < n * d - 1:
        return _by_products(layer, g, x, period, floor, count)
    parts = []
    for first in range(0, len(x), _CHUNK):
        rows = np.minimum(np.arange(first, first + _CHUNK), len(x) - 1)
        parts.append([a[: len(x) - first] for a in _dense(Map(layer, g, x[rows], period), floor)])
    multipliers, slack, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Linear(multipliers, slack, errors, True)


def _dense(f: Map, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = f.outside(f.like)
    e, j = f.jacobian(x)
    j = np.where(np.isfinite(j), j, 0.0)
    off = (e.swapaxes(-1, -2) @ (f(x) - x)[..., None]).reshape(len(x), -1, 1)
    s = -(np.linalg.pinv(j - np.eye(j.shape[-1]), rcond=RANK) @ off).reshape(*x.shape[:2], -1, 1)
    step = (e @ s)[..., 0]
    other = f.jacobian(f.point(np.asarray(f.geometry.exp(x, step)), x))[1]
    size = np.linalg.norm(j, 2, axis=(1, 2))
    # Bases at two points differ; singular values do not depend on them, and differ by no more than the matrices.
    values = [np.linalg.svd(a, compute_uv=False) for a in (j, np.where(np.isfinite(other), other, 0.0))]
    doubt = _SLACK * max(f.eps, floor / 30) * np.maximum(size, 1.0) + _REST * np.abs(values[0] - values[1]).max(1)
    multipliers, right = np.linalg.eig(j)
    try:
        condition = np.linalg.norm(right, axis=1) * np.linalg.norm(np.linalg.inv(right), axis=2)
    except np.linalg.LinAlgError:
        condition = np.full(multipliers.shape, np.inf)
    slack = np.minimum(condition * doubt[:, None], np.maximum(size, doubt)[:, None])
    for i in np.flatnonzero(((np.abs(np.abs(multipliers) - 1) <= slack) & (slack > _LOOSE * size[:, None])).any(1)):
        slack[i] = np.minimum(slack[i], _moved(j[i], multipliers[i], float(doubt[i])))
    order = np.lexsort((-multipliers.imag, -np.abs(multipliers).round(12)), axis=-1)
    multipliers, slack = (np.take_along_axis(a, order, 1) for a in (multipliers.astype(complex), slack))
    return multipliers, slack, lengths(step)


def _moved(j: np.ndarray, values: np.ndarray, doubt: float) -> np.ndarray:
    """Return how far random perturbations of norm ``doubt`` move eigenvalues that are defective, or nearly ``(m,)``."""
    rng, moved = np.random.default_rng(0), np.zeros(len(values))
    for _ in range(3):
        e = rng.normal(size=j.shape)
        others = np.linalg.eigvals(j + doubt / np.linalg.norm(e, 2) * e)
        moved = np.maximum(moved, np.abs(values[:, None] - others).min(1))
    return 3 * moved + doubt


class _Power:
    """``f^p`` as one callable."""

    def __init__(self, layer: Any, period: int):
        self.layer, self.period, self.home = layer, period, getattr(layer, "home", layer)

    def __call__(self, x):
        for _ in range(self.period):
            x = self.layer(x)
        return x


def _by_products(layer: Any, g: Geometry, x: Any, period: int, floor: float, count: int) -> Linear:
    """Leading multipliers by ARPACK; nan where it does not converge."""
    values, slack = np.full((len(x), count), np.nan + 0j), np.full((len(x), count), np.nan)
    system = layer if period == 1 else _Power(layer, period)
    for i in range(len(x)):
        try:
            found = leading(system, x[i], count, which="modulus", geometry=g)
        except RuntimeError:
            continue
        values[i], slack[i] = found.values, found.residuals + floor * max(1.0, float(np.abs(found.values).max()))
    return Linear(values, slack, np.full(len(x), np.nan), False)


def stabilities(linear: Linear, modes: np.ndarray) -> np.ndarray:
    """Return "stable", "neutral", "unstable" or "not known" of every point, within the errors of the multipliers.

    Args:
        linear: what holds near the points.
        modes: dimension of the families that symmetries make of each: so many multipliers are 1 and do not count.
    """
    over = np.abs(linear.multipliers) - 1
    growing, still = (over > linear.slack).any(1), (np.abs(over) <= linear.slack).sum(1)
    known = np.isfinite(over).all(1)
    return np.where(~known, "not known", np.where(growing, "unstable", np.where(still > modes, "neutral", "stable")))
