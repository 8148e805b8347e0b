"""A checkpoint and ``resume=`` continue their own run only, whatever the system is made of and however deep it lies."""

import functools
import subprocess
import sys
import textwrap
import threading

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import ctsa
from ctsa.results.identity import Identity

FLAT = ctsa.Euclidean()
X = np.array([[0.3, -0.2], [0.1, 0.4]])


def text(part):
    identity = Identity(part=part)
    assert not identity.unseen, identity.unseen
    return str(identity)


def spectrum(system, x0, intervals=10, **options):
    options = dict(transient=0, geometry=FLAT) | options
    return ctsa.lyapunov_spectrum(system, x0, intervals=intervals, **options)


def linear(a):
    module = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(a))
    return module


class Inner(torch.nn.Module):
    def __init__(self, a):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Sequential(linear(a))])

    def forward(self, x):
        return self.blocks[0](x)


class Holder:
    """No module: a plain object that keeps its weights in a dictionary in a list."""

    def __init__(self, a):
        self.kept = [{"weight": torch.as_tensor(a)}]

    def __call__(self, x):
        return x @ self.kept[0]["weight"].mT

    def method(self, x):
        return self(x)


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, a):
        self.weight = torch.as_tensor(a)

    def __call__(self, x):
        return x @ self.weight.mT


def closure(a):
    weight = torch.as_tensor(a)
    return lambda x: x @ weight.mT


def nested_closure(a):
    inner = closure(a)
    return lambda x: inner(x)


def default(a):
    weight = torch.as_tensor(a)

    def f(x, weight=weight):
        return x @ weight.mT

    return f


def partial(a):
    return functools.partial(lambda weight, x: x @ weight.mT, torch.as_tensor(a))


@functools.cache
def decorated_of(a):
    @functools.wraps(closure)
    def outer(x):
        return inner(x)

    inner = closure(np.array(a))
    return outer


TORCH = {
    "module": linear, "deep module": Inner, "wrapped module": lambda a: ctsa.WrappedLayer(Inner(a), geometry=FLAT),
    "face's wrapped": lambda a: ctsa.torch.WrappedLayer(Inner(a), geometry=FLAT), "object": Holder, "slots": Slotted,
    "method": lambda a: Holder(a).method, "closure": closure, "nested closure": nested_closure, "default": default,
    "partial": partial, "module in a closure": lambda a: (lambda m: lambda x: m(x))(Inner(a)),
    "wraps": lambda a: decorated_of(tuple(map(tuple, a))),
    "field in a plain layer": lambda a: ctsa.EulerLayer(ctsa.torch.Oja(a, geometry=FLAT), 0.1),
    "own field": lambda a: ctsa.EulerLayer(lambda t, x: x @ torch.as_tensor(a).mT, 0.1, geometry=FLAT),
}  # fmt: skip
A, B = np.array([[0.9, 0.1], [0.0, 0.5]]), np.array([[0.9, 0.1], [0.0, 0.4]])


@pytest.mark.parametrize("kind", TORCH)
def test_other_weights_are_another_run(kind, tmp_path):
    x0 = torch.as_tensor(X)
    make, path = TORCH[kind], tmp_path / "run.npz"
    with torch.no_grad():
        first = spectrum(make(A), x0, checkpoint=path)
        for options in (dict(checkpoint=path), dict(resume=first)):
            with pytest.raises(ValueError, match="belongs to another run, with another system"):
                spectrum(make(B), x0, **options)
        whole = spectrum(make(A), x0, intervals=20)
        again = spectrum(make(A), x0, resume=first)  # an equal system made anew
        longer = spectrum(make(A), x0, intervals=20, checkpoint=path)
    assert np.array_equal(again.history, whole.history) and np.array_equal(longer.history, whole.history)
    assert again.identity == whole.identity == first.identity


class Module(eqx.Module):
    layers: list
    name: str = eqx.field(static=True, default="a")

    def __call__(self, x):
        return x @ self.layers[0].weight.T


def eqx_module(a, **options):
    inner = eqx.nn.Linear(2, 2, use_bias=False, key=jax.random.key(0))
    return Module([eqx.tree_at(lambda m: m.weight, inner, jax.numpy.asarray(a))], **options)


