"""Every kind of result, made by a small run: saved and loaded, as netCDF and back, printed on a line, drawn."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sampling import sample

import ctsa
from ctsa.results.base import Result, as_numpy

V = np.diag([3.0, 2.0, 1.0])
X = ctsa.random_tokens(4, 3, seed=1)
FLAT = ctsa.Euclidean()
POLES = np.array([[1.0, 0.0], [-1.0, 0.0]])


def _survey():
    from ctsa.pretrained import Survey

    at = (2, 3)  # layers, heads
    rng = np.random.default_rng(0)
    grid = dict.fromkeys(("asymmetry", "gain", "speed", "effective_step", "turn", "distance"), rng.normal(size=at))
    rows = dict.fromkeys(("layer_eigenvalue", "beta", "step", "layer_distance", "model_distance"), rng.normal(size=2))
    return Survey(
        model="bert small", tokens=np.array(["[CLS]", "läuft", "##s", ""]), layers=np.arange(2), heads=np.arange(3),
        duration=5.0, eigenvalues=rng.normal(size=(*at, 2)) + 1j, end=np.array([["fixed", "apart", "rotating"]] * 2),
        clusters=np.ones(at, int), period=np.full(at, np.inf), exponents=rng.normal(size=(*at, 2)),
        stderr=np.zeros((*at, 2)), source=np.full(at, "closed form"), **grid, **rows,
    )  # fmt: skip


def _make(face, folder):
    """Return results by name, at least one of every kind."""
    import torch

    field = face.SelfAttention(key=V, value=V, beta=1.0)
    plain = face.SelfAttention(beta=2.0)
    layer = face.EulerLayer(plain, 0.2)
    a = np.diag([3.0, 2.0])
    pair = face.SelfAttention(key=a, value=a, beta=1.0)
    swirl = face.SelfAttention(value=np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, -1.0]]))
    batch = ctsa.random_tokens(4, 3, seed=2, batch=(2,))
    run = ctsa.integrate(plain, X, [0.0, 0.5, 1.0])
    diagram = ctsa.bifurcation_diagram(pair, [POLES], "beta", (0.2, 1.0), step=0.1)
    found = ctsa.find_equilibria(field, 2, 3, starts=8, rounds=1, flow_limits=False)
    short = dict(intervals=9, transient=1, count=3, atol=1e-6)
    ctsa.basins(field, 3, n=2, d=3, duration=5.0, checkpoint=folder / "basins")
    ctsa.lyapunov_spectrum(layer, X, **short, checkpoint=folder / "spectrum")
    pairs = ctsa.Sphere(channels=2)
    turning = face.EulerLayer(face.Rotation(frequencies=[1.0, -2.0], geometry=pairs), 0.3)
    oscillators = ctsa.random_tokens(3, 4, seed=3, channels=2)
    with torch.no_grad():
        merging = ctsa.integrate(plain, X, [0.0, 10.0, 100.0], merge=True)
    made = {
        "Trajectory": run,
        "Trajectory of an ensemble": ctsa.integrate(plain, batch, [0.0, 0.5]),
        "Trajectory of merging tokens": merging,
        "Merges": merging.merges,
        "Trajectory of layers": ctsa.iterate(layer, X, 3),
        "LyapunovSpectrum": ctsa.lyapunov_spectrum(plain, X, **short),
        "LyapunovSpectrum of an ensemble": ctsa.lyapunov_spectrum(layer, batch, **short),
        "CovariantVectors": ctsa.covariant_vectors(layer, X, intervals=4, transient=3, transient_back=3, count=3),
        "JacobianSpectrum": ctsa.jacobian_spectrum(plain, X),
        "Leading": ctsa.leading(plain, X, 3),
        "Leading, singular": ctsa.leading(plain, X, 3, which="singular"),
        "Diagram": diagram,
        "Branch": diagram[0],
        "Branch without special points": ctsa.continue_equilibrium(pair, POLES, "beta", (0.9, 1.1), step=0.1),
        "SpecialPoint": diagram[0].points[0],
        "Classification": ctsa.classification(field, np.eye(3)[:2]),
        "LimitCycle": ctsa.find_limit_cycle(swirl, ctsa.random_tokens(2, 3, seed=1)),
        "Equilibrium": found[0],
        "Equilibria": found,
        "Basins": ctsa.basins(field, 3, n=2, d=3, duration=5.0),
        "Basins of a layer": ctsa.basins(layer, 3, n=2, d=3, duration=50),
        "Diagnosis": ctsa.diagnose(layer, batch, 12, exponents=2, restarts=2, trained=4),
        "Diagnosis with a readout": ctsa.diagnose(
            layer, batch, 12, exponents=2, readout=lambda x: x.mean(-2), score=lambda y: y[:, 0], field=plain
        ),
        "BlockForm": ctsa.read_block(torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)),
        "FixedPoints": ctsa.find_fixed_points(layer, 3, n=2, d=3),
        "FixedPoints, none": ctsa.find_fixed_points(layer, 3, n=2, d=3, loops=0, evaluations=1, newton=0),
        "Cycles": ctsa.find_cycles(lambda x: -x, 2, torch.as_tensor(X[None]), geometry=FLAT),
        "Branch of a layer": ctsa.continue_equilibrium(
            face.EulerLayer(pair, 0.5), POLES, "beta", (0.2, 1.0), step=0.1
        ),
        "EulerForm": ctsa.as_euler(layer),
        "MapReport": ctsa.check_map(layer, torch.as_tensor(X)),
        "EffectiveStep": ctsa.effective_step(layer, X, plain),
        "EffectiveStep of a batch": ctsa.effective_step(layer, batch, plain),
        "EffectiveStep of oscillators": ctsa.effective_step(turning, oscillators),
        "EffectiveStep in flat space": ctsa.effective_step(
            lambda x: 0.5 * x, torch.as_tensor(X), lambda t, x: -x, geometry=FLAT
        ),
        "Comparison": ctsa.compare(plain, X, 1.0, [0.5, 0.25]),
        "Comparison of turning tokens": ctsa.compare(
            face.Rotation(omega=np.array([[0.0, -1.0], [1.0, 0.0]])) + face.SelfAttention(), POLES, 1.0, [0.5],
            spectra=True, intervals=9, transient=1,
        ),
        "EnergyReport": ctsa.energy_report(plain, run),
        "MonitorRecord": ctsa.monitor(layer, X, 3),
        "MonitorRecord of a module": ctsa.monitor(face.WrappedLayer(lambda x: layer(x)), X, 2),
        "JacobianNorms": ctsa.jacobian_norms(layer, X),
        "Estimate": ctsa.estimate("lyapunov", plain, X, probe=False),
        "Clustering": ctsa.find_clusters(run.xs[-1]),
        "Clustering of an ensemble": ctsa.find_clusters(run.xs),
        "Plateaus": ctsa.plateaus(np.geomspace(1.0, 100.0, 9), [0.0] * 4 + [1.0] * 5),
        "Survey": _survey(),
        "RunState of a spectrum": ctsa.load(folder / "spectrum.npz"),
        "RunState of basins": ctsa.load(folder / "basins.npz"),
    }  # fmt: skip
    return made | _of_training(face)


def _of_training(face):
    from ctsa import training
    from ctsa.studies import Findings

    data = ctsa.datasets.task("sudoku-4x4", count=60, ood_count=20)
    model = face.RecurrentModel.for_task(data.train, d=8, heads=4)
    return {
        "TrainingRun": ctsa.train(model, data, steps=2, batch=4, depth=2, watch=1, watch_samples=2),
        "Evaluation": training.evaluate(model, data.test, (1, 2)),
        "Votes": training.vote(model, data.test, depth=2, starts=2),
        "Watched": training.watch(model, data.test, depth=2, samples=2),
        "Findings": Findings("heads", "what?", dict(heads=[1, 2], ood_64=[0.5, 0.75]), ("a note",), dict(seeds=1)),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import ctsa.torch

    return _make(ctsa.torch, tmp_path_factory.mktemp("checkpoints"))


NAMES = [
    "Trajectory", "Trajectory of an ensemble", "Trajectory of merging tokens", "Merges", "Trajectory of layers",
    "LyapunovSpectrum",
    "LyapunovSpectrum of an ensemble", "CovariantVectors", "JacobianSpectrum", "Leading", "Leading, singular",
    "Diagram", "Branch", "Branch without special points", "SpecialPoint", "Classification", "LimitCycle",
    "Equilibrium", "Equilibria", "Basins", "Basins of a layer", "Diagnosis", "Diagnosis with a readout", "BlockForm",
    "FixedPoints", "FixedPoints, none", "Cycles", "Branch of a layer", "EulerForm", "MapReport", "EffectiveStep",
    "EffectiveStep of a batch", "EffectiveStep of oscillators", "EffectiveStep in flat space", "Comparison",
    "Comparison of turning tokens", "EnergyReport", "MonitorRecord", "MonitorRecord of a module", "JacobianNorms",
    "Estimate", "Clustering", "Clustering of an ensemble", "Plateaus", "Survey", "RunState of a spectrum",
    "RunState of basins", "TrainingRun", "Evaluation", "Votes", "Watched", "Findings",
]  # fmt: skip
PRINTED = [name for name in NAMES if not name.startswith("_")]


def entries(result):
    """All fields of a result by name but code, dicts and results in it taken apart, arrays as NumPy."""
    if isinstance(result, ctsa.Equilibria):
        from ctsa.equilibria._keep import EquilibriaTable

        result = EquilibriaTable.of(result)
    found = {}
    for name in (f.name for f in dataclasses.fields(result) if f.name not in result._code):
        value = getattr(result, name)
        if name in result._parts():
            parts = {"": value} if isinstance(value, Result) else {f"{i}/": part for i, part in enumerate(value)}
            found |= {f"{name}/{i}{key}": v for i, part in parts.items() for key, v in entries(part).items()}
        else:
            found |= value if isinstance(value, dict) else {name: value}
    return {name: as_numpy(value) for name, value in found.items()}


def alike(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def test_every_kind_is_here(made):
    assert list(made) == NAMES
    kinds = {kind for kind in Result.kinds if Result.kinds[kind].__module__.startswith("ctsa")}
    assert kinds - {type(r).__name__ for r in made.values()} == {"EquilibriaTable"}  # how Equilibria are kept


@pytest.mark.parametrize(
    "kind", sorted(k for k, c in Result.kinds.items() if k[0] != "_" and c.__module__[:4] == "ctsa")
)
def test_every_array_has_named_axes(made, kind):
    """A new field of arrays belongs into ``_dims``, where ``"..."`` stands for batch axes."""
    cls = Result.kinds[kind]
    for result in [r for r in made.values() if type(r) is cls]:
        names = [f.name for f in dataclasses.fields(cls) if f.name not in cls._code]
        arrays = [name for name in names if np.ndim(as_numpy(getattr(result, name))) > 0]
        arrays = [name for name in arrays if not isinstance(getattr(result, name), dict | list | tuple | str)]
        assert set(arrays) <= set(cls._dims), f"{kind}._dims lacks {sorted(set(arrays) - set(cls._dims))}"
    assert set(cls._dims) <= {f.name for f in dataclasses.fields(cls)}


# -------------------------------------------------------------------------------------------------------------- on disk
@pytest.mark.parametrize("ending", [".npz", ".zarr"])
@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded(made, name, ending, tmp_path):
    result = made[name]
    back = ctsa.load(result.save(tmp_path / f"kept{ending}"))
    assert os.listdir(tmp_path) == [f"kept{ending}"]
    assert type(back) is type(result) and repr(back) == repr(result)
    before, after = entries(result), entries(back)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert alike(value, after[key]), key
        scalar = isinstance(value, bool | int | float | str)
        assert not scalar or isinstance(after[key], bool if isinstance(value, np.bool_) else type(value)) or (
            isinstance(value, np.generic) and type(after[key]) is type(value.item())
        ), key  # fmt: skip


def test_equilibria_come_back_whole(made, tmp_path):
    found = made["Equilibria"]
    back = ctsa.load(found.save(tmp_path / "found"))
    assert (back.reason, back.report, back.counts) == (found.reason, found.report, found.counts)
    for a, b in zip(found, back, strict=True):
        assert a.multiplicities.tolist() == b.multiplicities.tolist() and (a.orbit, a.marginal) == (b.orbit, b.marginal)
    assert len(back.symmetry.blocks) == len(found.symmetry.blocks)
    assert back.symmetry.same(back[0].x, -found[0].x) == found.symmetry.same(found[0].x, -found[0].x)
    none = ctsa.Equilibria([], "none", {"starts": 3}, found.symmetry)
    assert list(ctsa.load(none.save(tmp_path / "none"))) == []


# --------------------------------------------------------------------------------------------------------- named arrays
def nodes(data):
    """The datasets of a tree by path, or the one that there is."""
    if hasattr(data, "subtree"):
        return {node.path.strip("/"): node.to_dataset(inherit=False) for node in data.subtree}
    return {"": data}


def same_data(data, back):
    """What was read has the dimensions, values and attributes of what was written."""
    written, read = nodes(data), nodes(back)
    assert written.keys() == read.keys()
    for path, one in written.items():
        other = read[path]
        assert dict(other.sizes) == dict(one.sizes) and set(other.variables) == set(one.variables), path
        for key, variable in one.variables.items():
            assert other[key].dims == variable.dims and alike(other[key].values, variable.values), (path, key)
        assert other.attrs.keys() - {"_FillValue"} == one.attrs.keys()
        for key, value in one.attrs.items():
            assert other.attrs[key] == value or value != value, (path, key)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_zarr(made, name, tmp_path):
    """A folder of chunks, and back."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("zarr")
    data = made[name].to_xarray()
    data.to_zarr(tmp_path / "result.zarr", consolidated=False)
    several = isinstance(data, xarray.DataTree)
    read = xarray.open_datatree if several else xarray.open_dataset
    with read(tmp_path / "result.zarr", engine="zarr", consolidated=False) as back:
        same_data(data, back.load())


