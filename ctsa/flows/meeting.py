"""When tokens have met, and whether they would stay together."""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from ctsa._backend import backend
from ctsa.derivatives import pushforward

Array = Any
ALL, NEAREST = 64, 12  # up to this many tokens every pair is watched; of more, each token's nearest ones
DEEP = 1e-2  # share of the gap at which a pair does not wait for others
CHANGE = 0.25  # of a token's place, squared, after which the inner exponents are looked at again


class Watch(NamedTuple):
    """What ends a segment: enough pairs that have met, or tokens at other places.

    Attributes:
        other: numbers of the tokens that each is watched with ``(p, k)``; None: with all.
        counts: 1 for pairs that may meet ``(p, k)``, else 0.
        start: the state at the start of the segment ``(p, d)``.
        reach: squared distance from there that ends the segment.
        gap: distance at which tokens have met.
        batch: tokens that must have met.
    """

    other: Array | None
    counts: Array
    start: Array
    reach: Array
    gap: Array
    batch: Array


def watch_of(x: np.ndarray, living: int, gap: float, always: bool, like: Any) -> Watch:
    """Return what to look for from a state ``(p, d)`` on, whose first ``living`` tokens are there.

    Pairs within the gap that were not merged are left out: they part, or are in danger of it.
    """
    p = len(x)
    other = None
    if p > ALL:  # tokens that are not there have themselves as others
        other = np.arange(p)[:, None] + np.zeros((1, NEAREST), int)
        if living > NEAREST:
            other[:living] = cKDTree(x[:living]).query(x[:living], NEAREST + 1)[1][:, 1:]
        else:
            other[:living] = np.arange(NEAREST)
    far = np.arange(p)[None] + np.zeros((p, 1), int) if other is None else other
    d2 = ((x[:, None] - x[far]) ** 2).sum(-1)
    there = (far < living) & (np.arange(p)[:, None] < living) & (far != np.arange(p)[:, None])
    counts = there & (d2 > gap**2)
    reach = CHANGE if always or living > ALL else np.inf
    batch = 2 if living <= ALL else living // 8
    be = backend(like)
    arrays = (be.like(np.asarray(a, float), like) for a in (counts, x, reach, gap, batch))
    return Watch(None if other is None else be.xp.asarray(other), *arrays)


def met(field: Any, geometry: Any, watch: Watch, s: Array, state: tuple) -> Array:
    """Tell whether a segment ends: enough tokens have met and still approach each other, or they are at other places."""
    x = geometry.retract(state[0])
    v = field(s, x)
    y, w = (x[None], v[None]) if watch.other is None else (x[watch.other], v[watch.other])
    apart = x[:, None] - y
    d2 = (apart * apart).sum(-1)
    closing = (apart * (v[:, None] - w)).sum(-1) < 0
    near = closing & (watch.counts > 0) & (d2 <= watch.gap**2)
    enough = near.any(-1).sum() >= watch.batch
    deep = (near & (d2 <= (DEEP * watch.gap) ** 2)).any()
    return enough | deep | (((x - watch.start) ** 2).sum(-1) > watch.reach).any()


def standing(living: Array, field: Any, t: Array, x: Array) -> Array:
    """Return the velocity, which is zero for tokens that are not there: ``living`` ``(p, 1)`` is 1 or 0."""
    return living * field(t, x)


def inner_motion(field: Any, geometry: Any, t: Array, x: Array) -> tuple[Array, Array]:
    """Return velocities, and how a token without mass moves relative to each place: ``(p, r, r)`` in a basis there.

    These are the inner modes of a cluster at that place, ``beta P V C A^T P - phi``.

    Args:
        field: that of ``2 p`` tokens, of which the last ``p`` have the mass 0.
        geometry: where tokens live.
        t: time.
        x: state ``(p, d)``.
    """
    xp, e = backend(x).xp, geometry.basis(x)
    u = xp.moveaxis(e, -1, 0)
    f, df = pushforward(field, t, xp.concatenate([x, x]), xp.concatenate([0 * u, u], 1))
    return f[: len(x)], e.mT @ xp.moveaxis(df[:, len(x) :], 0, -1)


def inner_rates(motion: np.ndarray) -> np.ndarray:
    """Return how fast distances within a cluster may grow at each place, the numerical abscissa: ``(p,)``."""
    return np.linalg.eigvalsh(0.5 * (motion + np.swapaxes(motion, -1, -2)))[:, -1]


def any_near(x: np.ndarray, gap: float) -> bool:
    """Tell whether two of the tokens ``(q, d)`` are within the gap."""
    return len(x) > 1 and bool((cKDTree(x).query(x, 2)[0][:, 1] <= gap).any())


class Meeting(NamedTuple):
    """Pairs of tokens that have met, as few as connect them, and what they belong to.

    Attributes:
        pairs: ``(m, 2)``.
        distances: ``(m,)``.
        before: how long ago each was at the gap, ``(m,)``, from the rate of approach.
        groups: number of the new cluster of each token, in the order of their first ones.
    """

    pairs: np.ndarray
    distances: np.ndarray
    before: np.ndarray
    groups: np.ndarray


def meetings(x: np.ndarray, v: np.ndarray, rates: np.ndarray, gap: float) -> Meeting:
    """Find tokens ``(q, d)`` within the gap that approach each other where inner modes decay, or that coincide."""
    pairs = cKDTree(x).query_pairs(gap, output_type="ndarray")
    i, j = pairs[:, 0], pairs[:, 1]
    apart = x[i] - x[j]
    d2 = (apart * apart).sum(-1)
    approach = -(apart * (v[i] - v[j])).sum(-1)
    kept = (d2 == 0) | ((approach > 0) & (np.maximum(rates[i], rates[j]) < 0))
    i, j, d2, approach = i[kept], j[kept], d2[kept], approach[kept]
    q = len(x)
    weights = np.sqrt(d2) + np.finfo(float).tiny  # zero would be no edge
    tree = minimum_spanning_tree(coo_matrix((weights, (i, j)), (q, q))).tocoo()
    labels = connected_components(tree, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    groups = np.argsort(np.argsort(first))[labels]
    at = {(a, b): k for k, (a, b) in enumerate(zip(i.tolist(), j.tolist(), strict=True))}
    chosen = np.array([at[a, b] for a, b in zip(tree.row.tolist(), tree.col.tolist(), strict=True)], int)
    d2, approach = d2[chosen], approach[chosen]
    coincide = d2 == 0
    safe, rate = np.where(coincide, 1.0, d2), np.where(coincide, 1.0, approach)
    before = np.where(coincide, 0.0, 0.5 * np.log(gap**2 / safe) * safe / rate)
    return Meeting(np.stack([i[chosen], j[chosen]], 1), np.sqrt(d2), before, groups)
