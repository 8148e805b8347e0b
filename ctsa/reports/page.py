"""One page for a run: what was found in words, pictures to play with, and how to have it again."""

import base64
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctsa.results.base import Result
from ctsa.results.npz import replacing

from .markup import (
    Figures,
    anchor,
    block,
    data as embedded,
    is_link,
    listing,
    paragraphs,
    safe,
    section as section_markup,
    slug,
)
from .pieces import Section
from .sections import is_equilibria, is_sweep, overview, plain, section
from .theme import css, themes

LARGEST = 6_000_000  # bytes of a page
_SCENES = 6  # pictures in three dimensions: browsers keep about 16, and printing doubles them
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


def write_report(
    results: Mapping[str, Any],
    path: str | os.PathLike,
    *,
    title: str,
    about: Mapping[str, Any] | None = None,
    config: str | None = None,
    repeat: str | None = None,
    summary: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
) -> Path:
    """Write results as one HTML page that opens without a network, below 6 MB.

    The page says in words what was found; it has tokens with a slider for time, spectra with error bars, eigenvalues with
    the boundary of stability, branches, basins, maps of sweeps, and for other results their picture and their table; then
    what it was made with. It is light or dark, can be printed, and can be read without a mouse. Equal arguments give equal
    pages.

    Args:
        results: results of ctsa by name, arrays of any framework; lists of equilibria; of sweeps an ``xarray.Dataset``: a
            dimension a parameter, with coordinates; beside a variable ``NAME`` its error bars ``NAME_stderr``; text for
            verdicts; text ``error``, "" where a point did not fail; text ``report``, the address of a point's own report.
        path: of the page; the folder must exist. The page appears whole or not at all.
        title: of the page.
        about: what it was made with, as JSON could say it: versions, seed, times.
        config: text of a settings file.
        repeat: command that makes it again.
        summary: sentences to begin with, before those that the results say of themselves.
        links: addresses by label, relative to the page.

    Returns:
        The path.

    Raises:
        ImportError: plotly is not installed (``pip install "ctsa[runs]"``).
        TypeError: something else than a result is among ``results``, or an argument is of another type.
        ValueError: there is no result, ``about`` holds what JSON cannot say, or a link runs a script.
        OSError: the page cannot be written.

    Example:
        >>> import os, tempfile, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> run = ctsa.integrate(SelfAttention(beta=4.0), ctsa.random_tokens(8, 3), [0.0, 1.0, 2.0])
        >>> page = os.path.join(tempfile.mkdtemp(), "report.html")
        >>> write_report({"flow": run}, page, title="Eight tokens").name
        'report.html'
    """
    path = _path(path)
    found = _results(results)
    _arguments(title, about, config, repeat, summary, links)
    script = _plotly()
    ending = _made_with(about, config, repeat, links)
    detail = 1.0
    while True:
        page = _page(found, title, [str(s) for s in summary], ending, detail, script).encode()
        if len(page) <= LARGEST or detail < 0.1:
            break
        detail /= 2
    with replacing(path) as stream:
        stream.write(page)
    return path


# ------------------------------------------------------------------------------------------------------------ arguments
def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a pathlib.Path, got {type(path).__name__}")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path must be a file to write, got the folder {path}: try {path / 'report.html'}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that exists, got {path}: make {path.parent} first")
    return path


def _results(results: Any) -> dict[str, Any]:
    if not isinstance(results, Mapping):
        raise TypeError(
            f'results must be a dict of results by name, got {type(results).__name__}: try {{"run": result}}'
        )
    if not results:
        raise ValueError("results must hold at least one result, got none")
    for name, value in results.items():
        if not isinstance(name, str):
            raise TypeError(f"results must have names that are text, got {name!r}")
        if not (isinstance(value, Result) or is_sweep(value) or is_equilibria(value)):
            wanted = "a result of ctsa, Equilibria, or an xarray.Dataset"
            hint = "give every result of a list a name, and wrap states as ctsa.Trajectory(ts, xs, {})"
            raise TypeError(f"results[{name!r}] must be {wanted}, got {type(value).__name__}: {hint}")
        if is_sweep(value) and "report" in value:
            for address in value["report"].values.ravel().tolist():
                _link(f"results[{name!r}].report", str(address or ""))
    return {name: plain(value) for name, value in results.items()}


