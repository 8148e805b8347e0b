r"""
A geometry of one's own: attention on an ellipsoid
==================================================

LayerNorm ends with a gain :math:`g`: what the next layer reads is :math:`x = g \odot u` with :math:`u` on a sphere. So
tokens live on the ellipsoid

.. math:: x^\top M x = 1, \qquad M = \operatorname{diag}(g)^{-2},

which is no geometry that comes with ctsa. This page writes it down in a few lines, and then integrates, finds
equilibria and takes spectra as on the sphere. Since :math:`x = g \odot u` only changes coordinates, everything can be
checked against the flow on the sphere: trajectories are images of each other, eigenvalues and exponents are equal.

Needs ``ctsa[torch]``. Runs in a few seconds.
"""

import os
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import SelfAttention

SHORT = os.environ.get("CTSA_SHORT") == "1"
torch.set_grad_enabled(False)  # nothing is trained here

# %%
# The manifold
# ------------
#
# A geometry derives from ``ctsa.Geometry`` and answers a few questions: where a state is (``radius``, 1 on the
# manifold), which part of a vector is tangent (``project``), and its dimension. Every ray from the origin meets an
# ellipsoid once, and the projection :math:`v - (x^\top M v)\, x` removes a multiple of :math:`x`: that is
# ``radial = True``, and ``retract`` is then :math:`y / \sqrt{y^\top M y}`. All the rest is derived from these: bases of
# tangent spaces, derivatives, what solvers see off the manifold. Formulas use what NumPy, PyTorch and JAX share.


@dataclass(frozen=True)
class Ellipsoid(ctsa.Geometry):
    """Tokens with sum_k (x_k / gain_k)^2 = 1."""

    gain: tuple[float, ...]
    closed = radial = True

    def radius(self, y):
        return ((y / self.like(self.gain, y)) ** 2).sum(-1)[..., None] ** 0.5

    def project(self, x, v):
        return v - (x * v / self.like(self.gain, x) ** 2).sum(-1)[..., None] * x

    def dimension(self, n, d):
        return n * (d - 1)


home = Ellipsoid((2.0, 1.0, 0.5))
g = np.array(home.gain)

# %%
# Attention there, and its twin on the sphere
# -------------------------------------------
#
# Attention with query, key and value :math:`Q, K, V` on the sphere is, in the new coordinates, that of
# :math:`Q L^{-1}, K L^{-1}, L V L^{-1}` with :math:`L = \operatorname{diag}(g)`.

value = np.array([[2.0, 0.6, 0.0], [-0.6, 1.5, 0.3], [0.1, 0.0, 1.0]])
sphere = SelfAttention(value=value, beta=3.0)
field = SelfAttention(np.diag(1 / g), np.diag(1 / g), value * g[:, None] / g, beta=3.0, geometry=home)

u0, ts = ctsa.random_tokens(16, 3, seed=1), np.linspace(0.0, 6.0, 61)
twin = ctsa.integrate(sphere, u0, ts, atol=1e-10)
flow = ctsa.integrate(field, g * u0, ts, atol=1e-10)
print(f"largest distance from the image of the sphere's: {np.abs(flow.xs.numpy() - g * twin.xs.numpy()).max():.1e}")
print(f"largest distance from the ellipsoid: {np.abs(home.radius(flow.xs.numpy()) - 1).max():.1e}")

# %%
# Tokens start at the hollow marks.

a, b = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 2 * np.pi, 49))
skin = g[:, None, None] * np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)])
ax = plt.figure(figsize=(5.4, 3.6), layout="constrained").add_subplot(projection="3d")
ax.plot_wireframe(*skin, color="0.85", linewidth=0.4)
for path in np.moveaxis(flow.xs.numpy(), 1, 0):
    (line,) = ax.plot(*path.T, linewidth=1)
    ax.scatter(*path[0], facecolor="white", edgecolor=line.get_color(), s=18)
    ax.scatter(*path[-1], color=line.get_color(), s=18)
ax.set_aspect("equal")
ax.view_init(25, -60)

# %%
# Outputs are on the manifold whatever the step. The order of a method is that of flat space, since solvers see a field
# that has the manifold for an invariant set:

steps, errors = np.array([0.1, 0.05, 0.025]), []
for h in steps:
    end = ctsa.integrate(field, g * u0, [0.0, 1.0], "rk4", step=h).xs[-1]
    errors.append(np.abs(end.numpy() - flow.xs[10].numpy()).max())
print(f"order of rk4: {np.polyfit(np.log(steps), np.log(errors), 1)[0]:.1f}")

# %%
# Equilibria and their stability
# ------------------------------
#
# Searches start from points that the geometry draws. Consensus rests on eigenvectors of :math:`L V L^{-1}`, since what
# is projected away is radial.

value = np.diag([3.0, 2.0, 1.0])
still = [
    SelfAttention(value=value, beta=2.0),
    SelfAttention(np.diag(1 / g), np.diag(1 / g), value, beta=2.0, geometry=home),
]
for each in still:
    found = ctsa.find_equilibria(each, 2, 3, starts=20 if SHORT else 60)
    kinds = [e.kind for e in found]
    print(f"{each.geometry.place}: " + ", ".join(f"{kinds.count(k)} {k}" for k in sorted(set(kinds))))

# %%
# A Jacobian in tangent coordinates has :math:`n (d - 1)` eigenvalues on both:

pole = np.tile([0.0, 1.0, 0.0], (2, 1))
for each, x in zip(still, (pole, g * pole), strict=True):
    print(f"{each.geometry.place}:", np.sort(ctsa.eigenvalues(each, x).real).round(9).tolist())

# %%
# Lyapunov exponents
# ------------------
#
# Exponents do not depend on coordinates either. From a common equilibrium on they are equal already after a short run;
# elsewhere they differ by the time that the changed lengths take to be forgotten, like one over the length of the run.

spectra = [
    ctsa.lyapunov_spectrum(each, x, intervals=5, interval=0.5, transient=10, solver="rk4", step=0.125)
    for each, x in zip(still, (pole, g * pole), strict=True)
]
print(f"largest difference: {np.abs(spectra[0].exponents - spectra[1].exponents).max():.1e}")

# %%
# Layers live there, too: the post-norm layer returns to the ellipsoid, and is still an Euler step of the flow.

layer = ctsa.PostNormLayer(field, step=0.3)
print(ctsa.as_euler(layer))

# %%
# What a geometry cannot answer, an analysis that asks for it says: try ``ctsa.jacobian_norms(layer, g * u0)``, whose
# bounds are for unit vectors. A manifold that not every ray meets once, such as a cylinder, has ``retract`` instead of
# ``radius``; the docstring of ``ctsa.Geometry`` has it.
