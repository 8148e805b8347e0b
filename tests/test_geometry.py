"""The sphere, oscillators and flat space, on NumPy, PyTorch and JAX arrays."""

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from programs import as_one

import ctsa
from ctsa.geometry import geometry_of

N, D, K = 4, 6, 3
SPHERES = [ctsa.Sphere(), ctsa.Sphere(channels=2), ctsa.Sphere(channels=3)]
sphere = pytest.mark.parametrize("sphere", SPHERES, ids=str)


class _NumPy:
    """NumPy beside the two faces: geometry takes all three."""

    name = "numpy"
    array = staticmethod(np.array)
    numpy = staticmethod(np.asarray)


@pytest.fixture(params=["numpy", "torch", "jax"])
def lib(request):
    return _NumPy if request.param == "numpy" else request.getfixturevalue(f"{request.param}_face")


def groups(sphere, x):
    """Split the last axis into oscillators."""
    return x.reshape(*x.shape[:-1], -1, sphere.channels or x.shape[-1])


def dot(sphere, a, b):
    return (groups(sphere, a) * groups(sphere, b)).sum(-1)


def points(sphere, seed=0, batch=(2,)):
    """Unit tokens, and ambient vectors, directions."""
    rng = np.random.default_rng(seed)
    x = ctsa.random_tokens(N, D, seed + 1, batch=batch, channels=sphere.channels)
    return x, rng.normal(size=(*batch, N, D)), rng.normal(size=(K, *batch, N, D))


def jvps(lib, f, x, u):
    if lib.name == "torch":
        return torch.func.vmap(lambda v: torch.func.jvp(f, (x,), (v,))[1])(u)
    return jax.vmap(lambda v: jax.jvp(f, (x,), (v,))[1])(u)


# -------------------------------------------------------------------------------------------------------- random tokens
@sphere
def test_random_tokens(sphere):
    x = ctsa.random_tokens(7, D, seed=3, batch=(2, 3), channels=sphere.channels)
    assert x.shape == (2, 3, 7, D) and x.dtype == np.float64
    assert np.abs(dot(sphere, x, x) - 1).max() < 5e-16
    assert np.array_equal(x, ctsa.random_tokens(7, D, seed=3, batch=(2, 3), channels=sphere.channels))
    assert not np.array_equal(x, ctsa.random_tokens(7, D, seed=4, batch=(2, 3), channels=sphere.channels))


def test_random_tokens_are_uniform():
    x = ctsa.random_tokens(100_000, 3, seed=0)
    assert np.abs(x.mean(0)).max() < 0.01  # five standard errors
    assert np.abs(x.T @ x / len(x) - np.eye(3) / 3).max() < 0.01
    assert abs((x[:, 0] < 0.5).mean() - 0.75) < 0.01  # Archimedes: a coordinate of a point of S^2 is uniform


# -------------------------------------------------------------------------------------------------- project and retract
@sphere
def test_project(lib, sphere, close):
    x, v, _ = points(sphere)
    p = sphere.project(lib.array(x), lib.array(v))
    assert np.abs(dot(sphere, x, lib.numpy(p))).max() < 1e-15
    close(sphere.project(lib.array(x), p), lib.numpy(p), 1e-15)
    close(sphere.project(lib.array(x), lib.array(3.0 * x)), 0 * x, 1e-15)
    close(dot(sphere, lib.numpy(p), v - lib.numpy(p)), np.zeros(dot(sphere, x, x).shape), 1e-14)  # orthogonal


@sphere
def test_retract_and_radius(lib, sphere, close):
    _, v, _ = points(sphere)
    r, x = sphere.radius(lib.array(v)), lib.numpy(sphere.retract(lib.array(v)))
    close(lib.numpy(r)[..., 0].reshape(dot(sphere, v, v).shape), np.sqrt(dot(sphere, v, v)), 1e-15)
    close(dot(sphere, x, x), np.ones(dot(sphere, x, x).shape), 5e-16)
    close(sphere.retract(lib.array(x)), x, 5e-16)
    close(sphere.retract(lib.array(5.0 * v)), x, 5e-16)


@sphere
def test_project_tangent(face, sphere, rng, close):
    x, _, u = points(sphere)
    w = face.array(rng.normal(size=(D, D)))
    at, along = face.array(x), face.array(u)
    drift = lambda y: (y @ w.T) ** 2  # noqa: E731

    def both(at, along):
        found = sphere.project_tangent(at, along, drift(at), jvps(face, drift, at, along))
        return found, jvps(face, lambda y: sphere.project(y, drift(y)), at, along)

    close(*as_one(face, both)(at, along), 1e-14)


