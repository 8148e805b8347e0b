"""Labels beside lines and legends beside pictures, where they cover nothing."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_GREEK = re.compile(r"alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|omega|phi|psi|rho|sigma|tau|xi")
_SIZE = 7  # points, of the type in labels and legends


def symbol(name: str) -> str:
    """Return a name of a Greek letter as the letter, others as they are."""
    return rf"$\{name}$" if _GREEK.fullmatch(name) else name


def room(entries: Sequence[Any]) -> float:
    """Return the width in inches that a legend takes."""
    longest = max((len(entry.get_label()) for entry in entries), default=0)
    return 0.4 + 0.062 * longest * _SIZE / 7 if longest else 0.0


def fits_columns(ax: Any, texts: Sequence[str], columns: int) -> bool:
    """Say whether a legend of so many columns is as wide as ``ax`` at most."""
    widest = max(len(re.sub(r"[$_{}\\]", "", text)) for text in texts)
    return columns * (0.3 + 0.06 * widest) * ax.figure.dpi <= ax.bbox.width


def at_ends(ax: Any, ends: Any, colours: Sequence[Any], letter: str) -> None:
    """Number lines at their right ends, with limits as they are now; those that end together share a label."""
    low, high = ax.get_ylim()
    ends = np.asarray(ends, dtype=float)
    seen = [i for i in np.argsort(-ends, kind="stable") if low <= ends[i] <= high]
    near = 1.15 * _SIZE * (high - low) / (ax.bbox.height * 72 / ax.figure.dpi)  # of a line of type
    groups: list[list[int]] = []
    for i in seen:
        if groups and ends[groups[-1][0]] - ends[i] < near:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    for group in groups:
        numbers = sorted(i + 1 for i in group)
        runs = len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1
        text = f"{numbers[0]}-{numbers[-1]}" if runs else ", ".join(map(str, numbers))
        place = (1, float(ends[group].mean()))
        ax.annotate(
            rf"${letter}_{{{text}}}$", place, (3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=_SIZE, color=colours[min(group)], annotation_clip=False,
        )  # fmt: skip
