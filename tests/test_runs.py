"""Runs: what analyses of a config compute, folders, resuming to the same bits, a full disk."""

import dataclasses
import errno
import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from run_configs import LAYER, config_of, made_of
from sampling import mainly

import ctsa
from ctsa import cli
from ctsa._backend import no_graph
from ctsa.results.base import as_numpy
from ctsa.runs import ANALYSES, Run, RunError, answers, read_config, run_config
from ctsa.runs.analyses import Kept
from ctsa.runs.folder import FORMAT
from ctsa.runs.making import check_field


# ------------------------------------------------------------------------------------------------ against direct calls
@mainly("torch")
def test_every_analysis_does_what_its_function_does(face):
    field = face.SelfAttention(beta=2.0)
    x0 = ctsa.random_tokens(4, 3, seed=3)
    direct = {
        "lyapunov": ctsa.lyapunov_spectrum(field, x0, intervals=12, transient=4, seed=3, atol=1e-7).exponents,
        "compare": ctsa.compare(field, x0, 1.0, [0.2, 0.1], seed=3).end_errors,
        "equilibria": [e.kind for e in ctsa.find_equilibria(field, 4, 3, starts=4, seed=3)],
        "basins": ctsa.basins(field, 8, n=4, d=3, seed=3, solver=ctsa.Solver(atol=1e-7)).ends,
        "monitor": ctsa.monitor(field, x0, duration=1.0, points=5, solver=ctsa.Solver(atol=1e-7)).pseudo_energy,
    }
    with no_graph():
        direct["jacobian"] = ctsa.eigenvalues(field, ctsa.integrate(field, x0, [0.0, 2.0], atol=1e-7).xs[-1])
    read = {
        "lyapunov": lambda r: r.exponents, "compare": lambda r: r.end_errors, "equilibria": lambda r: [e.kind for e in r],
        "basins": lambda r: r.ends, "monitor": lambda r: r.pseudo_energy, "jacobian": lambda r: r.eigenvalues,
    }  # fmt: skip
    config = config_of("field.beta=2", "seed=3", "solver.atol=1e-7")
    made = config.make(face.name)
    for name, wanted in direct.items():
        found = ANALYSES[name].run(made, config.analyses[name], Kept())
        assert np.array_equal(np.asarray(as_numpy(read[name](found))), np.asarray(as_numpy(wanted))), name


@mainly("torch")
def test_layers_and_diagnoses(face):
    config = read_config(None, ["tokens.n=4", "field.beta=2", *LAYER, "diagnose.loops=16", "lyapunov.intervals=10"])
    made = config.make(face.name)
    layer = face.EulerLayer(face.SelfAttention(beta=2.0), 0.1)
    found = ANALYSES["diagnose"].run(made, config.analyses["diagnose"], Kept())
    wanted = ctsa.diagnose(layer, ctsa.random_tokens(4, 3), 16)
    assert np.array_equal(found.verdicts, wanted.verdicts) and np.array_equal(found.exponents, wanted.exponents)
    path = ANALYSES["simulate"].run(made, read_config(None, [*LAYER, "simulate.depth=30"]).analyses["simulate"], Kept())
    assert np.array_equal(path.xs, as_numpy(ctsa.iterate(layer, ctsa.random_tokens(4, 3), 30).xs))
    assert path.ts.tolist() == list(range(31)) and path.stats["layers"] == 30


