"""Many attractors at once: how many states are stable, from which beta on, and where random starts go."""

import math
from typing import Any

import numpy as np

import ctsa
from ctsa import theory
from ctsa._backend import load
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

N, D = 10, 3
SYSTEMS = {"V": np.diag([3.0, 2.0, 1.0]), "W": np.diag([2.0, 1.0, -3.0])}
BETAS = (0.1, 0.25, 0.5, 1.0)
SPLITS = (5, 7, 9)
EXAMPLES = (("V", 4.0, "consensus"), ("V", 4.0, "bipartite consensus"), ("W", 4.0, "clustering"))

SHARES = (
    ("V", 1.0, "bipartite consensus", 0.8682),
    ("V", 4.0, "bipartite consensus", 0.9903),
    ("W", 4.0, "clustering", 0.7408),
)


def run(bench: Bench) -> Findings:
    """Count stable states by their Jacobians, follow some of them through beta, and sample random starts."""
    counted = counts(bench)
    rows = [*counted, *thresholds(bench), *sampled(bench)]
    told = "; ".join(
        f"{name}: " + ", ".join(f"{r['count']} at {r['beta']:g}" for r in counted if r["system"] == name)
        for name in SYSTEMS
    )
    shares = "; ".join(
        f"{r['system']}, beta = {r['beta']:g}: {100 * r['share']:.2f} % {r['kind']}"
        for r in rows
        if r["part"] == "share"
    )
    notes = [
        f"{N} tokens, d = {D}, Q^T K = V = diag(3, 2, 1), and W = diag(2, 1, -3) for both. Stable states at the ends of "
        f"eigenvectors, of {3 * 2**N}, by beta: {told}.",
        f"Where random starts go: {shares}.",
    ]
    return bench.found(rows, notes)


def field_of(bench: Bench, name: str, beta: float) -> Any:
    """Return attention with ``Q^T K`` and value of a system."""
    m = SYSTEMS[name]
    return bench.face.SelfAttention(query=m, key=np.eye(D), value=m, beta=beta)


def state(k: int, n_plus: int) -> np.ndarray:
    """Return ``n_plus`` tokens at the axis k and the others at its opposite."""
    return np.array([1.0] * n_plus + [-1.0] * (N - n_plus))[:, None] * np.eye(D)[k]


def counts(bench: Bench) -> list[dict[str, Any]]:
    """Count stable states by the Jacobian of one state a split, or of every state, and hold it against the census."""
    rows, be = [], load(bench.backend)
    signs = (np.arange(2**N)[:, None] >> np.arange(N)) % 2 * 2.0 - 1.0
    for name, m in SYSTEMS.items():
        axes = np.argsort(-np.diag(m))
        for beta in BETAS:
            field, found = field_of(bench, name, beta), {"consensus": 0, "bipartite consensus": 0}
            for axis in axes:
                if bench.quick:  # tokens are alike: one state stands for all of its split
                    tried = [(state(axis, p), math.comb(N, p)) for p in range(N + 1)]
                else:
                    tried = [(s[:, None] * np.eye(D)[axis], 1) for s in signs]
                for x, ways in tried:
                    one = abs(x.sum()) == N
                    stable = ctsa.eigenvalues(field, be.asarray(x))[0].real < 0
                    found["consensus" if one else "bipartite consensus"] += ways * bool(stable)
            known = {kind: sum(theory.census(m, m, beta, N)[kind, k] for k in range(D)) for kind in found}
            for kind, count in found.items():
                bench.check(
                    f"{name}, beta = {beta:g}: stable states, {kind}", count, known[kind], source="closed spectra"
                )
            rows.append(dict(part="count", system=name, beta=beta, count=sum(found.values())))
    return rows


def thresholds(bench: Bench) -> list[dict[str, Any]]:
    """Follow bipartite consensus through beta; it turns stable where the closed form says."""
    rows, v = [], SYSTEMS["V"]
    for p in SPLITS:
        known = theory.bipartite_threshold(v, v, 0, p, N - p)
        branch = ctsa.continue_equilibrium(
            field_of(bench, "V", 1.0), load(bench.backend).asarray(state(0, p)), "beta", (0.1, 1.2), step=0.05
        )
        bench.keep(f"{p} + {N - p}", branch)
        order = np.argsort(as_numpy(branch.parameters))
        betas, rates = as_numpy(branch.parameters)[order], as_numpy(branch.eigenvalues).real[order, 0]
        found = max(point.parameter for point in branch.points)
        bench.check(f"{p} + {N - p} tokens turn stable at beta", found, known, 1e-8, source="bipartite threshold")
        after, before = rates[betas > known + 1e-3], rates[betas < known - 1e-3]
        wrong = (after >= 0).sum() + (before <= 0).sum()
        bench.check(f"{p} + {N - p}: unstable points above it and stable ones below", wrong, 0, source="one threshold")
        rows += [
            dict(part="rate", system="V", split=p, beta=float(b), rate=float(r), threshold=float(known))
            for b, r in zip(betas, rates, strict=True)
        ]
    return rows


