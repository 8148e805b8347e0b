r"""
A first flow: tokens on the two-sphere
======================================

Tokens are unit vectors in :math:`\mathbb R^3`, and each moves towards what it attends to:

.. math:: \dot x_i = P_i \sum_j a_{ij} x_j, \qquad a_{ij} = \operatorname{softmax}_j\, \beta \langle x_i, x_j\rangle,

with :math:`P_i = I - x_i x_i^\top`, so query, key and value are the identity. This is the model of arXiv 2312.10794.
This page integrates it, counts clusters, follows the energy, and compares PyTorch with JAX and the flow with the
recurrent layer that discretises it.

Needs ``ctsa[torch]``; the comparison with JAX needs ``ctsa[jax]`` as well. Runs in a few seconds.
"""

import importlib.util
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa import plot
from ctsa.torch import SelfAttention

SHORT = os.environ.get("CTSA_SHORT") == "1"
torch.set_grad_enabled(False)  # nothing is trained here

# %%
# Integrate
# ---------
#
# A field is a function of time and state. ``integrate`` returns the states at the times asked for.

n, beta = 32, 9.0
ts = np.linspace(0.0, 40.0, 101 if SHORT else 401)
x0 = ctsa.random_tokens(n, 3, seed=0)
field = SelfAttention(beta=beta)
flow = ctsa.integrate(field, x0, ts)
print(flow)

# %%
# Hollow marks are where tokens start, filled ones where they end. The colours are those of the clusters at the end,
# found by linking tokens that are less than 0.01 apart.

labels = ctsa.clusters(flow.xs[-1], gap=1e-2)
ax = plot.sphere(flow, labels=labels)
ax.view_init(60, 105)

# %%
# The energy rises in stages
# --------------------------
#
# For :math:`Q^\top K = V` symmetric the flow climbs the energy
# :math:`E = \frac1{2\beta} \sum_{ij} e^{\beta\langle x_i, x_j\rangle}`, at the rate
#
# .. math:: \dot E = \sum_i Z_i |\dot x_i|^2, \qquad Z_i = \sum_j e^{\beta \langle x_i, x_j\rangle} .
#
# Automatic differentiation along the velocity confirms the rate to rounding, at every output time.

energy = ctsa.energy(field, flow.xs)
velocity = field(0.0, flow.xs)
rate = torch.func.jvp(lambda x: ctsa.energy(field, x), (flow.xs,), (velocity,))[1]
formula = (torch.exp(field.scores(flow.xs)).sum(-1) * (velocity**2).sum(-1)).sum(-1)
print(f"largest difference of the two rates, relative: {float((rate - formula).abs().max() / formula.max()):.1e}")

counts = ctsa.cluster_count(flow.xs, gap=1e-2)
series = {"energy / final": energy / energy[-1], "clusters": counts, "effective rank": ctsa.effective_rank(flow.xs)}
plot.panels(ts, series)

# %%
# On a plateau nothing seems to happen: the force between clusters with inner product :math:`g` is of the order of
# :math:`e^{-\beta(1 - g)}`. The state at the end of this run is such a plateau, not an equilibrium that attracts.
#
# The Gram matrices, with tokens that end in one cluster side by side:

plot.gram(flow, times=[0.0, 3.0, 8.0, 40.0], order="clusters")

# %%
# More clusters at larger beta
# ----------------------------
#
# Leading axes of the state are an ensemble. The mean number of clusters against time, from a few random starts each:

starts = ctsa.random_tokens(n, 3, seed=1, batch=(4 if SHORT else 16,))
late = np.linspace(0.0, 20.0, 41)
figure, ax = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
for b in (1.0, 4.0) if SHORT else (1.0, 4.0, 9.0, 16.0):
    many = ctsa.integrate(SelfAttention(beta=b), starts, late, atol=1e-6)
    ax.plot(late, ctsa.cluster_count(many.xs, gap=1e-2).mean(1), label=rf"$\beta = {b:g}$")
ax.set(xlabel="time $t$", ylabel="clusters (mean)", yscale="log")
ax.legend(frameon=False)

# %%
# The curves say how many clusters there are at a time, not in the end: for :math:`\beta = 9` and 16 the plateaus
# outlast the run by far.
#
# The recurrent layer
# -------------------
#
# ``EulerLayer`` is :math:`x \mapsto N(x + h \dot x)`. Iterated to the same time, it differs from the flow by an amount
# proportional to the step, as long as no merger is near.

end = 2.0
exact = ctsa.integrate(field, x0, [0.0, end], atol=1e-12).xs[-1]
steps = np.array([0.2, 0.1, 0.05, 0.025])
errors = []
for h in steps:
    path = ctsa.iterate(ctsa.EulerLayer(field, step=h), x0, depth=round(end / h))
    errors.append(float((path.xs[-1] - exact).abs().max()))
    print(f"step {h:5.3f}: largest difference {errors[-1]:.4f}")
order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
print(f"order {order:.2f}")

# %%
# The same in JAX
# ---------------
#
# The names are the same. Both solver libraries get the same first step and land on the same times, so they take the
# same steps, and the states agree almost to rounding. JAX has to be in 64-bit mode for that.

if all(importlib.util.find_spec(name) for name in ("jax", "equinox", "diffrax")):
    import jax

    jax.config.update("jax_enable_x64", True)
    import ctsa.jax

    twin = ctsa.integrate(ctsa.jax.from_torch(field), x0, ts)
    print("steps", flow.stats["steps"], twin.stats["steps"])
    print(f"largest difference {np.abs(flow.xs.numpy() - np.asarray(twin.xs)).max():.1e}")
