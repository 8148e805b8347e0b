"""What a diagnosis costs, beside the exponents that users compute by hand; regularisers beside a hand-written one.

``python tests/benchmarks/bench_diagnose.py [--sizes 32x32x128x64x4,256x14x32x16x8] [--threads 1]``: inputs, tokens,
dimension, loops, exponents. A block of a looped language model with half of its input injected, float32, PyTorch. Each row
is one JSON line with wall seconds; ``ratio`` is against the first of its group in the same run.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import ctsa
import ctsa.torch


class Block(nn.Module):
    """A sandwich block, with half of its input injected."""

    def __init__(self, d, heads):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(4))
        self.inside, self.out, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x, e):
        x = x + 0.5 * e
        b, n, d = x.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.inside(self.norms[0](x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = self.norms[1](x + self.out(y))
        return self.norms[3](x + self.mlp(self.norms[2](x)))


def by_hand(block, x, e, loops, k):
    """Exponents as a study of loop models computes them: JVPs and QR after every loop, attention by its formula."""
    b = x.shape[0]
    u = torch.linalg.qr(torch.randn(b, x[0].numel(), k))[0]
    total = 0.0
    with torch.no_grad(), nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        for _ in range(loops):
            directions = u.movedim(-1, 0).reshape(k, *x.shape)
            moved = [torch.func.jvp(lambda z: block(z, e), (x,), (v,)) for v in directions]
            x, u = moved[0][0], torch.stack([du.reshape(b, -1) for _, du in moved], -1)
            u, r = torch.linalg.qr(u)
            total = total + r.diagonal(dim1=-2, dim2=-1).abs().log()
    return total / loops


def one_iteration(block, x, e):
    """The regulariser of a public code base: a VJP at the end state, twice differentiated."""
    x = x.detach().requires_grad_()
    v = torch.randn_like(x)
    v = v / v.flatten(1).norm(dim=1)[:, None, None]
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):  # the fused kernel has no second derivative
        (w,) = torch.autograd.grad(block(x, e), x, v, create_graph=True)
    return w.flatten(1).pow(2).sum(1).mean()


def timed(f, repeats):
    f()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        f()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def trained(block, f):
    """Return a step of training on a value, but for the optimiser's."""

    def step():
        block.zero_grad()
        f().backward()

    return step


def ways(b, n, d, loops, k):
    """Return what is timed for one size: analyses, and regularisers, the first of each the yardstick."""
    torch.manual_seed(0)
    block, e, x = Block(d, 4).eval(), torch.randn(b, n, d), torch.randn(b, n, d)
    loop, reg = ctsa.torch.Loop(block, e), ctsa.regularise
    yield {
        "JVP and QR by hand": lambda: by_hand(block, x, e, loops, k),
        "lyapunov_spectrum": lambda: ctsa.lyapunov_spectrum(loop, x, intervals=loops, transient=0, count=k),
        "diagnose, exponents only": lambda: ctsa.diagnose(
            loop, x, loops, exponents=k, restarts=0, multipliers=0, tokens=False
        ),
        "diagnose": lambda: ctsa.diagnose(loop, x, loops, exponents=k),
    }
    yield {
        "one forward, trained": trained(block, lambda: block(x, e).square().mean()),
        "VJP by hand, trained": trained(block, lambda: one_iteration(block, x, e)),
        "rms_gain": trained(block, lambda: reg.rms_gain(loop, x, seed=0).mean()),
        "spectral_norm, 2 steps": trained(block, lambda: reg.spectral_norm(loop, x, steps=2).mean()),
        "spectral_radius, 10 steps": trained(block, lambda: reg.spectral_radius(loop, x).mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="32x32x128x64x4,256x14x32x16x8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for size in args.sizes.split(","):
        for group in ways(*map(int, size.split("x"))):
            seconds = {name: timed(f, args.repeats) for name, f in group.items()}
            first = next(iter(seconds.values()))
            for name, s in seconds.items():
                row = {"size": size, "what": name, "seconds": round(s, 4), "ratio": round(s / first, 2)}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