def jax_closure(a):
    weight = jax.numpy.asarray(a)
    return lambda x: x @ weight.T


JAX = {
    "module": eqx_module, "wrapped module": lambda a: ctsa.jax.WrappedLayer(eqx_module(a), geometry=FLAT),
    "closure": jax_closure, "jit": lambda a: jax.jit(jax_closure(a)), "filter_jit": lambda a: eqx.filter_jit(eqx_module(a)),
    "partial": lambda a: jax.tree_util.Partial(lambda w, x: x @ w.T, jax.numpy.asarray(a)),
    "eqx partial": lambda a: eqx.Partial(lambda w, x: x @ w.T, jax.numpy.asarray(a)),
}  # fmt: skip


@pytest.mark.parametrize("kind", JAX)
def test_what_jax_systems_are_made_of(kind):
    assert text(JAX[kind](A)) == text(JAX[kind](A)) != text(JAX[kind](B))


def test_static_fields_count():
    assert text(eqx_module(A)) != text(eqx_module(A, name="b"))


def test_jax_runs_refuse_and_resume(tmp_path):
    x0, path = jax.numpy.asarray(X), tmp_path / "run.npz"
    first = spectrum(jax_closure(A), x0, checkpoint=path)
    for options in (dict(checkpoint=path), dict(resume=first)):
        with pytest.raises(ValueError, match="belongs to another run, with another system"):
            spectrum(jax_closure(B), x0, **options)
    again = spectrum(jax_closure(A), x0, resume=first)
    assert np.array_equal(again.history, spectrum(jax_closure(A), x0, intervals=20).history)


# ------------------------------------------------------------------------------------------------ code, constants, names
RATE = 0.5
TABLE = {"rate": [0.5]}


def test_code_constants_and_globals_count(monkeypatch):
    assert text(lambda x: 0.5 * x) == text(lambda x: 0.5 * x) != text(lambda x: 0.6 * x)
    assert text(lambda x: 0.5 * x) != text(lambda x: 0.5 / x)
    assert text(lambda x: np.sin(x)) != text(lambda x: np.cos(x))

    def named(x):
        return RATE * x + TABLE["rate"][0] * helper(x)

    before = text(named)
    monkeypatch.setitem(globals(), "RATE", 0.25)
    after = text(named)
    assert before != after
    monkeypatch.setitem(TABLE, "rate", [0.75])
    assert text(named) != after
    last = text(named)
    monkeypatch.setitem(globals(), "helper", lambda x: -x)
    assert text(named) != last


def helper(x):
    return x


def test_methods_of_own_classes_count():
    class One:
        def __call__(self, x):
            return 2 * x

    first = text(One())

    class One:
        def __call__(self, x):
            return 3 * x

    assert text(One()) != first


def test_containers_and_cycles():
    loop: list = [1, {"a": np.arange(3)}]
    loop.append(loop)
    other: list = [1, {"a": np.arange(3) + 1}]
    other.append(other)
    assert text(loop) != text(other) and text({1, 2}) == text({2, 1}) != text({1, 3})
    assert text(np.array([1, 2])) != text(np.array([1.0, 2.0])) != text(np.array([[1.0, 2.0]]))
    assert text((1, 2)) != text([1, 2]) and text(True) != text(1) != text(1.0)
    assert text(np.float64(0.1)) != text(np.float32(0.1))
    assert text(torch.zeros(2, dtype=torch.bfloat16)) != text(torch.ones(2, dtype=torch.bfloat16))


def test_hooks_are_not_told_apart_by_their_number():
    def hooked():
        module = Inner(A)
        module.register_forward_hook(double)
        return module

    assert text(hooked()) == text(hooked()) != text(Inner(A))


def double(module, given, out):
    return 2 * out


def test_training_mode_counts():
    assert text(Inner(A).eval()) != text(Inner(A).train())


def test_the_same_in_another_process():
    code = textwrap.dedent("""
        import numpy as np, torch
        from ctsa.results.identity import Identity
        import ctsa.torch
        K = {"b": 1.0, "a": {2.0, "x"}}
        def f(x, scale=2.0):
            return scale * x + K["b"]
        block = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
        for p in block.parameters():
            torch.nn.init.constant_(p, 0.25)
        print(Identity(a=f, b=ctsa.torch.SelfAttention(beta=2.0) + f, c=block))
    """)
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


