"""Norms and finite-time exponents from products beside dense matrices: CPU seconds, second call.

    python tests/benchmarks/bench_products.py [torch|jax] [--dense]
"""

import importlib
import sys
import time

import numpy as np

import ctsa

home = sys.argv[1] if len(sys.argv) > 1 else "torch"
if home == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)
face = importlib.import_module(f"ctsa.{home}")


def clock(name, run, calls=2):
    for _ in range(calls):
        began = time.process_time()
        try:
            found = run()
        except (RuntimeError, ValueError) as error:
            found = error
        took = time.process_time() - began
    print(f"{home:6}{name:60}{took:9.3f}  {str(found):.60}", flush=True)


def field(d, seed=0):
    value = np.random.default_rng(seed).normal(size=(d, d)) / d**0.5
    return face.SelfAttention(value=value, beta=1.0)


def norms(n, d, dense):
    x, f = ctsa.random_tokens(n, d), field(d)
    layer, way, calls = ctsa.ItrSA(f, step=0.5), "dense" if dense else "products", 1 if dense else 2
    clock(f"spectral_norm {n} x {d}, {way}", lambda: ctsa.spectral_norm(f, x, dense=dense), calls)
    clock(f"jacobian_norms {n} x {d}, {way}", lambda: ctsa.jacobian_norms(layer, x, dense=dense).norm, calls)
    clock(f"contribution_index {n} x {d}, 10, {way}", lambda: ctsa.contribution_index(f, x, count=10, dense=dense), calls)


def finite_time(count, dense):
    way, calls = ("dense", 1) if dense else ("products", 2)
    clock(
        f"finite_time_exponents 64 x 16, 16 layers, count={count}, {way}",
        lambda: ctsa.finite_time_exponents(layer, x, 16, count=count, dense=dense)[-1], calls,
    )  # fmt: skip


for way in (False, True) if "--dense" in sys.argv else (False,):
    norms(1365, 3, way)
    norms(128, 32, way)
x, batch, layer = ctsa.random_tokens(64, 16), ctsa.random_tokens(64, 16, batch=(8,)), face.EulerLayer(field(16), step=0.3)
for many, way in ((1, False), (4, False), (1, True)):
    finite_time(many, way)
clock("largest_finite_time 64 x 16, 16 layers", lambda: ctsa.largest_finite_time(layer, x, 16))
clock("largest_finite_time 8 of 64 x 16, 16 layers", lambda: ctsa.largest_finite_time(layer, batch, 16)[0])
clock("mean_exponent 64 x 16, 16 layers", lambda: ctsa.mean_exponent(layer, x, 16))
flow, start = field(3), ctsa.random_tokens(400, 3)
clock("finite_time_exponents 400 x 3 to t = 2, count=1", lambda: ctsa.finite_time_exponents(flow, start, 2.0, count=1))
