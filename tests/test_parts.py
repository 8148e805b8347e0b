"""A field is described once: a class with a formula and its parts is a field of both frameworks, in every respect."""

import jax
import numpy as np
import pytest
import torch

import ctsa
from ctsa.fields import Field
from ctsa.parts import constant, everything, parameter, parts_of, static, walk


class Spring(Field):
    """Tokens are pulled towards a point, by springs of a matrix: dx_i/dt = P_i w_i K (a - x_i)."""

    parts = dict(
        stiffness=parameter("dd", "weight"), point=parameter("d", "bias", optional=True),
        weights=constant("n", optional=True),
        power=static(),
    )  # fmt: skip
    equivariant = True
    tokenwise = True

    def drift(self, t, x):
        pull = (-x if self.point is None else self.point - x) @ self.stiffness.mT
        return pull if self.weights is None else self.weights[:, None] ** self.power * pull


class TorchSpring(Spring, ctsa.torch.Field):
    pass


class JaxSpring(Spring, ctsa.jax.Field):
    pass


SPRINGS = {"torch": TorchSpring, "jax": JaxSpring}
K = np.array([[2.0, 0.3, 0.0], [0.1, 1.0, 0.2], [0.0, 0.0, 0.5]])
A, W = np.array([0.2, -0.4, 1.0]), np.array([1.0, 2.0, 0.5, 1.5])
X = ctsa.random_tokens(4, 3, seed=1)


def spring(face, **changes):
    return SPRINGS[face.name](**(dict(stiffness=K, point=A, weights=W, power=2) | changes))


def test_both_faces_agree(face):
    wanted = (W**2)[:, None] * ((A - X) @ K.T)
    wanted -= X * (X * wanted).sum(-1, keepdims=True)
    field = spring(face)
    assert np.abs(face.numpy(field(0.0, face.array(X))) - wanted).max() < 1e-14
    assert np.abs(face.numpy(SPRINGS[face.name](K, A, W, 2)(0.0, X)) - wanted).max() < 1e-14  # by position
    total = field + 0.5 * face.SelfAttention(beta=2.0)
    spec = ctsa.lyapunov_spectrum(total, X, intervals=8, transient=20, count=2)
    jac = ctsa.eigenvalues(total, spec.x)
    assert spec.exponents[0] == pytest.approx(jac.real.max(), abs=1e-3)


def test_derivative_without_a_closed_form(face):
    u = np.random.default_rng(0).normal(size=(2, 4, 3))
    u -= X * (X * u).sum(-1, keepdims=True)
    field, h = spring(face), 1e-6
    _, du = field.tangent(face.array(0.0), face.array(X), face.array(u))
    sphere = ctsa.Sphere()
    for one, d in zip(u, face.numpy(du), strict=True):
        ahead, behind = (face.numpy(field(0.0, face.array(sphere.retract(X + s * h * one)))) for s in (1, -1))
        difference = sphere.project(X, (ahead - behind) / (2 * h))
        assert np.abs(sphere.project(X, d) - difference).max() < 1e-8


def test_conversion(torch_face, jax_face):
    there = ctsa.jax.from_torch(spring(torch_face) * 2.0)
    assert isinstance(there.field, JaxSpring) and there.field.power == 2
    back = ctsa.torch.from_jax(there)
    assert torch.equal(back.field.stiffness, torch.as_tensor(K)) and float(back.factor) == 2.0

    class Alone(Spring, ctsa.torch.Field):
        pass

    class Own(Field):
        parts = dict(a=parameter("d"))

        def drift(self, t, x):
            return self.a + 0 * x

    class TorchOwn(Own, ctsa.torch.Field):
        pass

    with pytest.raises(TypeError, match=r"TorchOwn has no class in ctsa\.jax"):
        ctsa.jax.from_torch(TorchOwn(A))
    assert isinstance(ctsa.jax.from_torch(Alone(K, power=1)), JaxSpring)


