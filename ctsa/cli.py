"""The command line: ``ctsa demo``. Wrong options, paths and files get one line and exit status 2."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ctsa", description="Continuous-time self-attention: flows of tokens on the sphere.")
    parser.add_argument("--version", action="version", version=f"ctsa {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    demo = commands.add_parser(
        "demo",
        help="run the main job on real input: heads of a pretrained transformer as a flow, beside the discrete layer",
        description="Integrate the classic flow on S^2 and the attention heads of two layers of all-MiniLM-L6-v2 on a "
        "sentence, compare with the discrete layers, and write pictures, arrays and a summary.",
    )
    demo.add_argument("--backend", choices=["torch", "jax"], help="which framework computes (default: one installed)")
    demo.add_argument("--out", type=Path, default=Path("ctsa-demo"), metavar="DIR", help="folder (default: ctsa-demo)")
    demo.add_argument("--text", metavar="SENTENCE", help="another sentence for the pretrained heads")
    demo.add_argument("--short", action="store_true", help="a smaller run, for checking an installation")
    demo.set_defaults(run=_demo)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from .studies import demo

    here = demo.installed()
    backend = options.backend or (here[0] if here else "torch")
    if backend not in here:
        return _fail(f"the {backend} backend is not installed: pip install 'ctsa[{backend}]'")
    if backend == "jax":
        _keep_compiled()
    settings = demo.SHORT if options.short else demo.FULL
    text = demo.SENTENCE if options.text is None else options.text
    try:
        demo.run(options.out, backend, settings, text)
    except OSError as error:
        return _fail(f"--out {options.out}: {error.strerror or error}")
    except ValueError as error:
        if options.text is None:
            raise
        return _fail(f"--text: {error}")
    return 0


def _keep_compiled() -> None:
    """Have JAX keep what it compiles for the next command, unless the user has set a folder, or there is none."""
    import jax

    from .jax import keep_compiled

    if jax.config.jax_compilation_cache_dir is None:
        with contextlib.suppress(OSError):
            keep_compiled()


def _fail(message: str) -> int:
    print(f"ctsa: {message}", file=sys.stderr)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 2 for wrong use, 130 after an interrupt."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("ctsa: interrupted; what was written stays", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