MODULES = {"scipy": "scipy", "netcdf4": "netCDF4", "h5netcdf": "h5netcdf"}
ENGINES = [engine for engine, module in MODULES.items() if importlib.util.find_spec(module)]


SOME = ("Trajectory", "Diagram", "Diagnosis", "Survey", "Equilibria", "Comparison", "Merges", "Estimate", "TrainingRun")


@pytest.mark.parametrize("name, engine", sample(
    [(name, engine) for name in NAMES for engine in ENGINES],
    lambda name, engine: engine == ENGINES[-1] or name in SOME,
))  # fmt: skip
def test_netcdf(made, name, engine, tmp_path):
    """Written, and read again with the same dimensions, values and attributes; nothing is lost."""
    xarray = pytest.importorskip("xarray")
    data = made[name].to_xarray()
    several = isinstance(data, xarray.DataTree)
    if several and engine == "scipy":
        pytest.skip("SciPy writes classic netCDF, which has no groups")
    data.to_netcdf(tmp_path / "result.nc", engine=engine)
    with (xarray.open_datatree if several else xarray.open_dataset)(tmp_path / "result.nc", engine=engine) as back:
        back = back.load()
    same_data(data, back)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_out(made, name):
    """Every field is a variable or an attribute of its node, or said to be empty, or None."""
    pytest.importorskip("xarray")
    data = nodes(made[name].to_xarray())
    for place, value in entries(made[name]).items():
        path, _, key = place.rpartition("/")
        node = data[path]
        if value is None or key in node.attrs.get("empty", "").split():
            assert np.size(value) == 0 or value is None
        elif np.iscomplexobj(value) and np.ndim(value):
            assert alike(node[f"{key}_real"] + 1j * node[f"{key}_imag"], value)
        elif key in node:
            assert alike(node[key].values, value), key
        elif isinstance(value, list | tuple):
            assert json.loads(node.attrs[key]) == (list(value) if isinstance(value, tuple) else value)
        elif isinstance(value, ctsa.Geometry):
            assert node.attrs[key] == repr(value)
        else:
            assert node.attrs[key] == value or value != value, key


