"""What a run can do with a field or a layer: each analysis has a table of settings, the arguments of a function of ctsa."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

import ctsa
from ctsa._backend import no_graph
from ctsa.pretrained import survey
from ctsa.results.base import as_numpy
from ctsa.settings import Checked, arguments_of

from .simulating import Simulate, simulate
from .tokens import pretrained_model

_GIVEN = ("system", "field", "layer", "x0", "starts", "solver", "rtol", "atol", "step", "max_steps", "geometry",
          "normalize", "resume", "checkpoint", "allow_unverified", "progress", "frame")  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """What an analysis may keep on the way.

    Attributes:
        checkpoint: a file, of which it goes on if it is there; None keeps nothing.
        store: a folder of Zarr for a trajectory; None keeps it in memory.
        progress: bars: None decides by the terminal.
        bar: makes a bar of a name; None: none.
    """

    checkpoint: Path | None = None
    store: Path | None = None
    progress: bool | None = False
    bar: Callable[[str], Any] | None = None


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
        name: of its table in a file, of its result, and of its command.
        asks: what it finds out, a line.
        settings: class of its table.
        run: ``run(made, settings, kept)`` returns the result.
        system: "any", "flow" or "layer": what it needs.
    """

    name: str
    asks: str
    settings: type[Checked]
    run: Callable[[Any, Any, Kept], Any]
    system: Literal["any", "flow", "layer"] = "any"


def _told(settings: Any, *without: str) -> dict[str, Any]:
    """Return the settings that were given, as arguments."""
    return {name: getattr(settings, name) for name in settings.model_fields_set - set(without)}


def _seeded(made: Any, settings: Any, *without: str) -> dict[str, Any]:
    return {"seed": made.seed, **_told(settings, *without)}


def _simulate(made: Any, s: Any, kept: Kept) -> Any:
    return simulate(made, s, kept.store, None if kept.bar is None else kept.bar("simulate"))


class _Lyapunov(arguments_of(ctsa.lyapunov_spectrum, _GIVEN)):  # type: ignore[misc]
    intervals: int = Field(default=200, ge=1)
    interval: float = Field(default=1.0, gt=0)
    transient: int = Field(default=50, ge=0)


def _lyapunov(made: Any, s: Any, kept: Kept) -> Any:
    given = _seeded(made, s)
    if made.layer is not None:
        return ctsa.lyapunov_spectrum(made.layer, made.x0, **given, checkpoint=kept.checkpoint, progress=kept.progress)
    return ctsa.lyapunov_spectrum(
        made.field, made.x0, **given, solver=made.solver, geometry=made.geometry, checkpoint=kept.checkpoint,
        progress=kept.progress,
    )  # fmt: skip


class Jacobian(Checked):
    """Where the Jacobian is taken.

    Attributes:
        time: of a flow that runs from the tokens before; 0 takes the tokens themselves.
        depth: layers that are passed before.
    """

    time: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    depth: int = Field(default=0, ge=0)


def _jacobian(made: Any, s: Any, kept: Kept) -> Any:
    flow = made.layer is None
    system, x = made.system, made.one("jacobian")
    with no_graph():
        if flow and s.time > 0:
            ts = [0.0, s.time]
            x = as_numpy(ctsa.integrate(made.field, x, ts, made.solver, geometry=made.geometry, progress=False).xs)[-1]
        elif not flow and s.depth > 0:
            x = as_numpy(ctsa.iterate(made.layer, x, s.depth, every=s.depth).xs)[-1]
    found = ctsa.jacobian_spectrum(system, x, geometry=made.geometry if flow else None)
    return replace(found, time=s.time if flow else float(s.depth))


_Diagnose = arguments_of(ctsa.diagnose, (*_GIVEN, "exits", "readout", "score"))


def _diagnose(made: Any, s: Any, kept: Kept) -> Any:
    given = _seeded(made, s)
    return ctsa.diagnose(made.layer, made.x0, **given, checkpoint=kept.checkpoint, progress=kept.progress)


class _Compare(arguments_of(ctsa.compare, _GIVEN)):  # type: ignore[misc]
    duration: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    step_sizes: list[float] | None = Field(default=None, min_length=1)
    layer: str | None = None


def _compare(made: Any, s: Any, kept: Kept) -> Any:
    given = _seeded(made, s)
    if made.layer is None and given.get("step_sizes") is None:
        given["step_sizes"] = [0.4, 0.2, 0.1, 0.05]
    duration = given.pop("duration", s.duration)
    return ctsa.compare(made.system, made.one("compare"), duration, **given)


_Equilibria = arguments_of(ctsa.find_equilibria, (*_GIVEN, "n", "d", "known"), starts=(int, Field(default=100, ge=1)))


def _equilibria(made: Any, s: Any, kept: Kept) -> Any:
    return ctsa.find_equilibria(made.field, *made.x0.shape[-2:], **_seeded(made, s), geometry=made.geometry)


_Basins = arguments_of(ctsa.basins, (*_GIVEN, "n", "d"), starts=(int, Field(default=100, ge=1)))


