"""Where tasks run: in this process, or on workers of Dask, a bounded number of them on their way at any time."""

import asyncio
import contextlib
import logging
import queue
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Protocol

from ctsa import checks

from .store import Setting, StoreError
from .work import Given, Report, Surroundings, Task, carry_out, forget, hand_over, on_worker

_AHEAD = 2  # tasks on their way for every thread: one runs, one waits
_PATIENCE = 30.0  # seconds without a scheduler, or without a worker
_PAUSE = 5.0  # seconds between two looks at the workers


class Died(RuntimeError):
    """The process in which a task ran has died, again and again."""


class Executor(Protocol):
    """Runs tasks. ``threads``: how many at once; ``key``: whose they are."""

    threads: int
    key: str

    def free(self, ahead: bool) -> bool:
        """Whether a task may be submitted; ``ahead``: also to wait for a thread."""
        ...

    def submit(self, task: Task, setting: Setting) -> None:
        """Hand in a task."""
        ...

    def next(self) -> tuple[Task, Report | Died]:
        """Wait for a task and return what came of it."""
        ...

    def pending(self) -> int:
        """How many tasks are on their way."""
        ...

    def close(self) -> None:
        """Drop what has not been run, and end."""
        ...


class Here:
    """This process, one task after the other."""

    threads = 1

    def __init__(self, given: Given, each: Callable[[], None]):
        self.given, self.each, self.key = given, each, uuid.uuid4().hex
        self.waiting: list[tuple[Task, Setting]] = []

    def free(self, ahead: bool) -> bool:
        return not self.waiting

    def submit(self, task: Task, setting: Setting) -> None:
        self.waiting.append((task, setting))

    def next(self) -> tuple[Task, Report | Died]:
        task, setting = self.waiting.pop()
        return task, carry_out(task, setting, self.given, self.each)

    def pending(self) -> int:
        return len(self.waiting)

    def close(self) -> None:
        self.waiting.clear()


