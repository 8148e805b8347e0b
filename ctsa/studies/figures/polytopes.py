"""Tokens without normalisation: rescaled, they go to the ends of a polytope, or to planes; repelled, they are Gaussian."""

from typing import Any

import numpy as np

from ctsa.geometry import Euclidean
from ctsa.observables import cluster_count
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

D = 2
PLANES = np.diag([1.0, 0.5])


def run(bench: Bench) -> Findings:
    """Integrate tokens in flat space under V = I, V = diag(1, 1/2) and V = -I."""
    side = 8 if bench.quick else 12
    x = np.random.default_rng(3).normal(size=(side**2, D))
    rows = polytope(bench, x) + planes(bench, x) + gaussian(bench, side)
    vertices = cluster_count(ends(rows, "V = I"), 0.01)
    stripes = cluster_count(ends(rows, "V = diag(1, 1/2)")[:, :1], 0.01)
    notes = [
        f"V = I: {side**2} tokens, rescaled by exp(-t), end at {vertices} points, which they near like exp(-t).",
        f"V = diag(1, 1/2): the first component of tokens, rescaled by exp(-t V), has {stripes} values in the end.",
        "V = -I: tokens at the nodes of a Gauss-Hermite rule, of its masses, stand for a Gaussian density, and stay one: a "
        "linear map moves them.",
    ]
    return bench.found(rows, notes)


