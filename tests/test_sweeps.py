"""Sweeps: every point as in a plain loop, errors in their places, and the same store whatever was killed on the way."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")
import distributed
import sweep_points
from sampling import sample
from sweep_points import GRID, point

import ctsa
from ctsa.sweeps import StoreError, driver, executors, read, work
from ctsa.sweeps.grid import block_shape, blocks

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Two workers for all tests of this file; a task that loses its worker is given back, since a new one takes seconds."""
    import dask

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 0}),
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client


@pytest.fixture(scope="module")
def undisturbed():
    return ctsa.sweep(point, GRID, workers=0)


def same(a, b):
    """Whether two sweeps hold the same, bit by bit."""
    return a.load().drop_attrs().identical(b.load().drop_attrs())


# ------------------------------------------------------------------------------------------------ what comes out


def test_the_product_with_its_coordinates(undisturbed):
    data = undisturbed
    assert dict(data.sizes) == {"beta": 12, "seed": 5, "b_0": 3, "b_1": 2}
    assert data.beta.values.tolist() == GRID["beta"] and data.seed.values.tolist() == GRID["seed"]
    assert data.b.dims == ("beta", "seed", "b_0", "b_1") and data.c.dtype == bool
    for i, beta in enumerate(GRID["beta"]):
        for j, seed in enumerate(GRID["seed"]):
            if (beta, seed) != (2.0, 3):
                for name, value in point(beta, seed).items():
                    assert np.array_equal(data[name].values[i, j], value)


def test_a_point_that_fails_is_empty_and_says_why(undisturbed):
    bad = undisturbed.sel(beta=2.0, seed=3)
    assert bad.error.item() == "ArithmeticError: no such point" and bad.done.item()
    assert np.isnan(bad.a.item()) and np.isnan(bad.b.values).all() and bad.verdict.item() == ""
    assert (undisturbed.error.values != "").sum() == 1 and undisturbed.done.all()


def test_workers_give_what_one_process_gives(client, undisturbed, tmp_path):
    given = ctsa.sweep(point, GRID, tmp_path, scheduler=client)
    assert same(given, undisturbed)
    log = (tmp_path / "sweep.log").read_text()
    assert "beta=2.0, seed=3" in log and "no such point" in log and "Traceback" in log


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_spectra_are_those_of_a_loop(client, name):
    data = ctsa.sweep(sweep_points.spectrum, {"beta": [1.0, 3.0], "seed": [0, 1], "face": [name]}, scheduler=client)
    assert data.exponents.dims == ("beta", "seed", "face", "exponent")
    assert data.history.dims == ("beta", "seed", "face", "interval_index", "exponent")
    for beta in (1.0, 3.0):
        for seed in (0, 1):
            found, at = sweep_points.spectrum(beta, seed, name), data.sel(beta=beta, seed=seed, face=name)
            assert np.array_equal(at.exponents, found.exponents)
            assert np.array_equal(at.exponents_stderr, found.stderr, equal_nan=True)
            assert at.verdict.item() == found.verdict.name and at.dimension.item() == found.dimension
            assert np.array_equal(at.x, found.x)
    import matplotlib.pyplot as plt

    assert len(data.exponents.isel(seed=0, face=0).plot.line(x="beta")) == 2
    plt.close("all")


def test_every_worker_compiles_once(client):
    data = ctsa.sweep(sweep_points.compilations, {"beta": np.linspace(1.0, 4.0, 12)}, scheduler=client, batch=1)
    assert (data.error == "").all()
    order = np.argsort(data.begun.values)
    compiled, process = data.compiled.values[order], data.process.values[order]
    later = [any(process[:i] == process[i]) for i in range(len(process))]
    assert sum(later) >= 10 and (compiled[later] == 0).all()


