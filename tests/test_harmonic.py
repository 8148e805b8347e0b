"""Attention by harmonics: softmax in extended precision, its derivatives, and when it is not trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from programs import as_one
from sampling import sample

import ctsa
from ctsa.attention import calls, harmonic, series
from ctsa.results.base import as_numpy

N = 60


def tokens(kind, d, n=N):
    x = ctsa.random_tokens(n, d, seed=1)
    if kind == "clusters":
        x = x[np.arange(n) % 3] + 1e-3 * np.random.default_rng(0).normal(size=(n, d))
    if kind == "antipodal":
        x = np.concatenate([x[: n // 2], -x[: n // 2]])
    if kind == "poles":
        x[: 2 * d] = np.concatenate([np.eye(d), -np.eye(d)])
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def matrices(kind, d, seed=2):
    rng = np.random.default_rng(seed)
    a = {"identity": np.eye(d), "minus": -np.eye(d), "zero": np.zeros((d, d))}
    a["rank one"] = np.outer(*rng.normal(size=(2, d)))
    return a[kind] if kind in a else rng.normal(size=(d, d)) / np.sqrt(d)


def exact(x, a, v, beta, weights="softmax"):
    """Attention in extended precision."""
    x, a, v = (np.asarray(m, np.longdouble) for m in (x, a, v))
    s = beta * (x @ a.T) @ x.T
    e = np.exp(s - s.max(-1, keepdims=True)) if weights == "softmax" else np.exp(s)
    e = e / (e.sum(-1, keepdims=True) if weights == "softmax" else len(x))
    return (e @ (x @ v.T)).astype(float)


@pytest.fixture
def exactly(monkeypatch):
    """No way out: what is not trusted is nan."""
    monkeypatch.setattr(calls, "output_in_blocks", lambda weights, side: np.nan * side.v)


# ------------------------------------------------------------------------------------------------ values
@pytest.mark.parametrize(("face", "d", "where", "matrix"), sample([
    (name, d, *kind)
    for name in ("torch", "jax")
    for d in (2, 3)
    for kind in (
        *((where, "identity") for where in ("uniform", "clusters", "antipodal", "poles")), ("uniform", "minus"),
        ("poles", "zero"), ("uniform", "rank one"), ("clusters", "random"),
    )
], lambda name, *kind: name == "torch" or kind in ((2, "clusters", "random"), (3, "poles", "zero"))
), indirect=["face"])  # fmt: skip
def test_as_softmax_in_extended_precision(face, d, where, matrix):
    x, a, v = tokens(where, d), matrices(matrix, d), matrices("random", d, 5)
    for beta in (1e-3, 1.0, 6.0, 40.0) if face.name == "torch" else (6.0,):
        field = face.SelfAttention(query=a, value=v, beta=beta, how="harmonic")
        y = as_numpy(as_one(face, lambda z, field=field: field.drift(0.0, z))(face.array(x)))
        wanted = exact(x, a, v, beta)
        assert np.abs(y - wanted).max() <= 1e-12 * max(1.0, np.abs(v).max()), beta


@pytest.mark.parametrize(("face", "d", "beta"), sample([
    (name, *kind) for name in ("torch", "jax") for kind in ((2, 4.0), (2, 100.0), (3, 4.0), (3, 20.0))
], lambda name, *kind: kind in ((2, 4.0), (3, 20.0)) and (name == "torch" or kind == (2, 4.0))
), indirect=["face"])  # fmt: skip
def test_uniform_tokens_need_no_way_out(face, d, beta, exactly):
    x, field = ctsa.random_tokens(700, d, seed=3), face.SelfAttention(beta=beta, how="harmonic")
    y = as_numpy(as_one(face, lambda z: field.drift(0.0, z))(face.array(x)))
    assert np.abs(y - exact(x, np.eye(d), np.eye(d), beta)).max() < 1e-13


def test_what_is_not_trusted(face):
    """Keys far away from every query's direction: the sum is small, and is taken by blocks."""
    x = ctsa.random_tokens(400, 3, seed=1)
    x[:, 2] = np.abs(x[:, 2]) + 2
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    field = face.SelfAttention(query=-np.eye(3), beta=16.0, how="harmonic")
    z = face.array(x)
    heads = field.heads

    def trusted(z):
        found, total = series.sums(z, -16.0 * z, face.array(np.ones((400, 1))), series.degree(3, field.reach))
        return harmonic.trusted(found[:, 0], total, -16.0 * z, 400, field.reach)

    assert not bool(as_one(face, trusted)(z).any()) and heads.count == 1
    drift = as_one(face, lambda z: field.drift(0.0, z))
    y = as_numpy(drift(z))
    assert np.abs(y - exact(x, -np.eye(3), np.eye(3), 16.0)).max() < 1e-13
    longer = as_numpy(drift(face.array(1.5 * x)))  # off the sphere the series is another function
    assert np.abs(longer - exact(1.5 * x, -np.eye(3), np.eye(3), 16.0)).max() < 1e-13


