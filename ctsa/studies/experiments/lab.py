"""What experiments share: models trained once and kept in a folder, and findings as a table, notes and a picture."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctsa.datasets import task as task_of
from ctsa.models import load
from ctsa.studies.findings import Findings, as_table
from ctsa.studies.names import EXPERIMENTS
from ctsa.training import Settings, train
from ctsa.training.run import MODEL
from ctsa.training.settings import preset as preset_of

Say = Callable[[str], Any]

_TRAINING = {"quick": "small", "full": "full"}  # of an experiment -> of its models, of which there are many


@dataclass(frozen=True)
class Recipe:
    """One way to train a model.

    Attributes:
        name: of the folder, and in tables.
        model: arguments of ``RecurrentModel.for_task``.
        settings: changes of the settings of the preset.
    """

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Lab:
    """Where an experiment is done: its data, its trained models, its folder.

    A model is trained once: ``trained`` reads it back where the folder has it, and goes on with one that was interrupted.

    Attributes:
        folder: of the results; models are in ``folder/models``.
        backend: "torch" or "jax".
        preset: "quick" or "full".
        seeds: how many seeds of each recipe.
        say: receives lines of progress.
        task: name of the task.
        changes: of the settings of all recipes, over their own.
        sizes: arguments of the task and of ``for_task`` for all recipes, by "task" and "model".
        progress: bars of training; None draws them in a terminal.
    """

    folder: Path
    backend: str = "torch"
    preset: str = "quick"
    seeds: int = 3
    say: Say = print
    task: str = "sudoku-4x4"
    changes: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)
    progress: bool | None = None

    def __post_init__(self):
        self.folder = Path(self.folder)
        self.data: Any = task_of(self.task, **self.sizes.get("task", {}))
        if self.data.test is None or self.data.ood is None:
            raise ValueError(f"task must have samples out of distribution to judge by, and {self.task!r} has none")

    @property
    def face(self) -> Any:
        """The face of the backend."""
        from importlib import import_module

        return import_module(f"ctsa.{self.backend}")

    def settings(self, recipe: Recipe, seed: int) -> Settings:
        """Return the settings that a recipe is trained with."""
        return preset_of(_TRAINING[self.preset]).changed(**{**recipe.settings, **self.changes, "seed": seed})

    def trained(self, recipe: Recipe, seed: int) -> Any:
        """Return the model of a recipe and a seed, trained now or read back."""
        place = self.folder / "models" / f"{recipe.name}-{seed}"
        settings = self.settings(recipe, seed)
        arguments = {**self.sizes.get("model", {}), **recipe.model}
        wanted = json.loads(json.dumps(dict(
            settings=settings.model_dump(mode="json"), model=arguments, task=self.task, sizes=self.sizes,
            backend=self.backend,
        )))  # fmt: skip
        note = place / "recipe.json"
        if note.exists():
            found = json.loads(note.read_text())
            if found != wanted:
                apart = [key for key in wanted if found.get(key) != wanted[key]]
                raise FileExistsError(
                    f"{place} holds a model of another recipe ({', '.join(apart)} differ): take another out"
                )
            if (place / MODEL).exists():
                return load(place / MODEL, self.backend)
        place.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(wanted, indent=1))
        model = self.face.RecurrentModel.for_task(self.data.train, seed=seed, **arguments)
        run = train(model, self.data, settings, out=place, resume=True, progress=self.progress)
        accuracy = f", validation {run.accuracy[-1]:.3f}" if len(run.accuracy) else ""
        self.say(f"{recipe.name}, seed {seed}: {len(run.losses)} steps in {run.seconds:.0f} s, "
                 f"loss {np.mean(run.losses[-20:]):.3g}{accuracy}")  # fmt: skip
        return run.model

    def every(self, recipes: Sequence[Recipe]) -> Any:
        """Yield recipe, seed and model, of all recipes and seeds."""
        for recipe in recipes:
            for seed in range(self.seeds):
                yield recipe, seed, self.trained(recipe, seed)

    def found(self, name: str, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> Findings:
        """Return findings, of one dict a row."""
        told = dict(backend=self.backend, preset=self.preset, seeds=self.seeds, task=self.task, changes=self.changes)
        return Findings(name, EXPERIMENTS[name], as_table(rows), tuple(notes), told)


def rank_correlation(
    x: Any, y: Any, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return Spearman's rank correlation with its bootstrap interval, ``(rho, low, high)``; nan below 4 points."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan"), float("nan")
    some = np.random.default_rng(seed).integers(0, len(x), (draws, len(x)))
    found = _spearman(x[some], y[some])
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(_spearman(x, y)), float(low), float(high)


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return rank correlations ``(...)`` of ``(..., n)``; nan where all values are one."""
    from scipy.stats import rankdata

    a, b = (rankdata(v, axis=-1) - (v.shape[-1] + 1) / 2 for v in (x, y))
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.divide((a * b).sum(-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
