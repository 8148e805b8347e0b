"""``ctsa demo``."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ._common import backend_to_use, fail, ready
from ._options import Backend, Flag


def add(app: App) -> None:
    """Add the command."""
    app.command(demo, name="demo", group="Begin here")


def demo(
    *,
    backend: Backend = None,
    out: Annotated[Path, Parameter(help="Folder to write to.")] = Path("ctsa-demo"),
    text: Annotated[str | None, Parameter(help="Another sentence for the pretrained heads.")] = None,
    short: Annotated[Flag, Parameter(help="A smaller run, for checking an installation.")] = False,
) -> int:
    """Run the main job on real input: heads of a pretrained transformer as a flow, beside the discrete layer.

    Integrate the classic flow on S^2 and the attention heads of two layers of all-MiniLM-L6-v2 on a sentence, compare with
    the discrete layers, and write pictures, arrays and a summary.
    """
    backend = backend_to_use(backend)  # type: ignore[assignment]
    from ctsa.studies import demo as study

    ready(str(backend), "float32")
    settings = study.SHORT if short else study.FULL
    try:
        study.run(out, str(backend), settings, study.SENTENCE if text is None else text)
    except OSError as error:
        return fail(f"--out {out}: {error.strerror or error}")
    except ValueError as error:
        if text is None:
            raise
        return fail(f"--text: {error}")
    return 0
