"""Sweeps against a plain loop, and what they cost: ratios within one run.

``python tests/benchmarks/bench_sweeps.py [spectra] [trivial] [seeds] [--workers 2] [--face jax]``

- spectra: 20 beta x 8 seeds of spectra of 32 tokens in R^3, on workers against a plain loop in one process; both start with
  an empty cache of compiled programs, and the time of starting the workers counts.
- trivial: 10,000 points that do nothing: wall time a point, peak memory of this process, files of the store.
- seeds: 8 seeds of one spectrum in one call, as a batch of states, against one after the other (CPU seconds, one thread).
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

import ctsa  # noqa: E402

BETAS, SEEDS = np.linspace(0.5, 10.0, 20), range(8)


def attention(face):
    if face == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        from ctsa.jax import SelfAttention
    else:
        from ctsa.torch import SelfAttention
    return SelfAttention


class Spectrum:
    """Exponents of attention with a value matrix that keeps tokens moving; ``count`` 0: all 64."""

    def __init__(self, face, intervals, count):
        self.face, self.intervals, self.count = face, intervals, count or None
        self.value = np.random.default_rng(5).normal(size=(3, 3))

    def __call__(self, beta, seed):
        """``seed``: one, or several for a batch of states."""
        field = attention(self.face)(value=self.value, beta=float(np.ravel(beta)[0]))
        seeds = np.ravel(seed)
        x0 = np.stack([ctsa.random_tokens(32, 3, seed=int(s)) for s in seeds])
        x0 = x0 if np.ndim(seed) else x0[0]
        found = ctsa.lyapunov_spectrum(field, x0, intervals=self.intervals, transient=5, count=self.count)
        return {"exponents": (("exponent",), found.exponents), "exponents_stderr": (("exponent",), found.stderr)}


def spectra(options):
    one = Spectrum(options.face, options.intervals, options.count)
    attention(options.face)
    grid = {"beta": BETAS, "seed": SEEDS}

    def loop():
        return np.array([[one(beta, seed)["exponents"][1] for seed in SEEDS] for beta in BETAS])

    def swept():
        return ctsa.sweep(one, grid, workers=options.workers)["exponents"].values

    times, results = {}, {}
    for name, run in (("sweep", swept), ("loop", loop)):
        begin = time.perf_counter()
        results[name] = run()
        times[name] = time.perf_counter() - begin
        print(f"{name}: {times[name]:.1f} s")
    same = np.array_equal(results["loop"], results["sweep"])
    print(f"{options.workers} workers: {times['loop'] / times['sweep']:.2f} times as fast; same numbers: {same}")


def nothing(i):
    return float(i)


def trivial(options):
    ctsa.sweep(nothing, {"i": np.arange(10)}, workers=0)  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for workers in (0, options.workers):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            ctsa.sweep(nothing, {"i": np.arange(options.points)}, folder, workers=workers)
            each = (time.perf_counter() - begin) / options.points
            files = sum(path.is_file() for path in Path(folder).rglob("*"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{options.points} trivial points, workers={workers}: {1e3 * each:.2f} ms a point with the start of workers, "
            f"{files} files, peak memory {peak / 1024:.0f} MB ({(peak - before) / 1024:+.0f} MB)"
        )


def seeds(options):
    one = Spectrum(options.face, options.intervals, options.count)
    every = np.array(SEEDS)
    one(np.array([4.0]), every), one(4.0, 0)
    for beta in (1.0, 4.0, 10.0):
        begin = time.process_time()
        together = one(np.full(8, beta), every)["exponents"][1]
        middle = time.process_time()
        apart = [one(beta, int(seed))["exponents"][1] for seed in every]
        end = time.process_time()
        print(
            f"{options.face}, beta = {beta:g}, 8 seeds: together {middle - begin:.2f} s, one by one {end - middle:.2f} s, "
            f"{(end - middle) / (middle - begin):.2f} times; exponents apart by {np.abs(together - apart).max():.1e}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["spectra", "trivial", "seeds"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--face", default="jax")
    parser.add_argument("--intervals", type=int, default=600)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--points", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty
        for part in given.parts:
            {"spectra": spectra, "trivial": trivial, "seeds": seeds}[part](given)
        sys.stdout.flush()
