"""What sweeps of the tests run, and a process that runs one until it is killed: ``sweep_points.py OUT [SCHEDULER]``."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

GRID = {"beta": [0.5 * i for i in range(12)], "seed": list(range(5))}


def point(beta, seed):
    """Every kind of variable; one point fails."""
    if beta == 2.0 and seed == 3:
        raise ArithmeticError("no such point")
    rng = np.random.default_rng(int(100 * beta) + seed)
    return {
        "a": rng.normal(),
        "b": rng.normal(size=(3, 2)),
        "verdict": "even" if seed % 2 == 0 else "odd",
        "c": seed > 2,
    }


def slow(beta, seed):
    """A point of 20 ms."""
    time.sleep(0.02)
    return point(beta, seed)


def spectrum(beta, seed, face):
    """A short spectrum of few tokens."""
    import ctsa

    if face == "jax":
        from ctsa.jax import SelfAttention
    else:
        from ctsa.torch import SelfAttention
    return ctsa.lyapunov_spectrum(
        SelfAttention(beta=beta), ctsa.random_tokens(4, 3, seed=seed), intervals=10, transient=2, count=2
    )


COMPILED = []


def compilations(beta):
    """How many programs JAX has compiled for this point, and in which process."""
    import jax

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            COMPILED.append(duration)

    if not COMPILED:
        COMPILED.append(0.0)
        jax.monitoring.register_event_duration_secs_listener(listen)
    before = len(COMPILED)
    found = spectrum(beta, 0, "jax")
    return {
        "compiled": len(COMPILED) - before,
        "process": os.getpid(),
        "begun": time.time(),
        "lead": found.exponents[0],
    }


def root(x):
    """Changes its sign at the root of 2; is interrupted where the environment says so."""
    if os.environ.get("SWEEP_STOP") == str(x):
        raise KeyboardInterrupt
    return {"y": x**2 - 2}


def deadly(x, folder):
    """Kills its process at x = 7, the first time only, and at x = 12 always."""
    marker = Path(folder) / "died"
    if x == 12 or (x == 7 and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


if __name__ == "__main__":
    import ctsa

    ctsa.sweep(slow, GRID, sys.argv[1], scheduler=sys.argv[2] if len(sys.argv) > 2 else None, batch=3)