def test_names_of_axes(made):
    pytest.importorskip("xarray")
    tokens = ("token", "component")
    assert made["LyapunovSpectrum"].to_xarray().x.dims == tokens
    many = made["LyapunovSpectrum of an ensemble"].to_xarray()
    assert many.x.dims == ("batch_0", *tokens) and many.speed.dims == many.rotations.dims == ("batch_0",)
    assert many.history.dims == ("interval_index", "batch_0", "exponent")
    assert many.frame.dims == ("exponent", "batch_0", *tokens)
    assert made["Comparison"].to_xarray().layer_xs.dims == ("step_size", "layer", *tokens)
    assert made["CovariantVectors"].to_xarray().vectors.dims == ("time", "exponent", *tokens)
    assert made["EffectiveStep of a batch"].to_xarray().steps.dims == ("batch_0", "token")
    assert made["EffectiveStep of oscillators"].to_xarray().steps.dims == ("token", "oscillator")
    assert made["Branch without special points"].to_xarray().attrs["empty"].split()[0] == "point_kinds"


# ------------------------------------------------------------------------------------------------- results in results
@dataclasses.dataclass(frozen=True)
class Study(Result):
    """What a user may make of results."""

    title: str
    whole: object
    parts: object = ()
    ts: object = None
    _dims = {"ts": ("time",)}


