"""Flows and spectra on whatever device the frameworks use: seconds of wall clock.

``python tests/benchmarks/bench_device.py [--budget 240] [--repeats 3]``; one JSON line a measurement, with the device's
name. Beside the flows the same by plain diffrax, beside the spectra by ``jax.linearize`` and ``vmap``, in the same dtype.
Nothing is begun after the budget is used up.
"""

import argparse
import time

import numpy as np
from bench_lyapunov import plain_diffrax
from problems import Problem, report

TOL = {"float64": 1e-6, "float32": 1e-4}


def plain_flow(p, ts, tol):
    import diffrax as dx
    import jax
    import jax.numpy as jnp

    f, ts = p.velocity(jnp, jnp.asarray, lambda s: jax.nn.softmax(s, -1)), jnp.asarray(ts, p.x0.dtype)

    @jax.jit
    def run(x):
        return dx.diffeqsolve(
            dx.ODETerm(lambda t, y, args: f(y)), dx.Dopri5(), ts[0], ts[-1], ts[1] / 100, x, saveat=dx.SaveAt(ts=ts),
            stepsize_controller=dx.PIDController(rtol=tol, atol=tol), max_steps=100_000,
        ).ys  # fmt: skip

    return lambda: run(jnp.asarray(p.x0)).block_until_ready()


def cast(p, dtype):
    for name in ("x0", "query", "value", "omega"):
        setattr(p, name, getattr(p, name).astype(dtype))
    return p


def main() -> None:
    """Measure until the budget is used up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=240.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", default="flows,spectra")
    parser.add_argument("--dtypes", default="float64,float32")
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    import torch

    import ctsa

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.set_default_device("cuda")
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    end = time.monotonic() + options.budget

    def wait():
        if on_gpu:
            torch.cuda.synchronize()

    def measure(run):
        run()
        wait()
        times = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            run()
            wait()
            times.append(time.perf_counter() - began)
            if sum(times) > 15:
                break
        return float(np.median(times))

    def faces():
        return [(name, __import__(f"ctsa.{name}", fromlist=["SelfAttention"])) for name in ("jax", "torch")]

    def line(kind, size, dtype, runs):
        if time.monotonic() < end:
            report(device=device, kind=kind, size=size, dtype=dtype, **{name: measure(run) for name, run in runs.items()})

    for dtype, tol in ((name, TOL[name]) for name in options.dtypes.split(",")):
        for n, d in ((256, 3), (1024, 3), (4096, 3), (256, 64), (1024, 64)) if "flows" in options.kinds else ():
            p, ts = cast(Problem(n, d, rotation=False), dtype), np.linspace(0, 5, 6)
            runs = {"diffrax": plain_flow(p, ts, tol)}
            for name, face in faces():
                field = p.field(face)

                def run(field=field, p=p, ts=ts, tol=tol):
                    with torch.no_grad():
                        xs = ctsa.integrate(field, p.x0, ts, atol=tol, progress=False).xs
                    return xs.block_until_ready() if hasattr(xs, "block_until_ready") else xs

                runs[f"ctsa {name}"] = run
            line("flow to t = 5", f"{n} x {d}", dtype, runs)
        sizes = ((32, 3, 64), (128, 3, 256), (512, 3, 8), (64, 32, 8), (2048, 3, 8))
        for n, d, k in sizes if "spectra" in options.kinds else ():
            p = cast(Problem(n, d), dtype)
            runs = {"diffrax": plain_diffrax(p, k, transient=0, time=2, tol=tol)}
            for name, face in faces():
                field, frame = p.field(face), p.frame(k).astype(dtype)
                runs[f"ctsa {name}"] = lambda field=field, frame=frame, p=p, tol=tol: ctsa.lyapunov_spectrum(
                    field, p.x0, intervals=2, transient=0, frame=frame, atol=tol, progress=False
                )
            line("2 intervals of a spectrum", f"{n} x {d}, k = {k}", dtype, runs)


if __name__ == "__main__":
    main()
