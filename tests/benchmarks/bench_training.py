"""What a training step of a recurrent model costs, beside the loop that a user writes by hand.

``python tests/benchmarks/bench_training.py [torch|jax] [--device cpu]``: 4x4 Sudoku, d = 64, 4 heads, 16 tokens, batch 64,
16 layers, float32, one thread; forward and backward. CPU milliseconds, medians of rounds that take turns.
"""

import argparse
import math
import statistics
import time

import numpy as np

import ctsa

D, HEADS, BATCH, DEPTH = 64, 4, 64, 16
M = D // HEADS


def timed(functions, rounds, wait):
    """Return the median CPU time of each function, in turns; the first round compiles."""
    times = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, call in functions.items():
            start = time.process_time() if wait is None else time.perf_counter()
            call()
            if wait is not None:
                wait()
            now = time.process_time() if wait is None else time.perf_counter()
            if i:
                times[name].append(1e3 * (now - start))
    return {name: statistics.median(found) for name, found in times.items()}


def in_torch(data, device):
    """By hand: one projection for queries, keys and values, the fused kernel, RMSNorm."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    import ctsa.torch

    torch.set_num_threads(1)
    inputs, masks = torch.tensor(data.inputs[:BATCH], device=device), torch.tensor(data.masks, device=device)
    mask = torch.cat([masks, torch.ones_like(masks[:1])])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Embedding(5, D), nn.Parameter(torch.randn(16, D))
            self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
            self.eta, self.gamma = nn.Parameter(torch.tensor(1.0)), nn.Parameter(math.sqrt(D) * torch.ones(D))
            self.head = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, 4))

        def forward(self, tokens):
            c = self.embed(tokens) + self.position
            x = torch.where((tokens > 0)[..., None], c, torch.randn_like(c))
            x = self.gamma * F.normalize(x, dim=-1)
            for _ in range(DEPTH):
                q, k, v = self.qkv(x).view(BATCH, 16, 3, HEADS, M).permute(2, 0, 3, 1, 4)
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
                y = c + self.out(y.transpose(1, 2).reshape(BATCH, 16, D))
                x = self.gamma * F.normalize(x + self.eta * y, dim=-1)
            return self.head(x)

    hand, ours = Model().to(device), ctsa.torch.RecurrentModel.for_task(data, d=D, heads=HEADS).to(device)
    calls = {
        "by hand": lambda: hand(inputs).square().mean().backward(),
        "ctsa": lambda: ours(inputs, DEPTH).square().mean().backward(),
    }
    return timed(calls, 15, torch.cuda.synchronize if device != "cpu" else None)


def in_jax(data, device):
    """By hand: ``lax.scan`` under ``jit``, one einsum for each projection."""
    import jax
    import jax.numpy as jnp

    import ctsa.jax

    inputs = jnp.asarray(data.inputs[:BATCH])
    mask = jnp.concatenate([jnp.asarray(data.masks), jnp.ones((1, 16, 16), bool)])
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return jnp.asarray(rng.normal(size=shape) / math.sqrt(D), jnp.float32)

    weights = dict(
        embed=drawn(5, D), position=drawn(16, D), qkv=drawn(D, 3 * D), out=drawn(D, D), b=drawn(3 * D), c=drawn(D),
        eta=jnp.float32(1.0), gamma=jnp.full(D, math.sqrt(D), jnp.float32), h=drawn(D, 2 * D), g=drawn(2 * D, 4),
    )  # fmt: skip

    def unit(x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def loss(w, tokens, noise):
        c = w["embed"][tokens] + w["position"]
        x = w["gamma"] * unit(jnp.where((tokens > 0)[..., None], c, noise))

        def layer(x, _):
            q, k, v = jnp.moveaxis((x @ w["qkv"] + w["b"]).reshape(BATCH, 16, 3, HEADS, M), 2, 0)
            s = jnp.where(mask, jnp.einsum("bihm,bjhm->bhij", q, k) / math.sqrt(M), -jnp.inf)
            y = jnp.einsum("bhij,bjhm->bihm", jax.nn.softmax(s, -1), v).reshape(BATCH, 16, D)
            return w["gamma"] * unit(x + w["eta"] * (c + y @ w["out"] + w["c"])), None

        x, _ = jax.lax.scan(layer, x, None, length=DEPTH)
        return ((jax.nn.relu(x @ w["h"]) @ w["g"]) ** 2).mean()

    import equinox as eqx

    model = ctsa.jax.RecurrentModel.for_task(data, d=D, heads=HEADS)
    noise = jnp.asarray(rng.normal(size=(BATCH, 16, D)), jnp.float32)
    hand = jax.jit(jax.grad(loss))
    ours = eqx.filter_jit(eqx.filter_grad(lambda m, t, z: (m(t, DEPTH, z) ** 2).mean()))
    calls = {
        "by hand": lambda: jax.block_until_ready(hand(weights, inputs, noise)),
        "ctsa": lambda: jax.block_until_ready(eqx.filter(ours(model, inputs, noise), eqx.is_array)),
    }
    return timed(calls, 15, None if device == "cpu" else lambda: None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("backend", choices=["torch", "jax"])
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    task = ctsa.datasets.task("sudoku-4x4", count=200).train
    found = (in_torch if given.backend == "torch" else in_jax)(task, given.device)
    for name, ms in found.items():
        print(f"{given.backend:6} {name:8} {ms:7.1f} ms  ratio {ms / found['by hand']:.2f}")
