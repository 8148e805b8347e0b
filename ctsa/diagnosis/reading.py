"""What is read off the states along a run: readouts, exits, tokens, sizes."""

from typing import Any

import numpy as np

from ctsa.layers.loop import Loop
from ctsa.observables import cluster_count, effective_rank, order_parameter
from ctsa.results.base import as_numpy

from .exits import Readouts, fired, of_states
from .passing import Passed, norm
from .plan import first_of

_TOKENS = 2**22  # numbers in a map of steps by token


def readouts(p: Passed) -> tuple[Readouts | None, np.ndarray | None]:
    """Follow the readout along the run, and what ``score`` says of it, ``(loops + 1, members)``."""
    read, layer, follow, scores = p.plan.readout, first_of(p.system), Readouts(), []
    if read is None:
        return None, None
    for state in p.xs:
        x = p.like(state)
        y = read(layer.unpack(x) if isinstance(layer, Loop) else x)
        if not hasattr(y, "shape") or tuple(y.shape[:1]) != (p.members,):
            got = tuple(y.shape) if hasattr(y, "shape") else type(y).__name__
            raise ValueError(f"readout must return an array (batch, ...) with {p.members} rows, got {got}")
        follow.add(as_numpy(y))
        if p.plan.score is not None:
            value = np.asarray(as_numpy(p.plan.score(y)), dtype=float)
            if value.shape != (p.members,):
                raise ValueError(f"score must return a number an input, ({p.members},), got {value.shape}")
            scores.append(value)
    return follow, np.stack(scores) if scores else None


def exits(p: Passed, goal: np.ndarray, follow: Readouts | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the loop at which every rule fires, and how far from its end the state is then, ``(rules, members)``."""
    flat = p.xs.reshape(len(p.xs), p.members, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (flat[1:] * flat[:-1]).sum(-1) / (p.whole[1:] * p.whole[:-1])
        series = of_states(p.step / (p.whole[1:] + 1e-300), p.successive[1], cosines)
    if follow is not None:
        series |= {"kl": np.stack(follow.kl), "argmax": np.stack(follow.same)}
    loops = np.array(list(fired(p.plan.rules, series).values())).reshape(-1, p.members)
    at = np.nan_to_num(loops).astype(int)
    off = norm(p.xs[at, np.arange(p.members)] - goal) / (norm(goal) + 1e-300)
    return loops, np.where(np.isfinite(loops), off, np.nan)


def tokens(p: Passed, goal: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Return steps of tokens ``(loops, n, members)``, and after which loop each stays near its end ``(members, n)``."""
    length = np.linalg.norm(p.xs, axis=-1) + 1e-300
    with np.errstate(invalid="ignore"):
        off = ~(np.linalg.norm(p.xs - goal, axis=-1) / length <= p.plan.tolerance)  # (loops + 1, members, n)
    late = (len(p.xs) - off[::-1].argmax(0)).astype(float)
    arrived = np.where(off.any(0), np.where(off[-1], np.nan, late), 0.0)
    heat = np.linalg.norm(np.diff(p.xs, axis=0), axis=-1) / length[1:]
    keep = p.plan.tokens and heat.size <= _TOKENS and heat.shape[-1] > 1
    return (np.swapaxes(heat, 1, 2).astype(np.float32) if keep else None), arrived


def observed(p: Passed) -> tuple[Any, Any, Any]:
    """Return number of clusters, effective rank and order parameter along the run, ``(loops + 1, members)``."""
    if not p.plan.tokens or p.xs.shape[-2] < 2:
        return None, None, None
    fine = np.isfinite(p.xs).all((-2, -1)) & (p.whole > 0)
    some = np.where(fine[..., None, None], p.xs, 1.0)
    some = some / (np.linalg.norm(some, axis=-1).mean(-1)[..., None, None] + 1e-300)
    counts, rank, order = (f(some) for f in (lambda x: cluster_count(x, p.plan.gap), effective_rank, order_parameter))
    return tuple(np.where(fine, a, np.nan) for a in (counts, rank, order))  # type: ignore[return-value]


def sizes(p: Passed) -> tuple[np.ndarray, np.ndarray]:
    """Return root mean square lengths of tokens, and lengths of the mean token, of every part."""
    size = [np.sqrt((a**2).sum(-1).mean(-1)) for a in p.parts.values()]
    mean = [np.sqrt((a.mean(-2) ** 2).sum(-1)) for a in p.parts.values()]
    return np.stack(size, 1), np.stack(mean, 1)


def safe_depth(p: Passed, size: np.ndarray, follow: Readouts | None) -> np.ndarray:
    """Return the last loop up to which sizes, of states and readout, stay in the band about those of loop ``trained``.

    nan if that was not told: a loop that starts far from where it goes leaves any band about its first loops.
    """
    at = p.plan.trained
    if at is None:
        return np.full(p.members, np.nan)
    if follow is not None:
        size = np.concatenate([size, np.stack(follow.size)[:, None]], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = size[at:] / (size[at] + 1e-300)
        out = ~((ratio <= p.plan.band) & (ratio >= 1 / p.plan.band)).all(1)
    first = np.where(out.any(0), out.argmax(0) - 1, len(ratio) - 1)
    return (at + np.maximum(first, 0)).astype(float)
