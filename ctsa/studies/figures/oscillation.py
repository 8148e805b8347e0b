"""Oscillations that a layer takes for something else: exponents of rotations under steps, and a consensus that turns."""

from typing import Any

import numpy as np

import ctsa
from ctsa import theory
from ctsa._backend import load
from ctsa.geometry import Euclidean, random_tokens
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings
from ctsa.tangent import lyapunov_spectrum

from .bench import Bench

FREQUENCIES = np.array([2.0, 1.0])
KINDS = ("Euler", "Euler, normalised", "RK4", "RK4, normalised")
VALUE = np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, -1.0]])  # a leading pair 1 +- 2i
LEADING, OTHER, N, D = 1.0 + 2.0j, -1.0, 4, 3
STEP = 0.5


def run(bench: Bench) -> Findings:
    """Hold exponents of rotations under steps against closed forms; then those of a consensus that turns."""
    steps = (0.1, 0.5, 1.0) if bench.quick else (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)
    rows = rotation(bench, steps)
    path, period = turning(bench)
    shown = {k: [r for r in rows if r["kind"] == k and r["step"] == 0.5] for k in KINDS}
    told = "; ".join(
        f"{k}: {max(each['exponent'] for each in r):+.4f} ... {min(each['exponent'] for each in r):+.4f}"
        for k, r in shown.items()
    )
    notes = [
        f"x' = Omega x with frequencies {FREQUENCIES[0]:g} and {FREQUENCIES[1]:g}, whose exponents are zero. Exponents a "
        f"step of .5, largest and smallest: {told}.",
        f"V with the leading pair 1 +- 2i: consensus turns with the period {2 * np.pi / LEADING.imag:.4f}, under layers "
        f"N(x + {STEP:g} sum a V x) with {period:.4f}.",
    ]
    return bench.found([*rows, *path], notes)


def layer_of(bench: Bench, kind: str, step: float) -> Any:
    """Return a layer that takes a step along ``Omega x``, with or without normalisation."""
    normalised = kind.endswith("normalised")
    field = bench.face.Rotation(frequencies=FREQUENCIES, geometry=None if normalised else Euclidean())
    made = bench.face.EulerLayer if kind.startswith("Euler") else bench.face.RungeKuttaLayer
    return made(field, step)


def growth(kind: str, z: np.ndarray) -> np.ndarray:
    """Return the logarithm of the factor ``|R(i z)|`` by which a step of ``z = h w`` changes a length."""
    w = 1j * z
    r = 1 + w if kind.startswith("Euler") else 1 + w + w**2 / 2 + w**3 / 6 + w**4 / 24
    return np.log(np.abs(r))


def rotation(bench: Bench, steps: tuple[float, ...]) -> list[dict[str, Any]]:
    """Compare exponents of rotations: of the flow, of plain steps, of normalised ones."""
    rows: list[dict[str, Any]] = []
    flow = lyapunov_spectrum(
        bench.face.Rotation(frequencies=FREQUENCIES), random_tokens(1, 4, seed=0), intervals=20, transient=0,
        atol=1e-10, progress=False,
    )  # fmt: skip
    bench.keep("flow", flow)
    bench.check("flow: largest modulus of an exponent", np.abs(flow.exponents).max(), 0.0, 1e-8,
                source="rotations keep distances")  # fmt: skip
    for kind in KINDS:
        off = 0.0
        for step in steps:
            g = growth(kind, step * FREQUENCIES)
            first = int(g.argmax())  # normalised tokens near the plane that grows fastest: begin there
            axes = np.roll(np.eye(4), -2 * first, 0)  # frames along the planes: others settle as slowly as rates differ
            x, frame = axes[:1], axes[1:] if kind.endswith("normalised") else axes
            if kind.endswith("normalised"):
                known = np.array([0.0, g.min() - g.max(), g.min() - g.max()])
            else:
                known = np.sort(np.repeat(g, 2))[::-1]
            found = lyapunov_spectrum(
                layer_of(bench, kind, step), x, frame=frame[:, None], intervals=60, transient=0, progress=False
            )
            off = max(off, float(np.abs(found.exponents - known).max()))
            rows += [
                dict(part="rotation", kind=kind, step=step, index=i, exponent=float(v), known=float(w))
                for i, (v, w) in enumerate(zip(found.exponents, known, strict=True))
            ]
        form = "ln |R(i h w)|" + (", less its largest" if kind.endswith("normalised") else "")
        bench.check(f"{kind}: largest error of an exponent", off, 0.0, 1e-12, source=form)
    why = "Euler's method adds energy, this one loses it for h w < 2.8"
    low = min(r["exponent"] for r in rows if r["kind"] == "Euler")
    high = max(r["exponent"] for r in rows if r["kind"] == "RK4")
    bench.check("Euler: smallest exponent", low, 0.0, relation="at least", source=why)
    bench.check("RK4: largest exponent", high, 0.0, relation="at most", source=why)
    return rows


