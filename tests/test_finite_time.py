"""Finite-time exponents by products and densely, their largest and their mean, against linear algebra."""

import itertools

import numpy as np
import pytest
from dynamics import tangent_frame
from sampling import mainly, sample

import ctsa
from ctsa.derivatives import layer_pushforward
from ctsa.tangent import finite_time
from ctsa.tangent._krylov import largest_singular

FLAT = ctsa.Euclidean()
N, D = 5, 3
X = ctsa.random_tokens(N, D, seed=1)
MANY = ctsa.random_tokens(N, D, seed=2, batch=(2, 2))


def make(face, seed=5, dtype=float, gain=1.0):
    q, k, v = np.random.default_rng(seed).normal(size=(3, D, D)).astype(dtype)
    return face.SelfAttention(query=q, key=k, value=dtype(gain) * v, beta=dtype(1.0))


def linear_layer(face, matrix):
    return face.EulerLayer(face.Oja(matrix - np.eye(len(matrix)), geometry=FLAT), step=1.0)


def exact(face, layers, x):
    """All exponents, from the plain product of the Jacobians between tangent spaces; in torch, which compiles nothing."""
    u = tangent_frame(x)
    for layer in layers:
        y, u = layer_pushforward(layer, face.array(x), face.array(u))
        x, u = face.numpy(y), face.numpy(u)
    return np.log(np.linalg.svd(u.reshape(len(u), -1), compute_uv=False)) / len(layers)


@pytest.fixture
def no_matrix(monkeypatch):
    """Forming a matrix raises."""

    def refuse(*args, **kwargs):
        raise AssertionError("a dense matrix was formed")

    for place in (
        "tangent.jacobians.tangent_jacobians", "tangent.norms.tangent_jacobians", "tangent.leading_modes.tangent_jacobians",
        "tangent.jacobians._ambient", "tangent.finite_time._all_dense",
        "tangent.finite_time._march", "derivatives.tangent_jacobian", "monitors.record.tangent_jacobians",
    ):  # fmt: skip
        monkeypatch.setattr(f"ctsa.{place}", refuse)
    return refuse


# ----------------------------------------------------------------------------------------------------------- the method
@pytest.mark.parametrize("values", [
    [3.0, 2.0, 1.0, 0.5, 0.1, 0.0], [1.0] * 6, [2.0, 2.0, 2.0, 1.0, 1.0, 0.5], [0.0] * 6, [1.0, 1e-3, 1e-4, 1e-4, 0, 0],
])  # fmt: skip
@pytest.mark.parametrize("count", [1, 2, 4])
def test_singular_values_of_a_matrix(values, count):
    rng = np.random.default_rng(0)
    q, p = (np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2))
    j = q @ np.diag(values) @ p.T
    found = largest_singular(
        lambda v: j @ v, lambda w: j.T @ w, rng.normal(size=(1, 6, count)), count, rank=6, tol=1e-10, budget=100
    )
    assert np.abs(found.values[0] - values[:count]).max() < 1e-12 and found.converged
    v = found.vectors[0]
    assert np.abs(np.linalg.norm(j @ v, axis=0) - found.values[0]).max() < 1e-12


def test_singular_values_of_many_large_matrices():
    """Values stop early, and the estimates of their errors hold."""
    rng = np.random.default_rng(1)
    j = rng.normal(size=(3, 400, 400)) / 20
    dense = np.linalg.svd(j, compute_uv=False)[:, :3]

    def search(budget, tol):
        return largest_singular(
            lambda v: j @ v, lambda w: j.swapaxes(1, 2) @ w, rng.normal(size=(3, 400, 5)), 3, rank=400, tol=tol,
            budget=budget,
        )  # fmt: skip

    found = search(4000, 1e-10)
    assert found.converged and found.products < 800
    assert (np.abs(found.values - dense) <= 1e-10 * dense).all()
    short = search(100, 1e-10)
    assert not short.converged and short.products <= 100
    assert (np.abs(short.values - dense) <= short.errors).all() and (short.values <= dense * (1 + 1e-12)).all()


