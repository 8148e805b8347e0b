"""Observables on NumPy, PyTorch and JAX arrays: definitions, exact values, the gradient identity of the energy."""

import math

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from programs import as_one
from reference import HEADS, D, N, masks, parameters
from sampling import sample

import ctsa


@pytest.fixture(params=["numpy", "torch", "jax"])
def array(request):
    """Make an array of each library from NumPy."""
    return np.array if request.param == "numpy" else request.getfixturevalue(f"{request.param}_face").array


@pytest.fixture
def x():
    return ctsa.random_tokens(N, D, seed=1, batch=(2,))


# ----------------------------------------------------------------------------------------------------------------- gram
def test_gram(array, x, close):
    close(ctsa.gram(array(x)), np.einsum("bia,bja->bij", x, x), 1e-15)


# --------------------------------------------------------------------------------------------------------------- energy
def test_energy_is_its_definition(face, x, close):
    p, beta = parameters(0), 0.7
    terms = [[math.exp(beta * (p["query"] @ a) @ (p["key"] @ b)) for a in sample for b in sample] for sample in x]
    expected = np.array([sum(row) / (2 * beta) for row in terms])
    for weights in ("softmax", "unnormalised"):
        found = ctsa.energy(face.SelfAttention(**p, beta=beta, weights=weights), face.array(x))
        close(found, expected, 1e-13)
    total = face.SelfAttention(**p, beta=beta) + face.Rotation(frequencies=[1.0, 2.0])
    close(ctsa.energy(total, face.array(x)), expected, 1e-13)


def test_energy_adds_heads(face, x, close):
    p, beta = parameters(1, HEADS), np.array([0.5, 1.2])
    single = [
        ctsa.energy(face.SelfAttention(p["query"][h], p["key"][h], beta=beta[h]), face.array(x)) for h in range(HEADS)
    ]
    close(ctsa.energy(face.SelfAttention(**p, beta=beta), face.array(x)), sum(map(face.numpy, single)), 1e-13)
    # Heads that differ only in their values share their scores, and each counts.
    one, shared = (face.SelfAttention(value=v, beta=2.0) for v in (None, p["value"]))
    close(ctsa.energy(shared, face.array(x)), 2 * ctsa.energy(one, face.array(x)), 1e-14)


def energy_gradient(face, field, x):
    if face.name == "torch":
        x = face.array(x).requires_grad_()
        ctsa.energy(field, x).sum().backward()
        return x.grad.numpy()
    return np.asarray(jax.jit(jax.grad(lambda y: ctsa.energy(field, y).sum()))(face.array(x)))


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_energy_rate(face, x, close, beta):
    """A = V symmetric: dE/dt = sum_i Z_i |x_i'|^2 under softmax, and n sum_i |x_i'|^2 unnormalised."""
    w = np.random.default_rng(2).normal(size=(D, D))
    v = w + w.T
    z = np.exp(beta * np.einsum("bia,ca,bjc->bij", x, v, x)).sum(-1)
    for weights, factor in (("softmax", z), ("unnormalised", N)):
        field = face.SelfAttention(query=v, value=v, beta=beta, weights=weights)
        velocity = face.numpy(as_one(face, lambda x, field=field: field(0.0, x))(face.array(x)))
        rate = (energy_gradient(face, field, x) * velocity).sum((-2, -1))
        expected = (factor * (velocity**2).sum(-1)).sum(-1)
        assert np.abs(rate / expected - 1).max() < 1e-12
        assert (rate > 0).all()


@given(seed=st.integers(0, 2**32 - 1), beta=st.floats(0.1, 5))
def test_energy_does_not_decrease(torch_face, seed, beta):
    w = np.random.default_rng(seed).normal(size=(D, D))
    field = torch_face.SelfAttention(query=w + w.T, value=w + w.T, beta=beta)
    x = torch_face.array(ctsa.random_tokens(N, D, seed))
    with torch.no_grad():
        rate = torch.func.jvp(lambda y: torch.log(ctsa.energy(field, y)), (x,), (field(0.0, x),))[1]
    assert rate > -1e-13


