"""What a section of a report is made of, before it is HTML: charts, players, pictures, sentences."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SMALL = 4  # digits that pictures keep; the results themselves keep all


@dataclass(frozen=True)
class Chart:
    """A picture by plotly: its traces and layout, in which colours are names of the theme, such as "@ink" or "@0/0.4".

    Attributes:
        caption: what it shows; also what screen readers say of it.
        data: traces.
        layout: what differs from the common layout.
        height: in pixels.
        choices: names and values of axes that are chosen from lists beside the chart.
        variants: the traces for each combination of choices, the last choice changing fastest; ``data`` is the first.
        square: whether it is about as high as it is wide.
    """

    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 320
    choices: Sequence[tuple[str, Sequence[str]]] = ()
    variants: Sequence[list[dict[str, Any]]] = ()
    square: bool = False


@dataclass(frozen=True)
class Player:
    """Tokens, their Gram matrix and observables, with one slider for all.

    Attributes:
        caption: what it shows.
        views: charts by name: "tokens", "gram", "series".
        frames: of each view, its states as ``packed`` numbers.
        moving: which trace of the tokens moves.
        labels: of every state, as "t = 2.5".
        at: of every state, its place on the axis of the series.
        start: the state that is shown first.
    """

    caption: str
    views: dict[str, Chart]
    frames: dict[str, dict[str, Any]]
    moving: int
    labels: list[str]
    at: list[float]
    start: int


@dataclass(frozen=True)
class Picture:
    """A picture that does not move: a ``data:`` address, and what it shows."""

    caption: str
    address: str
    width: int


@dataclass(frozen=True)
class Section:
    """What a report says of one result.

    Attributes:
        kind: of the result, in words.
        sentences: the summary.
        figures: charts, players and pictures.
        text: its table as text; "" for none.
        notes: what has been left out.
        tables: heads and rows, of which cells may be pairs of a text and a link.
    """

    kind: str
    sentences: list[str]
    figures: list[Chart | Player | Picture] = field(default_factory=list)
    text: str = ""
    notes: list[str] = field(default_factory=list)
    tables: list[tuple[str, list[str], list[list[Any]]]] = field(default_factory=list)


def short(value: Any) -> str:
    """Return a number in few digits, other values as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, complex | np.complexfloating) and not value.imag:
        return short(float(value.real))
    if isinstance(value, complex | np.complexfloating):
        return f"{value.real:.4g}{value.imag:+.4g}i".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, int | np.integer):
        return str(int(value)).replace("-", "\N{MINUS SIGN}")
    if isinstance(value, float | np.floating):
        return "not known" if math.isnan(value) else f"{value + 0.0:.4g}".replace("-", "\N{MINUS SIGN}")
    return str(value)


def told_apart(values: Sequence[Any]) -> tuple[str, ...]:
    """Return values as ``short`` does, numbers in more digits where these do not tell them apart."""
    texts = tuple(short(v) for v in values)
    for digits in range(5, 18):
        if len(set(texts)) == len(set(values)) or not all(isinstance(v, float) for v in values):
            break
        texts = tuple(f"{v + 0.0:.{digits}g}".replace("-", "\N{MINUS SIGN}") for v in values)
    return texts


def with_error(value: float, error: float) -> str:
    """Return a number with its standard error, with as many digits as the error says something about."""
    if not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        return short(value)
    digits = 1 - math.floor(math.log10(error)) if error < 10 else 0
    digits = max(0, min(digits, 12))
    if digits > 6:  # zeros would hide the number
        return f"{short(value)} ± {error:.1e}"
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 token", "3 tokens"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def label(text: Any) -> str:
    """Return text of users for plotly, which reads some HTML, and for which "@ink" would be a colour here."""
    return html.escape(str(text), quote=False).replace("@", "&#64;")


def numbers(values: Any, digits: int = SMALL) -> list[Any]:
    """Return an array as nested lists of rounded numbers, None where one is not finite."""
    values = np.asarray(values)
    if values.ndim > 1:
        return [numbers(row, digits) for row in values]
    if values.dtype.kind in "biu":
        return values.tolist()
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values.astype(float).tolist()]


def packed(values: np.ndarray) -> dict[str, Any]:
    """Return an array as 16-bit integers in base64, a scale for each state, and a shape: a quarter of the size of text.

    Each state has a scale of its own, so that one that runs away leaves the digits of the others.
    """
    values = np.nan_to_num(np.asarray(values, float), posinf=0.0, neginf=0.0)
    largest = np.abs(values.reshape(len(values), -1)).max(1, initial=0.0)
    scale = [float(f"{max(top / 32767, 1e-300):.9g}") * (1 + 1e-8) for top in largest]
    steps = values / np.reshape(scale, (-1, *[1] * (values.ndim - 1)))
    rounded = np.clip(np.round(steps), -32767, 32767).astype("<i2")
    scale = [float(f"{s:.10g}") for s in scale]
    return {"b64": base64.b64encode(rounded.tobytes()).decode(), "scale": scale, "shape": list(values.shape)}


def thinned(size: int, most: int) -> np.ndarray:
    """Return at most so many of the indices ``0 ... size - 1``, evenly, the ends among them."""
    return np.unique(np.round(np.linspace(0, size - 1, min(size, max(most, 2)))).astype(int))


def scatter(x: Any, y: Any, **options: Any) -> dict[str, Any]:
    """Return a trace of points or lines."""
    x = numbers(x, digits_of(x)) if np.asarray(x).dtype.kind in "biuf" else [label(v) for v in x]
    y = numbers(y, digits_of(y))
    return {"type": "scatter", "x": x, "y": y, "mode": "lines", "showlegend": "name" in options} | options


def digits_of(values: Any) -> int:
    """Return how many digits keep six of the differences between values, which may all be close to one number."""
    a = np.asarray(values)
    a = a[np.isfinite(a)] if a.dtype.kind == "f" else np.zeros(0)
    spread = np.ptp(a) if a.size else 0.0
    return 6 if not 0 < spread < np.inf else min(6 + max(0, math.floor(math.log10(np.abs(a).max() / spread))), 16)


def log_axis(title: str, *values: Any) -> dict[str, Any]:
    """Return a logarithmic axis for values, with marks at powers of ten, or at 1, 2 and 5 where there are few of these."""
    every = np.concatenate([np.ravel(np.asarray(v, float)) for v in values])
    every = every[np.isfinite(every) & (every > 0)]
    if not every.size:
        return axis(title, type="log")
    low, high = np.log10(every.min()), np.log10(every.max())
    powers = np.arange(np.floor(low), np.ceil(high) + 1)
    powers = powers[:: max(1, math.ceil(len(powers) / 7))]
    marks = [float(f"{m * 10**p:.6g}") for p in powers for m in ((1,) if high - low > 2 else (1, 2, 5))]
    pad = 0.06 * (high - low) or 0.3
    text = [f"{m:g}" if 1e-3 <= m < 1e4 else f"10<sup>{round(math.log10(m))}</sup>" for m in marks]
    text = [
        t if m in (1e-3, 1e4) or not t.startswith("10<") or high - low > 2 else f"{m:.0e}" for t, m in zip(text, marks)
    ]
    return axis(title, type="log", tickvals=marks, ticktext=text, range=numbers([low - pad, high + pad], 6))


def axis(title: str, **options: Any) -> dict[str, Any]:
    """Return an axis with a title, of which users may have written a part."""
    return {"title": {"text": label(title)}, **options}


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return layouts as one."""
    found: dict[str, Any] = {}
    for part in parts:
        found |= part
    return found
