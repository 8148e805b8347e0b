"""``ctsa.sweep``: a function at all points of a grid, in parallel, into one store."""

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend._solve import show_progress
from ctsa.results.identity import Identity
from ctsa.results.lock import hold

from .driver import Bar, Driver
from .executors import executor
from .grid import Axis, axes_of
from .refine import rounds_of
from .store import NAME, Store, about, need, place, read, remove
from .work import Given, Surroundings


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Any],
    out: str | os.PathLike | None = None,
    *,
    scheduler: Any = None,
    workers: int | None = None,
    batch: int | None = None,
    batched: bool = False,
    retry: bool = False,
    refine: str | Mapping[str, int] | None = None,
    rounds: int = 3,
    by: str | None = None,
    allow_unverified: bool = False,
    progress: bool | None = None,
) -> Any:
    """Call a function at every point of a grid, on several processes, and return all answers as one ``xarray.Dataset``.

    ``function(beta=2.0, seed=3)`` is called for all combinations of the values. What it returns becomes variables:

    - a number, a text or an array: the variable ``value``;
    - a dict: variables of these names. An array has axes ``NAME_0``, ``NAME_1``, ...; a pair ``(names of axes, array)``
      names them, as in xarray: ``{"gram": (("token", "other"), G)}``. Standard errors go by the name ``NAME_stderr``. None
      is no value;
    - a result of ``ctsa``: its variables by their own axes, its numbers and its verdict; of a spectrum ``exponents`` and
      ``exponents_stderr``. Within a dict their names begin with that of the entry. Results in results, fields and layers
      are left out. A spectrum holds its whole history: return ``{"exponents": spectrum.exponents}`` where that is too much.

    Numbers become float64 (arrays of float32 stay), complex ones two, ``NAME_real`` and ``NAME_imag``. A name that is a
    parameter's, "error" or "done" gets an underscore at its end. The first point that is done fixes variables and shapes:
    one of another shape is an error of that point, a variable that is missing is empty there.

    The dataset has an axis for each parameter, in front of the variables' own, and two more variables: ``error``, "" where
    a point succeeded, and ``done``. A point that fails is written down with its error, its traceback goes to ``sweep.log``
    beside the store, and the sweep goes on.

    With ``out=`` answers are written as they come, and the same call goes on after whatever has stopped it: a point that is
    written is not run again. Workers must see this folder.

    Args:
        function: called with a value of every parameter by its name. It must not depend on the order of the calls.
        grid: values of every parameter: numbers, truth values or text, each once; or a dict from labels to anything, where
            the labels are the coordinates: ``{"layer": {"akorn": a, "itrsa": b}}``. The last axes vary fastest.
        out: a folder, in which ``sweep.zarr`` and ``sweep.log`` are written, or a path that ends with ``.zarr``; None: a
            temporary one, and the dataset comes back in memory.
        scheduler: None: processes of this machine; ``"sync"``: this process; the address of a scheduler of Dask, or a
            ``Client`` or cluster of Dask.
        workers: how many processes of one thread each; None: as many as there are cores; 0: this process, without Dask.
        batch: how many points make a task and a chunk of the store; None: short points share one, by the time that the
            first take.
        batched: whether the function takes several points in a call: every parameter as an array ``(m,)``. It then returns
            arrays with a leading axis of points, a dict of these, or a spectrum of an ensemble. Tasks have up to 32 points.
        retry: run the points again that have failed.
        refine: a parameter, or a dict from parameters to rounds: after the grid, points are added midway between neighbours
            along this axis whose answers differ.
        rounds: how often, for all other parameters.
        by: the variable that decides: text and truth values differ if they are not the same, numbers if their signs are
            opposite; None takes ``verdict``.
        allow_unverified: go on although it cannot be seen whether ``out`` belongs to this function.
        progress: draw a bar with the rate, failures and the time that is left; None draws it in a terminal.

    Returns:
        An ``xarray.Dataset``, of ``out`` one that reads from the disk when numbers are used. Its attributes say which
        function, which versions and when. Points that a refinement has not asked for are empty, with ``done`` False.

    Raises:
        ValueError: ``out`` belongs to another function or grid, or an argument makes no sense.
        BlockingIOError: another call writes to ``out``.
        OSError: ``out`` cannot be written; what is in it stays.
        ConnectionError: the scheduler does not answer, or has gone; what is done stays.
        TypeError: an argument is of a wrong kind, or the function cannot be sent to other processes.
        ImportError: xarray, zarr or Dask is not installed: ``pip install 'ctsa[runs]'``.

    Example:
        >>> import ctsa
        >>> def spread(beta, n):
        ...     return {"size": beta * n, "kind": "large" if beta * n > 4 else "small"}
        >>> data = ctsa.sweep(spread, {"beta": [0.5, 1.0, 2.0], "n": [2, 4]}, workers=0)
        >>> data["size"].sel(beta=2.0, n=4).item(), data["kind"].sel(n=2).values.tolist()
        (8.0, ['small', 'small', 'small'])
    """
    if not callable(function):
        raise TypeError(f"function must be called with parameters by name, got a {type(function).__name__}")
    axes = axes_of(grid)
    checked_rounds = rounds_of(refine, rounds, axes)
    batched, retry = checks.flag("batched", batched), checks.flag("retry", retry)  # type: ignore[assignment]
    allow_unverified = bool(checks.flag("allow_unverified", allow_unverified))
    batch = None if batch is None else checks.integer("batch", batch, low=1)
    if by is not None and not isinstance(by, str):
        raise TypeError(f"by must be the name of a variable, got {by!r}")
    shown = show_progress(progress)
    _not_again()
    need()
    folder = Path(tempfile.mkdtemp(prefix="ctsa-sweep-")) if out is None else None
    path = place(out) if folder is None else folder / NAME
    try:
        with _alone(path):
            store = _store(path, function, axes, batched, folder is None, allow_unverified)
            given = Given(function, {axis.name: dict(axis.values) for axis in axes if axis.values is not None})
            done, failed = store.marks()
            left = store.wanted() & (~done | failed if retry else ~done)
            more = max(checked_rounds.values(), default=0) > len(store.plan)
            if left.any() or more:
                with Bar(shown, int(store.wanted().sum()), int(left.sum())) as bar:
                    run = executor(given, scheduler, workers, int(max(left.sum(), 1)), bar.one)
                    with contextlib.closing(run):
                        driver = Driver(store, run, batched, batch, bar, bar.more)
                        driver.run(left)
                        driver.refine(checked_rounds, by)
        data = read(path)
        return data if folder is None else data.load()
    finally:
        if folder is not None:
            remove(folder)


