"""Attention a block of rows at a time: the numbers of the whole matrix, its derivatives, and nothing of its size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from programs import as_one
from sampling import mainly, sample

import ctsa
from ctsa.attention import calls, chunked
from ctsa.results.base import as_numpy

N, D = 37, 5
RNG = np.random.default_rng(0)
HEADED = dict(
    query=RNG.normal(size=(2, 3, D)), key=RNG.normal(size=(2, 3, D)), value=RNG.normal(size=(2, D, D)), beta=[1.0, 2.0],
    key_field=RNG.normal(size=D),
)  # fmt: skip
KINDS = {
    "plain": {}, "causal": dict(mask="causal"), "mask": dict(mask=RNG.uniform(0.1, 1, (N, N))), "heads": HEADED,
    "mask of heads": HEADED | dict(mask=RNG.uniform(0.1, 1, (2, N, N))), "l2": dict(weights="l2", query=np.eye(D)),
    "sigmoid": dict(weights="sigmoid"), "unnormalised": dict(weights="unnormalised"), "hardmax": dict(weights="hardmax"),
    "linear": dict(weights="linear"),
}  # fmt: skip


@pytest.fixture(params=[16, 64], ids=lambda rows: f"{rows} rows")
def rows(request, monkeypatch):
    """Blocks of few rows: several, with one that is filled up; and one of all."""
    monkeypatch.setattr(chunked, "LEAST", request.param)
    monkeypatch.setattr(chunked, "BLOCK", request.param)
    monkeypatch.setattr(chunked, "TOKENS", 4)
    return request.param


def close(a, b, size=1e-13):
    a, b = as_numpy(a), as_numpy(b)
    assert a.shape == b.shape and np.abs(a - b).max() <= size * max(1.0, np.abs(b).max())


FEW = list(KINDS)[::2]  # of those that JAX compiles one by one


def both_ways(face, fields, f, *arrays):
    """What f(field, *arrays) gives for each field."""
    return as_one(face, lambda *arrays: [f(field, *arrays) for field in fields])(*arrays)


def all_of(field, x, u):
    return field.drift(0.0, x), *field.drift_tangent(0.0, x, u)


# ------------------------------------------------------------------------------------------------ the same numbers
@pytest.mark.parametrize(
    ("face", "kind", "rows"),
    sample(itertools.product(["torch", "jax"], KINDS, [16, 64]),
           lambda name, kind, rows: name == "torch" or kind in (FEW if rows == 16 else FEW[:1])),
    indirect=["face", "rows"],
)
def test_as_the_whole_matrix(face, kind, rows):
    x = face.array(ctsa.random_tokens(N, D, batch=(2,)))
    u = face.array(np.random.default_rng(1).normal(size=(3, 2, N, D)))
    fields = [face.SelfAttention(**KINDS[kind], how=how) for how in ("dense", "chunked")]
    for a, b in zip(*both_ways(face, fields, all_of, x, u), strict=True):
        close(b, a)


@pytest.mark.parametrize("form", ["scores", "outer"])
def test_directions_in_parts(face, form, rows, monkeypatch):
    """Where not all directions fit beside a block, they are taken some at a time."""
    monkeypatch.setattr(calls, "cost", lambda how, *sizes: float(how != form))
    monkeypatch.setattr(chunked, "LARGEST", 2 * N * N)
    x, u = face.array(ctsa.random_tokens(N, D)), face.array(np.random.default_rng(1).normal(size=(7, N, D)))
    fields = [face.SelfAttention(**HEADED, how=how) for how in ("dense", "chunked")]
    for a, b in zip(*both_ways(face, fields, all_of, x, u), strict=True):
        close(b, a)


@pytest.mark.parametrize(
    ("kind", "rows"),
    sample(itertools.product(["causal", "heads", "sigmoid"], [16, 64]),
           lambda *case: case in {("causal", 64), ("heads", 16)}),
    indirect=["rows"],
)
def test_gradients(kind, rows):
    """In x and in every parameter; in JAX also forward over reverse."""
    x = ctsa.random_tokens(N, D)
    found = []
    for how in ("dense", "chunked"):
        field = ctsa.torch.SelfAttention(**KINDS[kind], how=how)
        z = torch.tensor(x, requires_grad=True)
        (field(0.0, z) ** 2).sum().backward()
        found.append([z.grad, *(p.grad for p in field.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)

    def loss(field, z):
        return (field(0.0, z) ** 2).sum()

    @jax.jit
    def derivatives(field, z):
        by_field = jax.grad(loss)(field, z)
        by_state, curved = jax.jvp(lambda z: jax.grad(loss, 1)(field, z), (z,), (jnp.ones_like(z),))
        return [*jax.tree.leaves(by_field), by_state, curved]

    found = [derivatives(ctsa.jax.SelfAttention(**KINDS[kind], how=how), jnp.asarray(x)) for how in ("dense", "chunked")]
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)


def test_torch_func_and_forward_mode(rows):
    x, u = torch.as_tensor(ctsa.random_tokens(N, D)), torch.as_tensor(np.random.default_rng(1).normal(size=(N, D)))
    whole, blocks = (ctsa.torch.SelfAttention(**HEADED, how=how) for how in ("dense", "chunked"))

    def forward(f):
        return torch.func.jvp(lambda z: f(0.0, z), (x,), (u,))[1].detach()

    def backward(f):
        return torch.func.vjp(lambda z: f(0.0, z), x)[1](u)[0].detach()

    close(forward(blocks), forward(whole), 1e-12)
    close(backward(blocks), backward(whole), 1e-12)


@pytest.mark.parametrize("weights", ["softmax", "l2"])
def test_projected_attention(face, weights, rows, monkeypatch):
    from ctsa.attention import Positions

    rng = np.random.default_rng(3)
    given = {name: rng.normal(size=(2, 4, D)) for name in ("query", "key", "value")}
    given["output"] = rng.normal(size=(2, D, 4))
    field = face.MultiHeadAttention(**given, positions=Positions.rotary(N, 4), weights=weights, mask="causal")
    x = face.array(ctsa.random_tokens(N, D, batch=(2,)))
    u = face.array(rng.normal(size=(3, 2, N, D)))
    whole = both_ways(face, [field], all_of, x, u)[0]
    monkeypatch.setattr(chunked, "FROM", 1)
    for a, b in zip(both_ways(face, [field], all_of, x, u)[0], whole, strict=True):
        close(a, b)


# ------------------------------------------------------------------------------------------------ memory, and the choice
def sizes(jaxpr):
    """The numbers of entries of all arrays in a program, and in those inside it."""
    for equation in jaxpr.eqns:
        for v in equation.outvars:
            yield int(np.prod(v.aval.shape)) if hasattr(v.aval, "shape") else 0
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                yield from sizes(getattr(inner, "jaxpr", inner) if not hasattr(inner, "eqns") else inner)


@pytest.mark.parametrize("what", ["value", "tangent", "gradient"])
def test_nothing_is_of_the_size_of_the_matrix(what):
    n = 2048
    x = jnp.asarray(ctsa.random_tokens(n, 3))
    largest = {}
    for how in ("dense", "chunked", "auto"):
        field = ctsa.jax.SelfAttention(beta=2.0, how=how)
        program = {
            "value": lambda z, f=field: f(0.0, z),
            "tangent": lambda z, f=field: f.tangent(0.0, z, jnp.stack([z, z])),
            "gradient": jax.grad(lambda z, f=field: (f(0.0, z) ** 2).sum()),
        }[what]
        largest[how] = max(sizes(jax.make_jaxpr(program)(x).jaxpr))
    assert largest["dense"] >= n * n and largest["chunked"] <= n * n / 4 and largest["auto"] == largest["chunked"]


def test_few_tokens_are_taken_at_once(face, monkeypatch):
    def refused(*_):
        raise AssertionError("blocks of rows for few tokens")

    monkeypatch.setattr(calls, "output_in_blocks", refused)
    face.SelfAttention().drift(0.0, face.array(ctsa.random_tokens(256, 3, batch=(40,))))


@mainly("torch")
def test_a_flow_of_many_tokens(face):
    """The flow is the same whichever way the velocity is taken."""
    x, ends = ctsa.random_tokens(1500, 3, seed=2), []
    with torch.no_grad():
        for how in ("dense", "auto"):
            ends.append(ctsa.integrate(face.SelfAttention(beta=3.0, how=how), x, [0.0, 0.2], atol=1e-8).xs[-1])
    close(*ends, 1e-12)


def test_a_matrix_that_does_not_fit_is_no_obstacle(torch_face, monkeypatch):
    from ctsa import checks

    monkeypatch.setattr(checks, "MEMORY", 2**27)  # 128 MiB; the scores of 6000 tokens are 288
    x = ctsa.random_tokens(6000, 2)
    with pytest.raises(ValueError, match="attention among 6000 tokens"):
        ctsa.integrate(torch_face.SelfAttention(how="dense"), x, [0.0, 1e-3])
    checks.fit_field(torch_face.SelfAttention(), x.shape)
    checks.fit_field(torch_face.SelfAttention(how="chunked"), x.shape)


def test_weights_that_need_all_rows(face):
    with pytest.raises(ValueError, match="how='chunked' takes rows by themselves, but weights='sinkhorn'"):
        face.SelfAttention(weights="sinkhorn", how="chunked")
    with pytest.raises(ValueError, match="chunked"):
        face.SelfAttention(how="blocks")


def test_what_cannot_fit_is_said_before_it_starts(face):
    field, x = face.SelfAttention(how="dense"), face.array(np.broadcast_to([1.0, 0.0], (300_000, 2)))
    with pytest.raises(ValueError, match="all scores of 300000 tokens would need .* GiB.*: use how='chunked'"):
        field.drift(0.0, x)
    with pytest.raises(ValueError, match="attention among 300000 tokens, with a score for each pair, would .*how=.chunked"):
        ctsa.integrate(field, x, [0.0, 1.0])
    with pytest.raises(ValueError, match="100001 outputs of 300000 tokens would need"):
        ctsa.integrate(face.SelfAttention(how="chunked"), x, np.linspace(0, 1, 100_001))