def test_results_of_other_kinds():
    layer = ctsa.torch.EulerLayer(ctsa.torch.SelfAttention(beta=2.0), 0.1)
    x0 = ctsa.random_tokens(4, 3, seed=0, batch=(2,))
    data = ctsa.sweep(lambda loops: ctsa.diagnose(layer, x0, loops=loops), {"loops": [8]}, workers=0)
    found = ctsa.diagnose(layer, x0, loops=8)
    assert data.verdicts.values.tolist() == [list(found.verdicts)] and data.verdicts.dims == ("loops", "input")
    assert data.verdict.item() == found.verdict and data.exponents_stderr.dims == ("loops", "input", "exponent")
    assert data["error_"].dims == ("loops", "input")  # the diagnosis' own
    data = ctsa.sweep(lambda depth: {"path": ctsa.iterate(layer, x0[0], depth=4), "n": None}, {"depth": [4]}, workers=0)
    assert data.path_xs.dims == ("depth", "time", "token", "component") and "n" not in data


def test_values_of_all_kinds():
    def f(a, flag, word):
        return {
            "z": a + 1j, "text": [word, "x"], "int": 3, "named": (("time",), np.arange(2, dtype="float32")),
            "flag": not flag, "time": (("time",), [1.0, 2.0]), "other": (("time",), [1.0, 2.0, 3.0]),
        }  # fmt: skip

    grid = {"a": np.array([1, 2]), "flag": [True, False], "word": ("one", "two")}
    data = ctsa.sweep(f, grid, workers=0)
    assert set(np.ravel(data.error)) == {""}
    assert data.z_real.sel(a=2, flag=True, word="one").item() == 2.0 and data.z_imag.values.min() == 1.0
    assert data.text.sel(a=1, flag=False, word="two").values.tolist() == ["two", "x"]
    assert data.named.dtype == np.float32 and data.named.dims[-1] == "time_"
    assert data.other.dims[-1] == "other_time" and data["flag_"].sel(flag=True).values.any() == np.False_
    assert data.a.dtype == np.int64 and data.flag.dtype == bool


def test_names_with_dots_and_labels():
    seen = []

    def f(**given):
        seen.append(given)
        return given["field.beta"] * given["factor"][0]

    grid = {"field.beta": [1.0, 2.0], "factor": {"small": (2,), "large": (10,)}}
    data = ctsa.sweep(f, grid, workers=0)
    assert data.value.sel({"field.beta": 2.0, "factor": "large"}).item() == 20.0
    assert seen[0] == {"field.beta": 1.0, "factor": (2,)}


def test_other_shapes_are_errors_of_their_points():
    data = ctsa.sweep(lambda n: {"a": np.ones(n)}, {"n": [2, 3]}, workers=0)
    first, second = data.error.values
    assert first == "" and "shape (3,)" in second and "filled up with nan" in second
    data = ctsa.sweep(lambda n: {"a": 1.0} | ({"b": 2.0} if n else {}), {"n": [0, 1]}, workers=0)
    assert "b is no variable of the first point (a)" in data.error.values[1]
    data = ctsa.sweep(lambda n: {"a": 1.0} | ({"b": 2.0} if not n else {}), {"n": [0, 1]}, workers=0)
    assert (data.error == "").all() and np.isnan(data.b.values[1])
    data = ctsa.sweep(lambda n: [1.0, "a", None][n], {"n": [0, 1, 2]}, workers=0)
    assert "is text" in data.error.values[1] and data.error.values[2].startswith("TypeError: function returned None")


def test_all_fail_and_are_retried(tmp_path):
    broken = tmp_path / "broken"
    broken.touch()

    def f(x):
        if broken.exists():
            raise OSError("not yet")
        return x

    first = ctsa.sweep(f, {"x": [1, 2, 3]}, tmp_path / "out", workers=0)
    assert (first.error == "OSError: not yet").all() and set(first.data_vars) == {"error", "done"}
    broken.unlink()
    assert (ctsa.sweep(f, {"x": [1, 2, 3]}, tmp_path / "out", workers=0).error != "").all()
    again = ctsa.sweep(f, {"x": [1, 2, 3]}, tmp_path / "out", workers=0, retry=True)
    assert again.value.values.tolist() == [1, 2, 3] and (again.error == "").all()


