"""The command line: every command on a small config in both backends, JSON by its schema, help, exit statuses, kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib

import jsonschema
import numpy as np
import pytest
from run_configs import LAYER, SMALL
from sampling import mainly, sample

import ctsa
from ctsa import cli
from ctsa.cli._app import app
from ctsa.cli._printing import Summary
from ctsa.runs import ANALYSES, answers, read_config
from ctsa.runs.analyses import Analysis, Kept
from ctsa.runs.telling import jsonable

COMMANDS = [
    *ANALYSES, "run", "sweep", "train", "reproduce", "show", "report", "init", "check", "info", "schema", "demo"
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_of(changes):
    return [word for change in changes for word in ("--set", change)]


def says(capsys, *arguments, status=0):
    assert cli.main(list(arguments)) == status, capsys.readouterr().err
    return capsys.readouterr()


# ------------------------------------------------------------------------------------------------ every command
def test_every_command_is_tested():
    assert sorted(COMMANDS) == sorted(name for name in app.resolved_commands() if name[0] != "-")


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    said = says(capsys, name, "--help").out
    assert f"Usage: ctsa {name}" in said and "Exit status: 0" in said or name in ("train", "reproduce")
    assert "default: False" not in said and not any(line.endswith(" ") and len(line) > 100 for line in said.splitlines())


# The others compile for long on JAX; what they compute there is compared in test_runs.py.
EVERY = [(name, "torch") for name in ANALYSES if name != "survey"]
EVERY += [(name, "jax") for name in ("simulate", "lyapunov", "diagnose")]


@pytest.mark.parametrize(
    "name, face", sample(EVERY, lambda name, face: face == "torch" or name == "simulate"), indirect=["face"]
)
def test_every_analysis(name, face, here, capsys):
    """What is printed is what the library says, and follows its schema; the folder holds it, too."""
    layer = ANALYSES[name].system == "layer"
    changes = ["tokens.n=4", *LAYER, "diagnose.loops=16"] if layer else SMALL
    small = [c for c in changes if c.partition(".")[0] in ("tokens", "layer", name)]
    small += {
        "equilibria": ["tokens.n=2", "tokens.d=2", "equilibria.starts=2", "equilibria.rounds=1"],
        "continue": ["tokens.n=2", "tokens.d=2", "continue.starts=1", "continue.span=[0.9, 1.1]"],
    }.get(name, [])
    said = json.loads(says(capsys, name, "--backend", face.name, "--out", "there", "--json", *words_of(small)).out)
    jsonschema.validate(said, Summary.model_json_schema())
    config = read_config(None, small).only(name)
    direct = ANALYSES[name].run(config.make(face.name), config.analyses[name], Kept())
    wanted = jsonable(answers(direct))
    assert said["state"] == "done" and said["backend"] == face.name and list(said["results"]) == [name]
    assert said["results"][name] == {"kind": type(direct).__name__, **json.loads(json.dumps(wanted))}
    shown = json.loads(says(capsys, "show", "there", "--json").out)
    assert shown == said
    assert said["results"][name]["kind"] in ("Equilibria",) or type(ctsa.load(here / "there").results[name]) is type(direct)


def test_float32(here, capsys):
    said = says(capsys, "simulate", "--dtype", "float32", "--set", "solver.atol=1e-5", *words_of(SMALL[:3]))
    assert "written to ctsa-simulate/" in said.out
    assert ctsa.load("ctsa-simulate").results["simulate"].xs.dtype == np.float32


def test_from_init_to_report(here, capsys):
    said = says(capsys, "init", "first").out
    assert "ctsa run first.toml" in said
    assert "first.toml exists" in says(capsys, "init", "first", status=2).err
    said = says(capsys, "check", "first.toml").out
    assert "flow of tokens (12, 3), float64" in said and said.count("fits") == 3 and "in all" in said
    assert not (here / "first").exists()
    more = words_of(["simulate.points=11", "lyapunov.intervals=10", "lyapunov.transient=5"])
    said = says(capsys, "run", "first.toml", *more, "--quiet")
    assert not said.err and all(f"\n{name}\n" in f"\n{said.out}" for name in ("simulate", "lyapunov", "jacobian"))
    text = (here / "first" / "report.html").read_text()
    assert text.startswith("<!") and "ctsa run" in text and len(text) < 6e6
    assert "holds a run already: --resume goes on" in says(capsys, "run", "first.toml", status=2).err
    assert "simulate: done before" in says(capsys, "run", "first.toml", *more, "--resume").err
    said = says(capsys, "show", "first").out
    assert "state    done" in said and "lyapunov" in said
    assert '"event": "begin"' in says(capsys, "show", "first", "--log", "--json").out
    assert "begin" in says(capsys, "show", "first", "--log").out
    assert "written to elsewhere.html" in says(capsys, "report", "first", "--out", "elsewhere.html").out
    assert (here / "elsewhere.html").exists()
    again = says(capsys, "run", "first/config.toml", "--out", "again", "--json").out  # what the folder says repeats it
    a, b = json.loads(again)["results"], json.loads(says(capsys, "show", "first", "--json").out)["results"]
    assert a == b
    repeated = tomllib.loads((here / "again" / "config.toml").read_text())
    assert repeated == tomllib.loads((here / "first" / "config.toml").read_text())


def test_show_of_a_file(here, capsys):
    spec = ctsa.lyapunov_spectrum(ctsa.torch.Oja(np.diag([2.0, 1.0])), [[0.6, 0.8]], intervals=4, transient=20)
    spec.save("spec.npz")
    assert "exponent" in says(capsys, "show", "spec.npz").out
    assert json.loads(says(capsys, "show", "spec.npz", "--json").out)["kind"] == "LyapunovSpectrum"
    assert "no such file" in says(capsys, "show", "nix", status=2).err
    assert "no folder of a run" in says(capsys, "report", "spec.npz", status=2).err


def test_info_and_schemas(capsys):
    told = json.loads(says(capsys, "info", "--json").out)
    assert told["ctsa"] == ctsa.__version__ and "torch" in told["torch"] and told["cores"] == os.cpu_count()
    assert "torchdiffeq" in says(capsys, "info").out
    for of in ("config", "summary"):
        jsonschema.Draft202012Validator.check_schema(json.loads(says(capsys, "schema", of).out))


def test_dry_run(here, capsys):
    found = json.loads(says(capsys, "lyapunov", "--dry-run", "--json", "--set", "tokens.n=4").out)
    assert found["analyses"][0]["fits"] and found["tokens"] == [4, 3] and not list(here.iterdir())
    assert "fits" in says(capsys, "simulate", "--dry-run", "--set", "tokens.n=4").out
    huge = ["--set", "tokens.n=60000", "--set", "tokens.d=64", "--set", "field.how=dense"]
    assert "attention among 60000 tokens" in says(capsys, "simulate", *huge, status=2).err
    long = ["--set", "simulate.points=100000000", "--set", "tokens.n=1000"]
    assert "of these 1000 tokens would fit" in says(capsys, "simulate", "--dry-run", *long, status=1).out
    assert "of these 1000 tokens would fit; take fewer" in says(capsys, "simulate", *long, status=2).err
    assert not list(here.iterdir())


SWEEP = """
[field]
value = {kind = "goe", seed = 1}
[tokens]
n = 4
[lyapunov]
intervals = 10
transient = 5
[sweep]
axes."field.beta" = [0.5, 2.0]
axes."tokens.seed" = {count = 2}
"""


@mainly("torch")  # test_sweeps.py compares both
def test_sweep(face, here, capsys):
    """Every point is what the library says there; a point that fails is told, and the others are there."""
    (here / "grid.toml").write_text(SWEEP)
    arguments = ["sweep", "grid.toml", "--backend", face.name, "--workers", "0"]
    assert "4 points; the first of them" in says(capsys, *arguments, "--dry-run").out
    said = json.loads(says(capsys, *arguments, "--json").out)
    assert len(said["points"]) == 4 and said["state"] == "done"
    data = ctsa.load("ctsa-sweep").sweep
    assert data.exponents.dims == ("field.beta", "tokens.seed", "exponent") and (data.error == "").all()
    config = read_config("grid.toml", ["field.beta=2.0", "tokens.seed=1"]).only("lyapunov")
    wanted = ANALYSES["lyapunov"].run(config.make(face.name), config.analyses["lyapunov"], Kept())
    point = data.sel({"field.beta": 2.0, "tokens.seed": 1})
    assert np.array_equal(point.exponents, wanted.exponents) and point.verdict.item() == wanted.verdict.name
    assert said["points"][-1]["point"] == {"field.beta": 2.0, "tokens.seed": 1}
    assert said["points"][-1]["exponents"] == wanted.exponents.tolist()
    assert "holds a run already" in says(capsys, *arguments, status=2).err
    assert "4 points, 0 failed" in says(capsys, *arguments, "--resume").err
    assert "field.beta" in says(capsys, "show", "ctsa-sweep").out
    assert "4 points over field.beta" in (here / "ctsa-sweep" / "report.html").read_text()
    other = ["--resume", "--set", "lyapunov.intervals=11"]
    assert "lyapunov.intervals (10 there, 11 here)" in says(capsys, *arguments, *other, status=2).err
    more = ["--out", "b", "--set", 'sweep.axes={"tokens.n" = [2, 3]}', "--set", "solver.max_steps=1"]
    failed = says(capsys, *arguments, *more, status=1)
    assert "2 points, 2 failed" in failed.err and (ctsa.load("b").sweep.error != "").all()


def test_sweep_that_keeps_its_runs(here, capsys):
    (here / "grid.toml").write_text(SWEEP + "keep = true\n")
    changes = ["--set", 'sweep.axes={"field.beta" = [0.5, 1.0]}']
    says(capsys, "sweep", "grid.toml", "--backend", "torch", "--workers", "0", *changes)
    data = ctsa.load("ctsa-sweep").sweep
    for link in data.report.values:
        assert (here / "ctsa-sweep" / str(link)).read_text().startswith("<!")
    assert "points/field.beta=0.5/report.html" in (here / "ctsa-sweep" / "report.html").read_text()
    kept = ctsa.load("ctsa-sweep/points/field.beta=1").results["lyapunov"]
    assert np.array_equal(kept.exponents, data.exponents.sel({"field.beta": 1.0}))


def test_sweep_looks_closer(here, capsys):
    """The abscissa of factor times Oja's flow at its leading eigenvector is - factor: its zero is found by halving."""
    (here / "grid.toml").write_text(
        '[field]\nkind = "Oja"\nvalue = {kind = "diagonal", values = [2.0, 1.0]}\n[tokens]\nkind = "equiangular"\n'
        'n = 1\nd = 2\n[jacobian]\n[sweep]\naxes."field.factor" = [-1.0, 1.5]\n'
        'refine = {axis = "field.factor", by = "abscissa", rounds = 4}\n'
    )
    says(capsys, "sweep", "grid.toml", "--backend", "torch", "--workers", "0")
    data = ctsa.load("ctsa-sweep").sweep
    factor, sign = data["field.factor"].values, np.sign(data.abscissa.values)
    assert np.allclose(data.abscissa.values, -factor, atol=1e-12) and len(factor) == 6
    at = int(np.flatnonzero(np.diff(sign))[0])
    assert factor[at] < 0 < factor[at + 1] and factor[at + 1] - factor[at] == 2.5 / 16


