"""Runs with tokens that merge: CPU seconds of one thread, steps, and when the last tokens have met.

``python tests/benchmarks/bench_merging.py [--plain]``

Random tokens, Q = K = V = I, to 1e12 with 200 outputs, each twice: the first run of JAX compiles. ``--plain`` adds runs
without mergers to 1e4, whose time grows with the end of the run.
"""

import argparse
import os
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import ctsa  # noqa: E402
import ctsa.jax  # noqa: E402
import ctsa.torch  # noqa: E402

SYSTEMS = ((64, 2, 9.0), (64, 3, 9.0), (256, 3, 9.0), (1000, 3, 9.0))


def timed(face, n, d, beta, end, **options):
    field, x0 = face.SelfAttention(beta=beta), ctsa.random_tokens(n, d, seed=0)
    ts = np.concatenate([[0.0], np.geomspace(1e-2, end, 200)])
    seconds = []
    for _ in range(2):
        begin = time.process_time()
        with torch.no_grad():
            traj = ctsa.integrate(field, x0, ts, **options)
        seconds.append(time.process_time() - begin)
    return traj, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", action="store_true")
    plain = parser.parse_args().plain
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    for face in (ctsa.torch, ctsa.jax):
        name = face.__name__.rpartition(".")[2]
        for n, d, beta in SYSTEMS:
            traj, (first, again) = timed(face, n, d, beta, 1e12, merge=True)
            m = traj.merges
            print(
                f"{name} {n} x {d}, beta {beta:g}: first {first:.2f} s, again {again:.2f} s, {traj.stats['steps']} steps, "
                f"{traj.stats['segments']} segments, {m.counts[-1]} clusters, last met at {m.times[-1]:.3e}",
                flush=True,
            )
            if plain and n < 100:
                traj, (first, again) = timed(face, n, d, beta, 1e4)
                print(f"    without mergers to 1e4: {again:.2f} s, {traj.stats['steps']} steps", flush=True)


if __name__ == "__main__":
    main()