@mainly("torch")
def test_merging_and_noise_are_those_of_one_call(face):
    ts = 1e4 * np.concatenate([[0.0], np.geomspace(1.0, 1e-4, 10)[::-1]])
    given = ["tokens.d=2", "field.beta=4", "simulate.duration=1e4", "simulate.points=11", "simulate.spacing=log"]
    made = made_of(*given, face=face.name)
    settings = read_config(None, [*given, "simulate.merge=true"]).analyses["simulate"]
    found = ANALYSES["simulate"].run(made, settings, Kept())
    with no_graph():
        wanted = ctsa.integrate(face.SelfAttention(beta=4.0), ctsa.random_tokens(4, 2), ts, merge=True)
        assert np.array_equal(as_numpy(found.xs), as_numpy(wanted.xs)) and len(found.merges.times) == 3
        config = read_config(None, ["tokens.n=4", "seed=5", "solver.name=heun", "solver.step=0.05", "simulate.points=3",
                                    "simulate.duration=1", "field.beta=2"])  # fmt: skip
        noisy = dataclasses.replace(config, fields=(*config.fields, check_field(dict(kind="Noise", sigma=0.3), "field.1")))
        found = ANALYSES["simulate"].run(noisy.make(face.name), noisy.analyses["simulate"], Kept())
        field = face.SelfAttention(beta=2.0) + face.Noise(0.3)
        wanted = ctsa.integrate(field, ctsa.random_tokens(4, 3, seed=5), [0.0, 0.5, 1.0], "heun", step=0.05, seed=5)
    assert np.array_equal(as_numpy(found.xs), as_numpy(wanted.xs)) and found.stats["seed"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["solver.step=0.1", "solver.name=euler", "lyapunov.intervals=5"], "lyapunov needs a velocity, and the field has"),
        (["solver.step=0.1", "solver.name=euler", "layer.kind=EulerLayer"], "layer needs a velocity, and the field has"),
        (["simulate.points=3"], "a field with noise needs name = .heun. or .euler., and step"),
        (["solver.step=0.1", "solver.name=rk4"], "a field with noise needs name = .heun. or .euler., and step"),
        (["solver.step=0.1", "solver.name=heun", "solver.atol=1e-6"], "no tolerance is kept with noise"),
    ],
)
def test_what_noise_does_not_go_with(changes, message):
    with pytest.raises(ValueError, match=message):
        read_config(None, ["field.kind=Noise", "field.sigma=0.1", *changes]).make("torch")


def test_estimates_of_merging_do_not_grow_with_time():
    found = ctsa.estimate("simulate", ctsa.torch.SelfAttention(), ctsa.random_tokens(4, 2), merge=True, duration=1e9)
    assert np.isnan(found.seconds) and "tokens that merge" in found.advice


def test_pieces_are_the_flow(face):
    """Every piece ends a step: the flow is that of one call to the tolerance, and times and counts go through."""
    config = config_of("solver.atol=1e-10", name="simulate")
    path = ANALYSES["simulate"].run(config.make(face.name), config.analyses["simulate"], Kept())
    whole = ctsa.integrate(face.SelfAttention(), ctsa.random_tokens(4, 3), np.linspace(0, 2, 21), atol=1e-10)
    assert np.abs(path.xs - as_numpy(whole.xs)).max() < 1e-8 and np.array_equal(path.ts, np.linspace(0, 2, 21))
    assert path.stats["steps"] >= whole.stats["steps"] and path.stats["stopped"] is False


def test_a_flow_that_comes_to_rest_ends_there():
    config = read_config(None, ["tokens.n=4", "simulate.until=equilibrium", "simulate.duration=200", "simulate.rest=1e-4"])
    path = ANALYSES["simulate"].run(config.make("torch"), config.analyses["simulate"], Kept())
    assert path.stats["stopped"] and path.ts[-1] < 100 and len(path.ts) == len(path.xs)
    field, x = made_of().field, made_of().array(path.xs[-1])
    assert np.linalg.norm(as_numpy(field(0.0, x)), axis=-1).max() < 1e-4


def test_backends_agree(torch_face, jax_face):
    config = read_config(None, ["tokens.n=5", "field.value.kind=goe", "field.query=gaussian", "field.key=gaussian"])
    a, b = (config.only("simulate").make(name) for name in ("torch", "jax"))
    x = ctsa.random_tokens(5, 3, seed=1)
    assert np.abs(as_numpy(a.field(0.0, a.array(x))) - as_numpy(b.field(0.0, b.array(x)))).max() < 1e-14


# ------------------------------------------------------------------------------------------------ folders
def test_a_run_opens_again(face, tmp_path):
    config = config_of("field.beta=2")
    if face.name == "jax":  # whose other analyses take long to compile, and are compared above
        kept = ("simulate", "lyapunov", "jacobian")
        config = dataclasses.replace(config, analyses={name: config.analyses[name] for name in kept})
    run = run_config(config, tmp_path / "a", backend=face.name, progress=False, command="ctsa run a.toml")
    back = ctsa.load(tmp_path / "a")
    assert isinstance(back, Run) and back.state == "done" and list(back.results) == sorted(config.analyses)
    assert repr(back) == repr(run) and back.about["command"] == "ctsa run a.toml" and "done" in back.table()
    assert {row["event"] for row in back.log} >= {"begin", "analysis", "done", "end"}
    assert tomllib.loads(back.config)["field"] == {"beta": 2}
    assert back.about["versions"]["ctsa"] == ctsa.__version__ and back.about["seed"] == 0
    for name in back.results:
        assert answers(back.results[name]), name
        assert back.dataset(name) is not None
    data = back.dataset("simulate")
    assert data.xs.dims == ("time", "token", "component") and data.ts.attrs["units"]
    assert np.array_equal(data.xs.values, back.results["simulate"].xs)
    assert (tmp_path / "a" / "pictures" / "simulate.png").stat().st_size > 5000
    with pytest.raises(KeyError, match="'nix' is no result of this run: there are "):
        back.results["nix"]
    again = read_config(tmp_path / "a" / "config.toml")  # the file of the folder says the same run
    assert again.told() == config.told() and again.backend == face.name


