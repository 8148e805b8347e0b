"""Run an experiment by its name."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ctsa import checks
from ctsa.settings import one_of
from ctsa.studies.findings import Findings
from ctsa.studies.names import EXPERIMENTS, PRESETS

from .lab import Lab


def run(
    name: str,
    out: str | Path,
    *,
    backend: str = "torch",
    preset: str = "quick",
    seeds: int | None = None,
    say: Callable[[str], Any] = print,
    progress: bool | None = None,
    **sizes: Any,
) -> Findings:
    """Run an experiment; models that the folder has are taken as they are, and one that was interrupted goes on.

    Args:
        name: one of ``EXPERIMENTS``.
        out: folder of models, table (``NAME.csv``), findings (``NAME.npz``) and picture (``NAME.png``).
        backend: "torch" or "jax".
        preset: "quick" (minutes) or "full".
        seeds: how many of each recipe; None is what the experiment's ``SEEDS`` say.
        say: receives lines of progress.
        progress: bars of training.
        sizes: attributes of ``Lab``: ``task=``, ``changes=``, ``sizes=``.

    Returns:
        ``Findings``.

    Raises:
        ValueError: there is no such experiment or preset.
        FileExistsError: the folder holds models of other recipes.
    """
    one_of("experiment", name, EXPERIMENTS)
    one_of("preset", preset, PRESETS)
    experiment = import_module(f".{name.replace('-', '_')}", __package__)
    seeds = experiment.SEEDS[preset] if seeds is None else checks.integer("seeds", seeds, low=1)
    checks.choice("backend", backend, ("torch", "jax"))
    lab = Lab(Path(out), backend, preset, seeds, say, progress=progress, **sizes)
    found = experiment.run(lab)
    found.write(lab.folder)
    return found
