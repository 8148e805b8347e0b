r"""
Recurrent layers as Euler steps of a flow
=========================================

A recurrent transformer layer repeats one map. That map is a step of a flow on the sphere: exactly, if one lets the size of
the step vary from token to token. How long may the step be before layer and flow do different things, and which?

Needs ``ctsa[torch]``; with the fields of ``ctsa.jax`` everything reads the same. Runs in some twenty seconds.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import AKOrN, Injection, ItrSA, PostNormLayer, Rotation, SelfAttention

short = bool(os.environ.get("CTSA_SHORT"))
torch.set_grad_enabled(False)  # nothing is trained here

# %%
# The post-norm layer is an Euler step
# ------------------------------------
#
# With :math:`N(y) = y/|y|` and :math:`v = \sum_j a_{ij} V x_j`,
#
# .. math:: N(x + h v) = N(x + s\,P_x v), \qquad s = \frac{h}{1 + h\langle x, v\rangle} .
#
# ``as_euler`` reads field and steps off a layer and proves the identity on random states. The layers of two papers are
# of this kind, too.

value = np.diag([3.0, 1.0, 0.5])
field = SelfAttention(value=value, beta=1.0)
pairs = ctsa.Sphere(channels=2)
coupling = SelfAttention(beta=1.0, geometry=pairs) + Injection(np.ones(4), geometry=pairs)
for layer in (
    PostNormLayer(field, step=0.1),
    ItrSA(field, step=0.1, gamma=0.5),
    AKOrN(coupling, Rotation(frequencies=[1.0, 2.0], geometry=pairs), step=0.5),
):
    print(ctsa.as_euler(layer))

# %%
# For any other module ``effective_step`` finds the best step of every token along a given field, and the share of its
# update that no step explains. A post-norm transformer block with random weights, against its own attention: most of what
# it does is not a step along this field, because of its perceptron and its two normalisations.

torch.manual_seed(0)
d = 8
block = torch.nn.TransformerEncoderLayer(d, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64).eval()
w = block.self_attn.in_proj_weight.numpy()
read = ctsa.read_projections(*w.reshape(3, d, d), block.self_attn.out_proj.weight.numpy(), heads=2)
own = SelfAttention(**read.attention).rescaled(d**0.5)  # it reads tokens of length sqrt(d)
tokens = ctsa.random_tokens(10, d, seed=1)
fit = ctsa.effective_step(ctsa.torch.WrappedLayer(block, scale=d**0.5, batched=True), tokens, own)
print(fit.table())

# %%
# Orders
# ------
#
# The distance between layers and flow shrinks like the step for one-stage layers, like its square and its fourth power for
# layers with two and four evaluations of attention.

x0 = ctsa.random_tokens(5, 3, seed=3)
steps = [0.2, 0.1] if short else [0.2, 0.1, 0.05, 0.025, 0.0125]
figure, ax = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
for scheme in ("post-norm", "euler", "exp", "heun", "rk4"):
    comp = ctsa.compare(field, x0, 2.0, steps, layer=scheme)
    print(f"{scheme:10} order {comp.order:.2f}")
    ax.loglog(comp.step_sizes, comp.worst_errors, "o-", markersize=4, label=f"{scheme}: {comp.order:.2f}")
ax.set_xticks(steps, [f"{step:g}" for step in steps], minor=False)
ax.set_xticks([], minor=True)
ax.set(xlabel="step", ylabel="largest angle")
ax.legend(frameon=False, fontsize=8)

# %%
# A clustering flow, with steps that are too long
# -----------------------------------------------
#
# With this value matrix the flow ends in two opposite clusters. The largest step is beyond :math:`2/|\lambda|` for the most
# stable eigenvalue there: what decays in the flow changes sign and grows, and tokens swing to and fro for ever. Rings are
# multipliers predicted from the flow's Jacobian, dots those measured on the layer.

comp = ctsa.compare(field, x0, 16.0, [1.0, 0.4, 0.1], spectra=True, intervals=4 if short else 40, transient=20)
print(comp.table())
comp.plot()

# %%
# The post-norm layer never becomes unstable like that: its multipliers at consensus are
# :math:`(1 + h\mu)/(1 + h\mu_1)` and :math:`1/(1 + h\mu_1)`. It pays with time: close to the clusters it runs late.

for artefact in ctsa.compare(field, x0, 16.0, [1.0, 0.1], layer="post-norm").artefacts:
    print(artefact)

# %%
# A rotating flow
# ---------------
#
# Rotations are neutral: all exponents vanish. A normalised Euler step stretches the plane of the fastest rotation most, and
# normalising pulls every token into it, at :math:`\ln\sqrt{(1+h^2w_2^2)/(1+h^2w_1^2)}` a layer. Nothing of that is in the
# flow; one more stage takes most of it away.

turning = Rotation(frequencies=[2.0, 1.0])
x0 = ctsa.random_tokens(4, 4, seed=0)
measured = dict(spectra=True, intervals=4 if short else 30, transient=20 if short else 60)
for scheme, options in (("euler", measured), ("heun", {}), ("rk4", {})):
    comp = ctsa.compare(turning, x0, 10.0, [0.2], layer=scheme, **options)
    print(scheme, *comp.artefacts, sep="\n  ")

path = ctsa.iterate(ctsa.EulerLayer(turning, 0.2), x0, depth=60)
flow = ctsa.integrate(turning, x0, 0.2 * np.arange(61))
figure, ax = plt.subplots(figsize=(4.2, 2.6), layout="constrained")
for xs, style in ((flow.xs, "-"), (path.xs, "--")):
    ax.plot(0.2 * np.arange(61), (xs[:, :, 2:] ** 2).sum(-1), style, color="C0" if style == "-" else "C1", linewidth=1)
ax.set(xlabel="time", ylabel=r"share of $|x|^2$ in the slow plane", title="flow (lines) and Euler layers (dashed)")

# %%
# Watching a recurrent layer
# --------------------------
#
# The monitors of arXiv 2505.19458 along 24 layers of a driven ItrSA, far from its flow: pseudo-energy, contribution index,
# share of complex eigenvalues, norm of the Jacobian.

rng = np.random.default_rng(0)
driven = SelfAttention(value=rng.normal(size=(6, 6)), beta=1.0) + Injection(0.3 * rng.normal(size=(10, 6)))
layer = ItrSA(driven, step=1.0, gamma=0.8)
record = ctsa.monitor(layer, ctsa.random_tokens(10, 6, seed=1), depth=8 if short else 24)
print(record)
record.plot()

# %%
# However large the attention, normalisation bounds the Jacobian of the layer: by the step, the norm of the update's
# Jacobian, and the length of the shortest token before normalisation.
print(ctsa.jacobian_norms(layer, ctsa.random_tokens(10, 6, seed=1)).table())
plt.show()
