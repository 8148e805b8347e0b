"""Runs: what analyses of a config compute, folders, resuming to the same bits, a full disk."""

import dataclasses
import errno
import json
import tomllib

import numpy as np
import pytest
from run_configs import LAYER, config_of, made_of

import ctsa
from ctsa.results.base import as_numpy
from ctsa.runs import ANALYSES, Run, RunError, answers, read_config, run_config
from ctsa.runs.analyses import Kept
from ctsa.runs.folder import FORMAT


# ------------------------------------------------------------------------------------------------ against direct calls
def test_every_analysis_does_what_its_function_does(face):
    field = face.SelfAttention(beta=2.0)
    x0 = ctsa.random_tokens(4, 3, seed=3)
    direct = {
        "lyapunov": ctsa.lyapunov_spectrum(field, x0, intervals=12, transient=4, seed=3, atol=1e-7).exponents,
        "compare": ctsa.compare(field, x0, 1.0, [0.2, 0.1], seed=3).end_errors,
        "equilibria": [e.kind for e in ctsa.find_equilibria(field, 4, 3, starts=4, seed=3)],
        "basins": ctsa.basins(field, 8, n=4, d=3, seed=3, solver=ctsa.Solver(atol=1e-7)).ends,
        "monitor": ctsa.monitor(field, x0, duration=1.0, points=5, solver=ctsa.Solver(atol=1e-7)).pseudo_energy,
        "jacobian": ctsa.eigenvalues(field, ctsa.integrate(field, x0, [0.0, 2.0], atol=1e-7).xs[-1]),
    }
    read = {
        "lyapunov": lambda r: r.exponents, "compare": lambda r: r.end_errors, "equilibria": lambda r: [e.kind for e in r],
        "basins": lambda r: r.ends, "monitor": lambda r: r.pseudo_energy, "jacobian": lambda r: r.eigenvalues,
    }  # fmt: skip
    config = config_of("field.beta=2", "seed=3", "solver.atol=1e-7")
    made = config.make(face.name)
    for name, wanted in direct.items():
        found = ANALYSES[name].run(made, config.analyses[name], Kept())
        assert np.array_equal(np.asarray(as_numpy(read[name](found))), np.asarray(as_numpy(wanted))), name


def test_layers_and_diagnoses(face):
    config = read_config(None, ["tokens.n=4", "field.beta=2", *LAYER, "diagnose.loops=16", "lyapunov.intervals=10"])
    made = config.make(face.name)
    layer = face.EulerLayer(face.SelfAttention(beta=2.0), 0.1)
    found = ANALYSES["diagnose"].run(made, config.analyses["diagnose"], Kept())
    wanted = ctsa.diagnose(layer, ctsa.random_tokens(4, 3), 16)
    assert np.array_equal(found.verdicts, wanted.verdicts) and np.array_equal(found.exponents, wanted.exponents)
    path = ANALYSES["simulate"].run(made, read_config(None, ["simulate.depth=30"]).analyses["simulate"], Kept())
    assert np.array_equal(path.xs, as_numpy(ctsa.iterate(layer, ctsa.random_tokens(4, 3), 30).xs))
    assert path.ts.tolist() == list(range(31)) and path.stats["layers"] == 30


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
    with pytest.raises(KeyError, match="'nix' is no result of this run: there are basins"):
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
