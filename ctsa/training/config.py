"""A file that says what to train: task, model and training as TOML, checked before any work starts."""

import difflib
import inspect
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from ctsa.datasets import Splits
from ctsa.datasets.presets import TASKS
from ctsa.models import RecurrentModel

from .settings import PRESETS, Checked, Settings, preset as preset_of

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
    path, given = Path(path), list(changes)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    if not given:
        return _checked(table, str(path), seed)
    try:
        return _checked(_changed(table, given), str(path), seed)
    except ValueError:
        _checked(table, str(path), seed)  # what is wrong in the file itself is told as such
        _checked(_changed(table, given), f"{path} with --set", seed)
        raise


def _checked(table: dict[str, Any], where: str, seed: int | None) -> Config:
    try:
        top = _Top.read(table, "")
        model = _arguments(RecurrentModel.for_task, ("task",)).read(top.model, "model")
        task, settings = _task(top.task), _settings(top.training)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace('a valid dictionary', 'a table')}") from None
    chosen = dict(model.model_dump(exclude_unset=True))
    if seed is not None:
        settings, chosen["seed"] = settings.changed(seed=seed), seed
    return Config(where, top.backend, top.out, task, chosen, settings)


def _task(table: dict[str, Any]) -> dict[str, Any]:
    name = table.get("name")
    if name is None:
        raise ValueError(f"task.name is missing: one of {', '.join(TASKS)}")
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"task.name must be one of {', '.join(TASKS)}, got {name!r:.60}{_near(name, TASKS)}")
    kind = _arguments(TASKS[name][0], (), name=(str, ...))
    return kind.read(table, "task").model_dump(exclude_unset=True)


def _settings(table: dict[str, Any]) -> Settings:
    changes = dict(table)
    name = changes.pop("preset", "quick")
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"training.preset must be one of {', '.join(PRESETS)}, got {name!r:.60}{_near(name, PRESETS)}")
    return Settings.read({**preset_of(name).model_dump(), **changes}, "training")


def _arguments(function: Callable[..., Any], without: tuple[str, ...], **more: Any) -> type[Checked]:
    """Return a class of settings that are the arguments of a function, with their types."""
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in without}
    fields: dict[str, Any] = {name: (p.annotation, p.default) for name, p in known.items()}
    return create_model("Arguments", __base__=Checked, **(more | fields))


def _near(name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f": did you mean {near[0]}?" if near else ""


def _changed(table: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """Return a table with ``a.b=value`` put into it."""
    found = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for change in changes:
        key, equals, text = change.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise ValueError(f"--set {change}: wanted key=value, such as training.steps=500")
        if len(names) > 2:
            raise ValueError(f"--set {change}: keys have a table and a name at most, such as training.steps")
        home = found
        if len(names) == 2:
            home = found.setdefault(names[0], {})
            if not isinstance(home, dict):
                raise ValueError(f"--set {change}: {names[0]} is no table")
        home[names[-1]] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
        return found["value"] if len(found) == 1 else text
    except tomllib.TOMLDecodeError:
        return text
