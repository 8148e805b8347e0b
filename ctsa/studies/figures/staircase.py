"""The energy against the logarithm of time: a staircase, whose steps are mergers of clusters."""

from typing import Any

import numpy as np
from scipy.integrate import quad

from ctsa import theory
from ctsa.geometry import random_tokens
from ctsa.monitors import plateaus
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

GAP = 1e-4


def run(bench: Bench) -> Findings:
    """Integrate tokens of the circle until one cluster is left, and pairs of clusters for several beta."""
    beta, (n, seed, count, end) = 9.0, (16, 4, 200, 1e7) if bench.quick else (64, 0, 400, 1e10)
    ts = np.append(0.0, np.geomspace(1e-2, end, count))
    field = bench.face.SelfAttention(beta=beta)
    flow = bench.flow(field, random_tokens(n, 2, seed=seed), ts, merge=True)
    found = bench.keep("plateaus", plateaus(flow, field))
    step = np.diff(found.curve).min()
    # Outputs are as exact as the solver, and tokens that merge are moved to their mean.
    bench.check("smallest step of the energy, over that of consensus", step, 0.0, 1e-7, relation="at least",
                source="the energy never falls")  # fmt: skip
    rows: list[dict[str, Any]] = [
        dict(what="energy", beta=beta, t=t, energy=e, clusters=int(c))
        for t, e, c in zip(found.ts, found.curve, flow.merges.counts[-len(found.ts) :], strict=True)
    ]
    settled = [k for k in range(len(found)) if 1 <= found.clusters[k] < n // 2]
    off = []
    for k in settled:
        off.append(abs(found.value[k] - found.partition[k]))
        rows.append(dict(what="plateau", beta=beta, t=found.start[k], end=found.end[k], energy=found.value[k],
                         known=found.partition[k], clusters=int(found.clusters[k])))  # fmt: skip
    worst = max(interaction(flow, found, k, beta) for k in settled)
    bench.check(f"largest difference of {len(settled)} plateaus from the sum of (n_q / n)^2", max(off), 0.0, 2 * worst,
                source="arXiv:2410.06833, up to exp(-beta (1 - g)) of the clusters")  # fmt: skip
    bench.check("number of plateaus with less than half as many clusters as tokens", len(settled), 3, relation="at least",
                source="arXiv:2410.06833: a staircase")  # fmt: skip
    more, rate = pairs(bench, n, ts)
    lasting = ", ".join(
        f"{found.clusters[k]} clusters from t = {found.start[k]:.3g} to {found.end[k]:.3g} ({found.value[k]:.4f}, known "
        f"{found.partition[k]:.4f})" for k in settled
    )  # fmt: skip
    notes = [
        f"{n} random tokens of the circle, beta = {beta:g}, until t = {ts[-1]:.0e}: {flow.stats['steps']} steps, "
        f"{len(flow.merges.times)} mergers.",
        f"Plateaus: {lasting}.",
        f"Two equal clusters at a right angle: the logarithm of the time grows by {rate:.3f} a unit of beta at the end, "
        "which nears 1 like 1 - 1 / beta: the time is of the order exp(beta (1 - g)) / beta, with g = 0.",
    ]
    return bench.found(rows + more, notes)


def interaction(flow: Any, found: Any, k: int, beta: float) -> float:
    """Return the part of the energy that pairs of different clusters have in the middle of a plateau, if they rest."""
    middle = np.searchsorted(as_numpy(flow.ts), (found.start[k] * found.end[k]) ** 0.5)
    x = as_numpy(flow.xs)[middle]
    g = x @ x.T
    return float(np.where(g < 0.9, np.exp(beta * (g - 1)), 0.0).mean())


def pairs(bench: Bench, n: int, ts: np.ndarray) -> tuple[list[dict[str, Any]], float]:
    """Measure when two clusters at a right angle meet, equal and unequal ones, and compare with the exact time."""
    rows: list[dict[str, Any]] = []
    betas = (2.0, 4.0, 6.0, 8.0) if bench.quick else (2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
    for share in (2, 4):
        few = n // share
        x = np.where((np.arange(n) < few)[:, None], [1.0, 0.0], [0.0, 1.0])
        for beta in betas:
            field = bench.face.SelfAttention(beta=beta)
            flow = bench.flow(field, x, ts, merge=GAP, atol=1e-10)
            time, known = float(flow.merges.times[-1]), merge_time(beta, 1 / share)
            rows.append(dict(what=f"1/{share} of tokens", beta=beta, t=time, known=known))
        wrong = max(abs(row["t"] / row["known"] - 1) for row in rows[-len(betas) :])
        bench.check(
            f"two clusters at a right angle, 1/{share} of the tokens in one: largest relative error of when they meet",
            wrong, 0.0, 1e-5, source="quadrature of the angle's equation",
        )  # fmt: skip
    last, before = rows[len(betas) - 1], rows[len(betas) - 2]
    g = 1 - GAP**2 / 2
    half = theory.equiangular_time(g, last["beta"], 2)
    bench.check(f"beta = {last['beta']:g}: when two equal clusters meet, over the equiangular time", last["t"] / half, 1.0,
                1e-5, source="closed form, n = 2")  # fmt: skip
    rate = np.log(last["t"] / before["t"]) / (last["beta"] - before["beta"])
    return rows, float(rate)


def merge_time(beta: float, share: float) -> float:
    """Return when two clusters of masses ``share`` and ``1 - share``, a quarter of a turn apart, are nearer than the gap.

    The angle between them obeys ``a' = -(m / (l c + m) + l / (m c + l)) sin a``, ``c = exp(beta (1 - cos a))``.
    """
    l, m = share, 1 - share

    def slowness(s: float) -> float:  # of s = log a
        a = np.exp(s)
        c = np.exp(2 * beta * np.sin(a / 2) ** 2)
        return a / ((m / (l * c + m) + l / (m * c + l)) * np.sin(a))

    low, high = np.log(2 * np.arcsin(GAP / 2)), np.log(np.pi / 2)
    return quad(slowness, low, high, epsabs=0, epsrel=1e-12, limit=500)[0]


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the energy with its plateaus, and times of meeting against beta; return the two ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    run, steps = found.where(what="energy"), found.where(what="plateau")
    left.plot(run["t"], run["energy"], color=PALETTE[0], linewidth=1.2, zorder=3)
    for start, end, known, count in zip(steps["t"], steps["end"], steps["known"], steps["clusters"], strict=True):
        left.plot([start, end], [known, known], color=PALETTE[1], linewidth=4, alpha=0.4, solid_capstyle="butt")
        left.annotate(
            f"{count:g}", ((start * end) ** 0.5, known), (0, 4), textcoords="offset points", fontsize=7, ha="center"
        )
    left.set(xscale="log", ylim=(0, 1.1))
    told = [
        entry(PALETTE[0], "energy over that of consensus", mark=""),
        entry(PALETTE[1], r"$\sum_q (n_q / n)^2$", mark=""),
    ]
    finish(left, "time $t$", "energy", told, "upper left")
    legend = []
    for k, share in enumerate((2, 4)):
        mine = found.where(what=f"1/{share} of tokens")
        right.plot(mine["beta"], mine["known"], color=PALETTE[k], linewidth=1)
        right.plot(mine["beta"], mine["t"], "o", color=PALETTE[k], markersize=3)
        legend.append(entry(PALETTE[k], f"1/{share} of the tokens in one"))
    right.set_yscale("log")
    finish(right, r"$\beta$", "two clusters meet at $t$", legend)
    return np.array([left, right])
