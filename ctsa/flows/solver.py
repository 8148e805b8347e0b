"""A solver with its settings as one value, which every function that integrates takes."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ctsa import checks

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Solver:
    """A solver and its settings; what is None is left to the function that takes it.

    ``solver="dopri5", atol=1e-10`` and ``solver=Solver("dopri5", atol=1e-10)`` are the same run, also for ``resume=`` and
    checkpoints.

    Args:
        name: as for ``ctsa.integrate``: a name, or on JAX a solver of diffrax.
        rtol: relative tolerance.
        atol: absolute tolerance.
        step: step of a fixed-step solver.
        max_steps: steps after which a solve gives up.

    Raises:
        TypeError, ValueError: a setting is no number, or negative.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> fine = ctsa.Solver("dopri8", atol=1e-12)
        >>> ctsa.integrate(Oja([[2.0, 0.0], [0.0, 1.0]]), [[0.6, 0.8]], [0.0, 1.0], fine).stats["steps"]
        10
    """

    name: Any = "dopri5"
    rtol: float | None = None
    atol: float | None = None
    step: float | None = None
    max_steps: int | None = None

    def __post_init__(self):
        if isinstance(self.name, Solver):
            raise TypeError("name must be the name of a solver, got a Solver")
        for key in ("rtol", "atol", "step"):
            value = getattr(self, key)
            if value is not None:
                checks.number(key, value, low=0.0, strict=key != "rtol")
        if self.max_steps is not None:
            checks.integer("max_steps", self.max_steps, low=1)

    def __repr__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self)[1:] if getattr(self, f.name) is not None]
        return f"Solver({', '.join([repr(self.name), *given])})"


def takes_solver(function: _Function) -> _Function:
    """Let a function with ``solver=`` and separate settings take a ``Solver`` in their place.

    Raises:
        ValueError: a setting is given twice and differs, or the function has no such setting.
    """
    signature = inspect.signature(function)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    settings = [f.name for f in fields(Solver) if f.name != "name"]
    called_as = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(a, Solver) for a in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        given = signature.bind_partial(*args, **kwargs).arguments
        given = {**given, **kwargs}
        solver = given.get("solver")
        if not isinstance(solver, Solver):
            return function(*args, **kwargs)  # in another place: the function says so
        extra: dict[str, Any] = {}
        for key in settings:
            value = getattr(solver, key)
            if value is None:
                continue
            if key not in signature.parameters and not open_ended:
                raise ValueError(f"solver has {key}={value!r}, but {called_as} takes no {key}: leave it out")
            if given.get(key) is not None and given[key] != value:  # None is "not given"
                raise ValueError(f"{key}={given[key]!r} contradicts {solver!r}: give {key} once")
            extra[key] = value
        args = tuple(solver.name if a is solver else a for a in args)
        if "solver" in kwargs:
            extra["solver"] = solver.name
        return function(*args, **(kwargs | extra))

    return called  # type: ignore[return-value]
