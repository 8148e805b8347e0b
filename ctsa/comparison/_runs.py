"""What is measured of a flow and of the layers beside it: runs, end states, stability, spectra."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.equilibria.classes import classified
from ctsa.geometry import Geometry
from ctsa.layers.iteration import iterate
from ctsa.layers.schemes import SCHEMES, amplification, scheme_of
from ctsa.results.base import as_numpy
from ctsa.tangent.jacobians import eigenvalues, jacobian
from ctsa.tangent.lyapunov import lyapunov_spectrum

Array = Any
_KEPT = 256  # most states that are kept of a layer's run
_DENSE = 400  # largest dimension of the manifold for which Jacobians are looked at


# ------------------------------------------------------------------------------------------------------------- runs
def _advance(layer, count, x):
    return backend(x).repeat(layer, x, count)


def run(layer: Any, x: Array, depth: int, g: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Return how many layers were passed at the states kept, and these states and two more beyond the end."""
    marks = np.unique(np.round(np.linspace(0, depth, min(depth, _KEPT) + 1)).astype(int))
    be = backend(x)
    if isinstance(layer, Sequence):
        xs = as_numpy(iterate(layer, x, depth, geometry=g).xs).astype(float)
        return marks, np.concatenate([xs[marks], np.full((2, *x.shape), np.nan)])
    image = be.call(_advance, layer, np.asarray(1), x)
    if getattr(image, "shape", None) != x.shape or image.dtype != x.dtype:
        got = f"{tuple(image.shape)} of {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
        raise ValueError(f"layer must return a state like x0, {tuple(x.shape)} of {x.dtype}, got {got}")
    states = [x]
    for count in np.diff([*marks, depth + 1, depth + 2]):
        states.append(be.stop_gradient(be.call(_advance, layer, np.asarray(count), states[-1])))
    return marks, np.stack([as_numpy(s).astype(float) for s in states])


