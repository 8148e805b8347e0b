"""Sections as HTML. Everything that is not ours is escaped here, and nowhere else."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .pieces import Chart, Picture, Player, Section

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.\-]*:")
_NUMBER = re.compile("[\N{MINUS SIGN}\\d]|not known|nan|inf")
_OPEN = ("http:", "https:", "file:", "mailto:")


def safe(text: Any) -> str:
    """Return text as HTML."""
    return html.escape(str(text), quote=True)


def data(value: Any) -> str:
    """Return JSON that no text in it can end early, for a ``<script>`` that only holds data."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def is_link(address: str) -> bool:
    """Tell whether an address may be followed: a relative one, or one of a page, not of a script."""
    found = _SCHEME.match("".join(c for c in address if c.isprintable()).strip())
    return not found or found[0].lower() in _OPEN


def anchor(text: Any, address: str) -> str:
    """Return a link; an address that is not one stays text."""
    return f'<a href="{safe(address)}">{safe(text)}</a>' if is_link(address) else f"{safe(text)} ({safe(address)})"


def slug(name: str, number: int) -> str:
    """Return the id of a section: its number keeps those apart whose names are alike."""
    return f"r{number}-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "result")


def paragraphs(lines: Sequence[str], kind: str = "") -> str:
    """Return sentences as one paragraph."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{' '.join(safe(line) for line in lines)}</p>" if lines else ""


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table, of which cells may be pairs of a text and a link; columns of numbers to the right."""
    words = [any(isinstance(c, tuple) or not _NUMBER.match(c or "0") for c in column) for column in zip(*rows)]
    marks = [' class="words"' if w else "" for w in words]
    head = "".join(f'<th scope="col"{mark}>{safe(h)}</th>' for h, mark in zip(heads, marks))
    cells = ("".join(f"<td{mark}>{_cell(c)}</td>" for c, mark in zip(row, marks)) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    text = f"<table><caption>{safe(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(caption)}">{text}</div>'


def _cell(value: Any) -> str:
    return anchor(*value) if isinstance(value, tuple) else safe(value)


def listing(values: Mapping[str, Any]) -> str:
    """Return a dict as a list of names and what they are, dicts inside as lists inside."""
    rows = "".join(f"<dt>{safe(name)}</dt><dd>{_listed(value)}</dd>" for name, value in values.items())
    return f"<dl>{rows}</dl>"


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return listing(value) if value else "none"
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return safe(", ".join(map(str, value))) or "none"
    return safe({True: "yes", False: "no"}[value] if isinstance(value, bool) else "none" if value is None else value)


def block(text: str, name: str) -> str:
    """Return text as it is, in a box that scrolls by itself."""
    return f'<pre class="scroll" tabindex="0" role="region" aria-label="{safe(name)}"><code>{safe(text)}</code></pre>'


class Figures:
    """Figures as HTML, and what the script draws in them: ``drawn`` by the id of each."""

    def __init__(self) -> None:
        self.charts: dict[str, Any] = {}
        self.players: dict[str, Any] = {}
        self.count = 0

    def add(self, figure: Chart | Player | Picture, name: str) -> str:
        """Return the HTML of a figure."""
        self.count += 1
        key = f"f{self.count}"
        if isinstance(figure, Picture):
            image = f'<img src="{figure.address}" width="{figure.width}" alt="{safe(f"{name}: {figure.caption}")}">'
            return f'<figure class="picture"><div class="card">{image}</div>{_caption(figure.caption)}</figure>'
        if isinstance(figure, Player):
            return self._player(figure, key, name)
        return f"<figure>{self._lists(figure, key)}{self._chart(figure, key, name)}{_caption(figure.caption)}</figure>"

    def _chart(self, chart: Chart, key: str, name: str) -> str:
        self.charts[key] = {"data": chart.data, "layout": chart.layout, "height": chart.height}
        if chart.variants:
            self.charts[key] |= {"variants": chart.variants}
        about = safe(f"{name}: {chart.caption}")
        still = '<img class="still" alt="">' if "scene" in chart.layout else ""
        kind = "chart scene" if still else "chart"
        box = f'<div class="{kind}" id="{key}" role="img" aria-label="{about}" style="height:{chart.height}px"></div>'
        return f'<div class="box">{box}{still}</div>'

    @staticmethod
    def _lists(chart: Chart, key: str) -> str:
        """Return a list for each axis of which one value is shown at a time."""
        found = ""
        for name, values in chart.choices:
            options = "".join(f'<option value="{i}">{safe(v)}</option>' for i, v in enumerate(values))
            found += f'<label>{safe(name)} <select data-chart="{key}">{options}</select></label>'
        return f'<div class="controls">{found}</div>' if found and chart.variants else ""

    def _player(self, player: Player, key: str, name: str) -> str:
        views = {view: self._chart(chart, f"{key}-{view}", name) for view, chart in player.views.items()}
        self.players[key] = {
            "frames": player.frames, "moving": player.moving, "labels": player.labels, "at": player.at,
            "start": player.start,
        }  # fmt: skip
        last, shown = len(player.labels) - 1, safe(player.labels[player.start])
        controls = "" if last < 1 else (
            f'<div class="controls" role="group" aria-label="{safe(f"{name}: which state is shown")}">'
            f'<button type="button" class="play" id="{key}-play">Play</button>'
            f'<label class="hidden" for="{key}-slider">{safe(name)}: state</label>'
            f'<input type="range" id="{key}-slider" min="0" max="{last}" step="1" value="{player.start}" '
            f'aria-valuetext="{shown}"><output id="{key}-shown" for="{key}-slider">{shown}</output></div>'
        )  # fmt: skip
        pair = "".join(views[v] for v in ("tokens", "gram") if v in views)
        return (
            f'<figure class="player" id="{key}"><div class="views">{pair}</div>{controls}'
            f"{views.get('series', '')}{_caption(player.caption)}</figure>"
        )


def _caption(text: str) -> str:
    return f"<figcaption>{safe(text)}</figcaption>"


def section(found: Section, name: str, key: str, figures: Figures, told: bool) -> str:
    """Return the HTML of a section.

    Args:
        key: its id.
        figures: what is drawn in it is added there.
        told: whether the summary of the page has said it all.
    """
    drawn = "".join(figures.add(figure, name) for figure in found.figures)
    parts = [f'<h2 id="{key}">{safe(name)} <span class="kind">{safe(found.kind)}</span></h2>']
    parts += ["" if told else paragraphs(found.sentences)]
    parts += [f'<div class="figures">{drawn}</div>' if drawn else ""]
    parts += [paragraphs(found.notes, "note")]
    parts += [table(*t) for t in found.tables if t[2]]
    if found.text:
        numbers = block(found.text, f"{name}: numbers")
        parts += [f"<details{'' if found.figures else ' open'}><summary>Numbers</summary>{numbers}</details>"]
    return f'<section aria-labelledby="{key}">{"".join(parts)}</section>'
