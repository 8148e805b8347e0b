"""``ctsa.torch.compiling``: CPU seconds of PyTorch with and without, and of the first call, in which it compiles.

``python tests/benchmarks/bench_compiling.py [--repeats 5] [--only lorenz]``, one thread.
"""

import argparse
import contextlib
import time

import numpy as np
import torch
from problems import Problem, interleaved, report

import ctsa
import ctsa.torch as face

EUCLIDEAN = ctsa.Euclidean()


class Own(torch.nn.Module):
    """Attention as a user writes it, without a closed form of its derivative."""

    def __init__(self, d):
        super().__init__()
        rng = np.random.default_rng(1)
        self.a, self.v = (torch.nn.Parameter(torch.as_tensor(rng.normal(size=(d, d)) / d**0.5)) for _ in "av")

    def forward(self, t, x):
        w = torch.softmax(4 * (x @ self.a) @ x.mT, -1) @ (x @ self.v.mT)
        return w - (w * x).sum(-1, keepdim=True) * x


class Block(torch.nn.Module):
    """A looped block: fused attention, a perceptron, and norms after both."""

    def __init__(self, d, heads=4):
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.qkv, self.out = heads, torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.first, self.second = torch.nn.RMSNorm(d), torch.nn.RMSNorm(d)
        self.perceptron = torch.nn.Sequential(torch.nn.Linear(d, 4 * d), torch.nn.GELU(), torch.nn.Linear(4 * d, d))
        self.double()

    def forward(self, x):
        q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for a in self.qkv(x).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = self.first(x + self.out(y.transpose(-2, -3).flatten(-2)))
        return self.second(x + self.perceptron(x))


def lorenz(t, s):
    x, y, z = s.unbind(-1)
    return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)


def henon(s):
    return torch.stack([1 - 1.4 * s[..., 0] ** 2 + s[..., 1], 0.3 * s[..., 0]], -1)


def spectrum(system, x, **options):
    options = dict(atol=1e-6, progress=False) | options
    return lambda: ctsa.lyapunov_spectrum(system, x, **options)


def flow(system, x):
    def run():
        with torch.no_grad():
            return ctsa.integrate(system, x, np.linspace(0.0, 20.0, 101), progress=False)

    return run


def works():
    """Return name: what is timed."""

    def tokens(n, d):
        return torch.as_tensor(ctsa.random_tokens(n, d, seed=1))

    def ours(n, d):
        return Problem(n, d).field(face)

    start = torch.tensor([[0.1, 0.1]], dtype=torch.float64)
    ones, flat = torch.ones(1, 3, dtype=torch.float64), dict(transient=0, geometry=EUCLIDEAN)
    sentence = torch.randn(14, 32, dtype=torch.float64, generator=torch.manual_seed(1))
    return {
        "lorenz, 50 units": spectrum(lorenz, ones, intervals=50, **flat),
        "henon, 10^4 steps": spectrum(henon, start, intervals=1000, interval=10, **flat),
        "block 14 x 32, 100 loops, 8": spectrum(Block(32), sentence, intervals=100, count=8, **flat),
        "own attention 8 x 3, 20 units": spectrum(Own(3), tokens(8, 3), intervals=20, transient=0),
        "own attention 32 x 3, 20 units": spectrum(Own(3), tokens(32, 3), intervals=20, transient=0),
        "own attention 64 x 32, 64, 4 units": spectrum(Own(32), tokens(64, 32), intervals=4, transient=0, count=64),
        "ctsa 64 x 32, 64, 4 units": spectrum(ours(64, 32), tokens(64, 32), intervals=4, transient=0, count=64),
        "ctsa 128 x 3, 4 units": spectrum(ours(128, 3), tokens(128, 3), intervals=4, transient=0),
        "flow, ctsa 8 x 3, to 20": flow(ours(8, 3), tokens(8, 3)),
        "flow, ctsa 256 x 3, to 20": flow(ours(256, 3), tokens(256, 3)),
        "flow, own attention 8 x 3, to 20": flow(Own(3), tokens(8, 3)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a name")
    args = parser.parse_args()
    torch.set_num_threads(1)

    def within(run, wanted):
        with face.compiling() if wanted else contextlib.nullcontext():
            return run()

    for name, run in works().items():
        if args.only not in name:
            continue
        run()
        began, cpu = time.perf_counter(), time.process_time()
        within(run, True)
        first = dict(first=time.process_time() - cpu, first_wall=time.perf_counter() - began)
        pair = {"plain": lambda run=run: within(run, False), "compiled": lambda run=run: within(run, True)}
        times = interleaved(pair, args.repeats)
        report(work=name, **times, ratio=times["plain"] / times["compiled"], **first)


if __name__ == "__main__":
    main()
