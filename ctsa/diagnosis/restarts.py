"""Runs from other starts with the same inputs: does the end depend on the input, or on the start?"""

from typing import NamedTuple

import numpy as np

from ctsa.layers.iteration import passed
from ctsa.motion import projection
from ctsa.results.base import as_numpy

from .passing import Passed, norm

_POINTS = 16  # of paths that are kept


class Restarts(NamedTuple):
    """Where restarts end.

    Attributes:
        spread: distance from where the run itself ends, relative ``(members,)``.
        agree: share that ends there.
        paths: on the way ``(point, coordinate, restart, member)``; None without restarts.
        sums: over members, for the share of variance between inputs.
    """

    spread: np.ndarray
    agree: np.ndarray
    paths: np.ndarray | None
    sums: np.ndarray


def restarted(p: Passed) -> Restarts:
    """Run every member from other starts, and compare where they end."""
    r, members, size = p.plan.restarts, p.members, p.last[0].size
    if not r:
        unknown = np.full(members, np.nan)
        return Restarts(unknown, unknown, None, np.full(3 + size, np.nan))
    draws = starts(p)
    every = next(e for e in range(1, p.plan.loops + 1) if p.plan.loops % e == 0 and p.plan.loops // e <= _POINTS)
    xs = passed(p.maps(), p.like(draws), p.plan.loops, every)
    xs = np.concatenate([draws[None], as_numpy(xs).astype(np.float64)])
    with np.errstate(invalid="ignore", over="ignore"):
        far = norm(xs[-1] - p.last) / (norm(p.last) + 1e-300)  # (restarts, members)
        spread = (far**2).mean(0) ** 0.5
        agree = (far < max(p.plan.tolerance, 100 * p.noise)).mean(0)
        every_end = np.concatenate([xs[-1], p.last[None]]).reshape(r + 1, members, -1)
        mean = every_end.mean(0)
        within = ((every_end - mean) ** 2).sum((0, 2)) / r
        paths = np.moveaxis(xs.reshape(len(xs), r, members, -1) @ projection(size), -1, 1)
    fine = np.isfinite(mean).all(-1) & np.isfinite(within)
    sums = [fine.sum(), (mean[fine] ** 2).sum(), within[fine].sum()]
    spread = np.where(np.isfinite(spread), spread, np.inf)
    return Restarts(spread, agree, paths, np.concatenate([sums, mean[fine].sum(0)]))


def starts(p: Passed) -> np.ndarray:
    """Draw starts ``(restarts, members, n, d)``: on curved parts at random, in flat ones as those of the batch are."""
    n, d = p.x.shape[-2:]
    g, packing, r = p.system.geometry, p.packing, p.plan.restarts
    # Every member has a stream of its own, whatever the chunk that it is in.
    streams = (np.random.default_rng([p.plan.seed, p.first + i]) for i in range(p.members))
    drawn = np.stack([np.asarray(g.random(n, d, stream, (r,))) for stream in streams], 1)
    if packing is None or not packing.shapes:
        mean, spread = p.given["x"]
        return mean + spread * drawn if g.flat else drawn
    parts = []
    for name, a, home in zip(packing.names, packing.columns(drawn).values(), packing.geometries, strict=True):
        mean, spread = p.given[name]
        a = mean + spread * a if home.flat else a
        parts.append(a if packing.below else a.reshape(*a.shape[:-2], 1, -1))
    return np.concatenate(parts, -2 if packing.below else -1)


def moments(x: np.ndarray) -> tuple[float, float]:
    """Return mean and spread of numbers; the spread is not 0."""
    return float(x.mean()), float(x.std()) or float(np.sqrt((x**2).mean())) or 1.0


