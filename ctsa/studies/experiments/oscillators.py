"""How large may the oscillators of AKOrN be, without and with a gain after their normalisation?"""

from typing import Any

from ctsa.studies.findings import Findings

from .lab import Lab, Recipe
from .measuring import accuracies, boards_of, compared, exponents, gains, spread, values

SEEDS = {"quick": 1, "full": 4}
STEPS = {"quick": 700, "full": 1500}  # AKOrN learns about three times as slowly as ItrSA
DEPTHS = (16, 32, 64)
KINDS = ("akorn", "akorn-rmsnorm")


def recipe(kind: str, channels: int, preset: str) -> Recipe:
    """Return the recipe of AKOrN with oscillators of so many channels."""
    model = dict(kind=kind, channels=channels)
    return Recipe(f"{kind}-N{channels}", model, dict(steps=STEPS[preset]))


def sizes_of(d: int, quick: bool) -> list[int]:
    """Return the sizes of oscillators, up to whole tokens of d."""
    every = [2**k for k in range(1, d.bit_length()) if d % 2**k == 0]
    found = [n for n in every if n in (4, 16)] if quick else every
    return sorted({*found, d})


def run(lab: Lab) -> Findings:
    """Train AKOrN with oscillators of several sizes; ItrSA beside it, with as many steps."""
    quick = lab.preset == "quick"
    d, samples = int(lab.sizes.get("model", {}).get("d", 64)), 8 if quick else 16
    sizes = sizes_of(d, quick)
    itrsa = Recipe(f"itrsa-{STEPS[lab.preset]}", settings=dict(steps=STEPS[lab.preset]))
    rows: list[dict[str, Any]] = []
    for kind, channels in [*((k, n) for n in sizes for k in KINDS), ("itrsa", d)]:
        one = itrsa if kind == "itrsa" else recipe(kind, channels, lab.preset)
        for _, seed, model in lab.every([one]):
            row: dict[str, Any] = dict(recipe=one.name, kind=kind, channels=channels, seed=seed)
            rows.append(row | accuracies(lab, model, DEPTHS) | exponents(lab, model, samples))
    boards = boards_of(lab)
    notes = [
        f"{STEPS[lab.preset]} steps each ({lab.seeds} seed(s)), since AKOrN learns more slowly than ItrSA; accuracy "
        "is that of "
        f"{boards} whole boards; d = {d}, so that N = {d} makes an oscillator of a whole token."
    ]
    for kind in KINDS:
        at = {n: values(rows, "ood_64", kind=kind, channels=n) for n in sizes}
        told = ", ".join(f"N {n}: {spread(a)}" for n, a in at.items())
        notes.append(
            f"{kind}, out of distribution at 64 layers: {told}; N = {sizes[-1]} against N = {sizes[0]} "
            f"{compared(at[sizes[-1]], at[sizes[0]], boards)}."
        )
        notes.append(f"{kind}: " + gains([r for r in rows if r["kind"] == kind], 16, 64, boards, sizes, "channels"))
    for n in sizes:
        a, b = (values(rows, "ood_64", kind=kind, channels=n) for kind in reversed(KINDS))
        notes.append(f"N = {n}: a gain after the normalisation changes accuracy at 64 layers by {compared(a, b, boards)}.")
    before, after = (values(rows, f"ood_{depth}", kind="itrsa") for depth in (16, 64))
    notes.append(f"itrsa with as many steps: {spread(before)} at 16 layers, {spread(after)} at 64.")
    return lab.found("oscillators", rows, notes)
