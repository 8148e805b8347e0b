"""Where a transformer normalises: the same paths of tokens, at other speeds, down to how fast they cluster in the end."""

from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from ctsa import theory
from ctsa.geometry import Sphere
from ctsa.observables import gram
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

N, BETA = 8, 2.0
SCHEMES = ("post", "ngpt", "ln-scaling", "pre", "peri")
END = {"post": "exp(-2 t)", "ngpt": "exp(-2 t)", "ln-scaling": "exp(-4 sqrt(t))", "pre": "t^-2", "peri": "t^-2"}


def run(bench: Bench) -> Findings:
    """Follow equiangular tokens under five schemes, and hold them against two equations of two numbers."""
    end = 30.0 if bench.quick else 300.0
    ts = np.concatenate([[0.0], np.geomspace(0.05, end, 40)])
    rows: list[dict[str, Any]] = []
    for scheme in SCHEMES:
        field = bench.face.SpeedRegulated(bench.face.SelfAttention(beta=BETA), scheme)
        path = bench.flow(field, np.eye(N), ts, solver="dopri8", atol=1e-11)
        directions = as_numpy(Sphere().retract(path.xs))
        products = as_numpy(gram(directions))
        g, spread = products[:, 0, 1], np.ptp(products[:, ~np.eye(N, dtype=bool)], axis=1).max()
        known = reduced(scheme, ts)
        bench.check(f"{scheme}: products of tokens differ among each other by", spread, 0.0, 1e-12, source="equiangular")
        bench.near(f"{scheme}: largest error of 1 - <x_i, x_j>", g, known, 1e-9, source="two equations of g and r")
        rows += [dict(scheme=scheme, t=t, g=a, known=b) for t, a, b in zip(ts, g, known, strict=True)]
    early = (ts > 0) & (ts < 5)
    for scheme, clock in (("post", ts), ("ln-scaling", 2 * (np.sqrt(ts + 1) - 1))):
        when = theory.equiangular_time(column(rows, scheme)[early], BETA, N)
        bench.check(f"{scheme}: largest error of the time at which products are what they are",
                    np.abs(when / clock[early] - 1).max(), 0.0, 1e-8, source="closed form, arXiv:2312.10794")  # fmt: skip
    late = 3e5  # the two equations go on where the run of all tokens ended
    for scheme in ("pre", "peri"):
        a, b = 1 - reduced(scheme, np.array([0.0, late, 2 * late]))[1:]
        bench.check(f"{scheme}: exponent of 1 - g in the end", np.log(b / a) / np.log(2), -2.0, 1e-3,
                    source="theta' = P A / r, r grows as t")  # fmt: skip
    half = {s: float(np.interp(0.5, column(rows, s), ts)) for s in SCHEMES}
    told = ", ".join(f"{s} {t:.2f}" for s, t in half.items())
    last = ", ".join(f"{s} {max(1 - column(rows, s)[-1], 0):.2g} (as {END[s]})" for s in SCHEMES)
    notes = [
        f"{N} orthonormal tokens, beta = {BETA:g}, r = 1 at the start. Time until products are 1/2: {told}.",
        f"1 - <x_i, x_j> at t = {end:g}: {last}.",
        "Under pre and peri the lengths of tokens grow as t, and directions near each other as a power of time, not "
        "exponentially: paths are the same, so nothing but the clock tells the schemes apart here.",
    ]
    return bench.found(rows, notes)


def column(rows: list[dict[str, Any]], scheme: str) -> np.ndarray:
    """Return the products of a scheme."""
    return np.array([row["g"] for row in rows if row["scheme"] == scheme])


def reduced(scheme: str, ts: np.ndarray) -> np.ndarray:
    """Return the products of equiangular tokens: by their symmetry one number g, and the length r where tokens grow."""

    def slope(t: float, y: np.ndarray) -> list[float]:
        e, r = y  # e = 1 - g, which keeps its digits
        g = 1 - e
        own, other = np.exp(BETA * e), N - 1  # weights over e^(beta g)
        total = own + other
        rate = 2 * e * ((N - 1) * g + 1) / total  # of "post", and minus that of e
        along = (own + other * g) / total  # <theta, A>
        # A = own x_i + sum of the others, over the total
        square = (own**2 + 2 * own * other * g + other * (1 + (N - 2) * g)) / total**2
        size = np.sqrt(square)
        s = {"post": 1.0, "ngpt": size, "ln-scaling": np.sqrt(t + 1), "pre": r, "peri": r * size}[scheme]
        grows = {"pre": along, "peri": along / size}.get(scheme, 0.0)
        return [-rate / s, grows]

    found = solve_ivp(slope, (ts[0], ts[-1]), [1.0, 1.0], "DOP853", ts, rtol=1e-12, atol=1e-14)
    return 1 - found.y[0]


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw products against time, and how far they are from one; return the two ``Axes``."""
    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    legend = []
    for scheme in SCHEMES:
        mine = found.where(scheme=scheme)
        (line,) = left.plot(mine["t"], mine["known"], linewidth=1)
        left.plot(mine["t"], mine["g"], "o", color=line.get_color(), markersize=2)
        some = (mine["t"] > 0) & (1 - mine["g"] > 1e-9)
        right.plot(mine["t"][some], 1 - mine["g"][some], color=line.get_color(), linewidth=1)
        legend.append(entry(line.get_color(), scheme))
    left.set_xscale("symlog", linthresh=0.1)
    right.set(xscale="log", yscale="log")
    finish(left, "time", r"product $\langle x_i, x_j\rangle$", legend)
    finish(right, "time", r"$1 - \langle x_i, x_j\rangle$")
    return np.array([left, right])
