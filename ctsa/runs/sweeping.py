"""Sweeps of a config: an analysis at every point of a grid of its values, into a folder like that of a run."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctsa.results.lock import hold

from .about import git_state, inputs, machine, moved, versions
from .analyses import ANALYSES, Kept
from .config import Config, Output, check_config
from .folder import RunFolder, now
from .reading import Run, open_run
from .running import check_folder, folder_of, run_config, write_report
from .telling import AXES, answers
from .writing import as_toml

POINTS = "points"  # folder of the runs of points that are kept
_LONGEST = 120  # characters of the name of one of them


class ConfigPoint:
    """One analysis of a config, as a function of some of its values; it goes to other processes.

    Args:
        table: of the config.
        where: what messages call it.
        folder: from which paths in it count.
        name: the analysis.
        backend: "torch" or "jax".
        points: folder of the runs of all points; None keeps none.
    """

    def __init__(self, table: dict[str, Any], where: str, folder: str, name: str, backend: str, points: str | None):
        self.table, self.where, self.folder, self.name, self.backend = table, where, folder, name, backend
        self.points = points

    def __call__(self, **values: Any) -> dict[str, Any]:
        """Run the analysis at a point, and return what it says."""
        config = check_config(self.table, self.where, Path(self.folder)).changed(values).only(self.name)
        backend = str(values.get("backend", self.backend))  # which may be an axis
        _count_in(backend, config.dtype)
        if self.points is None:
            made = config.make(backend)
            return _variables(answers(ANALYSES[self.name].run(made, config.analyses[self.name], Kept())))
        home = Path(self.points) / name_of(values)
        run = run_config(replace(config, output=Output()), home, backend=backend, resume=True, progress=False)
        return _variables(answers(run.results[self.name])) | {"report": f"{POINTS}/{home.name}/report.html"}


def name_of(values: dict[str, Any]) -> str:
    """Return the name of the folder of a point, which no other point has."""
    said = {k: f"{v:.6g}" if isinstance(v, float) and float(f"{v:.6g}") == v else str(v) for k, v in values.items()}
    text = ",".join(f"{key}={value}" for key, value in said.items())
    name = "".join(c if c.isalnum() or c in "=,.-_+" else "-" for c in text)
    if name == text and len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _variables(told: dict[str, Any]) -> dict[str, Any]:
    """Return answers with the names of their axes; what has another length at every point is left out."""
    found = {name: value for name, value in told.items() if AXES.get(name, ()) is not None}
    return {
        name: (axes, value) if (axes := AXES.get(name)) and getattr(value, "ndim", 0) == len(axes) else value
        for name, value in found.items()
    }


def _count_in(backend: str, dtype: str) -> None:
    """Have JAX count in 64 bits in this process, where a point asks for that."""
    if backend == "jax" and dtype == "float64":
        import jax

        jax.config.update("jax_enable_x64", True)


def run_sweep(
    config: Config,
    out: str | Path | None = None,
    *,
    backend: str,
    resume: bool = False,
    retry: bool = False,
    workers: int | None = None,
    scheduler: Any = None,
    progress: bool | None = None,
    command: str = "",
    say: Callable[[str], Any] | None = None,
) -> Run:
    """Run the sweep of a config into a folder that ``ctsa.load`` opens; its ``sweep`` is an ``xarray.Dataset``.

    Args:
        config: from ``read_config``, with a table ``[sweep]``.
        out: the folder; None takes the config's, or "ctsa-sweep".
        backend: "torch" or "jax".
        resume: go on with the sweep that the folder holds.
        retry: with ``resume``, run the points again that have failed.
        workers: processes, in place of the file's; 0: this process alone.
        scheduler: address of a Dask scheduler, in place of the file's.
        progress: draw a bar.
        command: how it was called.
        say: receives lines of progress.

    Returns:
        The ``Run``.

    Raises:
        ValueError: the config has no sweep, or the folder holds another one.
        FileExistsError: the folder holds a run, and ``resume`` is not set.
        BlockingIOError: another process runs this folder.
        OSError, ConnectionError: the folder cannot be written, or the scheduler has gone; ``resume`` goes on.

    Example:
        >>> import tempfile
        >>> from ctsa.runs import read_config, run_sweep
        >>> config = read_config(None, ["tokens.n=4", "sweep.run=jacobian", "sweep.axes.seed={count=3}"])
        >>> run = run_sweep(config, tempfile.mkdtemp() + "/first", backend="torch", workers=0, progress=False)
        >>> run.sweep["real"].sizes
        Frozen({'seed': 3, 'mode': 8})
    """
    from ctsa.sweeps import sweep as over

    plan = config.sweep
    if plan is None or plan.run is None:
        raise ValueError(f"{config.where}: sweep is missing: a table [sweep] with axes")
    say = say or (lambda text: None)
    path = folder_of(config, out or config.out or "ctsa-sweep")
    check_folder(config, path, backend, resume, "sweep")
    path.mkdir(parents=True, exist_ok=True)
    with hold(path):
        found = check_folder(config, path, backend, resume, "sweep")  # again: now that no other process is at it
        folder = _opened(config, path, backend, found, command)
        table = {key: value for key, value in config.table.items() if key not in ("sweep", "out", "output", "backend")}
        points = str((path / POINTS).resolve()) if plan.keep else None
        home = str(config.folder.resolve())  # the same from wherever the file is named
        point = ConfigPoint(table, Path(config.where).name, home, plan.run, backend, points)
        _count_in(backend, config.dtype)  # before the sweep looks how this process counts
        refine = None if plan.refine is None else {plan.refine.axis: plan.refine.rounds}
        try:
            data = over(
                point, plan.axes, path, scheduler=scheduler if scheduler is not None else plan.scheduler,
                workers=workers if workers is not None else plan.workers, retry=retry, refine=refine,
                by=None if plan.refine is None else plan.refine.by, progress=progress, allow_unverified=False,
            )  # fmt: skip
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            folder.log("interrupted" if interrupted else "failed", error="" if interrupted else str(error))
            folder.say(state="interrupted" if interrupted else "failed", ended=now())
            raise
        failed = int((data["error"] != "").sum()) if "error" in data else 0
        done = int(data["done"].sum())
        folder.say(state="done", ended=now(), points=done, failed=failed)
        folder.log("end", points=done, failed=failed)
        say(f"sweep: {done} points, {failed} failed")
    run = open_run(path)
    if config.output.report:
        write_report(folder, run, say)
    return run


def _opened(config: Config, path: Path, backend: str, found: dict[str, Any] | None, command: str) -> RunFolder:
    if found is not None:
        folder = RunFolder(path, found)
        folder.running()
        folder.configured(as_toml(moved(config.table, config.folder, path), backend))
        folder.log("resume", command=command)
        return folder
    about = dict(
        kind="sweep", command=command, backend=backend, dtype=config.dtype, seed=config.seed, versions=versions(backend),
        git=git_state(config.folder), machine=machine(), table=config.told(), inputs=inputs(config.table, config.folder),
    )  # fmt: skip
    folder = RunFolder.begin(path, about, as_toml(moved(config.table, config.folder, path), backend))
    folder.log("begin", command=command)
    return folder
