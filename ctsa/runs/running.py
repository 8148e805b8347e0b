"""Run what a config says, into a folder: log, checkpoints, results, pictures, report; go on where it was stopped."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ctsa.results.files import RUN
from ctsa.results.lock import hold
from ctsa.results.store import is_group

from .about import git_state, inputs, machine, moved, versions
from .analyses import ANALYSES, Kept
from .config import Config, Made
from .estimating import check_room
from .folder import PICTURES, RunFolder, now
from .reading import Run, open_run
from .telling import answers
from .writing import as_toml, draw

Say = Callable[[str], Any]


class RunError(RuntimeError):
    """An analysis of a run failed; the others, and what this one had done, are in the folder."""


def run_config(
    config: Config,
    out: str | Path | None = None,
    *,
    backend: str | None = None,
    made: Made | None = None,
    resume: bool = False,
    progress: bool | None = None,
    command: str = "",
    say: Say | None = None,
) -> Run:
    """Run the analyses of a config, one after the other, into a folder that ``ctsa.load`` opens.

    Args:
        config: from ``read_config``; one that names no analysis simulates.
        out: the folder; None takes the config's, or "ctsa-run".
        backend: "torch" or "jax"; None takes the config's, or one that is installed.
        made: what ``config.make(backend)`` returned, if that has been called.
        resume: go on with the run that the folder holds: finished analyses are left as they are, the one that was stopped
            goes on from its checkpoint, to the same bits as if it had not been stopped. Analyses may join.
        progress: draw bars on stderr; None does in a terminal.
        command: how it was called, for ``run.json``.
        say: receives a line for each analysis.

    Returns:
        The ``Run``.

    Raises:
        ValueError: the config does not fit, also as its first analysis finds it, which then leaves no folder; or the folder
            holds a run of something else.
        FileExistsError: the folder holds a run, and ``resume`` is not set; or something else.
        BlockingIOError: another process runs this folder.
        RunError: an analysis failed; the cause is its ``__cause__``.
        OSError: the folder cannot be written; what was written stays readable, and ``resume`` goes on.

    Example:
        >>> import tempfile
        >>> from ctsa.runs import read_config, run_config
        >>> config = read_config(None, ["tokens.n=4", "lyapunov.intervals=20", "lyapunov.transient=50"])
        >>> run = run_config(config, tempfile.mkdtemp() + "/first", backend="torch", progress=False)
        >>> run.results["lyapunov"].verdict.name
        'equilibrium'
    """
    say = say or (lambda text: None)
    config = config if config.analyses else config.only("simulate")
    path, backend = folder_of(config, out), backend or config.backend or _installed()
    check_folder(config, path, backend, resume)
    made = config.make(backend) if made is None else made
    check_room(config, made)
    path.mkdir(parents=True, exist_ok=True)
    with hold(path):
        found = check_folder(config, path, backend, resume)  # again: now that no other process is at it
        folder = _opened(config, path, backend, found, command)
        for name, settings in config.analyses.items():
            try:
                _one(folder, name, settings, made, progress, say, config.output.pictures)
            except RunError as error:
                if found is None and isinstance(error.__cause__, ValueError | TypeError) and folder.empty():
                    folder.discard()  # an argument was wrong, and nothing was done: there is nothing to go on with
                    raise ValueError(f"{config.where}: {name}: {error.__cause__}") from error.__cause__
                raise
        folder.say(state="done", ended=now())
        folder.log("end")
    run = open_run(path)
    if config.output.report:
        write_report(folder, run, say)
    return run


def write_report(folder: RunFolder, run: Run, say: Say) -> None:
    """Write the report; where it cannot be, say so, since all that it would show is there."""
    from .reporting import report

    try:
        report(run)
    except (ImportError, OSError) as error:
        folder.log("warning", name="report", text=str(error))
        say(f"no report: {error}")


def folder_of(config: Config, out: str | Path | None) -> Path:
    """Return the folder that a run writes to."""
    return Path(out if out is not None else config.out or "ctsa-run")


def check_folder(config: Config, path: Path, backend: str, resume: bool, kind: str = "run") -> dict[str, Any] | None:
    """Return what the folder says of the run that it holds, if that is this one; None if it is empty, or not there.

    Raises:
        FileExistsError: it holds a run, and this is not to go on with it; or it holds something else.
        ValueError: it holds another run.
    """
    if not (path / RUN).exists():
        if path.exists() and (not path.is_dir() or any(p.name[0] != "." for p in path.iterdir())):
            raise FileExistsError(f"{path} exists and holds no run: choose another folder")
        return None
    if not resume:
        raise FileExistsError(f"{path} holds a run already: resume goes on with it, another folder starts anew")
    about = open_run(path).about
    if about.get("kind", "run") != kind:
        raise ValueError(f"{path} holds a {about['kind']}, not a {kind}: choose another folder")
    begun = [name for name, known in about.get("analyses", {}).items() if known.get("state") != "waiting"]
    apart = _apart(about.get("table", {}), config.told(), begun, config.analyses)
    apart += [f"backend ({about['backend']} there, {backend} here)"] if about.get("backend") != backend else []
    files = inputs(config.table, config.folder)
    apart += [f"what is in {name}" for name, told in files.items() if about.get("inputs", {}).get(name, told) != told]
    if apart:
        raise ValueError(f"{path} holds another run: {', '.join(apart)}; resume with its values, or take another folder")
    return about


def _apart(there: dict[str, Any], here: dict[str, Any], begun: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Name the keys at which two tables differ.

    An analysis that only one of them has counts if the folder has ``begun`` it with other settings, those of no table among
    them: if there is a table here, or it is ``wanted`` here.
    """
    found = []
    for name in sorted({*there, *here}):
        if name in ANALYSES and (name not in there or name not in here):
            if name not in begun or (name not in here and name not in wanted):
                continue
        a, b = there.get(name, {}), here.get(name, {})
        if isinstance(a, dict) and isinstance(b, dict):
            keys = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
            found += [f"{name}.{k} ({a.get(k)!r:.40} there, {b.get(k)!r:.40} here)" for k in keys]
        elif a != b:
            a, b = (str(table.get(name))[:40] for table in (there, here))
            found.append(f"{name} ({a} there, {b} here)")
    return found


