"""Tokens spread evenly on the circle: which modes grow, how fast, and how many clusters there are in the end."""

from typing import Any

import numpy as np

from ctsa import theory
from ctsa._backend import load
from ctsa.flows import integrate
from ctsa.geometry import random_tokens
from ctsa.observables import cluster_count
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

MODES = np.arange(1, 13)


def run(bench: Bench) -> Findings:
    """Measure growth rates by the linearisation at the even state, and count clusters of random tokens."""
    betas = (1.0, 4.0, 16.0) if bench.quick else (1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 64.0)
    n, starts = (256, 4) if bench.quick else (2048, 16)
    rows: list[dict[str, Any]] = []
    for beta in betas:
        field = bench.face.SelfAttention(beta=beta)
        found, known = growth(bench, field, n), theory.uniform_growth_rate(MODES, beta)
        bench.near(
            f"beta = {beta:g}: largest error of the growth of modes 1 to {MODES[-1]}",
            found, known, 1e-10, source="k^2 I_k(beta) / (beta I_0(beta))",
        )  # fmt: skip
        fastest = int(MODES[found.argmax()])
        counts = clusters(bench, field, beta, starts)
        for k, rate, exact in zip(MODES, found, known, strict=True):
            rows.append(dict(beta=beta, mode=int(k), rate=rate, known=exact, fastest=fastest,
                             clusters=counts.mean(), spread=counts.std()))  # fmt: skip
        bench.say(f"beta = {beta:g}: mode {fastest} grows fastest, {counts.mean():.2f} clusters")
    table = {beta: (fastest, mean) for beta, fastest, mean in ((r["beta"], r["fastest"], r["clusters"]) for r in rows)}
    large = [beta for beta in table if beta >= 4]
    ratio = np.array([table[beta][1] / np.sqrt(beta) for beta in large])
    bench.check("clusters over sqrt(beta), largest over smallest", ratio.max() / ratio.min(), 1.0, 0.5,
                source="number of clusters ~ sqrt(beta)")  # fmt: skip
    told = ", ".join(f"{mean:.2f} at beta = {beta:g} (mode {fastest})" for beta, (fastest, mean) in table.items())
    notes = [
        f"Growth rates by the derivative of the velocity of {n} even tokens; clusters of {starts} random starts of 64 "
        "tokens, groups nearer than .1, at t = 20.",
        f"Clusters, and the mode that grows fastest: {told}.",
    ]
    return bench.found(rows, notes)


def growth(bench: Bench, field: Any, n: int) -> np.ndarray:
    """Return the growth rates of the modes of ``n`` even tokens: how much of itself a mode's derivative has."""
    angle = 2 * np.pi * np.arange(n) / n
    x, along = np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([-np.sin(angle), np.cos(angle)], 1)
    u = np.sin(MODES[:, None] * angle)[..., None] * along
    be = load(bench.backend)
    _, moved = field.tangent(0.0, be.asarray(x), be.asarray(u))
    return (as_numpy(moved) * u).sum((1, 2)) / (u * u).sum((1, 2))


def clusters(bench: Bench, field: Any, beta: float, starts: int) -> np.ndarray:
    """Return the numbers of clusters of random tokens, a start each."""
    x = random_tokens(64, 2, seed=0, batch=(starts,))
    flow = integrate(field, x, [0.0, 2.0, 20.0], atol=1e-6, progress=False)
    bench.keep(f"beta = {beta:g}", flow)
    return cluster_count(flow.xs[-1], 0.1)


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw growth rates against the mode, and clusters against beta; return the two ``Axes``."""
    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    betas = list(dict.fromkeys(found.rows["beta"]))
    fastest, mean, spread, legend = [], [], [], []
    for beta in betas:
        mine = found.where(beta=beta)
        (line,) = left.plot(mine["mode"], mine["known"], linewidth=1)
        left.plot(mine["mode"], mine["rate"], "o", color=line.get_color(), markersize=3)
        legend.append(entry(line.get_color(), rf"$\beta$ = {beta:g}"))
        fastest.append(mine["fastest"][0])
        mean.append(mine["clusters"][0])
        spread.append(mine["spread"][0])
    bars = right.errorbar(np.sqrt(betas), mean, spread, fmt="o", markersize=3, capsize=2)
    (line,) = right.plot(np.sqrt(betas), fastest, linewidth=1)
    told = [
        entry(bars[0].get_color(), "clusters of random tokens", ""),
        entry(line.get_color(), "fastest mode", mark=""),
    ]
    finish(left, "mode $k$", "growth rate", legend)
    finish(right, r"$\sqrt{\beta}$", "number", told)
    return np.array([left, right])