def test_a_folder_is_not_written_over(tmp_path):
    config = config_of(name="simulate")
    run_config(config, tmp_path / "a", backend="torch")
    with pytest.raises(FileExistsError, match="holds a run already"):
        run_config(config, tmp_path / "a", backend="torch")
    for changes, words in [(["field.beta=3"], "field.beta"), (["tokens.n=5"], r"tokens.n \(4 there, 5 here\)"),
                           (["simulate.duration=3"], "simulate.duration"), (["seed=1"], "seed")]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            run_config(config_of(*changes, name="simulate"), tmp_path / "a", backend="torch", resume=True)
    with pytest.raises(ValueError, match="backend"):
        run_config(config, tmp_path / "a", backend="jax", resume=True)
    more = run_config(config_of(name="jacobian"), tmp_path / "a", backend="torch", resume=True)  # analyses may join
    assert list(more.results) == ["jacobian", "simulate"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no run"):
        run_config(config, tmp_path / "b", backend="torch")


def test_settings_of_what_was_run(tmp_path):
    """An analysis without a table was run with the defaults: a table that comes later is another run."""
    plain, more = read_config(None, ["tokens.n=4"]), read_config(None, ["tokens.n=4", "jacobian.time=2"])
    run_config(plain.only("jacobian"), tmp_path / "a", backend="torch", progress=False)
    run_config(plain.only("jacobian"), tmp_path / "a", backend="torch", progress=False, resume=True)
    with pytest.raises(ValueError, match=r"jacobian.time \(None there, 2 here\)"):
        run_config(more, tmp_path / "a", backend="torch", progress=False, resume=True)
    run_config(more, tmp_path / "b", backend="torch", progress=False)
    with pytest.raises(ValueError, match=r"jacobian.time \(2 there, None here\)"):
        run_config(plain.only("jacobian"), tmp_path / "b", backend="torch", progress=False, resume=True)
    run = run_config(plain.only("monitor"), tmp_path / "b", backend="torch", progress=False, resume=True)  # may join
    assert run.about["table"]["jacobian"] == {"time": 2} and sorted(run.results) == ["jacobian", "monitor"]


def test_a_sweep_is_no_run(tmp_path):
    config = read_config(None, ["tokens.n=4", "sweep.run=jacobian", "sweep.axes.seed={count=1}"])
    ctsa.runs.run_sweep(config, tmp_path / "a", backend="torch", workers=0, progress=False)
    run_config(config.only("jacobian"), tmp_path / "b", backend="torch", progress=False)
    with pytest.raises(ValueError, match="holds a sweep, not a run"):
        run_config(config.only("jacobian"), tmp_path / "a", backend="torch", resume=True, progress=False)
    with pytest.raises(ValueError, match="holds a run, not a sweep"):
        ctsa.runs.run_sweep(config, tmp_path / "b", backend="torch", workers=0, resume=True, progress=False)


def test_nothing_is_recorded(torch_face, monkeypatch):
    """PyTorch keeps no graph of what a trajectory passes, which would take more memory than all its states."""
    import torch

    from ctsa.runs import simulating

    seen, calls = [], {name: getattr(ctsa, name) for name in ("integrate", "iterate")}
    for name in calls:
        for home in (simulating, ctsa):

            def watched(*args, call=calls[name], **kwargs):
                seen.append(torch.is_grad_enabled())
                return call(*args, **kwargs)

            monkeypatch.setattr(home, name, watched)
    for changes in (["simulate.points=3", "jacobian.time=1"], [*LAYER, "simulate.depth=3", "jacobian.depth=2"]):
        config = read_config(None, ["tokens.n=4", *changes])
        for name, settings in config.analyses.items():
            ANALYSES[name].run(config.make("torch"), settings, Kept())
    assert len(seen) >= 4 and not any(seen)


@mainly("torch")
def test_a_batch_of_starts(face, tmp_path):
    changes = ["tokens.n=4", "tokens.batch=[2, 2]", "simulate.points=3", "lyapunov.intervals=3", "lyapunov.transient=0"]
    run = run_config(read_config(None, changes), tmp_path / "a", backend=face.name, progress=False)
    assert run.state == "done" and run.results["simulate"].xs.shape == (3, 2, 2, 4, 3)
    found = run.results["lyapunov"]
    assert found.exponents.shape == (2, 2, 8) and np.array_equal(answers(found)["exponents"], found.exponents)
    one = ctsa.lyapunov_spectrum(face.SelfAttention(), ctsa.random_tokens(4, 3, batch=(2, 2)), intervals=3, transient=0)
    assert np.array_equal(found.exponents, one.exponents)


@pytest.mark.parametrize("kind", [
    [], ["field.kind=Oja", "field.value=gaussian"], ["field.factor=0.5"], ["layer.kind=PostNormLayer"], ["layer.kind=AKOrN"]
])  # fmt: skip
def test_single_precision_is_that_of_all(face, kind):
    """Numbers that stand alone do not carry a run of float32 to float64."""
    made = read_config(None, ["dtype=float32", "tokens.n=4", *kind]).make(face.name)
    if made.layer is None:
        xs = ctsa.integrate(made.field, made.x0, [0.0, 1.0], atol=1e-5).xs
    else:
        xs = ctsa.iterate(made.layer, made.x0, 2).xs
    assert as_numpy(xs).dtype == np.float32


def test_outputs_even_in_the_logarithm():
    for points in (2, 3, 12):
        ts = read_config(None, ["simulate.spacing=log", f"simulate.points={points}", "simulate.duration=7"])
        ts = ts.analyses["simulate"].times()
        assert len(ts) == points and ts[0] == 0 and ts[-1] == 7 and (np.diff(ts) > 0).all()


def test_names_of_files_elsewhere(tmp_path):
    """A config in another folder names the same files; texts for models stay, whatever they end in."""
    from ctsa.runs.about import inputs, moved

    np.save(tmp_path / "v.npy", np.eye(3))
    absolute = str(tmp_path / "v.npy")
    table = {"field": [{"value": "v.npy", "model": "m"}, {"value": absolute}], "tokens": {"text": "v.npy", "model": "/m"}}
    found = moved(table, tmp_path, tmp_path / "a")
    assert found["field"] == [{"value": "../v.npy", "model": "../m"}, {"value": absolute}]
    assert found["tokens"] == table["tokens"] and sorted(inputs(table, tmp_path)) == sorted(["v.npy", absolute])


def test_killed_between_two_writes(tmp_path, monkeypatch):
    """What is written last may be missing: the folder is resumed all the same, and tells the truth."""
    from ctsa.runs.folder import RunFolder

    config = read_config(None, ["tokens.n=4", "jacobian.time=1"])
    go = dict(backend="torch", progress=False, resume=True)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(RunFolder, "configured", killed)
        run_config(config, tmp_path / "a", **go)
    run = run_config(config, tmp_path / "a", **go)
    assert run.state == "done" and "jacobian" in run.config
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        say = RunFolder.say_of
        m.setattr(RunFolder, "say_of", lambda s, n, **w: killed() if w.get("state") == "done" else say(s, n, **w))
        run_config(config, tmp_path / "b", **go)
    run = run_config(config, tmp_path / "b", **go)
    assert run.state == run.about["analyses"]["jacobian"]["state"] == "done"


def test_a_store_replaces_results_only(tmp_path):
    found = ctsa.jacobian_spectrum(read_config(None, ["tokens.n=4"]).make("torch").field, ctsa.random_tokens(4, 3))
    found.save(tmp_path / "a.zarr")
    found.save(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    found.save(tmp_path / "b.zarr")
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "precious").write_text("a")
    (tmp_path / "d.zarr").write_text("a")
    for name in ("c.zarr", "d.zarr"):
        with pytest.raises(FileExistsError, match="is no result of ctsa"):
            found.save(tmp_path / name)
    assert (tmp_path / "c.zarr" / "precious").exists() and len(list(tmp_path.iterdir())) == 4


def test_other_files_are_another_run(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3))
    (tmp_path / "run.toml").write_text('[field]\nvalue = "v.npy"\n[tokens]\nn = 4\n[simulate]\nduration = 1\n')
    config = read_config(tmp_path / "run.toml")
    run_config(config, tmp_path / "out", backend="torch")
    np.save(tmp_path / "v.npy", 2 * np.eye(3))
    with pytest.raises(ValueError, match="what is in v.npy"):
        run_config(config, tmp_path / "out", backend="torch", resume=True)
    moved = read_config(tmp_path / "out" / "config.toml").make("torch")  # paths count from the folder of the run
    assert np.array_equal(as_numpy(moved.field.value.detach()), 2 * np.eye(3))