def rescaled(bench: Bench, value: np.ndarray, x: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """Return ``exp(-t V) x`` along the flow, ``(T, n, d)``."""
    flow = bench.flow(attention(bench, value, np.ones(len(x))), x, ts, rtol=1e-10, atol=1e-12)
    return as_numpy(flow.xs) * np.exp(-ts[:, None, None] * np.diag(value))


def attention(bench: Bench, value: np.ndarray, masses: np.ndarray) -> Any:
    """Return attention in flat space with masses: one size and kind for all three systems, so that JAX compiles once."""
    return bench.face.SelfAttention(value=value, masses=masses, geometry=Euclidean())


def paths(system: str, ts: np.ndarray, z: np.ndarray) -> list[dict[str, Any]]:
    """Return a row a time and token."""
    return [
        dict(system=system, t=t, token=i, x=p[0], y=p[1])
        for t, now in zip(ts, z, strict=True)
        for i, p in enumerate(now)
    ]


def ends(rows: list[dict[str, Any]], system: str) -> np.ndarray:
    """Return where the tokens of a system end, ``(n, d)``."""
    mine = [row for row in rows if row["system"] == system]
    return np.array([[row["x"], row["y"]] for row in mine if row["t"] == mine[-1]["t"]])


def polytope(bench: Bench, x: np.ndarray) -> list[dict[str, Any]]:
    """Check that the convex hull shrinks, and that every token ends where no other is further in its own direction."""
    ts = 12 * np.linspace(0.0, 1.0, 25) ** 2
    z = rescaled(bench, np.eye(D), x, ts)
    angle = 2 * np.pi * np.arange(360) / 360
    support = (z @ np.stack([np.cos(angle), np.sin(angle)])).max(1)  # (T, 360)
    bench.check("V = I: largest growth of the hull of rescaled tokens, in 360 directions", np.diff(support, axis=0).max(),
                0.0, 1e-9, relation="at most", source="arXiv:2305.05465: it shrinks")  # fmt: skip
    own = (z[-1] ** 2).sum(-1)
    ahead = ((z[-1] @ z[-1].T).max(-1) - own) / own.max()
    bench.check(
        f"V = I: at t = {ts[-1]:g} largest max_j <z_i, z_j> - |z_i|^2 of rescaled tokens, over the largest |z|^2",
        ahead.max(), 0.0, 5 * np.exp(-ts[-1]), relation="at most",
        source="arXiv:2305.05465: ends of a polytope, or feet of perpendiculars to its faces",
    )  # fmt: skip
    return paths("V = I", ts, z)


def planes(bench: Bench, x: np.ndarray) -> list[dict[str, Any]]:
    """Check that the leading component of rescaled tokens has no more than three values in the end."""
    ts = 12 * np.linspace(0.0, 1.0, 25) ** 2
    z = rescaled(bench, PLANES, x, ts)
    first = z[-1, :, 0]
    values = np.array([first.min(), 0.0, first.max()])
    off = np.abs(first[:, None] - values).min(-1).max()
    bench.check(
        f"V = diag(1, 1/2): at t = {ts[-1]:g} largest distance of tokens from three lines, over that of the outer two",
        off / np.ptp(values), 0.0, 1e-3, relation="at most", source="arXiv:2305.05465: at most three hyperplanes",
    )  # fmt: skip
    return paths("V = diag(1, 1/2)", ts, z)


def gaussian(bench: Bench, side: int) -> list[dict[str, Any]]:
    """Check the covariance of a Gaussian density under V = -I against ``S / (1 + 2 t S)``, and its mean."""
    ts = np.concatenate([[0.0], np.geomspace(0.1, 1000.0, 24)])
    nodes, masses = np.polynomial.hermite_e.hermegauss(side)
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, D)
    mass = np.outer(masses, masses).ravel() / masses.sum() ** 2
    start, mean = np.array([0.16, 0.04]), np.array([0.2, -0.1])
    x = mean + grid * np.sqrt(start)
    flow = bench.keep("V = -I", bench.flow(attention(bench, -np.eye(D), mass), x, ts, rtol=1e-10, atol=1e-13))
    xs = as_numpy(flow.xs)
    middle = np.einsum("n,tni->ti", mass, xs)
    around = xs - middle[:, None]
    spread = np.einsum("n,tni,tnj->tij", mass, around, around)
    s = start / (1 + 2 * ts[:, None] * start)
    # mean' = -(1 + Sigma) mean, with int Sigma = log(1 + 2 t S) / 2
    m = mean * np.exp(-ts[:, None]) / np.sqrt(1 + 2 * ts[:, None] * start)
    known = s[:, :, None] * np.eye(D)
    bench.check("V = -I: largest error of the covariance of a Gaussian density, over its trace",
                (np.abs(spread - known).max((1, 2)) / s.sum(-1)).max(), 0.0, 1e-6, source="S / (1 + 2 t S)")  # fmt: skip
    bench.near("V = -I: largest error of its mean", middle, m, 1e-7, source="mean' = -(1 + Sigma) mean")
    off = np.abs(2 * ts[-1] * spread[-1] - np.eye(D)).max()
    bench.check(f"V = -I: largest difference of 2 t Sigma from the identity at t = {ts[-1]:g}", off, 0.0,
                1.01 / (1 + 2 * ts[-1] * start.min()), source="Sigma ~ I / (2 t), whatever the start")  # fmt: skip
    return [
        dict(system="V = -I", t=t, token=i, variance=v[i, i], known=k[i])
        for t, v, k in zip(ts, spread, s, strict=True) for i in range(D)
    ]  # fmt: skip


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw paths of rescaled tokens under two V, and the variance of Gaussian tokens against time; return the ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    axes = panels(axes, 3, height=2.4)
    for ax, name in zip(axes, ("V = I", "V = diag(1, 1/2)"), strict=False):
        mine = found.where(system=name)
        count = len(np.unique(mine["token"]))
        z = np.stack([mine["x"], mine["y"]], -1).reshape(-1, count, D)
        for path in z.swapaxes(0, 1):
            ax.plot(*path.T, color="0.75", linewidth=0.6, zorder=1)
        ax.scatter(*z[0].T, s=6, facecolors="white", edgecolors="0.5", linewidths=0.5, zorder=2)
        ax.scatter(*z[-1].T, s=14, color=PALETTE[1], linewidths=0, zorder=4)
        if name == "V = I":
            hull = z[-1][outline(z[-1])]
            ax.fill(*hull.T, facecolor="none", edgecolor=PALETTE[0], linewidth=1, zorder=3)
        else:
            for x in (z[-1, :, 0].min(), 0.0, z[-1, :, 0].max()):
                ax.axvline(x, color=PALETTE[0], linewidth=1, zorder=3)
        finish(ax, "$z_1$", "$z_2$")
        ax.set_title(name.replace("V", "$V$").replace("= I", "= $I$"), fontsize=8)
    mine, legend = found.where(system="V = -I"), []
    for i in range(D):
        own = mine["token"] == i
        ax = axes[2]
        ax.plot(1 + mine["t"][own], 2 * mine["known"][own] * (1 + mine["t"][own]), color=PALETTE[i], linewidth=1)
        ax.plot(
            1 + mine["t"][own], 2 * mine["variance"][own] * (1 + mine["t"][own]), "o", color=PALETTE[i], markersize=3
        )
        legend.append(entry(PALETTE[i], f"component {i + 1}"))
    axes[2].set_xscale("log")
    finish(axes[2], "$1 + t$", r"$2\,(1 + t)\,\Sigma_{ii}$", legend)
    axes[2].set_title("$V = -I$", fontsize=8)
    return axes


def outline(points: np.ndarray) -> np.ndarray:
    """Return the indices of the ends of the convex hull, around it."""
    from scipy.spatial import ConvexHull

    return ConvexHull(points).vertices
