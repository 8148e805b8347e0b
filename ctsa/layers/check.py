"""Is a module of somebody else's the map that an analysis takes it for? A few forwards tell."""

import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, autodiff, backend, dtype_name, half, modules, rounding
from ctsa._types import States
from ctsa.calling import Calling
from ctsa.geometry import Geometry, direction_generator, geometry_of
from ctsa.results.base import Result, as_numpy
from ctsa.results.text import lines

from .base import FieldStep, Layer

Array = Any
_SLACK = 0.05  # how far difference quotient and derivative may part
_STEPS = {"float64": 1e-4, "float32": 1e-2}  # of difference quotients: some modules compute in float32 inside
_SEEN: "weakref.WeakKeyDictionary[Any, set]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class MapReport(Result):
    """What ``check_map`` measured of a layer at one state.

    Attributes:
        repeats: largest difference between two calls with the same input, relative to the output.
        derivative: how far the derivative is from a difference quotient, relative; nan where it was not compared (half
            precision, whose rounding drowns it).
        adjoint: how far ``<w, J u>`` and ``<J^T w, u>`` are apart, relative; nan where there is no transposed product.
        coupling: largest share of a direction in one member of a batch that reaches others; 0 without a batch.
        noise: rounding of the output, estimated from fourth differences, relative to the longest token.
    """

    repeats: float
    derivative: float
    adjoint: float
    coupling: float
    noise: float
    _static: ClassVar[tuple[str, ...]] = ("repeats", "derivative", "adjoint", "coupling", "noise")

    def __repr__(self) -> str:
        shown = f"derivative to {self.derivative:.1e}" if np.isfinite(self.derivative) else "derivative not compared"
        adjoint = f"adjoint to {self.adjoint:.1e}" if np.isfinite(self.adjoint) else "no adjoint"
        return f"MapReport(repeats to {self.repeats:.1e}, {shown}, {adjoint}, noise {self.noise:.1e})"

    def table(self) -> str:
        """Return what was measured as text, a line each."""
        return lines([
            ("two calls differ by", self.repeats), ("derivative from difference quotient", self.derivative),
            ("transposed product from derivative", self.adjoint), ("share that reaches other members", self.coupling),
            ("rounding of the output", self.noise),
        ])  # fmt: skip


def foreign(layer: Any) -> bool:
    """Whether a layer holds code that is not of ctsa: a wrapped or bare module, or a step of a bare callable."""
    if not isinstance(layer, Layer):
        return not type(layer).__module__.startswith("ctsa.")
    if hasattr(layer, "module"):
        return bool(getattr(layer, "check", True))
    return isinstance(layer, FieldStep) and not hasattr(layer.field, "drift")