def _arguments(title: Any, about: Any, config: Any, repeat: Any, summary: Any, links: Any) -> None:
    if not isinstance(title, str):
        raise TypeError(f"title must be text, got {type(title).__name__}")
    for name, value in (("config", config), ("repeat", repeat)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be text or None, got {type(value).__name__}")
    for name, value in (("about", about), ("links", links)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a dict or None, got {type(value).__name__}")
    if isinstance(summary, str) or not isinstance(summary, Sequence):
        raise TypeError(f"summary must be a list of sentences, got {type(summary).__name__}: try [summary]")
    try:
        json.dumps(dict(about or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"about must hold what JSON can say, text, numbers, lists and dicts of these: {error}"
        ) from None
    for label, address in (links or {}).items():
        if not isinstance(address, str):
            raise TypeError(f"links[{label!r}] must be text, got {type(address).__name__}")
        _link(f"links[{label!r}]", address)


def _link(name: str, address: str) -> None:
    if not is_link(address):
        raise ValueError(f"{name} must be a relative path, or begin with https:, http: or file:, got {address!r}")


# ------------------------------------------------------------------------------------------------------------- the page
@cache
def _plotly() -> str:
    """Return plotly.js, compressed: the page unpacks it, and is less than half as large."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ImportError('a report needs plotly, which is not installed: pip install "ctsa[runs]"') from None
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


@cache
def _asset(name: str) -> str:
    return (files("ctsa.reports") / "assets" / name).read_text(encoding="utf-8")


def _page(results: dict[str, Any], title: str, summary: list[str], ending: str, detail: float, script: str) -> str:
    figures = Figures()
    sections: list[tuple[str, str, Section]] = []
    scenes = 0
    for i, (name, result) in enumerate(results.items(), 1):
        found = section(result, detail, scenes < _SCENES)
        scenes += sum("scene" in c.layout for f in found.figures for c in getattr(f, "views", {}).values())
        sections.append((name, slug(name, i), found))
    alone = len(sections) == 1
    body = "".join(section_markup(found, name, key, figures, alone) for name, key, found in sections)
    drawn = {"themes": themes(), "charts": figures.charts, "players": figures.players}
    thin = (
        '<p class="note">Pictures show fewer points than usual, to keep the page below 6 MB.</p>' if detail < 1 else ""
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{safe(title)}</title>
<link rel="icon" href="data:,">
<style>
{css()}{_asset("report.css")}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header>
<div class="bar"><button type="button" id="theme" aria-pressed="false">Dark</button></div>
<h1>{safe(title)}</h1>
</header>
<main id="main" tabindex="-1">
<section class="summary" aria-labelledby="summary">
<h2 id="summary">Summary</h2>
{_summary(summary, sections)}{thin}</section>
{body}
{ending}
</main>
<footer><p>Written by ctsa. The page is whole: it needs no network.</p></footer>
<noscript><p class="note">Charts need JavaScript, which is off; words and tables do not.</p></noscript>
<script type="application/json" id="drawn">{embedded(drawn)}</script>
<!-- plotly.js, copyright Plotly, Inc., MIT licence: compressed by gzip, as base64 -->
<script type="text/plain" id="plotly">{script}</script>
<script>
{_asset("player.js")}{_asset("report.js")}</script>
</body>
</html>
"""


def _summary(summary: list[str], sections: list[tuple[str, str, Section]]) -> str:
    first = paragraphs(summary, "lead")
    if len(sections) == 1:
        return first + paragraphs(sections[0][2].sentences)
    rows = (
        f'<li><a href="#{key}">{safe(name)}</a>{safe(overview(found))}</li>'
        for name, key, found in sections
    )
    return f'{first}<nav aria-label="Results"><ul>{"".join(rows)}</ul></nav>'


def _made_with(about: Any, config: str | None, repeat: str | None, links: Any) -> str:
    """Return the last part of the page: how it was made, and how to have it again."""
    parts = []
    if repeat:
        parts.append(f"<h3>To have it again</h3>{block(repeat, 'Command')}")
    if config:
        parts.append(f"<h3>Settings</h3>{block(config, 'Settings')}")
    if about:
        parts.append(f"<h3>Made with</h3>{listing(about)}")
    if links:
        rows = "".join(f"<li>{anchor(label, address)}</li>" for label, address in links.items())
        parts.append(f"<h3>Files</h3><ul>{rows}</ul>")
    if not parts:
        return ""
    return f'<section aria-labelledby="made"><h2 id="made">How it was made</h2>{"".join(parts)}</section>'
