"""What is looked at before a solve begins: the solver for the framework, and the velocity at the start."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, framework, modules, rounding
from ctsa._backend._march import Segment
from ctsa._backend._solve import FIXED_STEP, SOLVERS_OF
from ctsa.calling import Calling
from ctsa.parts import everything, wholly_ours

from .solver import Solver

Array = Any
MANY = 2048  # tokens from which a field is asked how it is evaluated


def settled(field: Any, x: Array) -> Any:
    """Return a field with ways of evaluation that it leaves open chosen for tokens like ``x``; others as they are."""
    own = getattr(field, "settled", None)
    return field if own is None or x.shape[-2] < MANY else own(*x.shape[-2:])


def account(field: Any, x: Array) -> dict[str, Any]:
    """Return how a field was evaluated, for the ``stats`` of a run of many tokens that ended at ``x``; none under jit."""
    told = x.shape[-2] >= MANY and not modules(backend(x).name).traced(x)
    parts = everything(field) if told else ()
    return {key: value for part in parts if hasattr(part, "account") for key, value in part.account(x).items()}


def needs_check(be, field, x) -> bool:
    """Tell whether the velocity is looked at before the solve: one of ours, of known values, is when the solve fails."""
    return not wholly_ours(field) or bool(modules(be.name).traced(x)) or bool(modules(be.name).traced(field))


def check_velocity(be, field, geometry, t, x) -> Array:
    """Look at the velocity once, at the start, and return ``x``; values not known yet are looked at when they are.

    A bare callable must give tangent velocities, or normalising would change its flow.
    """
    if not hasattr(field, "drift") and checks.arity(field) not in (-1, 2):
        raise TypeError(
            f"field must be callable as field(t, x), but takes {checks.arity(field)} argument(s)"
            + (": if it is a layer(x), ctsa.iterate applies it" if checks.arity(field) == 1 else "")
        )
    with Calling(field, x, "field"):
        v = be.call(field, t, x)
    if getattr(v, "shape", None) != x.shape:
        raise ValueError(
            f"field must return a velocity of the shape of x, {tuple(x.shape)}, got "
            f"{tuple(v.shape) if hasattr(v, 'shape') else type(v).__name__}"
        )
    if framework(v) != be.name or v.dtype != x.dtype:
        raise TypeError(f"field must return a {be.name} array of {x.dtype} like x, got {framework(v)}, {v.dtype}")
    finite = checks.finite(v)
    if finite is None:
        x = be.guard(x + 0 * v, be.xp.isfinite(v).all(), "field is nan or inf at x0")  # x is now traced as v is
    elif not finite:
        raise ValueError(f"field is nan or inf at x0, t={float(be.to_numpy(t)):g}")
    if geometry.flat or hasattr(field, "drift"):
        return x
    cure = f"roject it ({'ctsa.Sphere()' if geometry.unit else 'geometry'}.project(x, v))"
    size, normal = be.xp.amax(be.xp.abs(v)), be.xp.amax(be.xp.abs(geometry.project(x, v) - v))
    ok = normal <= 1e3 * rounding(x) * be.xp.clip(size, 1.0, None)
    if finite is None:
        return be.guard(x, ok, f"field is not tangent to {geometry.place}: p{cure}")
    if not ok:
        raise ValueError(
            f"field is not tangent to {geometry.place}: its {'radial' if geometry.unit else 'normal'} part is up to "
            f"{float(normal):.3g} where the velocity is up to {float(size):.3g}. P{cure}, or pass geometry=ctsa.Euclidean()"
        )
    return x


@dataclass(frozen=True)
class Method:
    """A solver whose settings have been checked against a state."""

    name: Any
    rtol: float
    atol: float
    step: float | None
    max_steps: int

    def segment(self, span: float) -> Segment:
        """Return the settings for one solve over ``span``, which fixed steps cut into equal ones."""
        steps = None if self.step is None else max(1, int(np.ceil(span / self.step - 1e-9)))
        return Segment(self.name, self.rtol, self.atol, self.max_steps, steps)


def check_solver(solver: Solver, x: Array) -> Method:
    """Check that a solver exists for the framework of ``x`` and that its settings fit."""
    be, name, step = backend(x), solver.name, solver.step
    home, known = be.name, be.solvers
    if not isinstance(name, str):
        if not isinstance(name, known.objects):
            raise TypeError(f"solver must be a name, or on JAX a diffrax solver, got {name!r} for a field of {home}")
    elif name not in (*known.adaptive, *known.fixed):
        other = next((k for k, s in SOLVERS_OF.items() if name in (*s.adaptive, *s.fixed)), None)
        if other is not None:
            on, here = (k.replace("jax", "JAX") for k in (other, home))
            raise ValueError(f"solver={name!r} exists on {on} only; on {here} use {known.hint}")
        checks.choice("solver", name, (*known.adaptive, *known.fixed))
    if name in known.adaptive and step is not None:
        raise ValueError(f"step is for {', '.join(FIXED_STEP)}; solver={name!r} adapts its own steps: use atol")
    if name in known.fixed and step is None:
        raise ValueError(f"solver={name!r} has a fixed step: pass step=, the size of a step")
    # Fixed steps ignore tolerances, so that what the dtype can hold does not matter for them.
    eps = rounding(x) if step is None else 0.0
    rtol, atol = checks.tolerances(solver.rtol, solver.atol, x.dtype, eps)
    step = None if step is None else checks.number("step", step, low=0.0, strict=True)
    return Method(name, rtol, atol, step, checks.integer("max_steps", solver.max_steps, low=1))