def test_some_rows_with_all_their_scores(face, monkeypatch):
    """A few tokens look where nobody is: only they are taken with all their scores."""
    monkeypatch.setattr(calls, "_all", lambda heads, x: np.nan * x)
    monkeypatch.setattr(calls, "_all_tangent", lambda heads, each: np.nan * calls.backend(each[0]).xp.concatenate(
        [each[0][None], each[1]]))
    rng, turn = np.random.default_rng(0), np.diag([-1.0, -1.0, 1.0])
    x = rng.normal(size=(405, 3)) * 0.15 + [0.0, 0.0, 1.0]
    x[100:105] = rng.normal(size=(5, 3)) * 0.05 + [1.0, 0.0, 0.0]
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    dense, field = (face.SelfAttention(query=np.stack([turn, np.eye(3)]), value=np.stack([turn, turn]), beta=40.0, how=how)
                    for how in ("dense", "harmonic"))  # fmt: skip
    z, u = face.array(x), face.array(rng.normal(size=(2, 405, 3)))
    (first, (_, wanted)), (second, (_, found)) = (
        as_one(face, lambda z, u, f=f: (f.drift(0.0, z), f.drift_tangent(0.0, z, u)))(z, u) for f in (dense, field)
    )
    assert np.abs(as_numpy(first) - as_numpy(second)).max() < 1e-12
    assert np.abs(as_numpy(wanted) - as_numpy(found)).max() < 1e-12 * np.abs(as_numpy(wanted)).max()


@pytest.mark.parametrize(("face", "d"), sample([
    (name, d) for name in ("torch", "jax") for d in (2, 3)
], lambda name, d: name == "torch" or d == 2), indirect=["face"])  # fmt: skip
def test_chosen_for_many_tokens(face, d):
    """Runs of many tokens take harmonics by themselves, and say so."""
    x = ctsa.random_tokens(2100, d, seed=0)
    field = face.SelfAttention(beta=1.0) * 0.5 + face.Rotation(np.zeros((d, d)))
    with torch.no_grad():
        one, other = (ctsa.integrate(f, x, [0.0, 0.2], "euler", step=0.1)
                      for f in (field, face.SelfAttention(beta=1.0, how="chunked") * 0.5))  # fmt: skip
    assert np.abs(as_numpy(one.xs) - as_numpy(other.xs)).max() < 1e-12
    told = {name: value for name, value in one.stats.items() if name.startswith("attention")}
    assert told == dict(attention="harmonic", attention_degree=series.degree(d, 1.0), attention_error=4500 * 2.0**-52)
    assert other.stats["attention"] == "chunked"


def test_ways_of_any_field_are_told(face):
    """Also of one that another is made of; not under jit, where stats are part of what comes out."""
    x = ctsa.random_tokens(2048, 3, seed=0)
    with torch.no_grad():
        run = ctsa.integrate(face.SpeedRegulated(face.SelfAttention(), "post"), x, [0.0, 0.1], "euler", step=0.1)
    assert run.stats["attention"] == "chunked"
    if face.name == "jax":
        field = face.SelfAttention(how="chunked")
        traced = jax.jit(lambda z: ctsa.integrate(field, z, [0.0, 0.1], "euler", step=0.1))(jnp.asarray(x))
        assert "attention" not in traced.stats


