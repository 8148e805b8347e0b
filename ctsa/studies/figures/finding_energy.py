"""Is the symmetric part of ``A = Q^T K``, taken for V, enough for an energy? A counterexample, and how often it fails."""

from typing import Any

import numpy as np

import ctsa
from ctsa._backend import load
from ctsa.fixed_points.points import wilson
from ctsa.flows import integrate
from ctsa.geometry import random_tokens
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

TIMES = np.linspace(0.0, 10.0, 41)


def run(bench: Bench) -> Findings:
    """Follow the counterexample, map where its energy falls, and count random matrices for which it falls somewhere."""
    rows = [*counterexample(bench), *region(bench)]
    onset = threshold(bench)
    shares = at_random(bench)
    notes = [
        "A = [[1, s], [-s, 0]], V = (A + A^T)/2 = diag(1, 0), tokens at angles +-a. beta E = exp(beta cos^2 a) (1 + "
        "cosh(beta s sin 2a)), and tan a falls as exp(-t): E falls where tan 2a < 2 s tanh(beta s sin(2a) / 2), near "
        "consensus for beta s^2 > 1.",
        f"Along the axis s of the map the energy begins to fall near consensus at beta s^2 = {onset:.4f}.",
        *(
            f"n = {r['n']}, d = {r['d']}, beta = {r['beta']:g}: E falls at some time for {r['fell']} of {r['matrices']} "
            f"random A, and for {r['fell_symmetric']} of as many symmetric ones."
            for r in shares
        ),
    ]
    return bench.found([*rows, *shares], notes)


def field_of(bench: Bench, a: np.ndarray, beta: float) -> Any:
    """Return attention with scores ``x^T A y``, whose V is the symmetric part of A."""
    return bench.face.SelfAttention(key=a, value=(a + a.T) / 2, beta=beta)


def growth(field: Any, a: np.ndarray, beta: float, x: Any, velocity: Any = None) -> np.ndarray:
    """Return dE/dt at states ``(..., n, d)``: ``sum_k <1/2 sum_j (e_kj A x_j + e_jk A^T x_j), x_k'>``."""
    v = as_numpy(field(0.0, x) if velocity is None else velocity)
    x = as_numpy(x)
    e = np.exp(beta * x @ a @ np.swapaxes(x, -1, -2))  # (..., n, n)
    gradient = (e @ x @ a.T + np.swapaxes(e, -1, -2) @ x @ a) / 2
    return (gradient * v).sum((-2, -1))


def pair(a: np.ndarray | float, s: np.ndarray | float, beta: float) -> np.ndarray:
    """Return the energy of two tokens at angles +-a."""
    return np.exp(beta * np.cos(a) ** 2) * (1 + np.cosh(beta * s * np.sin(2 * np.asarray(a)))) / beta


def counterexample(bench: Bench) -> list[dict[str, Any]]:
    """Follow two tokens from +-.1333 pi, and from three other angles, at s = 2, beta = 1, against the closed form."""
    a, starts = np.array([[1.0, 2.0], [-2.0, 0.0]]), np.pi * np.array([0.1333, 0.05, 0.2, 0.3])
    field, x = field_of(bench, a, 1.0), pairs(starts)
    flow = integrate(field, x, TIMES, atol=1e-12, progress=False)
    report = bench.keep("counterexample", ctsa.energy_report(field, flow))
    known = pair(np.arctan(np.tan(starts) * np.exp(-TIMES[:, None])), 2.0, 1.0)
    bench.near(
        "counterexample: largest error of the energy along the flow",
        report.energies, known, 1e-9, source="E = exp(beta cos^2 a)(1 + cosh(beta s sin 2a)) / beta",
    )  # fmt: skip
    bench.check(
        "counterexample: energy at the end less at the start",
        report.energies[-1, 0] - report.energies[0, 0],
        pair(0.0, 2.0, 1.0) - known[0, 0],
        1e-7,
        source="closed form; a rise was claimed",
    )
    bench.check(
        "counterexample: dE/dt at the start",
        growth(field, a, 1.0, flow.xs[0])[0],
        slope(starts[0], 2.0, 1.0),
        1e-12,
        source="closed form",
    )
    return [
        dict(part="run", t=float(t), start=float(angle), energy=float(e))
        for t, line in zip(TIMES, report.energies, strict=True)
        for angle, e in zip(starts, line, strict=True)
    ]


