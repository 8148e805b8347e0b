"""Tokens with masses: a state of q tokens is that of as many tokens, repeated."""

import functools

import jax
import numpy as np
import pytest
import torch
from conftest import FACES, close
from hypothesis import given, strategies as st
from programs import as_one
from sampling import mainly, sample

import ctsa
from ctsa._backend import framework
from ctsa.attention import WEIGHTS
from ctsa.results.base import as_numpy

RNG = np.random.default_rng(1)
Q = 5
MASSES = np.array([1, 3, 2, 1, 4])
LABELS = np.repeat(np.arange(Q), MASSES)
NAMES = sorted(set(WEIGHTS) - {"sinkhorn"})
SOME = {"dense": ("hardmax", "linear", "softmax"), "chunked": ("l2", "sigmoid", "softmax", "unnormalised")}


def pair(face, d=3, **more):
    """The same attention among all tokens, and among as many as there are places."""
    arrays = dict(
        query=RNG.normal(size=(2, 2, d)), key=RNG.normal(size=(2, 2, d)), value=RNG.normal(size=(2, d, d)), beta=[0.7, 1.5]
    )
    arrays |= more
    return face.SelfAttention(**arrays), face.SelfAttention(**arrays, masses=MASSES)


def agree(many, few, x, tol=1e-12, euclidean=False):
    """Value, tangent, Jacobian and its compressed form of few tokens are those of all, summed over copies."""
    every = x[LABELS]
    first = np.flatnonzero(np.diff(LABELS, prepend=-1))
    u = RNG.normal(size=(3, *x.shape))
    e = RNG.normal(size=(2, Q, d := x.shape[-1], 2))
    one = functools.partial(as_one, FACES[framework(few_like(few, x))])

    def of(field):
        return lambda x, u: (field.drift(0.0, x), field.tangent(0.0, x, u)[1], field.drift_jacobian(0.0, x)[1])

    found = one(of(few))(*(few_like(few, a) for a in (x, u)))
    wanted = [as_numpy(a) for a in one(of(many))(*(few_like(few, a) for a in (every, u[:, LABELS])))]
    close(found[0], wanted[0][first], tol)
    close(found[1], wanted[1][:, first], tol)
    j = wanted[2].reshape(n := len(every), d, n, d)[first]
    j = np.stack([j[:, :, LABELS == k].sum(2) for k in range(Q)], 2)
    close(found[2], j.reshape(Q * d, Q * d), tol)
    _, full, own = one(lambda x, *e: few.drift_compressed(0.0, x, *e))(*(few_like(few, a) for a in (x, *e)))
    full = as_numpy(full) if own is None else as_numpy(full) + np.eye(Q)[:, None, :, None] * as_numpy(own)[:, :, None]
    close(full, np.einsum("iar,iajb,jbs->irjs", e[0], j, e[1]), tol)


def few_like(field, a):
    beta = getattr(field, "beta", None)
    beta = field.value if beta is None else beta
    return torch.as_tensor(a) if isinstance(beta, torch.Tensor) else jax.numpy.asarray(a)


@pytest.mark.parametrize(
    ("how", "name"),
    sample([(how, name) for how in ("dense", "chunked") for name in NAMES], lambda how, name: name in SOME[how]),
)
def test_masses_are_repeated_tokens(face, name, how):
    if face.name == "jax" and how == "chunked" and name != "sigmoid":
        how = "auto"  # compiling is most of the time
    agree(*pair(face, weights=name, how=how), ctsa.random_tokens(Q, 3, seed=2))


@pytest.mark.parametrize("name", ["softmax", "linear"])
@pytest.mark.parametrize("how", ["dense", "chunked"])
def test_under_masks_and_key_fields(torch_face, name, how):
    mask = RNG.uniform(0.1, 2.0, size=(2, Q, Q))
    r = RNG.normal(size=(2, 3))
    few = torch_face.SelfAttention(beta=2.0, mask=mask, key_field=r, weights=name, how=how, masses=MASSES)
    many = torch_face.SelfAttention(beta=2.0, mask=mask[:, LABELS][:, :, LABELS], key_field=r, weights=name, how=how)
    agree(many, few, ctsa.random_tokens(Q, 3, seed=2))


@pytest.mark.parametrize("how", ["dense", "chunked"])
def test_a_mask_that_weighs_columns_is_masses(torch_face, how):
    x = torch.as_tensor(ctsa.random_tokens(Q, 3, seed=3))
    causal = torch_face.SelfAttention(beta=2.0, mask="causal", masses=MASSES, how=how)
    written = torch_face.SelfAttention(beta=2.0, mask=np.tril(np.ones((Q, Q))) * MASSES, how=how)
    close(causal(0.0, x), written(0.0, x), 1e-14)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", ["softmax", "unnormalised"])