def test_resumed_to_the_same_bits(face, tmp_path, monkeypatch):
    """Stopped after every single piece of a trajectory; at the end it is as if nothing had been."""
    from ctsa.runs import simulating

    config = config_of(name="simulate")
    whole = run_config(config, tmp_path / "whole", backend=face.name).results["simulate"]

    class Stop(BaseException):
        pass

    plain, stops = simulating._Store.append, 0

    def stopping(self, *args):
        nonlocal stops
        plain(self, *args)
        stops += 1
        raise Stop

    monkeypatch.setattr(simulating._Store, "append", stopping)
    counts = []
    for resume in [False, *[True] * 9]:
        with pytest.raises(Stop):
            run_config(config, tmp_path / "cut", backend=face.name, resume=resume)
        found = ctsa.load(tmp_path / "cut")
        assert found.state == "interrupted"
        path = found.results["simulate"]
        counts.append(len(path.ts))
        assert np.array_equal(path.xs, whole.xs[: len(path.ts)])
    assert counts == list(range(3, 22, 2)) and stops == 10
    monkeypatch.setattr(simulating._Store, "append", plain)
    done = run_config(config, tmp_path / "cut", backend=face.name, resume=True).results["simulate"]
    assert np.array_equal(done.xs, whole.xs) and np.array_equal(done.ts, whole.ts) and done.stats == whole.stats


