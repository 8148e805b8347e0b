"""What do normalisation, and its gain at the start, decide?"""

from typing import Any

import numpy as np

from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from . import oscillators
from .lab import Lab, Recipe
from .measuring import accuracies, boards_of, compared, exponents, gains, names_of, spread, values

SEEDS = {"quick": 2, "full": 6}
DEPTHS = (16, 32, 64)


def recipes(preset: str) -> tuple[Recipe, ...]:
    """Return the recipes: with normalisation, without, with another gain, and AKOrN with a gain."""
    return (
        Recipe("plain"),
        Recipe("unit-gain", model=dict(gain=1.0)),
        Recipe("none-1", model=dict(kind="none", step=1.0)),
        Recipe("no-normalisation", model=dict(kind="none", step=0.1), settings=dict(rate=1e-3)),
        oscillators.recipe("akorn-rmsnorm", 4, preset),
    )


def run(lab: Lab) -> Findings:
    """Train with and without normalisation; compare accuracies at and beyond the depth of training."""
    samples = 8 if lab.preset == "quick" else 16
    rows: list[dict[str, Any]] = []
    for recipe, seed, model in lab.every(recipes(lab.preset)):
        row: dict[str, Any] = dict(recipe=recipe.name, seed=seed)
        row |= accuracies(lab, model, DEPTHS) | exponents(lab, model, samples)
        row["step"] = float(as_numpy(model.step))
        row["gain"] = np.nan if model.gamma is None else float(np.mean(as_numpy(model.gamma)))
        rows.append(row)
    boards = boards_of(lab)
    notes = [
        f"{lab.seeds} seed(s) of each recipe; accuracy is that of {boards} whole boards. plain: gain sqrt(d) at the start; "
        "none-1 and no-normalisation: no normalisation, step 1, and step 0.1 with a rate of 1e-3; akorn-rmsnorm "
        f"{oscillators.STEPS[lab.preset]} steps."
    ]
    plain = {f"{part}_{d}": values(rows, f"{part}_{d}", recipe="plain") for part in ("id", "ood") for d in DEPTHS}
    for name in names_of(rows):
        told = []
        for part in ("id", "ood"):
            means = (values(rows, f"{part}_{d}", recipe=name).mean() for d in DEPTHS)
            told.append(f"{part} " + "/".join(f"{a:.3f}" for a in means))
        learnt = f"step {spread(values(rows, 'step', recipe=name))}"
        gain = values(rows, "gain", recipe=name)
        learnt += f", gain {spread(gain, 2)}" if np.isfinite(gain).all() else ""
        against = ""
        if name != "plain":
            a = values(rows, "id_16", recipe=name)
            against = f"; in distribution at 16 layers against plain {compared(a, plain['id_16'], boards)}"
        notes.append(
            f"{name}: accuracy at {'/'.join(map(str, DEPTHS))} layers {', '.join(told)}; learnt {learnt}{against}."
        )
    notes.append(gains(rows, 16, 64, boards))
    return lab.found("gains", rows, notes)