def test_by_harmonics(torch_face, d, name):
    n = 40
    masses, x = RNG.uniform(0.0, 2.0, n), torch.as_tensor(ctsa.random_tokens(n, d, seed=4))
    given = dict(beta=2.0, weights=name, masses=masses)
    fast, plain = (torch_face.SelfAttention(**given, how=how) for how in ("harmonic", "dense"))
    u = torch.as_tensor(RNG.normal(size=(2, n, d)))
    close(fast.drift(0.0, x), plain.drift(0.0, x), 1e-12)
    close(fast.tangent(0.0, x, u)[1], plain.tangent(0.0, x, u)[1], 1e-12)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(any), st.sampled_from(NAMES), st.integers(0, 99))
def test_any_masses(masses, name, seed):
    labels, q = np.repeat(np.arange(len(masses)), masses), len(masses)
    x = torch.as_tensor(ctsa.random_tokens(q, 3, seed=seed))
    few = ctsa.torch.SelfAttention(beta=3.0, weights=name, masses=masses)
    many = ctsa.torch.SelfAttention(beta=3.0, weights=name)
    first = np.unique(labels, return_index=True)
    close(few(0.0, x)[first[0]], many(0.0, x[labels])[first[1]], 1e-12)


def test_oja_is_a_weighted_mean(face):
    v = RNG.normal(size=(3, 3))
    agree(face.Oja(v), face.Oja(v, masses=MASSES), ctsa.random_tokens(Q, 3, seed=2))


def test_symmetric_attention(face):
    key = RNG.normal(size=(3, 3))
    many, few = face.SymmetricAttention(key=key), face.SymmetricAttention(key=key, masses=MASSES)
    agree(many, few, ctsa.random_tokens(Q, 3, seed=2))


@pytest.mark.parametrize("name", ["softmax", "l2", "sigmoid"])
def test_multi_head_attention(torch_face, name):
    w = RNG.normal(size=(3, 2, 2, 3))
    given = dict(output=w[0].swapaxes(-1, -2), beta=[0.7, 1.5], key_bias=RNG.normal(size=(2, 2)), weights=name)
    many = torch_face.MultiHeadAttention(*w, **given)
    agree(many, torch_face.MultiHeadAttention(*w, **given, masses=MASSES), ctsa.random_tokens(Q, 3, seed=2))
    assert many.merged(LABELS).masses.tolist() == MASSES.tolist()


# ------------------------------------------------------------------------------------------- what else sees them
def test_gradients_do_not_care_how_tokens_are_counted(torch_face):
    x = torch.as_tensor(ctsa.random_tokens(Q, 3, seed=2))
    slopes = []
    for field, state, weights in ((torch_face.SelfAttention(beta=2.0, masses=MASSES), x, MASSES),
                                  (torch_face.SelfAttention(beta=2.0), x[LABELS], np.ones(len(LABELS)))):  # fmt: skip
        ((field(0.0, state) ** 2).sum(-1) * torch.as_tensor(weights)).sum().backward()
        slopes.append(field.beta.grad)
    close(*slopes, 1e-12)


@mainly("torch")
def test_energy_and_entropy(face):
    x = ctsa.random_tokens(Q, 3, seed=2)
    few, many = face.SelfAttention(beta=2.0, masses=MASSES), face.SelfAttention(beta=2.0)
    close(ctsa.energy(few, x), ctsa.energy(many, x[LABELS]), 1e-12)
    close(ctsa.pseudo_energy(few, x), ctsa.pseudo_energy(many, x[LABELS]), 1e-12)
    close(ctsa.entropy(few, x), as_numpy(ctsa.entropy(many, x[LABELS]))[np.flatnonzero(np.diff(LABELS, prepend=-1))], 1e-12)


@mainly("torch")
def test_contribution_counts_repeated_tokens(face):
    """Few tokens have the eigenvectors of many in which repeated ones are equal."""
    many, few = pair(face)
    x = ctsa.random_tokens(Q, 3, seed=2)
    n, d = LABELS.size, 3
    j = as_numpy(many.drift_jacobian(0.0, few_like(many, x[LABELS]))[1])
    equal = (LABELS[:, None] == np.arange(Q)) / np.sqrt(MASSES)  # an isometry into states whose repeated tokens are equal
    into = np.kron(equal, np.eye(d))
    values, vectors = np.linalg.eigh(into.T @ (j + j.T) @ into)
    state = (np.sqrt(MASSES)[:, None] * x).ravel()
    assert abs((state**2).sum() - n) < 1e-12
    for count in (1, 4):
        wanted = ((state @ vectors[:, -count:]) ** 2).sum() / n
        for dense in (True, False):
            assert abs(ctsa.contribution_index(few, x, count=count, dense=dense) - wanted) < 1e-9
    even, alone = face.SelfAttention(beta=2.0, masses=np.ones(Q)), face.SelfAttention(beta=2.0)
    assert abs(ctsa.contribution_index(even, x, 0.2) - ctsa.contribution_index(alone, x, 0.2)) < 1e-12


