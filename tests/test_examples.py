"""The scripts of the gallery run, in their short form, each in a module of its own; what one compiles serves the next."""

import contextlib
import re
import runpy
import warnings
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest
import torch
from conftest import DEVICE

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("[0-9][0-9]_*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 2


@pytest.fixture
def narrow():
    """JAX as it is when a script begins."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_example(script, tmp_path, monkeypatch, capsys, narrow):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTSA_SHORT", "1")
    at_home = contextlib.nullcontext() if DEVICE == "cpu" else torch.device("cpu")
    with warnings.catch_warnings(), plt.rc_context(), torch.enable_grad(), at_home:  # scripts switch gradients off
        warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
        runpy.run_path(str(script), run_name="__main__")
    plt.close("all")
    printed = capsys.readouterr().out
    assert printed and not re.search(r"\bnan\b|\binf\b", printed), printed


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_layout_of_the_script(script):
    """A title for the gallery, and prose between the cells."""
    text = script.read_text(encoding="utf-8")
    title, rule = re.match(r'r?"""\n(.+)\n(=+)\n', text).groups()
    assert len(title) == len(rule)
    assert text.count("\n# %%\n") >= 3
