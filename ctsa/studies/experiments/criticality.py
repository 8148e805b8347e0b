"""Does criticality predict accuracy? Exponents against accuracy, within a recipe and across recipes."""

from typing import Any

import numpy as np

from ctsa.studies.findings import Findings
from ctsa.training import watch

from . import measuring
from .lab import Lab, Recipe, rank_correlation
from .measuring import Rows, accuracies, boards_of, names_of, parts_of, values

SEEDS = {"quick": 3, "full": 6}
QUICK = (
    Recipe("plain"),
    Recipe("half-trained", settings=dict(steps=120)),
    Recipe("spectral-1e-3", settings=dict(penalties=[dict(kind="spectral", weight=1e-3)])),
    Recipe("spectral-1e-1", settings=dict(penalties=[dict(kind="spectral", weight=1e-1)])),
)
FULL = (
    *QUICK[:3],
    Recipe("spectral-1e-2", settings=dict(penalties=[dict(kind="spectral", weight=1e-2)])),
    QUICK[3],
    Recipe("random-depth", settings=dict(depths="uniform")),
    Recipe("unit-gain", model=dict(gain=1.0)),
    Recipe(
        "flossing", settings=dict(penalties=[dict(kind="exponent", weight=0.3, count=2, target=0.0, every=4, samples=4)])
    ),
    Recipe("akorn", model=dict(kind="akorn"), settings=dict(steps=700)),
    Recipe("energy", model=dict(kind="energy")),
    Recipe("no-normalisation", model=dict(kind="none", step=0.1), settings=dict(rate=1e-3)),
)
DEPTHS = (16, 64)


def rows_of(lab: Lab, recipe: Recipe, seed: int, model: Any, samples: int, intervals: int) -> dict[str, Any]:
    """Return one row: accuracies and exponents of a model, in and out of distribution."""
    row: dict[str, Any] = dict(recipe=recipe.name, seed=seed) | accuracies(lab, model, DEPTHS)
    for part, data in parts_of(lab).items():
        some = dict(samples=samples, depth=measuring.DEPTH, intervals=intervals, transient=60)
        seen = watch(model, data, measures=("largest", "mean", "asymptotic"), **some)
        for name in ("largest", "asymptotic", "mean"):
            row[f"{part}_{name}"] = float(np.mean(getattr(seen, name)))
        row[f"{part}_largest_error"] = float(np.std(seen.largest, ddof=1) / np.sqrt(len(seen.largest)))
    return row


def run(lab: Lab) -> Findings:
    """Train every recipe with every seed; correlate ``-|exponent|`` with accuracy out of distribution at depth 64."""
    quick = lab.preset == "quick"
    samples, intervals = (8, 100) if quick else (16, 200)
    rows = [rows_of(lab, r, s, m, samples, intervals) for r, s, m in lab.every(QUICK if quick else FULL)]
    return lab.found("criticality", rows, notes_of(rows, boards_of(lab), samples))


def notes_of(rows: Rows, boards: int, samples: int) -> list[str]:
    """Return rank correlations of exponents with accuracy, and how far treatments move both."""
    notes = [
        f"{len(rows)} models; accuracy is that of {boards} whole boards, exponents "
        f"are means over {samples}; intervals are of the bootstrap over models."
    ]
    names = np.array([row["recipe"] for row in rows])
    accuracy = np.array([row["ood_64"] for row in rows])
    sets = [("all models", np.ones(len(rows), bool)), *((f"recipe {n}", names == n) for n in dict.fromkeys(names))]
    for title, keep in sets:
        for exponent in ("largest", "asymptotic", "mean"):
            found = np.array([row[f"ood_{exponent}"] for row in rows])
            rho, low, high = rank_correlation(-np.abs(found[keep]), accuracy[keep])
            if np.isfinite(rho):
                resolved = "" if low <= 0 <= high else ", resolved"
                notes.append(
                    f"{title} ({keep.sum()}): rank correlation of -|{exponent} exponent| with accuracy "
                    f"{rho:+.2f} [{low:+.2f}, {high:+.2f}]{resolved}."
                )
    means = {
        n: (values(rows, "ood_64", recipe=n).mean(), values(rows, "ood_largest", recipe=n).mean()) for n in names_of(rows)
    }
    notes.append(
        "means of recipes (accuracy, largest exponent over 16 layers): "
        + "; ".join(f"{n} {a:.3f}, {e:+.3f}" for n, (a, e) in means.items())
        + "."
    )
    base, others = means["plain"], [n for n in means if n != "plain"]
    both = [n for n in others if means[n][0] < base[0] and means[n][1] < base[1]]
    notes.append(
        f"{len(both)} of {len(others)} other recipes have both a lower accuracy and a lower exponent than plain"
        + (f" ({', '.join(both)})" if both else "")
        + ": where a treatment moves both, a correlation across recipes is no evidence that one causes the other."
    )
    return notes