def test_where_it_is_not_chosen(face):
    chosen = face.SelfAttention(beta=2.0)
    assert chosen.settled(4096, 3).how == "harmonic" and chosen.settled(4096, 3).settled(4096, 3).how == "harmonic"
    assert chosen.settled(1000, 3) is chosen and chosen.settled(4096, 4) is chosen
    for other in (
        face.SelfAttention(beta=100.0), face.SelfAttention(mask="causal"), face.SelfAttention(weights="sigmoid"),
        face.SelfAttention(geometry=ctsa.Euclidean()), face.SelfAttention(how="dense"), face.Oja(np.eye(3)),
        face.SelfAttention().rescaled(2.0), face.SelfAttention(how="chunked") + face.Oja(np.eye(3)),
    ):  # fmt: skip
        assert other.settled(4096, 3) is other
    single = np.float32([[2.0, 0.0], [0.0, 1.0]])
    assert face.SelfAttention(query=single, beta=np.float32(1.0)).settled(4096, 2).how == "auto"
    learned = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    assert ctsa.torch.SelfAttention(beta=learned).settled(4096, 3).beta is learned  # gradients reach it
    traced = jax.jit(lambda beta: float(ctsa.jax.SelfAttention(beta=beta).settled(4096, 3).how == "auto"))
    assert traced(2.0) == 1.0


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
def test_second_derivatives(weights):
    """In all directions, off the sphere too."""
    x = torch.as_tensor(tokens("poles", 3, 8))
    one, other = (
        torch.func.hessian(lambda z, f=f: (f.drift(0.0, z)[:2] ** 2).sum())(x)
        for f in (ctsa.torch.SelfAttention(beta=2.0, weights=weights, how=how) for how in ("dense", "harmonic"))
    )
    assert (one - other).abs().max() < 1e-11 * one.abs().max()


def test_parameters_that_have_grown_since(jax_face, torch_face):
    """The degree is that of when the field was made; queries beyond are found."""
    x = ctsa.random_tokens(500, 2, seed=1)
    field = torch_face.SelfAttention(beta=2.0, how="harmonic")
    with torch.no_grad():
        field.beta.fill_(30.0)
    assert np.abs(as_numpy(field.drift(0.0, torch.as_tensor(x))) - exact(x, np.eye(2), np.eye(2), 30.0)).max() < 1e-13
    import equinox as eqx

    field = eqx.tree_at(lambda f: f.beta, jax_face.SelfAttention(beta=2.0, how="harmonic"), jnp.asarray(30.0))
    assert np.abs(as_numpy(field.drift(0.0, jnp.asarray(x))) - exact(x, np.eye(2), np.eye(2), 30.0)).max() < 1e-13


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
def test_heads_and_batches(face, weights):
    rng = np.random.default_rng(4)
    kw = dict(query=rng.normal(size=(2, 4, 3)), key=rng.normal(size=(2, 4, 3)), value=rng.normal(size=(2, 3, 3)),
              beta=[0.5, 1.0], weights=weights)  # fmt: skip
    x, u = face.array(ctsa.random_tokens(N, 3, batch=(2, 2))), face.array(rng.normal(size=(3, 2, 2, N, 3)))
    a, b = (face.SelfAttention(**kw, how=how) for how in ("dense", "harmonic"))
    found = [
        as_one(face, lambda x, u, f=f: (f.drift(0.0, x), *f.drift_tangent(0.0, x, u)))(x, u) for f in (a, b)
    ]
    for one, other in zip(*found, strict=True):
        one, other = as_numpy(one), as_numpy(other)
        assert np.abs(one - other).max() <= 1e-12 * np.abs(one).max()


# ------------------------------------------------------------------------------------------------ derivatives
def loss(f, z):
    return (f.drift(0.0, z) ** 2).sum()


@pytest.mark.parametrize("d", sample([2, 3], lambda d: d == 3))
def test_derivatives_in_all_directions(d):
    """Closed form, forward and reverse mode, in x (also off the sphere), in beta and in the matrices."""
    x, a, v = tokens("poles", d), matrices("random", d), matrices("random", d, 5)
    u = np.random.default_rng(1).normal(size=(2, N, d))
    fields = [ctsa.jax.SelfAttention(query=a, value=v, beta=3.0, how=how) for how in ("dense", "harmonic")]
    tangent = jax.jit(lambda f, z, u: f.drift_tangent(0.0, z, u))
    (_, one), (_, other) = (tangent(f, jnp.asarray(x), jnp.asarray(u)) for f in fields)
    assert np.abs(one - other).max() < 1e-12 * np.abs(one).max()
    moved = jax.jit(lambda f, z, u: jax.jvp(lambda z: f.drift(0.0, z), (z,), (u,))[1])
    one, other = (moved(f, jnp.asarray(x), jnp.asarray(u[0])) for f in fields)
    assert np.abs(one - other).max() < 1e-12 * np.abs(one).max()
    one, other = (jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(f, jnp.asarray(x))) for f in fields)
    for p, q in zip(one, other, strict=True):
        assert np.abs(p - q).max() < 1e-11 * max(1.0, np.abs(p).max())


