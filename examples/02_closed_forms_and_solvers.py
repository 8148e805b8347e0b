r"""
Closed forms, and what they say about the solvers
=================================================

Some flows of tokens are known exactly. Here they are the ruler: errors below are distances from a formula, not from
another run of the same code. At the end comes a conservation law, which needs no formula at all.

Needs ``ctsa[torch]``; with the fields of ``ctsa.jax`` everything reads the same. Runs in some ten seconds.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import Oja, SelfAttention

SHORT = os.environ.get("CTSA_SHORT") == "1"
torch.set_grad_enabled(False)  # nothing is trained here

# %%
# Oja's flow
# ----------
#
# A single token with value matrix :math:`V` follows :math:`\dot x = Vx - (x^\top V x)\,x`. For every square :math:`V`,
# symmetric or not, the solution is :math:`x(t) = e^{tV}x_0 / |e^{tV}x_0|`.
#
# Fifty tokens that do not see each other are a batch of states with one token each. The matrix has a rotating part,
# so that tokens spiral.

value = np.array([[1.0, 2.0, 0.0], [-2.0, 0.5, 0.3], [0.2, 0.0, -1.0]])
start = ctsa.random_tokens(1, 3, seed=0, batch=(50,))
ts = np.linspace(0.0, 4.0, 5)
field = Oja(value)
exact = ctsa.theory.oja_flow(value, start, ts)
for atol in (1e-4, 1e-6, 1e-8, 1e-10):
    flow = ctsa.integrate(field, start, ts, atol=atol)
    error = np.abs(flow.xs.numpy() - exact).max()
    print(f"atol {atol:.0e}: {flow.stats['steps']:4d} steps, largest error {error:.1e}")

# %%
# The error follows the tolerance, but it is not bounded by it: ``atol`` limits the mean square error of a step over the
# whole batch, and errors of steps add up or decay with the flow.
#
# Equiangular tokens
# ------------------
#
# If all pairs of tokens have the same inner product :math:`g`, they keep having one (Q = K = V = I), and
#
# .. math:: \dot g = \frac{2 e^{\beta g}(1 - g)((n-1)g + 1)}{e^\beta + (n-1)e^{\beta g}} .
#
# From orthogonal tokens, :math:`g(0) = 0`, the time to reach :math:`g` has a closed form with exponential integrals,
# ``ctsa.theory.equiangular_time``. Lines are the formula, dots the flow of eight tokens in eight dimensions.

n = 8
g = np.linspace(0.0, 0.995, 200)
late = np.linspace(0.0, 6.0, 13)
figure, ax = plt.subplots(figsize=(4.4, 3.0), layout="constrained")
cases = [("softmax", 0.5), ("softmax", 2.0), ("unnormalised", 0.5), ("unnormalised", 2.0)]
for i, (weights, beta) in enumerate(cases):
    ax.plot(ctsa.theory.equiangular_time(g, beta, n, weights), g, color=f"C{i}", linewidth=1)
    flow = ctsa.integrate(SelfAttention(beta=beta, weights=weights), np.eye(n), late, atol=1e-10)
    reached = ctsa.gram(flow.xs)[:, 0, 1].numpy()
    ax.plot(late, reached, ".", color=f"C{i}", label=rf"{weights}, $\beta = {beta:g}$")
    inside = reached < 0.999  # later, a digit of g is worth a lot of time
    off = np.abs(ctsa.theory.equiangular_time(np.maximum(reached[inside], 0), beta, n, weights) - late[inside])
    print(f"{weights}, beta = {beta:g}: the formula's times differ from the clock by at most {off.max():.1e}")
ax.set(xlabel="time $t$", ylabel=r"inner product $g$", xlim=(0, 6))
ax.legend(frameon=False, fontsize=8)

# %%
# Measured orders
# ---------------
#
# Oja's flow again, now with fixed steps. On logarithmic axes the error of a method of order p is a line of slope p; the
# order printed is the slope between the two smallest steps that are clear of rounding.

end = ts[-1]
counts = np.array([16, 32, 64, 128] if SHORT else [16, 32, 64, 128, 256, 512])
figure, ax = plt.subplots(figsize=(4.4, 3.2), layout="constrained")
for solver in ("euler", "midpoint", "rk4"):
    errors = []
    for count in counts:
        flow = ctsa.integrate(field, start, [0.0, end], solver=solver, step=end / count)
        errors.append(np.abs(flow.xs[-1].numpy() - exact[-1]).max())
    errors = np.array(errors)
    last = np.flatnonzero(errors > 1e-13)[-1]
    order = np.log2(errors[last - 1] / errors[last])
    print(f"{solver:9s} order {order:.2f}")
    ax.loglog(end / counts, errors, "o-", markersize=3, label=f"{solver}: {order:.2f}")
ax.set(xlabel="step", ylabel="largest error at the end")
ax.legend(frameon=False, fontsize=8, title="measured order")

# %%
# Adaptive methods choose their steps, so the fair abscissa is the work: evaluations of the field. A method of order p
# needs :math:`10^{1/p}` times the work for one more digit.

loose = [1e-4, 1e-5, 1e-6]
tight = [1e-7] if SHORT else [1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12]
tolerances = {"heun": loose, "bosh3": loose + tight[:2], "dopri5": loose + tight, "dopri8": loose + tight}
figure, ax = plt.subplots(figsize=(4.4, 3.2), layout="constrained")
for solver in tolerances:
    work, errors = [], []
    for atol in tolerances[solver]:
        flow = ctsa.integrate(field, start, [0.0, end], solver=solver, atol=atol)
        work.append(flow.stats["evaluations"])
        errors.append(np.abs(flow.xs[-1].numpy() - exact[-1]).max())
    ax.loglog(work, errors, "o-", markersize=3, label=solver)
    slope = -np.polyfit(np.log(work), np.log(errors), 1)[0]
    print(f"{solver:7s} error falls like work^-{slope:.1f}")
ax.set(xlabel="evaluations", ylabel="largest error at the end")
ax.legend(frameon=False, fontsize=8)

# %%
# The exponents are fits over the whole range and include loose tolerances, where no method has reached its order; that
# of ``dopri8`` rests on few steps. What can be read off is which method is cheapest for which accuracy.
#
# A conservation law
# ------------------
#
# At :math:`\beta = 0` with :math:`V = I` tokens move by their mean, and all cross-ratios
#
# .. math:: c = \frac{(1 - \langle x_1, x_2\rangle)(1 - \langle x_3, x_4\rangle)}
#               {(1 - \langle x_1, x_3\rangle)(1 - \langle x_2, x_4\rangle)}
#
# stay constant while the tokens themselves run together. Differences are taken before squares,
# :math:`1 - \langle x, y\rangle = |x - y|^2 / 2`, or the last digits would be lost near the end.


def cross_ratio(x):
    def gap(i, j):
        return ((x[:, i] - x[:, j]) ** 2).sum(-1)

    return (gap(0, 1) * gap(2, 3) / (gap(0, 2) * gap(1, 3))).numpy()


tokens = ctsa.random_tokens(6, 4, seed=3)
later = np.linspace(0.0, 8.0, 9)
figure, ax = plt.subplots(figsize=(4.4, 2.8), layout="constrained")
for atol in (1e-6, 1e-9, 1e-12):
    flow = ctsa.integrate(SelfAttention(beta=0.0), tokens, later, atol=atol)
    ratio = cross_ratio(flow.xs)
    drift = np.abs(ratio / ratio[0] - 1)
    ax.semilogy(later[1:], np.maximum(drift[1:], 1e-17), "o-", markersize=3, label=f"atol = {atol:.0e}")
    width = float(((flow.xs[-1] - flow.xs[-1].mean(0)) ** 2).sum(-1).max() ** 0.5)
    print(f"atol {atol:.0e}: cross-ratio changes by {drift.max():.1e} while tokens come within {width:.1e}")
ax.set(xlabel="time $t$", ylabel="relative change of the cross-ratio")
ax.legend(frameon=False, fontsize=8)

# %%
# Runge--Kutta methods do not know this law, so they break it, here by less than the tolerance. At the tightest one the
# change grows in time: the tokens have come close, the rounding of their coordinates has not become smaller, and so
# their distances have fewer and fewer correct digits. No tolerance mends that.