# -------------------------------------------------------------------------------------------------------------- entropy
@pytest.mark.parametrize("weights", ["softmax", "l2", "sinkhorn"])
def test_entropy_limits(face, x, close, weights):
    close(ctsa.entropy(face.SelfAttention(beta=0.0, weights=weights), face.array(x)), np.full((2, N), np.log(N)), 1e-14)
    if weights != "sinkhorn":
        close(ctsa.entropy(face.SelfAttention(beta=1e5, weights=weights), face.array(x)), np.zeros((2, N)), 1e-14)


def test_entropy_is_its_definition(face, x, close):
    field = face.SelfAttention(**parameters(1, HEADS), beta=0.5)
    a = face.numpy(field.attention(face.array(x)))
    found = ctsa.entropy(field, face.array(x))
    assert tuple(found.shape) == (2, HEADS, N)
    close(found, -(a * np.log(a)).sum(-1), 1e-14)


def test_entropy_of_zeros(face, x, close):
    close(ctsa.entropy(face.SelfAttention(weights="hardmax"), face.array(x)), np.zeros((2, N)), 0)
    causal = face.numpy(ctsa.entropy(face.SelfAttention(beta=0.0, mask="causal"), face.array(x)))
    close(causal, np.tile(np.log(np.arange(1, N + 1)), (2, 1)), 1e-14)


def test_observables_of_attention_refuse_other_fields(face, x):
    x = face.array(x)
    with pytest.raises(ValueError, match="entropy needs weights whose rows sum to one, got weights='unnormalised'"):
        ctsa.entropy(face.SelfAttention(weights="unnormalised"), x)
    for field in (face.Oja(np.eye(D)), face.SelfAttention() + face.SelfAttention(), lambda t, y: y):
        for observable in (ctsa.energy, ctsa.entropy):
            with pytest.raises(TypeError, match="one SelfAttention (or EnergyAttention )?term"):
                observable(field, x)


def test_observables_take_saved_states(face, x, close):
    """States read from a file are NumPy; the field says in which framework to evaluate."""
    field = face.SelfAttention(**parameters(0), mask=masks()["weighted"])
    close(ctsa.energy(field, x), ctsa.energy(field, face.array(x)), 1e-15)
    close(ctsa.entropy(field, x), ctsa.entropy(field, face.array(x)), 1e-15)


# ------------------------------------------------------------------------------------------------------ order parameter
def test_order_parameter(array, close):
    e = np.eye(3)
    states = np.stack([[e[0], e[0]], [e[0], -e[0]], [e[0], e[1]]])
    close(ctsa.order_parameter(array(states)), np.array([1, 0, math.sqrt(0.5)]), 1e-15)


def test_order_parameter_of_oscillators(array, close):
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(2, N, 3))
    x = np.stack([np.cos(angle), np.sin(angle)], -1).reshape(2, N, 6)
    close(ctsa.order_parameter(array(x), channels=2), np.abs(np.exp(1j * angle).mean((1, 2))), 1e-14)
    with pytest.raises(ValueError, match="channels=4 does not divide the token dimension d=6"):
        ctsa.order_parameter(array(x), channels=4)


# ------------------------------------------------------------------------------------------------------- effective rank
def test_effective_rank(array, rng, close):
    def rank(a):
        return (jax.jit(ctsa.effective_rank) if isinstance(a, jax.Array) else ctsa.effective_rank)(a)

    e, r = np.eye(D), np.linalg.qr(rng.normal(size=(D, D)))[0]
    consensus, bipartite = np.tile(r[0], (N, 1)), np.outer([1, 1, -1, 1, -1], r[0])
    close(rank(array(np.stack([consensus, bipartite]))), np.ones(2), 1e-13)
    close(rank(array(np.stack([e, r]))), np.full(2, D), 1e-13)
    close(rank(array(r[:3])), np.array(3.0), 1e-13)  # fewer tokens than dimensions
    close(rank(array(np.concatenate([r, r, -r])[None])), np.array([D]), 1e-13)


def test_effective_rank_is_the_entropy_of_squared_singular_values(array, x, close):
    p = np.linalg.svd(x, compute_uv=False) ** 2 / N
    close(ctsa.effective_rank(array(x)), np.exp(-(p * np.log(p)).sum(-1)), 1e-13)


