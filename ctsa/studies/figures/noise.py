"""Tokens with noise: how fast they forget, where the uniform density loses its stability, and the bump below."""

from typing import Any

import numpy as np
from scipy.special import i0e, i1e

import ctsa
from ctsa import theory
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

BETA = 2.0
LEVELS = (0.6, 0.8, 1.2, 1.5)


def run(bench: Bench) -> Findings:
    """Hold diffusion, the critical noise and fluctuations against closed forms; follow the bump up to where it ends."""
    rows = [*diffusion(bench), *critical(bench), *branches(bench), *tokens(bench)]
    ends = "; ".join(
        f"{r['value']:.4f} at beta = {r['beta']:g}" for r in rows if r["part"] == "end"
    )  # of the branch, over the critical noise
    means = "; ".join(
        f"{r['sigma']:g}: {r['value']:.4f}, known {r['known']:.4f}" for r in rows if r["part"] == "tokens"
    )
    notes = [
        f"Most noise at which a bump of the circle exists, over the critical noise: {ends}.",
        f"Mean square of the mean of tokens, beta = {BETA:g}, by noise over the critical one: {means}.",
    ]
    return bench.found(rows, notes)


def diffusion(bench: Bench) -> list[dict[str, Any]]:
    """Let tokens that begin at the north pole diffuse."""
    sigma, n = 0.5, 4000 if bench.quick else 100_000
    pole = np.zeros((n, 3))
    pole[:, 2] = 1.0
    times = np.linspace(0.0, 4.0, 9)
    run = bench.flow(bench.face.Noise(sigma), pole, times, step=0.05, seed=1)
    z = as_numpy(run.xs)[..., 2]
    rows = []
    for degree, found in ((1, z), (2, (3 * z**2 - 1) / 2)):
        known = np.exp(-(sigma**2) / 2 * degree * (degree + 1) * times)
        off = np.abs(found.mean(1) - known)[1:] / (found.std(1)[1:] / n**0.5)
        bench.check(f"two-sphere: largest error of the mean of P_{degree} of {n} tokens, in standard errors",
                    float(off.max()), 0.0, 4.5, source=f"exp(-{degree * (degree + 1)} sigma^2 t / 2)")  # fmt: skip
        rows += [
            dict(part="diffusion", mode=degree, t=float(t), value=float(v), known=float(w))
            for t, v, w in zip(times, found.mean(1), known, strict=True)
        ]
    return rows


def critical(bench: Bench) -> list[dict[str, Any]]:
    """Look at the leading eigenvalue of the uniform density with the critical noise."""
    rows, off, slope = [], 0.0, 0.0
    for beta in (0.5, 1.0, 2.0, 4.0, 8.0):
        sigma = theory.critical_noise(beta)[0]
        for factor in (1.0, 0.9):
            field = bench.face.MeanField(beta=beta, d=2, degree=16, sigma=factor * sigma, quadrature=96)
            lead = ctsa.eigenvalues(field, field.uniform).real[0]
            if factor == 1.0:
                off = max(off, abs(lead))
            elif theory.most_unstable_mode(beta, sigma=factor * sigma)[0] == 1:
                slope = max(slope, abs(lead - (1 - factor**2) * sigma**2 / 2))
        rows.append(
            dict(part="critical", beta=beta, value=float(sigma), known=float((2 * i1e(beta) / beta / i0e(beta)) ** 0.5))
        )
    bench.check(
        "circle: largest leading eigenvalue at the critical noise", off, 0.0, 1e-12, source="2 I_1 / (beta I_0)"
    )
    bench.check("circle: error of it at .9 of that, where mode 1 leads", slope, 0.0, 1e-12, source="sigma^2 / 2 less")
    return rows


def branches(bench: Bench) -> list[dict[str, Any]]:
    """Follow the bump through the noise."""
    rows = []
    for beta in (BETA,) if bench.quick else (BETA, 6.0, 10.0):
        sigma = theory.critical_noise(beta)[0]
        field = bench.face.MeanField(beta=beta, d=2, degree=16, sigma=0.8 * sigma, quadrature=96)
        start = field.coefficients(lambda x: 1 + 0.9 * x[:, 0])
        bump = bench.flow(field, start, [0.0, 60.0], atol=1e-8).xs[-1]
        values = ctsa.eigenvalues(field, bump).real
        if beta == BETA:
            bench.check("bump at .8 of the critical noise: leading eigenvalue", values[0], 0.0, 1e-6,
                        source="it may be turned")  # fmt: skip
            bench.check("bump at .8 of the critical noise: next eigenvalue", values[1], 0.0, relation="at most",
                        source="and is stable otherwise")  # fmt: skip
        branch = ctsa.continue_equilibrium(field, bump, "sigma", (0.6 * sigma, 1.4 * sigma), step=0.1)
        bench.keep(f"beta = {beta:g}", branch)
        share = as_numpy(branch.parameters) / sigma
        size = np.hypot(as_numpy(branch.xs)[:, 0, 0], as_numpy(branch.xs)[:, 0, 1]) / 2**0.5
        rows.append(dict(part="end", beta=beta, value=float(share.max())))
        if beta == BETA:
            near = size[np.abs(share - 1).argmin()]
            bench.check(f"beta = {beta:g}: most noise of the bump over the critical one", share.max(), 1.0, 1e-4,
                        source="2 I_1 / (beta I_0), continuous")  # fmt: skip
            bench.say(f"the mean is {near:.1e} there")
        rows += [
            dict(part="branch", beta=beta, sigma=float(s), value=float(v), stable=bool(ok))
            for s, v, ok in zip(share, size, as_numpy(branch.stable), strict=True)
        ]
    return rows


