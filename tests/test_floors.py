"""The floors of CONTRIBUTING.md are those of the code: no module imports from its own floor or from above."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.search(r"ground floor.*?```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.S)
FLOORS = [re.split(r"/?,\s*", line.rstrip("/")) for line in BLOCK[1].splitlines()] if BLOCK else []
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def home(path: Path) -> str:
    """The module or package of ``ctsa`` that a file belongs to."""
    return path.relative_to(ROOT / "ctsa").parts[0].removesuffix(".py")


def imported(path: Path):
    """What of ``ctsa`` a file imports, anywhere in it: (name, whether at the top of the file)."""
    package = path.relative_to(ROOT).parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            found = [(*start, *(node.module or "").split("."), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        for parts in ([p for p in name if p] for name in found):
            if parts[0] == "ctsa" and len(parts) > 1 and parts[1] in FLOOR:  # not ``from ctsa import integrate``
                yield parts[1], node in tree.body


FILES = [p for p in sorted((ROOT / "ctsa").rglob("*.py")) if p.parent != ROOT / "ctsa" or not p.stem.startswith("__")]


def test_every_module_has_a_floor():
    assert {home(path) for path in FILES} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_imports_go_down(name):
    for path in FILES:
        if home(path) == name:
            for other, at_top in imported(path):
                picture = other.startswith("plot") and not at_top  # imported by .plot() when it is called
                assert other == name or picture or FLOOR[other] < FLOOR[name], f"{path.name} imports {other}"


def test_no_module_is_hidden():
    """What a package calls a name is what ``import package.name`` gives: no function stands before a module."""
    import importlib
    import pkgutil

    import ctsa

    hidden = []
    for found in pkgutil.walk_packages(ctsa.__path__, "ctsa."):
        parent, _, leaf = found.name.rpartition(".")
        if "__main__" in leaf:
            continue
        module = importlib.import_module(found.name)
        if getattr(importlib.import_module(parent), leaf, module) is not module:
            hidden.append(found.name)
    assert not hidden


def imports_of(tree: ast.AST):
    """Every import in a file, but for those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imports_of(node)


def test_no_module_imports_itself_by_others():
    """No circle among modules, imports inside of functions included; ``import ctsa`` itself is lazy, and apart."""
    files = {}
    for path in (ROOT / "ctsa").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    below = {}
    for name, path in files.items():
        package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
        found = set()
        for node in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
                continue
            start = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*start, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:  # a module of a package, or what stands in the package itself
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner in files else origin)
        below[name] = found & files.keys() - {"ctsa"}
    graphlib.TopologicalSorter(below).prepare()  # its CycleError names the circle
    assert below["ctsa._backend._jax_march"] and len(below) > 300