class OnDask:
    """Workers of Dask: a cluster of this machine, or one that is there."""

    def __init__(self, given: Given, scheduler: Any, workers: int | None, most: int):
        try:
            import cloudpickle  # type: ignore[import-untyped]
            import distributed
        except ImportError as error:
            raise ImportError(
                "a sweep on several processes needs dask and distributed: pip install 'ctsa[runs]'; workers=0 runs it here"
            ) from error
        try:
            pickled = cloudpickle.dumps(given)
        except Exception as error:  # whatever the objects in it raise
            raise TypeError(
                f"function cannot be sent to other processes ({error}): make what it needs inside of it, or pass "
                "workers=0, which runs it here"
            ) from error
        self.key = uuid.uuid4().hex
        self.finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.tasks: dict[str, tuple[Any, Task]] = {}
        self.count = 0
        self.looked = -float("inf")
        self.threads = 1
        self.own = scheduler is None  # whose workers are of this machine, and come back soon or not at all
        self.alone: float | None = None  # since when there has been no worker
        self.stack = contextlib.ExitStack()
        try:
            self.client = self._client(distributed, scheduler, workers, most)
            plugin = _plugin(distributed)(self.key, pickled, Surroundings.here(), scheduler is None)
            with self._connected():
                self.client.register_plugin(plugin, name=f"ctsa-{self.key}")
                self.stack.callback(self._unregister)
            while not self._look(pause=0.0):
                time.sleep(0.05)
        except BaseException:
            self.stack.close()
            raise

    def _client(self, distributed: Any, scheduler: Any, workers: int | None, most: int) -> Any:
        if isinstance(scheduler, distributed.Client):
            if scheduler.asynchronous:
                raise ValueError("scheduler is an asynchronous Client: pass one made with asynchronous=False")
            return scheduler
        if scheduler is not None:
            address = scheduler if isinstance(scheduler, str) else scheduler.scheduler_address
            try:
                return self.stack.enter_context(distributed.Client(address, set_as_default=False))
            except (OSError, TimeoutError) as error:
                raise ConnectionError(f"scheduler: no scheduler of Dask answers at {address} ({error})") from error
        from dask.system import CPU_COUNT

        try:
            cluster = distributed.LocalCluster(
                n_workers=max(1, min(workers or CPU_COUNT, most)), threads_per_worker=1, processes=True,
                dashboard_address="127.0.0.1:0", env=dict.fromkeys(_ONE_THREAD, "1"), silence_logs=logging.ERROR,
            )  # fmt: skip
        except RuntimeError as error:
            raise RuntimeError(
                f"the processes of the sweep did not start ({error}): in a script the call must stand under "
                "`if __name__ == '__main__':`, as each of them imports the script; workers=0 needs none"
            ) from error
        self.stack.callback(cluster.close, timeout=10)
        return self.stack.enter_context(distributed.Client(cluster, set_as_default=False))

    def _unregister(self) -> None:
        with contextlib.suppress(Exception):  # a scheduler that is gone needs no tidying
            if self.client.status == "running":
                self.client.unregister_worker_plugin(f"ctsa-{self.key}")

    def free(self, ahead: bool) -> bool:
        self._look()
        return len(self.tasks) < self.threads * (_AHEAD if ahead else 1)

    def submit(self, task: Task, setting: Setting) -> None:
        key = f"sweep-{self.key}-{self.count}"
        self.count += 1
        with self._connected():
            future = self.client.submit(on_worker, task, setting, key=key, pure=False)
        self.tasks[key] = future, task
        future.add_done_callback(self.finished.put)

    def next(self) -> tuple[Task, Report | Died]:
        from distributed import KilledWorker

        gone: float | None = None
        while True:
            try:
                future = self.finished.get(timeout=0.5)
            except queue.Empty:
                gone = self._gone_since(gone)
                self._look()
                continue
            if future.key in self.tasks:
                break
        if future.status in ("cancelled", "lost"):
            raise self._lost()
        _, task = self.tasks.pop(future.key)
        try:
            with self._connected():
                return task, future.result()
        except KilledWorker:
            return task, Died("the process that ran this point died each time: did it need too much memory?")

    def _gone_since(self, gone: float | None) -> float | None:
        if self.client.status == "running" and self.client.scheduler is not None:
            return None
        now = time.monotonic()
        if gone is not None and now - gone > _PATIENCE or self.client.status == "closed":
            raise self._lost()
        return now if gone is None else gone

    def _look(self, pause: float = _PAUSE) -> bool:
        """See who works: clusters grow and shrink. Where nobody does, do not wait in silence; return whether somebody does.

        Raises:
            ConnectionError: the workers of this machine are gone for good.
        """
        now = time.monotonic()
        if now - self.looked < pause:
            return self.alone is None
        with self._connected():
            there = sum(self.client.nthreads().values())
        self.looked, self.threads = now, max(1, there)
        if there:
            self.alone = None
        elif self.alone is None:
            self.alone = now
        elif now - self.alone > _PATIENCE and self.own:
            raise ConnectionError(
                "the processes of the sweep have died and do not come back (is there too little memory?): what is done is "
                "kept, and the same call goes on from there; workers= says how many there are"
            )
        elif now - self.alone > _PATIENCE:
            self.alone = float("inf")  # said once
            warnings.warn("the scheduler of Dask has no worker: the sweep waits for one", stacklevel=2)
        return bool(there)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        from distributed.client import ClosedClientError

        try:
            yield
        except StoreError:  # the one OSError that comes from a task
            raise
        except (OSError, TimeoutError, asyncio.CancelledError, futures.CancelledError, ClosedClientError) as error:
            raise self._lost() from error

    def _lost(self) -> ConnectionError:
        return ConnectionError(
            "the scheduler of Dask is gone or has dropped the tasks: what is done is kept, and the same call goes on from "
            "there once a scheduler runs"
        )

    def pending(self) -> int:
        return len(self.tasks)

    def close(self) -> None:
        running = [future for future, _ in self.tasks.values()]
        self.tasks.clear()
        with contextlib.suppress(Exception):
            if running and self.client.status == "running":
                self.client.cancel(running, force=True)
        self.stack.close()


_ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # XLA reads it
)  # fmt: skip


def _plugin(distributed: Any) -> Any:
    class Plugin(distributed.WorkerPlugin):
        """Leaves in every worker, also those that come later, what the tasks need."""

        def __init__(self, key: str, *given: Any):
            self.key, self.given = key, given

        def setup(self, worker: Any) -> None:
            hand_over(self.key, *self.given)

        def teardown(self, worker: Any) -> None:
            forget(self.key)

    return Plugin


def executor(given: Given, scheduler: Any, workers: Any, most: int, each: Callable[[], None]) -> Executor:
    """Return where tasks run, for at most ``most`` of them.

    Raises:
        TypeError, ValueError: ``scheduler`` or ``workers`` are none.
        ImportError: Dask is needed and not installed.
        ConnectionError: no scheduler answers.
    """
    workers = None if workers is None else checks.integer("workers", workers)
    known = scheduler is None or isinstance(scheduler, str) or hasattr(scheduler, "scheduler_address")
    if not known and not hasattr(scheduler, "submit"):
        raise TypeError(
            "scheduler must be None (processes of this machine), 'sync', an address such as 'tcp://host:8786', or a Client "
            f"or cluster of Dask, got a {type(scheduler).__name__}"
        )
    if isinstance(scheduler, str) and scheduler != "sync" and "://" not in scheduler:
        raise ValueError(f"scheduler must be 'sync' or an address such as 'tcp://host:8786', got {scheduler!r}")
    if scheduler is not None and scheduler != "sync" and workers is not None:
        raise ValueError("workers is for processes of this machine: leave it out where scheduler= says who works")
    if scheduler == "sync" or workers == 0:
        return Here(given, each)
    return OnDask(given, scheduler, workers, most)