@analysis
def check_map(layer: Any, x: States, geometry: Geometry | None = None, *, adjoint: bool = True) -> MapReport:
    """Check that a layer is one differentiable map: what Jacobians and exponents of it stand on.

    - The same input gives the same output twice: no noise (dropout, batch statistics), no memory between calls.
    - The output is finite, of the shape and dtype of the state, and of unit tokens on the sphere; a module that
      normalises its output to another length than ``scale`` is found.
    - The derivative is that of the function, by a difference quotient along a random direction: ``detach`` or a wrong
      custom derivative inside is found. Kinks, as of ReLU, are crossed by few units and do not matter.
    - ``<w, J u> = <J^T w, u>``: ``no_grad`` inside leaves forward mode right and reverse mode zero.
    - A direction in one member of a batch leaves the others alone: leading axes that are coupled are no batch.

    Every analysis of spectra and Jacobians does this once for code that is not of ctsa; ``WrappedLayer(..., check=False)``
    switches it off.

    Args:
        layer: any callable ``layer(x) -> x``.
        x: state ``(..., n, d)``.
        geometry: where a bare callable lives.
        adjoint: refuse also where only the transposed product is wrong.

    Returns:
        ``MapReport``.

    Raises:
        ValueError: one of these does not hold; the message says which, and what to do.

    Example:
        >>> import torch, ctsa
        >>> block = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh()).double()
        >>> report = ctsa.check_map(block, torch.as_tensor(ctsa.random_tokens(3, 8)), ctsa.Euclidean())
        >>> report.repeats, report.derivative < 1e-3
        (0.0, True)
    """
    if not callable(layer) or checks.arity(layer) not in (-1, 1):
        raise TypeError(f"layer must be callable as layer(x), got {type(layer).__name__}")
    if not autodiff(x) or not hasattr(x, "dtype"):
        raise TypeError(f"x must be an array (..., n, d) of torch or JAX, got {type(x).__name__}")
    be, g = backend(x), geometry_of(layer, geometry)
    name = type(getattr(layer, "module", layer)).__name__
    check_restless(layer, x)
    y = _output(be, layer, x, g, name)
    size = float(np.abs(y).max()) + 1e-300
    rng = direction_generator(0)
    u, w = (rng.normal(size=tuple(x.shape)) for _ in range(2))
    be.call(layer, x + 0.01 * be.like(w, x))  # what remembers, remembers another state
    again = as_numpy(be.call(layer, x)).astype(float)
    repeats = float(np.abs(again - y).max()) / size
    eps = rounding(x)
    if not repeats <= 1e3 * eps:
        raise ValueError(
            f"{name} gives another output for the same input (they differ by {repeats:.2g} of its size): it draws random "
            "numbers, or remembers earlier calls (a cache). Switch that off; an analysis needs one and the same map"
        )
    _scale(be, layer, x, g, name)
    if x.ndim > 2:
        u[tuple(slice(1, None) if i == 0 else slice(None) for i in range(x.ndim))] = 0  # in the first member only
    u = g.project(x, be.like(u, x))
    u = u / (u * u).sum() ** 0.5
    du = as_numpy(be.call(be.jvp, layer, (x,), (u,))[1]).astype(float)
    coupling = float(np.abs(du[1:]).max(initial=0.0)) / (float(np.abs(du).max()) + 1e-300) if x.ndim > 2 else 0.0
    if coupling > 1e-6:
        raise ValueError(
            f"{name} couples the members of a batch: a direction in the first one moves others ({coupling:.2g} of it). The "
            "leading axes of x are a batch of independent states; if they belong to the state, flatten them into tokens"
        )
    derivative = _quotient(be, layer, x, u, du, size)
    noise = float(output_noise(be.partial(be.call, layer), x, g).max()) if np.isfinite(derivative) else float("nan")
    if derivative > _SLACK:
        raise ValueError(
            f"{name} has a derivative that is not its own: it differs from a difference quotient by {derivative:.2g} of "
            "its size. Something inside stops gradients (detach, stop_gradient, no_grad in reverse mode), or has a custom "
            "derivative that is wrong. check=False, if that is meant"
        )
    transposed = _adjoint(be, layer, x, u, du, w)
    if adjoint and transposed > _SLACK:
        raise ValueError(
            f"{name} has no right derivative in reverse mode (its transposed product is off by {transposed:.2g}): "
            "torch.no_grad or a custom backward inside? Forward mode is right: spectra and eigenvalues are to be had, "
            "singular values from products are not"
        )
    return MapReport(repeats, derivative, transposed, coupling, noise)


def noise_of(layer: Any, x: Array, geometry: Geometry) -> float:
    """Return the rounding of a layer, relative to its output: of a module that computes in float32, float32's.

    From second differences over so short a way that curvature does not show.
    """
    be, h = backend(x), 1e-8 if dtype_name(x) == "float64" else 1e-4
    u = geometry.project(x, be.like(direction_generator(0).normal(size=tuple(x.shape)), x))
    u = u / be.xp.sqrt((u * u).sum() / x.shape[-1]) * be.xp.sqrt((x * x).sum() / x.shape[-1] + 1e-30)
    y = [as_numpy(be.call(layer, x + k * h * u)).astype(float) for k in (-1, 0, 1)]
    size = float(np.abs(y[1]).max()) + 1e-300
    off = np.abs(y[0] + y[2] - 2 * y[1])
    return float(np.quantile(off, 0.9)) / size if np.isfinite(off).all() else rounding(x)


def check_restless(layer: Any, x: Array) -> None:
    """Raise ValueError if a module is in a mode in which every call is another map."""
    restless = modules(backend(x).name).restless(getattr(layer, "module", layer))
    if restless:
        raise ValueError(f"module is in training mode and {restless}: every call is another map; call module.eval() first")


def check_foreign(layer: Any, x: Array, geometry: Geometry, *, adjoint: bool = False) -> None:
    """Do ``check_map`` before an analysis, once a layer and shape, if its code is not of ctsa and nothing is traced."""
    if not foreign(layer):
        return
    check_restless(layer, x)
    key = (tuple(x.shape), str(x.dtype), adjoint)
    try:
        seen = _SEEN.setdefault(layer, set())
    except TypeError:  # no weak reference, or no hash
        seen = set()
    if key not in seen:
        check_map(layer, x, geometry, adjoint=adjoint)
        seen.add(key)


def _output(be: Any, layer: Any, x: Array, g: Geometry, name: str) -> np.ndarray:
    """Return the layer's output, checked."""
    with Calling(layer, x):
        y = be.call(layer, x)
    if getattr(y, "shape", None) != x.shape or y.dtype != x.dtype:
        got = f"{tuple(y.shape)} of {y.dtype}" if hasattr(y, "dtype") else type(y).__name__
        raise ValueError(
            f"layer must return a state like x, {tuple(x.shape)} of {x.dtype}, got {got}: wrap it, "
            f"ctsa.{be.name}.WrappedLayer(module, batched=..., pick=...)"
        )
    values = as_numpy(y).astype(float)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} returned nan or inf at x: is the state one that it takes?")
    if not g.flat:
        lengths = np.asarray(as_numpy(g.radius(y))).astype(float)
        off = float(np.abs(lengths - 1).max())
        if not off <= 1e3 * rounding(x):
            if not g.unit:
                raise ValueError(f"{name} left {g.place}: it is off by up to {off:.3g}. Return geometry.retract(y)")
            raise ValueError(
                f"{name} left the sphere: it returned tokens of length {float(np.median(lengths)):.3g}. Wrap it, "
                f"ctsa.{be.name}.WrappedLayer(module, scale={float(np.median(lengths)):.3g}), which normalises, or pass "
                "geometry=ctsa.Euclidean() if its states do not live on the sphere"
            )
    return values


