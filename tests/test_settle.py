"""Batches of states led to fixed points side by side: linear maps, inputs of their own, unstable points, rounding."""

import numpy as np
import pytest
import torch
from sampling import mainly, sample

import ctsa
from ctsa.fixed_points import settle
from ctsa.layers.check import output_noise

FLAT = ctsa.Euclidean()


def linear(face, size, seed=0, norm=None):
    """``x -> M x + b``, M, and its fixed point."""
    rng = np.random.default_rng(seed)
    m, b = rng.normal(size=(size, size)) / size**0.5, rng.normal(size=size)
    m = m if norm is None else m * norm / np.abs(np.linalg.eigvals(m)).max()
    a, c = face.array(m.T), face.array(b)
    return (lambda x: x @ a + c), m, np.linalg.solve(np.eye(size) - m, b)


@pytest.mark.parametrize(("face", "size"), sample([
    (name, size) for name in ("torch", "jax") for size in (1, 2, 4)
], lambda name, size: name == "torch" or size == 4), indirect=["face"])  # fmt: skip
def test_anderson_solves_linear_maps_in_size_plus_one_evaluations(face, size, close):
    f, _, exact = linear(face, size)
    starts = face.array(np.random.default_rng(1).normal(size=(3, 1, size)))
    found = settle(f, starts, newton=0, memory=size, geometry=FLAT)
    assert found.arrived.all() and (found.evaluations <= size + 3).all()  # the first, N + 1, and one for rounding
    close(found.states[:, 0], np.tile(exact, (3, 1)), 1e-12)


def test_newton_alone_solves_linear_maps(face, close):
    f, _, exact = linear(face, 3)
    found = settle(f, face.array(np.ones((2, 1, 3))), evaluations=0, geometry=FLAT)
    assert found.arrived.all()
    close(found.states[:, 0], np.tile(exact, (2, 1)), 1e-13)


@mainly("torch")
def test_newton_krylov_beyond_the_dense_size(face, close):
    """Plain loops diverge along one direction."""
    rng, m = np.random.default_rng(0), linear(face, 300, norm=0.5)[1]
    b, e = rng.normal(size=(2, 300))
    m = m + np.outer(e, e) / (e @ e)
    a, c, exact = face.array(m.T), face.array(b), np.linalg.solve(np.eye(300) - m, b)

    def f(x):
        return x @ a + c

    found = settle(f, face.array(np.zeros((2, 1, 300))), evaluations=0, newton=40, geometry=FLAT)
    assert found.arrived.all()
    close(found.states[:, 0], np.tile(exact, (2, 1)), 1e-9)


def test_what_plain_loops_leave_is_found_all_the_same(face):
    one = face.array([2.0])
    found = settle(lambda x: 1000 * x + one, face.array(np.ones((1, 1, 1))), loops=5, geometry=FLAT)
    assert found.diverged.all() and found.arrived.all()
    assert found.states.item() == pytest.approx(-2 / 999, abs=1e-15)


def test_members_have_inputs_of_their_own(face, close):
    """Each member is a problem of its own; no call has fewer members than came."""
    b = np.array([0.5, 1.0, 2.0, 4.0]).reshape(2, 2, 1, 1)
    shapes = set()

    def layer(x):
        shapes.add(tuple(x.shape))
        return (x + face.array(b) / x) / 2  # Heron: sqrt(b)

    found = settle(layer, face.array(np.full((2, 2, 1, 1), 1.5)), geometry=FLAT)
    assert found.states.shape == (2, 2, 1, 1) and found.arrived.shape == (2, 2) == found.evaluations.shape
    close(found.states, np.sqrt(b), 1e-14)
    assert shapes == {(2, 2, 1, 1)}


def test_frameworks_agree(torch_face, jax_face, close):
    v = np.diag([3.0, 2.0, 1.0])
    x = ctsa.random_tokens(5, 3, batch=4)
    found = [
        settle(face.EulerLayer(face.SelfAttention(value=v, beta=2.0), 0.5), face.array(x), loops=3)
        for face in (torch_face, jax_face)
    ]
    assert all(f.arrived.all() for f in found)
    close(found[0].states, found[1].states, 1e-10)


def test_nothing_is_claimed_that_creeps(face):
    """A drift of 1e-7 a loop is no rest in float64, and within a map that has no fixed point none is found."""
    found = settle(lambda x: x + 1e-7, face.array(np.ones((1, 1, 1))), loops=20, geometry=FLAT)
    assert not found.arrived.any() and found.residuals.item() > 1e3 * found.floors.item()


def test_single_precision(face):
    f, _, exact = linear(face, 3)
    a, c = (face.array(v, "float32") for v in (linear(face, 3)[1].T, exact - linear(face, 3)[1] @ exact))
    found = settle(lambda x: x @ a + c, face.array(np.ones((1, 1, 3)), "float32"), geometry=FLAT)
    assert found.arrived.all() and 1e-7 < found.floors.item() < 1e-4
    assert np.abs(found.states - exact).max() < 1e-4


def test_single_precision_inside():
    """The floor is that of the module, not of the states."""
    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh())
    layer = ctsa.WrappedLayer(lambda x: block(x.float()).double(), geometry=FLAT)
    x = torch.randn(3, 2, 16, dtype=torch.float64)
    noise = output_noise(layer, x, FLAT)
    assert ((noise > 3e-9) & (noise < 3e-7)).all()
    found = settle(layer, x)
    assert found.arrived.all() and (found.floors > 1e-7).all()
    assert (output_noise(lambda x: torch.tanh(3 * x), x, FLAT) < 1e-13).all()


def test_own_geometries(face, close):
    """On the ellipsoid ``x^2 + 4 y^2 = 1`` the map ``N(A x)`` has its fixed points along eigenvectors."""

    class Ellipse(ctsa.Geometry):
        radial = True

        def radius(self, y):
            return ((y * y * self.like([1.0, 4.0], y)).sum(-1)[..., None]) ** 0.5

        def project(self, x, v):
            normal = x * self.like([1.0, 4.0], x)
            return v - (normal * v).sum(-1)[..., None] / (normal * x).sum(-1)[..., None] * x

        def dimension(self, n, d):
            return n

    a = face.array([[2.0, 0.5], [0.5, 1.0]])
    layer = face.WrappedLayer(lambda x: x @ a, geometry=Ellipse())
    x = face.array([[[1.0, 0.0]], [[0.0, 0.5]]])
    for how in (dict(evaluations=0), dict(newton=0)):
        found = settle(layer, x, **how)
        assert found.arrived.all()
        slopes = found.states[:, 0, 1] / found.states[:, 0, 0]
        vectors = np.linalg.eigh([[2.0, 0.5], [0.5, 1.0]])[1]
        exact = vectors[1] / vectors[0]
        assert np.abs(slopes[:, None] - exact).min(1).max() < 1e-10


def test_bad_input(face):
    x = face.array(np.ones((1, 1, 1)))
    with pytest.raises(TypeError, match="one layer"):
        settle(face.SelfAttention(), face.array(ctsa.random_tokens(3, 3)))
    with pytest.raises(TypeError, match="callable as layer"):
        settle(3, x)
    with pytest.raises(ValueError, match="memory"):
        settle(lambda x: x, x, memory=0, geometry=FLAT)
