"""Run a study by its name, and write what it found: table, findings, picture, report."""

from collections.abc import Callable
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
        backend: "torch" or "jax".
        preset: "quick" or "full".
        seeds: how many models of each recipe; None is what the experiment's ``SEEDS`` say. Figures take none.
        say: receives lines of progress.
        progress: bars of training.
        sizes: attributes of ``Lab``: ``task=``, ``changes=``, ``sizes=``. Figures take none.

    Returns:
        ``Findings``; those of a figure have ``checks``.

    Raises:
        ValueError: there is no such study or preset, ``seeds`` of a figure, or a figure in JAX without 64 bits.
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
    if backend == "jax":
        _need_64_bits()
    from .figures.bench import Bench

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(name, backend, preset, say)
    found = import_module(module_of(name)).run(bench)
    found.write(folder)
    _report(bench, found, folder / f"{name}.html")
    return found


def _need_64_bits() -> None:
    """Raise ValueError where JAX counts in 32 bits."""
    import jax

    if not jax.config.jax_enable_x64:
        raise ValueError(
            "figures are computed in float64, but JAX is running in 32-bit mode: call "
            'jax.config.update("jax_enable_x64", True) first thing in your program'
        )


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
