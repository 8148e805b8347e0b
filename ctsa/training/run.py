"""Train a model: the same batches, starts and schedule in both frameworks, resumable to the same losses."""

import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, framework, trainer
from ctsa.flows import Solver
from ctsa.flows.opening import check_solver
from ctsa.models import files, save
from ctsa.models.recurrent import RecurrentModel
from ctsa.results.values import decode

from .evaluation import check_data, evaluate
from .log import Log, finite
from .objective import Objective
from .result import TrainingRun
from .settings import Settings, preset as preset_of
from .steps import batch_of, depths_of, rate_at
from .watching import SERIES, watch

CHECKPOINT, MODEL, SETTINGS = "checkpoint.safetensors", "model.safetensors", "settings.json"
_ALWAYS = ("loss", "gradient", "rate", "depth")


def _fingerprint(data: Any) -> str:
    """Return what tells the samples of a run from others."""
    return hashlib.sha256(data.inputs.tobytes() + data.targets.tobytes()).hexdigest()[:16]


class _Run:
    """A training run under way."""

    def __init__(self, model: Any, data: Any, settings: Settings, folder: Path | None, resume: bool):
        self.settings, self.data, self.folder = settings, data, folder
        half = settings.precision == "bfloat16"
        self.trainer = trainer(str(framework(model)))(
            model, Objective.of(settings), settings.optimiser, decay=settings.decay, clip=settings.clip,
            average=settings.average, half=half, compiled=settings.compile,
        )  # fmt: skip
        self._frozen = self._digest()
        self.d = int(model.embedding.shape[1])
        self.depths = depths_of(settings)
        self.largest = int(self.depths.max())
        self.step = 0
        self.whole = True  # between two steps: only then does a checkpoint belong to one
        self.diverged: int | None = None
        self.rows: dict[str, list[float]] = {name: [] for name in _ALWAYS}
        self.penalties: list[list[float]] = []
        self.validated: list[tuple[int, float]] = []
        self.watched: list[tuple] = []
        if folder is not None:
            self._open(folder, resume)
        self.log = Log(folder, self.step)
        self.saved = time.monotonic()

    # ------------------------------------------------------------------------------------------------------- on disk
    def _header(self) -> dict[str, Any]:
        settings = self.settings.model_dump(mode="json")
        del settings["save_every"]  # which changes no number
        return dict(
            settings=settings, task=self.data.train.name, data=_fingerprint(self.data.train),
            backend=framework(self.trainer.model), weights=sorted(self.shapes().items()),
            model=files.described(self.trainer.model), frozen_weights=self._frozen,
        )  # fmt: skip

    def _digest(self) -> str:
        """Return what tells the arrays that do not train from others: a checkpoint does not hold them."""
        trained, known = set(self.trainer.trained()), hashlib.sha256()
        for name, a in files.arrays_of(self.trainer.model).items():
            if name not in trained:
                known.update(name.encode() + np.ascontiguousarray(a).tobytes())
        return known.hexdigest()[:16]

    def shapes(self) -> dict[str, Any]:
        """Return the shapes of the model's arrays by name."""
        return {name: list(a.shape) for name, a in files.arrays_of(self.trainer.model).items()}

    def _open(self, folder: Path, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CHECKPOINT
        if not resume:
            if path.exists():
                raise FileExistsError(f"{path} exists: resume=True goes on from it, another out= starts anew")
        elif path.exists():
            self._take_up(path)
        (folder / SETTINGS).write_text(json.dumps(self._header(), indent=1))

    def _take_up(self, path: Path) -> None:
        arrays, header = files.read(path, "a checkpoint of training")
        if "run" not in header:
            raise ValueError(f"{path} is no checkpoint of training: it holds {', '.join(header) or 'nothing'}")
        wanted, found = json.loads(json.dumps(self._header()), object_hook=decode), header["run"]
        for key, value in wanted.items():
            if found.get(key) == value:
                continue
            if key == "settings":
                apart = [k for k in value if value[k] != found.get(key, {}).get(k)]
                key = "settings " + ", ".join(f"{k} ({found[key].get(k)!r} there, {value[k]!r} here)" for k in apart)
            raise ValueError(f"{path} belongs to another run: its {key} differ; resume with those, or take another out=")
        table = arrays.pop("history")
        self.trainer.restore(arrays)
        self.step, self.diverged = header["step"], header["diverged"]
        self.rows = {name: list(map(float, table[:, i])) for i, name in enumerate(_ALWAYS)}
        self.penalties = [list(map(float, row)) for row in table[:, len(_ALWAYS) :]]
        self.validated = [tuple(row) for row in header["validated"]]
        self.watched = [tuple(float("nan") if v is None else v for v in row) for row in header["watched"]]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.folder is None:
            return
        table = np.column_stack([*self.rows.values(), np.array(self.penalties).reshape(self.step, -1)])
        watched = [[finite(v) for v in row] for row in self.watched]
        header = dict(
            run=self._header(), step=self.step, diverged=self.diverged, validated=self.validated, watched=watched,
        )  # fmt: skip
        files.write(self.folder / CHECKPOINT, self.trainer.arrays() | {"history": table}, header)
        self.saved = time.monotonic()

    # --------------------------------------------------------------------------------------------------------- a step
    def advance(self) -> dict[str, float]:
        """Do one step and what is due after it."""
        s, k = self.settings, self.step
        self.whole = False
        due = tuple(i for i, p in enumerate(s.penalties) if k % p.every == 0)
        options = dict(due=due, largest=self.largest, varies=s.depths != "fixed")
        depth, rate = int(self.depths[k]), rate_at(s, k)
        found = self.trainer.step(batch_of(s, self.data.train, k, self.d), depth, rate, options)
        row = dict(loss=found["loss"], gradient=found["gradient"], rate=rate, depth=depth)
        if not all(map(math.isfinite, found.values())) or self.backwards:
            self.diverged = k
        for name in _ALWAYS:
            self.rows[name].append(float(row[name]))
        own = [found.get(f"{p.kind}.{i}", math.nan) for i, p in enumerate(s.penalties)]
        self.penalties.append(own)
        self.step = k + 1
        self.log.write(step=self.step, **row, **{f"{p.kind}.{i}": own[i] for i, p in enumerate(s.penalties)})
        if self.diverged is None:
            self._look(self.step)
        self.whole = True
        if time.monotonic() - self.saved >= s.save_every:
            self.save()
        return row

    @property
    def backwards(self) -> bool:
        """Whether the optimiser has brought the step of the layers to 0 or below, where they are none of ours."""
        return not self.trainer.model.step.item() > 0

    def _look(self, step: int) -> None:
        s, last = self.settings, self.step == self.settings.steps
        here = self.data.validation or self.data.test
        if here is None:
            return
        if last or (s.validate_every and step % s.validate_every == 0):
            solver = None if s.solver is None else _solver(s)
            accuracy = float(
                evaluate(self.trainer.averaged(), here, s.depth, seed=s.seed, refine=s.refine, solver=solver).accuracy[0]
            )
            self.validated.append((step, accuracy))
            self.log.write(step=step, accuracy=accuracy)
        if s.watch and (step % s.watch == 0 or step == 1 or last):
            seen = watch(
                self.trainer.averaged(), here, depth=s.depth, samples=s.watch_samples, measures=s.measures, refine=s.refine,
                seed=s.seed,
            ).means()  # fmt: skip
            self.watched.append((step, *(seen.get(name, math.nan) for name in SERIES)))
            self.log.write(step=step, **seen)

    def result(self, seconds: float) -> TrainingRun:
        """Return what there is."""
        model = self.trainer.averaged()
        count = len(self.settings.penalties)
        watched = np.array(self.watched, dtype=float).reshape(-1, 1 + len(SERIES))
        validated = np.array(self.validated, dtype=float).reshape(-1, 2)
        arrays = {name: np.array(self.rows[name]) for name in _ALWAYS}
        return TrainingRun(
            model=model, losses=arrays["loss"], rates=arrays["rate"], gradients=arrays["gradient"],
            layers=arrays["depth"].astype(int), penalties=np.array(self.penalties).reshape(self.step, count),
            validated=validated[:, 0].astype(int), accuracy=validated[:, 1], watched=watched[:, 0].astype(int),
            **dict(zip(SERIES, watched[:, 1:].T, strict=True)),
            settings=self.settings.model_dump(mode="json"), task=self.data.train.name, seconds=seconds,
            diverged=self.diverged,
        )  # fmt: skip


class _Interrupts:
    """Has Ctrl-C wait for the end of a step, so that the checkpoint is that of a step; the second one does not wait."""

    def __init__(self):
        self.came = False
        self.before: Any = None

    def __enter__(self) -> "_Interrupts":
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _note(self, *_: Any) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def heed(self) -> None:
        """Raise KeyboardInterrupt if one came."""
        if self.came:
            raise KeyboardInterrupt


def _solver(settings: Settings) -> Solver:
    return Solver(settings.solver, atol=settings.atol)


def check_run(model: Any, data: Any, settings: Settings) -> None:
    """Raise unless model, data and settings fit each other."""
    home = autodiff(model)
    if not isinstance(model, RecurrentModel) or home is None:
        raise TypeError(f"model must be a RecurrentModel of ctsa.torch or ctsa.jax, got {type(model).__name__}")
    if not hasattr(data, "train"):
        raise TypeError(f"data must be the splits of a task, as of ctsa.datasets.task, got {type(data).__name__}")
    for part in (data.train, data.validation, data.test):
        if part is not None:
            check_data(model, part)
    if settings.compile and home == "jax":
        raise ValueError("compile is for PyTorch: JAX compiles anyway, leave it out")
    if settings.solver is not None or settings.refine > 1:
        some = data.train.inputs[:1]
        if getattr(model.gamma, "ndim", 0):  # of equal entries it acts as a number, until a step of training
            raise ValueError(
                "solver and refine need a flow, which a vector gamma has not: RecurrentModel.for_task(gamma='scalar')"
            )
        model.field_of(some)  # which says why there is no flow
        if settings.solver is not None:
            check_solver(Solver(settings.solver, 0.0, settings.atol, max_steps=100_000), model.start(some))


def train(
    model: Any,
    data: Any,
    preset: str | Settings = "quick",
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool | None = None,
    **changes: Any,
) -> TrainingRun:
    """Train a recurrent model, and return it with the record of its training.

    Every step draws a batch, relabels its symbols where the task allows it, starts blanks from noise, and takes the cross
    entropy of all tokens after ``depth`` layers (or units of time of the flow, with ``solver``), plus regularisers. What is
    drawn depends on seed and step alone, so that both frameworks see the same batches, and a run that goes on after a kill
    gives the losses it would have given. In PyTorch the model itself is trained; in JAX the trained one is ``run.model``.

    Args:
        model: a ``RecurrentModel``.
        data: ``Splits`` of ``ctsa.datasets``; accuracy is measured on ``validation``.
        preset: "small" (250 steps of batch 32), "quick" (250 of 64), "quick-akorn" (700 of 32), "full" (1000 of 32),
            "paper" (100000 of 100), or ``Settings``.
        out: folder for settings, log (JSON lines), checkpoint and the trained model (safetensors); None: nothing is kept.
        resume: go on from the checkpoint in ``out``, if there is one.
        progress: draw a bar with loss and accuracy on stderr; None draws it in a terminal.
        changes: of the settings: ``steps=500``, ``penalties=[dict(kind="spectral", weight=1e-4)]``; see ``Settings``.

    Returns:
        ``TrainingRun``. A loss or gradient that is nan or inf, or a step of the layers that is no longer positive, ends
        the run with a warning; ``diverged`` tells where.

    Raises:
        ValueError, TypeError: a setting is wrong, the data are of another task, or the checkpoint is of another run.
        FileExistsError: ``out`` holds a run, and ``resume`` was not asked for.
        ImportError: a package for training is missing.

    Example:
        >>> import ctsa, ctsa.torch
        >>> data = ctsa.datasets.task("sudoku-4x4", count=60)
        >>> model = ctsa.torch.RecurrentModel.for_task(data.train, d=16, heads=4)
        >>> run = ctsa.train(model, data, steps=3, batch=4, depth=4)
        >>> run.losses.shape, run.accuracy.shape
        ((3,), (1,))

    References:
        Tomihari and Karakida, arXiv 2505.19458; Miyato et al., arXiv 2410.13821.
    """
    settings = preset if isinstance(preset, Settings) else preset_of(preset)
    settings = settings.changed(**changes) if changes else settings
    check_run(model, data, settings)
    resume = bool(checks.flag("resume", resume))
    if resume and out is None:
        raise ValueError("resume needs out, the folder of the run")
    bar = _bar(settings, progress)
    began = time.monotonic()
    run = _Run(model, data, settings, None if out is None else Path(out), resume)
    try:
        bar.update(run.step)
        with _Interrupts() as interrupts:
            while run.step < settings.steps and run.diverged is None:
                row = run.advance()
                shown = dict(loss=f"{row['loss']:.3f}")
                if run.validated:
                    shown["accuracy"] = f"{run.validated[-1][1]:.3f}"
                bar.set_postfix(shown, refresh=False)
                bar.update(1)
                interrupts.heed()
    finally:
        bar.close()
        run.log.close()
        if run.step and run.whole:
            run.save()
    found = run.result(time.monotonic() - began)
    if out is not None:
        save(found.model, Path(out) / MODEL)
    if run.diverged is not None and run.backwards:
        warnings.warn(
            f"training ended at step {run.diverged}, which brought the step of the layers to "
            f"{run.trainer.model.step.item():.3g}, and it must be positive: a smaller rate, or a larger step to start "
            "from, keeps it there",
            UserWarning,
            stacklevel=2,
        )
    elif run.diverged is not None:
        warnings.warn(
            f"training ended at step {run.diverged}, where the loss was {found.losses[-1]:g} and its gradient "
            f"{found.gradients[-1]:g}: a smaller rate, or a layer with normalisation, is what usually helps",
            UserWarning,
            stacklevel=2,
        )
    return found


def _bar(settings: Settings, progress: bool | None) -> Any:
    from tqdm import tqdm

    shown = sys.stderr.isatty() if checks.flag("progress", progress, unset=True) is None else progress
    return tqdm(total=settings.steps, desc="train", unit="step", disable=not shown, leave=False, mininterval=0.2)