def union(times: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return all times, those equal up to rounding once, and where each run's times are among them."""
    every = np.sort(np.concatenate(times))
    ts = every[np.diff(every, prepend=-np.inf) > 1e-13 * every[-1]]
    middle = (ts[1:] + ts[:-1]) / 2
    return ts, [np.searchsorted(middle, t) for t in times]


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """Stack rows of different lengths, the shorter ones followed by nan."""
    longest = max(len(r) for r in rows)
    return np.stack([np.concatenate([r, np.full((longest - len(r), *r.shape[1:]), np.nan)]) for r in rows])


def apart(g: Geometry, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the largest distance of a token: ``(...)``; inf where a state has overflown."""
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.asarray(g.distance(x, y))
    distances = distances.reshape(*x.shape[:-2], -1).max(-1)
    return np.where(np.isnan(distances), np.inf, distances)


def beyond(g: Geometry, states: np.ndarray, kept: int) -> tuple[float, float]:
    """Return how far tokens move in one layer and in two after the last; nan for a sequence, which has ended."""
    last, one, two = states[kept - 1 : kept + 2]
    if np.isnan(one).all():
        return float("nan"), float("nan")
    return float(apart(g, one, last)), float(apart(g, two, last))


def state_like(g: Geometry, x: np.ndarray, like: Array) -> Array:
    """Return a NumPy state in the framework of ``like``, unit to the precision of its dtype."""
    return g.retract(backend(like).like(x, like))


def jumps(layer: Any, g: Geometry, path: np.ndarray, like: Array) -> int:
    """Count the tokens along a path that a post-norm layer sends to the far side of the sphere."""
    if scheme_of(layer) != "post-norm":
        return 0
    return int((as_numpy(layer.euler_step(state_like(g, path, like))) < 0).sum())


# --------------------------------------------------------------------------------------------------------- end states
def end_state(field: Any, g: Geometry, x: np.ndarray, like: Array, t: float) -> Any:
    """Classify a state of a run, by the field as it is at time ``t``; None where it has overflown."""
    return classified(field, g, backend(like).like(t, like), state_like(g, x, like)) if np.isfinite(x).all() else None


def ends(g: Geometry, end: np.ndarray, last: list[np.ndarray], found: list) -> dict[str, Any]:
    """Compare the end states of the layers with that of the flow."""
    of_flow, *of_layers = found
    angles, same = [], []
    for x, f in zip(last, of_layers, strict=True):
        angles.append(np.nan if f is None else _matched(g, end, of_flow.labels, x, f.labels))
        same.append(f is not None and np.array_equal(f.labels, of_flow.labels))
    return dict(
        flow_kind=of_flow.kind, flow_clusters=len(of_flow.multiplicities), speed=float(of_flow.speed),
        layer_kinds=np.array(["overflow" if f is None else f.kind for f in of_layers]),
        layer_clusters=np.array([0 if f is None else len(f.multiplicities) for f in of_layers]),
        cluster_angles=np.array(angles), same_groups=np.array(same),
    )  # fmt: skip


def _matched(g, x, labels, y, others) -> float:
    """Return the largest distance between clusters, matched for the least total; nan where their numbers differ."""
    from scipy.optimize import linear_sum_assignment

    if labels.max() != others.max():
        return float("nan")
    a, b = (np.stack([z[ids == k].mean(0) for k in range(ids.max() + 1)]) for z, ids in ((x, labels), (y, others)))
    a, b = np.asarray(g.retract(a)), np.asarray(g.retract(b))
    far = np.asarray(g.distance(a[:, None], b[None])).reshape(len(a), len(b), -1).max(-1)
    rows, columns = linear_sum_assignment(far)
    return float(far[rows, columns].max())


def stability(field, g, x, rests, layers, steps, scheme) -> dict[str, Any]:
    """Return eigenvalues of the flow at its end state, multipliers of the layers there, and the Euler steps they take."""
    look = rests and g.dimension(*x.shape) <= _DENSE
    j = as_numpy(jacobian(field, x, basis="tangent", geometry=g)).astype(float) if look else np.zeros((0, 0))
    values, end_steps = np.linalg.eigvals(j).astype(complex), np.full((len(steps), 2), np.nan)
    predicted, measured = np.full((2, len(steps), len(j)), np.nan, dtype=complex)
    for i, each in enumerate(layers):
        if isinstance(each, Sequence):
            continue
        if scheme in ("euler", "post-norm"):
            s = as_numpy(each.euler_step(x)).astype(float)
            end_steps[i] = s.min(), s.max()
            scale = np.repeat(s.ravel(), len(j) // s.size)
            predicted[i] = np.linalg.eigvals(np.eye(len(j)) + scale[:, None] * j)
        elif scheme in SCHEMES:
            predicted[i] = amplification(scheme, steps[i] * values)
        if look:
            measured[i] = eigenvalues(each, x, geometry=g)
    return dict(
        eigenvalues=values[np.lexsort((-values.imag, -values.real))], predicted=_by_modulus(predicted),
        measured=_by_modulus(measured), end_steps=end_steps,
    )  # fmt: skip


def _by_modulus(z: np.ndarray) -> np.ndarray:
    order = np.lexsort((-z.imag.round(9), -z.real.round(9), -np.abs(z).round(9)), axis=-1)
    return np.take_along_axis(z, order, -1)


def spectra(field, layers, x, g, steps, wanted, options) -> dict[str, Any]:
    """Return the exponents of flow and layers per unit time, empty if not ``wanted``."""
    if not wanted:
        empty = np.zeros((len(steps), 0))
        return dict(flow_exponents=empty[0], flow_stderr=empty[0], exponents=empty, stderr=empty)
    interval = checks.number("interval", options["interval"], low=0.0, strict=True)
    flow = lyapunov_spectrum(field, x, geometry=g, **options)
    exponents, errors = [], []
    for each, step in zip(layers, steps, strict=True):
        width = max(1, round(interval / step))
        scale = interval / (width * step)  # of the same duration
        counts = {name: max(1, round(options[name] * scale)) for name in ("intervals", "transient")}
        found = lyapunov_spectrum(each, x, geometry=g, **{**options, **counts, "interval": width})
        exponents.append(found.exponents / step)
        errors.append(found.stderr / step)
    return dict(
        flow_exponents=flow.exponents, flow_stderr=flow.stderr, exponents=np.stack(exponents), stderr=np.stack(errors)
    )