def _store(
    path: Path, function: Any, axes: tuple[Axis, ...], batched: bool, kept: bool, allow_unverified: bool
) -> Store:
    """Return the store of this sweep as it stands, or a new one."""
    name = f"out {path}"
    values = {axis.name: axis.coordinates if axis.values is None else axis.values for axis in axes}
    identity = Identity(function=function, grid=values, batched=batched) if kept else None
    store = Store.opened(path)
    if store is None:
        if identity is not None:
            identity.verified(name, allow_unverified)
        store = Store(path, axes, "" if identity is None else str(identity), about(function))
        store.settings = Surroundings.here().told()
        store.create()
        return store
    if identity is not None:
        identity.require(name, store.identity, allow_unverified)
    if store.names != tuple(axis.name for axis in axes) or any(
        not np.array_equal(mine.coordinates[:size], axis.coordinates)
        for mine, axis, size in zip(store.axes, axes, store.base, strict=True)
    ):
        raise ValueError(
            f"{name} belongs to another run, with another grid: pass what that run was given, or begin anew"
        )
    for setting, now in Surroundings.here().told().items():
        then = store.settings.get(setting)
        if None not in (now, then) and now != then and not allow_unverified:
            raise ValueError(
                f"{name} was begun with {setting} = {then}, and here it is {now}: set what it was, or begin anew, as "
                "the points would not be of one precision"
            )
    store.repair()
    return store


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other calls from a store: blocks of two sizes in it would put values where they do not belong."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(path.parent, f".{path.stem}.lock"))
        except BlockingIOError as error:
            said = f"another call of ctsa.sweep writes to out {path}: wait for it, or choose another out"
            raise BlockingIOError(error.errno, said) from None
        except OSError:  # a file system without locks, or that cannot be written, which the store will say
            pass
        yield


def _not_again() -> None:
    """Raise RuntimeError in a process of a sweep that is about to begin the same sweep once more."""
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise RuntimeError(
            "ctsa.sweep starts processes, each of which imports the script anew and would start a sweep of its own: put "
            "the call under `if __name__ == '__main__':`"
        )