def test_only_tokens_of_one_mass_may_be_exchanged(torch_face):
    found = ctsa.symmetry.symmetry_of(torch_face.SelfAttention(beta=2.0, masses=[1, 2, 1, 2]), 4, 3)
    assert found.classes.tolist() == [0, 1, 0, 1]


def test_they_are_kept(torch_face, jax_face):
    field = torch_face.SelfAttention(beta=2.0, masses=MASSES) + 2.0 * torch_face.Oja(np.eye(3), masses=MASSES)
    other = ctsa.jax.from_torch(field)
    close(other.fields[0].masses, MASSES)
    close(other.fields[1].field.masses, MASSES)
    assert "fields.0.masses" in field.state_dict()
    assert not any("masses" in name for name, _ in field.named_parameters())


def test_merged(face):
    masses = face.SelfAttention(beta=2.0).merged([1, 0, 1], 4).masses
    assert face.numpy(masses).tolist() == [1.0, 2.0, 0.0, 0.0]
    field = face.SelfAttention(masses=[1, 2, 3]) + 2.0 * face.Oja(np.eye(2)) + face.Rotation(frequencies=[1.0])
    few = field.rescaled(2.0).merged([0, 1, 0])
    x = face.array(ctsa.random_tokens(2, 2, seed=0))
    close(face.numpy(few(0.0, x))[[0, 1, 0]], field.rescaled(2.0)(0.0, x[np.array([0, 1, 0])]), 1e-14)


@pytest.mark.parametrize("make, match", [
    (lambda f: f.SelfAttention(mask="causal"), "mask"), (lambda f: f.SelfAttention(mask=np.ones((2, 2))), "mask"),
    (lambda f: f.SelfAttention() + f.Injection(np.ones((2, 3))), "parameters for each"),
    (lambda f: f.Rotation(omega=np.zeros((2, 3, 3))), "parameters for each"),
    (lambda f: f.SelfAttention() + (lambda t, x: 0 * x), "bare callable"),
    (lambda f: f.EnergyAttention(), "does not say what becomes"), (lambda f: f.MultiHeadAttention(mask="causal"), "mask"),
])  # fmt: skip
def test_what_does_not_merge(face, make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make(face).merged([0, 0])


@pytest.mark.parametrize("more, match", [
    (dict(masses=[1.0, -1.0]), "non-negative"), (dict(masses=[0.0, 0.0]), "all zero"), (dict(masses=[[1.0]]), "masses"),
    (dict(masses=[1.0, np.nan]), "masses"), (dict(masses="two"), "masses"),
    (dict(masses=[1, 1, 1], mask=np.eye(2)), "mask"),
    (dict(masses=[1, 1], weights="sinkhorn"), "sinkhorn"), (dict(masses=[0, 1], mask="causal"), "row 0"),
    (dict(masses=[1, 0], mask=np.eye(2)), "row 1"),
])  # fmt: skip
def test_wrong_masses(face, more, match):
    with pytest.raises((ValueError, TypeError), match=match):
        face.SelfAttention(**more)
    if more.keys() == {"masses"}:
        with pytest.raises((ValueError, TypeError), match=match):
            face.Oja(np.eye(2), **more)


def test_masses_have_no_gradient(torch_face):
    with pytest.raises(TypeError, match="masses requires a gradient"):
        torch_face.SelfAttention(masses=torch.ones(2, requires_grad=True))


def test_masses_must_fit_the_tokens(face):
    with pytest.raises(ValueError, match="masses has shape"):
        ctsa.integrate(face.SelfAttention(masses=[1, 2]), ctsa.random_tokens(3, 2), [0.0, 1.0])
    for labels in ([0.5, 1.0], [[0]], [-1, 0], []):
        with pytest.raises(ValueError, match="labels"):
            face.SelfAttention().merged(labels)
    with pytest.raises(ValueError, match="size"):
        face.SelfAttention().merged([0, 3], 2)
    with pytest.raises(ValueError, match="one a token"):
        face.SelfAttention(masses=[1, 2]).merged([0, 0, 1])
