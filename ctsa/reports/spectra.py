"""Charts of spectra: exponents with error bars, their convergence, eigenvalues with the boundary of stability."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .pieces import Chart, axis, label, numbers, scatter, short, thinned, with_error
from .theme import colour


def spectrum(spec: Any) -> list[Chart]:
    """Return the exponents with their error bars, neutral ones hollow and counted, and how they converged."""
    unit = "per unit time" if spec.continuous else "per layer"
    titles = {"xaxis": axis("index", **_whole(spec.exponents.shape[-1])), "yaxis": axis(f"exponent ({unit})")}
    if spec.exponents.ndim > 1:
        every = spec.exponents.reshape(-1, spec.exponents.shape[-1])
        index = np.arange(1, every.shape[1] + 1)
        some = every[thinned(len(every), 100)]
        dots = scatter(np.tile(index, len(some)), some.ravel(), mode="markers", name="runs", hoverinfo="skip")
        dots["marker"] = {"color": colour(0, 0.25), "size": 4}
        bars = _bars(index, spec.mean, spec.spread, False, f"mean and spread of {len(every)} runs")
        return [Chart(f"Lyapunov exponents of {len(every)} runs.", [_zero(len(index)), dots, bars], titles)]
    values, errors = spec.exponents, spec.stderr
    index, neutral = np.arange(1, len(values) + 1), np.abs(values) <= spec.resolution
    data = [_zero(len(values))]
    if (~neutral).any():
        data.append(_bars(index[~neutral], values[~neutral], errors[~neutral], False, "exponents"))
    expected = f"{spec.neutral_expected} expected"
    if neutral.any():
        data.append(
            _bars(index[neutral], values[neutral], errors[neutral], True, f"{int(neutral.sum())} neutral, {expected}")
        )
    about = (
        f"Neutral ones are hollow: {int(neutral.sum())}, {expected}"
        if neutral.any()
        else f"None is neutral, {expected}"
    )
    return [Chart(f"Lyapunov exponents with their standard errors. {about}.", data, titles), _convergence(spec)]


def _whole(size: int) -> dict[str, Any]:
    return {"tickformat": "d", **({"dtick": 1} if size <= 12 else {})}


def _zero(size: int) -> dict[str, Any]:
    return scatter([0.5, size + 0.5], [0, 0], line={"color": "@line", "width": 1}, hoverinfo="skip")


def _bars(x: np.ndarray, y: np.ndarray, errors: np.ndarray, hollow: bool, name: str) -> dict[str, Any]:
    style = {"color": "@paper" if hollow else colour(0), "size": 8, "line": {"color": colour(0), "width": 1.6}}
    bars = {"type": "data", "array": numbers(np.nan_to_num(errors)), "color": colour(0), "thickness": 1.3, "width": 3}
    text = [with_error(float(v), float(e)) for v, e in zip(y, errors)]
    hover = "exponent %{x}: %{text}<extra></extra>"
    return scatter(x, y, mode="markers", name=name, marker=style, error_y=bars, text=text, hovertemplate=hover)


def _convergence(spec: Any, most: int = 5) -> Chart:
    """Return running means of the leading exponents."""
    kept, every = thinned(len(spec.history), 300), spec.running[:, :most]
    times = spec.interval * (kept + 1.0)
    data = [
        scatter(times, path, name=f"exponent {i + 1}", line={"color": colour(i), "width": 1.6},
                hovertemplate=f"exponent {i + 1} up to %{{x:.5g}}: %{{y:.5g}}<extra></extra>")
        for i, path in enumerate(every[kept].T)
    ]  # fmt: skip
    settled = every[len(every) // 10 :]
    wild = np.ptp(every) > 3 * np.ptp(settled)  # a wild beginning would leave nothing else to see
    pad = 0.06 * np.ptp(settled) + 1e-12
    span = {"range": numbers([settled.min() - pad, settled.max() + pad], 6)} if wild else {}
    layout = {
        "xaxis": axis("time" if spec.continuous else "layers"),
        "yaxis": axis("exponents, averaged so far", **span),
    }
    return Chart("How the leading exponents converged: their averages up to each time.", data, layout)


def eigenvalues(
    sets: Sequence[tuple[str, np.ndarray]], continuous: bool, what: str = "Eigenvalues of the tangent Jacobian"
) -> Chart | None:
    """Return sets of eigenvalues by name in the complex plane, with the boundary of stability; None if there are none.

    Args:
        continuous: whether of flows, which the imaginary axis bounds, or of layers, which the unit circle does.
    """
    shown = [(name, np.ravel(np.asarray(z, complex))) for name, z in sets]
    shown = [(name, z[np.isfinite(z)]) for name, z in shown]
    found = [(name, z) for name, z in shown if z.size]
    shown = [(name, z[:2000]) for name, z in found[:12]]
    if not shown:
        return None
    cut = f" The first {len(shown)} of {len(found)} sets are shown." if len(shown) < len(found) else ""
    cut += " Of more than 2000 the first 2000 are shown." if any(z.size > 2000 for _, z in found) else ""
    every = np.concatenate([z for _, z in shown])
    data = []
    for i, (name, z) in enumerate(shown):
        style = {"color": colour(i, 0.85), "size": 8, "symbol": i % 8, "line": {"color": "@paper", "width": 0.6}}
        text = [f"{short(complex(v))}, modulus {short(float(abs(v)))}" for v in z]
        more = {"name": label(name)} if len(shown) > 1 else {}
        hover = "%{text}<extra>" + label(name) + "</extra>"
        data.append(scatter(z.real, z.imag, mode="markers", marker=style, text=text, hovertemplate=hover, **more))
    line = {"color": "@muted", "width": 1.2, "dash": "dash"}
    if continuous:
        edge: dict[str, Any] = {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": 0,
            "x1": 0,
            "y0": 0,
            "y1": 1,
            "line": line,
        }
        low, high = min(every.real.min(), 0.0), max(every.real.max(), 0.0)
        tall = max(np.abs(every.imag).max(), 0.15 * (high - low), 1e-12)
    else:
        edge = {"type": "circle", "xref": "x", "yref": "y", "x0": -1, "x1": 1, "y0": -1, "y1": 1, "line": line}
        low, high, tall = min(every.real.min(), -1.0), max(every.real.max(), 1.0), max(np.abs(every.imag).max(), 1.0)
    pad = 0.06 * (high - low) or 0.1
    layout: dict[str, Any] = {
        "xaxis": axis("real part", range=numbers([low - pad, high + pad], 6)),
        "yaxis": axis("imaginary part", range=numbers([-1.1 * tall, 1.1 * tall], 6)), "shapes": [edge],
    }  # fmt: skip
    if not continuous:
        layout["xaxis"] |= {"constrain": "domain"}
        layout["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
    bound = "the imaginary axis" if continuous else "the unit circle"
    return Chart(f"{what}. Dashed: {bound}, the boundary of stability.{cut}", data, layout, 360, square=not continuous)


def singular(values: np.ndarray, name: str) -> Chart:
    """Return real values against their index."""
    index = np.arange(1, len(values) + 1)
    style = {"color": colour(0), "size": 7}
    data = [scatter(index, values, mode="lines+markers", marker=style, line={"color": colour(0, 0.5)})]
    return Chart(f"Leading {name}s.", data, {"xaxis": axis("index", **_whole(len(values))), "yaxis": axis(name)})
