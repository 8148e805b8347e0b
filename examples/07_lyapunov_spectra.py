"""
Lyapunov spectra with error bars
================================

When does self-attention with rotating tokens settle, when does it wander, and how sure can one be? Every token gets its
own rotation, as in recurrent layers of oscillators (arXiv 2410.13821); the spectrum of the flow decides.
"""

# %%
# Attention on the sphere with random value matrix and per-token rotations
# -------------------------------------------------------------------------
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

jax.config.update("jax_enable_x64", True)

import ctsa
from ctsa.jax import Rotation, SelfAttention

short = bool(os.environ.get("CTSA_SHORT"))
n, d = 6, 3
rng = np.random.default_rng(1)
omega = rng.normal(size=(n, d, d))
field = SelfAttention(value=rng.normal(size=(d, d)), beta=4.0) + 2.0 * Rotation(omega - omega.transpose(0, 2, 1))

spec = ctsa.lyapunov_spectrum(
    field, ctsa.random_tokens(n, d, seed=0), intervals=100 if short else 1000, transient=100, atol=1e-7
)
print(spec)
print("verdict:", *spec.verdict)
print(f"neutral exponents: {spec.neutral_found} found, {spec.neutral_expected} expected")
print(f"Kaplan-Yorke dimension {spec.kaplan_yorke:.3f} +- {spec.kaplan_yorke_stderr:.3f}")

# %%
# All n (d - 1) = 12 exponents, and how the leading ones converge. Bands are two standard errors.
fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained")
ctsa.plot.spectra.spectrum(spec, ax=axes[0])
ctsa.plot.spectra.convergence(spec, ax=axes[1], count=4)

# %%
# The sum of all exponents is the mean divergence
# ------------------------------------------------
# An identity that holds for every flow. One more interval, continued from where the run ended, against the divergence
# averaged along that piece of the trajectory by Simpson's rule.
settings = dict(transient=100, atol=1e-7)  # those of the run that goes on
more = ctsa.lyapunov_spectrum(field, ctsa.random_tokens(n, d, seed=0), intervals=1, resume=spec, **settings)
times = np.linspace(0.0, 1.0, 41)
piece = ctsa.integrate(field, spec.x, times, atol=1e-10)
along = np.array([ctsa.divergence(field, x) for x in piece.xs])
simpson = along[0] + 4 * along[1::2].sum() + 2 * along[2:-1:2].sum() + along[-1]
print(f"mean divergence         {times[1] / 3 * simpson:+.7f}")
print(f"sum of local exponents  {more.history[-1].sum():+.7f}")

# %%
# The discrete layer
# ------------------
# One Euler step of size h has exponents per layer; divided by h they tend to the flow's as h shrinks. At a consensus
# both are known: the flow contracts at -1, -2 and -3, the layer at log(1 - h lambda) / h.
consensus = np.ones((4, 1)) * [[1.0, 0.0, 0.0]]
stable = SelfAttention(value=np.diag([3.0, 2.0, 1.0]), beta=2.0)
for h in (0.2, 0.1, 0.05):
    layer = ctsa.lyapunov_spectrum(ctsa.EulerLayer(stable, h), consensus, intervals=20, transient=60)
    print(f"h = {h:4.2f}: exponents / h = {np.unique((layer.exponents / h).round(4))[::-1]}")

# %%
# Eigenvalues of the Jacobian at the same consensus: all in the stable half-plane.
ax = ctsa.plot.spectra.eigenvalues(ctsa.eigenvalues(stable, consensus))
plt.show()
