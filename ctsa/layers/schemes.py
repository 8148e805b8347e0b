"""One-step methods by name: as layers, and their stability polynomials."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa.geometry import Geometry

from .euler import EulerLayer, PostNormLayer
from .recurrent import AKOrN, ItrSA
from .runge_kutta import TABLEAUS, RungeKuttaLayer

Array = Any

# scheme -> order of convergence to the flow
SCHEMES = {"euler": 1, "post-norm": 1, "exp": 1, "midpoint": 2, "heun": 2, "rk4": 4}


def make_layer(scheme: str, field: Any, step: float, geometry: Geometry | None = None) -> Any:
    """Return the layer that takes one step of a field by the method called ``scheme``.

    Args:
        scheme: "euler" and "exp" (``EulerLayer`` with either retraction), "post-norm" (``PostNormLayer``), "midpoint",
            "heun" or "rk4" (``RungeKuttaLayer``).
        field: any field.
        step: size of the step.
        geometry: where a bare callable lives.

    Raises:
        ValueError: ``scheme`` is unknown, or ``step`` is not positive.

    Example:
        >>> from ctsa.layers.schemes import make_layer
        >>> from ctsa.torch import Oja
        >>> make_layer("heun", Oja([[1.0]]), 0.1)
        RungeKuttaLayer(step=0.1, field=Oja)
    """
    checks.choice("scheme", scheme, SCHEMES)
    if scheme in TABLEAUS:
        return RungeKuttaLayer(field, step, method=scheme, geometry=geometry)
    if scheme == "post-norm":
        return PostNormLayer(field, step, geometry=geometry)
    return EulerLayer(field, step, geometry=geometry, retraction="exp" if scheme == "exp" else "normalize")


def scheme_of(layer: Any) -> str | None:
    """Name the method by which a layer of ours steps along the flow of its ``field``; None where it has no name.

    Example:
        >>> import ctsa
        >>> from ctsa.layers.schemes import scheme_of
        >>> from ctsa.torch import SelfAttention
        >>> scheme_of(ctsa.ItrSA(SelfAttention(), gamma=0.5))
        'post-norm'
    """
    if isinstance(layer, RungeKuttaLayer):
        return layer.method
    if isinstance(layer, EulerLayer):
        return "exp" if layer.retraction == "exp" else "euler"
    if isinstance(layer, AKOrN):
        return "euler" if layer.project else "post-norm"
    return "post-norm" if isinstance(layer, (PostNormLayer, ItrSA)) else None


def amplification(scheme: str, z: Any) -> np.ndarray:
    """Return by what factor one step multiplies a mode ``exp(lambda t)``, with ``z = step * lambda``.

    The stability polynomial ``1 + z + ... + z^p / p!`` of a method of order p (p is also its number of stages). The
    flow itself multiplies by ``exp(z)``.

    Args:
        scheme: name of a method. A post-norm step is an Euler step, of the size that it has at that state.
        z: complex, any shape.

    Example:
        >>> from ctsa.layers.schemes import amplification
        >>> [complex(amplification(scheme, -3.0)) for scheme in ("euler", "heun", "rk4")]
        [(-2+0j), (2.5+0j), (1.375+0j)]

    References:
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.2.
    """
    checks.choice("scheme", scheme, SCHEMES)
    z = np.asarray(z, dtype=complex)
    term, total = np.ones_like(z), np.ones_like(z)
    for k in range(1, SCHEMES[scheme] + 1):
        term = term * z / k
        total = total + term
    return total[()]


def oscillation_exponents(frequencies: Any, step: float, scheme: str = "euler", normalised: bool = True) -> np.ndarray:
    """Return the exponents, per step, that a method gives to a token that only turns: x' = Omega x.

    The flow has exponents 0. One step multiplies the plane of frequency w by ``|R(i step w)|`` (``amplification``):
    by ``(1 + step^2 w^2)^(1/2)`` for Euler. In flat space these are spurious growth rates. A normalised token is pulled
    into the plane that grows fastest, so that the other planes contract, for Euler at
    ``ln ((1 + step^2 w^2) / (1 + step^2 w_1^2))^(1/2)``.

    Args:
        frequencies: angular frequencies of the planes; 0 for a direction that does not turn (odd dimensions).
        step: size of the step.
        scheme: name of a method.
        normalised: whether the token is normalised after the step; False for flat space.

    Returns:
        NumPy, descending: two exponents a plane, one for a direction that does not turn; normalised, one of those of
        the leading plane (the radius) is missing.

    Example:
        >>> from ctsa.layers.schemes import oscillation_exponents
        >>> oscillation_exponents([2.0, 1.0], step=0.5).round(6)  # ln sqrt(1.25 / 2), twice
        array([ 0.      , -0.235002, -0.235002])
    """
    step = checks.number("step", step, low=0.0, strict=True)
    w = np.asarray(checks.concrete(checks.parameter("frequencies", frequencies, 1)), dtype=float)
    growth = np.log(np.abs(amplification(scheme, 1j * step * w)))
    every = np.sort(np.concatenate([growth, growth[w != 0]]))[::-1]
    return (every - every[0])[1:] if normalised else every


def stable_step(scheme: str, eigenvalues: Any) -> float:
    """Return the largest step for which no decaying mode grows: ``|R(step lambda)| <= 1`` for all Re lambda < 0.

    For Euler ``min 2 |Re lambda| / |lambda|^2``, which is ``2 / |lambda|`` for real eigenvalues; inf without decay.

    Args:
        scheme: name of a method.
        eigenvalues: lambda, complex, of the Jacobian at an equilibrium.

    Example:
        >>> from ctsa.layers.schemes import stable_step
        >>> stable_step("euler", [-1.0, -4.0]), round(stable_step("rk4", [-1.0]), 6)
        (0.5, 2.785294)
    """
    checks.choice("scheme", scheme, SCHEMES)
    values = np.asarray(eigenvalues, dtype=complex).ravel()
    scale = np.abs(values).max(initial=0.0)
    best = np.inf
    for z in values[values.real < -1e-9 * scale]:
        if SCHEMES[scheme] == 1:
            best = min(best, 2 * abs(z.real) / abs(z) ** 2)
            continue
        u = z / abs(z)
        radii = np.linspace(0, 4, 4001)[1:]  # no stability region of these methods reaches further
        beyond = int(np.argmax(np.abs(amplification(scheme, radii * u)) > 1 + 1e-12))
        low, high = (radii[beyond - 1] if beyond else 0.0), radii[beyond]
        for _ in range(60):
            middle = (low + high) / 2
            grows = abs(amplification(scheme, middle * u)) > 1
            low, high = (low, middle) if grows else (middle, high)
        best = min(best, low / abs(z))
    return float(best)