# ------------------------------------------------------------------------------------------------ what goes wrong
@pytest.mark.parametrize("arguments, words", [
    (["simulat"], ["simulate"]), (["lyapunov", "nix.toml"], ["nix.toml", "No such file"]), (["run", "."], ["directory"]),
    (["lyapunov", "--set", "field.beta"], ["wanted key=value"]), (["lyapunov", "--set", "=3"], ["wanted key=value"]),
    (["lyapunov", "--set", "seed=3", "--set", "seed.a=3"], ["seed"]),
    (["lyapunov", "--set", "tokens.n.a=3"], ["tokens.n"]),
    (["lyapunov", "--seed", "-1"], ["--seed"]), (["lyapunov", "--dtype", "float16"], ["--dtype"]),
    (["lyapunov", "--fast"], ["--fast", "ctsa lyapunov --help"]), (["lyapunov", "a.toml", "b.toml"], ["b.toml"]),
    (["diagnose"], ["diagnose is for layers"]), (["equilibria", *words_of(LAYER)], ["equilibria is for flows"]),
    (["sweep"], ["FILE"]), (["show"], ["PATH"]), (["init", "a/b"], ["a/b.toml"]), (["schema", "nix"], ["config"]),
])  # fmt: skip
def test_wrong_use(arguments, words, here, capsys):
    said = says(capsys, *arguments, status=2).err
    assert said.count("\n") == 1 and "Traceback" not in said and all(word in said for word in words), said


