"""Charts of comparisons, basins, branches, monitors, diagnoses and training."""

from typing import Any

import numpy as np

from ctsa.observables import order_parameter

from .pieces import Chart, axis, label, log_axis, numbers, scatter, thinned
from .spectra import eigenvalues
from .theme import colour
from .tokens import on_sphere, stacked

_SYMBOLS = {"fold": "square", "branch point": "circle", "Hopf": "diamond", "period doubling": "triangle-up"}


def comparison(result: Any) -> list[Chart]:
    """Return errors against steps with the measured order, errors in time, and the layers' multipliers."""
    steps, worst, ends = (np.asarray(a, float) for a in (result.step_sizes, result.worst_errors, result.end_errors))
    hover = "step %{x}: %{y:.3g}<extra></extra>"
    data = [
        scatter(steps, np.where(values > 0, values, np.nan), mode="lines+markers", name=name, hovertemplate=hover,
                line={"color": colour(i), "width": 1.4}, marker={"size": 8, "symbol": i})
        for i, (name, values) in enumerate((("largest error", worst), ("error at the end", ends)))
    ]  # fmt: skip
    used = np.array([f"{s:g}" not in result.left_out for s in steps])
    if np.isfinite(result.order):
        middle = np.exp(np.mean(np.log(worst[used])) - result.order * np.mean(np.log(steps[used])))
        guide = {"color": "@muted", "width": 1, "dash": "dash"}
        data.append(
            scatter(steps, middle * steps**result.order, name=f"order {result.order:.2f}", line=guide, hoverinfo="skip")
        )
    what = "error" if result.geometry.flat else "error (angle)"
    layout = {"xaxis": log_axis("step", steps), "yaxis": log_axis(what, worst, ends)}
    charts = [Chart("Error against the step, with the power of the step that fits.", data, layout)]
    lines = []
    for i, (step, times, errors) in enumerate(zip(steps, np.asarray(result.times), np.asarray(result.errors))):
        fine = np.flatnonzero(np.isfinite(times) & (errors > 0) & (times > 0))
        if len(fine):
            fine = fine[thinned(len(fine), 300)]
            lines.append(
                scatter(times[fine], errors[fine], name=f"step {step:g}", line={"color": colour(i), "width": 1.5})
            )
    if lines:
        layout = {"xaxis": axis("time t"), "yaxis": log_axis(what, *(line["y"] for line in lines))}
        charts.append(Chart("Distance of the layers from the flow through time.", lines, layout))
    sets = [(f"step {step:g}", z) for step, z in zip(steps, np.asarray(result.measured))]
    found = eigenvalues(sets, False, "Multipliers of the layers at the end state")
    return [*charts, *([found] if found else [])]


def basins(result: Any, most: int = 24) -> Chart:
    """Return the shares of starts by limit, with their confidence intervals."""
    every = list(result.shares().items())
    shares = every[:most][::-1]
    cut = f" The first {most} of {len(every)} are shown." if len(every) > most else ""
    names, values = [label(name) for name, _ in shares], np.array([v for _, v in shares])
    share, low, high = 100 * values.T
    bars = {"type": "data", "symmetric": False, "array": numbers(high - share), "arrayminus": numbers(share - low)}
    bars |= {"color": "@ink", "thickness": 1.2, "width": 4}
    text = [f"{s:.1f} % ({a:.1f} to {b:.1f} %)" for s, a, b in zip(share, low, high)]
    faint = [colour(6, 0.6) if name.startswith("unresolved") else colour(0, 0.85) for name, _ in shares]
    data: dict[str, Any] = {
        "type": "bar",
        "orientation": "h",
        "x": numbers(share),
        "y": names,
        "marker": {"color": faint},
        "error_x": bars,
    }
    data |= {"hovertext": text, "hovertemplate": "%{y}: %{hovertext}<extra></extra>", "showlegend": False}
    layout = {
        "xaxis": axis("share of starts (%)", rangemode="tozero"),
        "yaxis": axis("", automargin=True, showgrid=False),
    }
    level = f"{100 * result.confidence:g} %"
    return Chart(f"Shares of starts, with {level} confidence intervals.{cut}", [data], layout, 110 + 30 * len(shares))


def branches(found: list[Any], parameter: str) -> Chart:
    """Return an observable of branches against the parameter: stable parts solid, unstable parts dashed."""
    unit = all(on_sphere(np.asarray(b.xs)) for b in found)
    name = "order parameter" if unit else "first component"

    def observable(xs: Any) -> np.ndarray:
        return np.asarray(order_parameter(np.asarray(xs))) if unit else np.asarray(xs)[:, 0, 0]

    data: list[dict[str, Any]] = []
    kinds: set[str] = set()
    for i, branch in enumerate(found):
        p, y, stable = np.asarray(branch.parameters, float), observable(branch.xs), np.asarray(branch.stable, bool)
        for good in (True, False):
            mine = stable == good
            mine = mine | np.r_[mine[1:], False]  # the parts meet
            if not (stable == good).any():
                continue
            more = (
                {"name": "stable" if good else "unstable", "legendgroup": str(good)} if str(good) not in kinds else {}
            )
            kinds.add(str(good))
            line = {"color": colour(i), "width": 2 if good else 1.5, "dash": "solid" if good else "dash"}
            kind = "stable" if good else "unstable"
            hover = f"branch {i}: {label(parameter)} %{{x:.6g}}, {name} %{{y:.5g}}<extra>{kind}</extra>"
            data.append(
                scatter(np.where(mine, p, np.nan), np.where(mine, y, np.nan), line=line, hovertemplate=hover, **more)
            )
        if len(p) == 1:
            data[-1] |= {"mode": "markers", "marker": {"color": colour(i), "size": 7}}
        for point in branch.points:
            more = {"name": label(point.kind)} if point.kind not in kinds else {}
            kinds.add(point.kind)
            style = {"symbol": _SYMBOLS.get(point.kind, "triangle-down"), "size": 10, "color": "@paper"}
            style["line"] = {"color": "@ink", "width": 1.5}
            hover = f"{label(point.kind)} at {label(parameter)} = %{{x:.6g}}<extra></extra>"
            at = observable(np.asarray(point.x)[None])
            data.append(scatter([point.parameter], at, mode="markers", marker=style, hovertemplate=hover, **more))
    layout = {"xaxis": axis(parameter), "yaxis": axis(name)}
    return Chart(
        "Branches: stable parts are solid, unstable parts dashed; marks are special points.", data, layout, 380
    )


