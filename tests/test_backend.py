"""The names of the frameworks: as many as the docstring says, the same in both, and none that nobody uses."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import ctsa._backend
from ctsa._backend import load, modules

LIBRARY = Path(ctsa._backend.__file__).parent.parent
CALLS = {"backend": "arrays", "load": "arrays", "modules": "modules"}  # what returns a module of names
HELD = {"be", "_be"}  # what such a module is called that has been kept


def called(node):
    return CALLS.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def used(kind):
    """The names that the library takes from the modules of a kind."""
    names = set()
    for path in LIBRARY.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loads = "_backend import" in path.read_text(encoding="utf-8") or path.parent.name == "_backend"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not loads:
                continue
            of = node.value
            held = getattr(of, "id", getattr(of, "attr", None)) in HELD
            if called(of) == kind or (held and kind == "arrays"):
                names.add(node.attr)
    return names


@pytest.mark.parametrize("kind, load", [("arrays", load), ("modules", modules)])
def test_names_are_those_that_are_used(kind, load):
    names = load("torch").__all__
    assert load("jax").__all__ == names == sorted(names) and set(names) == used(kind)
    for home in ("torch", "jax"):
        assert all(hasattr(load(home), name) for name in names)


def test_numpy_has_some_of_them():
    assert set(load("numpy").__all__) < set(load("torch").__all__)


def test_the_docstring_counts_them():
    arrays, of_modules = re.findall(r"the (\d+) names", ctsa._backend.__doc__)
    assert (int(arrays), int(of_modules)) == (len(load("torch").__all__), len(modules("torch").__all__))


def test_frameworks_are_known_by_name():
    with pytest.raises(ValueError, match="expected 'torch', 'jax' or 'numpy'"):
        load("tensorflow")
    with pytest.raises(ValueError, match="expected 'torch' or 'jax'"):
        modules("numpy")


def test_public_functions_say_the_shapes_of_their_arrays():
    import inspect
    import typing

    import ctsa

    silent = []
    for name in dir(ctsa):
        function = getattr(ctsa, name)
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        for p in inspect.signature(inspect.unwrap(function)).parameters.values():
            if p.name in ("x", "x0", "u", "frame", "ts") and "Annotated" not in str(p.annotation):
                silent.append(f"{name}({p.name}: {p.annotation})")
    assert not silent and typing.get_args(inspect.signature(inspect.unwrap(ctsa.gram)).parameters["x"].annotation)


def test_small_programs_are_compiled_quickly(monkeypatch):
    """Only small ones, only as programs of their own, and only where XLA has the option."""
    jax, compile_ = pytest.importorskip("jax"), import_module("ctsa._backend._jax_compile")
    taken = []

    def filter_jit(function, **options):
        def called(*args):
            taken.append(bool(options))
            return function(*args)

        return called

    monkeypatch.setattr(compile_.eqx, "filter_jit", filter_jit)
    double = compile_.compiled(lambda x: 2 * x)
    for n in (100, 256):
        assert (double(jax.numpy.ones((n, 3))) == 2).all()
    jax.jit(double)(jax.numpy.ones((4, 3)))
    jax.grad(lambda x: double(x).sum())(jax.numpy.ones((4, 3)))
    on_cpu = jax.default_backend() == "cpu"
    assert taken == [on_cpu, False, False, False]
    monkeypatch.setattr(compile_, "_QUICK", {"xla_no_such_option": True})
    assert not compile_._offered.__wrapped__()
