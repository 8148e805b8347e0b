"""Tokens that repel each other, V = -I: a uniform density is stable, and few tokens rest on the best configurations."""

from typing import Any

import numpy as np

from ctsa import theory
from ctsa._backend import load
from ctsa.geometry import random_tokens
from ctsa.observables import energy
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings
from ctsa.tangent import eigenvalues

from .bench import Bench
from .modes import MODES, growth

BETA = 2.0
GOLDEN = (1 + 5**0.5) / 2
BEST = {  # universally optimal: each minimises every sum of completely monotone functions of squared distances
    "a pair in R^5": np.eye(5)[[0, 0]] * [[1], [-1]],
    "octahedron": np.concatenate([np.eye(3), -np.eye(3)]),
    "16-cell": np.concatenate([np.eye(4), -np.eye(4)]),
    "icosahedron": np.array([np.roll([0.0, s, t * GOLDEN], k) for k in range(3) for s in (1, -1) for t in (1, -1)])
    / np.hypot(1, GOLDEN),
}


def run(bench: Bench) -> Findings:
    """Modes of the uniform density; exponents at the best configurations; where random starts of six tokens end."""
    field = bench.face.SelfAttention(beta=BETA, value=-np.eye(2))
    found, known = growth(bench, field, 256), theory.uniform_growth_rate(MODES, BETA, value=-1.0)
    bench.near(
        "uniform on the circle: largest error of the rates of modes",
        found, known, 1e-10, source="-k^2 I_k(beta) / (beta I_0(beta))",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    rows += [dict(what="mode", n=256, d=2, k=int(k), value=r) for k, r in zip(MODES, found, strict=True)]
    for name, x in BEST.items() if not bench.quick else list(BEST.items())[:2]:
        rows += at_rest(bench, name, x)
    rows += descents(bench, 8 if bench.quick else 64)
    ends = np.array([row["value"] for row in rows if row["what"] == "end"])
    notes = [
        f"beta = {BETA:g}, Q = K = I, V = -I. Every mode of the uniform density decays.",
        f"Six random tokens of the two-sphere at t = 200: farthest from the products of an octahedron {ends.max():.1e}, of "
        f"{len(ends)} starts. That all starts end there is no theorem.",
    ]
    return bench.found(rows, notes)


def at_rest(bench: Bench, name: str, x: np.ndarray) -> list[dict[str, Any]]:
    """Count the directions that a rotation leaves free, and look at the others."""
    n, d = x.shape
    field = bench.face.SelfAttention(beta=BETA, value=-np.eye(d))
    z = load(bench.backend).asarray(x)
    speed = np.abs(as_numpy(field(0.0, z))).max()
    found = np.sort(eigenvalues(field, z).real)[::-1]
    rank = np.linalg.matrix_rank(x)
    free = rank * (2 * d - rank - 1) // 2
    bench.check(f"{name}: speed", speed, 0.0, 1e-14, source="equilibrium by symmetry")
    bench.check(f"{name}: largest of the {free} exponents that are zero", np.abs(found[:free]).max(), 0.0, 1e-10,
                source="r (2 d - r - 1) / 2 rotations move it")  # fmt: skip
    bench.check(f"{name}: largest of the others", found[free], -1e-2, relation="at most",
                source="stable: a minimum (Cohn and Kumar, 2007)")  # fmt: skip
    return [dict(what=name, n=n, d=d, k=k, value=value) for k, value in enumerate(found)]


def descents(bench: Bench, starts: int) -> list[dict[str, Any]]:
    """Let six tokens go from random starts: the energy never rises."""
    field = bench.face.SelfAttention(beta=BETA, value=-np.eye(3))
    x, ts = random_tokens(6, 3, seed=1, batch=(starts,)), np.concatenate([[0.0], np.geomspace(0.1, 200.0, 30)])
    path = bench.flow(field, x, ts, atol=1e-9)
    bench.keep("six tokens", path)
    e = as_numpy(energy(field, path.xs))
    bench.check("largest rise of the energy", np.diff(e, axis=0).max(), 0.0, 1e-9, relation="at most",
                source="V = -I, A = I: a gradient flow")  # fmt: skip
    end = as_numpy(path.xs)[-1]
    products = np.sort((end @ end.swapaxes(-1, -2)).reshape(starts, -1), -1)
    best = np.sort((BEST["octahedron"] @ BEST["octahedron"].T).ravel())
    rows = [dict(what="energy", n=6, d=3, k=k, t=t, value=v) for k in range(min(starts, 8))
            for t, v in zip(ts, e[:, k], strict=True)]  # fmt: skip
    return rows + [dict(what="end", n=6, d=3, k=k, value=v) for k, v in enumerate(np.abs(products - best).max(-1))]


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw rates of modes, exponents at rest, and energies; return the three ``Axes``."""
    from .drawing import finish, panels

    left, middle, right = panels(axes, 3)
    modes = found.where(what="mode")
    left.plot(modes["k"], modes["value"], "o", markersize=3)
    left.plot(modes["k"], theory.uniform_growth_rate(modes["k"].astype(int), BETA, value=-1.0), linewidth=1)
    rest = found.where(what="octahedron")
    middle.plot(rest["k"] + 1, rest["value"], "o", markersize=3)
    middle.axhline(0.0, linewidth=0.6, color="0.5")
    falls = found.where(what="energy")
    for k in np.unique(falls["k"]):
        one = falls["k"] == k
        right.plot(falls["t"][one], falls["value"][one], linewidth=0.8)
    right.set_xscale("symlog", linthresh=0.1)
    finish(left, "mode $k$ of the uniform density", "growth rate")
    finish(middle, "exponent of the octahedron", "value")
    finish(right, "time", "energy of six tokens")
    return np.array([left, middle, right])
