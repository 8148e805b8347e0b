"""Every layer of all-MiniLM-L6-v2 over and over, whole and without its perceptron: at rest, in a cycle, or chaotic."""

from typing import Any

import numpy as np

import ctsa
from ctsa import pretrained
from ctsa._backend import load
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench
from .finding_looped_layer import ERROR, LAYER as CHAOTIC, PUBLISHED, TEXT


def run(bench: Bench) -> Findings:
    """Loop layers from their own input; hold the rate at which they come to rest against the Jacobian's eigenvalues."""
    model = pretrained.load()
    loops, told = (120, ((1, True), (4, False), (CHAOTIC, True))) if bench.quick else (800, None)
    cases = told or tuple((layer, whole) for whole in (True, False) for layer in range(model.layers))
    rows, resting = [], []
    for layer, whole in cases:
        row, speeds = row_of(bench, model, layer, whole, loops)
        rows += [row | dict(loop=k, speed=float(speeds[k])) for k in range(0, loops, max(1, loops // 200))]
        if row["multiplier"] < 1:
            resting.append(row)
    off = max(abs(np.expm1(r["rate"] - np.log(r["multiplier"]))) for r in resting)
    bench.check(
        "factor by which a layer comes to rest, over its leading multiplier: largest distance from 1",
        off, 0.0, 0.03, source="the Jacobian at the fixed point",
    )  # fmt: skip
    moving = [row_name(r) for r in rows if r["loop"] == 0 and r["multiplier"] >= 1]
    bench.check("cases that do not come to rest", len(moving), 1, source="layer 3, whole, alone")
    value, error = exponent(bench, model)
    if bench.quick:  # too few loops for the number
        bench.check("layer 3: largest exponent", value, 0, relation="at least", source="it is chaotic")
    else:
        bench.check(
            "layer 3: largest exponent",
            value,
            PUBLISHED,
            3 * np.hypot(error, ERROR),
            source="torch, 1400 loops after 300",
        )
        cycle(bench, model)
    notes = [
        f"{len(resting)} of {len(cases)} cases come to rest within {loops} loops; the slowest by a factor of "
        f"{max(r['multiplier'] for r in resting):.3f} a loop ({row_name(max(resting, key=lambda r: r['multiplier']))}).",
        f"The factor measured over the last loops and the leading multiplier differ by {off:.1%} at most.",
        f"Layer 3 does not settle: largest exponent {value:+.4f} +- {error:.4f}.",
    ]
    return bench.found(rows, notes)


def row_name(row: dict[str, Any]) -> str:
    """Return a case in words."""
    return f"layer {row['layer']}" + ("" if row["whole"] else ", attention alone")


def loop_of(bench: Bench, model: Any, layer: int, whole: bool = True, dtype: str = "float64") -> tuple[Any, Any]:
    """Return a layer as a loop, and the model's own input to it."""
    loop = pretrained.loop(model, layer, bench.face, perceptron=whole, dtype=dtype)
    return loop, load(bench.backend).asarray(model.states(TEXT)[layer], dtype)


def row_of(bench: Bench, model: Any, layer: int, whole: bool, loops: int) -> tuple[dict[str, Any], np.ndarray]:
    """Loop a layer; return how fast it comes to rest, with the leading multiplier there (inf: it does not), and steps."""
    loop, x0 = loop_of(bench, model, layer, whole)
    xs = as_numpy(ctsa.iterate(loop, x0, loops).xs)
    speeds = np.linalg.norm(np.diff(xs, axis=0), axis=(1, 2)) / np.linalg.norm(xs[-1])
    row = dict(layer=layer, whole=whole, rate=0.0, multiplier=np.inf)
    last = slope(speeds)
    if last is not None:
        found = ctsa.leading(loop, load(bench.backend).asarray(xs[-1]), 1, which="modulus", tol=1e-4)
        row |= dict(rate=last, multiplier=float(np.abs(found.values[0])))
    bench.say(f"{row_name(row)}: a factor of {np.exp(row['rate']):.4f} a loop, multiplier {row['multiplier']:.4f}")
    return row, speeds


def slope(speeds: np.ndarray) -> float | None:
    """Return the slope of the logarithm of speeds, over the later half of those between 1e-11 and 1e-3; None without."""
    at = np.flatnonzero((speeds < 1e-3) & (speeds > 1e-11))
    at = at[len(at) // 2 :]
    return float(np.polyfit(at, np.log(speeds[at]), 1)[0]) if len(at) > 9 else None


def exponent(bench: Bench, model: Any) -> tuple[float, float]:
    """Return the largest exponent of the chaotic layer, with its standard error."""
    loops, transient, dtype = (120, 60, "float32") if bench.quick else (1400, 300, "float64")
    loop, x0 = loop_of(bench, model, CHAOTIC, dtype=dtype)
    found = ctsa.lyapunov_spectrum(loop, x0, intervals=loops, transient=transient, count=1, progress=False)
    return float(found.exponents[0]), float(found.stderr[0])


def cycle(bench: Bench, model: Any) -> None:
    """From the model's last state, layer 2 ends in a cycle of two loops."""
    loop, _ = loop_of(bench, model, 2)
    xs = as_numpy(ctsa.iterate(loop, model.states(TEXT)[-1], 402).xs)
    bench.near("layer 2 from the last state: states two loops apart", xs[-1], xs[-3], 1e-8, source="a cycle of two")
    turn = float(np.linalg.norm(xs[-1] - xs[-2]) / np.linalg.norm(xs[-1]))
    bench.check(
        "layer 2 from the last state: relative step of one loop", turn, 0.01, relation="at least", source="no rest"
    )


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the size of a step against the loop, and measured factors against multipliers; return the two ``Axes``."""
    from ctsa.plot._style import PALETTE

    from .drawing import entry, finish, panels

    left, right = panels(axes, 2)
    told = []
    for layer in np.unique(found.column("layer")).tolist():
        colour = PALETTE[int(layer) % len(PALETTE)]
        for whole in (True, False):
            mine = found.where(layer=layer, whole=whole)
            if not len(mine["loop"]):
                continue
            left.semilogy(
                mine["loop"], np.maximum(mine["speed"], 1e-17), "-" if whole else ":", color=colour, linewidth=1
            )
            if np.isfinite(mine["multiplier"][0]):
                face = colour if whole else "white"
                at = float(mine["multiplier"][0]), float(np.exp(mine["rate"][0]))
                right.plot(*at, "o", color=colour, markerfacecolor=face, markersize=4)
        told.append(entry(colour, f"layer {int(layer)}"))
    finish(left, "loop", "relative size of a step", told)
    resting = found.column("multiplier")
    slowest = float(resting[np.isfinite(resting)].max())
    right.axline((slowest, slowest), slope=1, color="0.7", linewidth=0.8, zorder=0)
    right.set_aspect("equal", adjustable="datalim")
    whole, alone = entry("0.3", "whole", ""), entry("0.3", "attention alone", "")
    alone.set_markerfacecolor("white")
    finish(right, "leading multiplier at rest", "measured factor a loop", [whole, alone])
    return np.array([left, right])
