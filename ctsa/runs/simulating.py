"""Trajectories in pieces: what is done is on the disk, and a run that was stopped goes on to the same bits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ctsa._backend import no_graph
from ctsa.flows import integrate
from ctsa.flows.stochastic import noisy
from ctsa.layers import iterate
from ctsa.observables import cluster_count
from ctsa.results.base import Trajectory, as_numpy
from ctsa.results.npz import replacing
from ctsa.results.store import HEADER, header_of, zarr
from ctsa.settings import Checked

PIECES = 10  # of a run, at about so many; each ends a step, so that more would cost


class Simulate(Checked):
    """How a flow is followed, or layers are passed.

    Attributes:
        duration: of a flow, from time 0.
        points: outputs of a flow, the start among them.
        spacing: of these: "even"; "quadratic", dense at the start, t_i = duration (i / (points - 1))^2; "log", even in the
            logarithm from a ten-thousandth of the duration on.
        depth: layers to pass.
        every: keep every so many layers.
        until: "equilibrium": stop when every token is slower than ``rest``.
        rest: that speed.
        land: end a step on every output, see ``ctsa.integrate``.
        merge: tokens that have met go on as one, see ``ctsa.integrate``.
    """

    duration: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    points: int = Field(default=201, ge=2)
    spacing: Literal["even", "quadratic", "log"] = "even"
    depth: int = Field(default=100, ge=1)
    every: int = Field(default=1, ge=1)
    until: str | None = None
    rest: float = Field(default=1e-6, gt=0)
    land: bool = False
    merge: bool = False

    def times(self) -> np.ndarray:
        """Return the outputs of a flow."""
        share = np.linspace(0.0, 1.0, self.points)
        if self.spacing == "log":
            return self.duration * np.concatenate([[0.0], np.geomspace(1.0, 1e-4, self.points - 1)[::-1]])
        return self.duration * (share**2 if self.spacing == "quadratic" else share)

    @model_validator(mode="after")
    def _fits(self) -> "Simulate":
        if self.until not in (None, "equilibrium"):
            raise ValueError('until must be "equilibrium"')
        if self.depth % self.every:
            raise ValueError(f"every must divide depth = {self.depth}, got {self.every}")
        return self


def simulate(made: Any, settings: Simulate, home: Path | None = None, bar: Any = None) -> Trajectory:
    """Follow a flow, or pass layers, in pieces; a flow with noise, or with tokens that merge, in one call.

    Args:
        made: what a config makes.
        settings: how long.
        home: a folder of Zarr to write to, which a run that was stopped goes on from; None keeps all in memory.
        bar: told how far it is, ``bar.update(points)``.

    Raises:
        ValueError, IntegrationError: as ``ctsa.integrate`` and ``ctsa.iterate``; what was done before stays in ``home``.
        OSError: ``home`` cannot be written.
    """
    if made.layer is None:
        ts = settings.times()
        noise = noisy(made.field)
        if noise or settings.merge:  # paths and merge times are those of the call
            with no_graph():
                return integrate(
                    made.field, made.x0, ts, made.solver, until=settings.until, rest=settings.rest, land=settings.land,
                    geometry=made.geometry, merge=settings.merge, seed=made.seed if noise else None, progress=False,
                )  # fmt: skip

        def advance(x: Any, a: int, b: int) -> Trajectory:
            return integrate(
                made.field, x, ts[a : b + 1], made.solver, until=settings.until, rest=settings.rest, land=settings.land,
                geometry=made.geometry, progress=False,
            )  # fmt: skip
    else:
        ts = np.arange(0.0, settings.depth + 1, settings.every)

        def advance(x: Any, a: int, b: int) -> Trajectory:
            return iterate(made.layer, x, (b - a) * settings.every, every=settings.every)

    kept: Any = _Memory(ts, made.x0) if home is None else _Store(home, ts, made.x0)
    if bar is not None:
        bar.total = len(ts) - 1
        bar.update(kept.count - 1)
    for a, b in _pieces(len(ts), kept.count - 1):
        if kept.stopped:
            break
        with no_graph():  # of a long piece it would take more memory than all states
            piece = advance(kept.last(), a, b)
        kept.append(as_numpy(piece.ts), as_numpy(piece.xs), dict(piece.stats), made.layer is None)
        if bar is not None:
            bar.update(b - a)
            bar.set_postfix_str(_standing(kept.last(), made.layer is None, kept.reached()))
    return kept.trajectory()


def _standing(x: np.ndarray, flow: bool, reached: float) -> str:
    """Return where a trajectory stands, for the bar: the time, and of one state how many clusters there are."""
    where = f"t = {reached:.4g}" if flow else f"layer {reached:g}"
    return f"{where}, {int(cluster_count(x, gap=1e-2))} clusters" if x.ndim == 2 and len(x) <= 2000 else where


def _pieces(points: int, first: int) -> Iterator[tuple[int, int]]:
    """Yield first and last output of every piece from one on; of one length, as JAX compiles for each."""
    steps = points - 1
    length = next(n for n in range(-(-steps // PIECES), steps + 1) if steps % n == 0)
    length = length if length <= steps / 5 else -(-steps // PIECES)
    for a in range(0, steps, length):
        if a >= first:
            yield a, min(a + length, steps)


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the stats of two runs, one after the other: counts add up, sizes are the larger, flags those of the last."""
    found = dict(new)
    for name, value in old.items():
        if isinstance(value, bool) or name not in new:
            continue
        if isinstance(value, int):
            found[name] = -1 if -1 in (value, new[name]) else value + new[name]
        elif isinstance(value, float):
            found[name] = max(value, new[name])
    return found


