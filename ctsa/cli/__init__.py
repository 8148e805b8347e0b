"""The command line: ``ctsa demo``, ``ctsa train``, ``ctsa experiment``. Wrong use gets one line and exit status 2."""

import os
import sys
from collections.abc import Sequence

from ctsa import __version__

from . import _demo, _experiment, _train
from ._common import Parser, WrongUse, fail, keep_compiled as keep_compiled


def _parser() -> Parser:
    parser = Parser(prog="ctsa", description="Continuous-time self-attention: flows of tokens on the sphere.")
    parser.add_argument("--version", action="version", version=f"ctsa {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for each in (_demo, _train, _experiment):
        each.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 for failure, 2 for wrong use, 130 after an interrupt."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return options.run(options)
    except WrongUse as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("ctsa: interrupted; what was written stays", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
