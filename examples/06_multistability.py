r"""
Multistability: which states attract, how many, how often
=========================================================

With softmax weights self-attention on the sphere has many attractors at once (arXiv 2511.11553). Tokens agree
(*consensus*), split into two opposite groups (*bipartite consensus*), or form other clusters. This page draws the flow to
them, finds and classifies equilibria, counts the stable ones, and asks where random starts go, for two matrices:

.. math:: V = A = \operatorname{diag}(3, 2, 1), \qquad W = A = \operatorname{diag}(2, 1, -3),

:math:`A = Q^\top K` being that of the scores. Eigenvectors are numbered from 0, by eigenvalue, descending.

Needs ``ctsa[torch]``. Runs in about twenty seconds.
"""

import os
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import SelfAttention

SHORT = os.environ.get("CTSA_SHORT") == "1"
torch.set_grad_enabled(False)  # nothing is trained here

V, W = np.diag([3.0, 2.0, 1.0]), np.diag([2.0, 1.0, -3.0])
n, d = 10, 3


def attention(matrix, beta):
    return SelfAttention(key=matrix, value=matrix, beta=beta)


# %%
# Trajectories
# ------------
#
# Ten tokens from one random start (``seed=3``), hollow where they begin and filled where they end. In the upper row V acts,
# in the lower one W. For V all states are on the principal eigenvector. For W tokens with opposite signs on the eigenvector
# of -3 keep each other there: negative scores make them attend to their opposites, and the negative eigenvalue turns what
# they see around.

runs, values = {}, []
for name, matrix in (("V", V), ("W", W)):
    for beta in (1.0, 4.0) if SHORT else (0.25, 1.0, 4.0):
        flow = ctsa.integrate(attention(matrix, beta), ctsa.random_tokens(n, d, seed=3), np.linspace(0.0, 20.0, 201))
        kind = ctsa.classify(attention(matrix, beta), flow.xs[-1], rest=1e-3)
        runs[rf"${name}$, $\beta = {beta:g}$" + f"\n{kind}"] = flow
        values.append(matrix)
ctsa.plot.equilibria.trajectories(runs, values)

# %%
# Equilibria, stable and not
# --------------------------
#
# ``find_equilibria`` does not follow the flow, so it finds saddles as well. For three tokens under W at
# :math:`\beta = 2` they are few enough to be drawn; those that attract come first. Numbers count tokens.

found = ctsa.find_equilibria(attention(W, 2.0), n=3, d=d, starts=15 if SHORT else 60, rounds=1 if SHORT else 3)
kinds = sorted({e.kind for e in found})
print(f"{len(found)} equilibria modulo symmetries, {len(found.stable)} stable")
for kind in kinds:
    print(f"  {kind}: {sum(e.kind == kind for e in found.stable)} stable, {sum(e.kind == kind for e in found)} in all")
ctsa.plot.equilibria.equilibria(found, W, most=4 if SHORT else 8)

# %%
# All sign vectors, one by one
# ----------------------------
#
# There are :math:`2^{10}` ways of placing ten tokens at the two ends of an eigenvector, and each is an equilibrium. The
# spectra of their Jacobians are known in closed form, so ``theory.census`` counts the stable ones for any n. Here all 1024
# are also looked at numerically.

signs = np.array(list(product([1.0, -1.0], repeat=n)))
beta = 0.5
for name, matrix, k in (("V", V, 0),) if SHORT else (("V", V, 0), ("V", V, 1), ("W", W, 0), ("W", W, 2)):
    census = ctsa.theory.census(matrix, matrix, beta, n)
    counts = ctsa.basins(attention(matrix, beta), signs[:, :, None] * np.eye(d)[k], duration=0.01).counts()
    for kind in ("consensus", "bipartite consensus"):
        formula, jacobians = census[kind, k], counts.get(f"{kind} on v{k}", 0)
        print(f"{name}, beta = {beta}, {kind} on v{k}: {formula} by the formulas, {jacobians} by the Jacobians")

# %%
# The balanced split is the first to become stable, at ``theory.balanced_threshold``: for V at atanh(2/3)/3, on the
# eigenvector of -3 of W at the same value. Beyond it the more uneven ones follow.

for name, matrix, k in (("V", V, 0), ("W", W, 0), ("W", W, 2)):
    ends = [ctsa.theory.bipartite_threshold(matrix, matrix, k, m, n - m) for m in (5, 7, 9)]
    print(f"{name}, v{k}: 5+5, 7+3 and 9+1 are stable from beta =", ", ".join(f"{b:.4f}" for b in ends))

# %%
# Counting and sampling
# ---------------------
#
# How many stable states there are says little about how often they are met. On the left the count, on the right the shares
# of random starts.

betas = [0.25, 1.0] if SHORT else [0.1, 0.25, 0.5, 1.0, 2.0, 4.0]
starts = 20 if SHORT else 200
figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.6), layout="constrained")
for row, (name, matrix) in zip(axes, (("V", V), ("W", W)), strict=True):
    ctsa.plot.equilibria.census_bars(ctsa.theory.census_table(matrix, matrix, betas, n), betas, ax=row[0])
    sampled = {b: ctsa.basins(attention(matrix, b), starts, n=n, d=d, seed=0) for b in betas}
    ctsa.plot.equilibria.basin_shares(sampled, ax=row[1])
    print(f"{name}, beta = 1")
    print(sampled[1.0].table())

# %%
# For V both pictures agree on consensus below the threshold and on bipartite consensus far above it. For W they do not: at
# larger :math:`\beta` most starts end in clusters near the ends of several eigenvectors, which the count leaves out. The
# sizes of their groups at the largest:

sampled[betas[-1]].plot(by="sizes", most=8)

# %%
# A bifurcation diagram
# ---------------------
#
# The balanced split of four tokens under V, followed in :math:`\beta`, and what branches off it. It becomes stable where an
# unstable branch of clusters splits from it.

split = np.array([1.0, 1.0, -1.0, -1.0])[:, None] * np.eye(d)[0]
span, most = ((0.2, 0.35), 2) if SHORT else ((0.1, 0.6), 6)
diagram = ctsa.bifurcation_diagram(attention(V, 0.3), [split], "beta", span, max_branches=most)
print(diagram)
_, ax = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
diagram.plot(lambda x: np.linalg.norm(x.T @ x / len(x)), ax=ax, label=r"alignment $|X^\top X| / n$")
ax.axvline(ctsa.theory.balanced_threshold(V, V), color="0.8", linewidth=0.8, zorder=0)
plt.show()
