"""Lyapunov spectra against what users write with plain diffrax, plain torchdiffeq, and lyapax: ratios within one run.

``python tests/benchmarks/bench_lyapunov.py [--sizes 8x3:all,32x3:all] [--repeats 3]``; each row is one JSON line with
CPU seconds for 50 + 10 time units at a tolerance of 1e-6, one thread. lyapax is timed where it is installed.
"""

import argparse
import importlib.util

from problems import Problem, interleaved, report

TOL, TIME, TRANSIENT = 1e-6, 50, 10


def plain_diffrax(p, k, transient=TRANSIENT, time=TIME, tol=TOL):
    import diffrax as dx
    import jax
    import jax.numpy as jnp

    f = p.velocity(jnp, jnp.asarray, lambda s: jax.nn.softmax(s, -1))

    def rhs(t, state, args):
        y, push = jax.linearize(f, state[0])
        return y, jax.vmap(push)(state[1])

    def interval(carry, _):
        span = (jnp.asarray(v, p.x0.dtype) for v in (0.0, 1.0, 0.05))
        sol = dx.diffeqsolve(
            dx.ODETerm(rhs), dx.Tsit5(), *span, carry, stepsize_controller=dx.PIDController(rtol=tol, atol=tol)
        )
        x, u = (y[-1] for y in sol.ys)
        x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        u = u - (u * x).sum(-1, keepdims=True) * x
        q, r = jnp.linalg.qr(u.reshape(k, -1).T)
        return (x, q.T.reshape(u.shape)), jnp.log(jnp.abs(jnp.diag(r)))

    @jax.jit
    def spectrum(x, u):
        carry, _ = jax.lax.scan(interval, (x, u), None, length=transient)
        return jax.lax.scan(interval, carry, None, length=time)[1].mean(0)

    return lambda: spectrum(jnp.asarray(p.x0), jnp.asarray(p.frame(k), p.x0.dtype)).block_until_ready()


def plain_torchdiffeq(p, k):
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    f = p.velocity(torch, torch.as_tensor, lambda s: torch.softmax(s, -1))

    def rhs(t, state):
        x, u = state
        return f(x), torch.func.vmap(lambda v: torch.func.jvp(f, (x,), (v,))[1])(u)

    def spectrum():
        x, u, total = torch.as_tensor(p.x0), torch.as_tensor(p.frame(k)), 0.0
        times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        with torch.no_grad():
            for i in range(TIME + TRANSIENT):
                xs, us = odeint(rhs, (x, u), times, rtol=TOL, atol=TOL, method="dopri5")
                x = xs[-1] / xs[-1].norm(dim=-1, keepdim=True)
                u = us[-1] - (us[-1] * x).sum(-1, keepdim=True) * x
                q, r = torch.linalg.qr(u.reshape(k, -1).T)
                u = q.T.reshape(u.shape)
                if i >= TRANSIENT:
                    total = total + r.diagonal().abs().log()
        return total / TIME

    return spectrum


def lyapax(p, k):
    import jax
    import jax.numpy as jnp
    from lyapax import lyapunov_spectrum, ode_problem
    from lyapax.adaptive import diffrax_adaptive_step

    f = p.velocity(jnp, jnp.asarray, lambda s: jax.nn.softmax(s, -1))
    ambient = p.n * p.d if k == p.n * (p.d - 1) else k  # it knows no manifold

    @jax.jit
    def spectrum(state):
        problem = ode_problem(
            lambda s: f(s.reshape(p.n, p.d)).ravel(), state0=state, dt=1.0,
            integrator=diffrax_adaptive_step(rtol=TOL, atol=TOL),
        )  # fmt: skip
        return lyapunov_spectrum(problem, n_steps=TIME, k=ambient, renorm_every=1, t_transient=TRANSIENT).exponents

    return lambda: spectrum(jnp.asarray(p.x0.ravel())).block_until_ready()


def ours(p, k, name, solver):
    import ctsa

    face = __import__(f"ctsa.{name}", fromlist=["SelfAttention"])
    field, frame = p.field(face), p.frame(k)
    return lambda: ctsa.lyapunov_spectrum(
        field, p.x0, intervals=TIME, transient=TRANSIENT, frame=frame, atol=TOL, solver=solver, progress=False
    ).exponents


def main() -> None:
    """Time every size and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="8x3:all,32x3:all,128x3:all,512x3:8,64x32:8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch", default="8x3", help="sizes for which torch runs too")
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    for size in options.sizes.split(","):
        shape, count = size.split(":")
        n, d = map(int, shape.split("x"))
        k = n * (d - 1) if count == "all" else int(count)
        p = Problem(n, d)
        runs = {
            "diffrax": plain_diffrax(p, k),
            "ctsa jax dopri5": ours(p, k, "jax", "dopri5"),
            "ctsa jax tsit5": ours(p, k, "jax", "tsit5"),
        }
        if importlib.util.find_spec("lyapax"):
            runs["lyapax"] = lyapax(p, k)
        if shape in options.torch.split(","):
            runs["torchdiffeq"] = plain_torchdiffeq(p, k)
            runs["ctsa torch"] = ours(p, k, "torch", "dopri5")
        seconds = interleaved(runs, options.repeats)
        ratios = {f"diffrax / {name}": seconds["diffrax"] / t for name, t in seconds.items() if "jax" in name}
        if "torchdiffeq" in seconds:
            ratios["torchdiffeq / ctsa torch"] = seconds["torchdiffeq"] / seconds["ctsa torch"]
        report(n=n, d=d, k=k, **seconds, **ratios)


if __name__ == "__main__":
    main()
