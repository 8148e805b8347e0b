"""Checks of what pictures are given: each error names the argument, what was wanted, what came, and what to try."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def result(name: str, value: Any, kind: str, maker: str, *others: str) -> None:
    """Raise TypeError unless ``value`` is a result of the named class (or one of the others), which ``maker`` returns."""
    if not {c.__name__ for c in type(value).__mro__} & {kind, *others}:
        wanted = " or a ".join((kind, *others))
        raise TypeError(f"{name} must be a {wanted}, got {type(value).__name__}: {maker} returns one")


def flag(name: str, value: Any) -> bool:
    """Return True or False, which ``value`` must be."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def number(name: str, value: Any, low: float = -math.inf) -> float:
    """Return a finite number of at least ``low``, which ``value`` must be."""
    try:
        if isinstance(value, str):
            raise TypeError
        x = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(x) or x < low:
        raise ValueError(f"{name} must be a finite number of at least {low:g}, got {value!r}")
    return x


def count(name: str, value: Any, low: int = 1) -> int:
    """Return an integer of at least ``low``, which ``value`` must be."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value.__index__() < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
    return int(value.__index__())


def need(ok: Any, name: str, wanted: str, got: Any, hint: str) -> None:
    if not ok:
        raise ValueError(f"{name}: wanted {wanted}, got {got}; try {hint}")


def to_numpy(x: Any) -> np.ndarray:
    x = x.detach().cpu() if hasattr(x, "detach") else x
    return np.asarray(x.double() if hasattr(x, "double") and x.is_floating_point() else x)  # for bfloat16


def real(name: str, x: Any) -> np.ndarray:
    try:
        array = to_numpy(x)
        if not array.ndim and array.dtype.kind not in "biufcV":
            raise AttributeError
        return array.astype(float, casting="unsafe" if array.dtype.kind in "biufV" else "safe")
    except AttributeError:
        raise TypeError(f"{name} must be an array of real numbers, got {type(x).__name__}: see the docstring") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: wanted real numbers, got {error}; try a regular array of floats") from None


def on_sphere(xs: np.ndarray) -> bool:
    """Say whether tokens are unit vectors to the eye; NaN, as after a failed solve, does not count."""
    return not np.any(np.abs(np.linalg.norm(xs, axis=-1) - 1) > 0.02)


def read(traj: Any, sample: Any, tail: float | None = None, d: Any = None, unit: bool = False) -> tuple:
    """Return times (T,), states (T, n, d) of one sample, and whether the first is the trajectory's first."""
    if hasattr(traj, "xs"):
        if not hasattr(traj, "ts"):
            raise TypeError(f"traj must have times ts beside xs, as a Trajectory, got {type(traj).__name__}: pass its .xs")
        ts, xs = traj.ts, traj.xs
    elif traj is None or isinstance(traj, (str, Mapping)) or callable(traj):
        raise TypeError(f"traj must be a Trajectory, or states (T, n, d), got {type(traj).__name__}: ctsa.integrate")
    elif isinstance(traj, tuple) and len(traj) == 2 and np.ndim(to_numpy(traj[0])) == 1:
        ts, xs = traj
    else:
        xs = np.atleast_1d(real("traj", traj))
        xs = xs[None] if xs.ndim == 2 else xs
        ts = np.arange(len(xs))
    ts, xs = real("traj.ts", ts), real("traj.xs", xs)
    need(xs.ndim > 2 and xs.size, "traj", "states (T, n, d)", xs.shape, "shape (T, 1, d) for a single token")
    need(ts.shape == xs.shape[:1], "traj", f"a time a state {xs.shape}", f"times {ts.shape}", "time first")
    batch, index = xs.shape[1:-2], () if sample is None else tuple(np.ravel(np.asarray(sample)).tolist())
    fits = len(index) == len(batch) and all(isinstance(i, int) and -b <= i < b for i, b in zip(index, batch))
    first = f"sample={0 if len(batch) == 1 else (0,) * len(batch) or None}"
    need(fits, "sample", f"an index into the batch axes {batch} of states {xs.shape}", sample, first)
    xs = xs[(slice(None), *index)]
    other = f"plot.trajectory, or for oscillators to reshape the states to (T, -1, {d})"
    need(np.isfinite(xs).any(), "traj", "finite states", "nan or inf everywhere", "a run that did not fail")
    need(d in (None, xs.shape[-1]), "traj", f"tokens with d = {d}", f"states {xs.shape}", other)
    norms = f"norms up to {np.linalg.norm(xs, axis=-1).max():.3g}"
    need(not unit or on_sphere(xs), "traj", "unit tokens", norms, "plot.principal, or to normalise them")
    tail = tail if tail is None or isinstance(tail, (int, float)) else number("tail", tail)
    need(tail is None or tail >= 0, "tail", "a length of time >= 0", tail, "None for whole paths")
    keep = np.abs(ts[-1] - ts) <= (np.inf if tail is None else tail)
    return ts[keep], xs[keep], bool(keep[0])
