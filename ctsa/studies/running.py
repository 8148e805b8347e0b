"""Run a study by its name, and write what it found: table, findings, picture, report."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from ctsa import checks
from ctsa.settings import one_of

from .findings import Findings
from .names import FIGURES, PRESETS, STUDIES, module_of

Say = Callable[[str], Any]


def reproduce(
    name: str,
    out: str | Path,
    *,
    backend: str = "torch",
    preset: str = "quick",
    seeds: int | None = None,
    say: Say = print,
    progress: bool | None = None,
    **sizes: Any,
) -> Findings:
    """Run a study: a figure of the literature, or an experiment with trained models.

    Models that the folder has are taken as they are, and one that was interrupted goes on.

    Args:
        name: one of ``ctsa.studies.names.STUDIES``.
        out: folder of table (``NAME.csv``), findings (``NAME.npz``), picture (``NAME.png``), of figures a report
            (``NAME.html``, where plotly is installed), of experiments the models.
        backend: "torch" or "jax", figures in 64 bits.
        preset: "quick" or "full".
        seeds: how many models of each recipe; None is what the experiment's ``SEEDS`` say. Figures take none.
        say: receives lines of progress.
        progress: bars of training.
        sizes: attributes of ``Lab``: ``task=``, ``changes=``, ``sizes=``. Figures take none.

    Returns:
        ``Findings``; those of a figure have ``checks``.

    Raises:
        ValueError: there is no such study or preset, or ``seeds`` of a figure.
        TypeError: ``sizes`` of a figure.
        FileExistsError: the folder holds models of other recipes, or is a file.
        FileNotFoundError, ImportError: the weights of MiniLM, or their readers, are not installed.

    Example:
        >>> import tempfile
        >>> from ctsa.studies import reproduce
        >>> found = reproduce("modes", tempfile.mkdtemp(), backend="jax", say=lambda line: None)
        >>> found.passed
        True
    """
    one_of("name", name, STUDIES)
    one_of("preset", preset, PRESETS)
    checks.choice("backend", backend, ("torch", "jax"))
    if name not in FIGURES:
        from .experiments import run

        return run(name, out, backend=backend, preset=preset, seeds=seeds, say=say, progress=progress, **sizes)
    if seeds is not None:
        raise ValueError(f"seeds is for experiments with trained models, and {name} has none: leave it out")
    if sizes:
        raise TypeError(f"{name} has no models, and takes no {', '.join(sizes)}: leave it out")
    from .figures.bench import Bench

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(name, backend, preset, say)
    with _in_double(backend):
        found = import_module(module_of(name)).run(bench)
        found.write(folder)
        _report(bench, found, folder / f"{name}.html")
    return found


def _in_double(backend: str) -> AbstractContextManager:
    """Return what JAX counts in 64 bits within, whatever the process has it do."""
    if backend != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(True)


def _report(bench: Any, found: Findings, path: Path) -> None:
    """Write a page of a figure and the results that it kept; without plotly there is none."""
    try:
        import plotly  # noqa: F401
    except ImportError:
        bench.say("no report, which needs plotly: pip install 'ctsa[runs]'")
        return
    from ctsa.reports import write_report

    repeat = f"ctsa reproduce {found.name} --{bench.preset} --backend {bench.backend}"
    summary = [str(check) for check in found.checked]
    write_report(
        {found.name: found, **bench.results}, path, title=f"{found.name}: {found.title}", about=found.settings,
        repeat=repeat, summary=summary,
    )  # fmt: skip