def monitor(result: Any) -> Chart:
    """Return every monitor in a panel of its own."""
    names = ("pseudo_energy", "contribution", "complex_share", "norm", "order_parameter")
    series = {n.replace("_", " "): np.asarray(getattr(result, n), float) for n in names if n not in result.missing}
    kept = thinned(len(result.ts), 400)
    series = {name: values[kept] for name, values in series.items()}
    return stacked(
        np.asarray(result.ts)[kept], series, "time t" if result.continuous else "layer", "Monitors along the run."
    )


def energy_report(result: Any) -> Chart:
    """Return the energy against time, of up to 20 runs."""
    values = np.asarray(result.energies, float).reshape(len(result.ts), -1)
    kept = thinned(len(values), 400)
    lines = [
        scatter(np.asarray(result.ts)[kept], e, line={"color": colour(0), "width": 1.6}) for e in values[kept].T[:20]
    ]
    cut = f" The first {len(lines)} of {values.shape[1]} runs are shown." if len(lines) < values.shape[1] else ""
    return Chart(f"The energy through time.{cut}", lines, {"xaxis": axis("time t"), "yaxis": axis("energy")})


def training_run(run: Any) -> list[Chart]:
    """Return the loss, and accuracy and exponents where they were watched."""
    losses = np.asarray(run.losses, float)
    charts = []
    if len(losses):
        kept = thinned(len(losses), 1000)
        line = {"color": colour(0), "width": 1.3}
        positive = np.where(losses > 0, losses, np.nan)[kept]
        layout = {"xaxis": axis("step"), "yaxis": log_axis("cross entropy", losses)}
        charts.append(Chart("Loss of every step's batch.", [scatter(kept + 1, positive, line=line)], layout))
    if len(run.accuracy):
        style = {"mode": "lines+markers", "line": {"color": colour(2)}}
        data = [scatter(run.validated, run.accuracy, **style)]
        layout = {"xaxis": axis("step"), "yaxis": axis("accuracy", range=[0, 1.02], tickformat=".0%")}
        charts.append(Chart("Accuracy on validation data.", data, layout, 260))
    named = {n: np.asarray(getattr(run, n), float) for n in ("largest", "mean", "asymptotic")}
    data = [
        scatter(run.watched, values, mode="lines+markers", name=f"{name} exponent", line={"color": colour(i)})
        for i, (name, values) in enumerate(named.items()) if np.isfinite(values).any()
    ]  # fmt: skip
    if data:
        layout = {"xaxis": axis("step"), "yaxis": axis("exponent (per layer)")}
        charts.append(Chart("Exponents while training.", data, layout, 280))
    return charts


def evaluation(result: Any) -> Chart:
    """Return accuracy against depth with standard errors."""
    depths = np.asarray(result.depths, float)
    bars = {
        "type": "data",
        "array": numbers(100 * np.asarray(result.error)),
        "color": colour(0),
        "thickness": 1.2,
        "width": 3,
    }
    style = {"mode": "lines+markers", "line": {"color": colour(0)}, "error_y": bars}
    data = [scatter(depths, 100 * np.asarray(result.accuracy, float), **style)]
    log = depths.min() > 0 and depths.max() >= 8 * depths.min()
    layout = {
        "xaxis": log_axis("depth", depths) if log else axis("depth"),
        "yaxis": axis("accuracy (%)", rangemode="tozero"),
    }
    return Chart("Accuracy of whole samples against depth, with standard errors.", data, layout)


def diagnosis(result: Any, most: int = 12) -> list[Chart]:
    """Return the size of every input's steps, the multipliers, and the leading exponents."""
    steps = np.asarray(result.steps, float).max(1)  # (loops, inputs), of the part that moves most
    kept, some = thinned(len(steps), 300), thinned(steps.shape[1], most)
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(result.verdicts))}
    seen: set[str] = set()
    lines = []
    for i in some:
        kind = result.verdicts[i]
        more = {} if kind in seen else {"name": label(kind)}
        seen.add(kind)
        y = np.where(steps[kept, i] > 0, steps[kept, i], np.nan)
        hover = f"input {i}, loop %{{x}}: %{{y:.3g}}<extra>{label(kind)}</extra>"
        line = {"color": colour(kinds[kind], 0.8), "width": 1.4}
        lines.append(scatter(kept + 1, y, line=line, hovertemplate=hover, legendgroup=kind, **more))
    layout = {"xaxis": axis("loop"), "yaxis": log_axis("relative step", steps[:, some])}
    which = f" of {len(some)} of {steps.shape[1]} inputs" if len(some) < steps.shape[1] else ""
    charts = [Chart(f"How far each loop moves the state{which}, coloured by verdict.", lines, layout)]
    verdicts = np.array(result.verdicts)
    sets = [(kind, np.asarray(result.multipliers)[verdicts == kind]) for kind in kinds]
    found = eigenvalues(sets, False, "Leading multipliers at the end states")
    return [*charts, *([found] if found else [])]