def test_what_is_trained(torch_face, jax_face):
    field = spring(torch_face)
    assert [name for name, _ in field.named_parameters()] == ["stiffness", "point"]
    assert list(field.state_dict()) == ["stiffness", "point", "weights"]
    field.load_state_dict({k: 2 * v for k, v in field.state_dict().items()})
    assert torch.equal(field.stiffness, 2 * torch.as_tensor(K))
    ctsa.integrate(field, X, [0.0, 0.5]).xs[-1].sum().backward()
    assert bool(torch.isfinite(field.stiffness.grad).all()) and bool(field.stiffness.grad.any())
    leaves, _ = jax.tree_util.tree_flatten(spring(jax_face))
    assert len(leaves) == 3  # arrays; the power is static


def test_sizes_are_checked(face):
    field = spring(face)
    with pytest.raises(ValueError, match="but the field's weights has shape"):
        ctsa.integrate(field, ctsa.random_tokens(5, 3), [0.0, 1.0])
    with pytest.raises(ValueError, match="point has d=2, where d=3 was found before"):
        spring(face, point=[1.0, 2.0])
    with pytest.raises(ValueError, match="stiffness has d=3, where d=2 was found before"):
        spring(face, stiffness=np.ones((2, 3)))
    with pytest.raises(TypeError, match="stiffness must be an array"):
        spring(face, stiffness=None)
    with pytest.raises(TypeError, match="tension is no part of .*Spring, which has stiffness, point, weights, power"):
        spring(face, tension=1.0)
    with pytest.raises(TypeError, match="power must be given"):
        SPRINGS[face.name](K)
    with pytest.raises(TypeError, match="takes 4 parts"):
        SPRINGS[face.name](K, A, W, 2, 3)
    with pytest.raises(TypeError, match="stiffness was given twice"):
        SPRINGS[face.name](K, stiffness=K)


def test_symmetry_follows(face):
    assert int(ctsa.symmetry.rotation_modes(spring(face, stiffness=np.eye(3), point=None), X)) == 3
    assert int(ctsa.symmetry.rotation_modes(spring(face), X)) == 0
    assert int(ctsa.symmetry.rotation_modes(spring(face, stiffness=np.eye(3)), X)) == 0  # the point stands still


def test_identity_and_continuation(face, tmp_path):
    run = dict(intervals=4, transient=2, count=1)
    first = ctsa.lyapunov_spectrum(spring(face), X, **run)
    again = ctsa.lyapunov_spectrum(spring(face), X, **run)
    other = ctsa.lyapunov_spectrum(spring(face, weights=W + 0.1), X, **run)
    assert first.identity == again.identity != other.identity
    total = face.Scaled(spring(face), 1.0)
    from ctsa.continuation._families import find_parameter, with_value

    path, value = find_parameter(total, "factor")
    assert (path, value) == (("factor",), 1.0)
    assert float(face.numpy(with_value(total, path, face.array(3.0)).factor)) == 3.0
    assert float(ctsa.spectral_regulariser(spring(face))) == pytest.approx(
        (np.linalg.svd(K)[1][0] ** 2 - 1) ** 2 + (A @ A) ** 2, rel=1e-12
    )


def test_the_walk(face):
    layer = face.EulerLayer(spring(face) + 2.0 * face.Injection(A), 0.1)
    places = [path for path, part, _ in walk(layer) if part.is_array]
    inside = [("field", "fields", 0, name) for name in ("stiffness", "point", "weights")]
    outside = [("step",), ("t",), ("field", "fields", 1, "factor"), ("field", "fields", 1, "field", "input")]
    assert sorted(map(str, places)) == sorted(map(str, inside + outside))
    assert [type(each).__name__ for each in everything(layer)] == [
        "EulerLayer", "Sum", SPRINGS[face.name].__name__, "Scaled", "Injection",
    ]  # fmt: skip
    assert parts_of(torch.nn.Linear) == {}


def test_faces_state_nothing_twice(torch_face, jax_face):
    """Every class of a face has the attributes that its formula states, and no others of its own."""
    for module in (ctsa.torch, ctsa.jax):
        for name in module.__all__:
            kind = getattr(module, name)
            if isinstance(kind, type) and name != "Field":
                assert list(parts_of(kind))[-1] == "geometry" and len(parts_of(kind)) > 1
