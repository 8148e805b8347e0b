"""The scripts of the gallery run, in their short form, each in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("[0-9][0-9]_*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_example(script, tmp_path):
    environment = os.environ | {"CTSA_SHORT": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(script)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout and not re.search(r"\bnan\b|\binf\b", done.stdout), done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_layout_of_the_script(script):
    """A title for the gallery, and prose between the cells."""
    text = script.read_text(encoding="utf-8")
    title, rule = re.match(r'r?"""\n(.+)\n(=+)\n', text).groups()
    assert len(title) == len(rule)
    assert text.count("\n# %%\n") >= 3