# --------------------------------------------------------------------------------------------- some exponents of layers
@pytest.mark.parametrize(
    ("face", "count"),
    sample(itertools.product(["torch", "jax"], [1, 3, 10]), lambda face, count: face == "torch" or count == 3),
    indirect=["face"],
)
def test_products_against_the_dense_propagator(face, torch_face, count):
    layer = face.EulerLayer(make(face), step=0.2)
    want = exact(torch_face, [torch_face.EulerLayer(make(torch_face), step=0.2)] * 6, X)
    got = ctsa.finite_time_exponents(layer, X, 6, count=count, dense=False)
    assert got.shape == (count,) and np.abs(got - want[:count]).max() < 1e-10
    assert np.abs(ctsa.finite_time_exponents(layer, X, 6, count=count) - want[:count]).max() < 1e-10


@mainly("torch")
def test_products_of_a_stack_and_of_oscillators(face, torch_face):
    one, other = ([each.EulerLayer(make(each, seed), step=0.2) for seed in range(4)] for each in (face, torch_face))
    got = ctsa.finite_time_exponents(one, X, 4, count=2, dense=False)
    assert np.abs(got - exact(torch_face, other, X)[:2]).max() < 1e-10
    x = ctsa.random_tokens(3, 4, seed=0, channels=2)
    v = np.random.default_rng(0).normal(size=(4, 4))
    one, other = (
        each.EulerLayer(each.SelfAttention(value=v, geometry=ctsa.Sphere(channels=2)), step=0.3)
        for each in (face, torch_face)
    )
    got = ctsa.finite_time_exponents(one, x, 3, count=2, dense=False)
    assert np.abs(got - ctsa.finite_time_exponents(other, x, 3)[:2]).max() < 1e-10


@mainly("torch")
def test_products_keep_any_ratio(face):
    """Ratios of 10 a layer over 60 layers: far beyond what one product of them all would keep."""
    layer = linear_layer(face, np.diag([30.0, 3.0, 0.3]))
    got = ctsa.finite_time_exponents(layer, np.zeros((1, 3)), 60, count=2, dense=False)
    assert np.abs(got - np.log([30.0, 3.0])).max() < 1e-10
    got = ctsa.finite_time_exponents(layer, np.zeros((1, 3)), 150, count=3, dense=False)
    assert np.abs(got - np.log([30.0, 3.0, 0.3])).max() < 1e-10


def test_near_and_far_values_at_once(face):
    """Two close to the largest, one 1e-12 below it, and its batch."""
    layer = linear_layer(face, np.diag([2.0, 1.9999, 0.002, 1e-4, 1e-4, 1e-4]))
    got = ctsa.finite_time_exponents(layer, np.zeros((2, 1, 6)), 4, count=3, dense=False)
    assert np.abs(got - np.log([2.0, 1.9999, 0.002])).max() < 1e-10


@mainly("torch")
def test_rotations_have_zeros(face):
    layer = face.EulerLayer(face.Rotation(frequencies=[1.0, 2.0]), step=0.1, retraction="exp")
    got = ctsa.finite_time_exponents(layer, ctsa.random_tokens(4, 4), 5, count=3, dense=False)
    want = ctsa.finite_time_exponents(layer, ctsa.random_tokens(4, 4), 5)[:3]
    assert np.abs(got - want).max() < 1e-10
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    flat = linear_layer(face, turn)
    start = np.ones((3, 2))
    assert np.abs(ctsa.finite_time_exponents(flat, start, 9, count=4, dense=False)).max() < 1e-12
    assert abs(ctsa.largest_finite_time(flat, start, 9)) < 1e-12 and abs(ctsa.mean_exponent(flat, start, 9)) < 1e-12


