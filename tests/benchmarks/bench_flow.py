"""integrate against plain diffrax and plain torchdiffeq: ratios within one run.

``python tests/benchmarks/bench_flow.py [--sizes 32x3,256x3]``; CPU seconds for a flow to t = 20 at a tolerance of 1e-8
with 101 outputs, one thread, with the largest error of the end state against SciPy's DOP853 at 1e-13.
"""

import argparse

import numpy as np
from problems import Problem, interleaved, report

TOL, TIMES = 1e-8, np.linspace(0.0, 20.0, 101)


def plain_diffrax(p, ends):
    import diffrax as dx
    import jax
    import jax.numpy as jnp

    f = p.velocity(jnp, jnp.asarray, lambda s: jax.nn.softmax(s, -1))

    @jax.jit
    def solve(x):
        return dx.diffeqsolve(
            dx.ODETerm(lambda t, y, args: f(y)), dx.Tsit5(), 0.0, 20.0, 0.1, x, saveat=dx.SaveAt(ts=jnp.asarray(TIMES)),
            stepsize_controller=dx.PIDController(rtol=TOL, atol=TOL), max_steps=100_000,
        ).ys  # fmt: skip

    def run():
        ends["diffrax"] = np.asarray(solve(jnp.asarray(p.x0)))[-1]

    return run


def plain_torchdiffeq(p, ends):
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    f = p.velocity(torch, torch.as_tensor, lambda s: torch.softmax(s, -1))

    def run():
        with torch.no_grad():
            xs = odeint(lambda t, x: f(x), torch.as_tensor(p.x0), torch.as_tensor(TIMES), rtol=TOL, atol=TOL)
        ends["torchdiffeq"] = xs[-1].numpy()

    return run


def ours(p, ends, name, solver):
    import torch

    import ctsa

    face = __import__(f"ctsa.{name}", fromlist=["SelfAttention"])
    field = p.field(face)

    def run():
        with torch.no_grad():
            ends[f"ctsa {name} {solver}"] = np.asarray(ctsa.integrate(field, p.x0, TIMES, solver, atol=TOL).xs[-1])

    return run


def exact(p):
    from scipy.integrate import solve_ivp

    f = p.velocity(np, np.asarray, lambda s: np.exp(s - s.max(-1, keepdims=True)) / np.exp(s - s.max(-1, keepdims=True)).sum(-1, keepdims=True))  # fmt: skip  # noqa: E501

    def rhs(t, y):
        y = y.reshape(p.n, p.d)
        r = np.linalg.norm(y, axis=-1, keepdims=True)
        return (r * f(y / r)).ravel()

    y = solve_ivp(rhs, (0, 20), p.x0.ravel(), "DOP853", rtol=1e-13, atol=1e-13).y[:, -1].reshape(p.n, p.d)
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def main() -> None:
    """Time every size and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="32x3,256x3,128x64")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    for size in options.sizes.split(","):
        n, d = map(int, size.split("x"))
        p, ends = Problem(n, d, rotation=False), {}
        runs = {"diffrax": plain_diffrax(p, ends), "torchdiffeq": plain_torchdiffeq(p, ends)}
        for name, solver in (("jax", "dopri5"), ("jax", "tsit5"), ("torch", "dopri5")):
            runs[f"ctsa {name} {solver}"] = ours(p, ends, name, solver)
        seconds = interleaved(runs, options.repeats)
        reference = exact(p)
        errors = {f"error {name}": f"{np.abs(end - reference).max():.1e}" for name, end in ends.items()}
        report(n=n, d=d, **seconds, **errors)


if __name__ == "__main__":
    main()