def test_a_tree_of_results(made, tmp_path):
    """Any depth; one or several; names of arrays say where they are; an axis of another length inside keeps its name."""
    run, diagram = made["Trajectory"], made["Diagram"]
    study = Study("all", run, (Study("none", diagram), Study("some", run, [run[:1], run[:2]])), np.arange(9.0))
    path = study.save(tmp_path / "study")
    with np.load(path) as file:
        assert {"ts", "whole.xs", "parts.0.whole.branches.1.eigenvalues", "parts.1.parts.0.xs"} <= set(file.files)
    back = ctsa.load(path)
    assert type(back.parts[0]) is Study and back.parts[0].parts == () and back.parts[1].parts[1].stats == run.stats
    assert repr(back.parts[0].whole) == repr(diagram) and np.array_equal(back.whole.xs, as_numpy(run.xs))
    xarray = pytest.importorskip("xarray")
    tree = back.to_xarray()
    assert isinstance(tree, xarray.DataTree) and tree.ts.dims == ("time_outer",) and tree["whole"].xs.dims[0] == "time"
    assert tree["parts/0/whole/branches/1"].xs.dims == ("point", "token", "component")
    assert tree["parts/1/parts/0"].sizes["time"] == 1 and tree["parts/1"].attrs["title"] == "some"


