"""``ctsa sweep``: an analysis at every point of a grid."""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ctsa.runs import run_sweep
from ctsa.runs.estimating import duration, estimate_of
from ctsa.runs.running import check_folder

from ._analyses import config_of, with_flags
from ._common import WrongUse, backend_to_use, fail, folder_to_write, missing, ready
from ._options import Flag, Options, at_least
from ._printing import print_sweep


def add(app: App) -> None:
    """Add the command."""
    app.command(sweep, name="sweep", group="Studies")


def sweep(
    file: Annotated[Path, Parameter(help="A file of TOML with a table [sweep].")],
    /,
    options: Options | None = None,
    *,
    workers: Annotated[
        int | None, Parameter(validator=at_least(0), help="Processes (default: as many as cores); 0: this one.")
    ] = None,
    scheduler: Annotated[str | None, Parameter(help="Address of a Dask scheduler that runs elsewhere.")] = None,
    retry: Annotated[Flag, Parameter(help="With --resume: run the points again that have failed.")] = False,
) -> int:
    """Run an analysis at every point of a grid, on all cores or on a cluster, into one labelled store.

    Points are written as they come; --resume goes on after whatever stopped the sweep. A point that fails is written down
    with its error, and the others go on.
    """
    options = options or Options()
    config = config_of(file, options)
    if config.sweep is None or config.sweep.run is None:
        raise WrongUse(f"{file}: sweep is missing: a table [sweep] with axes, see `ctsa init`")
    if missing("xarray"):
        raise WrongUse("sweeps need xarray: pip install 'ctsa[runs]'")
    backend = backend_to_use(config.backend)
    ready(backend, config.dtype)
    out = options.out or Path(config.out or "ctsa-sweep")
    try:
        check_folder(config, out, backend, options.resume, "sweep")
        first = config.changed({key: values[0] for key, values in config.sweep.axes.items()}).only(config.sweep.run)
        made = first.make(backend)
        found = estimate_of(config.sweep.run, made, first.analyses[config.sweep.run], probe=options.dry_run)
        found.require()
    except (ValueError, TypeError, FileExistsError, ImportError) as error:
        raise WrongUse(with_flags(str(error))) from error
    except OSError as error:
        raise WrongUse(error.strerror or str(error)) from error
    if options.dry_run:
        count = 1
        for values in config.sweep.axes.values():
            count *= len(values)
        print(f"{count} points; the first of them:\n\n{found.table()}")
        print(f"\nin one process {duration(found.compile + count * (found.seconds - found.compile))}")
        return 0
    folder_to_write(out.parent)
    words = ["ctsa", "sweep", str(file), *options.again()]
    words += ["--workers", str(workers)] if workers is not None else []
    words += ["--scheduler", scheduler] if scheduler is not None else []
    try:
        run = run_sweep(
            config, out, backend=backend, resume=options.resume, retry=retry, workers=workers, scheduler=scheduler,
            progress=options.progress, command=shlex.join(words), say=options.say,
        )  # fmt: skip
    except KeyboardInterrupt:
        return fail(f"interrupted; points that are done stay, go on with: {shlex.join([*words, '--resume'])}", 130)
    except ValueError as error:
        raise WrongUse(with_flags(str(error))) from error
    except (OSError, ImportError) as error:
        return fail(f"{out}: {getattr(error, 'strerror', None) or error}; what is done stays, --resume goes on", 1)
    print_sweep(run, options.json)
    failed = int(run.about.get("failed", 0))
    return 1 if failed and failed == run.about.get("points") else 0

