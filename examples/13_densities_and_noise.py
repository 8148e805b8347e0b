r"""
Densities beside tokens, and the noise that keeps them apart
============================================================

Very many tokens are a density, whose equation ``MeanField`` solves in harmonics. Here it runs beside tokens, its first
growth is compared with a formula, and noise is added until nothing grows any more.

Needs ``ctsa[torch]``; with the fields of ``ctsa.jax`` everything reads the same. Runs in some ten seconds.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import MeanField, Noise, SelfAttention

SHORT = os.environ.get("CTSA_SHORT") == "1"
torch.set_grad_enabled(False)  # nothing is trained here

# %%
# How fast modes grow
# -------------------
#
# Under softmax attention with Q = K = V = I the mode :math:`\cos k\theta` of the uniform density on the circle grows at
# the rate :math:`k^2 I_k(\beta) / (\beta I_0(\beta))`. Dots are eigenvalues of the density's equation, lines the
# formula.

figure, ax = plt.subplots(figsize=(4.4, 3.0), layout="constrained")
modes = np.arange(0, 13)
for i, beta in enumerate((2.0, 8.0, 32.0)):
    field = MeanField(beta=beta, d=2, degree=12)
    jacobian = ctsa.jacobian(field, field.uniform).numpy()
    found = np.diag(jacobian)[::2]  # the cosines; harmonics are modes
    rates = ctsa.theory.uniform_growth_rate(modes, beta)
    ax.plot(modes, rates, color=f"C{i}", linewidth=1)
    ax.plot(modes[1:], found, ".", color=f"C{i}", label=rf"$\beta = {beta:g}$")
    fastest, rate = ctsa.theory.most_unstable_mode(beta)
    print(
        f"beta {beta:4g}: mode {fastest} grows fastest, at {rate:.3f}; errors below {np.abs(found - rates[1:]).max():.0e}"
    )
ax.set(xlabel="mode $k$", ylabel="growth rate")
ax.legend(frameon=False)

# %%
# The fastest mode is about :math:`\sqrt{2\beta}`: so many clusters appear first.
#
# A density beside its tokens
# ---------------------------
#
# Tokens are spread evenly and moved a little along the circle. The density starts from their means of harmonics. The
# picture has the density as lines, and counts of tokens as steps; the last time is one at which the degree still
# suffices.

n, beta = (400 if SHORT else 1500), 8.0
angle = 2 * np.pi * np.arange(n) / n
angle = angle + 0.05 * np.sin(4 * angle) + 0.02 * np.sin(3 * angle + 1)
tokens = np.stack([np.cos(angle), np.sin(angle)], -1)
field = MeanField(beta=beta, d=2, degree=80)
times = np.array([0.0, 0.5, 1.0])
crowd = ctsa.integrate(SelfAttention(beta=beta), tokens, times, solver="rk4", step=0.1)
density = ctsa.integrate(field, field.from_tokens(tokens), times, atol=1e-10)
off = [float((field.from_tokens(x) - c).abs().max()) for x, c in zip(crowd.xs, density.xs, strict=True)]
print(f"coefficients of tokens and of the density differ by {max(off):.0e}; tail {density.stats['tail']:.0e}")

around = np.linspace(-np.pi, np.pi, 361)
points = np.stack([np.cos(around), np.sin(around)], -1)
figure, ax = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
for i, (t, x, c) in enumerate(zip(times, crowd.xs, density.xs, strict=True)):
    ax.plot(around, field.density(c, points), color=f"C{i}", label=f"$t = {t:g}$")
    where = torch.atan2(x[:, 1], x[:, 0]).numpy()
    ax.hist(where, 60, range=(-np.pi, np.pi), density=True, histtype="step", color=f"C{i}", linewidth=0.6)
ax.set(xlabel=r"angle", ylabel="density per radian")
ax.legend(frameon=False)

# %%
# Noise
# -----
#
# Noise of strength :math:`\sigma` damps mode k by :math:`\sigma^2 k^2 / 2`, and above the critical strength the uniform
# density is stable. Below it there is a bump, which continuation follows up to where it vanishes. Tokens with noise
# fluctuate about it.

beta = 2.0
critical, mode = ctsa.theory.critical_noise(beta)
field = MeanField(beta=beta, d=2, degree=14, sigma=0.8 * critical)
start = field.coefficients(lambda x: 1 + x[:, 0])
bump = ctsa.integrate(field, start, [0.0, 60.0], atol=1e-8).xs[-1]
branch = ctsa.continue_equilibrium(field, bump, "sigma", (0.75 * critical, 1.2 * critical))
size = np.linalg.norm(branch.xs[:, 0, :2], axis=-1) / 2**0.5
print(f"critical noise {critical:.6f} (mode {mode}); the bump vanishes at {branch.parameters.max():.6f}")

figure, ax = plt.subplots(figsize=(4.4, 3.0), layout="constrained")
ax.plot(branch.parameters, size, label="density")
ax.axvline(critical, color="0.6", linewidth=0.8)
n = 200 if SHORT else 600
for sigma in np.array([0.8, 0.9, 1.1]) * critical:
    noisy = SelfAttention(beta=beta) + Noise(sigma)
    late = np.linspace(0.0, 20.0, 11)
    run = ctsa.integrate(noisy, np.tile([1.0, 0.0], (n, 1)), late, step=0.1, seed=0)
    order = run.xs[5:].mean(1).norm(dim=-1)  # the length of the mean token, which is what the first mode says
    ax.errorbar(sigma, order.mean(), order.std(), fmt="o", color="C1", capsize=3, label=None)
    print(f"sigma = {sigma:.3f}: {n} tokens have a mean of length {order.mean():.2f} +- {order.std():.2f}")
ax.set(xlabel=r"noise $\sigma$", ylabel="length of the mean token")

# %%
# Near the critical noise finitely many tokens fluctuate, and relax slowly; above it what is left is of the order
# :math:`n^{-1/2}`, enlarged by the attraction.
