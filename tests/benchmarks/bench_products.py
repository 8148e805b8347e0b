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


for n, d in ((1365, 3), (128, 32)):
    x, f = ctsa.random_tokens(n, d), field(d)
    layer = ctsa.ItrSA(f, step=0.5)
    ways = (False, True) if "--dense" in sys.argv else (False,)
    for dense in ways:
        way, calls = ("dense", 1) if dense else ("products", 2)
        clock(f"spectral_norm {n} x {d} {way}", lambda: ctsa.spectral_norm(f, x, dense=dense), calls)
        clock(f"jacobian_norms {n} x {d} {way}", lambda: ctsa.jacobian_norms(layer, x, dense=dense).norm, calls)
        clock(f"contribution_index {n} x {d}, 10, {way}", lambda: ctsa.contribution_index(f, x, count=10, dense=dense), calls)
x, batch, layer = ctsa.random_tokens(64, 16), ctsa.random_tokens(64, 16, batch=(8,)), face.EulerLayer(field(16), step=0.3)
for dense in (False, True):
    for count in (1, 4):
        clock(
            f"finite_time_exponents 64 x 16, 16 layers, count={count}, {'dense' if dense else 'products'}",
            lambda: ctsa.finite_time_exponents(layer, x, 16, count=count, dense=dense)[-1], 1 if dense else 2,
        )  # fmt: skip
clock("largest_finite_time 64 x 16, 16 layers", lambda: ctsa.largest_finite_time(layer, x, 16))
clock("largest_finite_time 8 of 64 x 16, 16 layers", lambda: ctsa.largest_finite_time(layer, batch, 16)[0])
clock("mean_exponent 64 x 16, 16 layers", lambda: ctsa.mean_exponent(layer, x, 16))
f = field(3)
clock("finite_time_exponents 400 x 3 to t = 2, count=1", lambda: ctsa.finite_time_exponents(f, ctsa.random_tokens(400, 3), 2.0, count=1))
