"""The report of a run."""

import shlex
from pathlib import Path
from typing import Any

from .folder import CONFIG, REPORT
from .reading import Run


def report(run: Run, path: str | Path | None = None) -> Path:
    """Write the report of a run: one HTML file that opens anywhere.

    Args:
        run: from ``ctsa.load``.
        path: the file; None is ``report.html`` in its folder.

    Returns:
        The file.

    Raises:
        ImportError: plotly is not installed.
        OSError: it cannot be written.
    """
    from ctsa.reports import write_report

    results: dict[str, Any] = {name: run.results[name] for name in _order(run)}
    if run.sweep is not None:
        results["sweep"] = run.sweep.load()
    about = {key: value for key, value in run.about.items() if key not in ("table", "format")}
    about["state"] = run.state
    return write_report(
        results, Path(path) if path is not None else run.folder / REPORT, title=run.folder.name, about=about,
        config=run.config, repeat=repeat(run),
    )  # fmt: skip


def _order(run: Run) -> list[str]:
    told = [name for name in run.about.get("analyses", {}) if name in run.results]
    return told + [name for name in run.results if name not in told]


def repeat(run: Run) -> str:
    """Return the command that does the same again."""
    word = "sweep" if run.about.get("kind") == "sweep" else "run"
    return shlex.join(["ctsa", word, f"{run.folder.name}/{CONFIG}", "--out", f"{run.folder.name}-again"])
