"""The command line: ``ctsa simulate``, ``ctsa lyapunov``, ... Wrong use gets one line and exit status 2."""

import os
import sys
from collections.abc import Sequence

from ._common import WrongUse, fail, keep_compiled as keep_compiled, missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 for failure, 2 for wrong use, 130 after an interrupt."""
    lacking = missing("cyclopts", "pydantic", "zarr", "tomli_w")
    if lacking:
        return fail(f"the command line needs {', '.join(lacking)}: pip install 'ctsa[runs]'")
    try:
        from cyclopts import CycloptsError

        from ._app import app
    except KeyboardInterrupt:
        return fail("interrupted before it began", 130)

    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        chain = " ".join(("ctsa", *(error.command_chain or ())))
        return fail(f"{_plain(str(error))} (see {chain} --help)", name=chain)
    except WrongUse as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return fail("interrupted; what was written stays", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    return status if isinstance(status, int) else 0


def _plain(text: str) -> str:
    """Return a message without the end that tells what the line before it means."""
    return text.strip().rstrip(".")
