"""basins and batches against plain diffrax under vmap and plain torchdiffeq: ratios within one run.

``python tests/benchmarks/bench_basins.py [--starts 2000]``. First the peers' task: n = 16 tokens in R^3 to t = 10 at a
tolerance of 1e-6, end states only. Then ``ctsa.basins``, which also finds the limits: n = 10, d = 3, V = A = diag(3, 2, 1),
beside a user's loop: diffrax to t = 100 under vmap, and a look at the clusters of the end states. CPU seconds, one thread.
"""

import argparse

import numpy as np
from problems import Problem, interleaved, report

TOL = 1e-6


def diffrax_batch(velocity, x0, end, ends, name):
    import diffrax as dx
    import jax
    import jax.numpy as jnp

    def one(x):
        return dx.diffeqsolve(
            dx.ODETerm(lambda t, y, args: velocity(y)), dx.Tsit5(), 0.0, end, 0.1, x,
            stepsize_controller=dx.PIDController(rtol=TOL, atol=TOL), max_steps=100_000,
        ).ys[-1]  # fmt: skip

    solve = jax.jit(jax.vmap(one))

    def run():
        ends[name] = np.asarray(solve(jnp.asarray(x0)))

    return run


def torchdiffeq_batch(velocity, x0, end, ends, name):
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    times = torch.tensor([0.0, end], dtype=torch.float64)

    def run():
        with torch.no_grad():
            ends[name] = odeint(lambda t, x: velocity(x), torch.as_tensor(x0), times, rtol=TOL, atol=TOL)[-1].numpy()

    return run


def ours(name, field, x0, end, ends):
    import torch

    import ctsa

    def run():
        with torch.no_grad():
            ends[f"ctsa {name}"] = np.asarray(ctsa.integrate(field, x0, [0.0, end], atol=TOL).xs[-1])

    return run


def velocity_of(p, name):
    if name == "jax":
        import jax
        import jax.numpy as jnp

        return p.velocity(jnp, jnp.asarray, lambda s: jax.nn.softmax(s, -1))
    import torch

    q, v = torch.as_tensor(p.query.T), torch.as_tensor(p.value)

    def velocity(x):  # the same for leading axes
        y = torch.softmax(p.beta * (x @ q) @ x.mT, -1) @ (x @ v.T)
        return y - (x * y).sum(-1, keepdim=True) * x

    return velocity


def batches(starts, repeats):
    import ctsa
    import ctsa.jax
    import ctsa.torch

    p, ends = Problem(16, 3, rotation=False), {}
    x0 = ctsa.random_tokens(16, 3, seed=0, batch=(starts,))
    runs = {
        "diffrax vmap": diffrax_batch(velocity_of(p, "jax"), x0, 10.0, ends, "diffrax"),
        "torchdiffeq": torchdiffeq_batch(velocity_of(p, "torch"), x0, 10.0, ends, "torchdiffeq"),
        "ctsa jax": ours("jax", p.field(ctsa.jax), x0, 10.0, ends),
        "ctsa torch": ours("torch", p.field(ctsa.torch), x0, 10.0, ends),
    }
    seconds = interleaved(runs, repeats)
    exact = np.asarray(ctsa.integrate(p.field(ctsa.jax), x0, [0.0, 10.0], "dopri8", atol=1e-12).xs[-1])
    errors = {}
    for name, end in ends.items():
        off = np.abs(end - exact).max((1, 2))
        errors[f"error {name}"] = f"median {np.median(off):.0e}, 99 % {np.quantile(off, 0.99):.0e}"
    report(task="batch", starts=starts, **seconds, **errors)


def limits(starts, repeats):
    import jax
    import jax.numpy as jnp

    import ctsa
    import ctsa.jax
    import ctsa.torch

    a = np.diag([3.0, 2.0, 1.0])
    x0, ends = ctsa.random_tokens(10, 3, seed=0, batch=(starts,)), {}

    def velocity(x):
        y = jax.nn.softmax(x @ jnp.asarray(a) @ x.T, -1) @ (x @ jnp.asarray(a))
        return y - (x * y).sum(-1)[:, None] * x

    plain = diffrax_batch(velocity, x0, 100.0, ends, "diffrax")

    def user():
        plain()
        x = ends["diffrax"] / np.linalg.norm(ends["diffrax"], axis=-1, keepdims=True)
        g = x @ x.swapaxes(1, 2)
        ends["counts"] = int((g > 1 - 1e-3).all((1, 2)).sum()), int((np.abs(g) > 1 - 1e-3).all((1, 2)).sum())

    runs = {"diffrax vmap": user}
    for name, face in (("jax", ctsa.jax), ("torch", ctsa.torch)):
        field = face.SelfAttention(query=a, value=a, beta=1.0)

        def run(name=name, field=field):
            ends[name] = ctsa.basins(field, starts, n=10, d=3, seed=0, progress=False).counts("kind")

        runs[f"ctsa {name}"] = run
    seconds = interleaved(runs, repeats)
    report(task="limits", starts=starts, **seconds, counts=str({k: v for k, v in ends.items() if k != "diffrax"}))


def main() -> None:
    """Time both tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    batches(options.starts, options.repeats)
    limits(options.starts, options.repeats)


if __name__ == "__main__":
    main()
