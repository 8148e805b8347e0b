"""Attention to earlier tokens alone: the first one leads, and centres in the order of tokens gather the others."""

from typing import Any

import numpy as np
from scipy.integrate import quad

from ctsa import theory
from ctsa.geometry import random_tokens
from ctsa.observables import cluster_count
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings
from ctsa.tangent import eigenvalues

from .bench import Bench

D = 3  # tokens of the circle are on the equator, so that JAX compiles once


def run(bench: Bench) -> Findings:
    """Follow the first token and those that it gathers; count centres of tokens of the circle, and see how they rest."""
    n, beta = (32, 64.0) if bench.quick else (200, 64.0)
    ts = np.concatenate([[0.0], np.geomspace(0.1, 1000.0, 41 if bench.quick else 121)])
    opposite = leader(bench, n, len(ts))
    second(bench, n, len(ts))
    rates(bench, 8)
    rows, moved = gathered(bench, n, beta, ts)
    rows += parked(bench, beta)
    notes = [
        f"V = I, beta = {beta:g}, {n} random tokens of the circle; centres are those of the start, with delta = "
        f"4 / sqrt(beta) = {4 / beta**0.5:.2g} along the circle. {moved}",
        "Centres are farther than delta from all centres before them; strong ones from all tokens before them.",
        f"V = diag(1, 1/2, -1/2), beta = 2: {opposite} of {n} random tokens of the two-sphere end opposite to the first.",
    ]
    return bench.found(rows, notes)


def attention(bench: Bench, beta: float, value: Any = None, query: Any = None, key: Any = None) -> Any:
    """Return causal attention with all matrices written out: JAX then compiles once."""
    query, key, value = (np.eye(D) if matrix is None else matrix for matrix in (query, key, value))
    return bench.face.SelfAttention(query, key, value, beta=beta, mask="causal")


def leader(bench: Bench, n: int, count: int) -> int:
    """Check that the first token follows Oja's flow, alone, and where others end; return how many end opposite to it."""
    x, ts = random_tokens(n, D, seed=1), np.append(0.0, np.geomspace(0.1, 40.0, count - 1))
    value = np.diag([1.0, 0.5, -0.5])
    flow = bench.flow(attention(bench, 2.0, value), x, ts, atol=1e-11)
    known = theory.oja_flow(value, x[0], ts)
    xs = as_numpy(flow.xs)
    off = np.abs(xs[:, 0] - known).max()
    bench.check("V = diag(1, 1/2, -1/2): largest distance of the first token from the flow of Oja", off, 0.0, 1e-8,
                source="x(t) = exp(t V) x / |exp(t V) x|")  # fmt: skip
    pole = np.sign(x[0, 0]) * np.eye(D)[0]
    away = np.abs(xs[-1, :, None] - [pole, -pole]).max(-1)
    bench.check("V = diag(1, 1/2, -1/2): largest distance of tokens from the nearer leading eigenvector at t = 40",
                away.min(-1).max(), 0.0, 1e-4, relation="at most", source="arXiv:2411.04990")  # fmt: skip
    opposite = int((away.argmin(-1) == 1).sum())
    query, key = np.random.default_rng(0).normal(size=(2, D, D))
    flow = bench.flow(attention(bench, 1.0, None, query, key), x, ts, atol=1e-11)
    xs = as_numpy(flow.xs)
    bench.check("V = I, random Q and K: how far the first token moves", np.abs(xs[:, 0] - x[0]).max(), 0.0, 1e-12,
                source="it attends to itself alone")  # fmt: skip
    bench.check("V = I, random Q and K: largest distance of tokens from the first at t = 40", np.abs(xs[-1] - x[0]).max(),
                0.0, 1e-4, relation="at most", source="arXiv:2411.04990: one cluster, at the first token")  # fmt: skip
    return opposite


def second(bench: Bench, n: int, count: int) -> None:
    """Check the second token against its closed form: it is half as fast as two tokens that attend to each other."""
    x, g = random_tokens(n, D, seed=2), np.linspace(0.0, 0.999, count)
    x[:2] = np.eye(D)[:2]
    for beta in (1.0, 4.0):
        flow = bench.flow(attention(bench, beta), x, 2 * theory.equiangular_time(g, beta, 2), atol=1e-12)
        xs = as_numpy(flow.xs)
        found = (xs[:, 0] * xs[:, 1]).sum(-1)
        bench.near(
            f"beta = {beta:g}: largest error of <x_1, x_2> from a right angle on",
            found, g, 1e-9, source="twice the equiangular time, n = 2",
        )  # fmt: skip


def rates(bench: Bench, n: int) -> None:
    """Check the spectrum of consensus, ``mu / j - lambda``: where V = I the first token is free, and the second slowest."""
    x = np.repeat(np.eye(D)[:1], n, 0)
    for name, value in (("I", np.eye(D)), ("diag(1, 1/2, -1/2)", np.diag([1.0, 0.5, -0.5]))):
        found = np.sort(eigenvalues(attention(bench, 3.0, value), x).real)[::-1]
        known = theory.consensus_spectrum(value, 0, n, mask="causal").real
        bench.near(
            f"V = {name}: largest error of {len(found)} rates at consensus",
            found, known, 1e-10, source="mu / j - lambda, j = 1 ... n",
        )  # fmt: skip
        if name == "I":
            bench.check("V = I: the slowest of tokens that follow the first", found[D - 1], -0.5, 1e-10,
                        source="1 / 2 - 1")  # fmt: skip