def _opened(config: Config, path: Path, backend: str, found: dict[str, Any] | None, command: str) -> RunFolder:
    if found is not None:
        folder = RunFolder(path, found)
        known = {**found.get("table", {}), **config.told()}
        folder.say(table=known, versions=versions(backend))
        folder.running()
        folder.log("resume", command=command)
        with_all = {**moved(config.table, config.folder, path), **{k: v for k, v in known.items() if k in ANALYSES}}
        folder.configured(as_toml(with_all, backend))
        return folder
    about = dict(
        kind="run", command=command, backend=backend, dtype=config.dtype, seed=config.seed, versions=versions(backend),
        git=git_state(config.folder), machine=machine(), table=config.told(), inputs=inputs(config.table, config.folder),
        analyses={name: {"state": "waiting"} for name in config.analyses},
    )  # fmt: skip
    folder = RunFolder.begin(path, about, as_toml(moved(config.table, config.folder, path), backend))
    folder.log("begin", command=command)
    return folder


def _one(folder: RunFolder, name: str, settings: Any, made: Made, progress: bool | None, say: Say, pictures: bool) -> None:
    """Run one analysis, unless it is done."""
    store = folder.store(name)
    if is_group(store):
        say(f"{name}: done before")
        if folder.about["analyses"].get(name, {}).get("state") != "done":  # killed before it could say so
            folder.say_of(name, state="done", error=None)
        return
    began = time.perf_counter()
    folder.say_of(name, state="running", error=None)
    folder.log("analysis", name=name)
    kept = Kept(folder.checkpoint(name), store if name == "simulate" else None, progress, _bar(progress))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = ANALYSES[name].run(made, settings, kept)
        for each in caught:
            folder.log("warning", name=name, text=str(each.message))
        if not is_group(store):
            folder.save(name, result)
    except KeyboardInterrupt:
        _ended(folder, name, "interrupted", "")
        raise
    except OSError as error:
        _ended(folder, name, "failed", f"{error.strerror or error}")
        raise
    except Exception as error:  # whatever an analysis raises is its failure, and told as such
        _ended(folder, name, "failed", f"{type(error).__name__}: {error}")
        raise RunError(f"{name} failed: {error}") from error
    seconds = time.perf_counter() - began
    for each in caught:
        say(f"{name}: {' '.join(str(each.message).split())}")
    if pictures:
        with contextlib.suppress(OSError):
            draw(result, folder.path / PICTURES / f"{name}.png")
    folder.say_of(name, state="done", seconds=seconds)
    folder.log("done", name=name, seconds=seconds)
    say(f"{name}: {seconds:.3g} s, {_short(result)}")


def _ended(folder: RunFolder, name: str, state: str, error: str) -> None:
    """Say how it ended, as far as the disk lets."""
    with contextlib.suppress(OSError):
        folder.log(state, name=name, error=error)
        folder.say_of(name, state=state, error=error or None)
        folder.say(state=state, ended=now())


def _short(result: Any) -> str:
    words = [f"{k} {v}" for k, v in answers(result).items() if isinstance(v, str | int) and not isinstance(v, bool)]
    return ", ".join(words[:3]).replace("_", " ")


def _installed() -> str:
    from importlib.util import find_spec

    return next((name for name in ("torch", "jax") if find_spec(name) is not None), "torch")


def _bar(progress: bool | None) -> Callable[[str], Any] | None:
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return None
    from tqdm import tqdm

    return lambda name: tqdm(desc=name, leave=False, unit="output")