# -------------------------------------------------------------------------------------------- start, settings, refusals
@pytest.mark.parametrize(
    "change, named",
    [
        (dict(x0=X + 0.1), "start"), (dict(seed=1), "start"), (dict(atol=1e-6), "settings"), (dict(t0=1.0), "settings"),
        (dict(solver="dopri8"), "settings"), (dict(transient=2), "settings"),
    ],
    ids=lambda c: next(iter(c)) if isinstance(c, dict) else c,
)  # fmt: skip
def test_resume_wants_the_same_start_and_settings(face, change, named):
    field = face.Oja(A, geometry=FLAT)
    first = spectrum(field, X, intervals=3)
    with pytest.raises(ValueError, match=f"resume belongs to another run, with another {named}"):
        spectrum(field, **(dict(x0=X, resume=first) | change))
    spectrum(field, X, intervals=1, resume=first, max_steps=5_000)  # which only ends a run


def test_resume_of_another_field_is_refused(face):
    x0, value = ctsa.random_tokens(4, 3), np.diag([1.0, 0.5, 0.2])
    first = ctsa.lyapunov_spectrum(face.SelfAttention(value=value), x0, intervals=5)
    with pytest.raises(ValueError, match="resume belongs to another run, with another system"):
        ctsa.lyapunov_spectrum(face.SelfAttention(value=10 * value), x0, intervals=5, resume=first)


def test_a_saved_spectrum_resumes(tmp_path, torch_face):
    field = torch_face.Oja(A, geometry=FLAT)
    first = ctsa.load(spectrum(field, X, intervals=3).save(tmp_path / "first"))
    assert np.array_equal(spectrum(field, X, intervals=3, resume=first).history, spectrum(field, X, intervals=6).history)


def test_a_spectrum_without_identity(torch_face):
    """Of a member of an ensemble, of an older file, or made by hand."""
    field = torch_face.Oja(A, geometry=FLAT)
    first = spectrum(field, np.stack([X, 2 * X]), intervals=3)
    with pytest.raises(ValueError, match="resume does not say which run it comes from.*allow_unverified=True"):
        spectrum(field, X, resume=first.member(0))
    spectrum(field, X, intervals=1, resume=first.member(0), allow_unverified=True)


def test_resume_wants_a_spectrum(torch_face):
    with pytest.raises(TypeError, match="resume must be a LyapunovSpectrum, got ndarray"):
        spectrum(torch_face.Oja(A, geometry=FLAT), X, resume=X)


class Opaque(Holder):
    def __init__(self, a):
        super().__init__(a)
        self.lock = threading.Lock()


def test_what_cannot_be_seen_is_refused(tmp_path):
    system, x0, path = Opaque(A), torch.as_tensor(X), tmp_path / "run.npz"
    first = spectrum(system, x0)  # nobody asked to continue it
    for options in (dict(checkpoint=path), dict(resume=first)):
        with pytest.raises(ValueError, match="system.lock.*_thread.lock.*allow_unverified=True"):
            spectrum(system, x0, **options)
        got = spectrum(system, x0, intervals=5, allow_unverified=True, **options)
    assert len(got.history) == 15
    with pytest.raises(ValueError, match="another system"):  # what can be seen is still looked at
        spectrum(Opaque(B), x0, resume=first, allow_unverified=True)


def test_basins_know_their_field(tmp_path):
    def field(a):
        return closure_field(torch.as_tensor(a))

    starts, path = torch.as_tensor(np.stack([X, -X, 3 * X])), tmp_path / "run.npz"
    options = dict(geometry=FLAT, checkpoint=path, duration=30.0)
    first = ctsa.basins(field(-A), starts, **options)
    assert ctsa.basins(field(-A), starts, **options).counts() == first.counts()
    with pytest.raises(ValueError, match="belongs to another run, with another field"):
        ctsa.basins(field(-B), starts, **options)


def closure_field(weight):
    return lambda t, x: x @ weight.mT
