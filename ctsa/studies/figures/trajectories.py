"""Tokens of the two-sphere: how they gather, what stays as it is, and who is sure to meet."""

from typing import Any

import numpy as np

from ctsa import theory
from ctsa.geometry import random_tokens
from ctsa.observables import clusters, energy
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

D = 3
EXTRA = "random Q, K, V"


def run(bench: Bench) -> Findings:
    """Integrate tokens with Q = K = V = I for several beta, and with random matrices; check what theorems say of them."""
    betas = (1.0, 9.0) if bench.quick else (1.0, 4.0, 9.0)
    n, times = (16, np.linspace(0.0, 20.0, 33)) if bench.quick else (32, np.linspace(0.0, 20.0, 81))
    rows: list[dict[str, Any]] = []
    told = []
    x = random_tokens(n, D, seed=1)
    systems = [(f"beta = {beta:g}", same(bench, beta)) for beta in betas]
    random = np.random.default_rng(0).normal(size=(3, D, D)) / D**0.5
    systems.append((EXTRA, bench.face.SelfAttention(*random, beta=1.0)))
    for name, field in systems:
        flow = bench.flow(field, x, times, atol=1e-10)
        if name == f"beta = {betas[-1]:g}":
            bench.keep(name, flow)
        xs, labels = as_numpy(flow.xs), clusters(flow.xs, 0.05)
        if name != EXTRA:
            height = as_numpy(energy(field, flow.xs))
            height = height / as_numpy(energy(field, flow.xs[:1, :1] + 0 * flow.xs[:1]))
            bench.check(f"{name}: smallest step of the energy, over that of consensus", np.diff(height).min(), 0.0, 1e-12,
                        relation="at least", source="the energy never falls")  # fmt: skip
        counts = labels.max(-1) + 1
        rows += [
            dict(system=name, t=t, token=i, x=p[0], y=p[1], z=p[2], clusters=int(counts[k]))
            for k, t in enumerate(times) for i, p in enumerate(xs[k])
        ]  # fmt: skip
        told.append(f"{counts[len(times) // 4]} at t = 5 and {counts[-1]} at t = 20 ({name})")
        bench.say(f"{name}: {counts[-1]} clusters at t = 20")
    conserved(bench, x, times)
    hemisphere(bench, n, times)
    wendel(bench)
    notes = [
        f"{n} random tokens, the same for every system; clusters are groups nearer than .05: {'; '.join(told)}.",
        "With Q = K = V = I and d = 3 one cluster remains of almost every start, but after a time that grows as exp(beta).",
    ]
    return bench.found(rows, notes)


def same(bench: Bench, beta: float) -> Any:
    """Return attention with Q = K = V = I, written out: JAX then compiles once for it and for other matrices."""
    eye = np.eye(D)
    return bench.face.SelfAttention(eye, eye, eye, beta=beta)


def conserved(bench: Bench, x: np.ndarray, times: np.ndarray) -> None:
    """Check that cross-ratios of four tokens stay as they are where beta = 0."""
    flow = bench.flow(same(bench, 0.0), x, times / 10, atol=1e-12)
    xs = as_numpy(flow.xs)[:, : x.shape[0] // 4 * 4].reshape(len(times), -1, 4, D)
    # The squares of chords, which are 2 (1 - <x_i, x_j>), keep their digits where tokens are close.
    chord = ((xs[:, :, :, None] - xs[:, :, None]) ** 2).sum(-1)
    ratio = chord[..., 0, 1] * chord[..., 2, 3] / (chord[..., 0, 2] * chord[..., 1, 3])
    bench.check("beta = 0: largest relative change of a cross-ratio until t = 2", np.abs(ratio / ratio[0] - 1).max(), 0.0,
                1e-9, source="cross-ratios of 1 - <x_i, x_j> are conserved")  # fmt: skip


def hemisphere(bench: Bench, n: int, times: np.ndarray) -> None:
    """Check that tokens of an open hemisphere stay in it, ever deeper, and meet."""
    x, pole = random_tokens(n, D, seed=2), np.array([0.0, 0.0, 1.0])
    x = np.where((x @ pole < 0)[:, None], -x, x)
    flow = bench.flow(same(bench, 1.0), x, times, atol=1e-10)
    lowest = (as_numpy(flow.xs) @ pole).min(-1)
    # Next to where they meet, steps are as small as the error of the solver.
    bench.check("hemisphere: smallest step of the lowest height above the equator", np.diff(lowest).min(), 0.0, 1e-9,
                relation="at least", source="arXiv:2312.10794: hemispheres are kept")  # fmt: skip
    xs = as_numpy(flow.xs[-1])
    bench.check("hemisphere: largest distance of tokens at t = 20", np.linalg.norm(xs - xs[:1], axis=-1).max(), 0.0, 1e-6,
                relation="at most", source="arXiv:2312.10794: they meet, at the rate 1")  # fmt: skip


def wendel(bench: Bench) -> None:
    """Check how often random tokens start in an open hemisphere."""
    starts = 4000 if bench.quick else 40_000
    for n in (5, 6, 8):
        x = random_tokens(n, D, seed=n, batch=(starts,))
        known = theory.hemisphere_probability(n, D)
        bench.check(
            f"share of {starts} random starts of {n} tokens that lie in an open hemisphere", in_hemisphere(x).mean(), known,
            4 * (known * (1 - known) / starts) ** 0.5, source="Wendel, four standard errors",
        )  # fmt: skip


def in_hemisphere(x: np.ndarray) -> np.ndarray:
    """Return whether tokens ``(..., n, 3)`` lie in an open hemisphere: it can be turned until two are on its rim."""
    i, j = np.triu_indices(x.shape[-2], 1)
    normal = np.cross(x[..., i, :], x[..., j, :])
    side = np.einsum("...pk,...nk->...pn", normal, x)
    pair = np.arange(len(i))
    side[..., pair, i] = side[..., pair, j] = 0.0  # but for rounding
    return ((side >= 0).all(-1) | (side <= 0).all(-1)).any(-1)


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the paths of tokens, a globe a system; return the ``Axes``."""
    from ctsa.plot.tokens import sphere

    from .drawing import panels

    systems = list(dict.fromkeys(found.rows["system"]))
    axes = panels(axes, len(systems), height=2.5, projection="3d")
    for ax, name in zip(axes, systems, strict=True):
        mine = found.where(system=name)
        ts = np.unique(mine["t"])
        xs = np.stack([mine[key] for key in "xyz"], -1).reshape(len(ts), -1, D)
        ax.view_init(elev=20, azim=azimuth(xs[-1]))
        sphere((ts, xs), ax=ax, labels=clusters(xs[-1], 0.05))
        ax.set_box_aspect((1, 1, 1), zoom=1.35)
        ax.set_title(name.replace("beta", r"$\beta$"), fontsize=8, y=1.0)
    return axes


def azimuth(x: np.ndarray) -> float:
    """Return from where most tokens are seen, in degrees."""
    angle = np.radians(np.arange(0, 360, 5))
    seen = (x[:, :2] @ np.stack([np.cos(angle), np.sin(angle)])).clip(0).sum(0)
    return float(np.degrees(angle[seen.argmax()]))
