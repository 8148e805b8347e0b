"""Bipartite consensus with a group of one token: it has no mode within itself, and so no condition for one."""

from typing import Any

import numpy as np

import ctsa
from ctsa import theory
from ctsa._backend import load
from ctsa.fixed_points.points import wilson
from ctsa.flows import integrate
from ctsa.geometry import random_tokens
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

N = 5
TIMES = np.array([*np.arange(0.0, 72.0, 8.0), 250.0])


def run(bench: Bench) -> Findings:
    """Map stability against a condition on both groups, follow perturbed states, and see where random starts end."""
    rows = region(bench)
    grows, decays = followed(bench)
    ends, starts = sampled(bench)
    stable, groups = census(bench)
    _, low, high = wilson(ends, starts, 0.95)
    beyond = sum(r["stable"] and not r["asked"] for r in rows)
    notes = [
        f"V = A = diag(1, mu), n = {N}, one token at v_0 and {N - 1} at -v_0, z = beta: of {len(rows)} points of the map "
        f"{beyond} are stable although m_+ < 0, none is unstable though the condition holds.",
        f"z = .15, mu = -4: a perturbed singleton decays at {decays:.4f}; a group of two, for which m_+ < 0 as well, parts "
        f"at {grows:+.4f}.",
        f"z = .4, mu = -1: {ends} of {starts} random starts (95 %: {low:.3f} ... {high:.3f}) end with a singleton, in "
        f"states that the condition excludes. Of {stable} stable bipartite states it allows {groups}.",
    ]
    return bench.found(rows, notes)


def margins(z: Any, n_plus: int, n_minus: int) -> tuple[Any, Any]:
    """Return ``m_+-= tanh(z +- ln(n_+ / n_-) / 2)``."""
    bias = np.log(n_plus / n_minus) / 2
    return np.tanh(z + bias), np.tanh(z - bias)


def field_of(bench: Bench, mu: float, z: float) -> Any:
    """Return attention with V = A = diag(1, mu) at beta = z, so that ``beta v_0^T A v_0 = z``."""
    v = np.diag([1.0, mu])
    return bench.face.SelfAttention(query=v, value=v, beta=z)


def state(n_plus: int) -> np.ndarray:
    """Return ``n_plus`` tokens at v_0 and the others at -v_0."""
    return np.array([1.0] * n_plus + [-1.0] * (N - n_plus))[:, None] * np.array([1.0, 0.0])


def region(bench: Bench) -> list[dict[str, Any]]:
    """Compare the sign of the leading eigenvalue with the closed border and with the condition on both groups."""
    size = 12 if bench.quick else 40
    be, rows, off, differ = load(bench.backend), [], 0.0, 0
    x = be.asarray(state(1))
    for z in (np.arange(size) + 0.5) / size * 1.2:
        for mu in -4.0 + (np.arange(size) + 0.5) / size * 5.0:
            values = ctsa.eigenvalues(field_of(bench, mu, z), x)
            v = np.diag([1.0, mu])
            # eigenvalues of a defective block move as the root of rounding: sums are compared beside the leading one
            known = theory.bipartite_spectrum(v, v, z, 0 if mu < 1 else 1, 1, N - 1)
            off = max(off, abs(values[0].real - known[0].real), abs(values.sum() - known.sum()))
            plus, minus = margins(z, 1, N - 1)
            stable = bool(values[0].real < 0)
            blocks = bool(mu < 2 * plus * minus / (plus + minus))
            differ += stable != blocks
            asked = bool(blocks and plus > 0 and minus > 0)
            rows.append(
                dict(
                    z=float(z),
                    mu=float(mu),
                    leading=float(values[0].real),
                    stable=stable,
                    asked=asked,
                    m_plus=float(plus),
                )
            )
    bench.check("map: largest error of leading eigenvalue and trace", off, 0.0, 1e-9, source="bipartite_spectrum")
    bench.check(
        "map: stability that differs from mu < m_+ m_- / S", differ, 0, source="blocks alone, S = (m_+ + m_-) / 2"
    )
    bench.check(
        "map: stable singletons with m_+ < 0",
        sum(r["stable"] and r["m_plus"] < 0 for r in rows),
        1,
        relation="at least",
        source="a condition on both groups would have none",
    )
    bench.check(
        "map: unstable though the condition holds",
        sum(r["asked"] and not r["stable"] for r in rows),
        0,
        source="the condition suffices",
    )
    return rows


