"""Anderson acceleration of many states side by side, on any geometry.

With residuals ``r = f(x) - x`` and the last m differences ``dX, dR`` of points and residuals, the next point is::

    x + r - (dX + dR) c,     c = argmin |r - dR c|,

retracted. It needs no derivative, and finds points that repel as well as those that attract. A step that makes the
residual much larger is not taken, but what was seen there is kept: it tells the next step more.
"""

from typing import NamedTuple

import numpy as np

from ._map import Map, lengths

_WORSE = 2.0  # how much larger than the best one the residual of the next point may be
_PATIENCE = 60  # evaluations in which the best residual must halve
_REFUSED = 12  # steps in a row that are not taken, after which it is stuck
_RANK = 1e-12  # singular values below this share of the largest count as zero


class Path(NamedTuple):
    """States, their images, and ``(B,)``: ``|y - x|``, that of the worst token, and the length of the longest token."""

    x: np.ndarray
    y: np.ndarray
    off: np.ndarray
    worst: np.ndarray
    size: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """The relative residual ``(B,)``."""
        return self.worst / self.size

    def where(self, chosen: np.ndarray, other: "Path") -> "Path":
        """Return this path for the chosen members, another one for the rest."""
        pairs = zip(self, other, strict=True)
        return Path(*(np.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def visit(f: Map, x: np.ndarray, least: np.ndarray) -> Path:
    """Evaluate the map at states ``(B, n, d)``; ``least`` is the shortest length that residuals are relative to."""
    y = f(x)
    with np.errstate(all="ignore"):
        off, size = np.sqrt(((y - x) ** 2).sum((1, 2))), np.maximum(np.maximum(lengths(x), lengths(y)), least)
        worst = lengths(y - x)
    size = np.where(np.isfinite(size) & (size > 0), size, 1.0)
    return Path(x, y, np.where(np.isfinite(off), off, np.inf), worst, size)


def accelerate(
    f: Map, here: Path, least: np.ndarray, tol: np.ndarray, most: int, memory: int
) -> tuple[Path, np.ndarray]:
    """Go on from states until their residual is below ``tol``, or hardly falls.

    Args:
        f: the map.
        here: where to begin.
        least: see ``visit``.
        tol: residual ``(B,)`` at which a member has arrived.
        most: evaluations at most.
        memory: m, differences that are kept.

    Returns:
        the best point of every member, and how many evaluations each took ``(B,)``.
    """
    count, size = len(here.x), here.x[0].size
    points, residuals = np.zeros((count, memory, size)), np.zeros((count, memory, size))
    taken, mark, since = np.zeros(count, int), here.off, np.zeros(count, int)
    refused = np.zeros(count, int)
    best, going = here, np.isfinite(here.off) & (here.residual > tol)
    for k in range(most):
        if not going.any():
            break
        x = f.point(here.x + _step(here, points, residuals), here.y)
        new = visit(f, np.where(going[:, None, None], x, here.x), least)
        taken += going
        seen = going & np.isfinite(new.off)
        slot = k % memory
        with np.errstate(all="ignore"):
            moved, bent = new.x - here.x, (new.y - new.x) - (here.y - here.x)
        points[seen, slot], residuals[seen, slot] = moved.reshape(count, -1)[seen], bent.reshape(count, -1)[seen]
        good = seen & (new.off <= _WORSE * best.off)
        here, refused = new.where(good, here), np.where(good, 0, refused + 1)
        best = here.where(here.off < best.off, best)
        halved = best.off < 0.5 * mark
        mark, since = np.where(halved, best.off, mark), np.where(halved, 0, since + 1)
        going &= (best.residual > tol) & (since < _PATIENCE) & (refused < _REFUSED)
    return best, taken


def _step(here: Path, points: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return the step of every member, no token of which is longer than the longest one is, or than ``r``."""
    r = (here.y - here.x).reshape(len(here.x), -1)
    r = np.where(np.isfinite(r), r, 0.0)
    size = np.linalg.norm(residuals, axis=-1)
    unit = residuals / np.where(size > 0, size, 1.0)[..., None]
    q, upper = np.linalg.qr(unit.swapaxes(-1, -2))  # (B, n d, m), (B, m, m)
    c = (np.linalg.pinv(upper, rcond=_RANK) @ (q.swapaxes(-1, -2) @ r[..., None]))[..., 0]
    c = c / np.where(size > 0, size, 1.0)
    step = r - (c[:, None, :] @ (points + residuals))[:, 0]
    step = step.reshape(here.x.shape)
    most = np.maximum(lengths(here.x), lengths(here.y - here.x))
    share = np.minimum(1.0, most / np.maximum(lengths(step), 1e-300))
    return np.where(np.isfinite(share), share, 0.0)[:, None, None] * step