def test_a_diagram_holds_its_branches(made, tmp_path):
    diagram = made["Diagram"]
    back = ctsa.load(diagram.save(tmp_path / "diagram"))
    assert len(back) == len(diagram) == len(back.branches) and isinstance(back.branches, tuple)
    for one, other in zip(diagram, back, strict=True):
        assert type(other) is ctsa.Branch and repr(one) == repr(other)
        assert all(alike(a, b) for a, b in zip(entries(one).values(), entries(other).values(), strict=True))
    pytest.importorskip("xarray")
    tree = diagram.to_xarray()
    assert list(tree["branches"].children) == ["0", "1", "2"] and tree["parents"].dims == ("branch",)
    assert alike(tree["branches/1"].parameters, diagram[1].parameters)


# ---------------------------------------------------------------------------------------------------------- geometries
class Tube(ctsa.Geometry):
    """A geometry of a user."""

    channels = None

    def retract(self, y):
        return y / (y * y).sum(-1)[..., None] ** 0.5

    def project(self, x, v):
        return v - (x * v).sum(-1)[..., None] * x

    def dimension(self, n, d):
        return n * (d - 1)


@dataclasses.dataclass(frozen=True)
class Stretched(Tube):
    """One with arguments."""

    factor: float = 2.0


@pytest.mark.parametrize("geometry", [ctsa.Sphere(), ctsa.Sphere(channels=3), ctsa.Euclidean()])
def test_geometries_are_kept(made, geometry, tmp_path):
    fit = dataclasses.replace(made["EffectiveStep"], geometry=geometry)
    back = ctsa.load(fit.save(tmp_path / "fit")).geometry
    assert back == geometry and type(back) is type(geometry)
    path = ctsa.Trajectory(np.zeros(1), X[None], {"geometry": geometry, "all": [geometry]})
    assert ctsa.load(path.save(tmp_path / "path")).stats == path.stats


@pytest.mark.parametrize("geometry, text", [(Tube(), "Tube(...)"), (Stretched(0.5), "Stretched(factor=0.5)")])
def test_a_geometry_of_your_own_is_kept_by_name(torch_face, geometry, text, tmp_path):
    """Tables and pictures do without its maps; whoever asks for one is told."""
    field = torch_face.SelfAttention(beta=1.0, geometry=geometry)
    comp = ctsa.compare(field, X, 1.0, [0.5, 0.25])
    back = ctsa.load(comp.save(tmp_path / "comparison"))
    assert repr(back.geometry) == text and back.geometry.place == geometry.place and not back.geometry.flat
    assert back.table() == comp.table() and back.order == comp.order
    plt.close(back.plot()[0].figure)
    for ask in (lambda g: g.retract(X), lambda g: g.distance(X, X), lambda g: g.dimension(2, 3)):
        with pytest.raises(TypeError, match="came from a file.*replace.result, geometry=yours"):
            ask(back.geometry)
    with pytest.raises(TypeError, match="came from a file"):
        ctsa.integrate(lambda t, x: -x, torch_face.array(X), [0.0, 1.0], geometry=back.geometry)
    again = ctsa.load(back.save(tmp_path / "again"))
    assert again.geometry == back.geometry and hash(again.geometry) == hash(back.geometry)
    assert dataclasses.replace(back, geometry=geometry).geometry.dimension(2, 3) == 4
    pytest.importorskip("xarray")
    assert comp.to_xarray().attrs["geometry"] == (text if text != "Tube(...)" else repr(geometry))