def _scale(be: Any, layer: Any, x: Array, g: Geometry, name: str) -> None:
    """Refuse a module that normalises its output to another length than it is given."""
    if not (g.radial and hasattr(layer, "module")):
        return

    def lengths(scale):
        return np.asarray(as_numpy(g.radius(layer.image(x, scale)))).astype(float)

    out = lengths(layer.scale)
    typical = float(np.median(out))
    if max(typical, layer.scale) < 1.5 * min(typical, layer.scale) or out.std() > 0.2 * typical:
        return
    other = lengths(typical)
    if abs(float(np.median(other)) / typical - 1) < 0.2:  # the same length whatever it is given
        raise ValueError(
            f"{name} returned tokens of length {typical:.3g} but is given tokens of length {layer.scale:.3g}, a place that "
            f"it never visits: did you mean scale={typical:.4g}? check=False, if not"
        )


def output_noise(image: Any, x: Array, g: Geometry) -> np.ndarray:
    """Estimate the rounding of a function's output at states ``(..., n, d)``, relative to the longest token: ``(...)``.

    Fourth differences along a random direction, over ``70^(1/2)``: of a smooth function they are of fourth order in the
    step. The median over tokens, and the quieter of two steps, for a kink is no noise. Steps are long enough for a
    module that computes in float32 on states in float64 to see them.
    """
    be = backend(x)
    eps = rounding(x)
    u = g.project(x, be.like(direction_generator(1).normal(size=tuple(x.shape)) / x.shape[-1] ** 0.5, x))
    longest = be.xp.amax((x * x).sum(-1), -1) ** 0.5
    size = be.xp.where(longest > 0, longest, be.xp.ones_like(longest))[..., None, None]
    found, middle = [], as_numpy(image(x)).astype(float)
    for h in (1e-4, 1e-5) if eps < 1e-12 else (1e-3, 2e-4):
        far, near = (
            sum(as_numpy(image(g.retract(x + k * h * size * u))).astype(float) for k in (-m, m)) for m in (2, 1)
        )
        with np.errstate(all="ignore"):
            off = (far - 4 * near + 6 * middle) / 70**0.5
            length = np.maximum(np.sqrt((middle**2).sum(-1)).max(-1), as_numpy(longest).astype(float))
            found.append(np.median(np.sqrt((off**2).sum(-1)), -1) / np.where(length > 0, length, 1.0))
    noise = np.min(found, axis=0)
    return np.where(np.isfinite(noise), noise, eps)


def _quotient(be: Any, layer: Any, x: Array, u: Array, du: np.ndarray, size: float) -> float:
    """Compare a derivative with difference quotients of two steps, central and one-sided; return the best.

    One-sided ones serve at a kink or a jump, where a map has a derivative to one side.
    """
    step = _STEPS.get(dtype_name(x))
    if step is None or half(getattr(layer, "module", layer), be.name):
        return float("nan")
    scale = max(1.0, float((x * x).sum()) ** 0.5)
    found, middle = [], as_numpy(be.call(layer, x)).astype(float)
    for h in (step * scale, step * scale / 8):
        left, right = (as_numpy(be.call(layer, x + k * h * u)).astype(float) for k in (-1, 1))
        for quotient in ((right - left) / (2 * h), (right - middle) / h, (middle - left) / h):
            total = float(np.linalg.norm(quotient) + np.linalg.norm(du))
            floor = 1e-6 * size / h  # what does not move beyond rounding has no slope to compare
            found.append(float(np.linalg.norm(quotient - du)) / total if total > floor else 0.0)
    return min(found)


def _pulled_back(layer, x, w):
    return backend(x).vjp(layer, x)[1](w)[0]


def _adjoint(be: Any, layer: Any, x: Array, u: Array, du: np.ndarray, w: np.ndarray) -> float:
    """Compare ``<w, J u>`` with ``<J^T w, u>``; inf where reverse mode fails."""
    given = be.like(w, x)
    try:
        back = as_numpy(be.call(_pulled_back, layer, x, given)).astype(float)
    except Exception:  # whatever a foreign backward raises
        return float("inf")
    forward, backward = float((w * du).sum()), float((back * as_numpy(u)).sum())
    return abs(forward - backward) / (float(np.linalg.norm(w) * np.linalg.norm(du)) / w.size**0.5 + 1e-300)
