"""What do R_Spec, R_E (soft and hard) and flossing do to accuracy and exponents, and to what they regularise?"""

from typing import Any

import numpy as np

from ctsa import regularise
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .lab import Lab, Recipe
from .measuring import accuracies, boards_of, compared, exponents, gains, names_of, spread, values

SEEDS = {"quick": 2, "full": 6}


def spectral(weight: str) -> Recipe:
    """Return the recipe with R_Spec of a weight."""
    return Recipe(f"spectral-{weight}", settings=dict(penalties=[dict(kind="spectral", weight=float(weight))]))


def soft(name: str, weight: float, *kinds: str, **model: Any) -> Recipe:
    """Return a recipe with R_E as a penalty."""
    return Recipe(name, model, dict(penalties=[dict(kind=kind, weight=weight) for kind in kinds]))


FULL = (
    Recipe("plain"),
    *(spectral(weight) for weight in ("1e-4", "1e-3", "1e-2", "1e-1")),
    soft("multi-1e-4", 1e-4, "symmetry", "orthogonality"),
    soft("multi-1e-2", 1e-2, "symmetry", "orthogonality"),
    Recipe("tied", model=dict(tied=True)),
    Recipe(
        "flossing", settings=dict(penalties=[dict(kind="exponent", weight=0.3, count=2, target=0.0, every=4, samples=4)])
    ),
    Recipe("one-head", model=dict(heads=1, masks=False)),
    soft("single-1e-6", 1e-6, "symmetry", heads=1, masks=False),
    soft("single-1e-2", 1e-2, "symmetry", heads=1, masks=False),
)
QUICK = tuple(recipe for recipe in FULL if recipe.name not in ("multi-1e-4", "single-1e-6"))
DEPTHS = (16, 64)


def regularisers_of(model: Any) -> dict[str, float]:
    """Return the value of each regulariser of weights, nan where the model has nothing for it."""
    attention = model.attention
    found = dict(
        spectral=regularise.spectral_regulariser(attention), symmetry=regularise.symmetry(attention), orthogonality=np.nan
    )
    if hasattr(attention, "output"):
        found["orthogonality"] = regularise.orthogonality(attention)
    return {name: float(as_numpy(value)) for name, value in found.items()}


def base_of(name: str) -> str:
    """Return the recipe that one is compared with."""
    return "one-head" if name.startswith("single") else "plain"


def run(lab: Lab) -> Findings:
    """Train with each regulariser, and measure accuracies, exponents, and what is left of each regulariser."""
    samples = 8 if lab.preset == "quick" else 16
    rows: list[dict[str, Any]] = []
    for recipe, seed, model in lab.every(QUICK if lab.preset == "quick" else FULL):
        row: dict[str, Any] = dict(recipe=recipe.name, seed=seed)
        rows.append(row | accuracies(lab, model, DEPTHS) | exponents(lab, model, samples) | regularisers_of(model))
    boards = boards_of(lab)
    notes = [
        f"{lab.seeds} seed(s) of each recipe; accuracy is that of {boards} whole boards, 'largest' the exponent over "
        "the first "
        f"16 layers, mean over {samples} boards out of distribution; spectral, symmetry, orthogonality: the regularisers' "
        "values after training. tied is R_E hard; one-head and single-* have one head, hence no masks."
    ]
    for name in names_of(rows):
        if name == base_of(name) or name == "one-head":
            continue
        base = base_of(name)
        a, b = (values(rows, "ood_64", recipe=n) for n in (name, base))
        e, f = (values(rows, "largest", recipe=n).mean() for n in (name, base))
        of = {"spectral": "spectral", "multi": "symmetry", "single": "symmetry"}.get(name.split("-")[0])
        left = ""
        if of is not None:
            left = "; its own value {:.3g} after training, {:.3g} without".format(
                *(values(rows, of, recipe=n).mean() for n in (name, base))
            )
        notes.append(
            f"{name}: out of distribution at 64 layers {spread(a)}, {base} {spread(b)} ({compared(a, b, boards)}); largest "
            f"exponent {e:+.3f}, {base} {f:+.3f}{left}."
        )
    notes.append(gains(rows, 16, 64, boards))
    kept = [row for row in rows if not row["recipe"].startswith(("single", "one-head"))]
    best = max(names_of(kept), key=lambda n: values(rows, "ood_64", recipe=n).mean())
    notes.append(f"Of the recipes with 4 heads, {best} has the highest mean accuracy out of distribution at 64 layers.")
    return lab.found("regularisers", rows, notes)