def test_batched_gives_what_points_give_and_spares_the_others(client):
    calls = []

    def f(beta, seed):
        calls.append(len(beta))
        if np.any((beta == 2.0) & (seed == 1)):
            raise ValueError("bad")
        return {"sum": beta + seed, "pair": (("two",), np.stack([beta, seed], 1)), "text": [str(s) for s in seed]}

    grid = {"beta": [1.0, 2.0, 3.0], "seed": [0, 1, 2, 3]}
    data = ctsa.sweep(f, grid, workers=0, batched=True, batch=4)
    assert calls[0] == 4 and (data.error.values != "").sum() == 1
    assert data.error.sel(beta=2.0, seed=1).item() == "ValueError: bad"
    assert data["sum"].sel(beta=3.0).values.tolist() == [3, 4, 5, 6]
    assert data.pair.sel(beta=2.0, seed=3).values.tolist() == [2, 3]
    assert data.text.sel(beta=1.0).values.tolist() == ["0", "1", "2", "3"]
    assert same(ctsa.sweep(f, grid, scheduler=client, batched=True), data)
    data = ctsa.sweep(lambda x: 1.0, {"x": [1, 2]}, workers=0, batched=True)
    assert "leading axis of 1 points" in data.error.values[0]


def test_an_ensemble_is_taken_apart(torch_face):
    def f(seed):
        x0 = np.stack([ctsa.random_tokens(3, 3, seed=int(s)) for s in seed])
        return ctsa.lyapunov_spectrum(torch_face.SelfAttention(beta=2.0), x0, intervals=8, transient=0, count=2)

    data = ctsa.sweep(f, {"seed": [0, 1]}, workers=0, batched=True)
    found = f(np.array([0, 1]))
    assert np.array_equal(data.exponents, found.exponents)
    assert data.verdict.values.tolist() == [found.member(i).verdict.name for i in range(2)]


def test_refinement_finds_a_root_and_a_change_of_kind():
    def f(x, shift):
        return {"y": x**2 - 2 - shift, "verdict": "above" if x**2 > 2 + shift else "below"}

    grid = {"x": [0.0, 1.0, 2.0, 3.0], "shift": [0.0, 2.5]}
    data = ctsa.sweep(f, grid, workers=0, refine="x", rounds=6)
    x = data.x.values
    assert (np.diff(x) > 0).all() and len(x) > 10
    for shift in grid["shift"]:
        own = data.sel(shift=shift)
        own = own.isel(x=own.done.values)
        change = int(np.flatnonzero(own.verdict.values[1:] != own.verdict.values[:-1])[0])
        low, high = own.x.values[change : change + 2]
        assert low < np.sqrt(2 + shift) < high and high - low == 2.0**-6
    assert not data.done.all() and (data.error == "").all() and np.isnan(data.y.values[~data.done.values]).all()
    assert same(ctsa.sweep(f, grid, workers=0, refine={"x": 6}, by="y"), data)


@pytest.mark.parametrize("x", sample([1.0, 1.5, 1.375], lambda x: x == 1.5))
def test_refinement_goes_on_where_it_stopped(tmp_path, monkeypatch, x):
    call = dict(function=sweep_points.root, grid={"x": [0, 1.0, 2]}, refine="x", by="y", workers=0)
    whole = ctsa.sweep(**call, rounds=5)
    with monkeypatch.context() as patch:
        patch.setenv("SWEEP_STOP", str(x))
        with pytest.raises(KeyboardInterrupt):
            ctsa.sweep(**call, rounds=5, out=tmp_path)
    for _ in range(2):  # the second time there is nothing to do
        assert same(ctsa.sweep(**call, rounds=5, out=tmp_path), whole)
    assert ctsa.sweep(**call, rounds=6, out=tmp_path).sizes["x"] == whole.sizes["x"] + 1
    ctsa.sweep(**call, rounds=2, out=tmp_path / "less")
    assert same(ctsa.sweep(**call, rounds=5, out=tmp_path / "less"), whole)


# ------------------------------------------------------------------------------------------------ files and interruptions


def wait_for(out, count, process=None):
    """Wait until so many points of a sweep are written."""
    while process is None or process.poll() is None:
        try:
            if int(read(out).done.sum()) >= count:
                return
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    raise AssertionError("it has ended before")


def kill_client(out, count):
    """Begin a sweep in another process, and kill it when so many points are written."""
    process = subprocess.Popen([sys.executable, str(HERE / "sweep_points.py"), str(out)])
    wait_for(out, count, process)
    process.kill()
    process.wait()


