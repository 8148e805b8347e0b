"""Recurrent attention with and without normalisation: all exponents, of exact cases and of random layers over the step."""

from typing import Any

import numpy as np

import ctsa
from ctsa._backend import load
from ctsa.geometry import Euclidean, random_tokens
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings
from ctsa.tangent import finite_time_exponents, lyapunov_spectrum, mean_exponent

from .bench import Bench

N, D, DEPTH = 8, 4, 16


def run(bench: Bench) -> Findings:
    """Hold spectra of layers against symmetry, closed forms and determinants; then vary the step."""
    rows = [*consensus(bench), *apart(bench), *linear(bench)]
    sweep = swept(bench)
    steps = sorted({r["step"] for r in sweep})
    middle = {
        kind: [
            float(np.median([r["largest"] for r in sweep if r["step"] == s and r["normalised"] == kind])) for s in steps
        ]
        for kind in (True, False)
    }
    bench.check(
        f"step {steps[-1]:g}: median largest exponent, normalised less plain",
        middle[True][-1] - middle[False][-1],
        0.0,
        relation="at most",
        source="normalisation holds exponents down",
    )
    told = "; ".join(
        f"step {s:g}: {a:+.3f} with, {b:+.3f} without"
        for s, a, b in zip(steps, middle[True], middle[False], strict=True)
    )
    above = sum(r["largest"] > 0 for r in sweep if r["normalised"])
    notes = [
        f"{N} tokens, d = {D}. Largest exponent over {DEPTH} layers, medians of random matrices: {told}.",
        f"{above} of {sum(r['normalised'] for r in sweep)} normalised layers have a positive one.",
    ]
    return bench.found([*rows, *sweep], notes)


def attention(bench: Bench, value: np.ndarray, q: Any = None, k: Any = None, beta: float = 1.0, **given: Any) -> Any:
    """Return attention whose matrices are all arrays, so that it is compiled once."""
    q, k = (np.eye(D) if m is None else m for m in (q, k))
    return bench.face.SelfAttention(query=q, key=k, value=value, beta=beta, **given)


def listed(part: str, values: Any, known: Any) -> list[dict[str, Any]]:
    """Return rows of a spectrum beside what is known, nan where nothing is."""
    return [
        dict(part=part, index=i, exponent=float(v), known=float(w))
        for i, (v, w) in enumerate(zip(values, known, strict=True))
    ]


def consensus(bench: Bench) -> list[dict[str, Any]]:
    """V = diag(3, 2, 1, 0), normalised: consensus at v_0, whose multipliers are closed."""
    step, v = 0.5, np.diag([3.0, 2.0, 1.0, 0.0])
    layer = bench.face.PostNormLayer(attention(bench, v), step=step)
    start = random_tokens(N, D, seed=0) + np.array([2.0, 0, 0, 0])
    spectrum = lyapunov_spectrum(layer, start, intervals=40, transient=200, normalize=True, progress=False)
    each = [(1 + step * mu) / (1 + step * 3.0) for mu in (2.0, 1.0, 0.0)] + [1 / (1 + step * 3.0)] * ((N - 1) * (D - 1))
    known = np.sort(np.log(each))[::-1]
    bench.keep("consensus", spectrum)
    bench.near(
        "normalised, consensus: largest error of all exponents",
        spectrum.exponents, known, 1e-9, source="ln (1 + h mu)/(1 + h lambda), ln 1/(1 + h lambda)",
    )  # fmt: skip
    return listed("consensus", spectrum.exponents, known)


def apart(bench: Bench) -> list[dict[str, Any]]:
    """V = -I, normalised: tokens of full rank come to rest; rotations keep d(d - 1)/2 exponents at zero."""
    layer = bench.face.PostNormLayer(attention(bench, -np.eye(D)), step=0.5)
    start = ctsa.iterate(layer, load(bench.backend).asarray(random_tokens(N, D, seed=0)), 400, every=400).xs[-1]
    depth = 40
    spectrum = lyapunov_spectrum(layer, start, intervals=depth, transient=200, progress=False)
    zeros = D * (D - 1) // 2
    values = np.sort(np.abs(spectrum.exponents))
    rank = np.linalg.matrix_rank(as_numpy(start), tol=1e-3)
    bench.check("normalised, V = -I: rank of the state", rank, D, source="tokens repel")
    bench.check(
        f"normalised, V = -I: the {zeros} exponents nearest to zero, largest",
        values[:zeros].max(),
        0.0,
        1e-6,
        source="r(2d - r - 1)/2 rotations",
    )
    bench.check("normalised, V = -I: exponents of 1e-4 or less", (values < 1e-4).sum(), zeros, source="and no more")
    return listed("apart", spectrum.exponents, np.where(np.abs(spectrum.exponents) < 1e-4, 0.0, np.nan))


