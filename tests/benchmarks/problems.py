"""The instances of the benchmarks, and how they are timed: medians of CPU time of interleaved runs, one thread."""

import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np


class Problem:
    """Self-attention with random query, value and per-token rotation, from one seeded generator."""

    def __init__(self, n: int, d: int, beta: float = 4.0, seed: int = 0, rotation: bool = True):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, d))
        self.x0 = x / np.linalg.norm(x, axis=-1, keepdims=True)
        self.query = rng.normal(size=(d, d)) / np.sqrt(d)
        self.value = rng.normal(size=(d, d)) / np.sqrt(d)
        omega = rng.normal(size=(n, d, d))
        self.omega = 1.5 * (omega - omega.transpose(0, 2, 1)) * rotation
        self.n, self.d, self.beta, self.rotation = n, d, beta, rotation

    def frame(self, k: int) -> np.ndarray:
        u = np.random.default_rng(1).normal(size=(k, self.n, self.d))
        u -= (u * self.x0).sum(-1, keepdims=True) * self.x0
        return np.linalg.qr(u.reshape(k, -1).T)[0].T.reshape(u.shape)

    def field(self, face):
        field = face.SelfAttention(query=self.query, value=self.value, beta=self.beta)
        return field + face.Rotation(self.omega) if self.rotation else field

    def velocity(self, xp, asarray, softmax):
        """The field as a user writes it: plain functions of one framework."""
        a, v, w = asarray(self.query.T), asarray(self.value), asarray(self.omega)

        def velocity(x):
            weights = softmax(self.beta * (x @ a) @ x.T)
            y = weights @ (x @ v.T)
            if self.rotation:
                y = y + xp.einsum("iab,ib->ia", w, x)
            return y - (x * y).sum(-1)[:, None] * x

        return velocity


def interleaved(runs: dict, repeats: int, limit: float = 120.0) -> dict:
    """Warm up every run once, then time them in turn; a run too slow for ``limit`` seconds keeps its warm-up time."""
    times: dict[str, list[float]] = {}
    for name, run in runs.items():
        began = time.process_time()
        run()
        first = time.process_time() - began
        times[name] = [first] if first * repeats > limit else []
    for _ in range(repeats):
        for name, run in runs.items():
            if len(times[name]) == 1 and times[name][0] * repeats > limit:
                continue
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: float(np.median(t)) for name, t in times.items()}


def report(**values) -> None:
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}), flush=True)