@pytest.mark.parametrize("count", sample([1, 30], lambda count: count == 30))
def test_a_killed_sweep_goes_on(tmp_path, undisturbed, count):
    kill_client(tmp_path, count)
    assert not read(tmp_path).done.all()
    assert same(ctsa.sweep(sweep_points.slow, GRID, tmp_path, workers=0), undisturbed)


def test_what_is_done_is_not_run_again(tmp_path, monkeypatch):
    data = ctsa.sweep(point, GRID, tmp_path, workers=0).load()
    monkeypatch.setattr(work, "carry_out", None)
    monkeypatch.setattr(executors, "carry_out", None)
    assert same(ctsa.sweep(point, GRID, tmp_path, workers=0), data)


def test_a_worker_that_dies(client, tmp_path):
    """Once: its points run elsewhere. Each time: the point has an error, and the others of its task their values."""
    grid = {"x": np.arange(16), "folder": [str(tmp_path)]}
    data = ctsa.sweep(sweep_points.deadly, grid, scheduler=client, batch=4).isel(folder=0)
    failed = np.flatnonzero(data.error != "")
    assert failed.tolist() == [12] and "the process that ran this point died" in data.error.values[12]
    assert np.array_equal(np.delete(data.value.values, 12), np.delete(np.arange(16), 12))


def test_a_scheduler_without_workers_is_waited_for_aloud(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.warns(UserWarning, match="has no worker: the sweep waits"),
    ):
        later = threading.Timer(1.0, cluster.scale, args=[1])
        later.start()
        data = ctsa.sweep(point, {"beta": [1.0], "seed": [0, 1]}, tmp_path, scheduler=client)
        later.join()
    assert data.verdict.values.tolist() == [["even", "odd"]]


def test_workers_of_this_machine_that_do_not_come_back_end_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE", 0.2)
    monkeypatch.setattr(executors, "_PAUSE", 0.1)
    plain = executors.OnDask._client

    def and_then_none(self, *args):
        client = plain(self, *args)
        threading.Thread(target=lambda: (wait_for(tmp_path, 5), client.cluster.scale(0))).start()
        return client

    monkeypatch.setattr(executors.OnDask, "_client", and_then_none)
    with pytest.raises(ConnectionError, match="do not come back.*goes on from there"):
        ctsa.sweep(sweep_points.slow, {"beta": [1.0], "seed": np.arange(400)}, tmp_path, workers=1, batch=5)
    assert 0 < int(read(tmp_path).done.sum()) < 400


@pytest.mark.parametrize("count", sample([5, 30], lambda count: count == 5))
def test_a_scheduler_that_dies(tmp_path, undisturbed, count):
    path = os.pathsep.join([str(HERE), *(p for p in sys.path if p)])
    quiet = {"env": {**os.environ, "PYTHONPATH": path}, "stderr": subprocess.DEVNULL}
    kept = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(kept), "--no-dashboard"]
    run = [sys.executable, "-m"]
    scheduler = subprocess.Popen(
        [*run, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common], **quiet
    )
    worker = subprocess.Popen([*run, "distributed.cli.dask_worker", "--nthreads", "2", *common], **quiet)
    try:
        while not kept.exists() or not kept.read_text().strip().endswith("}"):
            time.sleep(0.05)
        import json

        address = json.loads(kept.read_text())["address"]

        def kill():
            wait_for(tmp_path, count)
            scheduler.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(ConnectionError, match="what is done is kept"):
            ctsa.sweep(sweep_points.slow, GRID, tmp_path, scheduler=address, batch=3)
        thread.join()
    finally:
        worker.kill()
        scheduler.kill()
        worker.wait(), scheduler.wait()
    assert not read(tmp_path).done.all()
    assert same(ctsa.sweep(sweep_points.slow, GRID, tmp_path, workers=0), undisturbed)


def test_an_interrupt_keeps_what_is_done(tmp_path, undisturbed):
    def interrupted(beta, seed):
        if beta == 1.5:
            raise KeyboardInterrupt
        return point(beta, seed)

    with pytest.raises(KeyboardInterrupt):
        ctsa.sweep(interrupted, GRID, tmp_path, workers=0, batch=10)
    data = read(tmp_path)
    assert data.done.values[:3].all() and not data.done.values[3:].any()
    assert same(data.isel(beta=slice(0, 3)), undisturbed.isel(beta=slice(0, 3)))