def test_failures_and_interrupts(here, capsys, monkeypatch):
    quick = words_of(SMALL[:3])
    said = says(capsys, "simulate", "--out", "a", "--set", "solver.max_steps=2", *quick, status=1)
    assert "simulate failed" in said.err and "max_steps=2" in said.err and "see a/log.jsonl" in said.err
    known = ANALYSES["jacobian"]

    def stop(made, settings, kept):
        raise KeyboardInterrupt

    monkeypatch.setitem(ANALYSES, "jacobian", Analysis("jacobian", known.asks, known.settings, stop))
    said = says(capsys, "jacobian", "--out", "b", "--seed", "3", "--set", "tokens.n=4", status=130)
    assert "go on with: ctsa jacobian --out b --seed 3 --set tokens.n=4 --resume" in said.err
    assert ctsa.load("b").state == "interrupted"
    monkeypatch.setitem(ANALYSES, "jacobian", known)
    said = says(capsys, "jacobian", "--out", "b", "--seed", "3", "--set", "tokens.n=4", "--resume")
    assert ctsa.load("b").state == "done"
    (here / "file").write_text("")
    assert "file" in says(capsys, "jacobian", "--out", "file/below", "--set", "tokens.n=4", status=2).err


@pytest.mark.parametrize("name, change, words", [
    ("lyapunov", "lyapunov.count=1000", "count=1000 is more than"),
    ("continue", "continue.span=[3, 1]", "span must increase"),
])  # fmt: skip
def test_arguments_that_only_the_analysis_knows(name, change, words, here, capsys):
    """Nothing was done: it is wrong use, and leaves no folder in the way of the next try."""
    given = [name, "--out", "there", *words_of(["tokens.n=2", "tokens.d=2", "continue.starts=1", change])]
    said = says(capsys, *given, status=2).err
    assert words in said and said.count("\n") == 1 and not list(here.iterdir())
    (here / "there").mkdir()
    (here / "there" / ".mine").write_text("kept")
    says(capsys, *given, status=2)
    assert [p.name for p in (here / "there").iterdir()] == [".mine"]