def _basins(made: Any, s: Any, kept: Kept) -> Any:
    n, d = made.x0.shape[-2:]
    given = _seeded(made, s, "starts") | dict(n=n, d=d, checkpoint=kept.checkpoint, progress=kept.progress)
    if made.layer is None:
        given |= dict(solver=made.solver, geometry=made.geometry)
    return ctsa.basins(made.system, s.starts, **given)


class _Continue(arguments_of(ctsa.bifurcation_diagram, (*_GIVEN, "starts", "at"))):  # type: ignore[misc]
    parameter: str = "beta"
    span: list[float] = Field(default=[0.5, 8.0], min_length=2, max_length=2)
    starts: int = Field(default=30, ge=1)
    states: int = Field(default=4, ge=1)
    step: float = Field(default=0.02, gt=0)


def _continue(made: Any, s: Any, kept: Kept) -> Any:
    field, (n, d) = made.field, made.x0.shape[-2:]
    found = ctsa.find_equilibria(field, n, d, starts=s.starts, seed=made.seed, geometry=made.geometry)
    if not found:
        raise ValueError(f"continue: no equilibrium found from {s.starts} starts: raise continue.starts")
    first = sorted(found, key=lambda e: (not e.stable, e.index))[: s.states]
    given = _told(s, "starts", "states") | dict(parameter=s.parameter, span=tuple(s.span), step=s.step)
    return ctsa.bifurcation_diagram(field, first, **given, geometry=made.geometry)


class _Monitor(arguments_of(ctsa.monitor, (*_GIVEN, "start"))):  # type: ignore[misc]
    duration: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    depth: int | None = Field(default=None, ge=1)


def _monitor(made: Any, s: Any, kept: Kept) -> Any:
    given = _told(s)
    if made.layer is None:
        given = {"duration": 5.0, **given, "solver": made.solver, "geometry": made.geometry}
    else:
        given = {"depth": 32, **given}
    return ctsa.monitor(made.system, made.one("monitor"), **given)


_TEXT = "The bank raised its interest rates again yesterday, and the price of houses in the city began to fall."


class _Survey(arguments_of(survey, (*_GIVEN, "face", "model"))):  # type: ignore[misc]
    text: str = Field(default=_TEXT, min_length=1)
    model: str | None = None
    duration: float = Field(default=300.0, gt=0, allow_inf_nan=False)


def _survey(made: Any, s: Any, kept: Kept) -> Any:
    given = _seeded(made, s, "text", "model")
    model = pretrained_model(s.model, made.folder)
    return survey(model, s.text, face=made.face, **given, solver=made.solver, progress=kept.progress)


_OF_FLOWS = {"simulate": ("duration", "points", "spacing", "until", "rest", "land", "merge"), "jacobian": ("time",),
             "monitor": ("duration",), "lyapunov": ("t0",)}  # fmt: skip
_OF_LAYERS = {"simulate": ("depth", "every"), "jacobian": ("depth",), "monitor": ("depth",)}


def check_system(name: str, settings: Any, layer: bool) -> None:
    """Raise ValueError if an analysis, or one of the settings that were given, is not for a layer, or not for a flow."""
    wanted = ANALYSES[name].system
    if wanted == "layer" and not layer:
        raise ValueError(f'{name} is for layers: add a table [layer], such as kind = "EulerLayer", step = 0.1')
    if wanted == "flow" and layer:
        raise ValueError(f"{name} is for flows: leave the table [layer] out")
    useless = (_OF_FLOWS if layer else _OF_LAYERS).get(name, ())
    for key in sorted(settings.model_fields_set & set(useless)):
        of, here = ("flows", "a layer") if layer else ("layers", "a flow")
        instead = (_OF_LAYERS if layer else _OF_FLOWS).get(name)
        more = f", {instead[0]} is what counts here" if instead else ""
        raise ValueError(f"{name}.{key} is for {of}, but this is {here}: leave it out{more}")


ANALYSES: dict[str, Analysis] = {
    each.name: each
    for each in (
        Analysis("simulate", "follow the tokens along the flow, or through layers", Simulate, _simulate),
        Analysis("lyapunov", "Lyapunov exponents with error bars, and what the motion is", _Lyapunov, _lyapunov),
        Analysis("jacobian", "eigenvalues, norm and growth of the Jacobian at a state", Jacobian, _jacobian),
        Analysis("diagnose", "whether a looped layer settles, cycles or is chaotic", _Diagnose, _diagnose, "layer"),
        Analysis("compare", "the flow beside the layers that discretise it", _Compare, _compare),
        Analysis("equilibria", "equilibria, their classes and stability", _Equilibria, _equilibria, "flow"),
        Analysis("basins", "where random starts end, with confidence intervals", _Basins, _basins),
        Analysis("continue", "branches of equilibria against a parameter, and bifurcations", _Continue, _continue, "flow"),
        Analysis("monitor", "energy, contribution and norms along the way", _Monitor, _monitor),
        Analysis("survey", "where each attention head of a pretrained model leads a sentence", _Survey, _survey),
    )
}
