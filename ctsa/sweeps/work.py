"""What is done where points run: a task, a block of points, is carried out and written."""

import contextlib
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .answers import Answer, answer, answers
from .grid import RESERVED, Region
from .layout import Block
from .store import Setting, StoreError, load_block, write_block

_LONGEST = 500  # characters of an error that the store keeps; the log has all of it
_SHARE = 0.1  # of the time at most goes into writing
_EVERY = 2.0  # seconds between two writings of a block that is not finished

Index = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """Points of a block to be run; ``region`` None: the block is not known yet, and the answers go to who asked.

    Attributes:
        points: where they are in the grid.
        values: their coordinates, in the order of the axes.
        patience: seconds after which no further point is begun.
    """

    region: Region | None
    points: tuple[Index, ...]
    values: tuple[tuple[Any, ...], ...]
    patience: float = float("inf")


@dataclass(frozen=True)
class Given:
    """What the user gave: the function, and the meanings of coordinates that are labels."""

    function: Callable[..., Any]
    labels: dict[str, dict[str, Any]]


@dataclass
class Report:
    """What came of a task.

    Attributes:
        count: how many points were run.
        failures: of those that failed the place and the traceback.
        seconds: how long each call took.
        held: answers or errors, where the layout was not known yet.
    """

    count: int = 0
    failures: list[tuple[Index, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    held: list[tuple[Index, Answer | str]] = field(default_factory=list)


def carry_out(task: Task, setting: Setting, given: Given, each: Callable[[], None] = lambda: None) -> Report:
    """Run the points of a task and write them, now and then and at the end; ``each`` is called after every point.

    Raises:
        StoreError: they cannot be written.
    """
    report = Report()
    if task.region is None or setting.layout is None:
        for index, result, trace in _results(task, setting, given, report):
            report.held.append((index, result))
            report.failures += [(index, trace)] if isinstance(result, str) else []
            each()
        return report
    size = int(np.prod([b - a for a, b in task.region]))
    if len(task.points) == size:
        block = Block(task.region, setting.layout)
    else:
        block = load_block(setting, task.region)
    pending, due = 0, time.monotonic() + _EVERY
    try:
        for index, result, trace in _results(task, setting, given, report):
            error = block.take(index, result)
            report.failures += [(index, trace or error)] if error else []
            pending += 1
            each()
            began = time.monotonic()
            if began > due and not setting.batched:
                write_block(setting, block)
                now = time.monotonic()
                pending, due = 0, now + max(_EVERY, (now - began) / _SHARE)
    except StoreError:
        raise
    except BaseException:  # an interrupt: what is done stays
        if pending:
            write_block(setting, block)
        raise
    write_block(setting, block)
    return report


def _results(task: Task, setting: Setting, given: Given, report: Report) -> Iterator[tuple[Index, Answer | str, str]]:
    """Yield points with their answers, or with their errors and tracebacks."""
    if setting.batched:
        yield from _together(list(zip(task.points, task.values, strict=True)), setting, given, report)
        return
    taken = {*setting.names, *RESERVED}
    began = time.monotonic()
    for index, values in zip(task.points, task.values, strict=True):
        start = time.perf_counter()
        if report.count and time.monotonic() - began > task.patience:
            return
        result: Answer | str
        trace = ""
        try:
            point = {name: _meant(given, name, v) for name, v in zip(setting.names, values, strict=True)}
            result = answer(given.function(**point), taken)
        except BaseException as error:  # also those of asyncio, which Dask would take for its own
            if isinstance(error, KeyboardInterrupt):
                raise
            result, trace = _error(error)
        report.count += 1
        report.seconds.append(time.perf_counter() - start)
        yield index, result, trace


def _together(points: list[Any], setting: Setting, given: Given, report: Report) -> Iterator[Any]:
    """Run points in one call; if it fails, in two, so that one bad point costs no other."""
    start = time.perf_counter()
    try:
        columns = zip(*(values for _, values in points), strict=True)
        arrays = {
            name: _column([_meant(given, name, v) for v in column])
            for name, column in zip(setting.names, columns, strict=True)
        }
        results: list[Answer | str] = list(answers(given.function(**arrays), len(points), {*setting.names, *RESERVED}))
        trace = ""
    except BaseException as error:  # also those of asyncio, which Dask would take for its own
        if isinstance(error, KeyboardInterrupt):
            raise
        if len(points) > 1:
            half = len(points) // 2
            yield from _together(points[:half], setting, given, report)
            yield from _together(points[half:], setting, given, report)
            return
        message, trace = _error(error)
        results = [message]
    report.count += len(points)
    report.seconds.append((time.perf_counter() - start) / len(points))
    for (index, _), result in zip(points, results, strict=True):
        yield index, result, trace


def _column(values: list[Any]) -> np.ndarray:
    """Return values as an array ``(m,)``: of numbers, truth values or text; of what labels mean else as they are."""
    kind = type(values[0])
    if kind in (bool, int, float, str) and all(type(v) is kind for v in values):
        return np.array(values)
    column = np.empty(len(values), dtype=object)
    column[:] = [*values]
    return column


def _meant(given: Given, name: str, coordinate: Any) -> Any:
    return given.labels[name][coordinate] if name in given.labels else coordinate


def _error(error: BaseException) -> tuple[str, str]:
    try:
        text = str(error)
    except Exception:  # whatever it is that cannot say what it is
        text = "(its message cannot be shown)"
    said = f"{type(error).__name__}: {' '.join(text.replace(chr(0), ' ').split())}"
    said = said if len(said) <= _LONGEST else f"{said[: _LONGEST - 3]}..."
    trace = "".join(traceback.format_exception(error))
    said, trace = (part.encode(errors="backslashreplace").decode() for part in (said, trace))
    return said, trace


_JAX = (
    "jax_enable_x64",
    "jax_platforms",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


@dataclass(frozen=True)
class Surroundings:
    """Settings of the frameworks that a worker takes over from the process that asks.

    Attributes:
        jax: settings of JAX by name; None: it is not used.
        faced: whether ``ctsa.jax`` is used.
        cache: where JAX keeps what it compiles.
        dtype: the type of PyTorch's floats; None: it is not used.
    """

    jax: dict[str, Any] | None = None
    faced: bool = False
    cache: str | None = None
    dtype: str | None = None

    @classmethod
    def here(cls) -> "Surroundings":
        """Return those of this process; imports no framework."""
        jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
        dtype = str(torch.get_default_dtype()).removeprefix("torch.") if torch is not None else None
        kept = None if jax is None else {name: getattr(jax.config, name) for name in _JAX}
        cache = None if jax is None else jax.config.jax_compilation_cache_dir
        return cls(kept, "ctsa.jax" in sys.modules, cache, dtype)

    def told(self) -> dict[str, Any]:
        """Return what numbers depend on, as JSON can say it; None of what is not used."""
        return {"jax_enable_x64": None if self.jax is None else self.jax["jax_enable_x64"], "torch_dtype": self.dtype}

    def take_over(self) -> None:
        """Set them in this process. Before anything is unpickled: arrays of 64 bits would lose half of them."""
        if self.jax is not None:
            import jax

            for name, value in self.jax.items():
                if getattr(jax.config, name) != value:
                    jax.config.update(name, value)
            if jax.config.jax_compilation_cache_dir is None and (self.faced or self.cache is not None):
                from ctsa.jax import keep_compiled

                with contextlib.suppress(OSError):
                    keep_compiled(self.cache)
        if self.dtype is not None and (
            self.dtype != "float32" or "torch" in sys.modules
        ):  # another sweep may have set it
            import torch

            torch.set_default_dtype(getattr(torch, self.dtype))


_PICKLED: dict[str, tuple[bytes, Surroundings]] = {}
_READY: dict[str, Given] = {}
_LOCK = threading.Lock()


def hand_over(key: str, pickled: bytes, surroundings: Surroundings, ours: bool) -> None:
    """Leave in this worker what its tasks will need; ``ours``: it lives for one sweep only, which Ctrl-C ends."""
    _PICKLED[key] = pickled, surroundings
    if not ours:
        return
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says of its own end
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes


def forget(key: str) -> None:
    """Drop it."""
    _PICKLED.pop(key, None)
    _READY.pop(key, None)


def on_worker(task: Task, setting: Setting) -> Report:
    """Carry out a task in a worker. The function is unpickled once: what JAX compiles for it is compiled once, too."""
    import cloudpickle  # type: ignore[import-untyped]

    with _LOCK:
        if setting.key not in _READY:
            pickled, surroundings = _PICKLED[setting.key]
            surroundings.take_over()
            try:
                _READY[setting.key] = cloudpickle.loads(pickled)
            except Exception as error:  # whatever its objects raise
                raise RuntimeError(
                    f"function cannot be opened by a worker ({type(error).__name__}: {error}): are the modules that it "
                    "comes from, and what they need, installed there?"
                ) from error
        given = _READY[setting.key]
    return carry_out(task, setting, given)
