"""Bring a sweep from where it stands to its end: which points are left, how many make a block, what has failed."""

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from .answers import Answer
from .executors import Died, Executor
from .grid import Region, block_shape, blocks, home, slices
from .layout import bytes_of, layout_of
from .refine import judged, midpoints
from .store import Setting, Store, load_block, write_block
from .work import Index, Report, Task

_SECONDS = 1.0  # that a task of short points takes
_SHARES = 8  # tasks for every thread, so that all end at about the same time
_CHUNKS = 1000  # about the most chunks that a variable shall have, where points are long
_BYTES = 2**24  # about the largest chunk
_LARGE = 32  # points in one call with batched=True, unless batch= is given
_PASSES = 3  # over points whose results were lost


@dataclass
class Driver:
    """One call of ``sweep``.

    Attributes:
        store: where it stands.
        executor: where it runs.
        batched: whether the function takes several points at once.
        batch: points of a block, None: to be chosen.
        say: receives how many points were done, and how many failed.
        more: receives how many points have been added.
    """

    store: Store
    executor: Executor
    batched: bool
    batch: int | None
    say: Callable[[int, int], None]
    more: Callable[[int], None]

    def run(self, left: np.ndarray) -> None:
        """Run the points of a mask, and again those whose results were lost with a worker."""
        for _ in range(_PASSES):
            if not left.any():
                return
            if self.store.block is None:
                self._begin(left)
                left = left & ~self.store.marks()[0]
            self._all(self._tasks(left), ahead=True)
            left = left & ~self.store.marks()[0]
        if left.any():
            raise RuntimeError(
                f"{int(left.sum())} points were run {_PASSES} times, and are not in {self.store.path}: can all workers "
                "write to this folder?"
            )

    def _begin(self, left: np.ndarray) -> None:
        """Choose the block: as told, or by how long the first points take."""
        self.executor.free(False)  # looks how many threads there are
        if self.batched or self.batch is not None:
            most = math.ceil(left.size / self.executor.threads)
            self.store.set_block(block_shape(self.store.shape, self.batch or min(_LARGE, most)))
            return
        each = 2 if left.sum() >= 4 * self.executor.threads else 1  # the first call compiles
        indices = itertools.islice(_indices(left), each * self.executor.threads)
        firsts = list(iter(lambda: list(itertools.islice(indices, each)), []))
        self._all((self._task(None, points, patience=5.0) for points in firsts), ahead=False)

    def _all(self, tasks: Iterator[Task], ahead: bool) -> None:
        """Hand in tasks as there is room, and take what comes back.

        A task that was with a process that died may have been waiting there. Its points are run one by one, and those that
        are again with one that dies at last quite alone: only then it is their fault.
        """
        again: list[Task] = []
        suspects: list[Task] = []
        busy: set[Region | None] = set()
        while True:
            while self.executor.free(ahead):
                task = next((t for t in again if t.region not in busy), None)
                if task is not None:
                    again.remove(task)
                    busy.add(task.region)
                else:
                    task = next(tasks, None)
                if task is None:
                    break
                self.executor.submit(task, self._setting())
            if not self.executor.pending():
                break
            task, outcome = self.executor.next()
            busy.discard(task.region)
            if not isinstance(outcome, Died):
                self._take(outcome)
            elif len(task.points) > 1:
                again += self._apart(task)
            else:
                suspects.append(task)
        for task in (alone for suspect in suspects for alone in self._apart(suspect)):
            self.executor.submit(task, self._setting())
            _, outcome = self.executor.next()
            if isinstance(outcome, Died):
                index = task.points[0]
                outcome = Report(1, [(index, f"{outcome}\n")], [1.0], [(index, f"Died: {outcome}")])
            self._take(outcome)

    def _apart(self, task: Task) -> list[Task]:
        """Return the points of a task that have no answer yet as tasks of their own."""
        done, failed = self.store.marks()
        points = zip(task.points, task.values, strict=True)
        return [
            replace(task, points=(index,), values=(values,))
            for index, values in points
            if not done[index] or failed[index]
        ]

    def _take(self, report: Report) -> None:
        if report.held:
            self._write(report)
        self._log(report.failures)
        self.say(report.count, len(report.failures))

    def _write(self, report: Report) -> None:
        """Write answers that came here because the layout was not known; the first that is one fixes it."""
        answer = next((a for _, a in report.held if a and not isinstance(a, str)), None)
        layout = self.store.layout
        fixed = layout is None and answer is not None
        if fixed:
            assert answer is not None
            layout = layout_of(answer)
        if self.store.block is None:
            size = 0 if layout is None else bytes_of(layout)
            self.store.set_block(block_shape(self.store.shape, self._size(min(report.seconds), size)))
        if fixed:
            assert layout is not None
            self.store.set_layout(layout)
        regions: dict[Region, list[tuple[Index, Answer | str]]] = {}
        for index, result in report.held:
            regions.setdefault(self._home(index), []).append((index, result))
        for region, results in regions.items():
            block = load_block(self._setting(), region)
            for index, result in results:
                error = block.take(index, result)
                if error and not isinstance(result, str):
                    report.failures.append((index, f"{error}\n"))
            write_block(self._setting(), block)

    def _size(self, seconds: float, size: int) -> int:
        """Return how many points a block has: enough to be worth a task, and no more than make work for all threads."""
        count = int(np.prod(self.store.shape))
        short = min(_SECONDS / max(seconds, 1e-6), count / (_SHARES * self.executor.threads))
        most = _BYTES / max(size, 1)
        return max(1, int(min(max(short, count / _CHUNKS), most)))

    def _tasks(self, left: np.ndarray) -> Iterator[Task]:
        assert self.store.block is not None
        for region in blocks(self.store.shape, self.store.block):
            inside = left[slices(region)]
            if inside.any():
                corner = [a for a, _ in region]
                points = [tuple(a + i for a, i in zip(corner, at, strict=True)) for at in _indices(inside)]
                yield self._task(region, points)

    def _task(self, region: Region | None, points: list[Index], patience: float = float("inf")) -> Task:
        return Task(region, tuple(points), tuple(self._values(index) for index in points), patience)

    def _values(self, index: Index) -> tuple[Any, ...]:
        return tuple(axis.coordinates[i].item() for axis, i in zip(self.store.axes, index, strict=True))

    def _home(self, index: Index) -> Region:
        assert self.store.block is not None
        return home(index, self.store.block, self.store.shape)

    def _setting(self) -> Setting:
        store = self.store
        return Setting(store.path, store.names, store.shape, store.layout, self.batched, self.executor.key)

    def _log(self, failures: list[tuple[Index, str]]) -> None:
        if not failures:
            return
        with contextlib.suppress(OSError), open(log_of(self.store), "a", encoding="utf-8") as stream:
            for index, trace in failures:
                point = ", ".join(f"{n}={v!r}" for n, v in zip(self.store.names, self._values(index), strict=True))
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {point}\n{trace}\n")

    def refine(self, rounds: dict[str, int], by: str | None) -> None:
        """Add points between neighbours that differ, run them, and again; rounds that the store has are not made again."""
        for number in range(len(self.store.plan) + 1, max(rounds.values(), default=0) + 1):
            names = [name for name, count in rounds.items() if count >= number]
            if self.store.layout is None or not self._plan(names, judged(by, self.store.layout)):
                return
            left = self.store.wanted() & ~self.store.marks()[0]
            self.more(int(left.sum()))
            self.run(left)

    def _plan(self, names: list[str], by: str) -> bool:
        """Write down which points a round has, on axes that have grown, and return whether there are any."""
        store = self.store
        values, (done, failed) = store.values(by), store.marks()
        axes, new = list(store.axes), set[Index]()
        for name in names:
            along = store.names.index(name)
            for middle, where in midpoints(store.axes, along, values, done & ~failed):
                at = np.flatnonzero(axes[along].coordinates == middle)
                if not len(at):
                    axes[along] = axes[along].with_one_more(middle)
                place = int(at[0]) if len(at) else len(axes[along]) - 1
                new |= {(*rest[:along], place, *rest[along:]) for rest in _indices(where)}
        known = [index for index in new if all(map(lambda i, size: i < size, index, done.shape)) and done[index]]
        new -= set(known)
        if new:
            store.grow(tuple(axes), sorted(new))
        return bool(new)


def log_of(store: Store) -> Any:
    """Return the file of tracebacks."""
    return store.path.with_suffix(".log")


def _indices(mask: np.ndarray) -> Iterator[Index]:
    return (tuple(at.tolist()) for at in np.argwhere(mask))


class Bar:
    """A bar of points with their rate, failures and the time that is left."""

    def __init__(self, shown: bool, total: int, left: int):
        from tqdm import tqdm

        self.failed, self.ahead = 0, 0
        self.bar = tqdm(
            total=total, initial=total - left, desc="sweep", unit="point", disable=not shown, leave=False, mininterval=0.2,
            smoothing=0.05, file=sys.stderr,
        )  # fmt: skip

    def __call__(self, count: int, failed: int) -> None:
        """Go on by a task."""
        self.failed += failed
        if self.failed:
            self.bar.set_postfix_str(f"{self.failed} failed", refresh=False)
        self.bar.update(count - self.ahead)
        self.ahead = 0

    def one(self) -> None:
        """Go on by a point of the task that runs in this process."""
        self.ahead += 1
        self.bar.update(1)

    def more(self, count: int) -> None:
        """Say that there are more points than was known."""
        self.bar.total += count
        self.bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: Any) -> None:
        self.bar.close()