# ----------------------------------------------------------------------------------------------------- exp and distance
@sphere
def test_exp_follows_great_circles(lib, sphere, close):
    x, v, _ = points(sphere)
    v = sphere.project(x, v)
    speed = np.repeat(np.sqrt(dot(sphere, v, v)), sphere.channels or D, axis=-1)
    exp = as_one(lib, sphere.exp)
    for t in (0.0, 1e-9, 0.3, 2.0, -1.0):
        y = lib.numpy(exp(lib.array(x), lib.array(t * v)))
        close(y, np.cos(t * speed) * x + np.sin(t * speed) / speed * v, 3e-15)
        close(dot(sphere, y, y), np.ones(dot(sphere, y, y).shape), 4e-15)
    # A point on the way: the geodesic goes on from there with the transported velocity.
    half = sphere.exp(x, 0.5 * v)
    moved = np.cos(0.5 * speed) * v - speed * np.sin(0.5 * speed) * x
    close(exp(lib.array(half), lib.array(0.5 * moved)), sphere.exp(x, v), 1e-14)


@sphere
def test_exp_has_a_derivative_at_rest(face, sphere, close):
    x, _, u = points(sphere)
    x, u = face.array(x), face.array(sphere.project(x, u))
    close(as_one(face, lambda u: jvps(face, lambda v: sphere.exp(x, v), 0 * x, u))(u), u, 1e-15)


@sphere
def test_distance(lib, sphere, close):
    x, v, _ = points(sphere)
    v = sphere.retract(sphere.project(x, v))
    v = sphere.retract(sphere.project(x, v))  # once is tangent only up to the rounding of the longer vector
    shape = dot(sphere, x, x).shape if sphere.channels else x.shape[:-1]
    for angle in (1e-12, 1e-8, 1e-4, 1.0, np.pi / 2, 3.0):
        d = lib.numpy(sphere.distance(lib.array(x), lib.array(sphere.exp(x, angle * v))))
        assert d.shape == shape
        assert np.abs(d - angle).max() < 5e-16 * (1 + angle)  # arccos would give 0 or 1e-8 at the small angles
    for gap in (1e-12, 1e-8, 1e-4):
        d = lib.numpy(sphere.distance(lib.array(x), lib.array(-sphere.exp(x, gap * v))))
        assert np.abs((np.pi - d) - gap).max() < 1e-15
    close(sphere.distance(lib.array(x), lib.array(x)), np.zeros(shape), 0)
    close(sphere.distance(lib.array(x), lib.array(-x)), np.full(shape, np.pi), 5e-16)


@given(seed=st.integers(0, 2**32 - 1), turns=st.floats(0, 3.1))
def test_distance_is_the_length_of_the_geodesic(seed, turns):
    x = ctsa.random_tokens(1, D, seed)
    v = ctsa.Sphere().retract(ctsa.Sphere().project(x, np.random.default_rng(seed + 1).normal(size=x.shape)))
    assert abs(ctsa.Sphere().distance(x, ctsa.Sphere().exp(x, turns * v))[0] - turns) < 1e-14


# --------------------------------------------------------------------------------------------------- degree-1 extension
def velocity_of(sphere, w):
    return lambda x: sphere.project(x, (x @ w.T) ** 2 + 1.0)


@sphere
def test_extension_is_homogeneous(lib, sphere, rng, close):
    x, _, _ = points(sphere)
    f = velocity_of(sphere, lib.array(rng.normal(size=(D, D))))
    r = rng.uniform(0.2, 5.0, size=dot(sphere, x, x).shape)  # another length for every token or oscillator
    r = np.repeat(r, sphere.channels or D, axis=-1)
    close(sphere.extend(f, lib.array(x)), f(lib.array(x)), 1e-15)
    g = lib.numpy(sphere.extend(f, lib.array(r * x)))
    close(g, r * lib.numpy(f(lib.array(x))), 1e-14)
    assert np.abs(dot(sphere, x, g)).max() < 1e-14  # radii are first integrals


@sphere
def test_extend_tangent(face, sphere, rng, close):
    x, v, u = points(sphere)
    w = face.array(rng.normal(size=(D, D)))
    f = velocity_of(sphere, w)
    y, u = face.array(x + 0.5 * v), face.array(u)

    def both(y, u):
        found = sphere.extend_tangent(lambda a, b: (f(a), jvps(face, f, a, b)), y, u)
        # Along the radius of a token a function of degree 1 grows like itself (Euler).
        radial = sphere.extend_tangent(lambda a, b: (f(a), jvps(face, f, a, b)), y, y[None])[1][0]
        return found, radial, (sphere.extend(f, y), jvps(face, lambda a: sphere.extend(f, a), y, u))

    (g, dg), radial, (want, slope) = as_one(face, both)(y, u)
    close(g, want, 1e-15)
    close(dg, slope)
    close(radial, g, 1e-13)


