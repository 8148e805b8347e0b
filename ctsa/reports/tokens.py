"""Tokens through time: on the sphere, the circle or a plane, beside their Gram matrix and observables."""

from typing import Any

import numpy as np

from ctsa.observables import cluster_count, clusters, effective_rank, order_parameter

from .pieces import SMALL, Chart, Player, axis, digits_of, label, numbers, packed, scatter, thinned, told_apart
from .theme import DIVERGING, colour

_FRAMES, _PATHS, _GRAM, _SERIES = (
    121,
    64,
    48,
    400,
)  # the most of states, paths, tokens of Gram matrices, points of curves
_LARGEST = 1e100  # that a coordinate may be; squares of more are infinite
_MANY = 2048  # tokens, whose clusters are not looked for
_HIDDEN = {"visible": False}


def one_run(traj: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return times ``(T,)`` and states ``(T, n, d)`` of the first run that is finite at first, and the batch axes."""
    ts, xs = np.asarray(traj.ts, float), np.asarray(traj.xs, float)
    while ts.ndim > 1:  # axes that jax.vmap has added
        ts, xs = ts[0], xs[0]
    batch = xs.shape[1:-2]
    index: tuple[Any, ...] = (slice(None), *[0] * len(batch))
    xs = xs[index]
    finite = (np.abs(xs) < _LARGEST).all((1, 2))
    return ts[finite], xs[finite], batch


def on_sphere(xs: np.ndarray) -> bool:
    """Say whether all tokens are unit vectors to the eye."""
    return bool(xs.size and np.abs(np.linalg.norm(xs, axis=-1) - 1).max() < 0.02)


def observed(xs: np.ndarray) -> dict[str, np.ndarray]:
    """Return observables ``(T,)`` by name."""
    unit = on_sphere(xs)
    found = {"order parameter" if unit else "length of the mean": np.asarray(order_parameter(xs))}
    if xs.shape[-1] > 1 and xs.shape[1] > 1:
        found["effective rank"] = np.asarray(effective_rank(xs))
    if 1 < xs.shape[1] <= 256:
        found["clusters"] = np.asarray(cluster_count(xs))
    return found


def player(
    ts: np.ndarray, xs: np.ndarray, name: str, detail: float, scenes: bool = True, grouped: bool = True
) -> tuple[Player | None, list[str]]:
    """Return a player of states ``(T, n, d)``, and what was left out; None if there is nothing finite.

    Args:
        ts: times, or numbers of layers ``(T,)``.
        name: of the times, "t" or "layer".
        detail: share of the usual number of states and points.
        scenes: whether three dimensions are drawn as such.
        grouped: whether clusters of the last state colour the tokens; otherwise each has a colour of its own.
    """
    if not len(ts) or not xs.size:
        return None, []
    notes: list[str] = []
    n = xs.shape[1]
    kept = thinned(len(ts), int(_FRAMES * detail))
    if len(kept) < len(ts):
        notes.append(f"{len(kept)} of {len(ts)} states are shown.")
    groups = np.arange(n) if not grouped else clusters(xs[-1]) if n <= _MANY else np.zeros(n, int)
    alone = groups.max() + 1 == n
    names = [f"token {i}" + ("" if alone or n > _MANY else f", cluster {g}") for i, g in enumerate(groups)]
    view, places, moving = _tokens(xs, kept, groups, names, notes, detail, scenes)
    charts, frames = {"tokens": view}, {"tokens": packed(places)}
    if n > 1:
        charts["gram"], frames["gram"] = _gram(xs[kept], groups, notes)
    if len(ts) > 1:
        charts["series"] = _series(ts, xs, name, detail)
    texts = told_apart(ts[kept].tolist())
    labels = [f"{name} = {text}" if name != "layer" else f"layer {t:g}" for t, text in zip(ts[kept], texts)]
    caption = f"Tokens{_where(xs, scenes)}" + ("." if alone or n > _MANY else ", coloured by the clusters at the end.")
    caption += " Rings mark the start." if len(ts) > 1 else ""
    caption += " Beside them the inner products of all pairs, clusters next to each other." if n > 1 else ""
    at = numbers(ts[kept], digits_of(ts))
    return Player(caption, charts, frames, moving, labels, at, len(labels) - 1), notes


def _where(xs: np.ndarray, scenes: bool) -> str:
    d, unit = xs.shape[-1], on_sphere(xs)
    if d == 2 and unit:
        return " on the circle" + (", whose radius grows with time" if len(xs) > 1 else "")
    if d == 3 and scenes:
        return " on the sphere" if unit else " in space"
    return " in their principal plane" if d > 2 else " in the plane" if d == 2 else ""


# ---------------------------------------------------------------------------------------------------------- the tokens
def _tokens(
    xs: np.ndarray,
    kept: np.ndarray,
    groups: np.ndarray,
    names: list[str],
    notes: list[str],
    detail: float,
    scenes: bool,
) -> tuple[Chart, np.ndarray, int]:
    """Return the picture of tokens, their places ``(K, n, c)``, and which trace moves."""
    d, unit = xs.shape[-1], on_sphere(xs)
    layout: dict[str, Any] = {"uirevision": "keep", "margin": {"l": 8, "r": 8, "t": 8, "b": 8}}
    if d == 3 and scenes:
        return _scene(xs, kept, groups, names, unit, notes, detail)
    frame = {"scaleanchor": "y", "zeroline": False}
    back: list[dict[str, Any]] = []
    if d == 1:
        places, titles = (
            np.stack([np.broadcast_to(np.arange(xs.shape[1]), xs.shape[:2]), xs[..., 0]], -1),
            ("token", "value"),
        )
        frame = {}
    elif d == 2:
        r = 1 - 0.4 * (1 - np.linspace(0, 1, len(xs))) * (unit and len(xs) > 1)
        places, titles = r[:, None, None] * xs, ("", "")
        rings = {float(r[0]), 1.0} if unit else set()
        back = [_ring(radius) for radius in sorted(rings)]
    else:
        places, share = principal(xs)
        titles = (f"principal direction 1 ({share[0]:.0%})", f"principal direction 2 ({share[1]:.0%})")
        back = [_ring(1.0)] if unit else []
    bare = d == 2 and unit
    layout |= {"xaxis": axis(titles[0], **frame), "yaxis": axis(titles[1], zeroline=False)}
    if bare:
        layout["xaxis"] |= _HIDDEN
        layout["yaxis"] |= _HIDDEN
    if unit and d > 1:
        layout["xaxis"] |= {"range": [-1.12, 1.12], "constrain": "domain"}
        layout["yaxis"] |= {"range": [-1.12, 1.12], "constrain": "domain"}
    else:
        layout["margin"] = {"l": 48, "r": 8, "t": 8, "b": 40}
    data = [
        *back,
        *_paths(places[kept], groups, notes, detail),
        _starts(places[0], groups),
        _marks(places[-1], groups, names),
    ]
    if len(xs) == 1:
        data = [*back, data[-1]]
    return Chart("Tokens", data, layout, 400, square=True), places[kept], len(data) - 1


def principal(xs: np.ndarray, most: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return states in the plane that holds most of all of them (not centred), and the share of each direction."""
    states = xs.reshape(-1, xs.shape[-1])
    values, vectors = np.linalg.eigh(states.T @ states)
    plane = vectors[:, : -most - 1 : -1]
    plane = plane * np.where(states.sum(0) @ plane < 0, -1, 1)
    return xs @ plane, values[: -most - 1 : -1] / max(values.sum(), np.finfo(float).tiny)


def _ring(radius: float) -> dict[str, Any]:
    a = np.linspace(0, 2 * np.pi, 97)
    line = {"color": "@line", "width": 1}
    return scatter(radius * np.cos(a), radius * np.sin(a), line=line, hoverinfo="skip")


def _coordinates(points: np.ndarray) -> dict[str, Any]:
    return dict(zip("xyz", numbers(points.T, SMALL)))


def _paths(places: np.ndarray, groups: np.ndarray, notes: list[str], detail: float) -> list[dict[str, Any]]:
    """Return a trace of paths for each cluster, of so many tokens as can be told apart."""
    most = int(_PATHS * detail)
    drawn = thinned(places.shape[1], most)
    if len(drawn) < places.shape[1]:
        notes.append(f"Paths are drawn for {len(drawn)} of {places.shape[1]} tokens.")
    gap = np.full((1, places.shape[-1]), np.nan)
    flat, found = places.shape[-1] == 2, []
    for group in np.unique(groups[drawn]):
        rows = [part for i in drawn[groups[drawn] == group] for part in (places[:, i], gap)]
        line = {"color": colour(group, 0.65), "width": 1.4 if flat else 3}
        kind = {"type": "scatter" if flat else "scatter3d", "mode": "lines", "showlegend": False, "hoverinfo": "skip"}
        found.append({**kind, **_coordinates(np.concatenate(rows)), "line": line})
    return found


def _starts(places: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    flat = places.shape[-1] == 2
    edge = {"color": [colour(g) for g in groups], "width": 1.2}
    style = (
        {"color": "@paper", "size": 6, "line": edge}
        if flat
        else {"color": edge["color"], "size": 4, "symbol": "circle-open"}
    )
    kind = {"type": "scatter" if flat else "scatter3d", "mode": "markers", "showlegend": False, "hoverinfo": "skip"}
    return {**kind, **_coordinates(places), "marker": style}


def _marks(places: np.ndarray, groups: np.ndarray, names: list[str]) -> dict[str, Any]:
    flat = places.shape[-1] == 2
    style: dict[str, Any] = {"color": [colour(g) for g in groups], "size": 10 if flat else 6, "opacity": 1}
    style["line"] = {"color": "@paper", "width": 1}
    kind = {"type": "scatter" if flat else "scatter3d", "mode": "markers", "showlegend": False, "text": names}
    where = "(%{x:.3f}, %{y:.3f}" + ("" if flat else ", %{z:.3f}") + ")"
    return {**kind, **_coordinates(places), "marker": style, "hovertemplate": f"%{{text}}<br>{where}<extra></extra>"}


def _scene(
    xs: np.ndarray, kept: np.ndarray, groups: np.ndarray, names: list[str], unit: bool, notes: list[str], detail: float
) -> tuple[Chart, np.ndarray, int]:
    data = [*(_globe() if unit else ()), *_paths(xs[kept], groups, notes, detail), _starts(xs[0], groups)]
    data = [*(data if len(xs) > 1 else data[: -1 - (data[-2]["mode"] == "lines")]), _marks(xs[-1], groups, names)]
    mean = xs[-1].mean(0)
    azimuth = np.arctan2(mean[1], mean[0]) + np.radians(25) if np.hypot(*mean[:2]) > 0.1 else np.radians(-60)
    height = np.radians(15 + np.clip(60 * mean[2], -25, 25))
    eye = 1.15 * np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    scene: dict[str, Any] = {"camera": {"eye": dict(zip("xyz", numbers(eye))), "projection": {"type": "orthographic"}}}
    for i, name in enumerate("xyz"):
        look = dict(_HIDDEN, range=[-1.02, 1.02]) if unit else axis(f"x{i + 1}", showbackground=False)
        scene[f"{name}axis"] = look
    scene |= {"dragmode": "orbit", "aspectmode": "manual" if unit else "data"}
    scene |= {"aspectratio": dict.fromkeys("xyz", 1.75)} if unit else {}
    layout = {"scene": scene, "uirevision": "keep", "margin": {"l": 0, "r": 0, "t": 0, "b": 0}}
    return Chart("Tokens", data, layout, 420, square=True), xs[kept], len(data) - 1


def _globe() -> list[dict[str, Any]]:
    """Return a faint sphere, through which the far side is seen, with a graticule."""
    lon, lat = np.meshgrid(np.linspace(0, 2 * np.pi, 37), np.linspace(-np.pi / 2, np.pi / 2, 19))
    grid = 0.985 * np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    light = {"ambient": 1, "diffuse": 0, "specular": 0.02, "roughness": 0.9, "fresnel": 0.1}
    ball = {
        "type": "surface", **dict(zip("xyz", numbers(grid, 3))), "surfacecolor": numbers(np.zeros(lon.shape)),
        "colorscale": [[0, "@globe"], [1, "@globe"]], "opacity": 0.6, "showscale": False, "hoverinfo": "skip",
        "lighting": light, "contours": {c: {"highlight": False} for c in "xyz"},
    }  # fmt: skip
    a, gap = np.linspace(0, 2 * np.pi, 49), np.full((1, 3), np.nan)
    lines: list[np.ndarray] = []
    for z in np.sin(np.radians([-60, -30, 0, 30, 60])):
        r = np.sqrt(1 - z * z)
        lines += [np.stack([r * np.cos(a), r * np.sin(a), np.full_like(a, z)], 1), gap]
    for turn in np.radians(np.arange(0, 180, 30)):
        lines += [np.stack([np.sin(a) * np.cos(turn), np.sin(a) * np.sin(turn), np.cos(a)], 1), gap]
    rows = 0.99 * np.concatenate(lines)
    style = {"color": "@globeline", "width": 1}
    grid_lines = {"type": "scatter3d", "mode": "lines", "line": style, "hoverinfo": "skip", "showlegend": False}
    return [ball, {**grid_lines, **dict(zip("xyz", numbers(rows.T, 3)))}]


# ------------------------------------------------------------------------------------------------- beside the tokens
def _gram(xs: np.ndarray, groups: np.ndarray, notes: list[str]) -> tuple[Chart, dict[str, Any]]:
    """Return the Gram matrix of the last state, and those of all as upper triangles ``(K, m (m + 1) / 2)``."""
    order = np.argsort(groups, kind="stable")
    chosen = order[thinned(len(order), _GRAM)]
    if len(chosen) < len(order):
        notes.append(f"The Gram matrix shows {len(chosen)} of {len(order)} tokens.")
    some = xs[:, chosen]
    grams = some @ some.swapaxes(1, 2)  # (K, m, m)
    rows, columns = np.triu_indices(len(chosen))
    top = 1.0 if on_sphere(xs) else float(f"{np.abs(grams).max():.3g}") or 1.0
    names = [str(i) for i in chosen]
    bar = {"thickness": 10, "len": 0.8, "outlinewidth": 0, "tickvals": [-top, 0, top], "x": 1.02}
    heat = {
        "type": "heatmap", "x": names, "y": names, "z": numbers(grams[-1], 3), "zmin": -top, "zmax": top,
        "colorscale": DIVERGING, "colorbar": bar, "hovertemplate": "tokens %{x}, %{y}: %{z:.3f}<extra></extra>",
    }  # fmt: skip
    look = {"type": "category", "showgrid": False, "nticks": 8, "constrain": "domain"}
    layout = {
        "xaxis": axis("token", scaleanchor="y", **look), "yaxis": axis("token", autorange="reversed", **look),
        "margin": {"l": 48, "r": 8, "t": 8, "b": 44},
    }  # fmt: skip
    return Chart("Gram matrix", [heat], layout, 400, square=True), packed(grams[:, rows, columns])


def _series(ts: np.ndarray, xs: np.ndarray, name: str, detail: float) -> Chart:
    few = int(_FRAMES * detail) if xs.shape[1] > 64 else int(_SERIES * detail)  # clusters take n^2 distances
    kept = thinned(len(ts), few)
    found = observed(xs[kept])
    chart = stacked(ts[kept], found, "time t" if name == "t" else name, "Observables through time")
    cursor = {"type": "line", "xref": "x", "yref": "paper", "x0": ts[-1], "x1": ts[-1], "y0": 0, "y1": 1}
    chart.layout["shapes"] = [cursor | {"line": {"color": "@muted", "width": 1, "dash": "dot"}}]
    return chart


def stacked(x: np.ndarray, series: dict[str, np.ndarray], title: str, caption: str, **options: Any) -> Chart:
    """Return panels one above the other, each with its own scale and all with one horizontal axis."""
    data, layout, k = (
        [],
        {"xaxis": axis(title, anchor="y" if len(series) == 1 else f"y{len(series)}", **options)},
        len(series),
    )
    for i, (name, values) in enumerate(series.items()):
        values = np.asarray(values, float)
        steps = bool(len(values) and np.all(values[np.isfinite(values)] % 1 == 0))
        which, top = "y" if not i else f"y{i + 1}", 1 - i / k
        line = {"color": colour(i), "width": 1.8, "shape": "hv" if steps else "linear"}
        hover = f"{label(title)} %{{x:.5g}}<br>{label(name)} %{{y:.5g}}<extra></extra>"
        data.append(scatter(x, values, line=line, yaxis=which, hovertemplate=hover))
        layout[f"yaxis{which[1:]}"] = axis(name, domain=[top - 1 / k + 0.1 / k * (i < k - 1), top], nticks=4)
    layout["margin"] = {"l": 64, "r": 12, "t": 8, "b": 44}
    return Chart(caption, data, layout, 80 + 120 * k)


def single(x: np.ndarray, detail: float, scenes: bool) -> tuple[Player | None, list[str]]:
    """Return a picture of one state ``(n, d)``, as a player of one frame."""
    return player(np.zeros(1), np.asarray(x, float)[None], "t", detail, scenes)
