"""What is looked at before a solve begins: the solver for the framework, and the velocity at the start."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, framework
from ctsa._backend._solve import (
    ADAPTIVE,
    FIXED_STEP,
    JAX_ONLY,
    TORCH_ADAPTIVE,
    TORCH_FIXED_STEP,
)

Array = Any
SOLVERS = (*ADAPTIVE, *FIXED_STEP, *JAX_ONLY)


def check_velocity(be, field, geometry, t, x) -> Array:
    """Look at the velocity once, at the start, and return ``x``; values not known yet are looked at when they are.

    A bare callable must give tangent velocities, or normalising would change its flow.
    """
    if checks.arity(field) not in (-1, 2):
        raise TypeError(
            f"field must be callable as field(t, x), but takes {checks.arity(field)} argument(s)"
            + (": if it is a layer(x), ctsa.iterate applies it" if checks.arity(field) == 1 else "")
        )
    v = be.call(field, t, x)
    if getattr(v, "shape", None) != x.shape:
        raise ValueError(
            f"field must return a velocity of the shape of x, {tuple(x.shape)}, got "
            f"{tuple(v.shape) if hasattr(v, 'shape') else type(v).__name__}"
        )
    if framework(v) != be.name or v.dtype != x.dtype:
        raise TypeError(f"field must return a {be.name} array of {x.dtype} like x, got {framework(v)}, {v.dtype}")
    values = checks.concrete(v)
    if values is None:
        x = be.guard(x + 0 * v, be.xp.isfinite(v).all(), "field is nan or inf at x0")  # x is now traced as v is
    elif not np.isfinite(values).all():
        raise ValueError(f"field is nan or inf at x0, t={float(be.to_numpy(t)):g}")
    if geometry.flat or hasattr(field, "drift"):
        return x
    cure = f"roject it ({'ctsa.Sphere()' if geometry.unit else 'geometry'}.project(x, v))"
    size, normal = be.xp.amax(be.xp.abs(v)), be.xp.amax(be.xp.abs(geometry.project(x, v) - v))
    ok = normal <= 1e3 * be.xp.finfo(x.dtype).eps * be.xp.clip(size, 1.0, None)
    if values is None:
        return be.guard(x, ok, f"field is not tangent to {geometry.place}: p{cure}")
    if not ok:
        raise ValueError(
            f"field is not tangent to {geometry.place}: its {'radial' if geometry.unit else 'normal'} part is up to "
            f"{float(normal):.3g} where the velocity is up to {float(size):.3g}. P{cure}, or pass geometry=ctsa.Euclidean()"
        )
    return x


def check_solver(solver: Any, step: Any, rtol: Any, atol: Any, x: Array) -> tuple[float, float, float | None]:
    """Check that a solver exists for the framework of ``x``; return rtol, atol, and the step of a fixed-step one."""
    be = backend(x)
    home = be.name
    if not isinstance(solver, str):
        if framework(solver) != "jax" or home != "jax":
            raise TypeError(f"solver must be a name, or on JAX a diffrax solver, got {solver!r} for a field of {home}")
    elif solver in JAX_ONLY and home != "jax":
        raise ValueError(f"solver={solver!r} exists on JAX only; on torch use 'dopri5' or 'dopri8'")
    else:
        checks.choice("solver", solver, SOLVERS if home == "jax" else (*SOLVERS, *TORCH_FIXED_STEP, *TORCH_ADAPTIVE))
    if solver in (*ADAPTIVE, *JAX_ONLY, *TORCH_ADAPTIVE) and step is not None:
        raise ValueError(f"step is for {', '.join(FIXED_STEP)}; solver={solver!r} adapts its own steps: use atol")
    if solver in (*FIXED_STEP, *TORCH_FIXED_STEP) and step is None:
        raise ValueError(f"solver={solver!r} has a fixed step: pass step=, the size of a step")
    # Fixed steps ignore tolerances, so that what the dtype can hold does not matter for them.
    eps = float(be.xp.finfo(x.dtype).eps) if step is None else 0.0
    rtol, atol = checks.tolerances(rtol, atol, x.dtype, eps)
    return rtol, atol, None if step is None else checks.number("step", step, low=0.0, strict=True)
