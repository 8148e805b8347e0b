"""Events of each member of a batch: every one is run by itself, up to its own stop."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.results.base import Trajectory

Array = Any


def each_member(run: Callable[[Array], Trajectory], field: Callable, x: Array, times: np.ndarray) -> Trajectory:
    """Integrate the members of a batch ``(..., n, d)`` one by one and put their trajectories together.

    Returns:
        ``Trajectory`` at ``times``; outputs after the stop of a member hold its state there. ``stats`` has arrays of the
        leading axes "stopped" and "stop_times" (nan for a member that did not stop); counts are summed.
    """
    be, batch = backend(x), tuple(x.shape[:-2])
    members = x.reshape(-1, *x.shape[-2:])
    alone = be.call(field, be.like(times[0], x), members[0])
    if tuple(getattr(alone, "shape", ())) != tuple(members.shape[1:]):
        raise ValueError(
            "until(t, x) gives each member of the batch an event of its own, so members are run one by one; but the field "
            "does not take a single state (n, d), because its parameters have leading axes: loop over the members"
        )
    runs = [run(member) for member in members]
    xp, count = be.xp, len(times)
    rows, at = [], []
    for r in runs:
        missing = count - len(r.xs)
        rows.append(xp.concatenate([r.xs, xp.stack([r.xs[-1]] * missing)]) if missing > 0 else r.xs[:count])
        if missing < 0:
            raise AssertionError("a member has more outputs than times")
        stopped = r.stats["stopped"]
        known = isinstance(stopped, bool)
        at.append(r.ts[-1] if known and stopped else r.ts[-1] * np.nan if known else xp.where(stopped, r.ts[-1], np.nan))
    counts = ("steps", "rejected", "evaluations", "interpolated")
    stats: dict[str, Any] = {name: sum(r.stats[name] for r in runs) for name in counts}
    errors = [r.stats["radius_error"] for r in runs]
    stats["radius_error"] = max(errors) if all(isinstance(e, float) for e in errors) else xp.stack(errors).max()
    flags = [r.stats["stopped"] for r in runs]
    known = all(isinstance(flag, bool) for flag in flags)
    stats["stopped"] = np.array(flags).reshape(batch) if known else xp.stack(flags).reshape(batch)
    stats["stop_times"] = xp.stack(at).reshape(batch)
    xs = xp.stack(rows, 1)
    ts = xp.asarray(times, dtype=runs[0].ts.dtype)
    return Trajectory(ts, xs.reshape(count, *batch, *x.shape[-2:]), stats)
