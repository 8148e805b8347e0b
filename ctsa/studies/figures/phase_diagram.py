"""Probability that tokens have met, against beta and time, beside the curve of equiangular tokens."""

from typing import Any

import numpy as np

from ctsa import theory
from ctsa.geometry import random_tokens
from ctsa.observables import gram
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

N, MET = 32, 0.999
DIMENSIONS = (2, 8, 128)


def run(bench: Bench) -> Findings:
    """Integrate random tokens for a grid of beta, and orthonormal ones, whose solution is known."""
    betas = np.array([0.1, 1.0, 3.0, 5.0, 7.0, 9.0]) if bench.quick else np.linspace(0.1, 9.0, 24)
    starts, ts = (6, np.linspace(0.0, 30.0, 31)) if bench.quick else (64, np.linspace(0.0, 30.0, 121))
    rows: list[dict[str, Any]] = []
    orthonormal(bench, min(starts, 6), len(ts))
    off = []
    for d in DIMENSIONS:
        # Tokens of a subspace stay in it: one size for all, so that JAX compiles once.
        x = np.zeros((starts, N, DIMENSIONS[-1]))
        x[..., :d] = random_tokens(N, d, seed=0, batch=(starts,))
        for beta in betas:
            flow = bench.flow(bench.face.SelfAttention(beta=beta), x, ts, atol=1e-6)
            pairs = products(flow.xs)
            met, mean, known = (pairs > MET).mean((1, 2)), pairs.mean((1, 2)), equiangular(ts, beta)
            off.append((d, beta, np.abs(mean - known).max(), crossing(ts, met)))
            rows += [
                dict(d=d, beta=beta, t=t, met=p, mean=m, equiangular=g)
                for t, p, m, g in zip(ts, met, mean, known, strict=True)
            ]
        bench.say(f"d = {d}: half of the pairs have met at {', '.join(f'{half:.3g}' for e, *_, half in off if e == d)}")
    gaps = [gap for d, beta, gap, _ in off if d == DIMENSIONS[-1] and beta <= 3]
    bench.check(
        f"d = {DIMENSIONS[-1]}, beta up to 3: largest difference of the mean product from that of equiangular tokens",
        max(gaps), 0.0, 4 / DIMENSIONS[-1], relation="at most", source="arXiv:2312.10794, many dimensions: 4 / d",
    )  # fmt: skip
    last = [row["met"] for row in rows if row["beta"] <= 1 and row["t"] == ts[-1]]
    bench.check("beta up to 1: least share of pairs that have met at t = 30, in every dimension", min(last), 1.0, 0.01,
                relation="at least", source="arXiv:2312.10794: one cluster")  # fmt: skip
    return bench.found(rows, notes(off, starts))


def orthonormal(bench: Bench, starts: int, count: int) -> None:
    """Check tokens that start orthonormal: they stay equiangular, and their product is known at all times."""
    frames = np.random.default_rng(0).normal(size=(starts, DIMENSIONS[-1], N))
    x, wanted = np.linalg.qr(frames)[0].swapaxes(1, 2), np.linspace(0.0, MET, count)
    for beta in (0.0, 2.0, 4.0, 6.0):
        ts = theory.equiangular_time(wanted, beta, N)
        flow = bench.flow(bench.face.SelfAttention(beta=beta), x, ts, atol=1e-12)
        worst = np.abs(products(flow.xs) - wanted[:, None, None]).max()
        bench.check(
            f"beta = {beta:g}: largest error of products of orthonormal tokens until they have met at t = {ts[-1]:.5g}",
            worst, 0.0, 1e-9, source="equiangular solution, n = 32",
        )  # fmt: skip


def products(xs: Any) -> np.ndarray:
    """Return the inner products of all pairs: ``(T, starts, n, d)`` to ``(T, starts, pairs)``."""
    upper = np.triu_indices(N, 1)
    return as_numpy(gram(xs))[..., upper[0], upper[1]]


def equiangular(ts: np.ndarray, beta: float) -> np.ndarray:
    """Return the product at ``ts`` of tokens that start orthogonal."""
    g = np.concatenate([np.linspace(0.0, 0.99, 2000), 1 - np.geomspace(0.01, 1e-12, 400)])
    return np.interp(ts, theory.equiangular_time(g, beta, N), g)


def crossing(ts: np.ndarray, met: np.ndarray) -> float:
    """Return when half of the pairs have met; nan if they have not."""
    after = np.flatnonzero(met >= 0.5)
    return float(ts[after[0]]) if len(after) else float("nan")


def notes(off: list, starts: int) -> list[str]:
    """Return in words where random tokens differ from equiangular ones, and where they do not meet."""
    high = [(beta, gap, half) for d, beta, gap, half in off if d == DIMENSIONS[-1]]
    worst = max(high, key=lambda each: each[1])
    plane = [(beta, half) for d, beta, _, half in off if d == 2 and np.isnan(half)]
    early, stronger = theory.equiangular_time(MET, worst[0], N), np.exp(worst[0] ** 2 / (2 * DIMENSIONS[-1]))
    told = [
        f"{starts} random starts of {N} tokens for each of d = 2, 8, 128; pairs have met where <x_i, x_j> > {MET}.",
        f"d = 128: random tokens differ the most from equiangular ones at beta = {worst[0]:.3g}, by {worst[1]:.2g} in the "
        f"mean product: half of the pairs have met by t = {worst[2]:.3g}, where equiangular ones meet at {early:.4g}. "
        f"Products of variance 1 / d make attraction exp(beta^2 / (2 d)) = {stronger:.3g} times as strong at first.",
    ]
    if plane:
        told.append(
            f"d = 2: from beta = {plane[0][0]:.3g} on clusters stay apart, and half of the pairs have not met by t = 30."
        )
    return told


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the share of pairs that have met, a panel a dimension, and when equiangular tokens meet; return the ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    axes = panels(axes, len(DIMENSIONS), height=2.4)
    for ax, d in zip(axes, DIMENSIONS, strict=True):
        mine = found.where(d=d)
        ts, betas = np.unique(mine["t"]), np.unique(mine["beta"])
        image = ax.pcolormesh(
            ts, betas, mine["met"].reshape(len(betas), len(ts)), vmin=0, vmax=1, shading="nearest", rasterized=True
        )
        fine = np.linspace(betas[0], betas[-1], 200)
        ax.plot(theory.equiangular_time(MET, fine, N), fine, color=PALETTE[1], linewidth=1.2)
        ax.set_xlim(ts[0], ts[-1])
        finish(ax, "time $t$", r"$\beta$" if d == DIMENSIONS[0] else "")
        ax.set_title(f"$d$ = {d}", fontsize=8)
    bar = axes[-1].figure.colorbar(image, ax=list(axes), pad=0.02)
    bar.set_label("share of pairs that have met", fontsize=8)
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)
    bar.outline.set_linewidth(0.6)
    line = entry(PALETTE[1], "equiangular", mark="")
    axes[0].legend(handles=[line], fontsize=7, frameon=False, labelcolor="white", handlelength=1.4, loc="upper right")
    return axes
