"""Attention in blocks of rows against all scores at once: CPU seconds of one thread, and peak memory.

``python tests/benchmarks/bench_chunked.py [--flow]``

- one evaluation of attention, and of its derivative along k directions, for several n and d, in one process;
- ``--flow``: the flow of 16,384 tokens on the two-sphere, each in a process of its own (peak memory of the process).
"""

import argparse
import os
import resource
import subprocess
import sys
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np  # noqa: E402

import ctsa  # noqa: E402

SIZES = ((1024, 3, 6), (2048, 3, 6), (4096, 3, 6), (8192, 3, 2), (1024, 64, 6), (2048, 64, 6), (4096, 64, 2))


def median(run, repeats=5):
    run()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def field_of(name, how):
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        from ctsa.jax import SelfAttention
    else:
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        from ctsa.torch import SelfAttention
    return SelfAttention(beta=4.0, how=how)


def timed(name, how, x, u):
    """Seconds of a value, and of a derivative along directions."""
    field = field_of(name, how)
    if name == "jax":
        import jax

        z, w, ready = jax.numpy.asarray(x), jax.numpy.asarray(u), jax.block_until_ready
        value = jax.jit(lambda field, z: field.drift(0.0, z))
        tangent = jax.jit(lambda field, z, w: field.drift_tangent(0.0, z, w))
        return median(lambda: ready(value(field, z))), median(lambda: ready(tangent(field, z, w)))
    import torch

    z, w = torch.as_tensor(x), torch.as_tensor(u)
    return median(lambda: field.drift(0.0, z)), median(lambda: field.drift_tangent(0.0, z, w))


def evaluations(name):
    rng = np.random.default_rng(0)
    for n, d, k in SIZES:
        x, u = ctsa.random_tokens(n, d), rng.normal(size=(k, n, d))
        (a, da), (b, db) = (timed(name, how, x, u) for how in ("dense", "chunked"))
        words = f"value {1e3 * a:.1f} and {1e3 * b:.1f} ms, {a / b:.2f} times"
        print(f"{name}, {n} x {d}: {words}; {k} directions {1e3 * da:.0f} and {1e3 * db:.0f} ms, {da / db:.2f}", flush=True)


def flow(name, how):
    x, field = ctsa.random_tokens(16384, 3, seed=0), field_of(name, how)
    begin = time.process_time()
    found = ctsa.integrate(field, x, [0.0, 1.0], atol=1e-6)
    np.asarray(found.xs)
    spent, peak = time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}, {how}: {spent:.1f} s, {found.stats['evaluations']} evaluations, peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", action="store_true")
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    if given.one:
        flow(*given.one)
    elif given.flow:
        for name in ("jax", "torch"):
            for how in ("dense", "chunked"):
                subprocess.run([sys.executable, __file__, "--one", name, how], check=True)
    else:
        for name in ("jax", "torch"):
            evaluations(name)
