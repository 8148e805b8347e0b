"""Attention by harmonics against attention in blocks of rows: CPU seconds of one thread, and runs of a million tokens.

``python tests/benchmarks/bench_harmonic.py [--runs]``

- one evaluation of attention for several n, d and beta; blocks of rows take n^2, and are measured up to ``MOST`` tokens
  (beyond, their time is that of ``MOST`` times the square of the ratio, marked "about");
- ``--runs``: flows of a million tokens, each in a process of its own (wall clock and peak memory of the process).
"""

import argparse
import os
import resource
import subprocess
import sys
import time

if "--runs" not in sys.argv and "--one" not in sys.argv:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        os.environ.setdefault(_name, "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
from bench_chunked import median

import ctsa

MOST = 16384
SIZES = (4096, 16384, 65536, 262144)
RUNS = {"sphere": (10**6, 3, 4.0, 5.0, 1e-6), "circle": (10**6, 2, 16.0, 20.0, 1e-6)}


def evaluation(name, how, x, beta):
    """Return a function that evaluates attention once."""
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        from ctsa.jax import SelfAttention

        field, z = SelfAttention(beta=beta, how=how), jax.numpy.asarray(x)
        value = jax.jit(lambda field, z: field.drift(0.0, z))
        return lambda: jax.block_until_ready(value(field, z))
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    from ctsa.torch import SelfAttention

    field, z = SelfAttention(beta=beta, how=how), torch.as_tensor(x)
    return lambda: field.drift(0.0, z)


def evaluations(name):
    for d in (2, 3):
        for beta in (1.0, 4.0, 16.0):
            for n in SIZES:
                x = ctsa.random_tokens(n, d, seed=0)
                found = median(evaluation(name, "harmonic", x, beta), 3)
                few = min(n, MOST)
                blocks = median(evaluation(name, "chunked", x[:few], beta), 3 if few < MOST else 1) * (n / few) ** 2
                about = "about " if few < n else ""
                print(
                    f"{name}, d = {d}, beta = {beta:g}, n = {n}: {1e6 * found / n:.2f} us a token, "
                    f"{about}{blocks / found:.0f} times",
                    flush=True,
                )


def run(which):
    n, d, beta, end, atol = RUNS[which]
    import jax

    jax.config.update("jax_enable_x64", True)
    from ctsa.jax import SelfAttention

    x, begin, cpu = ctsa.random_tokens(n, d, seed=0), time.perf_counter(), time.process_time()
    found = ctsa.integrate(SelfAttention(beta=beta), x, [0.0, end], atol=atol)
    np.asarray(found.xs[-1, :1])
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{which}: n = {n}, beta = {beta:g}, T = {end:g}: {wall:.0f} s ({cpu:.0f} CPU s), peak {peak:.2f} GiB")
    print(found.stats)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", action="store_true")
    parser.add_argument("--one")
    given = parser.parse_args()
    if given.one:
        run(given.one)
    elif given.runs:
        for which in RUNS:
            subprocess.run([sys.executable, __file__, "--one", which], check=True)
    else:
        for name in ("jax", "torch"):
            evaluations(name)
