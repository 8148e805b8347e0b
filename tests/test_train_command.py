"""``ctsa train`` and ``ctsa reproduce``: files that are wrong, a run that is killed, interrupted, resumed."""

import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import ctsa
from ctsa import cli, studies
from ctsa._backend import trainer
from ctsa.studies import STUDIES, Findings
from ctsa.training.config import EXAMPLE, read_config

SMALL = """
backend = "torch"
[task]
name = "sudoku-4x4"
count = 200
ood_count = 50
[model]
d = 16
[training]
steps = 30
batch = 4
depth = 4
"""
HEAD = '[task]\nname = "sudoku-4x4"\ncount = 200\nood_count = 20\n[model]\nd = 16\n'


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.toml"
    path.write_text(SMALL)
    return path


def losses(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


# ------------------------------------------------------------------------------------------ files that are wrong
WRONG = {
    "no TOML": ("task = ", ["is no TOML", "Invalid value"]),
    "no text": (b"\xff\xfe", ["no text in UTF-8"]),
    "empty": ("", ["task is missing"]),
    "no name": ("[task]\ncount = 5\n", ["task.name is missing", "sudoku-4x4"]),
    "table is a number": ("task = 3\n", ["task must be a table, got 3"]),
    "task unknown": ('[task]\nname = "sudoku-4x5"\n', ["task.name", "did you mean sudoku-4x4"]),
    "task is a number": ("[task]\nname = 4\n", ["task.name must be one of", "got 4"]),
    "argument of another task": ('[task]\nname = "digits"\nclues = [6, 10]\n', ["task.clues is unknown", "patch"]),
    "argument misspelt": ('[task]\nname = "sudoku-4x4"\ncuont = 5\n', ["task.cuont is unknown", "did you mean count"]),
    "count is text": ('[task]\nname = "sudoku-4x4"\ncount = "many"\n', ["task.count must be", "integer", "'many'"]),
    "clues are one number": (HEAD.replace("count = 200", "clues = 6"), ["task: clues must be a pair"]),
    "clues meet": (HEAD.replace("count = 200", "clues = [5, 10]"), ["clues=(5, 10)", "ood_clues"]),
    "section unknown": (HEAD + "[trainin]\nsteps = 3\n", ["trainin is unknown", "did you mean training"]),
    "key at the top unknown": ("bakend = 'jax'\n" + HEAD, ["bakend is unknown", "did you mean backend"]),
    "backend unknown": ("backend = 'tensorflow'\n" + HEAD, ["backend must be", "torch", "jax", "'tensorflow'"]),
    "out is a number": ("out = 3\n" + HEAD, ["out must be", "string", "got 3"]),
    "out is empty": ("out = ''\n" + HEAD, ["out must", "got ''"]),
    "model misspelt": (HEAD + "hedas = 2\n", ["model.hedas is unknown", "did you mean heads"]),
    "model's type": (HEAD + "heads = 2.5\n", ["model.heads must be", "integer", "got 2.5"]),
    "kind unknown": (HEAD + "kind = 'akron'\n", ["model: kind must be one of", "akorn", "'akron'"]),
    "heads do not divide": (HEAD + "heads = 3\n", ["model: heads=3 does not divide d=16"]),
    "flag is a number": (HEAD + "masks = 1\n", ["model.masks must be", "bool", "got 1"]),
    "preset unknown": (HEAD + "[training]\npreset = 'quik'\n", ["training.preset", "did you mean quick"]),
    "setting misspelt": (HEAD + "[training]\nstps = 3\n", ["training.stps is unknown", "did you mean steps"]),
    "steps negative": (HEAD + "[training]\nsteps = -3\n", ["training.steps must be", "got -3"]),
    "steps are text": (HEAD + "[training]\nsteps = '3'\n", ["training.steps must be", "integer", "got '3'"]),
    "rate is nan": (HEAD + "[training]\nrate = nan\n", ["training.rate must be", "got nan"]),
    "optimiser unknown": (HEAD + "[training]\noptimiser = 'adma'\n", ["training.optimiser must be", "adam", "'adma'"]),
    "settings do not fit": (HEAD + "[training]\nadjoint = true\n", ["training: adjoint goes with solver"]),
    "no flow": (HEAD + "[training]\nsolver = 'dopri5'\n", ["need a flow", "gamma='scalar'"]),
    "solver unknown": (HEAD + "gamma = 'scalar'\n[training]\nsolver = 'dopri6'\n", ["solver must be one of", "'dopri6'"]),
    "penalty's kind": (
        HEAD + "[[training.penalties]]\nkind = 'spectrl'\nweight = 1.0\n", ["training.penalties.0", "'spectrl'"],
    ),
    "penalty without weight": (HEAD + "[[training.penalties]]\nkind = 'spectral'\n", ["training.penalties.0", "weight"]),
    "penalty misspelt": (
        HEAD + "[[training.penalties]]\nkind = 'spectral'\nwieght = 1.0\n", ["wieght", "did you mean weight"],
    ),
    "penalties are a number": (HEAD + "[training]\npenalties = 3\n", ["training.penalties must be", "got 3"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text, words = WRONG[case]
    path = tmp_path / "bad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert cli.main(["train", str(path), "--out", "results"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"ctsa: {path}") and said.err.count("\n") == 1 and len(said.err) < 450, said.err
    assert all(word in said.err for word in words), said.err
    assert not said.out and not (tmp_path / "results").exists()  # nothing was begun


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["wanted CONFIG.toml", "--example"]),
        (["none.toml"], ["none.toml", "No such file"]),
        (["."], [".", "directory"]),
        (["run.toml", "--set", "training.steps"], ["--set training.steps", "key=value"]),
        (["run.toml", "--set", "=3"], ["--set =3", "key=value"]),
        (["run.toml", "--set", "a.b.c=3"], ["--set a.b.c=3", "a table and a name"]),
        (["run.toml", "--set", "backend.x=3"], ["--set backend.x=3", "backend is no table"]),
        (["run.toml", "--set", "training.stps=3"], ["run.toml with --set", "training.stps is unknown", "steps"]),
        (["run.toml", "--out", "run.toml/below"], ["--out", "run.toml/below"]),
    ],
)
def test_wrong_options(small, arguments, words, capsys):
    assert cli.main(["train", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--seed", "x"], ["--backend", "numpy"], ["--fast"]])
def test_wrong_flags(small, arguments, capsys):
    assert cli.main(["train", str(small), *arguments]) == 2
    said = capsys.readouterr().err
    assert arguments[0] in said and said.count("\n") == 1 and "ctsa train --help" in said


@pytest.mark.parametrize(
    "backend, gone, words",
    [
        ("torch", "pydantic", "pip install 'ctsa[runs]'"), ("torch", "safetensors", "pip install 'ctsa[training]'"),
        ("jax", "optax", "training needs optax"), ("jax", "diffrax", "pip install 'ctsa[jax]'"),
    ],
)  # fmt: skip
def test_missing_packages(small, backend, gone, words, monkeypatch, capsys):
    from ctsa.cli import _common

    found = _common.find_spec
    monkeypatch.setattr(_common, "find_spec", lambda name: None if name == gone else found(name))
    assert cli.main(["train", str(small), "--backend", backend]) == 2
    assert words in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ what is right
def test_values(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(SMALL + "[[training.penalties]]\nkind = 'spectral'\nweight = 1e-4\n")
    config = read_config(path, ["training.steps=7", "model.kind=akorn", "task.clues=[7, 9]", "out=there"], seed=5)
    assert (config.settings.steps, config.settings.batch, config.settings.seed) == (7, 4, 5)
    assert config.model == dict(d=16, kind="akorn", seed=5) and config.task["clues"] == [7, 9] and config.out == "there"
    assert config.settings.penalties[0].kind == "spectral"
    more = read_config(path, ["training.preset=full", 'training.penalties=[{kind="scale", weight=2}]'])
    assert more.settings.steps == 30 and more.settings.penalties[0].weight == 2
    assert read_config(path, ["training.preset=paper"]).settings.average == 0.995


def test_all_of_the_example_is_true(tmp_path):
    """Also what it shows in comments can be switched on, and is the default where it says so."""
    path = tmp_path / "run.toml"
    path.write_text(EXAMPLE)
    plain = read_config(path)
    lines = [line.removeprefix("# ") if "=" in line or "[[" in line else line for line in EXAMPLE.splitlines()]
    path.write_text("\n".join(line for line in lines if not line.startswith(("What", "solver"))))
    full = read_config(path)
    changed = {k for k, v in full.settings.model_dump().items() if v != plain.settings.model_dump()[k]}
    assert changed == {"watch", "validate_every", "penalties"}


def test_example_runs(small, capsys):
    assert cli.main(["train", "--example"]) == 0
    small.write_text(capsys.readouterr().out)
    steps = ["--set", "training.steps=3", "--set", "task.count=200", "--set", "task.ood_count=20"]
    assert cli.main(["train", str(small), *steps]) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines() if line][:3] == ["task", "steps", "seconds"]
    assert said.out.count("+-") == 4 and "itrsa" in said.err
    folder = small.parent / "ctsa-train"
    wanted = {"settings.json", "config.json", "log.jsonl", "checkpoint.safetensors", "model.safetensors", "run.npz"}
    assert {p.name for p in folder.iterdir()} == wanted | {"evaluation-test.npz", "evaluation-ood.npz"}
    found = ctsa.load(folder / "evaluation-ood.npz")
    assert found.depths.tolist() == [16, 64] and found.solved.shape == (2, 20)
    model = ctsa.models.load(folder / "model.safetensors")
    data = ctsa.datasets.task("sudoku-4x4", count=200, ood_count=20)
    again = ctsa.training.evaluate(model, data.ood, (16, 64))
    np.testing.assert_allclose(again.loss, found.loss, rtol=1e-6)


def test_json(small, capsys):
    assert cli.main(["train", str(small), "--json", "--quiet", "--seed", "3"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert not said.err and found["steps"] == 30 and found["backend"] == "torch" and found["diverged"] is None
    rows = [(row["data"], row["depth"]) for row in found["evaluation"]]
    assert rows == [("test", 4), ("test", 16), ("ood", 4), ("ood", 16)]
    told = json.loads((small.parent / "ctsa-train" / "config.json").read_text())
    assert told["training"]["seed"] == told["model"]["seed"] == 3 and "seed" not in told["task"]

    assert cli.main(["train", str(small)]) == 2  # what is there is not written over
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["train", str(small), "--resume"]) == 2  # the seed is another
    assert "training.seed (3 there, 0 here)" in capsys.readouterr().err
    assert cli.main(["train", str(small), "--resume", "--json", "--quiet", "--seed", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluation"] == found["evaluation"]
    (small.parent / "ctsa-train" / "checkpoint.safetensors").write_bytes(b"broken")
    assert cli.main(["train", str(small), "--resume", "--seed", "3", "--quiet"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_flow(small, capsys):
    flow = ["model.gamma=scalar", "training.solver=dopri5", "training.depth=2", "training.steps=2", "task.ood_count=5"]
    assert cli.main(["train", str(small), "--json", "--quiet", *(p for change in flow for p in ("--set", change))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["depth"] for row in found["evaluation"]] == [2, 8, 2, 8] and found["steps"] == 2


def test_divergence_is_a_failure(small, capsys):
    huge = ["--set", "model.step=1e30", "--set", "model.kind=none"]
    assert cli.main(["train", str(small), "--json", *huge]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["diverged"] is not None and "training ended at step" in said.err
    turned = ["--set", "training.rate=1e20", "--set", "training.warmup=0", "--out", "other"]  # step falls below zero
    assert cli.main(["train", str(small), "--quiet", *turned]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "training ended at step 0, which brought the step" in said


# ------------------------------------------------------------------------------------------------------ killed, interrupted
DYING = """
import os, signal, sys
from ctsa import cli
from ctsa._backend import trainer

kind, step, count = trainer("torch"), trainer("torch").step, 0

def dying(self, *args):
    global count
    count += 1
    if count == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args)

kind.step = dying
sys.exit(cli.main(["train", *sys.argv[2:]]))
"""


def killed_at(number, *arguments):
    """Run ``ctsa train`` in a process that is killed as its step of this number begins."""
    return subprocess.run(
        [sys.executable, "-c", DYING, str(number), *arguments], capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture
def interrupted_at(monkeypatch):
    """Have Ctrl-C pressed as the step of a number begins, in this process, which listens, whatever started it."""
    kind, count, before = trainer("torch"), itertools.count(1), signal.signal(signal.SIGINT, signal.default_int_handler)
    step = kind.step

    def at(number):
        def pressed(self, *args):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, *args)

        monkeypatch.setattr(kind, "step", pressed)

    yield at
    signal.signal(signal.SIGINT, before)


def test_killed_and_interrupted_runs_go_on_to_the_same_losses(small, interrupted_at, capsys):
    """Every step is the one that an undisturbed run would have taken."""
    many = ["--set", "training.steps=12", "--set", "training.save_every=0.0"]
    disturbed = small.parent / "disturbed"
    killed = killed_at(5, str(small), *many, "--out", str(disturbed))
    assert killed.returncode == -signal.SIGKILL and max(losses(disturbed)) == 4

    interrupted_at(5)
    assert cli.main(["train", str(small), *many, "--out", str(disturbed), "--resume", "--quiet"]) == 130
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and "Traceback" not in said.err
    again = said.err.split("go on with: ")[1].split()
    assert again[:2] == ["ctsa", "train"] and again[-1] == "--resume" and "training.steps=12" in again
    assert max(losses(disturbed)) == 9  # the step that it was in is whole

    assert cli.main([*again[1:], "--json"]) == 0
    assert cli.main(["train", str(small), *many, "--out", str(small.parent / "whole"), "--json", "--quiet"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    one, other = losses(disturbed), losses(small.parent / "whole")
    assert sorted(one) == list(range(1, 13)) and one == other  # to the last bit, in one framework on one machine
    assert first["evaluation"] == second["evaluation"]


def test_interrupt_before_the_first_step(small, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ctsa.training, "train", stop)
    assert cli.main(["train", str(small)]) == 130
    assert "before the first step" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ experiments
def test_list_of_experiments(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == list(STUDIES) and STUDIES["heads"] in said


@pytest.mark.parametrize("name, words", [([], "wanted one of modes"), (["criticalty"], "did you mean criticality")])
def test_wrong_experiment(name, words, capsys):
    assert cli.main(["reproduce", *name]) == 2
    assert words in capsys.readouterr().err


def test_experiment(tmp_path, monkeypatch, capsys):
    given = {}

    def stand_in(name, out, **options):
        given.update(options, name=name, out=out)
        options["say"]("on the way")
        return Findings(name, STUDIES[name], dict(accuracy=[0.5]), ("a note",), {})

    monkeypatch.setattr(studies, "reproduce", stand_in)
    arguments = ["reproduce", "heads", "--out", str(tmp_path / "there"), "--seeds", "2", "--backend", "torch"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert "accuracy" in said.out and "a note" in said.out and said.err == "on the way\n"
    assert (given["name"], given["preset"], given["seeds"], given["backend"]) == ("heads", "quick", 2, "torch")
    assert cli.main([*arguments, "--quiet"]) == 0
    assert not capsys.readouterr().err

    def taken(*_, **__):
        raise FileExistsError("it holds a model of another recipe")

    monkeypatch.setattr(studies, "reproduce", taken)
    assert cli.main(arguments) == 2 and "another recipe" in capsys.readouterr().err

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "reproduce", stop)
    assert cli.main(arguments) == 130 and "the same command goes on" in capsys.readouterr().err
