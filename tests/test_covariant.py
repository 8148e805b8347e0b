"""Covariant vectors, finite-time exponents and GALI against linear algebra."""

import numpy as np
import pytest
from dynamics import CAT, LORENZ_START, cat, henon, lorenz, tangent_frame
from sampling import mainly

import ctsa
from ctsa.derivatives import layer_pushforward

FLAT = ctsa.Euclidean()
N, D = 3, 3
X = ctsa.random_tokens(N, D, seed=1)


def make(face, seed=5):
    q, k, v = np.random.default_rng(seed).normal(size=(3, D, D))
    return face.SelfAttention(query=q, key=k, value=v)


def linear_layer(face, matrix):
    return face.EulerLayer(face.Oja(matrix - np.eye(len(matrix)), geometry=FLAT), step=1.0)


def parallel(a, b, tol):
    """Lines spanned by the rows of ``a`` and ``b`` (..., n, d) agree."""
    a, b = (v.reshape(*v.shape[:-2], -1) for v in (a, b))
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    sign = np.sign((a * b).sum(-1, keepdims=True))
    assert np.abs(a - sign * b).max() < tol


MATRIX = np.array([[2.0, 1.0, 0.3], [0.0, 1.2, -0.7], [0.0, 0.2, -0.5]])


@pytest.mark.parametrize("kind", ["flow", "layer"])
def test_linear_systems_have_eigenvectors(face, kind):
    values, vectors = np.linalg.eig(MATRIX)
    if kind == "flow":
        system, local = face.Oja(MATRIX, geometry=FLAT), values
    else:
        system, local = linear_layer(face, MATRIX), np.log(np.abs(values))
    order = np.argsort(-local)
    intervals = (4, 25, 25) if kind == "flow" else (4, 60, 60)
    found = ctsa.covariant_vectors(
        system, np.zeros((1, 3)), intervals=intervals[0], transient=intervals[1], transient_back=intervals[2]
    )
    exact = vectors.T[order][:, None]
    parallel(found.vectors, np.broadcast_to(exact, found.vectors.shape), 1e-6)
    assert np.abs(found.growth - local[order]).max() < 1e-6
    assert np.abs(found.exponents - local[order]).max() < 1e-6
    unit = exact / np.linalg.norm(exact, axis=-1, keepdims=True)
    cosine = np.abs(unit[:, 0] @ unit[:, 0].T)
    assert np.abs(np.cos(found.angles) - cosine).max() < 1e-6
    first, rest = np.linalg.qr(unit[:1, 0].T)[0], np.linalg.qr(unit[1:, 0].T)[0]
    smallest = np.arccos(np.linalg.svd(first.T @ rest, compute_uv=False)[0])
    assert np.abs(found.subspace_angle(1) - smallest).max() < 1e-6


@mainly("torch")
def test_covariance_under_a_layer(face):
    """The tangent map takes each vector to a multiple of the next: what their name says."""
    layer = face.EulerLayer(make(face), step=0.2)
    found = ctsa.covariant_vectors(layer, X, intervals=5, transient=20, transient_back=20)
    assert found.vectors.shape == (6, 6, N, D) and found.xs.shape == (6, N, D)
    for t in range(5):
        x, image = layer_pushforward(layer, face.array(found.xs[t]), face.array(found.vectors[t]))
        image = face.numpy(image)
        assert np.abs(face.numpy(x) - found.xs[t + 1]).max() < 1e-12
        growth = np.log(np.linalg.norm(image.reshape(6, -1), axis=-1))
        assert np.abs(growth - found.growth[t]).max() < 1e-9
        parallel(image, found.vectors[t + 1], 1e-9)
    assert np.abs(np.linalg.norm(found.vectors.reshape(6, 6, -1), axis=-1) - 1).max() < 1e-12
    assert np.abs((found.vectors * found.xs[:, None]).sum(-1)).max() < 1e-10  # tangent


def test_covariance_under_a_flow(jax_face):
    options = dict(interval=0.5, atol=1e-10)
    field = make(jax_face)
    found = ctsa.covariant_vectors(field, X, intervals=4, transient=4, transient_back=4, **options)
    for t in range(4):
        # every vector alone as a frame: its image is the frame's end, its growth the local exponent
        for j in (0, 2, 5):
            one = ctsa.lyapunov_spectrum(
                field,
                found.xs[t],
                frame=found.vectors[t, j : j + 1],
                intervals=1,
                transient=0,
                normalize=True,
                **options,
            )
            parallel(one.frame[0], found.vectors[t + 1, j], 1e-6)
            assert abs(one.history[0, 0] - found.growth[t, j]) < 1e-6