@mainly("torch")
@pytest.mark.parametrize("way", [True, False], ids=["dense", "products"])
def test_batches_equal_single_runs(face, way):
    layer = face.EulerLayer(make(face), step=0.2)
    got = ctsa.finite_time_exponents(layer, MANY, 5, count=3, dense=way)
    largest, mean = ctsa.largest_finite_time(layer, MANY, 5), ctsa.mean_exponent(layer, MANY, 5)
    assert got.shape == (2, 2, 3) and largest.shape == mean.shape == (2, 2)
    for i in np.ndindex(2, 2):
        assert np.abs(got[i] - ctsa.finite_time_exponents(layer, MANY[i], 5, count=3, dense=way)).max() < 1e-12
        assert largest[i] == pytest.approx(ctsa.largest_finite_time(layer, MANY[i], 5), abs=1e-12)
        assert mean[i] == pytest.approx(ctsa.mean_exponent(layer, MANY[i], 5), abs=1e-12)


# ---------------------------------------------------------------------------------------------------------------- flows
@pytest.mark.slow
@mainly("torch")  # in JAX see the linear flow
def test_products_of_a_flow(face):
    field = make(face, 0)
    want = ctsa.finite_time_exponents(field, X, 2.0, atol=1e-10)
    got = ctsa.finite_time_exponents(field, X, 2.0, count=2, dense=False, atol=1e-10)
    assert np.abs(got - want[:2]).max() < 1e-7


def test_products_of_a_linear_flow(face):
    from scipy.linalg import expm

    matrix = np.array([[2.0, 1.0, 0.3], [0.0, 1.2, -0.7], [0.0, 0.2, -0.5]])
    field = face.Oja(matrix, geometry=FLAT)
    want = np.log(np.linalg.svd(expm(3 * matrix), compute_uv=False)) / 3
    for solver in ({}, {"solver": "rk4", "step": 0.02}) if face.name == "torch" else ({},):
        given = dict(interval=1.5, count=1, dense=False, atol=1e-10, **solver)
        got = ctsa.finite_time_exponents(field, np.zeros((1, 3)), 3.0, **given)
        assert np.abs(got - want[:1]).max() < 1e-7


# ---------------------------------------------------------------------------------------------------- largest, and mean
@mainly("torch")
def test_at_the_pole(face):
    """EulerLayer(Oja) at the leading eigenvector, step h: 1 + h (mu - lambda) for the mean, 1 - h lambda for the rest."""
    layer = face.EulerLayer(face.Oja(np.diag([3.0, 1.0, -0.5])), step=0.1)
    x, rates = np.ones((4, 1)) * [[1.0, 0.0, 0.0]], np.log(np.array([0.8, *[0.7] * 6, 0.65]))
    assert ctsa.largest_finite_time(layer, x, 16) == pytest.approx(rates[0], abs=1e-12)
    got = ctsa.finite_time_exponents(layer, x, 16, count=3, dense=False)
    assert np.abs(got - rates[:3]).max() < 1e-12
    assert ctsa.mean_exponent(layer, x, 16) == pytest.approx(rates.mean(), abs=1e-12)
    assert isinstance(ctsa.largest_finite_time(layer, x, 2), float) and isinstance(ctsa.mean_exponent(layer, x, 2), float)


@mainly("torch")
def test_largest_and_mean_of_all(face, torch_face):
    stack = [face.EulerLayer(make(face, seed), step=0.3) for seed in range(4)]
    other = [torch_face.EulerLayer(make(torch_face, seed), step=0.3) for seed in range(4)]
    want = exact(torch_face, other, X)
    assert ctsa.largest_finite_time(stack, X, 4) == pytest.approx(want[0], abs=1e-10)
    assert ctsa.mean_exponent(stack, X, 4) == pytest.approx(want.mean(), abs=1e-10)
    assert ctsa.mean_exponent(stack, X, 2) == pytest.approx(exact(torch_face, other[:2], X).mean(), abs=1e-10)


def test_many_members_in_chunks(torch_face, monkeypatch):
    layer = torch_face.EulerLayer(make(torch_face), step=0.2)
    want = ctsa.mean_exponent(layer, MANY, 3)
    monkeypatch.setattr(finite_time, "_CHUNK", 1)
    assert np.abs(ctsa.mean_exponent(layer, MANY, 3) - want).max() < 1e-13


