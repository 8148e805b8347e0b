"""Steps of PyTorch as one compiled program each, where the user asks for it (``ctsa.torch.compiling``)."""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from ._compiling import asked
from ._march import looked
from ._torch_tableaus import tableau

_KINDS = 256  # of fields and shapes that one function may be compiled for

_RAISED = re.compile(r"\bgot (\w+\((['\"]).*\2\))$", re.MULTILINE)  # by an operation, within what Dynamo explains
_EXPLAINED = re.compile(r"Explanation: (.*)")
_PROGRAMS: dict[tuple, Callable] = {}


def compiled(function: Callable) -> Callable:
    """Return a function of tensors as one program, or as it is where none is asked for."""
    options = asked()
    return function if options is None else _named(_program(function, options))


def _program(function: Callable, options: dict) -> Callable:
    key = function, repr(sorted(options.items()))
    if key not in _PROGRAMS:
        own = {"recompile_limit": _KINDS, "isolate_recompiles": True}
        known = inspect.signature(torch.compile).parameters  # older versions have a limit for the process
        kept = {name: value for name, value in own.items() if name in known}
        _PROGRAMS[key] = torch.compile(function, fullgraph=True, dynamic=False, **(kept | options))
    return _PROGRAMS[key]


def _kept(found: Any) -> Any:
    """Return what a program made in memory of its own: CUDA graphs write to the same place the next time."""
    if isinstance(found, tuple):
        return tuple(_kept(each) for each in found)
    return found.clone() if isinstance(found, torch.Tensor) and found.is_cuda else found


@contextmanager
def _hooks_looked_at() -> Iterator[None]:
    """Have programs notice hooks of modules that come and go, which torch.compile by itself takes for granted."""
    config = torch._dynamo.config
    before, config.skip_nnmodule_hook_guards = config.skip_nnmodule_hook_guards, False
    try:
        yield
    finally:
        config.skip_nnmodule_hook_guards = before


def _named(program: Callable) -> Callable:
    """Say what to do where a field cannot be compiled."""

    @functools.wraps(program)
    def called(*args: Any) -> Any:
        try:
            with _hooks_looked_at():
                return _kept(program(*args))
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            if type(error).__name__ == "FailOnRecompileLimitHit":  # "Hard failure due to fullgraph=True"
                raise ValueError(
                    f"this field or layer took more than {_KINDS} programs, another one for every value of a Python number "
                    "that it holds, counts, or is closed over: make that number a tensor, or leave ctsa.torch.compiling out"
                ) from error
            said = _RAISED.search(str(error)) or _EXPLAINED.search(str(error))
            why = said[1] if said else " ".join(str(error).strip().splitlines()[:2])
            raise ValueError(
                f"torch.compile does not make one program of this field or layer: {textwrap.shorten(why, 300)}. Leave "
                "ctsa.torch.compiling out, or write that part otherwise"
            ) from error

    return called


# ---------------------------------------------------------------------------------------------------- a step of a method
class _Rows(NamedTuple):
    """A tableau in plain numbers, which a program has inside."""

    c: list[float]
    a: list[list[float]]
    step: list[float]
    error: list[float]
    fsal: bool

    def through(self, rhs: Callable, clock: Any, y: Any, first: Any) -> tuple[Any, list]:
        """Return the state at the end of a step, and its slopes."""
        slopes, end = [first], y
        for c, row in zip(self.c[1:], self.a[1:], strict=True):
            end = _moved(y, clock[1], row, slopes)
            slopes.append(rhs(clock[0] + c * clock[1], end))
        return (end if self.fsal else _moved(y, clock[1], self.step, slopes)), slopes


def _rows(name: str) -> _Rows:
    m = tableau(name)
    return _Rows(m.c.tolist(), m.a.tolist(), m.step.tolist(), m.error.tolist(), m.fsal)


def _sum(weights: list[float], slopes: list) -> list:
    """Add up slopes, a part of the state at a time."""
    return [sum(w * k for w, k in zip(weights, part, strict=False) if w) for part in zip(*slopes, strict=True)]


def _moved(y: tuple, h: Any, weights: list[float], slopes: list) -> tuple:
    return tuple(a + h * k for a, k in zip(y, _sum(weights, slopes), strict=True))


@functools.cache
def stepping(name: str) -> Callable:
    """Return a step of a method: ``(rhs, shapes, (t, h), y, slope) -> (end, slopes (s, N))``, of flat states."""
    method = _rows(name)

    def step(rhs, shapes, clock, y, first):
        end, slopes = method.through(rhs, clock.unbind(), parts(y, shapes), parts(first, shapes))
        return flat(end), torch.stack([flat(each) for each in slopes])

    return step


@functools.cache
def marching(name: str) -> Callable:
    """Return a step with tangent vectors: ``-> (end, last slope, what tells of its errors and of its growth)``."""
    method = _rows(name)

    def step(coordinates, field, shapes, batch, relative, numbers, y, first):
        (*clock, rtol, atol), y = numbers.unbind(), parts(y, shapes)
        end, slopes = method.through(lambda t, z: coordinates.slope(field, t, z), clock, y, parts(first, shapes))
        error = tuple(clock[1] * e for e in _sum(method.error, slopes))
        told = looked(torch, coordinates, error, y, end, rtol if relative else None, atol, batch)
        return flat(end), flat(slopes[-1]), torch.stack(told)

    return step


def slope(rhs, shapes, t, y):
    """Return the slope of a flat state."""
    return flat(rhs(t, parts(y, shapes)))


def slope_of_march(coordinates, field, t, y):
    """Return the slope of a state with tangent vectors."""
    return coordinates.slope(field, t, y)


def flat(y: Any) -> Any:
    """Return the parts of a state as one vector."""
    return torch.cat([part.reshape(-1) for part in y])


def parts(y: Any, shapes: Any) -> tuple:
    """Return the parts of a flat state."""
    sizes = [functools.reduce(lambda a, b: a * b, shape, 1) for shape in shapes]
    return tuple(part.reshape(shape) for part, shape in zip(y.split(sizes), shapes, strict=True))