def test_extension_of_a_field(face, rng, close):
    field = face.SelfAttention(value=rng.normal(size=(D, D)), beta=2.0) + face.Rotation(frequencies=[1.0, 2.0, 3.0])
    y, u = face.array(rng.normal(size=(N, D))), face.array(rng.normal(size=(K, N, D)))

    def both(y, u):
        def extended(a):
            return field.geometry.extend(lambda b: field(0.0, b), a)

        found = field.geometry.extend_tangent(lambda a, b: field.tangent(0.0, a, b), y, u)
        return found, extended(y), jvps(face, extended, y, u)

    (g, dg), want, slope = as_one(face, both)(y, u)
    close(dg, slope)
    close(g, want, 1e-14)


# ------------------------------------------------------------------------------------------------------------ dimension
@pytest.mark.parametrize("geometry", [*SPHERES, ctsa.Euclidean()], ids=str)
def test_dimension_is_the_rank_of_the_projection(geometry):
    x = ctsa.random_tokens(N, D, channels=getattr(geometry, "channels", None))
    columns = [geometry.project(x, e.reshape(N, D)).ravel() for e in np.eye(N * D)]
    assert np.linalg.matrix_rank(np.array(columns)) == geometry.dimension(N, D)


def test_dimension():
    assert ctsa.Sphere().dimension(10, 3) == 20
    assert ctsa.Sphere(channels=4).dimension(10, 8) == 60
    assert ctsa.Euclidean().dimension(10, 3) == 30


# ------------------------------------------------------------------------------------------------------------ Euclidean
def test_flat_space_changes_nothing(lib, rng, close):
    flat = ctsa.Euclidean()
    x, v, u = rng.normal(size=(N, D)), rng.normal(size=(N, D)), rng.normal(size=(K, N, D))
    a, b, c = lib.array(x), lib.array(v), lib.array(u)
    for got, expected in (
        (flat.retract(a), x), (flat.project(a, b), v), (flat.project_tangent(a, c, b, 2 * c), 2 * u),
        (flat.exp(a, b), x + v), (flat.extend(lambda y: 3 * y, a), 3 * x), (flat.radius(a), np.ones((N, 1))),
        (flat.extend_tangent(lambda y, w: (3 * y, 3 * w), a, c)[1], 3 * u),
    ):  # fmt: skip
        close(got, expected, 0)
    close(flat.distance(a, b), np.linalg.norm(x - v, axis=-1), 1e-15)
    flat.check_dimension(17)


def test_one_oscillator_of_all_channels_is_a_token(rng, close):
    x, v, u = points(ctsa.Sphere())
    whole, one = ctsa.Sphere(), ctsa.Sphere(channels=D)
    close(one.project(x, v), whole.project(x, v), 1e-15)
    close(one.project_tangent(x, u, v, u), whole.project_tangent(x, u, v, u), 1e-15)
    close(one.distance(x, whole.retract(v))[..., 0], whole.distance(x, whole.retract(v)), 1e-15)


# ------------------------------------------------------------------------------------------------------------- geometry
def test_geometries_are_values():
    assert ctsa.Sphere() == ctsa.Sphere() != ctsa.Sphere(channels=2) != ctsa.Euclidean()
    assert len({ctsa.Sphere(), ctsa.Sphere(), ctsa.Euclidean(), ctsa.Euclidean()}) == 2


def test_geometry_of(torch_face):
    field = torch_face.SelfAttention(geometry=ctsa.Sphere(channels=2))
    assert geometry_of(field) == geometry_of(field, ctsa.Sphere(channels=2)) == ctsa.Sphere(channels=2)
    assert geometry_of(lambda t, x: x) == ctsa.Sphere()
    assert geometry_of(lambda t, x: x, ctsa.Euclidean()) == ctsa.Euclidean()
    with pytest.raises(ValueError, match="contradicts the field's own.*leave it out"):
        geometry_of(field, ctsa.Euclidean())
    with pytest.raises(TypeError, match=r"geometry must be ctsa.Sphere\(...\) or ctsa.Euclidean\(\), got 'sphere'"):
        geometry_of(field, "sphere")