def sampled(bench: Bench) -> list[dict[str, Any]]:
    """Follow random starts to their limits, and three of them in time."""
    starts = 200 if bench.quick else 10_000
    rows, limits = [], {}
    for name, beta in (("V", 0.25), ("V", 1.0), ("V", 4.0), ("W", 4.0)):
        basins = ctsa.basins(field_of(bench, name, beta), starts, n=N, d=D, seed=1, progress=False)
        limits[name, beta] = basins
        here = theory.census(SYSTEMS[name], SYSTEMS[name], beta, N)
        allowed = {f"{kind} on v{k}" for (kind, k), count in here.items() if count}
        for kind in basins.counts("kind"):
            share, low, high = basins.share(kind)  # "unresolved": some pass a saddle when time is up
            rows.append(dict(part="share", system=name, beta=beta, kind=kind, share=share, low=low, high=high))
        aligned = [key for key in basins.counts() if " on v" in key]
        bench.check(f"{name}, beta = {beta:g}: limits on an eigenvector whose census is zero",
                    sum(basins.counts()[key] for key in aligned if key not in allowed), 0, source="census")  # fmt: skip
    others = sum((limits["V", 0.25].kind == kind).sum() for kind in ("bipartite consensus", "clustering"))
    bench.check("V, beta = 0.25: limits that are no consensus", others, 0, source="no bipartite state is stable")
    # The other shares are of no theorem: they are held against a sample that is not this one.
    for name, beta, kind, known in SHARES:
        share = limits[name, beta].share(kind)[0]
        bar = 4 * (known * (1 - known) * (1 / starts + 1 / 10_000)) ** 0.5
        bench.check(f"{name}, beta = {beta:g}: share of {kind} among {starts} starts", share, known, bar,
                    source="10,000 other starts, four standard errors")  # fmt: skip
    bench.keep("W, beta = 4", limits["W", 4.0])
    times = np.linspace(0.0, 6.0, 31)
    for name, beta, kind in EXAMPLES:
        first = int(np.flatnonzero(limits[name, beta].kind == kind)[0])
        x = ctsa.random_tokens(N, D, seed=1, batch=(starts,))[first]
        flow = bench.flow(field_of(bench, name, beta), x, times)
        off = np.linalg.norm(as_numpy(flow.xs[-1]) - as_numpy(limits[name, beta].ends[first]), axis=-1).max()
        bench.check(f"{name}, beta = {beta:g}: distance of a path at t = 6 from its {kind}", off, 0.0, 0.1,
                    source="its basin")  # fmt: skip
        rows += [
            dict(part="path", system=name, kind=kind, beta=beta, t=t, token=i, height=float(p[0]))
            for t, x in zip(times.tolist(), as_numpy(flow.xs), strict=True) for i, p in enumerate(x)
        ]  # fmt: skip
    return rows


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw three paths; counts, rates along branches, and shares; return the six ``Axes``."""
    from ctsa.plot._style import axes_for

    from .drawing import finish

    axes = axes_for(axes, "axes", (7.0, 4.6), (2, 3))
    for ax, (name, beta, kind) in zip(axes[:3], EXAMPLES, strict=True):
        mine = found.where(part="path", system=name, kind=kind, beta=beta)
        for i in range(N):
            ax.plot(mine["t"][mine["token"] == i], mine["height"][mine["token"] == i], linewidth=0.8)
        ax.set(ylim=(-1.08, 1.08))
        ax.set_title(rf"{kind} ({name}, $\beta$ = {beta:g})", fontsize=8)
        finish(ax, "time", r"$\langle x_i, v_0 \rangle$")
    _counts(axes[3], found)
    _rates(axes[4], found)
    _shares(axes[5], found)
    return axes


def _counts(ax: Any, found: Findings) -> None:
    from .drawing import entry, finish

    legend = []
    fine = np.linspace(0.02, 1.1, 109)
    for name, m in SYSTEMS.items():
        known = [sum(theory.census(m, m, b, N).values()) for b in fine]
        (line,) = ax.plot(fine, known, linewidth=1)
        mine = found.where(part="count", system=name)
        ax.plot(mine["beta"], mine["count"], "o", color=line.get_color(), markersize=3)
        legend.append(entry(line.get_color(), name))
    finish(ax, r"$\beta$", "stable states", legend, "upper left")


def _rates(ax: Any, found: Findings) -> None:
    from .drawing import entry, finish

    legend = []
    for p in SPLITS:
        mine = found.where(part="rate", split=p)
        (line,) = ax.plot(mine["beta"], mine["rate"], linewidth=1)
        ax.plot(mine["threshold"][:1], [0.0], "o", color=line.get_color(), markersize=4)
        legend.append(entry(line.get_color(), f"{p} + {N - p}"))
    ax.axhline(0.0, color="0.6", linewidth=0.6)
    finish(ax, r"$\beta$", "leading eigenvalue", legend, "upper right")


def _shares(ax: Any, found: Findings) -> None:
    from matplotlib.patches import Patch

    from .drawing import finish

    mine = found.where(part="share")
    pairs = list(dict.fromkeys(zip(mine["system"].tolist(), mine["beta"].tolist(), strict=True)))
    base, legend = np.zeros(len(pairs)), []
    for kind in ("consensus", "bipartite consensus", "clustering"):
        here = [found.where(part="share", system=s, beta=b, kind=kind)["share"] for s, b in pairs]
        height = np.array([float(h[0]) if len(h) else 0.0 for h in here])
        bars = ax.bar(range(len(pairs)), height, bottom=base, width=0.7)
        legend.append(Patch(color=bars[0].get_facecolor(), label=kind.split()[0]))
        base = base + height
    ax.set_xticks(range(len(pairs)), [f"{s}, {b:g}" for s, b in pairs])
    ax.set_ylim(0, 1.45)
    ax.set_yticks([0, 0.5, 1.0])
    finish(ax, r"system, $\beta$", "share of random starts", legend, "upper left")
