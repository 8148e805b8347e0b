"""From a result to its section: which charts belong to which kind."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa._backend import framework
from ctsa.results.base import Result, as_numpy

from .charts import basins, branches, comparison, diagnosis, energy_report, evaluation, monitor, training_run
from .pictures import still
from .pieces import Chart, Picture, Player, Section
from .spectra import eigenvalues, singular, spectrum
from .sweeps import sweep
from .tokens import one_run, player, single
from .words import say

Figures = tuple[list[Chart | Player | Picture], list[str]]
_LINES = 400  # the most of a table
_NAMES = {"real": "eigenvalue", "modulus": "eigenvalue", "singular": "singular value", "symmetric": "rate of growth"}


def is_sweep(value: Any) -> bool:
    """Tell whether a value is an ``xarray.Dataset``, without importing xarray."""
    return any(c.__name__ == "Dataset" and c.__module__.startswith("xarray") for c in type(value).__mro__)


def is_equilibria(value: Any) -> bool:
    """Tell whether a value is an ``Equilibria``, or a list of some of its equilibria."""
    kinds = {type(part).__name__ for part in value} if isinstance(value, list | tuple) else {""}
    return kinds == {"Equilibrium"} or type(value).__name__ == "Equilibria"


def plain(value: Any) -> Any:
    """Return a result with all arrays as NumPy; tables that files hold as what they stand for; sweeps as computed."""
    if is_sweep(value):
        return value.compute()
    if isinstance(value, Result):
        names = [f.name for f in dataclasses.fields(value) if f.name not in value._code]  # type: ignore[arg-type]
        changed = {name: plain(getattr(value, name)) for name in names}
        changed = {name: new for name, new in changed.items() if new is not getattr(value, name)}
        return (dataclasses.replace(value, **changed) if changed else value)._restored()  # type: ignore[type-var]
    if type(value) in (list, tuple, dict):
        old = list(value.values()) if isinstance(value, dict) else list(value)
        new = [plain(part) for part in old]
        if all(a is b for a, b in zip(old, new)):
            return value
        return dict(zip(value, new)) if isinstance(value, dict) else type(value)(new)
    return as_numpy(value) if framework(value) is not None and not isinstance(value, np.ndarray | np.generic) else value


def section(result: Any, detail: float, scenes: bool) -> Section:
    """Return the section of a result.

    Args:
        detail: share of the usual number of states and points.
        scenes: whether three dimensions may be drawn as such, of which browsers allow only some.
    """
    if is_sweep(result):
        return sweep(result, detail)
    kind = "Equilibria" if is_equilibria(result) else type(result).__name__
    figures, notes = _DRAWS[kind](result, detail, scenes) if kind in _DRAWS else ([], [])
    text = _shortened(_table(result), int(_LINES * detail))
    if not figures and hasattr(result, "plot"):
        name = _words(kind)
        picture = still(result, f"{name[:1].upper()}{name[1:]}, as its own picture shows it.")
        figures = [picture] if picture else []
    return Section(_words(kind), say(result, kind), figures, text, notes)


def _table(result: Any) -> str:
    if hasattr(result, "table"):
        try:
            return result.table()
        except ValueError:  # of several states: a table is about one
            return repr(result)
    return repr(result) if isinstance(result, Result) else "\n".join(map(repr, result))


def _shortened(text: str, most: int) -> str:
    lines = text.splitlines()
    if len(lines) <= most:
        return text
    return "\n".join([*lines[: most - 10], f"... {len(lines) - most} lines are left out ...", *lines[-10:]])


def _words(kind: str) -> str:
    """Return "Lyapunov spectrum" for "LyapunovSpectrum"."""
    found = "".join(f" {c.lower()}" if c.isupper() and i else c for i, c in enumerate(kind))
    return found.lower().replace("lyapunov", "Lyapunov").replace("jacobian", "Jacobian").replace("euler", "Euler")


# ------------------------------------------------------------------------------------------------------- of every kind
def _trajectory(traj: Any, detail: float, scenes: bool) -> Figures:
    ts, xs, batch = one_run(traj)
    found, notes = player(ts, xs, "layer" if "layers" in traj.stats else "t", detail, scenes)
    first = [f"Of {int(np.prod(batch))} runs the first is shown."] if batch else []
    return ([found] if found else []), [*first, *notes]


def _equilibria(found: Any, detail: float, scenes: bool) -> Figures:
    """Return the states one after the other, and the eigenvalues of all."""
    if not len(found):
        return [], []
    some = list(found)[: int(60 * detail)]
    notes = [f"{len(some)} of {len(found)} equilibria are shown."] if len(some) < len(found) else []
    figures: list[Any] = []
    if len({e.x.shape for e in some}) == 1:
        view, more = player(
            np.arange(len(some)), np.stack([e.x for e in some]), "equilibrium", detail, scenes, False
        )
        if view:
            charts_ = {name: c for name, c in view.views.items() if name != "series"}
            names = [f"{i}: {e.kind}, {e._verdict}" for i, e in enumerate(some)]
            still_ones = [t for t in charts_["tokens"].data[:-1] if not _is_path(t)]
            shown = dataclasses.replace(charts_["tokens"], data=[*still_ones, charts_["tokens"].data[-1]])
            caption = "The equilibria one by one, and the inner products of their tokens."
            figures.append(dataclasses.replace(
                view, views=charts_ | {"tokens": shown}, labels=names, start=0, caption=caption, moving=len(still_ones)
            ))  # fmt: skip
            notes += [n for n in more if not n.startswith("Paths")]
    kinds = [f"{e.kind} ({e._verdict.split(' (')[0]})" for e in some]
    sets = [
        (kind, np.concatenate([e.eigenvalues for e, k in zip(some, kinds) if k == kind]))
        for kind in dict.fromkeys(kinds)
    ]
    chart = eigenvalues(sets, True, "Eigenvalues of the tangent Jacobians")
    return [*figures, *([chart] if chart else [])], notes


def _is_path(trace: dict[str, Any]) -> bool:
    """Tell whether a trace belongs to a run, not to the picture that tokens stand on."""
    colour = str(trace.get("line", {}).get("color", ""))
    return colour[1:2].isdigit() or trace.get("mode") == "markers"


def _state(x: Any, chart: Chart | None, detail: float, scenes: bool) -> Figures:
    view, notes = single(x, detail, scenes)
    return [f for f in (view, chart) if f is not None], notes


def _equilibrium(e: Any, detail: float, scenes: bool) -> Figures:
    return _state(e.x, eigenvalues([(e.kind, e.eigenvalues)], True), detail, scenes)


def _limit_cycle(cycle: Any, detail: float, scenes: bool) -> Figures:
    chart = eigenvalues([(cycle.kind, cycle.multipliers)], False, "Multipliers of the cycle")
    return _state(cycle.x, chart, detail, scenes)


def _fixed_points(found: Any, detail: float, scenes: bool) -> Figures:
    sets = [(f"{found._name} {i}, {s}", z) for i, (s, z) in enumerate(zip(found.stability, found.multipliers))]
    chart = eigenvalues(sets, False, "Multipliers on the tangent space")
    return ([chart] if chart else []), [f"Multipliers of 12 of {len(sets)} are shown."] if len(sets) > 12 else []


def _leading(result: Any, detail: float, scenes: bool) -> Figures:
    values = np.asarray(result.values)
    if values.ndim > 1:
        values = values.reshape(-1, values.shape[-1])
    if result.which in ("singular", "symmetric"):
        return [singular(np.atleast_2d(values)[0], _NAMES[result.which])], []
    names = [f"state {i}" for i in range(len(values))] if values.ndim > 1 else [""]
    chart = eigenvalues(list(zip(names, np.atleast_2d(values))), result.continuous, "Leading eigenvalues")
    return ([chart] if chart else []), []


def _jacobian(result: Any, detail: float, scenes: bool) -> Figures:
    chart = eigenvalues([("", np.asarray(result.eigenvalues))], result.continuous, "Eigenvalues of the Jacobian")
    return ([chart] if chart else []), []


def _simple(draw: Callable[[Any], Any]) -> Callable[[Any, float, bool], Figures]:
    def drawn(result: Any, detail: float, scenes: bool) -> Figures:
        found = draw(result)
        return (list(found) if isinstance(found, list) else [found]), []

    return drawn


def _monitor(result: Any, detail: float, scenes: bool) -> Figures:
    return ([] if len(result.missing) == 5 else [monitor(result)]), []


_DRAWS: dict[str, Callable[[Any, float, bool], Figures]] = {
    "Trajectory": _trajectory,
    "LyapunovSpectrum": _simple(spectrum),
    "Leading": _leading,
    "JacobianSpectrum": _jacobian,
    "Equilibria": _equilibria,
    "Equilibrium": _equilibrium,
    "LimitCycle": _limit_cycle,
    "FixedPoints": _fixed_points,
    "Cycles": _fixed_points,
    "Comparison": _simple(comparison),
    "Basins": _simple(basins),
    "Branch": _simple(lambda b: branches([b], b.parameter)),
    "Diagram": _simple(lambda d: branches(list(d), d.parameter)),
    "Diagnosis": _simple(diagnosis),
    "MonitorRecord": _monitor,
    "EnergyReport": _simple(energy_report),
    "TrainingRun": _simple(training_run),
    "Evaluation": _simple(evaluation),
}


def overview(found: Section, most: int = 3) -> str:
    """Return what the summary of a page with several results says of one."""
    return f": {' '.join(found.sentences[:most])}" if found.sentences else f": {found.kind}."
