"""``ctsa show`` and ``ctsa report``: a run that was kept."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import ctsa
from ctsa.runs import Run

from ._common import WrongUse, fail
from ._options import Flag
from ._printing import print_run

Kept = Annotated[Path, Parameter(help="Folder of a run, or a file that a result has saved.")]


def add(app: App) -> None:
    """Add the commands."""
    app.command(show, name="show", group="Runs that were kept")
    app.command(report, name="report", group="Runs that were kept")


def show(
    path: Kept,
    /,
    *,
    as_json: Annotated[Flag, Parameter(name="--json", help="Print it as JSON.")] = False,
    log: Annotated[Flag, Parameter(help="Print what happened, a line an event.")] = False,
) -> int:
    """Show a run, or a result in a file: what it is, how it went, what came of it."""
    found = opened(path)
    if isinstance(found, Run):
        if log:
            print("\n".join(json.dumps(row) if as_json else _line(row) for row in found.log))
        else:
            print_run(found, as_json, about=True)
        return 0
    if as_json:
        from ctsa.runs.telling import answers, jsonable

        print(json.dumps({"kind": type(found).__name__, **jsonable(answers(found))}, allow_nan=False))
    else:
        print(found.table() if hasattr(found, "table") else found)
    return 0


def report(
    path: Kept,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The file (default: report.html in the folder of the run).")] = None,
) -> int:
    """Write a report of a run: one HTML file that opens anywhere, without a network."""
    from ctsa.runs.reporting import report as write

    found = opened(path)
    if not isinstance(found, Run):
        raise WrongUse(f"{path} is no folder of a run")
    try:
        print(f"written to {write(found, out)}")
    except ImportError as error:
        raise WrongUse(str(error)) from error
    except OSError as error:
        return fail(f"{out or path}: {error.strerror or error}", 1)
    return 0


def opened(path: Path) -> object:
    """Open a run or a result.

    Raises:
        WrongUse: it is neither.
    """
    try:
        return ctsa.load(path)
    except (OSError, ValueError, ImportError) as error:
        raise WrongUse(str(error)) from error


def _line(row: dict) -> str:
    told = {key: value for key, value in row.items() if key not in ("time", "event") and value not in ("", None)}
    rest = ", ".join(f"{key} {value}" for key, value in told.items())
    return f"{row.get('time', '')}  {row.get('event', '')}  {rest}".rstrip()
