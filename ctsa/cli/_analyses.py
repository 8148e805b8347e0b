"""``ctsa simulate``, ``ctsa lyapunov``, ...: one analysis each of what a file says; ``ctsa run``: all that it names."""

import contextlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ctsa.results.lock import LOCK
from ctsa.runs import ANALYSES, Config, Run, RunError, read_config, run_config
from ctsa.runs.estimating import check_room
from ctsa.runs.running import check_folder
from ctsa.runs.telling import jsonable

from ._common import WrongUse, backend_to_use, fail, folder_to_write, ready
from ._options import Options
from ._printing import print_run

File = Annotated[Path | None, Parameter(help="A file of TOML; left out: 32 tokens on S^2, Q = K = V = 1. See `ctsa init`.")]


def add(app: App) -> None:
    """Add a command for every analysis, and ``run``."""
    for analysis in ANALYSES.values():
        asks = f"{analysis.asks[0].upper()}{analysis.asks[1:]}."
        text = f"{asks}\n\nThe table [{analysis.name}] of the file holds its settings."
        app.command(_command(analysis.name), name=analysis.name, help=text, group="Analyses")
    app.command(
        _command(None), name="run", group="Analyses",
        help="Run all analyses that a file names.\n\nTheir tables say which, and how; without any it simulates.",
    )  # fmt: skip


def _command(name: str | None) -> Callable[..., int]:
    def command(file: File = None, /, options: Options | None = None) -> int:
        return run(name, file, options or Options())

    return command


def run(name: str | None, file: Path | None, options: Options) -> int:
    """Check everything, run, and print what came of it."""
    config = config_of(file, options)
    config = _only(config, name)
    backend = backend_to_use(config.backend)
    default = f"ctsa-{name or 'run'}"
    out = options.out or Path(config.out or default)
    ready(backend, config.dtype)
    if options.dry_run:
        return dry_run(config, backend, options)
    try:
        check_folder(config, out, backend, options.resume)
        made = config.make(backend)
        check_room(config, made)
    except (ValueError, TypeError, FileExistsError, ImportError) as error:
        raise WrongUse(with_flags(str(error))) from error
    except OSError as error:
        raise WrongUse(error.strerror or str(error)) from error
    folder_to_write(out.parent)
    words = ["ctsa", name or "run", *([str(file)] if file else []), *options.again()]
    try:
        found = run_config(
            config, out, backend=backend, made=made, resume=options.resume, progress=options.progress,
            command=shlex.join(words), say=options.say,
        )  # fmt: skip
    except KeyboardInterrupt:
        return fail(f"interrupted; what was done is in {out}/, go on with: {shlex.join([*words, '--resume'])}", 130)
    except ValueError as error:
        with contextlib.suppress(OSError):  # of a run that has not begun: other files keep it
            (out / LOCK).unlink(missing_ok=True)
            out.rmdir()
        raise WrongUse(with_flags(str(error))) from error
    except RunError as error:
        return fail(f"{error} (see {out}/log.jsonl)", 1)
    except BlockingIOError as error:
        return fail(str(error.strerror or error), 1)
    except OSError as error:
        return fail(f"{out}: {error.strerror or error}; what was written stays, --resume goes on", 1)
    finish(found, options)
    return 0


def finish(found: Run, options: Options) -> None:
    """Print a run."""
    print_run(found, options.json)


def config_of(file: Path | None, options: Options) -> Config:
    """Read a file with the changes of the options.

    Raises:
        WrongUse: it cannot be read, or says something that cannot be.
    """
    given = dict(backend=options.backend, dtype=options.dtype, seed=options.seed)
    try:
        return read_config(file, options.changes, **given)
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise WrongUse(str(error)) from error


def _only(config: Config, name: str | None) -> Config:
    try:
        if name is not None:
            return config.only(name)
        return config if config.analyses else config.only("simulate")
    except ValueError as error:
        raise WrongUse(str(error)) from error


def dry_run(config: Config, backend: str, options: Options) -> int:
    """Print what the analyses of a config take; 1 if one does not fit."""
    from ctsa.runs.estimating import duration, estimate_of

    try:
        made = config.make(backend)
        found = [estimate_of(name, made, settings) for name, settings in config.analyses.items()]
    except (ValueError, TypeError, ImportError) as error:
        raise WrongUse(str(error)) from error
    except OSError as error:
        raise WrongUse(error.strerror or str(error)) from error
    if options.json:
        told = [jsonable({name: getattr(each, name) for name in each._static}) for each in found]
        print(json.dumps(dict(backend=backend, dtype=made.dtype, tokens=list(made.x0.shape), analyses=told)))
    else:
        what = "layer" if made.layer is not None else "flow"
        print(f"{what} of tokens {made.x0.shape}, {made.dtype}, {backend}\n")
        print("\n\n".join(each.table() for each in found))
        total = sum(each.seconds for each in found)
        print(f"\nin all {duration(total)}" if len(found) > 1 and total == total else "")
    return 0 if all(each.fits for each in found) else 1


def with_flags(text: str) -> str:
    """Return a message of the library in the words of the command line."""
    return text.replace("resume goes on with it, another folder", "--resume goes on with it, another --out").replace(
        "or take another folder", "or take another --out"
    ).replace("choose another folder", "choose another --out")  # fmt: skip