LORENZ = dict(geometry=FLAT, interval=0.1, atol=1e-9)


def test_second_vector_of_lorenz_is_the_velocity(jax_face):
    start = jax_face.array(LORENZ_START)
    found = ctsa.covariant_vectors(lorenz, start, intervals=100, transient=300, transient_back=300, **LORENZ)
    velocity = np.asarray(lorenz(0.0, jax_face.array(found.xs)))
    parallel(found.vectors[:, 1], velocity, 1e-5)
    size = np.linalg.norm(velocity[:, 0], axis=-1)
    assert np.abs(found.growth[:, 1] - np.diff(np.log(size)) / 0.1).max() < 1e-4
    assert (found.angles[:, 0, 1] > 0).all() and (np.abs(found.angles[:, [0, 1, 2], [0, 1, 2]]) == 0).all()


def test_exponents_agree_with_the_spectrum(jax_face):
    start = jax_face.array(LORENZ_START)
    found = ctsa.covariant_vectors(lorenz, start, intervals=1500, transient=200, transient_back=200, **LORENZ)
    spec = ctsa.lyapunov_spectrum(lorenz, start, intervals=1500, transient=200, **LORENZ)
    # both telescope to the same growth, up to the frame's own angles at the two ends
    assert np.abs(found.exponents - spec.history.mean(0)).max() < 10 / 150
    assert abs(found.exponents[0] - spec.history.mean(0)[0]) < 1e-9  # the first vectors are the same
    assert np.abs(found.exponents[1]) < 0.02


def test_partial_vectors_span_the_same(jax_face):
    start = jax_face.array([[0.1, 0.1]])
    options = dict(geometry=FLAT, intervals=50, transient=50, transient_back=60)
    both = ctsa.covariant_vectors(henon, start, **options)
    one = ctsa.covariant_vectors(henon, start, count=1, frame=None, **options)
    assert one.vectors.shape == (51, 1, 1, 2)
    parallel(one.vectors, both.vectors[:, :1], 1e-8)
    with pytest.raises(ValueError, match="split must lie between 1 and 0"):
        one.subspace_angle(1)


def test_small_angles_are_accurate():
    """arccos of a cosine near 1 would lose half of the digits."""
    angle = 1e-9
    v = np.array([[[[1.0, 0.0]], [[np.cos(angle), np.sin(angle)]]]])
    found = ctsa.CovariantVectors(np.zeros((1, 1, 2)), v, np.zeros((0, 2)), 1.0)
    assert found.subspace_angle(1)[0] == pytest.approx(angle, rel=1e-6)


def test_angles_of_the_cat_map(face):
    found = ctsa.covariant_vectors(
        cat, face.array([[0.3, 0.4]]), geometry=FLAT, intervals=3, transient=30, transient_back=30
    )
    assert np.abs(found.angles[:, 0, 1] - np.pi / 2).max() < 1e-12  # a symmetric matrix
    assert np.abs(found.exponents - [CAT, -CAT]).max() < 1e-12


def test_saved(torch_face, tmp_path):
    found = ctsa.covariant_vectors(torch_face.EulerLayer(make(torch_face), step=0.2), X, intervals=3, transient=2)
    kept = ctsa.load(found.save(tmp_path / "clv"))
    assert np.array_equal(kept.vectors, found.vectors) and kept.interval == found.interval
    assert found.to_xarray().xs.dims == ("time", "token", "component")


# ----------------------------------------------------------------------------------------------- finite-time exponents
def propagator(face, layers, x, frame):
    u = frame
    for layer in layers:
        y, u = layer_pushforward(layer, face.array(x), face.array(u))
        x, u = face.numpy(y), face.numpy(u)
    return u.reshape(len(u), -1)


@pytest.mark.parametrize("interval", [1, 2, 8])
def test_finite_time_exponents_of_layers(torch_face, interval):
    face = torch_face
    layer = face.EulerLayer(make(face), step=0.2)
    exact = np.log(np.linalg.svd(propagator(face, [layer] * 16, X, tangent_frame(X)), compute_uv=False)) / 16
    got = ctsa.finite_time_exponents(layer, X, 16, interval=interval)
    assert got.shape == (6,) and np.abs(got - exact).max() < 1e-9  # the plain product loses the digits of the smallest


