"""Loops of a fixed step against the flow: how many runs end with tokens in a cluster that is not theirs?"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

import ctsa
from ctsa._backend import load
from ctsa.clustering import clusters
from ctsa.fixed_points.points import wilson
from ctsa.flows import integrate
from ctsa.geometry import random_tokens
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

VALUE = np.diag([3.0, 2.0, 1.0])
SCHEMES = {"N(x + h u)": "PostNormLayer", "N(x + h P u)": "EulerLayer", "Runge-Kutta": "RungeKuttaLayer"}


class Case(NamedTuple):
    """What is run: Q = K = V = I, or (``ends``) Q = V = diag(3, 2, 1), whose tokens end at +-v_0 and stay there."""

    n: int
    d: int
    beta: float
    time: int
    ends: bool

    def __str__(self) -> str:
        what = "V = diag(3, 2, 1)" if self.ends else "V = I"
        return f"{what}, n = {self.n}, d = {self.d}, beta = {self.beta:g}"


def run(bench: Bench) -> Findings:
    """Compare clusters of loops with those of the flow, start by start."""
    cases = [Case(32, 2, 9.0, 10, False), Case(32, 3, 4.0, 6, True)]
    if not bench.quick:
        cases += [Case(n, 2, beta, 10, False) for n in (8, 32) for beta in (4.0, 9.0, 25.0) if (n, beta) != (32, 9.0)]
        cases += [Case(64, 2, 9.0, 10, False), Case(32, 3, 9.0, 10, False), Case(32, 3, 16.0, 6, True)]
    steps, starts = ((0.2, 0.1), 40) if bench.quick else ((0.4, 0.2, 0.1, 0.05), 200)
    rows, notes = [], []
    for case in cases[:1] if bench.quick else cases:
        found = judged(bench, case, steps, starts)
        rows += found
        told = ", ".join(f"{r['wrong']} by {r['scheme']}" for r in found if r["step"] == 0.1)
        notes.append(f"{case}, t = {case.time}: of {starts} runs with step .1 go wrong {told}.")
    last = {name: [r["order"] for r in rows if r["scheme"] == name and r["step"] == steps[-1]] for name in SCHEMES}
    for name, power, within in zip(SCHEMES, (1, 1, 4), (0.2, 0.2, 0.4), strict=True):
        worst = last[name][int(np.argmax(np.abs(np.array(last[name]) - power)))]
        bench.check(
            f"{name}: order of the error at t = 1, farthest from known",
            worst,
            power,
            within,
            source="order of the method",
        )
    plain = [r for r in rows if r["scheme"] == "N(x + h u)" and r["step"] == 0.1]
    bench.check(
        "runs that N(x + .1 u) puts into wrong clusters", sum(r["wrong"] for r in plain), 1, relation="at least"
    )
    better = sum(r["wrong"] for r in rows if r["scheme"] == "Runge-Kutta" and r["step"] == 0.1)
    bench.check(
        "wrong runs with step .1, Runge-Kutta less N(x + h u)",
        better - sum(r["wrong"] for r in plain),
        -1,
        relation="at most",
    )
    return bench.found(rows, notes)


def judged(bench: Bench, case: Case, steps: tuple[float, ...], starts: int) -> list[dict[str, Any]]:
    """Run the flow at two tolerances, and all loops, from the same starts."""
    matrix = VALUE if case.ends else None
    field = bench.face.SelfAttention(query=matrix, value=matrix, beta=case.beta)
    x = random_tokens(case.n, case.d, seed=0, batch=(starts,))
    times = np.arange(case.time + 1.0)
    flow, again = (as_numpy(integrate(field, x, times, atol=atol, progress=False).xs) for atol in (1e-10, 1e-8))
    truth = clusters(flow[-1], 0.1)
    bench.check(
        f"{case}: tokens in other clusters at atol 1e-8 than at 1e-10",
        misplaced(truth, clusters(again[-1], 0.1)).sum(),
        0,
        source="the flow is known to rounding",
    )
    be, rows = load(bench.backend), []
    for name, kind in SCHEMES.items():
        before = np.nan
        for step in steps:
            each = round(1 / step) if 1 / step == round(1 / step) else 0
            depth, every = round(case.time / step), each or round(case.time / step)
            xs = as_numpy(
                ctsa.iterate(getattr(bench.face, kind)(field, step=step), be.asarray(x), depth, every=every).xs
            )
            labels = clusters(xs[-1], 0.1)
            off = misplaced(truth, labels)
            error = float(np.sqrt(((xs[1] - flow[1]) ** 2).sum((-2, -1))).mean()) if each else np.nan
            wrong = int((off > 0).sum())
            _, low, high = wilson(wrong, starts, 0.95)
            rows.append(
                dict(
                    case=str(case),
                    n=case.n,
                    d=case.d,
                    beta=case.beta,
                    ends=case.ends,
                    scheme=name,
                    step=step,
                    runs=starts,
                    wrong=wrong,
                    low=low,
                    high=high,
                    tokens=float(off.mean() / case.n),
                    counts_differ=int((labels.max(1) != truth.max(1)).sum()),
                    error=error,
                    order=float(np.log2(before / error)),
                )
            )
            before = error
        bench.say(
            f"{case}: {name} goes wrong in "
            + ", ".join(f"{r['wrong']} (h = {r['step']:g})" for r in rows[-len(steps) :])
        )
    return rows


def misplaced(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the tokens of each run ``(runs, n)`` that are not in the cluster that matches theirs best."""
    off = np.zeros(len(truth), int)
    for i, (a, b) in enumerate(zip(truth, labels, strict=True)):
        shared = np.zeros((a.max() + 1, b.max() + 1), int)
        np.add.at(shared, (a, b), 1)
        off[i] = len(a) - shared[linear_sum_assignment(shared, maximize=True)].sum()
    return off


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw shares of wrong runs, and the error at t = 1, against the step; return the two ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    case, told = found.rows["case"][0], []
    for name, colour in zip(SCHEMES, PALETTE, strict=False):
        mine = found.where(case=case, scheme=name)
        share = mine["wrong"] / mine["runs"]
        bars = np.maximum([share - mine["low"], mine["high"] - share], 0)
        left.errorbar(mine["step"], share, bars, color=colour, fmt="o-", markersize=3, capsize=2, linewidth=1)
        right.loglog(mine["step"], mine["error"], "o-", color=colour, markersize=3, linewidth=1)
        told.append(entry(colour, name))
    finish(left, "step", "share of runs that go wrong")
    finish(right, "step", "error at $t = 1$", told)
    left.set_title(case, fontsize=7)
    return np.array([left, right])
