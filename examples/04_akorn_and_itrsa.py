r"""
AKOrN and ItrSA, and the flows behind them
==========================================

Two recurrent attention layers of the literature are steps of a flow. AKOrN (arXiv 2410.13821) is an Euler step of
rotating, attending oscillators. ItrSA (arXiv 2505.19458) is a post-norm step whose size is set by the gain of its
RMSNorm. Whether layer and flow end alike is a question of its own, and the step size alone does not answer it.
"""

# %%
# Oscillators
# -----------
# Each token carries four oscillators, unit vectors in the plane. Attention couples them, every oscillator turns at a
# frequency of its own, and a constant stimulus holds some of them.
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

jax.config.update("jax_enable_x64", True)

import ctsa
from ctsa.jax import AKOrN, Injection, ItrSA, Rotation, SelfAttention

short = bool(os.environ.get("CTSA_SHORT"))
n, d = 8, 8
pairs = ctsa.Sphere(channels=2)
rng = np.random.default_rng(0)

weights = rng.normal(size=(4, d, d)) / np.sqrt(d)
read = ctsa.read_projections(*weights, heads=2, layout="interleaved")  # as the authors' code shares the channels
coupling = SelfAttention(**read.attention, geometry=pairs) + Injection(0.5 * rng.normal(size=(n, d)), geometry=pairs)
rotation = Rotation(frequencies=rng.normal(size=d // 2), geometry=pairs)
x0 = ctsa.random_tokens(n, d, seed=1, channels=2)

layer = AKOrN(coupling, rotation, step=1.0)
difference = np.abs(layer(x0) - ctsa.EulerLayer(layer.field, step=1.0)(x0)).max()
print(f"AKOrN is the Euler step of coupling + rotation: they differ by {difference:.0e}")

# %%
# The step of a trained model, and shorter ones
# ---------------------------------------------
# Phase of one oscillator along the flow and along layers of three step sizes, at equal times.
end = 12.0 if short else 24.0
ts = np.linspace(0.0, end, 241)
flow = ctsa.integrate(layer.field, x0, ts, atol=1e-9)


def phase(xs, token=0, oscillator=1):
    a, b = np.asarray(xs)[:, token, 2 * oscillator : 2 * oscillator + 2].T
    return np.unwrap(np.arctan2(b, a))


fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.7), layout="constrained")
axes[0].plot(ts, phase(flow.xs), color="black", label="flow")
for step in (1.0, 0.5, 0.1):
    path = ctsa.iterate(AKOrN(coupling, rotation, step=step), x0, depth=round(end / step))
    axes[0].plot(step * np.asarray(path.ts), phase(path.xs), label=f"step {step:g}")
axes[0].set(xlabel="time", ylabel="phase of an oscillator")
axes[0].legend(frameon=False)

# %%
# The energy that the authors log, and the spectrum
# -------------------------------------------------
# With rotation the energy need not fall; the largest exponents of layer and flow tell whether the state settles. An
# exponent of a layer is per layer; divided by the step it is per unit of time.
path = ctsa.iterate(layer, x0, depth=round(end))
axes[1].plot(np.asarray(path.ts), np.asarray(jax.vmap(layer.energy)(path.xs)), marker=".", color="C0")
axes[1].set(xlabel="layer", ylabel="energy")

count = 40 if short else 150
of_flow = ctsa.lyapunov_spectrum(layer.field, x0, intervals=count, transient=50, atol=1e-7, count=3)
of_layer = ctsa.lyapunov_spectrum(layer, x0, intervals=count, transient=50, interval=1, count=3)
print("exponents of the flow: ", of_flow.exponents.round(3), "+-", of_flow.stderr.round(3))
print("exponents of the layer:", of_layer.exponents.round(3), "+-", of_layer.stderr.round(3))

# %%
# ItrSA: the gain sets the step
# -----------------------------
# In the coordinates u = X / gamma the layer is a post-norm step of size h = eta / gamma of a flow that depends on the gain
# as well: queries and keys see tokens of length gamma, so attention sharpens with it, and the injected input weighs the
# more the smaller it is. Trained gains lie between .03 and .84.
attention = SelfAttention(query=weights[0], key=weights[1], value=weights[2], beta=2.0) + Injection(
    0.2 * rng.normal(size=(n, d))
)
u0 = ctsa.random_tokens(n, d, seed=2)
gains = [4.0, 1.0, 0.25, 0.03]
depth = 60 if short else 200

fig, axes = plt.subplots(1, len(gains), figsize=(8.4, 2.4), layout="constrained", sharey=True)
for ax, gamma in zip(axes, gains, strict=True):
    itrsa = ItrSA(attention, step=1.0, gamma=gamma)
    path = ctsa.iterate(itrsa, u0, depth=depth)
    h = float(itrsa.flow_step)
    flow = ctsa.integrate(itrsa.field, u0, h * np.arange(depth + 1.0), atol=1e-7)
    ax.plot(np.asarray(path.ts), ctsa.order_parameter(np.asarray(path.xs)), color="C0", label="layer")
    ax.plot(np.asarray(path.ts), ctsa.order_parameter(np.asarray(flow.xs)), color="black", lw=0.8, label="flow")
    ax.set(title=f"gamma = {gamma:g}\nh = {h:.3g}", xlabel="layer", ylim=(0, 1.02))
    change = float(np.abs(path.xs[-1] - path.xs[-2]).max())
    apart = float(ctsa.Sphere().distance(path.xs[-1], flow.xs[-1]).max())
    jumps = int((np.asarray(itrsa.euler_step(path.xs[1])) < 0).sum())
    print(f"gamma {gamma:5g}  h {h:6.3g}  last move {change:.0e}  ends {np.degrees(apart):5.1f} degrees from the flow"
          f", tokens past the equator in layer 2: {jumps}")  # fmt: skip
axes[0].set_ylabel("order parameter")
axes[0].legend(frameon=False)

# %%
# A gain of 4 makes the shortest step and the largest difference: the layer ends in one moving cluster, where the flow rests
# with several. At a gain of 1 both keep rotating, the layer behind the flow. At small gains, the trained ones, the input
# decides: layer and flow rest at the same state, although the step is of size 4 or 33.

# %%
# A gain a channel has no flow
# ----------------------------
# As the step vanishes such a layer tends to u -> N(gamma * u), which is not the identity. The layer says so, and its
# discrete analyses go on: here the largest moduli of the eigenvalues of its Jacobian at the state it settles in.
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    vector = ItrSA(attention, step=1.0, gamma=rng.uniform(0.1, 0.8, size=d))
print(str(caught[0].message)[:60], "...")
end_state = ctsa.iterate(vector, u0, depth=depth).xs[-1]
values = ctsa.eigenvalues(vector, end_state)
print("largest moduli of the Jacobian's eigenvalues:", np.sort(np.abs(values))[::-1][:3].round(3))
plt.show()
