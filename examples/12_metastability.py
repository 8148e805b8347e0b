r"""
Metastability: the staircase of the energy
==========================================

On the way to consensus tokens form clusters, which then meet pair by pair after times that grow like
:math:`e^{\beta(1 - g)}`, with :math:`g` the inner product of two neighbours (arXiv 2410.06833). In between the energy

.. math:: E = \frac1{2\beta} \sum_{ij} e^{\beta\langle x_i, x_j\rangle}

stands still. A run that follows every token needs steps of about three units of time to the end, since the tokens of a
cluster keep approaching each other. Merged tokens (``merge=True``) leave only what is slow.

Needs ``ctsa[torch]``. Runs in a few seconds.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import SelfAttention

SHORT = os.environ.get("CTSA_SHORT") == "1"
torch.set_grad_enabled(False)  # nothing is trained here

n, end = (32 if SHORT else 64), 1e11
ts = np.concatenate([[0.0], np.geomspace(1e-2, end, 400)])
x0 = ctsa.random_tokens(n, 2, seed=1)

# %%
# One run to the end
# ------------------
#
# Times of mergers are in ``traj.merges``: after a quick start clusters wait, each time about exponentially longer. In the
# last plateau two clusters are nearly opposite; the force between them is :math:`e^{-2\beta}`.

field = SelfAttention(beta=9.0)
traj = ctsa.integrate(field, x0, ts, merge=True)
print(traj)
print("last mergers at", ", ".join(f"{t:.3g}" for t in traj.merges.times[-5:]))
traj.merges.plot()

# %%
# Staircases
# ----------
#
# At a plateau of clusters of sizes :math:`n_q` the energy is about :math:`\frac{e^\beta}{2\beta}\sum_q n_q^2`: divided by
# that of consensus, :math:`\sum_q (n_q / n)^2`, drawn as thin lines.

fig, ax = plt.subplots(figsize=(5.2, 3.0))
for k, beta in enumerate((5.0,) if SHORT else (3.0, 5.0, 7.0, 9.0)):
    traj = ctsa.integrate(SelfAttention(beta=beta), x0, ts, merge=True)
    energies = ctsa.energy(SelfAttention(beta=beta), traj.xs).numpy()
    consensus = n**2 * np.exp(beta) / (2 * beta)
    ax.plot(ts[1:], energies[1:] / consensus, color=f"C{k}", label=rf"$\beta = {beta:g}$")
    plateaus = np.array([((traj.merges.sizes(i) / n) ** 2).sum() for i in range(len(ts))])
    few = traj.merges.counts <= 6
    ax.plot(ts[few], plateaus[few], color=f"C{k}", linewidth=0.6, linestyle=":")
ax.set(xscale="log", xlim=(1e-2, end), xlabel="time $t$", ylabel="energy, of that of consensus")
ax.legend(frameon=False)
fig.tight_layout()

# %%
# Beside a run without mergers
# ----------------------------
#
# Places agree to the gap at which tokens are merged, ten times the tolerance, in a fraction of the steps.

until = np.concatenate([[0.0], np.geomspace(1e-2, 1e2 if SHORT else 1e3, 60)])
merged = ctsa.integrate(SelfAttention(beta=5.0), x0, until, "dopri8", atol=1e-10, merge=True)
plain = ctsa.integrate(SelfAttention(beta=5.0), x0, until, "dopri8", atol=1e-10)
print(f"largest difference {float((merged.xs - plain.xs).abs().max()):.1e}, gap {merged.merges.gap:.0e}")
print(f"steps: {merged.stats['steps']} with mergers, {plain.stats['steps']} without")

plt.show()
