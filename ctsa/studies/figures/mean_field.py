"""The density of infinitely many tokens: growth of its modes, how many there are, and what finitely many tokens do."""

from typing import Any

import numpy as np

import ctsa
from ctsa import theory
from ctsa._backend import load
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

BETA, DEGREE, BUMP = 4.0, 32, 0.05
SHOWN = (1, 2, 3)


def run(bench: Bench) -> Findings:
    """Compare rates with the closed form, the density with tokens, and count the bumps that grow."""
    rows = [*rates(bench), *beside_tokens(bench), *bumps(bench)]
    shown = ", ".join(f"{r['mode']} at beta = {r['beta']:g}" for r in rows if r["part"] == "bumps")
    spread = "; ".join(
        f"mode {r['mode']}: {r['value']:.3f}, known {r['known']:.3f}" for r in rows if r["part"] == "fluctuation"
    )
    notes = [
        f"Bumps of a density that began with all modes alike, when the fastest has grown by 5000: {shown}.",
        f"Random tokens, d = 2, beta = {BETA:g}, t = 1: n times the mean square of a mode over that of independent tokens, "
        f"{spread}.",
    ]
    return bench.found(rows, notes)


def rates(bench: Bench) -> list[dict[str, Any]]:
    """Compare eigenvalues at the uniform density with the closed form, on the circle and on the two-sphere."""
    rows = []
    for d, degree in ((2, 12), (3, 5 if bench.quick else 8)):
        field = bench.face.MeanField(beta=BETA, d=d, degree=degree)
        found = ctsa.eigenvalues(field, field.uniform).real
        modes = np.arange(1, degree + 1)
        each = theory.uniform_growth_rate(modes, BETA, d)
        known = np.sort(np.repeat(each, 2 if d == 2 else 2 * modes + 1))[::-1]
        bench.near(
            f"d = {d}: largest error of {len(found)} eigenvalues",
            found, known, 1e-10, source="l (l + d - 2) I_(l + nu) / (beta I_nu), for each harmonic",
        )  # fmt: skip
        for mode, rate in zip(modes, each, strict=True):
            nearest = found[np.abs(found - rate).argmin()]
            rows.append(dict(part="rate", d=d, mode=int(mode), value=float(nearest), known=float(rate)))
    return rows


