"""What an analysis takes: memory from its sizes, time from short probes on this machine."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, dtype_name
from ctsa._types import States
from ctsa.flows import Solver
from ctsa.flows.systems import home_of, system_of
from ctsa.geometry import Geometry
from ctsa.parts import everything, walk
from ctsa.results.base import Result
from ctsa.results.text import lines
from ctsa.settings import one_of

from .analyses import ANALYSES, Kept, check_system
from .config import Made

_PROBE = 0.3  # seconds after which a probe is long enough
_LONG = 5.0  # seconds after which nothing is tried twice
_STAGES = 8  # copies of a state that a Runge-Kutta step keeps


@dataclass(frozen=True)
class Estimate(Result):
    """What an analysis takes, about.

    Attributes:
        analysis: its name.
        unknowns: ``n d`` of a state, times the number of states.
        amount: how many of ``unit`` it consists of.
        unit: what its time is proportional to: "units of time", "intervals", "layers", "starts", ...
        seconds: of the run on this machine; nan where it could not be tried out.
        compile: of these, spent once before the first.
        memory: bytes at the peak, of arrays.
        free: bytes that this machine, or its accelerator, has in all.
        fits: whether ``memory`` is less.
        advice: what would fit, or what the numbers leave open.
        probe: seconds that the estimate took.
    """

    analysis: str
    unknowns: int
    amount: float
    unit: str
    seconds: float
    compile: float
    memory: float
    free: float
    fits: bool
    advice: str
    probe: float
    _static: ClassVar[tuple[str, ...]] = (
        "analysis", "unknowns", "amount", "unit", "seconds", "compile", "memory", "free", "fits", "advice", "probe"
    )  # fmt: skip

    def __repr__(self) -> str:
        more = "" if self.fits else ", too much"
        return f"Estimate({self.analysis}: {duration(self.seconds)}, {size(self.memory)}{more})"

    def table(self) -> str:
        """Return it as text."""
        rows: list[tuple[str, Any]] = [("analysis", self.analysis), ("unknowns", self.unknowns)]
        rows += [] if (self.unit, self.amount) == rows[1] else [(self.unit, f"{self.amount:.6g}")]
        rows += [("time", duration(self.seconds))]
        rows += [("to compile", duration(self.compile))] if self.compile > 0.05 else []
        rows += [("memory", f"{size(self.memory)} of {size(self.free)}"), ("fits", self.fits)]
        return lines([*rows, *([("note", self.advice)] if self.advice else [])])

    def require(self) -> None:
        """Raise unless it fits.

        Raises:
            ValueError: it needs more memory than there is; says what would fit.
        """
        if not self.fits:
            raise ValueError(
                f"{self.analysis} would need about {size(self.memory)} of memory, more than the {size(self.free)} of this "
                f"machine: {self.advice}"
            )


def duration(seconds: float) -> str:
    """Return a time as text, in the unit that one would use."""
    if not math.isfinite(seconds):
        return "not known"
    for low, divisor, unit in ((2 * 365 * 86400, 365 * 86400, "years"), (2 * 86400, 86400, "days"), (5400, 3600, "hours"),
                               (90, 60, "minutes")):  # fmt: skip
        if seconds >= low:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds:.2g} s"


def size(memory: float) -> str:
    """Return bytes as text."""
    for low, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if memory >= low:
            return f"{memory / low:.3g} {unit}"
    return f"{memory / 2**10:.3g} KiB"


def estimate(
    analysis: str,
    system: Any,
    x0: States,
    *,
    solver: Any = "dopri5",
    geometry: Geometry | None = None,
    seed: int = 0,
    probe: bool = True,
    **settings: Any,
) -> Estimate:
    """Foretell time and memory of an analysis, by its sizes and a probe of about a second.

    The time is what the probe takes, extended in proportion to intervals, layers, time, or starts. A flow that is followed
    by adaptive steps is taken to need as many of them all along as at its start, where most are needed as a rule. Memory is
    that of the largest arrays, within a factor of two or so.

    Args:
        analysis: "simulate", "lyapunov", "jacobian", "diagnose", "compare", "equilibria", "basins", "continue", "monitor".
        system: a field or a layer.
        x0: tokens ``(..., n, d)``.
        solver: a name or a ``ctsa.Solver``.
        geometry: where a bare callable lives.
        seed: of what is drawn.
        probe: False computes nothing, and gives no time.
        settings: those of the analysis, as in its function, or as its table in a file.

    Returns:
        ``Estimate``; ``.require()`` raises unless it fits into memory.

    Raises:
        ValueError: there is no such analysis or setting, or what the analysis itself would raise.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> found = ctsa.estimate("lyapunov", SelfAttention(), ctsa.random_tokens(32, 3), intervals=1000)
        >>> found.fits, found.unit
        (True, 'intervals')
    """
    one_of("analysis", analysis, ANALYSES)
    told = ANALYSES[analysis].settings.read(settings, analysis)
    layer = not system_of(system, geometry).flow
    check_system(analysis, told, layer)
    x = np.asarray(checks.states(x0, "x0"))
    method = solver if isinstance(solver, Solver) else Solver(solver)
    flow, block = (None, system) if layer else (system, None)
    made = Made(_face(system), flow, block, x, method, geometry, checks.seed(seed), dtype_name(x))
    return estimate_of(analysis, made, told, probe)


def check_room(config: Any, made: Any) -> None:
    """Raise if an analysis of a config cannot fit into memory, before any of them starts.

    Raises:
        ValueError: says which, and what would fit.
    """
    for name, settings in config.analyses.items():
        try:
            estimate_of(name, made, settings, probe=False).require()
        except ValueError as error:
            raise ValueError(f"{config.where}: {error}") from None


def estimate_of(analysis: str, made: Any, settings: Any, probe: bool = True) -> Estimate:
    """Foretell what an analysis of a config takes; arguments as ``ANALYSES`` has them."""
    x0, plan = made.x0, PLANS[analysis]
    if analysis in ("jacobian", "compare", "monitor"):
        made.one(analysis)
    memory = plan.memory(made, settings)
    free = float(checks.MEMORY)
    amount, unit = plan.amount(made, settings), plan.unit(made, settings)
    known = Estimate(analysis, x0.size, amount, unit, math.nan, 0.0, memory, free, memory < free, "", 0.0)
    if not known.fits:
        return replace(known, advice=_advice(plan, made, settings, memory, free))
    if getattr(settings, "merge", False):
        plan = replace(plan, part=None, note="tokens that merge take longer and longer steps: the time is not foretold")
    if not probe or plan.part is None:
        return replace(known, advice=plan.note if plan.part is None else "")
    began = time.perf_counter()
    seconds, first = _timed(analysis, plan.part, plan, made, settings, known.amount)
    return replace(
        known, seconds=seconds, compile=first, probe=time.perf_counter() - began, advice=plan.note if seconds > 1 else ""
    )


def _timed(
    analysis: str, part_of: Callable[[Any, Any, float], Any], plan: "Plan", made: Any, settings: Any, amount: float
) -> tuple[float, float]:
    """Return the seconds of all and those of compiling: from growing parts, each run three times."""
    run = ANALYSES[analysis].run

    def probe(share: float) -> tuple[float, float, float]:
        part = part_of(made, settings, share)
        spent: list[float] = []
        while len(spent) < 3 and sum(spent) < _LONG:
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(made, part, Kept())
            spent.append(time.perf_counter() - began)
        return plan.amount(made, part), spent[0], min(spent)  # other work on the machine only adds

    share, before = min(1.0, plan.least / amount), (0.0, 0.0)
    units, cold, seconds = probe(share)
    first = max(0.0, cold - seconds)
    while seconds < _PROBE and units < amount:
        share = min(1.0, share * max(2.0, min(16.0, _PROBE / max(seconds, 1e-4))))
        before = (units, seconds)
        units, _, seconds = probe(share)
        if units <= before[0]:
            break
    slope = (seconds - before[1]) / (units - before[0]) if units > before[0] else 0.0
    slope = slope if slope > 0 else seconds / units
    return first + seconds + slope * max(0.0, amount - units), first


@dataclass(frozen=True)
class Plan:
    """How the cost of an analysis is found.

    Attributes:
        unit: what its time is proportional to.
        amount: how many of them.
        part: settings of a part of it, for a share of the amount; None: it is not tried.
        memory: bytes at the peak.
        least: of the units, for the smallest probe.
        remedy: what to take less of, where it does not fit.
        note: what the estimate leaves open.
    """

    unit: Callable[[Any, Any], str]
    amount: Callable[[Any, Any], float]
    part: Callable[[Any, Any, float], Any] | None
    memory: Callable[[Any, Any], float]
    least: float = 1.0
    remedy: str = "take fewer tokens"
    note: str = ""


def _item(made: Any) -> int:
    return np.dtype(made.dtype).itemsize


def _heads(system: Any) -> int:
    return max((np.shape(a)[0] for place, _, a in walk(system) if place[-1] == "query" and np.ndim(a) == 3), default=1)


def _attention(made: Any) -> float:
    """Return the bytes of scores, their exponentials and weights of one evaluation; none for fields without attention."""
    system = made.system
    ours = any(place[-1] in ("beta", "query") for place, _, _ in walk(system)) or not list(walk(system))
    n = made.x0.shape[-2]
    several = [each for each in everything(system) if hasattr(each, "in_blocks")]
    rows = min(n, 256) if several and all(each.in_blocks(n) for each in several) else n
    return 3.0 * _item(made) * _heads(system) * float(np.prod(made.x0.shape[:-2])) * rows * n if ours else 0.0


def _state(made: Any) -> float:
    return float(made.x0.size) * _item(made)


def _simulate_memory(made: Any, s: Any) -> float:
    kept = s.points if made.layer is None else s.depth / s.every + 1
    return _attention(made) + (_STAGES + 2.0 * kept) * _state(made)


def _directions(made: Any, s: Any) -> int:
    n, d = made.x0.shape[-2:]
    g = made.geometry
    most = n * (d - 1) if g is None else (g.dimension(n, d) if hasattr(g, "dimension") else n * d)
    count = getattr(s, "count", None)
    return most if count is None else min(count, most)


def _lyapunov_memory(made: Any, s: Any) -> float:
    k = _directions(made, s)
    n, d = made.x0.shape[-2:]
    tangents = (2 * _STAGES + 4.0) * k * _state(made)
    between = k * float(np.prod(made.x0.shape[:-2])) * _item(made) * (n * d * d if d < 16 else n * n * _heads(made.system))
    return _attention(made) + tangents + between + 8.0 * 2 * s.intervals * k * float(np.prod(made.x0.shape[:-2]))


def _dense_memory(made: Any, s: Any) -> float:
    m = float(made.x0.shape[-2] * made.x0.shape[-1])
    return 5 * 8 * m * m + _attention(made)


def _shorter(name: str) -> Callable[[Any, Any, float], Any]:
    def part(made: Any, s: Any, share: float) -> Any:
        value = getattr(s, name)
        less = max(1, math.ceil(value * share)) if isinstance(value, int) else value * share
        return s.model_copy(update={name: less})

    return part


def _simulate_part(made: Any, s: Any, share: float) -> Any:
    if made.layer is None:
        points = max(2, math.ceil((s.points - 1) * share) + 1)
        return s.model_copy(update={"duration": s.duration * share, "points": points})
    return s.model_copy(update={"depth": s.every * max(1, math.ceil(s.depth / s.every * share))})


def _lyapunov_part(made: Any, s: Any, share: float) -> Any:
    whole = s.intervals + s.transient
    return _given(s, intervals=max(2, math.ceil(whole * share)), transient=0)


def _given(s: Any, **changes: Any) -> Any:
    """Return settings with changes that count as given."""
    return s.model_copy(update=changes)


def _diagnose_part(made: Any, s: Any, share: float) -> Any:
    return _given(s, loops=max(8, math.ceil(s.loops * share)))


def _equilibria_part(made: Any, s: Any, share: float) -> Any:
    return _given(s, starts=max(1, math.ceil(s.starts * share)), structured=False, rounds=1)


def _compare_part(made: Any, s: Any, share: float) -> Any:
    return _given(s, duration=s.duration * share)


def _flow(made: Any) -> bool:
    return made.layer is None


PLANS: dict[str, Plan] = {
    "simulate": Plan(
        lambda m, s: "units of time" if _flow(m) else "layers", lambda m, s: s.duration if _flow(m) else float(s.depth),
        _simulate_part, _simulate_memory, 0.1, "take fewer tokens, heads, points or states",
        "as many steps all along as at the start, where most are needed as a rule",
    ),
    "lyapunov": Plan(
        lambda m, s: "intervals", lambda m, s: float(s.intervals + s.transient), _lyapunov_part, _lyapunov_memory, 2.0,
        "take a smaller count, fewer intervals or tokens",
    ),
    "jacobian": Plan(
        lambda m, s: "unknowns", lambda m, s: float(m.x0[0].size if m.x0.ndim > 2 else m.x0.size), lambda m, s, share: s,
        _dense_memory, math.inf, "take fewer tokens; ctsa.leading needs no dense Jacobian",
    ),
    "diagnose": Plan(
        lambda m, s: "loops", lambda m, s: float(s.loops), _diagnose_part,
        lambda m, s: (s.restarts + 1.0) * (2.0 * (s.exponents + 1) * _attention(m) / 3 + (s.loops + 40.0) * _state(m)),
        8.0, "take fewer loops or inputs",
    ),
    "compare": Plan(
        lambda m, s: "units of time", lambda m, s: float(s.duration), _compare_part,
        lambda m, s: _attention(m) + 600.0 * _state(m), 1e-1, "take fewer tokens",
    ),
    "equilibria": Plan(
        lambda m, s: "starts", lambda m, s: float(s.starts), _equilibria_part, _dense_memory, 4.0, "take fewer tokens",
        "at least: structured starts come on top, and the search goes on for as long as it finds new equilibria",
    ),
    "basins": Plan(
        lambda m, s: "starts", lambda m, s: float(s.starts), _shorter("starts"),
        lambda m, s: 30.0 * s.starts * m.x0.shape[-2] * m.x0.shape[-1] * _item(m)
        + 3.0 * _item(m) * _heads(m.system) * min(s.starts, 256) * m.x0.shape[-2] ** 2,
        32.0, "take fewer starts at a time, batch=",
    ),
    "continue": Plan(
        lambda m, s: "points of a branch", lambda m, s: float(s.max_points), None, _dense_memory, 1.0,
        "take fewer tokens", "how many branches there are nobody knows before: the time is not foretold",
    ),
    "monitor": Plan(
        lambda m, s: "units of time" if _flow(m) else "layers",
        lambda m, s: float((s.duration or 5.0) if _flow(m) else (s.depth or 32)),
        lambda m, s, share: _given(s, **({"duration": (s.duration or 5.0) * share} if _flow(m)
                                         else {"depth": max(1, math.ceil((s.depth or 32) * share))})),
        _dense_memory, 0.5, "take fewer tokens",
    ),
    "survey": Plan(
        lambda m, s: "heads", lambda m, s: math.nan, None, lambda m, s: 2.0**30, 1.0, "take fewer tokens",
        "each head of each layer is a flow of its own: seconds to a minute a head",
    ),
}  # fmt: skip


def _advice(plan: Plan, made: Any, settings: Any, memory: float, free: float) -> str:
    """Say how many tokens would fit, by trying sizes; and what else to take less of."""
    n = made.x0.shape[-2]
    low, high = 0, n
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        fits = plan.memory(replace(made, x0=made.x0[..., :middle, :]), settings) < 0.8 * free
        low, high = (middle, high) if fits else (low, middle)
    rounded = int(float(f"{low:.2g}")) if low > 10 else low
    what = f"{min(rounded, low)} of these {n} tokens would fit" if low else "not even a few tokens would fit"
    return f"{what}; {plan.remedy}"


def _face(system: Any) -> Any:
    return import_module(f"ctsa.{autodiff(system) or autodiff(home_of(system)) or 'torch'}")