def test_another_function_or_grid_is_refused(tmp_path):
    ctsa.sweep(point, GRID, tmp_path, workers=0)
    with pytest.raises(ValueError, match="another function"):
        ctsa.sweep(lambda beta, seed: 1.0, GRID, tmp_path, workers=0)
    with pytest.raises(ValueError, match="another grid"):
        ctsa.sweep(point, {**GRID, "seed": [0]}, tmp_path, workers=0)
    assert same(ctsa.sweep(point, GRID, tmp_path, workers=0), read(tmp_path))
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(ValueError, match="not a sweep of ctsa"):
        ctsa.sweep(point, GRID, tmp_path / "b.zarr", workers=0)


def test_a_full_disk(tmp_path, monkeypatch, undisturbed):
    kept, count = work.write_block, []

    def full(where, block):
        count.append(1)
        if len(count) > 3:
            from ctsa.sweeps import store

            raise store._saying(where.path)(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        kept(where, block)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_block", full)
        patch.setattr(driver, "write_block", full)
        with pytest.raises(StoreError, match="No space left on device.*the same call goes on") as caught:
            ctsa.sweep(point, GRID, tmp_path, workers=0, batch=4)
    assert caught.value.errno == errno.ENOSPC
    assert 0 < int(read(tmp_path).done.sum()) < 60
    assert same(ctsa.sweep(point, GRID, tmp_path, workers=0), undisturbed)


@pytest.mark.parametrize("late", [0, 2, 5, 9])
def test_a_full_disk_at_any_file(tmp_path, monkeypatch, undisturbed, late):
    """Zarr's own writing fails, in the midst of a block, and while the store is made."""
    import zarr.storage._local as local

    put, count = local._put, []

    def full(*args, **kwargs):
        count.append(1)
        if len(count) > 5 * late:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return put(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_put", full)
        with pytest.raises(StoreError, match="No space left"):
            ctsa.sweep(point, GRID, tmp_path, workers=0, batch=4)
    assert same(ctsa.sweep(point, GRID, tmp_path, workers=0), undisturbed)


def test_tasks_on_their_way_are_bounded(client, monkeypatch, tmp_path):
    most = []
    submit = executors.OnDask.submit

    def counting(self, task, setting):
        submit(self, task, setting)
        most.append(len(self.tasks))

    monkeypatch.setattr(executors.OnDask, "submit", counting)
    data = ctsa.sweep(lambda x: x, {"x": np.arange(40.0)}, scheduler=client, batch=1)
    assert (data.value == data.x).all() and len(most) == 40 and max(most) <= 4


def test_short_points_share_files(tmp_path):
    ctsa.sweep(lambda x: x, {"x": np.arange(2000)}, tmp_path, workers=0)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) < 40


def test_blocks_cover_a_grid():
    for shape in ((7,), (5, 3), (4, 1, 6)):
        for batch in range(1, 40):
            block, seen = block_shape(shape, batch), np.zeros(shape, int)
            assert np.prod(block) <= batch
            for region in blocks(shape, block):
                seen[tuple(slice(a, b) for a, b in region)] += 1
            assert (seen == 1).all()


def test_netcdf_takes_it(undisturbed, tmp_path):
    import xarray

    undisturbed.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert xarray.load_dataset(tmp_path / "a.nc", engine="h5netcdf").a.equals(undisturbed.a)


def test_the_bar(capsys):
    ctsa.sweep(point, GRID, workers=0, progress=True)
    said = capsys.readouterr().err
    assert "sweep" in said and "point" in said


def test_what_workers_cannot_open_is_said(client, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with pytest.raises(RuntimeError, match="function cannot be opened by a worker.*only_here"):
        ctsa.sweep(only_here.f, {"x": [1.0, 2.0]}, tmp_path, scheduler=client)
    assert not read(tmp_path).done.any()
    assert ctsa.sweep(only_here.f, {"x": [1.0, 2.0]}, tmp_path, workers=0).value.values.tolist() == [1.0, 2.0]