def gathered(bench: Bench, n: int, beta: float, ts: np.ndarray) -> tuple[list[dict[str, Any]], str]:
    """Return paths of tokens of the circle, and in words how centres rest."""
    x = np.zeros((n, D))
    x[:, :2] = random_tokens(n, 2, seed=3)
    flow = bench.keep("tokens of the circle", bench.flow(attention(bench, beta), x, ts, atol=1e-8))
    xs = as_numpy(flow.xs)
    angle = np.unwrap(np.arctan2(xs[..., 1], xs[..., 0]), axis=0)
    weak, strong = (centres(angle[:1], 4 / beta**0.5, kind)[0] for kind in (False, True))
    rows = [
        dict(what="path", t=t, token=i, angle=a, centre=int(weak[i]) + int(strong[i]))
        for t, now in zip(ts, angle, strict=True) for i, a in enumerate(now)
    ]  # fmt: skip
    at = int(np.searchsorted(ts, 30.0))
    gone = np.abs(angle[at] - angle[0])
    near = nearest(angle[at], angle[at, weak])
    told = (
        f"At t = {ts[at]:.3g} the {strong.sum()} strong centres have moved by {gone[strong].max():.2g} at most, the "
        f"{weak.sum()} centres by {gone[weak].max():.2g}, other tokens by {gone[~weak].mean():.2g} on average; there are "
        f"{cluster_count(xs[at], 0.05)} clusters (nearer than .05), and {(near < 0.05).mean():.0%} of the tokens are that "
        f"near to a centre. At t = {ts[-1]:.4g} there are {cluster_count(xs[-1], 0.05)}."
    )
    return rows, told


def centres(angle: np.ndarray, delta: float, strong: bool) -> np.ndarray:
    """Return which tokens are farther than ``delta`` along the circle from all centres (strong: tokens) before them.

    ``angle`` and what is returned are ``(starts, n)``.
    """
    kept = np.zeros(angle.shape, bool)
    for j in range(angle.shape[1]):
        far = np.abs((angle[:, :j] - angle[:, j : j + 1] + np.pi) % (2 * np.pi) - np.pi) > delta
        kept[:, j] = (far if strong else far | ~kept[:, :j]).all(1)
    return kept


def nearest(angle: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return how far along the circle the nearest centre is from each token."""
    return np.abs((angle[:, None] - centre + np.pi) % (2 * np.pi) - np.pi).min(1)


def parked(bench: Bench, beta: float) -> list[dict[str, Any]]:
    """Count centres of random starts, and compare with Renyi's parking and with the exact number of strong ones."""
    starts, n = 1000 if bench.quick else 10_000, 200
    rows = []
    for b in (beta / 4, beta, 4 * beta):
        delta = 4 / b**0.5
        angle = np.random.default_rng(int(b)).uniform(0, 2 * np.pi, (starts, n))
        for strong, known in ((False, parking(n, delta)), (True, strong_number(n, delta))):
            counts = centres(angle, delta, strong).sum(1)
            name = "strong centres" if strong else "centres"
            bench.check(
                f"beta = {b:g}: mean number of {name} of {n} random tokens", counts.mean(), known,
                4 * counts.std() / starts**0.5, source="four standard errors",
            )  # fmt: skip
            rows.append(dict(what=name, beta=b, number=counts.mean(), known=known))
    return rows


def parking(n: int, delta: float) -> float:
    """Return the mean number of centres: cars of length ``delta`` on a circle, of which ``n`` come at random places.

    ``(L / delta) int_0^(n delta / L) exp(-2 int_0^u (1 - exp(-v)) / v dv) du`` with L = 2 pi, up to terms of order 1 / n.
    """
    full = 2 * np.pi / delta
    return full * quad(lambda u: np.exp(-2 * quad(lambda v: -np.expm1(-v) / v, 0, u)[0]), 0, n / full)[0]


def strong_number(n: int, delta: float) -> float:
    """Return the mean number of strong centres: token k + 1 is one with the probability ``(1 - delta / pi)^k``."""
    share = delta / np.pi
    return (1 - (1 - share) ** n) / share


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the angles of tokens against time, and the number of centres against beta; return the two ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    mine = found.where(what="path")
    ts = np.unique(mine["t"])
    angle, kind = mine["angle"].reshape(len(ts), -1), mine["centre"].reshape(len(ts), -1)[0]
    looks = [("0.8", 0.5, "tokens"), ("0.15", 1.2, "centres"), (PALETTE[1], 1.2, "strong centres")]
    for k, (colour, width, _) in enumerate(looks):
        left.plot(ts[1:], angle[1:, kind == k] / np.pi, color=colour, linewidth=width, zorder=2 + k)
    left.set(xscale="log", xlim=(ts[1], ts[-1]), ylim=(None, 1.7 + angle.max() / np.pi - 1))
    finish(left, "time $t$", r"angle / $\pi$", [entry(c, s, mark="") for c, _, s in looks], "upper right")
    legend = []
    for k, name in enumerate(("centres", "strong centres")):
        mine = found.where(what=name)
        right.plot(np.sqrt(mine["beta"]), mine["known"], color=looks[k + 1][0], linewidth=1)
        right.plot(np.sqrt(mine["beta"]), mine["number"], "o", color=looks[k + 1][0], markersize=3)
        legend.append(entry(looks[k + 1][0], name))
    right.set_ylim(0, None)
    finish(right, r"$\sqrt{\beta}$", "mean number", legend)
    return np.array([left, right])
