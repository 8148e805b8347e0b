"""Compare a flow with the layers that discretise it: errors and their order, end states, stability, spectra."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import State
from ctsa.events import depends_on_time
from ctsa.flows.integration import integrate
from ctsa.flows.opening import check_velocity
from ctsa.flows.solver import takes_solver
from ctsa.flows.systems import home_of, system_of
from ctsa.geometry import Geometry, geometry_of
from ctsa.layers.schemes import SCHEMES, make_layer, scheme_of
from ctsa.results.base import as_numpy

from ._runs import (
    apart,
    beyond,
    end_state,
    ends as match_ends,
    jumps,
    padded,
    run as run_layers,
    spectra as spectra_of,
    stability,
    state_like,
    union,
)
from .artefacts import turning_frequencies
from .result import Comparison

Array = Any
_MOST = 10**7  # layers
_REST = 1e-6  # a slower token counts as at rest


@analysis
@takes_solver
def compare(
    system: Any,
    x0: State,
    duration: float,
    step_sizes: Sequence[float] | None = None,
    *,
    layer: str | Callable[[Any, float], Any] | None = None,
    parted: float = 0.1,
    solver: Any = "dopri8",
    atol: float | None = None,
    spectra: bool = False,
    intervals: int = 100,
    interval: float = 1.0,
    transient: int = 50,
    count: int | None = None,
    seed: int = 0,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> Comparison:
    """Run a flow and the layers that discretise it side by side, and say how and from when on they differ.

    A run of layers of size ``step`` has ``round(duration / step)`` of them, at least one. The flow is evaluated at exactly
    the times ``step * k`` at which the layers stand (at most 256 of each run are kept), so that errors compare
    states at equal times, also where ``duration`` is no multiple of a step; such a step is left out of the order of end
    errors.

    Args:
        system: a field, or a layer that knows its flow (``layer.field``).
        x0: one state ``(n, d)``.
        duration: how long, in units of the flow.
        step_sizes: of the layers; None takes the layer itself, with its own step.
        layer: how a layer is made of the field and a step: "euler", "post-norm", "exp" (geodesic), "midpoint", "heun",
            "rk4", or a function ``layer(field, step)`` that returns a layer or a sequence of at least
            ``round(duration / step)`` layers. None: "euler", or for a layer steps of its own kind.
        parted: distance from which on flow and layers count as parted, radians; in flat space a length.
        solver: of the flow, see ``ctsa.integrate``.
        atol: its tolerance; None is 1e-12, or what the dtype can hold. Spectra take 100 times that.
        spectra: compute Lyapunov exponents of all of them, too.
        intervals: over how many intervals exponents are averaged.
        interval: length of an interval, in units of the flow; layers take the nearest number of steps.
        transient: intervals left out at the start.
        count: how many exponents; None for all.
        seed: of the frame.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.

    Returns:
        ``Comparison``: ``errors``, ``order``, ``parting``, ``artefacts``, ``table()``, ``plot()``, ...

    Raises:
        ValueError: ``duration`` or a step is not positive; a layer without flow; a field that depends on time together with
            one layer for all times; a layer that changes the shape.
        IntegrationError: the reference solution failed.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(value=np.diag([1.0, 0.5, 0.2]), beta=1.0)
        >>> comp = ctsa.compare(field, ctsa.random_tokens(4, 3), duration=1.0, step_sizes=[0.1, 0.05, 0.025])
        >>> round(comp.order, 1)
        1.0
    """
    duration = checks.number("duration", duration, low=0.0, strict=True)
    parted = checks.number("parted", parted, low=0.0, strict=True)
    field, own = _flow_of(system)
    g = geometry_of(field, geometry if geometry is not None else getattr(own, "geometry", None))
    x = checks.tokens(x0, field if own is None else home_of(own), g, normalize=normalize)
    if x.ndim != 2:
        raise ValueError(f"x0 must be one state (n, d), got shape {tuple(x.shape)}: loop over a batch")
    checks.fit_field(field, x.shape)
    check_velocity(backend(x), field, g, backend(x).like(0.0, x), x)
    steps = _step_sizes(step_sizes, own)
    if (duration / steps).max() > _MOST:
        most = (duration / steps).max()
        raise ValueError(
            f"step_sizes={steps.min():g} needs {most:.3g} layers up to duration={duration:g}: at most {_MOST:.0e}"
        )
    depths = np.maximum(1, np.round(duration / steps)).astype(int)
    scheme, layers = _layers(field, own, layer, steps, step_sizes is None, g, x)
    _check_autonomous(field, x, layers)

    runs = [run_layers(each, x, int(depth), g) for each, depth in zip(layers, depths, strict=True)]
    times = [step * marks for step, (marks, _) in zip(steps, runs, strict=True)]
    ts, where = union(times)
    eps = rounding(x)
    atol = max(1e-12, 32 * eps) if atol is None else atol
    flow, loose = (
        as_numpy(integrate(field, x, ts, solver, atol=a, geometry=g, land=True).xs).astype(float) for a in (atol, 10 * atol)
    )
    paths = [states[: len(t)] for (_, states), t in zip(runs, times, strict=True)]
    errors = [apart(g, path, flow[at]) for path, at in zip(paths, where, strict=True)]
    after = [beyond(g, states, len(t)) for (_, states), t in zip(runs, times, strict=True)]
    frequencies, pure = turning_frequencies(field, x.shape[-1], g.channels)
    found = [end_state(field, g, state, x, duration) for state in (flow[-1], *(path[-1] for path in paths))]
    run = dict(intervals=intervals, interval=interval, transient=transient, count=count, seed=seed)
    run |= dict(solver=solver, atol=100 * atol)
    return Comparison(
        step_sizes=steps, depths=depths, times=padded(times), errors=padded(errors), ts=ts, flow_xs=flow,
        layer_xs=padded(paths), parted=parted, reference_error=max(float(apart(g, flow, loose).max()), 100 * eps),
        scheme=scheme, geometry=g,
        **match_ends(g, flow[-1], [path[-1] for path in paths], found),
        **stability(field, g, state_like(g, flow[-1], x), found[0].speed <= _REST, layers, steps, scheme),
        jumps=np.array([jumps(each, g, path, x) for each, path in zip(layers, paths, strict=True)]),
        change=np.array([a for a, _ in after]), back=np.array([b for _, b in after]), frequencies=frequencies,
        pure_rotation=pure,
        **spectra_of(field, layers, x, g, steps, spectra, run),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ what was asked
def _flow_of(system: Any) -> tuple[Any, Any]:
    """Return the field, and the layer if it is a layer that was given."""
    s = system_of(system)
    if s.flow:
        return system, None
    if s.kind == "layers":
        raise TypeError("system must be a field or one layer, not a sequence: pass layer=lambda field, step: [...]")
    field = getattr(system, "field", None)
    if field is None or getattr(system, "no_flow", None):
        why = getattr(system, "no_flow", None) or "it does not say which flow it is a step of"
        raise ValueError(f"{type(system).__name__} has no flow to compare it with: {why}")
    return field, system


def _step_sizes(step_sizes: Any, own: Any) -> np.ndarray:
    if step_sizes is None:
        if own is None:
            raise TypeError("step_sizes must be given for a field; only a layer has a step of its own")
        return np.array([float(as_numpy(own.flow_step))])
    steps = np.asarray(checks.concrete(checks.parameter("step_sizes", step_sizes, 0, 1)), dtype=float)
    steps = np.unique(steps)[::-1]
    if not (steps > 0).all():
        raise ValueError(f"step_sizes must be positive, got {steps.min():g}")
    return steps


def _layers(field, own, layer, steps, itself, g, x) -> tuple[str, list]:
    scheme = "layer"
    if own is not None and layer is None:
        scheme = scheme_of(own) or "layer"
        if itself:
            return scheme, [own]
        if scheme == "layer":
            raise ValueError(f"layer must say how to make a {type(own).__name__} of another step: layer(field, step)")
    elif isinstance(layer, str) or layer is None:
        scheme = layer or "euler"
        checks.choice("layer", scheme, SCHEMES)
    elif not callable(layer):
        raise TypeError(f"layer must be a name or a function layer(field, step), got {type(layer).__name__}")
    if callable(layer):
        made = [layer(field, float(step)) for step in steps]
        kinds = {scheme_of(m) for m in made}
        return (kinds.pop() or "layer") if len(kinds) == 1 else "layer", made
    made = [make_layer(scheme, field, float(step), g) for step in steps]
    for each in made:
        each.step = backend(x).like(each.step, x)  # an array, so that JAX compiles once for all steps
    return scheme, made


def _check_autonomous(field: Any, x: Array, layers: list) -> None:
    if all(isinstance(each, Sequence) for each in layers):
        return
    if depends_on_time(field, x, 0.0, geometry_of(field)):
        raise ValueError(
            "field depends on time, but a layer is the same map at every depth: pass layer=lambda field, step: [...] "
            "with a sequence of layers, each with the time at which it stands"
        )
