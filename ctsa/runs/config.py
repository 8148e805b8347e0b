"""What a run is, as a file of TOML says it: field, tokens, solver, analyses, sweep; checked before any work starts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field as attribute, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ctsa import checks
from ctsa._backend import load as backend_of
from ctsa.flows import Solver
from ctsa.flows.opening import check_solver as check_solver_here
from ctsa.flows.stochastic import noisy
from ctsa.geometry import Geometry
from ctsa.settings import Checked, arguments_of, changed, one_of, read_toml
from ctsa.settings.files import put

from .analyses import ANALYSES, check_system
from .making import Sizes, check_field, check_layer, in_dtype, make_field, make_layer
from .tokens import check_tokens, geometry_of, tokens

DTYPES = ("float64", "float32")
BACKENDS = ("torch", "jax")

_INTEGRATE = {"simulate", "lyapunov", "monitor", "basins"}  # with the solver of the file, at its tolerance

_Tables = dict[str, Any]


class Output(Checked):
    """What a run writes beside its results.

    Attributes:
        pictures: one of each result.
        report: one HTML file of all.
    """

    pictures: bool = True
    report: bool = True


class Axis(Checked):
    """Values of a parameter, evenly spaced: ``start`` to ``stop``, or the integers 0 to ``count`` - 1."""

    start: float | None = None
    stop: float | None = None
    count: int = Field(ge=1)
    log: bool = False


class Refine(Checked):
    """Where a sweep looks closer: between neighbours along ``axis`` at which ``by`` differs, or changes its sign."""

    axis: str
    by: str
    rounds: int = Field(default=3, ge=1)


class Sweep(Checked):
    """A grid of parameters, and the analysis that is run at every point.

    Attributes:
        run: the analysis; None takes the only one that the file has.
        axes: values by key of the file: ``"field.beta" = [1.0, 2.0]``, or ``{start = 1, stop = 9, count = 9}``.
        workers: processes; None as many as there are cores.
        scheduler: address of a Dask scheduler that runs elsewhere.
        refine: where to look closer.
        keep: every point keeps a run of its own, with a report, in the folder ``points``.
    """

    run: str | None = None
    axes: dict[str, Any] = {}
    workers: int | None = Field(default=None, ge=0)
    scheduler: str | None = None
    refine: Refine | None = None
    keep: bool = False


class _Top(Checked):
    backend: Literal["torch", "jax"] | None = None
    dtype: Literal["float64", "float32"] = "float64"
    seed: int = Field(default=0, ge=0)
    out: str | None = Field(default=None, min_length=1)
    field: _Tables | list[_Tables] = {}
    layer: _Tables | None = None
    tokens: _Tables = {}
    solver: _Tables = {}
    simulate: _Tables | None = None
    lyapunov: _Tables | None = None
    jacobian: _Tables | None = None
    diagnose: _Tables | None = None
    compare: _Tables | None = None
    equilibria: _Tables | None = None
    basins: _Tables | None = None
    continue_: _Tables | None = Field(default=None, alias="continue")
    monitor: _Tables | None = None
    survey: _Tables | None = None
    sweep: _Tables | None = None
    output: _Tables = {}


@dataclass(frozen=True)
class Made:
    """What a config makes for a backend.

    Attributes:
        face: ``ctsa.torch`` or ``ctsa.jax``.
        field: the flow; None where only a layer is there.
        layer: the layer; None for a flow.
        x0: tokens ``(..., n, d)``, NumPy.
        solver: with its settings.
        geometry: where tokens live; that of the layer for one that has its own.
        seed: of the file.
        dtype: of the numbers.
        folder: from which paths count.
    """

    face: Any
    field: Any
    layer: Any
    x0: np.ndarray
    solver: Solver
    geometry: Geometry | None
    seed: int
    dtype: str
    folder: Path = Path()

    @property
    def system(self) -> Any:
        """The layer, or else the field."""
        return self.field if self.layer is None else self.layer

    def one(self, what: str) -> np.ndarray:
        """Return the tokens, one state.

        Raises:
            ValueError: they are a batch.
        """
        if self.x0.ndim != 2:
            raise ValueError(f"{what} takes one state (n, d), but tokens are {self.x0.shape}: leave tokens.batch out")
        return self.x0

    def array(self, x: Any) -> Any:
        """Return an array of the backend."""
        name = self.face.__name__.rpartition(".")[2]
        return backend_of(name).asarray(np.asarray(x, dtype=self.dtype))


@dataclass(frozen=True)
class Config:
    """What a run is, checked; ``read_config`` makes one.

    Attributes:
        table: what was said, as TOML has it.
        where: what messages call it.
        folder: from which paths in it count.
        backend: "torch", "jax" or None, which is the first that is installed.
        dtype: "float64" or "float32".
        seed: of all that has none of its own.
        out: folder of the run, if it was said.
        fields: settings of the terms of the field.
        layer: settings of the layer, or None.
        tokens: settings of the tokens.
        solver: settings of the solver.
        analyses: settings by name, in the order of ``ANALYSES``.
        sweep: settings of the sweep, or None.
        output: what is written beside results.
    """

    table: dict[str, Any]
    where: str
    folder: Path
    backend: str | None
    dtype: str
    seed: int
    out: str | None
    fields: tuple[Any, ...]
    layer: Any
    tokens: Any
    solver: Any
    analyses: dict[str, Any]
    sweep: Sweep | None
    output: Output = attribute(default_factory=Output)

    def told(self) -> dict[str, Any]:
        """Return what decides about results, as JSON: all but backend, folder and pictures."""
        kept = {k: v for k, v in self.table.items() if k not in ("backend", "out", "output")}
        return json.loads(json.dumps(kept, default=str))

    def changed(self, values: Mapping[str, Any]) -> "Config":
        """Return a config with other values at keys such as ``"field.beta"``, checked again.

        Raises:
            ValueError: a key or a value is wrong.
        """
        table: Any = self.table
        for key, value in values.items():
            table = put(table, key.split("."), value.item() if isinstance(value, np.generic) else value)
        return check_config(table, self.where, self.folder)

    def only(self, name: str) -> "Config":
        """Return a config that runs one analysis, with the settings of its table or the defaults.

        Raises:
            ValueError: the analysis does not fit the system.
        """
        settings = self.analyses.get(name)
        settings = ANALYSES[name].settings.read({}, name) if settings is None else settings
        try:
            check_system(name, settings, self.layer is not None)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None
        return replace(self, analyses={name: settings})

    def make(self, backend: str) -> Made:
        """Make field, layer and tokens for a backend.

        Raises:
            ValueError: a value cannot be, or does not fit.
            OSError, ImportError: a file cannot be read, or what reads it is missing.
        """
        try:
            face = import_module(f"ctsa.{backend}")
            given = self.tokens
            if given.kind == "sentence":
                given = given.of(next((f for f in self.fields if f.kind == "pretrained"), None))
            x0 = tokens(given, self.seed, self.folder).astype(self.dtype)
            geometry = geometry_of(self.tokens)
            sizes = Sizes(x0.shape[-2], x0.shape[-1], self.seed, self.folder, geometry, self.dtype)
            own = self.layer is not None and self.layer.kind == "pretrained"
            field = None if own else in_dtype(make_field(list(self.fields), face, sizes), self.dtype)
            layer = None if self.layer is None else in_dtype(make_layer(self.layer, field, face, sizes), self.dtype)
            if own and self.tokens.kind == "sentence":
                x0 = _before(self, sizes)
            checks.fit_field(layer if field is None else field, x0.shape, "tokens")
            one = backend_of(backend).asarray(x0[..., :1, :1])  # says so where JAX counts in 32 bits
            solver = Solver(**self.solver.model_dump(exclude_unset=True))
            if layer is None:
                checks.tokens(x0, field, geometry, name="tokens")
            if field is not None and noisy(field):
                _check_noise(self.analyses, solver, layer)
            elif layer is None:
                used = _INTEGRATE & self.analyses.keys()
                atol = (solver.atol or (1e-8 if used - {"basins"} else 1.0)) if used else 1.0
                check_solver_here(
                    replace(solver, rtol=solver.rtol or 0.0, atol=atol, max_steps=solver.max_steps or 1), one
                )
        except (ValueError, TypeError, OSError) as error:
            raise type(error)(*_with(self.where, error)) from error
        return Made(face, field, layer, x0, solver, geometry, self.seed, self.dtype, self.folder)


def _check_noise(analyses: Any, solver: Solver, layer: Any) -> None:
    """Raise if not all that is asked for can be done with noise."""
    others = sorted(analyses.keys() - {"simulate"}) + ([] if layer is None else ["layer"])
    if others:
        raise ValueError(f"{others[0]} needs a velocity, and the field has noise: leave Noise out, or run simulate alone")
    if solver.step is None or solver.name not in ("dopri5", "heun", "euler"):
        raise ValueError('solver: a field with noise needs name = "heun" or "euler", and step, such as step = 0.01')
    if solver.atol is not None or solver.rtol is not None:
        raise ValueError("solver: no tolerance is kept with noise, step decides: leave atol and rtol out")


def _with(where: str, error: Exception) -> tuple[Any, ...]:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, f"{where}: {error.strerror}"
    return (f"{where}: {str(error).replace('pass normalize=True', 'set tokens.normalize = true')}",)


def _before(config: Config, sizes: Sizes) -> np.ndarray:
    """Return the states of a sentence that come into the first of the layers that are looped."""
    from .tokens import pretrained_model

    model = pretrained_model(config.layer.model, sizes.folder)
    first = config.layer.layers[0] if isinstance(config.layer.layers, list) else config.layer.layers
    x = model.states(config.tokens.text)[first].astype(config.dtype)
    return x if config.layer.scale is None else x / np.linalg.norm(x, axis=-1, keepdims=True)


def read_config(path: str | Path | None = None, changes: Iterable[str] = (), **values: Any) -> Config:
    """Read and check a file that says what to run.

    Args:
        path: of a TOML file; None is an empty one, whose defaults are 32 tokens on S^2 with Q = K = V = 1 and beta = 1.
        changes: of its values: ``"field.beta=9"``, ``"tokens.kind=hemisphere"``; a value is TOML, or a word.
        values: ``backend``, ``dtype``, ``seed``, ``out`` in place of the file's; None leaves those.

    Returns:
        ``Config``.

    Raises:
        ValueError: the file is no TOML or says something that cannot be; file, key and what was wanted are named.
        OSError: it cannot be read.

    Example:
        >>> from ctsa.runs import read_config
        >>> config = read_config(None, ["field.beta=2", "lyapunov.intervals=50"])
        >>> config.analyses["lyapunov"].intervals
        50
    """
    given = list(changes)
    table = {} if path is None else read_toml(path)
    where = "the defaults" if path is None else str(path)
    folder = Path() if path is None else Path(path).parent
    told = {name: value for name, value in values.items() if value is not None}
    try:
        return check_config(changed(table, given) | told, where, folder)
    except ValueError:
        check_config(table, where, folder)  # what is wrong in the file itself is told as such
        check_config(changed(table, given) | told, f"{where} with --set" if given else where, folder)
        raise


def check_config(table: dict[str, Any], where: str, folder: Path) -> Config:
    """Check a table that says what to run, see ``read_config``.

    Raises:
        ValueError: it says something that cannot be.
    """
    try:
        top = _Top.read(table, "")
        several = isinstance(top.field, list)
        terms = top.field if isinstance(top.field, list) else [top.field]
        if not terms:
            raise ValueError("field must have at least one term, got an empty list")
        fields = tuple(check_field(t, f"field.{i}" if several else "field") for i, t in enumerate(terms))
        layer: Any = None if top.layer is None else check_layer(top.layer)
        solver = check_solver().read(top.solver, "solver")
        try:
            Solver(**solver.model_dump(exclude_unset=True))
        except (TypeError, ValueError) as error:
            raise ValueError(f"solver.{error}") from None
        analyses = {
            name: analysis.settings.read(getattr(top, "continue_" if name == "continue" else name), name)
            for name, analysis in ANALYSES.items()
            if getattr(top, "continue_" if name == "continue" else name) is not None
        }
        for name, settings in analyses.items():
            check_system(name, settings, layer is not None)
        if "continue" in analyses and top.dtype == "float32":
            raise ValueError('continue follows equilibria more closely than float32 tells: take dtype = "float64"')
        sweep = None if top.sweep is None else _sweep(top.sweep, analyses, table)
        output = Output.read(top.output, "output")
        found = check_tokens(top.tokens)
        if layer is not None and layer.kind == "pretrained":
            _check_loop(table, found)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace('a valid dictionary', 'a table')}") from None
    config = Config(
        table, where, folder, top.backend, top.dtype, top.seed, top.out, fields, layer, found, solver, analyses, sweep,
        output,
    )  # fmt: skip
    if sweep is not None:
        _check_axes(config, sweep)
    return config


def _check_loop(table: dict[str, Any], tokens: Any) -> None:
    """Raise ValueError if a file says what looped layers of a model, which hold all of it, would not heed."""
    if "field" in table:
        raise ValueError('field has no place beside layer.kind = "pretrained", which is whole: leave one of them out')
    for key in ("layer", "model", "form"):
        if tokens.kind == "sentence" and key in tokens.model_fields_set:
            raise ValueError(f"tokens.{key}: a sentence comes into the first of layer.layers of layer.model: leave it out")


def _check_axes(config: Config, sweep: Sweep) -> None:
    """See that every value of every axis makes a config; of long axes the first hundred and the last."""
    table = {key: value for key, value in config.table.items() if key != "sweep"}
    plain = replace(config, table=table, sweep=None)
    for key, values in sweep.axes.items():
        for value in [*values[:100], values[-1]]:
            plain.changed({key: value})


def check_solver() -> type[Checked]:
    """Return the class of the table ``[solver]``: the arguments of ``ctsa.Solver``."""
    return arguments_of(
        Solver, (), name=(str, "dopri5"), rtol=(float | None, None), atol=(float | None, None), step=(float | None, None),
        max_steps=(int | None, None),
    )  # fmt: skip


def _sweep(table: dict[str, Any], analyses: dict[str, Any], whole: dict[str, Any]) -> Sweep:
    sweep = Sweep.read(table, "sweep")
    if not sweep.axes:
        raise ValueError('sweep.axes is missing: values by key, such as "field.beta" = [1.0, 2.0]')
    if sweep.run is None and len(analyses) != 1:
        raise ValueError(f"sweep.run must say which analysis is run: the file has {', '.join(analyses) or 'none'}")
    name = sweep.run or next(iter(analyses))
    one_of("sweep.run", name, ANALYSES)
    for key in sweep.axes:
        first = key.partition(".")[0]
        if first in ("out", "output", "sweep") or (first in ANALYSES and first != name):
            raise ValueError(f"sweep.axes.{key} changes nothing of {name}, which is what is run: take another key")
    axes = {key: _values(f"sweep.axes.{key}", value) for key, value in sweep.axes.items()}
    refine = sweep.refine
    if refine is not None:
        one_of("sweep.refine.axis", refine.axis, axes)
    return sweep.changed(run=name, axes=axes)


def _values(where: str, given: Any) -> list[Any]:
    if isinstance(given, dict):
        axis = Axis.read(given, where)
        if (axis.start is None) != (axis.stop is None):
            raise ValueError(f"{where} needs both of start and stop, or neither, which counts from 0")
        if axis.start is None or axis.stop is None:
            return list(range(axis.count))
        if axis.log and not (axis.start > 0 and axis.stop > 0):
            raise ValueError(f"{where}: start and stop must be positive for log, got {axis.start:g} and {axis.stop:g}")
        space = np.geomspace if axis.log else np.linspace
        return space(axis.start, axis.stop, axis.count).tolist()
    if not isinstance(given, list) or not given or not all(isinstance(v, bool | int | float | str) for v in given):
        raise ValueError(f"{where} must be a list of numbers or words, or {{start, stop, count}}, got {given!r:.60}")
    if len({"number" if type(v) in (int, float) else type(v) for v in given}) > 1:
        raise ValueError(f"{where} must have values of one kind, numbers or words, got {given!r:.60}")
    if len(set(given)) < len(given):
        raise ValueError(f"{where} has a value twice: {given!r:.60}")
    return given
