"""``ctsa demo``."""

import argparse
from pathlib import Path
from typing import Any

from ._common import fail, keep_compiled


def add(commands: Any) -> None:
    """Add the command to the parser."""
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
    demo.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo."""
    from ctsa.studies import demo

    here = demo.installed()
    backend = options.backend or (here[0] if here else "torch")
    if backend not in here:
        return fail(f"the {backend} backend is not installed: pip install 'ctsa[{backend}]'")
    if backend == "jax":
        keep_compiled()
    settings = demo.SHORT if options.short else demo.FULL
    text = demo.SENTENCE if options.text is None else options.text
    try:
        demo.run(options.out, backend, settings, text)
    except OSError as error:
        return fail(f"--out {options.out}: {error.strerror or error}")
    except ValueError as error:
        if options.text is None:
            raise
        return fail(f"--text: {error}")
    return 0
