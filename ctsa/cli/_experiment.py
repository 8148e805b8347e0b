"""``ctsa experiment``: the experiments of ``ctsa.studies.experiments`` by name."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ._common import WrongUse, at_least, backend_to_use, fail, folder_to_write, keep_compiled, need_settings


def add(commands: Any) -> None:
    """Add the command to the parser."""
    experiment = commands.add_parser(
        "experiment",
        help="repeat an experiment on trained models: criticality, test-time, regularisers, ...",
        description="Train the models of an experiment, measure, and write its table (NAME.csv), findings (NAME.npz) and "
        "models. Models that the folder has are taken as they are, and one that was interrupted goes on.",
        epilog="Exit status: 0, 1 if it failed, 2 for wrong use, 130 after an interrupt.",
    )
    experiment.add_argument("name", nargs="?", metavar="NAME", help="of the experiment; see --list")
    experiment.add_argument("--list", action="store_true", help="list the experiments and what they ask, and stop")
    experiment.add_argument(
        "--preset", choices=["quick", "full"], default="quick", help="minutes, or much longer (default: quick)"
    )
    experiment.add_argument("--backend", choices=["torch", "jax"], help="which framework (default: one installed)")
    experiment.add_argument(
        "--out", type=Path, default=Path("ctsa-experiments"), metavar="DIR", help="folder (default: ctsa-experiments)"
    )
    experiment.add_argument("--seeds", type=at_least(1), metavar="N", help="models of each recipe (default: its own)")
    experiment.add_argument("--quiet", action="store_true", help="no progress, the table only")
    experiment.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run an experiment and print its table."""
    try:
        return _run(options)
    except KeyboardInterrupt:
        return fail("interrupted; finished models stay, the same command goes on", 130)


def _run(options: argparse.Namespace) -> int:
    need_settings()
    from ctsa.settings import nearest
    from ctsa.studies.experiments.names import EXPERIMENTS

    if options.list:
        width = max(map(len, EXPERIMENTS))
        print("\n".join(f"{name:{width}}  {asks}" for name, asks in EXPERIMENTS.items()))
        return 0
    if options.name not in EXPERIMENTS:
        got = "" if options.name is None else f", got {options.name!r}{nearest(options.name, EXPERIMENTS)}"
        raise WrongUse(f"experiment: wanted one of {', '.join(EXPERIMENTS)}{got}")
    backend = backend_to_use(options.backend, training=True)
    folder_to_write(options.out)
    if backend == "jax":
        keep_compiled()
    from ctsa.studies.experiments import run as experiment

    say = (lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr))
    try:
        found = experiment(
            options.name, options.out, backend=backend, preset=options.preset, seeds=options.seeds, say=say,
            progress=False if options.quiet else None,
        )  # fmt: skip
    except FileExistsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{options.out}: {error.strerror or error}", 1)
    print(f"{found.name}: {found.title}\n\n{found.table()}\n\nwritten to {options.out}/")
    return 0