def turning(bench: Bench) -> tuple[list[dict[str, Any]], float]:
    """Let consensus turn under a leading complex pair, in time and by layers."""
    field, step = bench.face.SelfAttention(query=np.eye(D), key=np.eye(D), value=VALUE, beta=1.0), STEP
    x = random_tokens(N, D, seed=1)
    flow = bench.keep("turning consensus", bench.flow(field, x, np.linspace(0.0, 30.0, 301)))
    angle = np.unwrap(np.arctan2(*as_numpy(flow.xs)[:, 0, 1::-1].T))
    bench.check("consensus of the flow: period", 2 * np.pi * 10.0 / (angle[300] - angle[200]),
                theory.consensus_period(VALUE), 1e-6, source="2 pi / w")  # fmt: skip
    if not bench.quick:
        cycle = ctsa.find_limit_cycle(field, x)
        known = theory.consensus_multipliers(VALUE, N)
        bench.check("consensus of the flow: largest error of its Floquet multipliers", _apart(cycle.multipliers, known),
                    0.0, 1e-6, source="exp((mu - a) T), exp(-a T)")  # fmt: skip
    # One step of the layer multiplies the plane of the pair by 1 + h (a + i w).
    factor = 1 + step * LEADING
    layer = bench.face.PostNormLayer(field, step)
    depth = 240
    path = as_numpy(ctsa.iterate(layer, load(bench.backend).asarray(x), depth).xs)
    angle = np.unwrap(np.arctan2(path[:, 0, 1], path[:, 0, 0]))
    late = (angle[-1] - angle[depth // 2]) / (depth - depth // 2)
    period = 2 * np.pi * step / late
    bench.check("consensus of layers: turn a layer", late, np.angle(factor), 1e-9, source="arg(1 + h (a + i w))")
    spectrum = lyapunov_spectrum(layer, path[-1], intervals=40, transient=150, progress=False)
    bench.keep("layers", spectrum)
    # Between tokens the layer changes nothing but the tangent plane, which turns by arg(1 + h (a + i w)).
    size, turn = abs(factor), np.cos(np.angle(factor))
    each = [0.0, np.log((1 + step * OTHER) / size), *[-np.log(size)] * (N - 1), *[np.log(turn / size)] * (N - 1)]
    bench.check("consensus of layers: largest error of all exponents",
                np.abs(spectrum.exponents - np.sort(each)[::-1]).max(), 0.0, 1e-9,
                source="0, ln (1 + h mu) / R, ln 1 / R, ln cos(turn) / R")  # fmt: skip
    times = np.arange(25) * step
    rows = []
    for kind, ts, xs in (("flow", as_numpy(flow.ts)[:121], as_numpy(flow.xs)[:121]), ("layers", times, path[:25])):
        rows += [
            dict(part="path", kind=kind, token=i, t=float(t), x=float(p[0]), y=float(p[1]))
            for t, state in zip(ts, xs, strict=True) for i, p in enumerate(state)
        ]  # fmt: skip
    return rows, float(period)


def _apart(found: np.ndarray, known: np.ndarray) -> float:
    """Return how far two lists of numbers are apart, whatever their order."""
    return max(float(np.abs(found[:, None] - known).min(0).max()), float(np.abs(found[:, None] - known).min(1).max()))


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw exponents against the step, and components of tokens against time; return the two ``Axes``."""
    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    fine = np.linspace(0.01, max(found.where(part="rotation")["step"]), 100)
    legend = []
    for kind in KINDS:
        mine = found.where(part="rotation", kind=kind)
        g = growth(kind, fine[:, None] * FREQUENCIES)
        known = g if not kind.endswith("normalised") else np.stack([0 * fine, g.min(1) - g.max(1)], 1)
        style = "--" if kind.endswith("normalised") else "-"
        (line,) = left.plot(fine, known[:, 0], style, linewidth=1)
        left.plot(fine, known[:, 1], style, linewidth=1, color=line.get_color())
        left.plot(mine["step"], mine["exponent"], "o", markersize=3, color=line.get_color())
        legend.append(entry(line.get_color(), kind, style))
    finish(left, "step $h$", "exponents a step", legend, "upper left")
    legend = []
    for kind in ("flow", "layers"):
        mine, colour = found.where(part="path", kind=kind), None
        for i in range(N):
            here = mine["token"] == i
            mark = "" if kind == "flow" else "."
            (line,) = right.plot(
                mine["t"][here], mine["x"][here], marker=mark, markersize=3, linewidth=0.8, color=colour
            )
            colour = line.get_color()
        legend.append(entry(colour, kind if kind == "flow" else f"layers of step {STEP:g}", mark=""))
    right.set_ylim(-1.05, 1.55)
    finish(right, "time", "first component of tokens", legend, "upper right")
    return np.array([left, right])