def beside_tokens(bench: Bench) -> list[dict[str, Any]]:
    """Follow a density, and tokens at its quantiles: an even spacing of quantiles is a rule of high order."""
    field = bench.face.MeanField(beta=BETA, d=2, degree=DEGREE, quadrature=6 * DEGREE)
    angle = np.linspace(0, 2 * np.pi, 20_001)
    whole = (angle + sum(BUMP / k * np.sin(k * angle) for k in SHOWN)) / (2 * np.pi)
    members, n = (32, 64) if bench.quick else (256, 256)
    at = np.interp((np.arange(n) + 0.5) / n, whole, angle)
    for _ in range(3):  # Newton: exact quantiles
        over = at + sum(BUMP / k * np.sin(k * at) for k in SHOWN) - 2 * np.pi * (np.arange(n) + 0.5) / n
        at -= over / (1 + sum(BUMP * np.cos(k * at) for k in SHOWN))
    x = np.concatenate(
        [np.stack([np.cos(at), np.sin(at)], 1)[None], ctsa.random_tokens(n, 2, seed=0, batch=(members,))]
    )
    c = field.coefficients(lambda p: 1 + sum(BUMP * np.cos(k * np.arctan2(p[:, 1], p[:, 0])) for k in SHOWN))
    times = np.linspace(0.0, 2.0, 9)
    density = bench.keep("density", bench.flow(field, c, times, atol=1e-9 if bench.quick else 1e-11))
    tokens = bench.flow(
        bench.face.SelfAttention(beta=BETA), x, times, atol=1e-9 if bench.quick else 1e-11
    )  # all in one batch
    means, cs = as_numpy(field.from_tokens(tokens.xs[:, 0])), as_numpy(density.xs)
    kept = slice(0, 2 * (n // 4))  # a rule of n points takes high degrees for low ones
    off = np.abs(means - cs)[..., kept].max()
    bench.check(f"largest error of means up to degree {n // 4} over {n} tokens at quantiles, until t = 2", off, 0.0, 1e-7,
                source="the density")  # fmt: skip
    bench.check("share of the density in its highest degrees", density.stats["tail"], 0.0, 1e-6, relation="at most",
                source="resolved")  # fmt: skip
    first = np.log(cs[1, 0, ::2][[k - 1 for k in SHOWN]] / cs[0, 0, ::2][[k - 1 for k in SHOWN]]) / times[1]
    rows = [
        dict(part="mean", t=float(t), mode=k, value=float(means[i, 0, 2 * k - 2]), known=float(cs[i, 0, 2 * k - 2]))
        for i, t in enumerate(times) for k in SHOWN
    ]  # fmt: skip
    off = np.abs(first / theory.uniform_growth_rate(np.array(SHOWN), BETA) - 1).max()
    bench.say(f"growth until t = {times[1]:g} differs from that of small perturbations by {off:.1%}")
    at = np.linspace(-np.pi, np.pi, 181)
    points = load(bench.backend).asarray(np.stack([np.cos(at), np.sin(at)], 1))
    for i in (0, 4, 8):
        profile = as_numpy(field.density(density.xs[i], points))
        rows += [
            dict(part="profile", t=float(times[i]), angle=float(a), value=float(v))
            for a, v in zip(at, profile, strict=True)
        ]
    return [*rows, *fluctuations(bench, as_numpy(tokens.xs[4, 1:]))]


def fluctuations(bench: Bench, end: np.ndarray) -> list[dict[str, Any]]:
    """Compare how chance has grown in random tokens at t = 1 with the rate of each mode."""
    members, n = end.shape[:2]
    angle = np.arctan2(end[..., 1], end[..., 0])
    rows = []
    for k in SHOWN:
        square = 2 * n * np.mean(np.stack([np.cos(k * angle).mean(-1), np.sin(k * angle).mean(-1)]) ** 2)
        known = float(np.exp(2 * theory.uniform_growth_rate(k, BETA)))
        bench.check(f"{members} starts of {n} random tokens: n times the mean square of mode {k} at t = 1", square, known,
                    4 * known / members**0.5 + 4 * known**2 / n,
                    source="exp(2 t rate), four standard errors and 1/n")  # fmt: skip
        rows.append(dict(part="fluctuation", mode=k, value=float(square), known=known))
    return rows


def bumps(bench: Bench) -> list[dict[str, Any]]:
    """Count the maxima that grow out of the uniform density."""
    rows = []
    for beta in (4.0, 9.0) if bench.quick else (1.0, 2.0, 4.0, 9.0, 16.0, 25.0):
        field = bench.face.MeanField(beta=beta, d=2, degree=DEGREE, quadrature=6 * DEGREE)
        start = np.full(field.uniform.shape, 0.0)
        start[0, :40] = 1e-6 * np.random.default_rng(1).choice([-1.0, 1.0], 40)
        known, rate = theory.most_unstable_mode(beta)
        times = np.linspace(0.0, np.log(5e3) / rate, 9)
        end = bench.flow(field, start, times, atol=1e-9 if bench.quick else 1e-11)
        profile = as_numpy(field.density(end.xs[-1]))
        count = int(((profile > np.roll(profile, 1)) & (profile > np.roll(profile, -1))).sum())
        size = np.hypot(*as_numpy(end.xs[-1])[0].reshape(-1, 2).T)
        bench.check(f"beta = {beta:g}: mode of the largest coefficient at t = {float(end.ts[-1]):.1f}", size.argmax() + 1,
                    known, source="the fastest mode")  # fmt: skip
        rows.append(dict(part="bumps", beta=beta, mode=count, value=float(count), known=float(known)))
    return rows


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw growth rates, means of tokens beside those of the density, and profiles; return the three ``Axes``."""
    from .drawing import entry, finish, panels

    axes = panels(axes, 3)
    legend = []
    for d, label in ((2, "circle"), (3, "two-sphere")):
        mine = found.where(part="rate", d=d)
        (line,) = axes[0].plot(mine["mode"], mine["known"], linewidth=1)
        axes[0].plot(mine["mode"], mine["value"], "o", markersize=3, color=line.get_color())
        legend.append(entry(line.get_color(), label))
    finish(axes[0], "degree", "growth rate", legend)
    legend = []
    for k in SHOWN:
        mine = found.where(part="mean", mode=k)
        (line,) = axes[1].plot(mine["t"], mine["known"], linewidth=1)
        axes[1].plot(mine["t"], mine["value"], "o", markersize=3, color=line.get_color())
        legend.append(entry(line.get_color(), f"mode {k}"))
    finish(axes[1], "time", "mean of a harmonic", legend)
    legend = []
    mine = found.where(part="profile")
    for t in np.unique(mine["t"]):
        (line,) = axes[2].plot(mine["angle"][mine["t"] == t], mine["value"][mine["t"] == t], linewidth=1)
        legend.append(entry(line.get_color(), f"t = {t:g}", mark=""))
    finish(axes[2], "angle", "density per radian", legend)
    return axes
