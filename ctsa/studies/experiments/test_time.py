"""What do more layers gain than a model was trained with, and what do several starts with a vote?"""

from typing import Any

import numpy as np

from ctsa.studies.findings import Findings
from ctsa.training import evaluate, vote, watch

from .lab import Lab, Recipe
from .measuring import boards_of, compared, names_of, parts_of, spread, values

SEEDS = {"quick": 2, "full": 6}
QUICK = (Recipe("plain"), Recipe("depth-8", settings=dict(depth=8)))
FULL = (
    *QUICK,
    Recipe("random-depth", settings=dict(depths="uniform")),
    Recipe("unit-gain", model=dict(gain=1.0)),
    Recipe("akorn", model=dict(kind="akorn"), settings=dict(steps=700)),
)
DEPTHS = (4, 8, 12, 16, 24, 32, 64, 128, 256)
STARTS = (1, 4, 16)
BY = ("energy", "energy-sum", "confidence", "majority")


def depth_rows(lab: Lab, recipe: Recipe, seed: int, model: Any, contribution: tuple[int, int]) -> list[dict[str, Any]]:
    """Return a row a depth: accuracies, and out of distribution mean energy and confidence."""
    found = {part: evaluate(model, data, DEPTHS) for part, data in parts_of(lab).items()}
    samples, deepest = contribution
    rows = []
    for i, depth in enumerate(DEPTHS):
        row: dict[str, Any] = dict(measure="depth", recipe=recipe.name, seed=seed, depth=depth, starts=1)
        row |= {part: float(one.accuracy[i]) for part, one in found.items()}
        ood = found["ood"]
        row |= dict(energy=float(ood.energy[i].mean()), confidence=float(ood.confidence[i].mean()))
        for solved, name in ((True, "energy_solved"), (False, "energy_unsolved")):
            some = ood.energy[i][ood.solved[i] == solved]
            row[name] = float(some.mean()) if len(some) else float("nan")
        if samples and depth <= deepest:
            seen = watch(model, lab.data.ood, depth=depth, samples=samples, measures=("contribution",))
            row["contribution"] = float(np.mean(seen.contribution))
        rows.append(row)
    return rows


def vote_rows(lab: Lab, recipe: Recipe, seed: int, model: Any, boards: int) -> list[dict[str, Any]]:
    """Return a row a vote and number of starts: accuracy out of distribution at depth 64."""
    found = vote(model, lab.data.ood[:boards], depth=64, starts=max(STARTS), by=BY)
    rows = []
    for k in STARTS:
        every = {"single": float(np.mean(found.single[:k])), "any": float(found.any[k - 1])}
        every |= {name: float(a) for name, a in zip(found.by, found.accuracy[:, k - 1], strict=True)}
        rows += [
            dict(measure=name, recipe=recipe.name, seed=seed, depth=64, starts=k, ood=a) for name, a in every.items()
        ]
    gain = found.chosen - found.solved.mean(0)  # over a single start, by board
    for row in rows[-len(found.by) :]:
        d = gain[found.by.index(row["measure"])]
        row |= dict(gain=float(d.mean()), gain_error=float(d.std(ddof=1) / np.sqrt(len(d))) if len(d) > 1 else np.nan)
    return rows


def _depth_notes(rows: list[dict[str, Any]], boards: int) -> list[str]:
    notes = []
    for name in names_of(rows):
        at = {depth: values(rows, "ood", recipe=name, measure="depth", depth=depth) for depth in DEPTHS}
        means = {depth: a.mean() for depth, a in at.items()}
        flat = next(depth for depth, a in means.items() if a >= max(means.values()) - 0.01)
        notes.append(
            f"{name}: accuracy out of distribution {spread(at[16])} at 16 layers, {spread(at[64])} at 64 "
            f"({compared(at[64], at[16], boards)}), {spread(at[256])} at 256 (from 64: "
            f"{compared(at[256], at[64], boards)}); "
            f"within .01 of its best from {flat} layers on."
        )
        energies = {d: values(rows, "energy", recipe=name, measure="depth", depth=d).mean() for d in DEPTHS}
        steps = np.diff(list(energies.values()))
        after = [d for d, s in zip(DEPTHS[1:], steps, strict=True) if s > 0]
        course = "falls all the way"
        if after:
            course = f"rises on the way to {', '.join(map(str, after))}, by {max(steps):.2g} at most"
        solved, unsolved = (
            values(rows, f"energy_{kind}", recipe=name, measure="depth", depth=64) for kind in ("solved", "unsolved")
        )
        apart = ""
        if np.isfinite(solved).all() and np.isfinite(unsolved).all():
            apart = f"; at 64 layers {solved.mean():.1f} on solved boards and {unsolved.mean():.1f} on others"
        notes.append(
            f"{name}: mean pseudo-energy {energies[4]:.1f} at 4 layers, {energies[16]:.1f} at 16, {energies[64]:.1f} "
            "at 64, "
            f"{energies[256]:.1f} at 256, which {course}{apart}."
        )
        shares = {d: values(rows, "contribution", recipe=name, measure="depth", depth=d) for d in DEPTHS}
        shares = {d: a[np.isfinite(a)].mean() for d, a in shares.items() if np.isfinite(a).any()}
        if shares:
            told = ", ".join(f"{a:.3f} at {d}" for d, a in shares.items())
            notes.append(f"{name}, first seed: contribution index of the top 2 % {told} (a random state has .02).")
    return notes


def _vote_notes(rows: list[dict[str, Any]]) -> list[str]:
    notes = []
    for name in names_of(rows):
        at = {m: values(rows, "ood", recipe=name, measure=m, starts=max(STARTS)) for m in ("single", *BY, "any")}
        told = ", ".join(f"{m} {a.mean():.3f}" for m, a in at.items())
        room = at["any"].mean() - at["single"].mean()
        notes.append(
            f"{name}, votes of {max(STARTS)} starts at 64 layers: {told}; the most a choice could gain is {room:.3f}."
        )
        for by in BY:
            some = dict(recipe=name, measure=by, starts=max(STARTS))
            gain, errors = values(rows, "gain", **some), values(rows, "gain_error", **some)
            error = np.sqrt((errors**2).sum()) / len(errors)  # of the mean over seeds, from differences by board
            clear = "resolved" if gain.mean() > 2 * error else "not resolved"
            share = f", {gain.mean() / room:.0%} of that" if room > 0 else ""
            notes.append(f"{name}: the vote by {by} gains {gain.mean():+.3f} +- {error:.3f}{share}, {clear}.")
    return notes


def run(lab: Lab) -> Findings:
    """Measure accuracy, energy, confidence and contribution against depth, and votes of 1, 4 and 16 starts."""
    quick = lab.preset == "quick"
    boards, samples, deepest = (200, 2, 64) if quick else (500, 4, 256)
    rows: list[dict[str, Any]] = []
    for recipe, seed, model in lab.every(QUICK if quick else FULL):
        rows += depth_rows(lab, recipe, seed, model, (samples if seed == 0 else 0, deepest))
        rows += vote_rows(lab, recipe, seed, model, boards)
    boards, all_boards = min(boards, len(lab.data.ood)), boards_of(lab)
    notes = [
        f"Accuracy is that of whole boards: {all_boards} (votes {boards}), {lab.seeds} seed(s) of each recipe; trained at "
        "16 layers where nothing else is said (depth-8: at 8)."
    ]
    return lab.found("test-time", rows, [*notes, *_depth_notes(rows, all_boards), *_vote_notes(rows)])
