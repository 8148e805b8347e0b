"""The norm of a recurrent layer's Jacobian against its bound, as the step grows: normalisation keeps it of order one."""

from typing import Any

import numpy as np

import ctsa
from ctsa._backend import load
from ctsa.geometry import Euclidean, random_tokens
from ctsa.monitors import jacobian_norms
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

N, D = 8, 4


def run(bench: Bench) -> Findings:
    """Measure norms over the step, with and without normalisation, against the bound and the limit of large steps."""
    steps = (0.1, 1.0, 10.0, 1e3, 1e6) if bench.quick else tuple(10.0 ** np.arange(-2, 6.5, 0.5))
    seeds = 3 if bench.quick else 30
    rows, limits = [], []
    for seed in range(seeds):
        found = [row_of(bench, seed, step) for step in steps]
        limits.append(abs(found[-1]["norm"] / limit(bench, seed) - 1))
        rows += found
    excess = max(r["norm"] / r["bound"] for r in rows)
    bench.check(
        "norm over its bound, largest", excess, 1.0, 1e-9, relation="at most", source="max|gamma| / R (1 + step |J_F|)"
    )
    bench.check(
        "norm over the bound that does not look at the state, largest",
        max(r["norm"] / r["a_priori"] for r in rows),
        1.0,
        1e-9,
        relation="at most",
        source="Castin et al., arXiv:2312.14820",
    )
    bench.check(
        f"norm at step {steps[-1]:g}, largest relative distance from the limit",
        max(limits),
        0.0,
        1e-4,
        source="N(F) as the step grows",
    )
    bench.check(
        "plain layer: norm at the largest step over step |J_F|, largest distance from 1",
        max(abs(r["plain"] / (r["step"] * r["update"]) - 1) for r in rows if r["step"] == steps[-1]),
        0.0,
        1e-4,
        source="|1 + step J_F|",
    )
    close(bench)
    last = [r for r in rows if r["step"] == steps[-1]]
    norms = [r["norm"] for r in rows]
    plain, tight = [r["plain"] for r in last], [r["bound"] / r["norm"] for r in rows]
    blind = [r["a_priori"] / r["norm"] for r in rows]
    notes = [
        f"{N} random tokens, d = {D}, {seeds} draws of matrices: norms of normalised layers lie between {min(norms):.3g} "
        f"and {max(norms):.3g} for steps from {steps[0]:g} to {steps[-1]:g}; at the largest, without normalisation, "
        f"between {min(plain):.3g} and {max(plain):.3g}.",
        f"Bound over norm: {np.median(tight):.3g} in the median, {max(tight):.3g} at most; without looking at the state "
        f"{np.median(blind):.3g} in the median.",
    ]
    return bench.found(rows, notes)


def fields(bench: Bench, seed: int) -> tuple[Any, Any, np.ndarray]:
    """Return attention with random matrices on the sphere and in flat space, and tokens."""
    q, k, v = np.random.default_rng(seed).normal(size=(3, D, D)) / np.sqrt(D)
    make = bench.face.SelfAttention
    given = dict(query=q, key=k, value=v, beta=2.0)
    return make(**given), make(**given, geometry=Euclidean()), random_tokens(N, D, seed=seed)


def row_of(bench: Bench, seed: int, step: float) -> dict[str, Any]:
    """Measure both layers at one state."""
    field, flat, x = fields(bench, seed)
    normal = jacobian_norms(bench.face.ItrSA(field, step=step, gamma=1.0), x)
    plain = ctsa.spectral_norm(bench.face.PostNormLayer(flat, step=step), load(bench.backend).asarray(x))
    return dict(
        seed=seed,
        step=float(step),
        norm=normal.norm,
        tangent=normal.tangent_norm,
        bound=normal.bound,
        a_priori=normal.a_priori,
        radius=normal.radius,
        update=normal.update_norm,
        plain=float(plain),
    )


def limit(bench: Bench, seed: int) -> float:
    """Return the norm of the Jacobian of ``N(F)``: ``blockdiag((1 - y y^T) / |F_i|) J_F`` with y = F / |F|."""
    field, flat, x = fields(bench, seed)
    x = load(bench.backend).asarray(x)
    f, j = as_numpy(flat(0.0, x)), as_numpy(ctsa.jacobian(flat, x))
    length = np.linalg.norm(f, axis=-1)
    y = f / length[:, None]
    blocks = (np.eye(D) - y[:, :, None] * y[:, None, :]) / length[:, None, None]
    return float(np.linalg.norm(np.einsum("iab,ibm->iam", blocks, j.reshape(N, D, N * D)).reshape(N * D, N * D), 2))


def close(bench: Bench) -> None:
    """At consensus with V = I the norm is known: ``1 / (1 + h)`` off the mean and 1 along it; no shorter, no longer."""
    step, x = 3.0, np.tile(np.eye(1, D), (N, 1))
    found = jacobian_norms(bench.face.ItrSA(bench.face.SelfAttention(beta=2.0), step=step, gamma=1.0), x)
    bench.check(
        "consensus, V = I: norm on tangent spaces",
        found.tangent_norm,
        1.0,
        1e-12,
        source="the mean turns with the layer",
    )
    bench.check("consensus, V = I: length before normalisation", found.radius, 1 + step, 1e-12, source="1 + h")


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw norms and bounds against the step, medians over the draws; return the ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    ax = np.ravel(panels(axes))[0]
    steps = np.unique(found.column("step"))
    kinds = {"norm": "normalised", "bound": "its bound", "a_priori": "bound for all states", "plain": "not normalised"}
    told = []
    for (name, label), colour in zip(kinds.items(), PALETTE, strict=False):
        values = np.array([found.where(step=s)[name] for s in steps.tolist()])
        ax.loglog(steps, np.median(values, 1), "o-", color=colour, markersize=2.5, linewidth=1)
        ax.fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
        told.append(entry(colour, label))
    finish(ax, "step", "norm of the Jacobian", told)
    return ax
