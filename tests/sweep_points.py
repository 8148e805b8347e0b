"""What sweeps of the tests run, and a process that runs one until it is killed: ``python sweep_points.py OUT SCHEDULER``."""

import sys
import time

import numpy as np

GRID = {"beta": [0.5 * i for i in range(12)], "seed": list(range(5))}


def slow(beta, seed):
    """A point of 20 ms, with every kind of variable; some fail."""
    time.sleep(0.02)
    if beta == 2.0 and seed == 3:
        raise ArithmeticError("no such point")
    rng = np.random.default_rng(int(100 * beta) + seed)
    return {"a": rng.normal(), "b": rng.normal(size=(3, 2)), "verdict": "even" if seed % 2 == 0 else "odd", "c": seed > 2}


if __name__ == "__main__":
    import ctsa

    ctsa.sweep(slow, GRID, sys.argv[1], scheduler=sys.argv[2] if len(sys.argv) > 2 else None, batch=3)
