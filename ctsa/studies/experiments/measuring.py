"""What experiments measure alike, and the sentences that they make of it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ctsa.results.base import as_numpy
from ctsa.training import evaluate, watch

from .lab import Lab

Rows = Sequence[dict[str, Any]]
PARTS = ("id", "ood")
BOARDS = 500  # of each part, at most
DEPTH = 16  # layers that exponents go over


def parts_of(lab: Lab) -> dict[str, Any]:
    """Return the boards that models are judged by: in and out of distribution."""
    return {"id": lab.data.test[:BOARDS], "ood": lab.data.ood[:BOARDS]}


def accuracies(lab: Lab, model: Any, depths: Sequence[int], **options: Any) -> dict[str, float]:
    """Return accuracies of whole boards by part and depth: ``id_16``, ``ood_16``, ..."""
    found: dict[str, float] = {}
    for part, data in parts_of(lab).items():
        told = evaluate(model, data, depths, **options)
        found |= {f"{part}_{depth}": float(a) for depth, a in zip(told.depths, told.accuracy, strict=True)}
    return found


def exponents(
    lab: Lab, model: Any, samples: int, measures: Sequence[str] = ("largest",), **options: Any
) -> dict[str, float]:
    """Return exponents out of distribution, means over samples; nan where states overflow, as without normalisation."""
    end = as_numpy(model.run(lab.data.ood.inputs[:samples], depth=DEPTH))
    if not np.isfinite(end).all():
        return dict.fromkeys(measures, float("nan"))
    seen = watch(model, lab.data.ood, samples=samples, depth=DEPTH, measures=tuple(measures), **options)
    return {name: float(np.mean(getattr(seen, name))) for name in measures}


def names_of(rows: Rows, by: str = "recipe") -> list[Any]:
    """Return the different values of a column, in order."""
    return list(dict.fromkeys(row[by] for row in rows))


def values(rows: Rows, column: str, **where: Any) -> np.ndarray:
    """Return a column of the rows in which others have these values, by seed where there is one."""
    some = [row for row in rows if all(row.get(key) == value for key, value in where.items())]
    return np.array([row.get(column, np.nan) for row in sorted(some, key=lambda row: row.get("seed", 0))], float)


def spread(found: Iterable[float], digits: int = 3) -> str:
    """Return mean and range of some numbers: "0.824 (0.806 ... 0.850)"."""
    a = np.asarray(list(found), float)
    if not len(a):
        return "none"
    mean = f"{a.mean():.{digits}f}"
    return mean if len(a) == 1 else f"{mean} ({a.min():.{digits}f} ... {a.max():.{digits}f})"


def boards_of(lab: Lab) -> int:
    """Return how many boards out of distribution models are judged by."""
    return len(parts_of(lab)["ood"])


def compared(a: np.ndarray, b: np.ndarray, boards: int) -> str:
    """Return how accuracy a differs from b, seed by seed, and how sure that is.

    It is called resolved if all seeds differ the same way, and their mean by more than chance: that of seeds (Student's t,
    95 %), and two standard errors of so many boards, as if each model had boards of its own (on the same ones, it is less).
    """
    from scipy.stats import t as student

    d = np.asarray(a, float) - np.asarray(b, float)
    if not len(d) or not np.isfinite(d).all():
        return "not known"
    p, count = np.clip(np.concatenate([a, b]), 0, 1), len(d)
    error = np.sqrt(2 * np.mean(p * (1 - p)) / boards / count)
    beyond = abs(d.mean()) > 2 * error
    if count == 1:
        return f"{d[0]:+.3f}, one seed, {'beyond' if beyond else 'within'} the error of boards"
    alike = bool(beyond and (np.sign(d) == np.sign(d[0])).all())
    clear = alike and abs(d.mean()) > student.ppf(0.975, count - 1) * d.std(ddof=1) / np.sqrt(count)
    verdict = "resolved" if clear else "alike in every seed, but not resolved" if alike else "not resolved"
    return f"{d.mean():+.3f}, by seed {d.min():+.3f} ... {d.max():+.3f}, {verdict}"


def gains(
    rows: Rows, low: int, high: int, boards: int, names: Iterable[Any] | None = None, by: str = "recipe"
) -> str:
    """Return a sentence on what more layers than in training gain, a clause each value of a column."""
    told, what = [], "" if by == "recipe" else f"{by} "
    for name in names_of(rows, by) if names is None else names:
        before, after = (values(rows, f"ood_{depth}", **{by: name}) for depth in (low, high))
        told.append(f"{what}{name} {before.mean():.3f} -> {after.mean():.3f} ({compared(after, before, boards)})")
    return f"From {low} to {high} layers, out of distribution: " + "; ".join(told) + "."
