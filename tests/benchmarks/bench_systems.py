"""Classical systems against lyapax, and ensembles against their members one by one: CPU seconds, and errors where known.

``python tests/benchmarks/bench_systems.py [--time 1000] [--repeats 3]``; lyapax is timed where it is installed. The sum of
Lorenz' exponents is -(10 + 1 + 8/3), that of Lorenz-96 minus the number of sites, that of Hénon's map log .3.
"""

import argparse
import importlib.util

import numpy as np
from problems import Problem, interleaved, report

TOL = 1e-6


def systems(xp):
    """Return name: (flow or map of flat vectors, start, exact sum of the exponents, whether it is a flow)."""

    def lorenz(s):
        return xp.stack([10 * (s[..., 1] - s[..., 0]), s[..., 0] * (28 - s[..., 2]) - s[..., 1],
                         s[..., 0] * s[..., 1] - 8 / 3 * s[..., 2]], -1)  # fmt: skip

    def lorenz96(s):
        return (xp.roll(s, -1, -1) - xp.roll(s, 2, -1)) * xp.roll(s, 1, -1) - s + 8

    def henon(s):
        return xp.stack([1 - 1.4 * s[..., 0] ** 2 + s[..., 1], 0.3 * s[..., 0]], -1)

    return {
        "lorenz": (lorenz, np.ones(3), -(11 + 8 / 3), True),
        "lorenz-96, 10 sites": (lorenz96, np.r_[8.01, np.full(9, 8.0)], -10.0, True),
        "henon": (henon, np.array([0.1, 0.1]), np.log(0.3), False),
    }


def lyapax(f, start, flow, steps):
    import jax
    import jax.numpy as jnp
    from lyapax import lyapunov_spectrum, ode_problem
    from lyapax.adaptive import diffrax_adaptive_step

    @jax.jit
    def spectrum(s):
        if not flow:
            return lyapunov_spectrum(f, s, 1.0, steps, len(start)).exponents
        integrator = diffrax_adaptive_step(rtol=TOL, atol=TOL)
        problem = ode_problem(f, state0=s, dt=1.0, integrator=integrator)
        return lyapunov_spectrum(problem, n_steps=steps, k=len(start), renorm_every=1, t_transient=10.0).exponents

    return lambda: spectrum(jnp.asarray(start)).block_until_ready()


def ours(f, start, flow, steps, solver, asarray):
    import ctsa

    system, options = f, dict(intervals=steps // 10, interval=10, transient=0)
    if flow:
        options = dict(intervals=steps, transient=10, solver=solver, rtol=TOL, atol=TOL)

        def system(t, x):
            return f(x)

    options |= dict(geometry=ctsa.Euclidean(), progress=False)
    return lambda: ctsa.lyapunov_spectrum(system, asarray(start[None]), **options).exponents


def ensembles(repeats):
    import ctsa
    import ctsa.jax as face

    for n in (8, 16):
        p = Problem(n, 3)
        field, x0 = p.field(face), ctsa.random_tokens(n, 3, seed=1, batch=32)

        def run(x, field=field):
            return ctsa.lyapunov_spectrum(field, x, intervals=20, transient=5, atol=TOL, progress=False)

        runs = {"together": lambda run=run, x0=x0: run(x0), "one by one": lambda run=run, x0=x0: [run(x) for x in x0]}
        times = interleaved(runs, repeats)
        report(ensemble=32, n=n, d=3, **times, ratio=times["one by one"] / times["together"])


def main() -> None:
    """Time every system and print the errors of the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import jax
    import jax.numpy as jnp
    import torch

    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    ensembles(options.repeats)
    of_torch = systems(torch)
    for name, (f, start, total, flow) in systems(jnp).items():
        steps = options.time if flow else 100 * options.time
        solvers = ("dopri5", "dopri8") if flow else ("map",)
        runs = {f"ctsa jax {s}": ours(f, start, flow, steps, s, jnp.asarray) for s in solvers}
        if importlib.util.find_spec("lyapax"):
            runs["lyapax"] = lyapax(f, start, flow, steps)
        g, few = of_torch[name][0], max(steps // 50, 10)
        runs[f"ctsa torch, {few} of {steps}"] = ours(g, start, flow, few, "dopri5", torch.as_tensor)
        times = interleaved(runs, options.repeats)
        errors = {f"sum off, {key}": abs(float(np.sum(np.asarray(run()))) - total) for key, run in runs.items()}
        report(system=name, **times, **errors)


if __name__ == "__main__":
    main()