def followed(bench: Bench) -> tuple[float, float]:
    """Perturb a singleton and a pair, both with m_+ < 0, and measure the rates at which they go."""
    z, mu, members = 0.15, -4.0, _members(bench) // 2
    v, rng = np.diag([1.0, mu]), np.random.default_rng(0)
    angles = np.zeros((2, members, N))
    angles[0] = 1e-4 * rng.normal(size=(members, N))
    angles[1, :, 0] = 1e-7 * (1 + rng.random(members))
    angles[1, :, 1] = -angles[1, :, 0]  # within the pair: their mean stays
    side = np.stack([state(1)[:, 0], state(2)[:, 0]])[:, None, :]
    x = np.stack([side * np.cos(angles), np.sin(angles)], -1).reshape(-1, N, 2)
    off = np.abs(as_numpy(integrate(field_of(bench, mu, z), x, TIMES, atol=1e-12, progress=False).xs)[..., 1])
    off = off.reshape(len(TIMES), 2, members, N).max(-1)
    decays, grows = (float(np.log(off[8, k] / off[4, k]).mean() / (TIMES[8] - TIMES[4])) for k in (0, 1))
    bench.check(
        "singleton, m_+ < 0: rate of decay",
        decays,
        theory.bipartite_spectrum(v, v, z, 0, 1, N - 1)[0].real,
        1e-5,
        source="leading eigenvalue",
    )
    bench.check("pair, m_+ < 0: rate of growth within", grows, -margins(z, 2, N - 2)[0], 1e-6, source="-lambda m_+")
    return grows, decays


def _members(bench: Bench) -> int:
    return 60 if bench.quick else 1000


def sampled(bench: Bench) -> tuple[int, int]:
    """Count random starts that end with a singleton where the condition excludes it."""
    z, mu, starts = 0.4, -1.0, _members(bench)
    x = random_tokens(N, 2, seed=1, batch=(starts,))
    end = as_numpy(integrate(field_of(bench, mu, z), x, TIMES, atol=1e-12, progress=False).xs)[-1, ..., 0]
    bench.check("random starts: farthest token from +-v_0 at t = 250", (1 - np.abs(end)).max(), 0.0, 1e-4)
    plus = (end > 0).sum(-1)
    singles = int(((plus == 1) | (plus == N - 1)).sum())
    bench.check(
        "random starts that end with a singleton, m_+ < 0",
        singles,
        1,
        relation="at least",
        source="none would, were it unstable",
    )
    return singles, starts


def census(bench: Bench) -> tuple[int, int]:
    """Count stable bipartite states, and those that the condition allows."""
    z, v = 0.4, np.diag([1.0, -1.0])
    stable = theory.census(v, v, z, N)["bipartite consensus", 0]
    groups = [m for m in range(1, N) if min(margins(z, m, N - m)) > 0]
    allowed = sum(int(np.prod(np.arange(N, N - m, -1)) / np.prod(np.arange(1, m + 1))) for m in groups)
    bench.check(
        "stable bipartite states, z = .4", stable, 2**N - 2, source="blocks alone: mu = -1 < m_+ m_- / S for all splits"
    )
    return stable, allowed


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw where a singleton is stable, and where the condition says so; return the ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    ax = np.ravel(panels(axes))[0]
    stable, asked = found.column("stable"), found.column("asked")
    kinds = {
        "stable, condition holds": (stable & asked, PALETTE[0]),
        "stable, condition fails": (stable & ~asked, PALETTE[1]),
        "unstable": (~stable, "0.8"),
    }
    z, mu = found.column("z"), found.column("mu")
    for keep, colour in kinds.values():
        ax.plot(z[keep], mu[keep], "s", color=colour, markersize=3)
    fine = np.linspace(0.05, 1.2, 300)
    plus, minus = margins(fine, 1, N - 1)
    ax.plot(fine, 2 * plus * minus / (plus + minus), color="black", linewidth=1)
    ax.axvline(np.log(N - 1) / 2, color="black", linewidth=0.8, linestyle=":")
    told = [entry(colour, name, "", "s") for name, (_, colour) in kinds.items()]
    told += [entry("black", "closed form", mark=""), entry("black", "$m_+ = 0$", ":", "")]
    ax.set_ylim(-4, 3.2)
    finish(ax, r"$z = \beta\, v^\top A v$", r"other eigenvalue $\mu$ ($\lambda = 1$)", told)
    return ax
