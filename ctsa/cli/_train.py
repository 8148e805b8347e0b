"""``ctsa train``: a model as a file says; results in a folder, a summary on stdout."""

import json
import shlex
import warnings
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ._common import WrongUse, backend_to_use, fail, folder_to_write, need_settings, ready
from ._options import Flag, Options

CONFIG = "config.json"


def add(app: App) -> None:
    """Add the command."""
    app.command(train, name="train", group="Studies", help_epilogue="`ctsa train --example` prints a file to begin with.")


def train(
    config: Annotated[Path | None, Parameter(help="A file of TOML: task, model and training.")] = None,
    /,
    options: Options | None = None,
    *,
    example: Annotated[Flag, Parameter(help="Print a commented file that runs, and stop.")] = False,
) -> int:
    """Train a model of recurrent attention as a file says, and evaluate it.

    The folder --out receives config.json, log.jsonl, checkpoint.safetensors, model.safetensors, run.npz and
    evaluation-PART.npz.
    """
    return run(config, options or Options(), example)


def run(path: Path | None, options: Options, example: bool) -> int:
    """Check everything, train, evaluate, and print the summary."""
    need_settings()
    from ctsa.training import config as configs
    from ctsa.training.run import check_run

    if example:
        print(configs.EXAMPLE, end="")
        return 0
    if path is None:
        raise WrongUse("train: wanted CONFIG.toml; `ctsa train --example` prints one")
    try:
        dtype = [] if options.dtype is None else [f"model.dtype={options.dtype}"]
        config = configs.read_config(path, [*options.changes, *dtype], options.seed)
    except OSError as error:
        raise WrongUse(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise WrongUse(str(error)) from error
    backend = backend_to_use(options.backend or config.backend, training=True)
    out = Path(config.out) if options.out is None else options.out
    found = _kept(out, options.resume)
    if found is not None:
        _same(found, config.told(), out)
    ready(backend, config.model.get("dtype", "float32"))
    try:
        data = config.data()
        model = config.fresh(data, backend)
    except (ValueError, ImportError) as error:
        raise WrongUse(str(error)) from error
    try:
        check_run(model, data, config.settings)
    except ValueError as error:
        raise WrongUse(f"{config.where}: {error}") from error
    folder_to_write(out)
    return _train(options, path, config, backend, out, data, model)


def _kept(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return what the run was made of that a folder holds, None where it holds none."""
    from ctsa.training.run import CHECKPOINT

    if (out / CHECKPOINT).exists() and not resume:
        raise WrongUse(f"{out} holds a run already: --resume goes on with it, another --out starts anew")
    try:
        return json.loads((out / CONFIG).read_text())
    except (OSError, ValueError):
        return None


def _same(found: dict[str, Any], wanted: dict[str, Any], out: Path) -> None:
    """Raise where a folder holds a run of other values."""
    from ctsa.training.run import CHECKPOINT

    wanted = json.loads(json.dumps(wanted))
    apart = [
        f"{table}.{key} ({found[table].get(key)!r} there, {wanted[table].get(key)!r} here)"
        for table in ("task", "model", "training") if isinstance(found.get(table), dict)
        for key in sorted({*found[table], *wanted[table]}) if found[table].get(key) != wanted[table].get(key)
    ]  # fmt: skip
    if apart and (out / CHECKPOINT).exists():
        raise WrongUse(f"{out} holds another run: {', '.join(apart)}; resume with its values, or take another --out")


def _train(options: Options, path: Path, config: Any, backend: str, out: Path, data: Any, model: Any) -> int:
    from ctsa.training import train
    from ctsa.training.run import CHECKPOINT

    settings = config.settings
    try:
        if not (out / CHECKPOINT).exists():
            (out / CONFIG).write_text(json.dumps(config.told(), indent=1))
        what = f"{len(data.train)} samples of {data.train.name}, {settings.steps} steps"
        options.say(f"{model.describe()}; {what}; {backend}; {out}/")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            run = train(model, data, settings, out=out, resume=options.resume, progress=options.progress)
        for each in caught:
            fail(str(each.message))
        summary = _evaluated(run, data, settings, out)
    except KeyboardInterrupt:
        return fail(_interrupted(options, path, out), 130)
    except ValueError as error:
        if str(out / CHECKPOINT) in str(error):  # of another run, or damaged
            return fail(str(error))
        return fail(f"{config.where}: training failed: {error}", 1)
    except OSError as error:
        return fail(f"{out}: {error.strerror or error}", 1)
    summary |= dict(backend=backend, out=str(out))
    print(json.dumps(summary, allow_nan=False) if options.json else _table(summary))
    return 1 if run.diverged is not None else 0


def _evaluated(run: Any, data: Any, settings: Any, out: Path) -> dict[str, Any]:
    """Write the record and the evaluations of a run, and return the summary."""
    from ctsa.training import evaluate

    run.save(out / "run.npz")
    depths = (settings.depth, 4 * settings.depth)
    solver = None
    if settings.solver is not None:
        from ctsa.flows import Solver

        solver = Solver(settings.solver, atol=settings.atol)
    rows = []
    for part in ("test", "ood"):
        samples = getattr(data, part)
        if samples is None or run.diverged is not None:
            continue
        found = evaluate(run.model, samples, depths, seed=settings.seed, refine=settings.refine, solver=solver)
        found.save(out / f"evaluation-{part}.npz")
        rows += [
            dict(data=part, samples=len(samples), depth=int(d), accuracy=float(a), error=float(e), tokens=float(t))
            for d, a, e, t in zip(depths, found.accuracy, found.error, found.token_accuracy, strict=True)
        ]
    tail = run.losses[-20:]
    return dict(
        task=run.task, steps=len(run.losses), seconds=round(run.seconds, 2), diverged=run.diverged,
        loss=float(tail.mean()) if len(tail) and run.diverged is None else None, evaluation=rows,
    )  # fmt: skip


def _table(summary: dict[str, Any]) -> str:
    from ctsa.results.text import columns, lines

    loss = "nan or inf" if summary["loss"] is None else f"{summary['loss']:.4g}"
    facts = [("task", summary["task"]), ("steps", summary["steps"]), ("seconds", summary["seconds"])]
    facts += [("loss, last 20 steps", loss), ("written to", f"{summary['out']}/")]
    name = {"test": "test (ID)", "ood": "OOD"}
    rows = [
        (name[r["data"]], r["samples"], r["depth"], f"{r['accuracy']:.3f} +- {r['error']:.3f}", f"{r['tokens']:.3f}")
        for r in summary["evaluation"]
    ]
    heads = ("data", "samples", "depth", "accuracy", "tokens")
    return "\n\n".join([lines(facts), *([columns(heads, rows)] if rows else [])])


def _interrupted(options: Options, path: Path, out: Path) -> str:
    from ctsa.training.run import CHECKPOINT

    if not (out / CHECKPOINT).exists():
        return "interrupted before the first step: nothing to go on with"
    again = ["ctsa", "train", str(path), *options.again()]
    return f"interrupted; the checkpoint is written, go on with: {shlex.join([*again, '--resume'])}"
