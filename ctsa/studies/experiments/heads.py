"""What does the number of heads change: exponents and accuracy, with and without the masks of the task?"""

from typing import Any

from ctsa.studies.findings import Findings

from .lab import Lab, Recipe, rank_correlation
from .measuring import accuracies, boards_of, compared, exponents, spread, values

SEEDS = {"quick": 2, "full": 6}
HEADS = (1, 2, 4, 8)
DEPTHS = (16, 64)


def recipe(heads: int, masks: bool, preset: str) -> Recipe:
    """Return the recipe; without masks models learn more slowly, and have more steps in "quick"."""
    if masks:
        return Recipe("plain") if heads == 4 else Recipe(f"heads-{heads}", dict(heads=heads))
    steps = dict(steps=400) if preset == "quick" else {}
    return Recipe(f"heads-{heads}-open", dict(heads=heads, masks=False), steps)


def run(lab: Lab) -> Findings:
    """Train with 1, 2, 4 and 8 heads; measure accuracies, and the largest and the mean exponent over 16 layers."""
    quick = lab.preset == "quick"
    samples = 4 if quick else 16
    measures = ("largest", "mean") if quick else ("largest", "mean", "asymptotic")
    rows: list[dict[str, Any]] = []
    for masks in (True, False):
        for heads in HEADS:
            for one, seed, model in lab.every([recipe(heads, masks, lab.preset)]):
                row: dict[str, Any] = dict(recipe=one.name, heads=heads, masks=masks, seed=seed)
                rows.append(row | accuracies(lab, model, DEPTHS) | exponents(lab, model, samples, measures))
    given = 0 if lab.data.train.masks is None else len(lab.data.train.masks)
    boards = boards_of(lab)
    notes = [
        f"{lab.seeds} seed(s) each; accuracy is that of {boards} whole boards, exponents over the first 16 layers are "
        "means "
        f"over {samples} boards out of distribution" + ("; without masks 400 steps instead of 250." if quick else "."),
        f"The task has {given} masks, a head each: with masks, a model of fewer heads does not see all that rules a "
        "cell, so "
        f"that only {given} heads and more tell what heads do.",
    ]
    for masks in (True, False):
        some = [row for row in rows if row["masks"] == masks]
        title = "with masks" if masks else "without masks"
        for heads in HEADS:
            told = ", ".join(f"{name} exponent {spread(values(some, name, heads=heads))}" for name in measures)
            notes.append(
                f"{title}, {heads} head(s): out of distribution at 16 layers "
                f"{spread(values(some, 'ood_16', heads=heads))}, "
                f"at 64 {spread(values(some, 'ood_64', heads=heads))}; {told}."
            )
        a, b = (values(some, "ood_64", heads=heads) for heads in (8, 4))
        notes.append(f"{title}, 8 heads against 4 at 64 layers: {compared(a, b, boards)}.")
        for name in measures:
            rho, low, high = rank_correlation([r["heads"] for r in some], [r[name] for r in some])
            clear = "resolved" if low > 0 or high < 0 else "not resolved"
            notes.append(
                f"{title}: rank correlation of the number of heads with the {name} exponent {rho:+.2f} "
                f"[{low:+.2f}, {high:+.2f}], {clear}."
            )
    return lab.found("heads", rows, notes)