def linear(bench: Bench) -> list[dict[str, Any]]:
    """Beta = 0 without normalisation: the mean grows with 1 + h mu, all else stays."""
    step, mu = 0.1, np.array([1.0, 0.5, -0.5, -1.0])
    layer = bench.face.PostNormLayer(attention(bench, np.diag(mu), beta=0.0, geometry=Euclidean()), step=step)
    start = random_tokens(N, D, seed=0)
    spectrum = lyapunov_spectrum(layer, start, intervals=60, transient=300, progress=False)
    known = np.sort(np.concatenate([np.log(1 + step * mu), np.zeros((N - 1) * D)]))[::-1]
    bench.near(
        "plain, beta = 0: largest error of all exponents",
        spectrum.exponents, known, 1e-9, source="ln (1 + h mu), and 0",
    )  # fmt: skip
    return listed("plain", spectrum.exponents, known)


def swept(bench: Bench) -> list[dict[str, Any]]:
    """Vary the step of random layers with and without normalisation."""
    steps, seeds = ((0.1, 1.0, 4.0), 4) if bench.quick else ((0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 10.0), 40)
    rows, off = [], 0.0
    for normalised in (True, False):
        for step in steps:
            for seed in range(seeds):
                q, k, v = np.random.default_rng(seed).normal(size=(3, D, D)) / np.sqrt(D)
                given: dict[str, Any] = {} if normalised else dict(geometry=Euclidean())
                layer = bench.face.PostNormLayer(attention(bench, v, q, k, **given), step=step)
                start = random_tokens(N, D, seed=seed)
                found = finite_time_exponents(layer, start, DEPTH)
                found = np.asarray(getattr(found, "exponents", found))
                if seed == 0 and step <= 1:  # beyond, determinants underflow
                    off = max(off, abs(float(found.mean()) - mean_exponent(layer, start, DEPTH)))
                rows.append(
                    dict(
                        part="sweep",
                        normalised=normalised,
                        step=step,
                        seed=seed,
                        largest=float(found.max()),
                        mean=float(found.mean()),
                    )
                )
    bench.check(
        "mean of all exponents less mean log|det J| a dimension",
        off,
        0.0,
        1e-9,
        source="|det| is the product of singular values",
    )
    return rows


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the exact spectra, and the largest exponent of random layers against the step; return the two ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    names = {"consensus": "normalised, consensus", "apart": "normalised, $V = -I$", "plain": r"plain, $\beta = 0$"}
    for (part, _), colour in zip(names.items(), PALETTE, strict=False):
        mine = found.where(part=part)
        left.plot(mine["index"], mine["exponent"], "o", color=colour, markersize=3)
        left.plot(mine["index"], mine["known"], "-", color=colour, linewidth=0.8)
    finish(left, "index", "exponent", [entry(c, label) for label, c in zip(names.values(), PALETTE, strict=False)])
    mine, told = found.where(part="sweep"), []
    for kind, colour, label in ((True, PALETTE[0], "with normalisation"), (False, PALETTE[1], "without")):
        keep = mine["normalised"] == kind
        right.semilogx(mine["step"][keep], mine["largest"][keep], "o", color=colour, markersize=2, alpha=0.5)
        steps = np.unique(mine["step"][keep])
        right.plot(
            steps, [np.median(mine["largest"][keep & (mine["step"] == s)]) for s in steps], color=colour, linewidth=1
        )
        told.append(entry(colour, label))
    right.axhline(0, color="0.7", linewidth=0.6)
    finish(right, "step", f"largest exponent, {DEPTH} layers", told)
    return np.array([left, right])
