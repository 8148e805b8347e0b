"""integrate against plain diffrax and plain torchdiffeq: ratios within one run.

``python tests/benchmarks/bench_flow.py [--sizes 32x3,256x3] [--outputs 101,1001]``; CPU seconds for a flow to t = 20 at a
tolerance of 1e-8, one thread, with the largest error of all outputs against SciPy's DOP853 at 1e-13, and evaluations.
"""

import argparse

import numpy as np
from problems import Problem, interleaved, report

TOL = 1e-8


def plain_diffrax(p, ts, xs, name):
    import diffrax as dx
    import jax
    import jax.numpy as jnp

    f = p.velocity(jnp, jnp.asarray, lambda s: jax.nn.softmax(s, -1))

    @jax.jit
    def solve(x):
        solution = dx.diffeqsolve(
            dx.ODETerm(lambda t, y, args: f(y)), getattr(dx, name)(), 0.0, 20.0, 0.1, x,
            saveat=dx.SaveAt(ts=jnp.asarray(ts)), stepsize_controller=dx.PIDController(rtol=TOL, atol=TOL),
            max_steps=100_000,
        )  # fmt: skip
        return solution.ys, solution.stats["num_steps"]

    def run():
        ys, steps = solve(jnp.asarray(p.x0))
        xs[f"diffrax {name}"] = np.asarray(ys), {"Tsit5": 6, "Dopri8": 13}[name] * int(steps) + 1

    return run


def plain_torchdiffeq(p, ts, xs):
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    f = p.velocity(torch, torch.as_tensor, lambda s: torch.softmax(s, -1))

    def run():
        count = 0

        def velocity(t, x):
            nonlocal count
            count += 1
            return f(x)

        with torch.no_grad():
            ys = odeint(velocity, torch.as_tensor(p.x0), torch.as_tensor(ts), rtol=TOL, atol=TOL)
        xs["torchdiffeq"] = ys.numpy(), count

    return run


def ours(p, ts, xs, name, solver):
    import torch

    import ctsa

    face = __import__(f"ctsa.{name}", fromlist=["SelfAttention"])
    field = p.field(face)

    def run():
        with torch.no_grad():
            path = ctsa.integrate(field, p.x0, ts, solver, atol=TOL)
        xs[f"ctsa {name} {solver}"] = np.asarray(path.xs), path.stats["evaluations"]

    return run


def exact(p, ts):
    from scipy.integrate import solve_ivp

    f = p.velocity(np, np.asarray, lambda s: np.exp(s - s.max(-1, keepdims=True)) / np.exp(s - s.max(-1, keepdims=True)).sum(-1, keepdims=True))  # fmt: skip  # noqa: E501

    def rhs(t, y):
        y = y.reshape(p.n, p.d)
        r = np.linalg.norm(y, axis=-1, keepdims=True)
        return (r * f(y / r)).ravel()

    y = solve_ivp(rhs, (0, 20), p.x0.ravel(), "DOP853", ts, rtol=1e-13, atol=1e-13).y.T.reshape(-1, p.n, p.d)
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def main() -> None:
    """Time every size and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="32x3,256x3,128x64")
    parser.add_argument("--outputs", default="101,1001")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    ours_all = (("jax", "tsit5"), ("jax", "dopri5"), ("jax", "dopri8"), ("torch", "dopri5"), ("torch", "dopri8"))
    for size in options.sizes.split(","):
        n, d = map(int, size.split("x"))
        p = Problem(n, d, rotation=False)
        for count in map(int, options.outputs.split(",")):
            ts, xs = np.linspace(0.0, 20.0, count), {}
            runs = {f"diffrax {name}": plain_diffrax(p, ts, xs, name) for name in ("Tsit5", "Dopri8")}
            runs["torchdiffeq"] = plain_torchdiffeq(p, ts, xs)
            runs |= {f"ctsa {name} {solver}": ours(p, ts, xs, name, solver) for name, solver in ours_all}
            seconds = interleaved(runs, options.repeats)
            reference = exact(p, ts)
            for name, (states, evaluations) in xs.items():
                error = f"{np.abs(states - reference).max():.1e}"
                report(n=n, d=d, outputs=count, name=name, seconds=seconds[name], error=error, evaluations=evaluations)


if __name__ == "__main__":
    main()
