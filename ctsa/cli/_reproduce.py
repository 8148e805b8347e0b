"""``ctsa reproduce``: results of the literature by name."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ._common import WrongUse, backend_to_use, fail, folder_to_write, keep_compiled, need_settings
from ._options import Backend, Flag, at_least


def add(app: App) -> None:
    """Add the command."""
    app.command(reproduce, name="reproduce", group="Studies", help_epilogue="`ctsa reproduce --list` names them.")


def reproduce(
    name: Annotated[str | None, Parameter(help="Of the experiment; see --list.")] = None,
    /,
    *,
    listed: Annotated[Flag, Parameter(name="--list", help="List the experiments and what they ask, and stop.")] = False,
    preset: Annotated[Literal["quick", "full"], Parameter(help="Minutes, or much longer.")] = "quick",
    backend: Backend = None,
    out: Annotated[Path, Parameter(help="Folder to write to.")] = Path("ctsa-reproduce"),
    seeds: Annotated[
        int | None, Parameter(validator=at_least(1), help="Models of each recipe (default: its own).")
    ] = None,
    quiet: Annotated[Flag, Parameter(help="No progress, the table only.")] = False,
) -> int:
    """Repeat an experiment of the literature, and print its table with what was found.

    Models are trained and measured; the table (NAME.csv), the findings (NAME.npz), a picture and the models go into the
    folder. Models that it has are taken as they are, and one that was interrupted goes on.
    """
    try:
        return _run(name, listed, preset, backend, out, seeds, quiet)
    except KeyboardInterrupt:
        return fail("interrupted; finished models stay, the same command goes on", 130)


def _run(
    name: str | None, listed: bool, preset: str, backend: str | None, out: Path, seeds: int | None, quiet: bool
) -> int:
    need_settings()
    from ctsa.settings import nearest
    from ctsa.studies.experiments.names import EXPERIMENTS

    if listed:
        width = max(map(len, EXPERIMENTS))
        print("\n".join(f"{key:{width}}  {asks}" for key, asks in EXPERIMENTS.items()))
        return 0
    if name not in EXPERIMENTS:
        got = "" if name is None else f", got {name!r}{nearest(name, EXPERIMENTS)}"
        raise WrongUse(f"reproduce: wanted one of {', '.join(EXPERIMENTS)}{got}")
    backend = backend_to_use(backend, training=True)
    folder_to_write(out)
    if backend == "jax":
        keep_compiled()
    from ctsa.studies.experiments import run as experiment

    say = (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))
    try:
        found = experiment(
            name, out, backend=backend, preset=preset, seeds=seeds, say=say, progress=False if quiet else None
        )
    except FileExistsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{out}: {error.strerror or error}", 1)
    print(f"{found.name}: {found.title}\n\n{found.table()}\n\nwritten to {out}/")
    return 0