@pytest.mark.parametrize("d", [2, 3])
def test_gradients_in_torch(d):
    x, a, v, found = tokens("poles", d), matrices("random", d), matrices("random", d, 5), []
    for how in ("dense", "harmonic"):
        f, z = ctsa.torch.SelfAttention(query=a, value=v, beta=3.0, how=how), torch.tensor(x, requires_grad=True)
        loss(f, z).backward()
        found.append([z.grad, f.beta.grad, f.query.grad, f.value.grad])
    for p, q in zip(*found, strict=True):
        assert (p - q).abs().max() < 1e-11 * max(1.0, float(p.abs().max()))


def test_flows_and_spectra_agree(face):
    """The same flow, and the same exponents, as with all scores."""
    x, found = ctsa.random_tokens(40, 2, seed=5), []
    for how in ("dense", "harmonic"):
        field = face.SelfAttention(value=[[1.0, -1.0], [1.0, 1.0]], beta=2.0, how=how)
        spec = ctsa.lyapunov_spectrum(field, x, intervals=4, transient=2, count=2, solver="heun", atol=1e-3)
        found.append((spec.x, spec.exponents))
    assert np.abs(found[0][0] - found[1][0]).max() < 1e-11 and np.abs(found[0][1] - found[1][1]).max() < 1e-10


# ------------------------------------------------------------------------------------------------ degrees, bad input
@pytest.mark.parametrize("d, r, wanted", [
    (2, 1, 13), (2, 4, 21), (2, 16, 36), (2, 64, 66), (3, 1, 14), (3, 16, 37), (3, 64, 69),
])  # fmt: skip
def test_degrees(d, r, wanted):
    assert series.degree(d, r) == wanted + wanted % 2


@pytest.mark.parametrize("given, words", [
    (dict(mask="causal"), "there is a mask"), (dict(weights="sigmoid"), "not exponentials"),
    (dict(value=np.eye(5)), "5 components"), (dict(key_field=np.ones(3)), "key_field"),
    (dict(geometry=ctsa.Euclidean()), "not on ctsa.Sphere"), (dict(value=np.eye(4), geometry=ctsa.Sphere(2)), "Sphere"),
])  # fmt: skip
def test_where_it_does_not_go(face, given, words):
    with pytest.raises(ValueError, match=f"how='harmonic' does not go here: .*{words}"):
        face.SelfAttention(**given, how="harmonic")


def test_tokens_of_another_dimension(face):
    with pytest.raises(ValueError, match="tokens have 5 components: use how='chunked'"):
        face.SelfAttention(how="harmonic").drift(0.0, face.array(ctsa.random_tokens(4, 5)))


def test_many_tokens():
    """A hundred thousand on the circle, of which some rows are compared."""
    x = ctsa.random_tokens(100_000, 2, seed=1)
    field = ctsa.jax.SelfAttention(beta=4.0, how="harmonic")
    y = as_numpy(jax.jit(lambda z: field.drift(0.0, z))(jnp.asarray(x)))
    e = np.exp(4 * x[:50] @ x.T)
    assert np.abs(y[:50] - (e @ x) / e.sum(1, keepdims=True)).max() < 1e-13


@pytest.mark.parametrize("beta", [0.5, 16.0])
def test_growth_of_modes(beta):
    """Evenly spread tokens on the circle: mode k grows at ``k^2 I_k(beta) / (beta I_0(beta))`` (arXiv 2410.06833)."""
    n = 20_000
    angle = 2 * np.pi * np.arange(n) / n
    x, along = np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([-np.sin(angle), np.cos(angle)], 1)
    field = ctsa.jax.SelfAttention(beta=beta, how="harmonic")
    ks = np.arange(1, 6)
    u = np.sin(ks[:, None] * angle)[..., None] * along
    velocity, moved = jax.jit(lambda x, u: field.tangent(0.0, x, u))(jnp.asarray(x), jnp.asarray(u))
    rate = (np.asarray(moved) * u).sum((1, 2)) / (u * u).sum((1, 2))
    assert np.abs(np.asarray(velocity)).max() < 1e-13
    assert np.allclose(rate, ctsa.theory.uniform_growth_rate(ks, beta), rtol=1e-9, atol=1e-12)
