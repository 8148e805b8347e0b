"""The three forms of attention's derivative, and vmap(jvp), on the same problem: ratios within one run.

Run as a script: ``python tests/benchmarks/bench_tangent.py [torch|jax]``. The constants of ``ctsa.attention.calls.cost``
come from its table.
"""

import sys
import time

import numpy as np

import ctsa
from ctsa.attention.calls import HOW as FORMS, attend_tangent, choose
from ctsa.derivatives import jvp_batched

SIZES = [  # n, d, heads, k
    (8, 3, 1, 16), (32, 3, 1, 8), (32, 3, 1, 64), (128, 3, 1, 8), (128, 3, 1, 256), (512, 3, 1, 8), (256, 3, 1, 16),
    (256, 3, 1, 512), (64, 32, 1, 8), (64, 32, 1, 128), (23, 384, 4, 8), (128, 16, 1, 8), (128, 8, 1, 64),
    (1024, 3, 1, 6),
]  # fmt: skip


def median_ms(call, repeats=7):
    call()
    times = []
    for _ in range(repeats):
        t = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - t))
    return float(np.median(times))


def main(name: str) -> None:
    """Print a row a size: milliseconds of each form, of vmap(jvp), and which form is chosen."""
    face = __import__(f"ctsa.{name}", fromlist=["SelfAttention"])
    if name == "jax":
        import equinox as eqx
        import jax
        import jax.numpy as jnp

        array, wrap, done = jnp.asarray, eqx.filter_jit, jax.block_until_ready
    else:
        import torch

        torch.set_num_threads(1)
        array, wrap, done = torch.as_tensor, torch.no_grad(), lambda x: x
    rng = np.random.default_rng(0)
    print(f"{'n':>5} {'d':>4} {'h':>2} {'k':>4} " + " ".join(f"{f:>9}" for f in (*FORMS[1:], "vmap-jvp")) + "  chosen")
    for n, d, h, k in SIZES:
        lead = () if h == 1 else (h,)
        field = face.SelfAttention(rng.normal(size=(*lead, d, d)), value=rng.normal(size=(*lead, d, d)), beta=2.0)
        x, u = array(ctsa.random_tokens(n, d)), array(rng.normal(size=(k, n, d)))
        row = []
        for form in FORMS[1:]:
            if form == "assembled" and h * (n * d) ** 2 > 2**26:
                row.append(float("nan"))
                continue
            call = wrap(lambda f, x, u, form=form: attend_tangent(f.heads, x, u, form)[1])
            row.append(median_ms(lambda call=call, f=field, x=x, u=u: done(call(f, x, u))))
        call = wrap(lambda f, x, u: jvp_batched(lambda z: f.drift(0.0, z), x, u)[1])
        row.append(median_ms(lambda call=call, f=field, x=x, u=u: done(call(f, x, u))))
        print(f"{n:5d} {d:4d} {h:2d} {k:4d} " + " ".join(f"{t:9.3f}" for t in row) + f"  {choose(n, d, d, h, k)}")


if __name__ == "__main__":
    if sys.argv[-1] != "torch":
        import jax

        jax.config.update("jax_enable_x64", True)
    main("torch" if sys.argv[-1] == "torch" else "jax")
