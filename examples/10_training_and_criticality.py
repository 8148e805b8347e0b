"""
Training, and what exponents say
================================

Recurrent attention learns 4x4 Sudoku in some ten seconds, gains by more layers than it was trained with, and comes to rest.
Is the exponent near zero that "edge of chaos" speaks of a cause of accuracy, or a companion? Four small models say what can
be seen at this size; the page "Does criticality predict accuracy?" has more of them. Needs ``ctsa[torch,training]``.
"""

# %%
# A model, before
# ---------------
# Clues are embedded, blanks start from noise; the layer ``X <- gamma N(X + step (C + MSA(X)))`` is applied 16 times and
# the last state is read out, a digit a cell. Puzzles of 6 to 10 clues train it; ``ood`` has 4 or 5.
import os

import matplotlib.pyplot as plt
import torch

import ctsa
import ctsa.torch
from ctsa.training import evaluate, watch

short = bool(os.environ.get("CTSA_SHORT"))
torch.set_num_threads(1)  # the arrays are small
data = ctsa.datasets.task("sudoku-4x4", count=600 if short else 6000, ood_count=50 if short else 300)
steps, samples = (10, 1) if short else (250, 6)


def untrained(**arguments):
    return ctsa.torch.RecurrentModel.for_task(data.train, **(dict(d=16 if short else 64, heads=4, seed=0) | arguments))


def exponents(model):
    return watch(model, data.ood, samples=samples, measures=("largest", "mean"))


print("untrained:", exponents(untrained()))

# %%
# Training, watched
# -----------------
# ``watch=`` measures exponents and energies on the way. The largest exponent over the 16 layers rises from far below zero
# as the model learns: training itself moves it.
model = untrained()
seen = dict(watch=steps, watch_samples=1) if short else dict(watch=steps // 5, watch_samples=4)
run = ctsa.train(model, data, steps=steps, validate_every=steps // 10, **seen)
print(run.table())
axes = run.plot()

# %%
# More layers than in training
# ----------------------------
# Three more models: one with a strong spectral regulariser, one whose gain begins at 1 in place of sqrt(d), and one whose
# gain is a number, so that it has a flow. Accuracy is that of whole boards that are harder than those of training.
recipes = {
    "plain": (model, None),
    "R_Spec .1": (untrained(), dict(penalties=[dict(kind="spectral", weight=0.1)])),
    "gain 1": (untrained(gain=1.0), {}),
    "scalar gain": (untrained(gamma="scalar"), {}),
}
found = {}
for name, (each, changes) in recipes.items():
    if changes is not None:
        ctsa.train(each, data, steps=steps, **changes)
    found[name] = evaluate(each, data.ood, (2, 4, 8, 16, 32, 64))
ax = ctsa.plot.training.evaluation(found)
ax.axvline(16, color="0.7", linewidth=0.8, zorder=0)  # the depth of training
ax.set_title("harder boards", fontsize=8)

# %%
# Exponents after
# ---------------
# Next to the accuracy at 64 layers stands the largest exponent over 16 layers. The two models that solve most boards are a
# little closer to zero, but not in order, and by hardly more than six boards can tell. The regulariser and the gain move
# both at once, and so does training: no cause is seen here.
rows = []
for name, (each, _) in recipes.items():
    seen = exponents(each).means()
    rows.append((seen["largest"], found[name].accuracy[-1]))
    print(f"{name:12s} largest {seen['largest']:+.3f}, mean {seen['mean']:+.3f}; accuracy {found[name].accuracy[-1]:.3f}")
ax = plt.figure(figsize=(3.4, 2.4), dpi=150).add_subplot()
for (exponent, accuracy), name in zip(rows, recipes):
    ax.plot(exponent, accuracy, "o", markersize=4, label=name)
ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
ax.set_xlabel("largest exponent over 16 layers", fontsize=8)
ax.set_ylabel("accuracy, 64 layers", fontsize=8)
ax.spines[["top", "right"]].set_visible(False)
ax.tick_params(labelsize=7)
ax.legend(fontsize=7, frameon=False)
ax.figure.tight_layout()

# %%
# On the way, and in the end
# --------------------------
# ``layer_of`` is the layer for some puzzles, and every analysis takes it. The exponent on the way is that of a transient:
# the states come to rest, and the asymptotic exponent says how fast.
puzzles = data.ood.inputs[:samples]
layer, start = model.layer_of(puzzles), model.start(puzzles, seed=0)
report = ctsa.diagnose(layer, start, loops=64 if short else 256, restarts=1)
print(report)
one = model.layer_of(puzzles[0])
spectrum = ctsa.lyapunov_spectrum(
    one, model.start(puzzles[0], seed=0), count=3, intervals=40 if short else 200, transient=20 if short else 60
)
print("asymptotic:", " ".join(f"{e:+.3f}" for e in spectrum.exponents), spectrum.verdict.headline)

# %%
# Continuous depth
# ----------------
# The model with a scalar gain is an Euler discretisation of a flow. It was trained as layers; cut finer, with the same
# weights, the layers tend to the flow. What a model answers there is another matter than what it learnt; this one loses
# nothing by it, as far as a hundred boards can tell.
scalar = recipes["scalar gain"][0]
few = data.ood[: 20 if short else 100]
for refine in (1, 2, 4):
    print(f"layers of 1/{refine}: accuracy {evaluate(scalar, few, (16,), refine=refine).accuracy[0]:.3f}")
flow = evaluate(scalar, few, (16,), solver=ctsa.Solver("dopri5", atol=1e-3, rtol=1e-3))
print(f"the flow:      accuracy {flow.accuracy[0]:.3f}")
