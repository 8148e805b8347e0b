"""``ctsa reproduce``: results of the literature by name."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ._common import WrongUse, backend_to_use, fail, folder_to_write, keep_compiled, need_settings
from ._options import Backend, Flag, at_least


def add(app: App) -> None:
    """Add the command."""
    app.command(reproduce, name="reproduce", group="Studies", help_epilogue="`ctsa reproduce --list` names them.")


def reproduce(
    name: Annotated[str | None, Parameter(help="Of the study; see --list.")] = None,
    /,
    *,
    listed: Annotated[Flag, Parameter(name="--list", help="List the studies and what they ask, and stop.")] = False,
    quick: Annotated[Flag, Parameter(help="Seconds for a figure, minutes with models (the default).")] = False,
    full: Annotated[Flag, Parameter(help="As in the docs: minutes for a figure, hours with models.")] = False,
    backend: Backend = None,
    out: Annotated[Path, Parameter(help="Folder to write to.")] = Path("ctsa-reproduce"),
    seeds: Annotated[
        int | None, Parameter(validator=at_least(1), help="Models of each recipe (default: its own).")
    ] = None,
    quiet: Annotated[Flag, Parameter(help="No progress, the table only.")] = False,
) -> int:
    """Make a figure of the literature, or repeat an experiment with trained models, and check it against what is known.

    The table (NAME.csv), the findings (NAME.npz), a picture, a report, and the models of an experiment go into the folder.
    Models that it has are taken as they are, and one that was interrupted goes on. The exit status is 1 if a number differs
    from what is known.
    """
    if quick and full:
        raise WrongUse("reproduce: --quick and --full exclude each other")
    return _run(name, listed, "full" if full else "quick", backend, out, seeds, quiet)


def _run(
    name: str | None, listed: bool, preset: str, backend: str | None, out: Path, seeds: int | None, quiet: bool
) -> int:
    need_settings()
    from ctsa.settings import nearest
    from ctsa.studies.names import FIGURES, STUDIES

    if listed:
        width = max(map(len, STUDIES))
        kinds = {key: FIGURES[key].source if key in FIGURES else "trained models" for key in STUDIES}
        print("\n".join(f"{key:{width}}  {asks} [{kinds[key]}]" for key, asks in STUDIES.items()))
        return 0
    if name not in STUDIES:
        got = "" if name is None else f", got {name!r}{nearest(name, STUDIES)}"
        raise WrongUse(f"reproduce: wanted one of {', '.join(STUDIES)}{got}")
    if seeds is not None and name in FIGURES:
        raise WrongUse(f"reproduce: --seeds is for experiments with trained models, and {name} has none: leave it out")
    backend = backend_to_use(backend, training=name not in FIGURES)
    folder_to_write(out)
    if backend == "jax":
        keep_compiled()
    from ctsa import pretrained, studies

    say = (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))
    try:
        found = studies.reproduce(
            name, out, backend=backend, preset=preset, seeds=seeds, say=say, progress=False if quiet else None
        )
    except FileExistsError as error:
        return fail(str(error))
    except (pretrained.WeightsNotFound, ImportError) as error:
        raise WrongUse(str(error)) from error
    except OSError as error:
        place = error.filename2 or error.filename or out  # the second is the file that another was to become
        return fail(f"{place}: {error.strerror}" if error.strerror else str(error), 1)
    except KeyboardInterrupt:
        rest = "the same command begins anew" if name in FIGURES else "finished models stay, the same command goes on"
        return fail(f"interrupted; {rest}", 130)
    print(f"{found.name}: {found.title}\n\n{found.table()}\n\nwritten to {out}/")
    return 0 if found.passed else 1