def test_one_process_at_a_time(tmp_path):
    from ctsa.results.lock import held, hold

    config = config_of(name="simulate")
    run_config(config, tmp_path / "a", backend="torch")
    assert not held(tmp_path / "a")
    with hold(tmp_path / "a"):
        assert held(tmp_path / "a")
        with pytest.raises(BlockingIOError, match="another process is running"):
            run_config(config, tmp_path / "a", backend="torch", resume=True)


def test_a_full_disk(tmp_path, monkeypatch):
    """What was written stays, the run says what happened, and goes on when there is room."""
    from ctsa.runs import folder as folders

    config = config_of()
    config = dataclasses.replace(config, analyses={n: config.analyses[n] for n in ("simulate", "jacobian", "compare")})
    plain = folders.write_group

    def full(path, result):
        if path.name == "jacobian":
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(path, result)

    monkeypatch.setattr(folders, "write_group", full)
    with pytest.raises(OSError, match="No space left"):
        run_config(config, tmp_path / "a", backend="torch")
    run = ctsa.load(tmp_path / "a")
    assert run.state == "failed" and list(run.results) == ["simulate"] and "No space left" in run.table()
    monkeypatch.setattr(folders, "write_group", plain)
    run = run_config(config, tmp_path / "a", backend="torch", resume=True)
    assert list(run.results) == ["compare", "jacobian", "simulate"]


def test_a_disk_that_is_full(tmp_path, capsys):
    """The same on a disk of one megabyte, where this may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        words = ["simulate", "--backend", "torch", "--quiet", "--out", str(disk / "a"), "--set", "output.report=false"]
        words += ["--set", "simulate.points=2001", "--set", "tokens.n=64"]
        status, said = cli.main(words), capsys.readouterr().err
        assert status == 1 and said.count("\n") == 1, said
        assert "No space left on device; what was written stays, --resume goes on" in said
        part = ctsa.load(disk / "a")
        count = len(part.results["simulate"].ts)
        assert part.state == "failed" and 1 < count < 2001
        first = part.results["simulate"].xs
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert cli.main([*words, "--resume"]) == 0
        whole = ctsa.load(disk / "a").results["simulate"]
        assert len(whole.ts) == 2001 and np.array_equal(whole.xs[:count], first)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_an_analysis_that_fails(tmp_path):
    config = config_of("solver.max_steps=2", name="simulate")
    with pytest.raises(RunError, match="simulate failed: .*max_steps=2"):
        run_config(config, tmp_path / "a", backend="torch")
    run = ctsa.load(tmp_path / "a")
    assert run.state == "failed" and "max_steps=2" in run.about["analyses"]["simulate"]["error"]
    assert len(run.results["simulate"].ts) >= 1  # the start, at least, is there


def test_runs_of_other_versions(tmp_path):
    run_config(config_of(name="jacobian"), tmp_path / "a", backend="torch")
    about = json.loads((tmp_path / "a" / "run.json").read_text())
    (tmp_path / "a" / "run.json").write_text(json.dumps(about | {"format": FORMAT + 1}))
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}, of ctsa {ctsa.__version__}: open it with that version"):
        ctsa.load(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match="is damaged"):
        ctsa.load(tmp_path / "a")