def test_what_cannot_be_kept(tmp_path):
    with pytest.raises(TypeError, match="a result cannot keep a object: its fields are arrays, numbers"):
        ctsa.Trajectory(np.zeros(1), X[None], {"what": object()}).save(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_an_euler_form_without_its_layer(made, tmp_path):
    form = made["EulerForm"]
    back = ctsa.load(form.save(tmp_path / "form"))
    assert back.layer is None and back.field is None and back.table() == form.table() and back.step == form.step
    with pytest.raises(ValueError, match="came from a file, which does not keep the EulerLayer itself"):
        back.steps(X)
    assert alike(as_numpy(dataclasses.replace(back, layer=form.layer).steps(X)), as_numpy(form.steps(X)))


@dataclasses.dataclass(frozen=True)
class Odd(ctsa.Trajectory):
    """What a user may put into a result."""

    more: object = None
    flags: object = None


@pytest.mark.parametrize("stats", [
    {"a": True, "b": None, "c": [1, [2, 3]], "d": {"e": np.float32(0.5)}, "f": 2**40, "g": 1 + 2j, 3: "x", "h": ()},
    {"xs": 1, "flag": np.True_, "array": np.arange(3), "two": np.eye(2), "empty": np.zeros(0), "text": "grün"},
])  # fmt: skip
def test_odd_contents(stats, tmp_path):
    xarray = pytest.importorskip("xarray")
    odd = Odd(np.arange(2.0), np.zeros((2, 1, 3), np.float16), stats, more=np.array([2**40, 1]), flags=(True, None))
    data = odd.to_xarray()
    data.to_netcdf(tmp_path / "odd.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "odd.nc", engine="scipy") as back:
        assert back.more.values.tolist() == [2**40, 1] and back.more.dims == ("more_0",)
        assert back.xs.dims == ("time", "token", "component") and json.loads(back.attrs["flags"]) == [True, None]
        if "a" in stats:
            assert (back.attrs["a"], back.attrs["f"], back.attrs["3"]) == (1, 2**40, "x") and "b" not in back.attrs
            assert json.loads(back.attrs["d"]) == {"e": 0.5} and json.loads(back.attrs["c"]) == [1, [2, 3]]
            assert json.loads(back.attrs["g"]) == [1, 2]
        else:
            assert back.attrs["stats_xs"] == 1 and back.attrs["flag"] == 1 and back.attrs["text"] == "grün"
            assert back.array.dims == ("array_0",) and back.two.shape == (2, 2) and back.attrs["empty"] == "empty"


@pytest.mark.parametrize("path, error, words", [
    ("nowhere/run", FileNotFoundError, "the folder .*nowhere does not exist"),
    (5, TypeError, "checkpoint must be a string or a pathlib.Path, got int"),
])  # fmt: skip
def test_checkpoints_are_checked_before_the_run(torch_face, tmp_path, path, error, words):
    def field(t, x):
        if len(calls) > 20:
            raise AssertionError("the run began")
        calls.append(t)
        return 0 * x

    calls, start = [], torch_face.array(X)
    path = tmp_path / path if isinstance(path, str) else path
    with pytest.raises(error, match=words):
        ctsa.lyapunov_spectrum(field, start, intervals=9, checkpoint=path, allow_unverified=True)
    calls.clear()
    with pytest.raises(error, match=words):
        ctsa.basins(field, start[None], duration=9.0, checkpoint=path, allow_unverified=True)


# ------------------------------------------------------------------------------------------------------------ on screen
@pytest.mark.parametrize("name", PRINTED)
def test_repr(made, name):
    lines = repr(made[name]).splitlines()
    assert len(lines[0]) < 500 and "array(" not in repr(made[name])
    assert len(lines) == 1 or name in ("Diagram", "Equilibria")


def test_reprs_hold_the_numbers(made, torch_face):
    clv, spec = made["CovariantVectors"], made["LyapunovSpectrum of an ensemble"]
    assert repr(clv).startswith(f"CovariantVectors(3 vectors at 5 times, exponents [{clv.exponents[0]:.4g}, ")
    mean, spread = spec.exponents.mean(0)[0], spec.exponents.std(0, ddof=1)[0]
    assert repr(spec).startswith(f"LyapunovSpectrum(ensemble (2,), mean [{mean:.4g} (spread {spread:.1g}), ")
    assert repr(made["Leading"]).startswith("Leading([")
    assert repr(made["JacobianNorms"]).startswith(f"JacobianNorms(norm={made['JacobianNorms'].norm:.4g}, bound=")
    read = ctsa.read_projections(*np.random.default_rng(0).normal(size=(4, 8, 8)), heads=2, output_bias=np.ones(8))
    assert repr(read) == "Projections(query (2, 4, 8), key (2, 4, 8), value (2, 8, 8), beta 0.5; drift (8,))"
    assert repr(made["Equilibria"].symmetry) == "Symmetry(1 classes of 2 tokens, 8 reflections, 0 rotations)"
    pole = ctsa.theory.oja_equilibria(V)[0]
    assert repr(pole) == "OjaEquilibrium(k=0, eigenvalue=3, stable)"
    one = ctsa.LyapunovSpectrum(
        spec.history[:, :1], spec.x[:1], spec.frame[:, :1], 1.0, 0, spec.speed[:1], spec.rotations[:1], 8, False
    )
    assert "nan" not in repr(one)


def test_an_ensemble_says_so(made):
    spec = made["LyapunovSpectrum of an ensemble"]
    for look in (lambda: spec.verdict, lambda: spec.kaplan_yorke):
        with pytest.raises(ValueError, match=r"ensemble \(2,\); .* take it from spectrum.member\(i\)"):
            look()


@pytest.mark.parametrize("name", [
    "Trajectory", "LyapunovSpectrum", "CovariantVectors", "Diagram", "Branch", "LimitCycle", "Equilibrium", "Equilibria",
    "Basins", "EffectiveStep", "EffectiveStep of oscillators", "Comparison", "EnergyReport", "MonitorRecord",
    "MonitorRecord of a module", "Survey", "Diagnosis", "Diagnosis with a readout", "Branch without special points",
    "Comparison of turning tokens", "JacobianSpectrum", "Leading",
    "Leading, singular", "SpecialPoint", "JacobianNorms",
])  # fmt: skip
def test_drawn(made, name):
    result = made[name]
    if name == "Equilibria":  # three globes show as much as twelve
        result = ctsa.Equilibria(list(result)[:3], result.reason, result.report, result.symmetry)
    axes = np.ravel(result.plot())
    axes[0].figure.canvas.draw()
    plt.close("all")


TABLES = {
    "Trajectory": ["states            3", "shape of a state  (4, 3)", "times             0 ... 1"],
    "LyapunovSpectrum": ["index  exponent", "motion ", "averaged over "],
    "LyapunovSpectrum of an ensemble": ["mean exponent", "members        2"],
    "CovariantVectors": ["least angle with next"],
    "JacobianSpectrum": ["spectral norm", "numerical abscissa"],
    "Leading": ["eigenvalue", "modulus"],
    "Leading, singular": ["singular value"],
    "Diagram": ["0       start      13", "beta in 0.2 ... 1, complete"],
    "Branch": ["branch point   0.26823965", "ends           span"],
    "Branch without special points": ["no special points", "points         15"],
    "SpecialPoint": ["null directions     1", "direction  slope  token 0  token 1"],
    "Classification": ["kind                        none", "cluster  tokens  which"],
    "LimitCycle": ["period                  3.14159265", "multiplier"],
    "Equilibrium": ["stability                   stable", "0             2    0 1"],
    "Equilibria": ["bipartite consensus       1+1", "converged  284"],
    "EulerForm": ["steps taken            0.2 ... 0.2, of this size for every token"],
    "MapReport": ["two calls differ by                  0"],
    "Diagnosis": ["input", "verdict", "loops needed", "safe depth"],
    "BlockForm": ["step that fits best", "unexplained"],
    "EnergyReport": ["rise, by a theorem", "held                 yes"],
    "JacobianNorms": ["on tangent spaces"],
}


@pytest.mark.parametrize("name", PRINTED)
def test_tables(made, name):
    """Text: lines that no terminal breaks, and the numbers."""
    text = made[name].table()
    assert all(
        line == line.rstrip() and "array(" not in line and "nan" not in line.split() for line in text.splitlines()
    )
    for words in TABLES.get(name, []):
        assert words in text, text


def test_norms_against_depth(torch_face):
    layer = torch_face.ItrSA(torch_face.SelfAttention(beta=2.0), step=1.0, gamma=0.5)
    norms = ctsa.plot.monitors.norms
    every = [ctsa.jacobian_norms(layer, x) for x in as_numpy(ctsa.iterate(layer, X, 3).xs)]
    lines = {line.get_label(): line.get_xydata() for line in norms(every).lines}
    assert lines["layer"].tolist() == [[i, one.norm] for i, one in enumerate(every)]
    assert lines["bound of the layer"][:, 1].tolist() == [one.bound for one in every]
    assert norms(every[:1], depths=[5.0]).lines[0].get_xdata().tolist() == [5.0]
    assert norms(every[0]).patches[0].get_width() == every[0].update_norm  # from below: update, tangent, layer
    with pytest.raises(ValueError, match="depths: wanted one a result .4,.*got .2,"):
        norms(every, depths=[0, 1])
    with pytest.raises(ValueError, match="at least one JacobianNorms"):
        norms([])
    with pytest.raises(TypeError, match="found must be a JacobianNorms or a list of them, got int"):
        norms(3)
    plt.close("all")


def test_special_points_are_drawn_where_they_are(made):
    point = made["SpecialPoint"]
    assert point.plot().get_title() == "branch point at 0.26824"
    with pytest.raises(ValueError, match="direction must be below 1, the number of null directions, got 1"):
        point.plot(1)

    def in_space(d):  # the same state among more components
        add = [(0, 0), (0, d - 2)]
        return dataclasses.replace(point, x=np.pad(point.x, add), vectors=np.pad(point.vectors, [(0, 0), *add]))

    assert in_space(3).plot().name == "3d" and in_space(5).plot().name == "rectilinear"
    plt.close("all")


# ---------------------------------------------------------------------------------------------------------- trajectories
@pytest.fixture(scope="module")
def path():
    return ctsa.Trajectory(np.arange(10.0), np.random.default_rng(0).normal(size=(10, 2, 3)), {"steps": 4})


@pytest.mark.parametrize("index, kept", [
    (slice(3), [0, 1, 2]), (slice(None, None, 4), [0, 4, 8]), (-1, [9]), (0, [0]), (np.int64(3), [3]), ([0, 9], [0, 9]),
    (slice(-2, None), [8, 9]), (np.arange(10) > 7, [8, 9]), (..., list(range(10))), ([-1], [9]),
])  # fmt: skip
def test_slices(face, path, index, kept):
    traj = ctsa.Trajectory(face.array(path.ts), face.array(path.xs), path.stats)
    part = traj[index]
    assert isinstance(part, ctsa.Trajectory) and len(part) == len(kept) and part.stats == traj.stats
    assert type(part.xs) is type(traj.xs) and len(traj) == 10
    assert np.array_equal(face.numpy(part.xs), path.xs[kept]) and face.numpy(part.ts).tolist() == path.ts[kept].tolist()
    assert repr(part).startswith(f"Trajectory(xs: ({len(kept)}, 2, 3)")


@pytest.mark.parametrize("index, words", [
    (10, "from -10 to 9.*got 10"), (-11, "got -11"), ([0, 10], "10 states"), (slice(5, 5), "leaves none of the 10"),
    ((0, 0), "for tokens index .xs"), ("xs", "got 'xs'"), (1.5, "got 1.5"), (None, "got None"), ([[0]], "got"),
])  # fmt: skip
def test_bad_slices(path, index, words):
    with pytest.raises(IndexError, match=f"index .*{words}"):
        path[index]


def test_trajectories_are_no_sequences_of_numbers(path, torch_face):
    assert [part.ts[0] for part in path] == path.ts.tolist()
    with pytest.raises(TypeError, match="take its .xs"):
        np.asarray(path)
    with pytest.raises(TypeError, match="take its .xs"):
        ctsa.integrate(torch_face.SelfAttention(), path[-1], [0.0, 1.0])


def test_slices_carry_gradients_and_are_pytrees(torch_face, jax_face):
    import jax

    x = torch_face.array(X).requires_grad_()
    run = ctsa.integrate(torch_face.SelfAttention(), x, [0.0, 0.1, 0.2])
    assert run[1:].xs.requires_grad
    path = ctsa.integrate(jax_face.SelfAttention(), X, [0.0, 0.1, 0.2])
    cut = jax.jit(lambda traj: traj[1:])(path)
    assert isinstance(cut, ctsa.Trajectory) and np.array_equal(cut.xs, path.xs[1:])
    many = jax.tree_util.tree_map(lambda a: jax.numpy.stack([jax.numpy.asarray(a)] * 2), path)  # as vmap returns it
    assert len(many) == 3 and many[1:].xs.shape == (2, 2, 4, 3) and many[-1].ts.shape == (2, 1)


def test_a_new_process_loads_every_kind(made, tmp_path):
    """Also results of parts of ctsa that nothing has imported yet; and no file makes it import what is not ours."""
    for i, name in enumerate(NAMES):
        made[name].save(tmp_path / f"{i}.npz")
    code = (
        "import sys, ctsa\n"
        "for path in sys.argv[1:]: print(type(ctsa.load(path)).__name__)\n"
        "assert 'torch' not in sys.modules and 'jax' not in sys.modules"
    )
    for names in (["Votes", "Survey", "Trajectory"], ["Findings", "TrainingRun"]):  # each of a part of its own
        paths = [str(tmp_path / f"{NAMES.index(name)}.npz") for name in names]
        done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
        assert done.stdout.split() == names and not done.stderr, done.stderr


@pytest.mark.parametrize("home", ["this", "antigravity.of", "ctsa.__main__", "ctsa.of.another.day", ""])
def test_homes_that_are_not_ours(made, tmp_path, monkeypatch, home):
    monkeypatch.setattr(made_kind := type(made["Trajectory"]), "__module__", home)
    path = made["Trajectory"].save(tmp_path / "run")
    kinds = {name: kind for name, kind in Result.kinds.items() if kind is not made_kind}
    monkeypatch.setattr(Result, "kinds", kinds)
    with pytest.raises(ValueError, match="it comes from a newer version of ctsa"):
        ctsa.load(path)
    assert "this" not in sys.modules and "antigravity" not in sys.modules


def test_reports_tell_of_every_kind(made, tmp_path):
    pytest.importorskip("plotly", reason="reports need plotly")
    from ctsa.reports import write_report

    text = write_report(made, tmp_path / "report.html", title="Every kind").read_text(encoding="utf-8")
    assert len(text.encode()) < 6_000_000
    for name, result in made.items():
        found = text.split(f">{name} <span", 1)[1].split("</section>", 1)[0]
        assert "<p>" in found, name
        assert "<figure" in found or "<pre" in found or not hasattr(result, "plot"), name