def tokens(bench: Bench) -> list[dict[str, Any]]:
    """Measure the mean of tokens with noise, below the critical noise and above."""
    members, n, end = (32, 64, 40.0) if bench.quick else (64, 256, 40.0)
    critical = theory.critical_noise(BETA)[0]
    rate = theory.uniform_growth_rate(1, BETA)
    rows: list[dict[str, Any]] = []
    for level in LEVELS:
        sigma = level * critical
        field = bench.face.SelfAttention(beta=BETA) + bench.face.Noise(sigma)
        x = ctsa.random_tokens(n, 2, seed=2, batch=(members,))
        if level < 1:  # the bump is reached sooner from one point than from afar
            x = np.broadcast_to([1.0, 0.0], x.shape)
        run = bench.flow(field, x, np.linspace(0.0, end, 17), step=0.1, seed=3)
        square = (as_numpy(run.xs).mean(-2) ** 2).sum(-1)[6:].mean(0)  # of each member, over time
        if level > 1:
            known = float(sigma**2 / 2 / (sigma**2 / 2 - rate) / n)
            source = "(sigma^2 / 2) / (sigma^2 / 2 - growth) / n, four standard errors and 1/n^2"
            extra = 10 * known**2
        else:
            mean = bench.face.MeanField(beta=BETA, d=2, degree=16, sigma=sigma, quadrature=96)
            start = mean.coefficients(lambda x: 1 + 0.9 * x[:, 0])
            c = as_numpy(bench.flow(mean, start, [0.0, 60.0], atol=1e-8).xs[-1])
            known = float((c[0, 0] ** 2 + c[0, 1] ** 2) / 2)
            source, extra = "the bump, four standard errors and 4/n", 4 / n
        bench.check(f"noise {level:g} of the critical one, {n} tokens: mean square of their mean",
                    square.mean(), known, 4 * square.std() / members**0.5 + extra, source=source)  # fmt: skip
        rows.append(dict(part="tokens", beta=BETA, sigma=level, value=float(square.mean()), known=known))
    return rows


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw diffusion, the critical noise, and the mean of tokens against the noise; return the three ``Axes``."""
    from .drawing import entry, finish, panels

    axes = panels(axes, 3)
    legend = []
    for degree in (1, 2):
        mine = found.where(part="diffusion", mode=degree)
        (line,) = axes[0].plot(mine["t"], mine["known"], linewidth=1)
        axes[0].plot(mine["t"], mine["value"], "o", markersize=3, color=line.get_color())
        legend.append(entry(line.get_color(), f"mean of $P_{degree}$"))
    finish(axes[0], "time", "two-sphere, from the pole", legend)
    fine = np.linspace(0.01, 9.0, 100)
    axes[1].plot(fine, [theory.critical_noise(b)[0] for b in fine], linewidth=1)
    mine = found.where(part="critical")
    axes[1].plot(mine["beta"], mine["known"], "o", markersize=3)
    axes[1].set_ylim(0, None)
    finish(axes[1], r"$\beta$", "critical noise, circle")
    legend = []
    for beta in dict.fromkeys(found.where(part="branch")["beta"].tolist()):
        mine = found.where(part="branch", beta=beta)
        order = np.arange(len(mine["sigma"]))
        (line,) = axes[2].plot(mine["sigma"], mine["value"], ":", linewidth=1)
        stable = np.where(mine["stable"][order].astype(bool), mine["value"], np.nan)
        axes[2].plot(mine["sigma"], stable, linewidth=1.2, color=line.get_color())
        legend.append(entry(line.get_color(), rf"bump, $\beta$ = {beta:g}", mark=""))
        if beta == BETA:
            dots = found.where(part="tokens")
            axes[2].plot(dots["sigma"], dots["value"] ** 0.5, "o", markersize=3, color=line.get_color())
            legend.append(entry(line.get_color(), "tokens", ""))
    axes[2].set_ylim(0, 1.0)
    finish(axes[2], "noise over the critical one", "length of the mean", legend, "upper right")
    return axes
