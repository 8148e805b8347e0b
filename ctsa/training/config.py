"""A file that says what to train: task, model and training as TOML, checked before any work starts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ctsa.datasets import Splits
from ctsa.datasets.presets import TASKS
from ctsa.models import RecurrentModel
from ctsa.settings import Checked, arguments_of, changed, one_of, read_toml

from .settings import PRESETS, Settings, preset as preset_of

EXAMPLE = """\
# What `ctsa train` takes: TOML. Lines that begin with # show what else there is, most with its default.

backend = "torch"            # or "jax"; left out: one that is installed
out = "ctsa-train"           # folder of settings, log, checkpoint, model and evaluation

[task]                       # arguments of ctsa.datasets.task
name = "sudoku-4x4"          # or sudoku-6x6, sudoku-9x9, addition-4, digits
seed = 0
count = 6000                 # puzzles to be divided into training, validation and test
# clues = [6, 10]            # of these
# ood_clues = [4, 5]         # of the harder ones, out of distribution

[model]                      # arguments of RecurrentModel.for_task
kind = "itrsa"               # or akorn, akorn-rmsnorm, energy, none
d = 64                       # dimension of a token
heads = 4
seed = 0
# masks = true               # rows, columns and boxes of a board each rule a head
# positions = true           # learn where tokens stand
# gamma = "vector"           # or "scalar": then there is a flow, and depth may be continuous
# channels = 4               # of AKOrN: components of an oscillator
# tied = false               # values tied to scores: SymmetricAttention

[training]                   # ctsa.training.Settings
preset = "quick"             # 250 steps of batch 64; or small, quick-akorn, full, paper; what follows changes it
# steps = 250
# batch = 64
# depth = 16
# rate = 0.003
# watch = 50                 # exponents and energy every 50 steps
# validate_every = 50
# solver = "dopri5"          # integrate the flow in place of layers: needs gamma = "scalar"

# [[training.penalties]]     # as many as you like; see ctsa.training.Penalty
# kind = "spectral"
# weight = 1e-4
"""


class _Top(Checked):
    backend: Literal["torch", "jax"] | None = None
    out: str = Field(default="ctsa-train", min_length=1)
    task: dict[str, Any]
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}


@dataclass(frozen=True)
class Config:
    """What a file says, checked.

    Attributes:
        where: what messages call it.
        backend: "torch" or "jax"; None: either.
        out: the folder.
        task: name, seed and arguments of ``ctsa.datasets.task``.
        model: arguments of ``RecurrentModel.for_task``.
        settings: of training.
    """

    where: str
    backend: str | None
    out: str
    task: dict[str, Any]
    model: dict[str, Any]
    settings: Settings

    def data(self) -> Splits:
        """Return the data of the task.

        Raises:
            ValueError: an argument of the task is wrong.
            ImportError: the task needs a package that is not installed.
        """
        from ctsa.datasets import task

        return self._made("task", lambda: task(**self.task))

    def fresh(self, data: Splits, backend: str) -> Any:
        """Return the untrained model of a backend.

        Raises:
            ValueError: an argument of the model is wrong, or does not fit the task.
        """
        kind = import_module(f"ctsa.{backend}").RecurrentModel
        return self._made("model", lambda: kind.for_task(data.train, **self.model))

    def _made(self, table: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.where}: {table}: {error}") from error

    def told(self) -> dict[str, Any]:
        """Return what decides about a run, as JSON: all but ``out`` and ``backend``, which others check."""
        return dict(task=self.task, model=self.model, training=self.settings.model_dump(mode="json"))


def read_config(path: str | Path, changes: Iterable[str] = (), seed: int | None = None) -> Config:
    """Read and check a file for ``ctsa train``.

    Args:
        path: of a TOML file; see ``EXAMPLE``.
        changes: of its values: ``"training.steps=500"``, ``"model.kind=akorn"``; a value is TOML, or a word.
        seed: of model and training, in place of theirs.

    Returns:
        ``Config``.

    Raises:
        ValueError: the file is no TOML or says something that cannot be; file, key and what was wanted are named.
        OSError: it cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from ctsa.training.config import EXAMPLE, read_config
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "run.toml"
        ...     _ = path.write_text(EXAMPLE)
        ...     read_config(path, ["training.steps=500"]).settings.steps
        500
    """
    given, table = list(changes), read_toml(path)
    if not given:
        return _checked(table, str(path), seed)
    try:
        return _checked(changed(table, given, depth=2), str(path), seed)
    except ValueError:
        _checked(table, str(path), seed)  # what is wrong in the file itself is told as such
        _checked(changed(table, given, depth=2), f"{path} with --set", seed)
        raise


def _checked(table: dict[str, Any], where: str, seed: int | None) -> Config:
    try:
        top = _Top.read(table, "")
        model = arguments_of(RecurrentModel.for_task, ("task",)).read(top.model, "model")
        task, settings = _task(top.task), _settings(top.training)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace('a valid dictionary', 'a table')}") from None
    chosen = dict(model.model_dump(exclude_unset=True))
    if seed is not None:
        settings, chosen["seed"] = settings.changed(seed=seed), seed
    return Config(where, top.backend, top.out, task, chosen, settings)


def _task(table: dict[str, Any]) -> dict[str, Any]:
    if table.get("name") is None:
        raise ValueError(f"task.name is missing: one of {', '.join(TASKS)}")
    name = one_of("task.name", table["name"], TASKS)
    kind = arguments_of(TASKS[name][0], (), name=(str, ...))
    return kind.read(table, "task").model_dump(exclude_unset=True)


def _settings(table: dict[str, Any]) -> Settings:
    changes = dict(table)
    name = one_of("training.preset", changes.pop("preset", "quick"), PRESETS)
    return Settings.read({**preset_of(name).model_dump(), **changes}, "training")