def test_finite_time_exponents_of_a_stack(face):
    stack = [face.EulerLayer(make(face, seed), step=0.2) for seed in range(6)]
    exact = np.log(np.linalg.svd(propagator(face, stack, X, tangent_frame(X)), compute_uv=False)) / 6
    assert np.abs(ctsa.finite_time_exponents(stack, X, 6) - exact).max() < 1e-11


def test_finite_time_exponents_of_a_flow(torch_face):
    from scipy.linalg import expm

    field = torch_face.Oja(MATRIX, geometry=FLAT)
    exact = np.log(np.linalg.svd(expm(3 * MATRIX), compute_uv=False)) / 3
    for interval in (1.0, 0.5):
        got = ctsa.finite_time_exponents(field, np.zeros((1, 3)), 3.0, interval=interval, atol=1e-10)
        assert np.abs(got - exact).max() < 1e-8


def test_finite_time_exponents_keep_small_singular_values(torch_face):
    """Over 20 layers with ratios of 10 per layer: 1e-20 could not be read off the plain product."""
    layer = linear_layer(torch_face, np.diag([1.0, 0.5, 0.2]))
    got = ctsa.finite_time_exponents(layer, np.ones((1, 3)), 20)
    assert np.abs(got - np.log([1.0, 0.5, 0.2])).max() < 1e-12


def test_finite_time_exponents_bound_the_frame(torch_face):
    """The largest is an upper bound of every direction's growth, and the sums agree."""
    layer = torch_face.EulerLayer(make(torch_face), step=0.2)
    spec = ctsa.lyapunov_spectrum(layer, X, intervals=16, transient=0)
    got = ctsa.finite_time_exponents(layer, X, 16)
    assert spec.history.mean(0).max() <= got[0] + 1e-12
    assert spec.history.sum() == pytest.approx(16 * got.sum(), abs=1e-10)


# ---------------------------------------------------------------------------------------------------------------- GALI
def test_gali_of_the_cat_map(face):
    """A generic pair of unit vectors: the volume decays like exp(-(l_1 - l_2) t)."""
    t, log = ctsa.gali(cat, face.array([[0.3, 0.4]]), 2, intervals=40, geometry=FLAT)
    assert np.array_equal(t, np.arange(41.0)) and log[0] == 0
    assert np.abs(np.diff(log)[20:] + 2 * CAT).max() < 1e-10


def test_gali_is_the_volume_of_unit_vectors(torch_face):
    layer = torch_face.EulerLayer(make(torch_face), step=0.2)
    frame = tangent_frame(X)[:3]
    _, log = ctsa.gali(layer, X, 3, intervals=6, frame=frame)
    u, x = frame, X
    for depth in range(1, 7):
        y, u = layer_pushforward(layer, torch_face.array(x), torch_face.array(u))
        x, u = torch_face.numpy(y), torch_face.numpy(u)
        flat = u.reshape(3, -1) / np.linalg.norm(u.reshape(3, -1), axis=1, keepdims=True)
        assert log[depth] == pytest.approx(np.log(np.sqrt(np.linalg.det(flat @ flat.T))), abs=1e-10)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_gali_of_rotations_is_constant(torch_face, count):
    field = torch_face.Rotation(frequencies=[1.0, 2.7])
    t, log = ctsa.gali(field, ctsa.random_tokens(2, 4), count, intervals=8, interval=0.5, t0=1.0)
    assert np.abs(log).max() < 1e-6
    assert np.array_equal(t, 1.0 + 0.5 * np.arange(9))


def test_gali_does_not_underflow(jax_face):
    _, log = ctsa.gali(cat, jax_face.array([[0.3, 0.4]]), 2, intervals=1000, geometry=FLAT)
    assert np.isfinite(log).all() and log[-1] < -1500


def test_frame_tells_the_count(torch_face):
    layer = torch_face.EulerLayer(make(torch_face), step=0.2)
    a = ctsa.gali(layer, X, 3, intervals=3, frame=tangent_frame(X)[:3])[1]
    b = ctsa.gali(layer, X, intervals=3, frame=tangent_frame(X)[:3])[1]
    assert np.array_equal(a, b)