def pairs(angles: Any) -> np.ndarray:
    """Return two tokens at +- each of the angles, ``(..., 2, 2)``."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, sin], -1), np.stack([cos, -sin], -1)], -2)


def slope(a: Any, s: Any, beta: float) -> Any:
    """Return dE/dt of the pair: ``-sin(2a)/2 dE/da``."""
    w = beta * s * np.sin(2 * a)
    inside = -np.sin(2 * a) * (1 + np.cosh(w)) + 2 * s * np.cos(2 * a) * np.sinh(w)
    return -np.sin(2 * a) / 2 * np.exp(beta * np.cos(a) ** 2) * inside


def region(bench: Bench) -> list[dict[str, Any]]:
    """Map the sign of dE/dt over angle and asymmetry, against the closed border."""
    size = 16 if bench.quick else 48
    angles, be = (np.arange(size) + 0.5) / size * np.pi / 2, load(bench.backend)
    x = pairs(angles)  # (size, 2, 2)
    rows: list[dict[str, Any]] = []
    wrong, off = 0, 0.0
    for s in (np.arange(size) + 0.5) / size * 3:
        a = np.array([[1.0, s], [-s, 0.0]])
        rates = growth(field_of(bench, a, 1.0), a, 1.0, be.asarray(x))
        falls = (angles < np.pi / 4) & (np.tan(2 * angles) < 2 * s * np.tanh(s * np.sin(2 * angles) / 2))
        wrong += int(((rates < 0) != falls).sum())
        off = max(off, float(np.abs(rates / slope(angles, s, 1.0) - 1).max()))
        rows += [
            dict(part="map", angle=float(g), s=float(s), rate=float(r)) for g, r in zip(angles, rates, strict=True)
        ]
    bench.check(
        f"map, {size * size} points: signs of dE/dt that differ", wrong, 0, source="tan 2a < 2 s tanh(beta s sin(2a)/2)"
    )
    bench.check("map: largest relative error of dE/dt", off, 0.0, 1e-9, source="closed form")
    return rows


def threshold(bench: Bench) -> float:
    """Find by bisection the s from which on the energy falls near consensus, at beta = 2; return beta s^2."""
    be, beta, a0 = load(bench.backend), 2.0, 1e-3
    x = be.asarray(pairs(a0))
    low, high = 0.1, 2.0
    for _ in range(30):
        s = (low + high) / 2
        a = np.array([[1.0, s], [-s, 0.0]])
        low, high = (low, s) if growth(field_of(bench, a, beta), a, beta, x) < 0 else (s, high)
    bench.check("onset near consensus: beta s^2", beta * low**2, 1.0, 1e-5, source="expansion at a = 0")
    return beta * low**2


def at_random(bench: Bench) -> list[dict[str, Any]]:
    """Count random A, entries of variance 1/d, for which E falls along one of four random starts."""
    matrices = 20 if bench.quick else 100
    cases = (
        [(2, 2, 1.0), (2, 2, 4.0)]
        if bench.quick
        else [(n, d, beta) for n in (2, 4, 16) for d in (2, 3, 8, 32) for beta in (1.0, 4.0)]
    )
    rows: list[dict[str, Any]] = []
    identity = 0.0
    for n, d, beta in cases:
        fell = [0, 0]
        for m in range(matrices):
            drawn = np.random.default_rng((m, n, d)).normal(size=(d, d)) / np.sqrt(d)
            for kind, a in enumerate((drawn, (drawn + drawn.T) / 2)):
                field = field_of(bench, a, beta)
                x = random_tokens(n, d, seed=m, batch=(4,))
                xs = integrate(field, x, TIMES, atol=1e-6, progress=False).xs
                v = field(0.0, xs)
                rates, size = growth(field, a, beta, xs, v), weighed(a, beta, xs, v)
                fell[kind] += bool((rates < -1e-9 * size.max()).any())
                if kind:
                    identity = max(identity, float(np.abs(rates - size).max() / size.max()))
        _, low, high = wilson(fell[0], matrices, 0.95)
        rows.append(
            dict(
                part="random",
                n=n,
                d=d,
                beta=beta,
                matrices=matrices,
                fell=fell[0],
                fell_symmetric=fell[1],
                low=low,
                high=high,
            )
        )
        bench.say(f"n = {n}, d = {d}, beta = {beta:g}: falls for {fell[0]} of {matrices}, symmetric {fell[1]}")
    bench.check(
        "symmetric A for which E falls", sum(r["fell_symmetric"] for r in rows), 0, source="dE/dt = sum Z |x'|^2 >= 0"
    )
    bench.check("symmetric A: largest error of dE/dt, relative", identity, 0.0, 1e-10, source="dE/dt = sum Z |x'|^2")
    bench.check(
        "asymmetric A for which E falls",
        sum(r["fell"] for r in rows),
        1,
        relation="at least",
        source="the claim would have none",
    )
    return rows


def weighed(a: np.ndarray, beta: float, x: Any, velocity: Any) -> np.ndarray:
    """Return ``sum_i Z_i |x_i'|^2``, Z the sums of the rows of ``exp(beta x_i^T A x_j)``."""
    x, v = as_numpy(x), as_numpy(velocity)
    z = np.exp(beta * x @ a @ np.swapaxes(x, -1, -2)).sum(-1)
    return (z * (v * v).sum(-1)).sum(-1)


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the energy of the counterexample, the map with its border, and shares of random A; return the three ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    left, middle, right = panels(axes, 3)
    mine, told = found.where(part="run"), []
    for start in dict.fromkeys(mine["start"]):
        one = found.where(part="run", start=start)
        (line,) = left.plot(one["t"], one["energy"], linewidth=1.2)
        told.append(entry(line.get_color(), rf"{start / np.pi:.4g} $\pi$", mark=""))
    finish(left, "$t$", "energy", told)
    mine = found.where(part="map")
    falls = mine["rate"] < 0
    blue = PALETTE[0]
    for keep, colour in ((falls, blue), (~falls, "0.8")):
        middle.plot(mine["angle"][keep] / np.pi, mine["s"][keep], "s", color=colour, markersize=2)
    s = np.linspace(1.0, 3.0, 200)
    a = np.linspace(1e-4, np.pi / 4 - 1e-4, 400)
    border = [np.max(a[np.tan(2 * a) < 2 * r * np.tanh(r * np.sin(2 * a) / 2)], initial=0.0) for r in s]
    middle.plot(np.array(border) / np.pi, s, color="black", linewidth=1)
    told = [entry(blue, "falls", "", "s"), entry("0.8", "rises", "", "s"), entry("black", "closed form", mark="")]
    middle.set_ylim(0, 4.2)
    finish(middle, r"angle $a / \pi$", "asymmetry $s$", told)
    told = []
    for beta, colour in zip(dict.fromkeys(found.where(part="random")["beta"].tolist()), PALETTE, strict=False):
        for n, mark in zip((2, 4, 16), "os^", strict=True):
            mine = found.where(part="random", beta=beta, n=n)
            share = mine["fell"] / mine["matrices"]
            bars = np.maximum([share - mine["low"], mine["high"] - share], 0)
            at = mine["d"] * (1 + 0.04 * np.log2(n))  # beside each other
            style = dict(color=colour, fmt=mark, markersize=3, capsize=2, linewidth=0.8)
            right.errorbar(at, share, bars, **style)
            right.plot(at, mine["fell_symmetric"] / mine["matrices"], "_", color="black", markersize=6)
            if len(at):
                told.append(entry(colour, rf"$\beta$ = {beta:g}, n = {n}", "", mark))
    right.set_xscale("log", base=2)
    right.set_ylim(-0.03, 1.05)
    finish(right, "d", "share of A for which it falls", told)
    return np.array([left, middle, right])
