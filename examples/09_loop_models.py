"""
Is my loop safe?
================

A loop model applies one block over and over. ``ctsa.diagnose`` says what it does on every input: settles, and how fast; to
and fro; marginal; chaotic; and how many loops are enough. Four small loops first, then layers of a trained transformer,
looped. The page "Is my loop safe?" has what each number means.
"""

# %%
# A block as others write it
# --------------------------
# Attention and a perceptron after a norm, with the input added in every loop. Nothing in it knows of this library.
import os

import numpy as np
import torch

import ctsa
from ctsa import pretrained
from ctsa.torch import Loop

short = bool(os.environ.get("CTSA_SHORT"))


class Block(torch.nn.Module):
    """A step of a loop model: ``(batch, n, d)``, and the inputs."""

    def __init__(self, d=16, gain=1.0, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.attention = torch.nn.MultiheadAttention(d, 2, batch_first=True, dtype=torch.float64)
        self.mix, self.norm = torch.nn.Linear(d, d).double(), torch.nn.LayerNorm(d).double()
        self.gain = gain

    def forward(self, state, inputs):
        """Return the next state."""
        x = self.norm(state + inputs)
        return self.gain * torch.tanh(self.mix(x) + self.attention(x, x, x)[0])


inputs = torch.as_tensor(np.random.default_rng(0).normal(size=(2 if short else 16, 6, 16)))
report = ctsa.diagnose(Loop(Block().eval(), inputs), torch.zeros_like(inputs), loops=64)
print(report)

# %%
# All inputs settle, at the rate of the leading multiplier; restarts end where the run itself ends, so that the answer
# depends on the input alone. One page shows it.
axes = report.plot()

# %%
# To and fro, without pull, chaotic
# ---------------------------------
# One step each that does not settle as it should. The verdict rests on the states, and where they leave it open, on the
# fixed point near the end and its multipliers.
x0 = torch.as_tensor(np.random.default_rng(0).normal(size=(8, 1, 6)))
steps = {
    "overshooting": lambda x: torch.tanh(-0.95 * x + 0.3),
    "half the step": lambda x: 0.5 * (x + torch.tanh(-0.95 * x + 0.3)),
    "no pull": lambda x: x - 0.3 * x**3 / (1 + x**2),
    "steep": lambda x: 3.0 * torch.sin(1.5 * x),
}
for name, step in steps.items():
    found = ctsa.diagnose(ctsa.Loop(step), x0, loops=128 if short else 256, restarts=1)
    mode = f", {found.modes[0]}" if found.modes[0] else ""
    needed = f", {found.loops_needed[0]:.3g} loops needed" if found.verdict == "settles" else ""
    print(f"{name:14s} {found.verdict}{mode}: exponent {found.exponents[:, 0].mean():+.3f}{needed}")

# %%
# Half the step cures the overshooting loop: a multiplier of -m becomes (1 - m) / 2.

# %%
# Keeping a loop from running away while it is trained
# ----------------------------------------------------
# A gain of three makes the block expand neighbours. The spectral norm of its Jacobian, per sample, as a regulariser:
block = Block(gain=3.0)
before = ctsa.diagnose(Loop(block.eval(), inputs), torch.zeros_like(inputs), loops=64, restarts=1)
optimiser, rng = torch.optim.Adam(block.parameters(), 0.01), np.random.default_rng(0)
for i in range(4 if short else 60):
    loop = Loop(block, inputs)
    x = ctsa.regularise.unroll(loop, torch.zeros_like(inputs), int(rng.integers(4, 16)), last=4)
    loss = ctsa.regularise.spectral_norm(loop, x.detach(), above=0.9, steps=2, seed=i).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
after = ctsa.diagnose(Loop(block.eval(), inputs), torch.zeros_like(inputs), loops=64, restarts=1)
for name, found in (("before", before), ("after", after)):
    print(f"{name:7s}{found.counts}, exponent {found.exponents[:, 0].mean():+.3f}, radius {found.radius.mean():.2f}")

# %%
# Layers of a trained transformer, looped
# ---------------------------------------
# All weights, biases and norms of a layer of all-MiniLM-L6-v2, applied to its own output. Layer 0 comes to rest; layer 3
# does not, and over some hundred loops its neighbours part exponentially.
try:
    model = pretrained.load()
except (pretrained.WeightsNotFound, ImportError) as error:
    print(f"Nothing more to show without the weights: {error}")
    raise SystemExit(0) from None

text = "The bank raised its interest rates again yesterday, and the price of houses in the city began to fall."
states = model.states(text)
for layer in (0, 3):
    looped = pretrained.loop(model, layer, ctsa.torch)
    spectrum = ctsa.lyapunov_spectrum(
        looped, states[layer], intervals=16 if short else 400, transient=4 if short else 200, count=1
    )
    top, error = spectrum.exponents[0], spectrum.stderr[0]
    print(f"layer {layer}: largest exponent {top:+.3f} +- {error:.3f}; {spectrum.verdict.headline}")
