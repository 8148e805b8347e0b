"""Norms that are said to make a loop stable, against its exponent: what they promise, and what they do not."""

from typing import Any

import numpy as np

import ctsa
from ctsa._backend import backend, load
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings
from ctsa.tangent import lyapunov_spectrum

from .bench import Bench

SPANS = (1, 2, 4, 8, 16)  # loops whose Jacobians are multiplied
SIZE, LEAK = 16, 0.5
TRANSIENT = 256


def run(bench: Bench) -> Findings:
    """Measure exponents, norms of Jacobians and of their products along the same loops."""
    loops, seeds = (64, 2) if bench.quick else (256, 10)
    gains = (0.2, 0.6, 3.0) if bench.quick else (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
    rows = [linear(bench, loops)]
    for gain in gains:
        rows += [
            measured(bench, "leaky", gain, *leaky(bench, gain, seed), loops) for seed in range(1 if bench.quick else 3)
        ]
    rows += [
        measured(bench, "attention", step, *attention(bench, step, seed), loops)
        for step in ((1.0,) if bench.quick else (0.25, 1.0, 4.0))
        for seed in range(seeds)
    ]
    bounds = np.array([[row[f"bound {k}"] for k in SPANS] for row in rows])
    exponent, floor = (np.array([row[key] for row in rows]) for key in ("exponent", "floor"))
    error = np.array([row["stderr"] for row in rows])
    bench.check(
        "largest exponent less its bounds by norms",
        (exponent[:, None] - bounds).max(),
        0.0,
        1e-9,
        relation="at most",
        source="|J u| <= |J| |u|",
    )
    bench.check(
        "bound by 2k loops less that by k, largest",
        np.diff(bounds).max(),
        0.0,
        1e-9,
        relation="at most",
        source="|A B| <= |A| |B|",
    )
    bench.check(
        "mean log|det| a dimension less the exponent",
        (floor - exponent).max(),
        0.0,
        1e-9,
        relation="at most",
        source="the largest exponent is no less than the mean of all",
    )
    settles, grows = exponent + 2 * error < 0, exponent - 2 * error > 0
    above, inside = bounds[:, 0] > 0, np.array([row["injection"] < 1 for row in rows])
    bench.check("loops with norms above one that contract", (above & settles).sum(), 1, relation="at least")
    bench.check("loops with an injection below one that grow", (inside & grows).sum(), 1, relation="at least")
    below = np.array([row["largest norm"] < 1 for row in rows])
    bench.check(
        "loops with all norms below one that do not contract", (below & ~settles).sum(), 0, source="a contraction"
    )
    gap = bounds - exponent[:, None]
    notes = [
        f"Of {above.sum()} loops whose mean log|J| is above zero {(above & settles).sum()} contract; of "
        f"{inside.sum()} with an injection of norm below one {(inside & grows).sum()} have a positive exponent.",
        f"Median distance of the bound from the exponent: {np.median(gap[:, 0]):.3f} with the norms of single loops, "
        f"{np.median(gap[:, -1]):.3f} with those of {SPANS[-1]} loops.",
        f"{below.sum()} loops have all norms below one, and all of these contract.",
    ]
    return bench.found(rows, notes)


def linear(bench: Bench, loops: int) -> dict[str, Any]:
    """Return the row of ``x <- A x``, A triangular with eigenvalues .9, .6 ... .1 and ones above the diagonal."""
    a = np.diag([0.9, *np.linspace(0.6, 0.1, SIZE - 1)]) + np.triu(np.ones((SIZE, SIZE)), 1)
    norm = float(np.linalg.norm(a, 2))
    row = measured(
        bench,
        "linear",
        norm,
        loop_of(bench, a, 0.0, np.eye(SIZE), np.zeros((1, SIZE))),
        np.ones((1, SIZE)),
        norm,
        loops,
    )
    bench.check(f"linear loop, |A| = {norm:.3g}: largest exponent", row["exponent"], np.log(0.9), 1e-9, source="ln .9")
    known = np.log(np.linalg.norm(np.linalg.matrix_power(a, SPANS[-1]), 2)) / SPANS[-1]
    bench.check(
        f"linear loop: bound by {SPANS[-1]} loops", row[f"bound {SPANS[-1]}"], known, 1e-10, source="ln|A^k| / k"
    )
    return row


def loop_of(bench: Bench, a: np.ndarray, gain: float, w: np.ndarray, e: np.ndarray) -> Any:
    """Return ``x <- A x + e + gain tanh(W x)``."""
    be = load(bench.backend)
    return ctsa.Loop(be.partial(_step, *(be.asarray(np.asarray(p, float)) for p in (a, gain, w, e))))


def _step(a: Any, gain: Any, w: Any, e: Any, x: Any) -> Any:
    return x @ a.T + e + gain * backend(x).xp.tanh(x @ w.T)


def leaky(bench: Bench, gain: float, seed: int) -> tuple[Any, np.ndarray, float]:
    """Return ``x <- x/2 + e + gain tanh(W x)``: its injection has norm 1/2 whatever the gain, entries of W variance 4/m."""
    rng = np.random.default_rng(seed)
    w, e = 2 * rng.normal(size=(SIZE, SIZE)) / np.sqrt(SIZE), 0.1 * rng.normal(size=(1, SIZE))
    return loop_of(bench, LEAK * np.eye(SIZE), gain, w, e), rng.normal(size=(1, SIZE)), LEAK


def attention(bench: Bench, step: float, seed: int) -> tuple[Any, np.ndarray, float]:
    """Return recurrent attention with random matrices and an input: normalised, its residual has norm 1."""
    face, rng, n, d = bench.face, np.random.default_rng(seed), 4, 4
    q, k, v = (rng.normal(size=(d, d)) for _ in range(3))
    field = face.SelfAttention(query=q, key=k, value=v, beta=1.0) + face.Injection(rng.normal(size=(n, d)))
    return face.ItrSA(field, step=step, gamma=1.0), ctsa.random_tokens(n, d, seed=seed), 1.0


def measured(bench: Bench, system: str, parameter: float, layer: Any, x: np.ndarray, injection: float, loops: int):
    """Return the exponent over some loops, and the bounds that the Jacobians of the same loops give."""
    be = load(bench.backend)
    x = be.asarray(x)
    spectrum = lyapunov_spectrum(layer, x, intervals=loops, transient=TRANSIENT, count=1, progress=False)
    states = as_numpy(ctsa.iterate(layer, x, TRANSIENT + loops - 1).xs)[TRANSIENT:]
    jacobians = [as_numpy(ctsa.jacobian(layer, be.asarray(state), basis="tangent")) for state in states]
    row = dict(
        system=system,
        parameter=parameter,
        injection=injection,
        exponent=float(spectrum.exponents[0]),
        stderr=float(spectrum.stderr[0]),
    )
    row["largest norm"] = max(float(np.linalg.norm(j, 2)) for j in jacobians)
    row["floor"] = float(np.mean([np.linalg.slogdet(j)[1] for j in jacobians])) / len(jacobians[0])
    for k in SPANS:
        row[f"bound {k}"] = float(np.mean([np.log(np.linalg.norm(j, 2)) for j in jacobians])) / k
        jacobians = [b @ a for a, b in zip(jacobians[::2], jacobians[1::2], strict=True)]
    bench.say(
        f"{system} {parameter:.3g}: exponent {row['exponent']:+.4f} +- {row['stderr']:.1g}, mean log|J| "
        f"{row['bound 1']:+.3f}"
    )
    return row


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw exponents against the bounds by one loop and by sixteen; return the two ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    axs, told = np.ravel(panels(axes, 2)), []
    exponent, system = found.column("exponent"), found.column("system")
    for name, colour in zip(dict.fromkeys(system.tolist()), PALETTE, strict=False):
        for ax, k in zip(axs, (SPANS[0], SPANS[-1]), strict=True):
            ax.plot(
                found.column(f"bound {k}")[system == name], exponent[system == name], "o", color=colour, markersize=3
            )
        told.append(entry(colour, name, ""))
    for ax, k in zip(axs, (SPANS[0], SPANS[-1]), strict=True):
        ends = np.array([exponent.min(), exponent.max()])
        ax.plot(ends, ends, color="black", linewidth=0.8)
        ax.axhline(0, color="0.7", linewidth=0.6)
        ax.axvline(0, color="0.7", linewidth=0.6)
        finish(
            ax,
            rf"mean $\ln \|J\|$ of {k} loop{'s' if k > 1 else ''}, per loop",
            "largest exponent",
            told if k == 1 else (),
        )
    return axs