class _Memory:
    """Outputs so far, in memory."""

    def __init__(self, ts: np.ndarray, x0: np.ndarray):
        self.ts, self.xs = np.empty(len(ts)), np.full((len(ts), *x0.shape), np.nan, x0.dtype)
        self.stats: dict[str, Any] = {}
        self.xs[0], self.ts[0], self.count, self.stopped = x0, ts[0], 1, False

    def last(self) -> np.ndarray:
        return self.xs[self.count - 1]

    def reached(self) -> float:
        return float(self.ts[self.count - 1])

    def append(self, ts: np.ndarray, xs: np.ndarray, stats: dict[str, Any], flow: bool) -> None:
        rows = slice(self.count, self.count + len(ts) - 1)
        self.ts[rows], self.xs[rows] = (ts if flow else ts + self.ts[self.count - 1])[1:], xs[1:]
        self.stats, self.stopped = joined(self.stats, stats), bool(stats.get("stopped", False))
        self.count = rows.stop

    def trajectory(self) -> Trajectory:
        return Trajectory(self.ts[: self.count].copy(), self.xs[: self.count].copy(), self.stats)


class _Store:
    """Outputs so far, in Zarr: pieces are written, and then counted in a file that is replaced as a whole."""

    def __init__(self, home: Path, ts: np.ndarray, x0: np.ndarray):
        self.home, self.state = home, state_of(home)
        if not self.state.exists():
            self._begin(ts, x0)
        known = json.loads(self.state.read_text())
        self.count, self.stats, self.stopped = known["count"], known["stats"], known["stopped"]
        self.group = zarr().open_group(str(home), mode="r+")

    def _begin(self, ts: np.ndarray, x0: np.ndarray) -> None:
        group = zarr().open_group(str(self.home), mode="w", zarr_format=3)
        length = next(b - a for a, b in _pieces(len(ts), 0))
        axes = [f"batch_{i}" for i in range(x0.ndim - 2)]
        made = group.create_array(
            "ts", shape=ts.shape, dtype="float64", chunks=(length,), fill_value=np.nan, dimension_names=["time"],
            attributes={"units": Trajectory._units["ts"]},
        )  # fmt: skip
        made[:1] = ts[:1]
        made = group.create_array(
            "xs", shape=(len(ts), *x0.shape), dtype=x0.dtype, chunks=(length, *x0.shape), fill_value=np.nan,
            dimension_names=["time", *axes, "token", "component"],
        )  # fmt: skip
        made[:1] = x0[None]
        self._count(1, {}, False)

    def _count(self, count: int, stats: dict[str, Any], stopped: bool) -> None:
        with replacing(self.state) as stream:
            stream.write(json.dumps(dict(count=count, stats=stats, stopped=stopped)).encode())

    def last(self) -> np.ndarray:
        return np.asarray(self.group["xs"][self.count - 1])

    def reached(self) -> float:
        return float(self.group["ts"][self.count - 1])

    def append(self, ts: np.ndarray, xs: np.ndarray, stats: dict[str, Any], flow: bool) -> None:
        start = float(self.group["ts"][self.count - 1])
        rows = slice(self.count, self.count + len(ts) - 1)
        self.group["ts"][rows] = (ts if flow else ts + start)[1:]
        self.group["xs"][rows] = xs[1:]
        self.stats, self.stopped = joined(self.stats, stats), bool(stats.get("stopped", False))
        self._count(rows.stop, self.stats, self.stopped)
        self.count = rows.stop

    def trajectory(self) -> Trajectory:
        """Return all, once what tells that the store is whole is written."""
        found = read_stream(self.home)
        for name in ("ts", "xs"):
            array = self.group[name]
            array.resize((self.count, *array.shape[1:]))
        self.group.attrs[HEADER] = header_of(found, {})
        return found


def state_of(home: Path) -> Path:
    """Return the file that counts what is written of a trajectory in pieces."""
    return home.with_name(f".{home.name}.json")


def read_stream(home: Path) -> Trajectory:
    """Return what has been written of a trajectory in pieces.

    Raises:
        ValueError: it is damaged.
    """
    try:
        known = json.loads(state_of(home).read_text())
        group = zarr().open_group(str(home), mode="r")
        count = known["count"]
        return Trajectory(np.asarray(group["ts"][:count]), np.asarray(group["xs"][:count]), known["stats"])
    except ImportError:
        raise
    except Exception as error:  # whatever Zarr raises
        raise ValueError(f"{home} is damaged: {error!r:.200}") from None