def test_frameworks_agree(torch_face, jax_face):
    a, b = (
        [f(face.EulerLayer(make(face), step=0.2), MANY, 6) for f in (
            ctsa.largest_finite_time, ctsa.mean_exponent, lambda *run: ctsa.finite_time_exponents(*run, count=3)[..., 2],
        )] for face in (torch_face, jax_face)
    )  # fmt: skip
    assert np.abs(np.array(a) - np.array(b)).max() < 1e-12


@mainly("torch")
def test_single_precision(face, torch_face):
    """To what float32 holds, and no further: it ends, and agrees with double precision."""
    layer = face.EulerLayer(make(face, dtype=np.float32), step=0.2)
    fine = torch_face.EulerLayer(make(torch_face), step=0.2)
    x = X.astype(np.float32)
    for f in (
        ctsa.largest_finite_time, ctsa.mean_exponent, lambda *a: ctsa.finite_time_exponents(*a, count=3, dense=False),
    ):  # fmt: skip
        assert np.abs(f(layer, x, 6) - f(fine, X, 6)).max() < 1e-5


def test_a_lost_direction(face):
    layer = linear_layer(face, np.diag([2.0, 0.0]))
    assert ctsa.mean_exponent(layer, np.ones((1, 2)), 3) == -np.inf
    assert ctsa.largest_finite_time(layer, np.ones((1, 2)), 3) == pytest.approx(np.log(2), abs=1e-12)


def test_bare_callables(torch_face):
    w = torch_face.array(np.diag([2.0, 0.5, 1.0]))
    x = torch_face.array(np.ones((2, 3)))
    assert ctsa.largest_finite_time(lambda x: x @ w, x, 3, geometry=FLAT) == pytest.approx(np.log(2), abs=1e-12)
    assert ctsa.mean_exponent(lambda x: x @ w, x, 3, geometry=FLAT) == pytest.approx(0, abs=1e-12)


# ------------------------------------------------------------------------------------------------------- beyond the size
@mainly("torch")
def test_no_matrix_beyond_the_size(face, no_matrix, monkeypatch):
    n, d = 400, 3
    x = ctsa.random_tokens(n, d, seed=0)
    field = face.SelfAttention(value=np.diag([2.0, 1.0, 0.5]), beta=1.0)
    layer = face.EulerLayer(field, step=0.1)
    top = ctsa.finite_time_exponents(layer, x, 2, count=1)
    assert top[0] == pytest.approx(ctsa.largest_finite_time(layer, x, 2), abs=1e-9)
    assert np.exp(ctsa.largest_finite_time(layer, x, 1)) == pytest.approx(ctsa.spectral_norm(layer, x), rel=1e-9)


# ----------------------------------------------------------------------------------------------------------- bad input
def test_errors(torch_face):
    field = make(torch_face)
    layer, linear = torch_face.EulerLayer(field, step=0.2), linear_layer(torch_face, np.eye(2))
    with pytest.raises(TypeError, match="largest_finite_time is about layers.*finite_time_exponents"):
        ctsa.largest_finite_time(field, X, 2)
    with pytest.raises(TypeError, match="mean_exponent is about layers.*divergence"):
        ctsa.mean_exponent(field, X, 2)
    with pytest.raises(ValueError, match="there are 2 layers, but 3 are asked for"):
        ctsa.largest_finite_time([layer] * 2, X, 3)
    with pytest.raises(ValueError, match="count=11 is more than the dimension of the manifold, 10"):
        ctsa.finite_time_exponents(layer, X, 2, count=11)
    with pytest.raises(ValueError, match="duration=2.5 must be a multiple"):
        ctsa.finite_time_exponents(layer, X, 2.5, count=1, dense=False)
    with pytest.raises(ValueError, match="a dense propagator of 200000 unknowns .*GiB.*count="):
        ctsa.finite_time_exponents(linear, np.zeros((100000, 2)), 2)
    with pytest.raises(RuntimeError, match="after 2 products.*raise budget=2"):
        ctsa.largest_finite_time(layer, X, 2, budget=2)
    with pytest.raises(ValueError, match="step is for flows"):
        ctsa.finite_time_exponents(layer, X, 2, count=1, dense=False, step=0.1)