# ------------------------------------------------------------------------------------------------------------- clusters
def test_clusters(array):
    e = np.eye(3)
    near = e[0] + 5e-4 * e[1]
    x = np.stack([[e[0], e[1], near, e[1], e[2]], [e[2], e[2], e[2], e[2], e[2]], [e[0], -e[0], e[1], -e[1], e[2]]])
    labels = ctsa.clusters(array(x))
    assert isinstance(labels, np.ndarray) and labels.dtype.kind == "i"
    assert labels.tolist() == [[0, 1, 0, 1, 2], [0] * 5, [0, 1, 2, 3, 4]]
    counts = ctsa.cluster_count(array(x))
    assert counts.tolist() == [3, 1, 5]
    assert ctsa.cluster_count(array(x), gap=1e-4).tolist() == [4, 1, 5]
    assert ctsa.clusters(array(x[0])).tolist() == [0, 1, 0, 1, 2] and int(ctsa.cluster_count(array(x[0]))) == 3


def test_clusters_follow_chains():
    angle = np.array([0.0, 0.009, 0.018, 0.027, 1.0])  # neighbours within gap, ends not
    x = np.stack([np.cos(angle), np.sin(angle)], -1)
    assert ctsa.clusters(x, gap=0.01).tolist() == [0, 0, 0, 0, 1]
    assert ctsa.clusters(x[[4, 0, 3, 1, 2]], gap=0.01).tolist() == [0, 1, 1, 1, 1]


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 2**32 - 1))
def test_clusters_find_what_was_planted(labels, seed):
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    x = centres[labels] + rng.uniform(-1e-5, 1e-5, size=(len(labels), 5))
    found = ctsa.clusters(x)
    first = list(dict.fromkeys(labels))  # labels count in order of appearance
    assert found.tolist() == [first.index(label) for label in labels]
    assert ctsa.cluster_count(x) == len(first)


@pytest.mark.parametrize("gap", [0, -1.0, float("nan")])
def test_clusters_need_a_distance(gap):
    with pytest.raises(ValueError, match="gap must be a finite number above 0"):
        ctsa.clusters(np.eye(2), gap=gap)


def test_clusters_need_tokens():
    with pytest.raises(ValueError, match=r"x must have shape \(..., n, d\)"):
        ctsa.clusters(np.ones(3))
    assert ctsa.clusters([[1.0, 0.0]]).tolist() == [0]
    with pytest.raises(TypeError, match="x must be"):
        ctsa.clusters("tokens")


@pytest.mark.parametrize("pairs", [0, 2**24])
def test_clusters_of_many_tokens(pairs, monkeypatch):
    """In blocks of rows as all at once: chains, groups, and tokens alone."""
    from scipy.sparse.csgraph import connected_components

    from ctsa.clustering import graph

    monkeypatch.setattr(graph, "_PAIRS", pairs)  # 0: in blocks of rows
    rng = np.random.default_rng(0)
    chain = np.linspace(0.0, 3.0, 1500)
    x = np.concatenate([
        np.stack([np.cos(chain), np.sin(chain)], 1), ctsa.random_tokens(300, 2, seed=1),
        np.array([[0.0, -1.0]]) + 1e-4 * rng.normal(size=(400, 2)),
    ])[rng.permutation(2200)]  # fmt: skip
    gaps = np.linalg.norm(x[:, None] - x[None], axis=-1)
    for gap in (1e-3, 2.1e-3, 1e-2):
        wanted = connected_components(gaps < gap, directed=False)
        found = ctsa.clusters(x, gap)
        assert found.max() + 1 == wanted[0]
        assert len({*zip(found.tolist(), wanted[1].tolist(), strict=True)}) == wanted[0]  # the same groups
        assert np.array_equal(np.unique(found, return_index=True)[1], np.sort(np.unique(found, return_index=True)[1]))


@pytest.mark.parametrize("gap", sample([0.004, 0.008, 0.02, 0.05], 2))
def test_cells_are_exact(gap):
    from scipy.sparse.csgraph import connected_components

    from ctsa.clustering import graph

    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = np.concatenate([centre + 0.02 * rng.normal(size=(80, 2)) for centre in rng.normal(size=(6, 2))])
        cells = np.unique(np.floor(x / (gap / (8 * 2**0.5))), axis=0, return_inverse=True)[1].reshape(-1)
        found = graph._linked_cells(x, cells, gap)
        count, wanted = connected_components(np.linalg.norm(x[:, None] - x[None], axis=-1) < gap, directed=False)
        assert len({*zip(found.tolist(), wanted.tolist(), strict=True)}) == count == found.max() + 1