# ------------------------------------------------------------------------------------------------ killed
LONG = {
    "simulate": ["tokens.n=32", "simulate.duration=150", "simulate.points=1501"],
    "lyapunov": ["tokens.n=12", "lyapunov.intervals=400", "lyapunov.transient=10", "field.value={kind='goe', seed=1}"],
    "basins": ["tokens.n=6", "basins.starts=300", "field.beta=4"],
}


def command(name, out, *more):
    return [sys.executable, "-m", "ctsa", name, "--backend", "torch", "--out", str(out), "--quiet",
            "--set", "output.report=false", "--set", "output.pictures=false", *words_of(LONG[name]), *more]  # fmt: skip


def kill_and_resume(name, folder, rng, times):
    """Kill a run at some moment, so many times, then go on until it is done."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills, more = 0, []
    for _ in range(20):
        run = subprocess.Popen(command(name, folder, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        began = time.monotonic()
        while not (folder / "run.json").exists() and run.poll() is None and time.monotonic() - began < 60:
            time.sleep(0.01)
        if kills < times:
            time.sleep(rng.uniform(0, 0.3))
            run.send_signal(signal.SIGKILL)
        said = run.communicate()[1]
        if run.returncode == 0:
            return
        assert run.returncode == -signal.SIGKILL, said
        kills += 1
        if (folder / "run.json").exists():
            found = ctsa.load(folder)  # it is readable at whatever moment
            assert found.state in ("interrupted", "done") and found.table()
            for result in found.results:
                assert found.results[result] is not None
            more = ["--resume"]
    raise AssertionError("it did not come to its end")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, times",  # test_checkpoints.py kills the others
    sample([("simulate", 1), *((name, 2) for name in LONG)], lambda name, times: times == 1),
)
def test_killed_and_resumed(name, times, tmp_path):
    rng = random.Random(name)
    assert cli.main(command(name, tmp_path / "whole")[3:]) == 0
    kill_and_resume(name, tmp_path / "cut", rng, times)
    a, b = (ctsa.load(tmp_path / run).results[name] for run in ("whole", "cut"))
    for key in ("xs", "ts", "history", "ends", "kind_index"):
        if hasattr(a, key):
            assert np.array_equal(getattr(a, key), getattr(b, key)), key
    assert not hasattr(a, "stats") or a.stats == b.stats


def test_an_interrupt_while_it_is_imported_is_a_line(monkeypatch, capsys):
    class Slow:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "ctsa.cli._app", Slow())
    assert cli.main(["schema"]) == 130
    assert capsys.readouterr().err == "ctsa: interrupted before it began\n"
