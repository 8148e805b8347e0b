"""Trained as a flow and used as layers, and the other way round: does accuracy tend to that of the flow?"""

import time
from typing import Any

import numpy as np

from ctsa.flows import Solver
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings
from ctsa.training import train
from ctsa.training.evaluation import plain_inputs, starts_of

from .lab import Lab, Recipe
from .measuring import accuracies, boards_of, compared, names_of, spread, values

SEEDS = {"quick": 2, "full": 4}
SOLVER = dict(solver="dopri5", atol=1e-4)
QUICK = (
    Recipe("layers", model=dict(gamma="scalar")),
    Recipe("flow", model=dict(gamma="scalar"), settings=SOLVER),
)
FULL = (*QUICK, Recipe("layers-4", model=dict(gamma="scalar"), settings=dict(refine=4)))
REFINE = (1, 2, 4, 8)
DEPTHS = (16, 64)


def cost(lab: Lab, recipe: Recipe, steps: int = 4) -> float:
    """Return CPU seconds of a step of training, the first steps of an untrained model."""
    model = lab.face.RecurrentModel.for_task(lab.data.train, **{**lab.sizes.get("model", {}), **recipe.model})
    data, settings = lab.data._replace(validation=None, test=None), lab.settings(recipe, 0)
    spent = []
    for count in (1, 1, 1 + steps):  # the first run warms up, and the first step of each compiles
        began = time.process_time()
        train(model, data, settings.changed(steps=count, warmup=0, watch=None), progress=False)
        spent.append(time.process_time() - began)
    return max(spent[2] - spent[1], 0.0) / steps


def apart(lab: Lab, model: Any, solver: Solver, boards: int) -> dict[int, tuple[float, float, float]]:
    """Return, by refinement, how far the states are from the flow's at the depth of training.

    The root mean square over tokens (of length 1) of a board, its median over boards; that at the 90th percentile; and the
    share of boards that are answered alike.
    """
    data = lab.data.ood[:boards]
    noise, inputs = starts_of(model, data, 0), plain_inputs(data.inputs)
    flow = model.run(inputs, DEPTHS[0], _like(model, noise), solver=solver)
    said, flow = as_numpy(model.read(flow)).argmax(-1), as_numpy(flow)
    found = {}
    for refine in REFINE:
        u = model.run(inputs, DEPTHS[0], _like(model, noise), refine=refine)
        gap = np.sqrt(((as_numpy(u) - flow) ** 2).sum(-1).mean(-1))
        same = (as_numpy(model.read(u)).argmax(-1) == said).reshape(len(data), -1).all(-1)
        found[refine] = float(np.median(gap)), float(np.quantile(gap, 0.9)), float(same.mean())
    return found


def _like(model: Any, noise: np.ndarray) -> Any:
    from ctsa._backend import backend

    return backend(model.embedding).like(noise, model.embedding)


def run(lab: Lab) -> Findings:
    """Train as layers and as a flow; evaluate both as layers of several step sizes and as a flow."""
    quick = lab.preset == "quick"
    recipes, boards, solver = QUICK if quick else FULL, 100 if quick else 500, Solver("dopri5", atol=1e-4)
    spent = {recipe.name: cost(lab, recipe) for recipe in recipes}
    rows: list[dict[str, Any]] = []
    for recipe, seed, model in lab.every(recipes):
        gaps = apart(lab, model, Solver("dopri5", atol=1e-6), boards)
        eta, gamma = (float(as_numpy(a)) for a in (model.step, model.gamma))
        shared: dict[str, Any] = dict(recipe=recipe.name, seed=seed, eta=eta, gain=gamma, seconds_a_step=spent[recipe.name])
        for refine in REFINE:
            gap, far, same = gaps[refine]
            row = shared | dict(used="layers", refine=refine) | accuracies(lab, model, DEPTHS, refine=refine)
            rows.append(row | dict(apart=gap, apart_90=far, same_answer=same))
        row = shared | dict(used="flow", refine=0) | accuracies(lab, model, DEPTHS, solver=solver)
        rows.append(row | dict(apart=0.0, apart_90=0.0, same_answer=1.0))
    return lab.found("continuous", rows, _notes(lab, rows, spent, min(boards, len(lab.data.ood))))


def _notes(lab: Lab, rows: list[dict[str, Any]], spent: dict[str, float], some: int) -> list[str]:
    boards = boards_of(lab)
    notes = [
        f"{lab.seeds} seed(s); scalar gamma, accuracy is that of {boards} whole boards. Used as layers: each unit of "
        "depth in "
        "1, 2, 4 or 8 layers, each with a part of the step (refine); used as a flow: dopri5, atol 1e-4. Trained as a flow: "
        f"{SOLVER['solver']}, atol {SOLVER['atol']:g}.",
        "CPU seconds of a step of training: " + ", ".join(f"{name} {s:.3f}" for name, s in spent.items())
        + (f"; the flow costs {spent['flow'] / spent['layers']:.1f} times what layers cost." if spent["layers"] else "."),
    ]  # fmt: skip
    for name in names_of(rows):
        mine = [row for row in rows if row["recipe"] == name]
        for depth in DEPTHS:
            flow = values(mine, f"ood_{depth}", used="flow")
            at = {k: values(mine, f"ood_{depth}", used="layers", refine=k) for k in REFINE}
            off = [abs(a.mean() - flow.mean()) for a in at.values()]
            tends = "nearer" if off[-1] < off[0] else "no nearer" if off[-1] == off[0] else "farther"
            notes.append(
                f"trained as {name}, out of distribution at depth {depth}: "
                + ", ".join(f"refine {k} {spread(a)}" for k, a in at.items())
                + f", flow {spread(flow)}; refine {REFINE[-1]} is {tends} to the flow ({off[-1]:.3f} off) than refine "
                f"{REFINE[0]} ({off[0]:.3f}); refine 1 against the flow {compared(at[1], flow, boards)}."
            )
        gaps = np.array([values(mine, "apart", used="layers", refine=k).mean() for k in REFINE])
        same = [values(mine, "same_answer", used="layers", refine=k).mean() for k in REFINE]
        order = np.log2(gaps[-2] / gaps[-1]) if gaps[-1] > 0 else float("nan")
        notes.append(
            f"trained as {name}: states at depth 16 differ from the flow's by "
            + ", ".join(f"{g:.2g}" for g in gaps)
            + f" of a token's length (median of {some} boards) at refine {', '.join(map(str, REFINE))}: order {order:.2f} "
            "in the step between the last two; answers are those of the flow on "
            f"{', '.join(f'{s:.0%}' for s in same)} of boards."
        )
    both, as_layers = (values(rows, "ood_16", recipe=name, used="flow") for name in ("flow", "layers"))
    own = values(rows, "ood_16", recipe="layers", used="layers", refine=1)
    notes.append(
        f"At depth 16, out of distribution: trained and used as layers {spread(own)}, trained and used as a flow "
        f"{spread(both)} ({compared(both, own, boards)}); trained as layers, used as a flow "
        f"{spread(as_layers)} "
        f"({compared(as_layers, own, boards)})."
    )
    return notes
