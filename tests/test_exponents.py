"""Exponents as a plain function of arrays: values, gradients, transforms."""

import jax
import numpy as np
import pytest
import torch
from sampling import mainly

import ctsa

FLAT = ctsa.Euclidean()
V = np.random.default_rng(0).normal(size=(3, 3))
X0 = ctsa.random_tokens(4, 3)


def of_value(face, value, j=3):
    """Return the sum of the first exponents of attention with a value matrix."""
    field = face.SelfAttention(value=value, beta=2.0)
    return ctsa.exponents(field, X0, intervals=3, solver="euler", step=0.1)[:j].sum()


def slopes(f, p, eps=1e-5):
    """Return central differences of a function of a matrix."""
    found = np.zeros_like(p)
    for i in np.ndindex(*p.shape):
        e = np.zeros_like(p)
        e[i] = eps
        with torch.no_grad():
            found[i] = (float(f(p + e)) - float(f(p - e))) / (2 * eps)
    return found


def test_values_are_those_of_the_spectrum(face, torch_face):
    one, other = (each.SelfAttention(value=V, beta=2.0) for each in (face, torch_face))
    spec = ctsa.lyapunov_spectrum(other, X0, intervals=3, transient=1, interval=0.5)
    found = ctsa.exponents(one, X0, intervals=3, transient=1, interval=0.5)
    assert np.abs(face.numpy(found) - spec.history.mean(0)).max() < 1e-7


@mainly("torch")
def test_values_of_layers(face, torch_face):
    layer, other = (each.PostNormLayer(each.SelfAttention(value=V, beta=2.0), step=0.1) for each in (face, torch_face))
    spec = ctsa.lyapunov_spectrum(other, X0, intervals=4, transient=1, interval=2, count=3)
    found = ctsa.exponents(layer, X0, intervals=4, transient=1, interval=2, count=3)
    assert np.abs(face.numpy(found) - spec.history.mean(0)).max() < 1e-13
    many = ctsa.exponents([layer] * 10, X0, intervals=4, transient=1, interval=2, count=3)
    assert np.abs(face.numpy(many) - face.numpy(found)).max() < 1e-13


def test_gradients(torch_face, jax_face):
    along = np.random.default_rng(1).normal(size=(2, *V.shape))
    with torch.no_grad():
        ends = [[float(of_value(torch_face, V + s * a)) for s in (1e-5, -1e-5)] for a in along]
    v = torch.tensor(V, requires_grad=True)
    exact = of_value(torch_face, v)
    exact.backward()
    value, found = jax.jit(jax.value_and_grad(lambda v: of_value(jax_face, v)))(V)
    for a, (above, below) in zip(along, ends, strict=True):
        assert abs((v.grad.numpy() * a).sum() - (above - below) / 2e-5) < 1e-7
    assert np.abs(np.asarray(found) - v.grad.numpy()).max() < 1e-9 and abs(float(value) - exact.item()) < 1e-9


@pytest.mark.thorough  # the same equations as above, through adaptive steps
def test_gradients_through_adaptive_steps(torch_face, jax_face):
    def rate(face, v):
        return ctsa.exponents(face.SelfAttention(value=v, beta=2.0), X0, intervals=2, atol=1e-9)[:2].sum()

    exact = slopes(lambda v: rate(torch_face, v).detach(), V)
    v = torch.tensor(V, requires_grad=True)
    rate(torch_face, v).backward()
    assert np.abs(v.grad.numpy() - exact).max() < 1e-7
    found = jax.jit(jax.grad(lambda v: rate(jax_face, v)))(V)
    assert np.abs(np.asarray(found) - v.grad.numpy()).max() < 1e-9


def test_gradients_of_layers(torch_face, jax_face):
    def rate(face, v):
        return ctsa.exponents(face.PostNormLayer(face.SelfAttention(value=v), step=0.1), X0, intervals=3, interval=2)[0]

    exact = slopes(lambda v: rate(torch_face, v).detach(), V)
    v = torch.tensor(V, requires_grad=True)
    value = rate(torch_face, v)
    value.backward()
    other, found = jax.jit(jax.value_and_grad(lambda v: rate(jax_face, v)))(V)
    assert np.abs(v.grad.numpy() - exact).max() < 1e-9 and abs(float(other) - value.item()) < 1e-13
    assert np.abs(np.asarray(found) - v.grad.numpy()).max() < 1e-12


def test_gradients_in_forward_mode(jax_face):
    """And under vmap, in one program."""
    import diffrax

    def rate(b, **options):
        field = jax_face.SelfAttention(value=V, beta=b)
        return ctsa.exponents(field, X0, intervals=2, count=2, solver="rk4", step=0.1, **options)[0]

    def both(b):
        return jax.jvp(lambda b: rate(b, adjoint=diffrax.ForwardMode()), (b,), (1.0,))

    values, slopes = map(np.asarray, jax.jit(jax.vmap(both))(np.array([2.0, 2.0 + 1e-5, 2.0 - 1e-5])))
    assert abs(slopes[0] - (values[1] - values[2]) / 2e-5) < 1e-7
    assert max(abs(float(rate(b)) - value) for b, value in zip((2.0, 2.0 + 1e-5), values, strict=False)) < 1e-12


def test_the_derivative_of_the_sum_is_that_of_the_divergence(torch_face):
    # Oja's flow at its stable pole: the sum of all exponents is the trace, and so is its derivative.
    v = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    rates = ctsa.exponents(torch_face.Oja(torch.diag(v)), [[1.0, 0.0, 0.0]], intervals=4, atol=1e-11)
    rates.sum().backward()
    assert v.grad.tolist() == pytest.approx([-2.0, 1.0, 1.0], abs=1e-9)


def test_gradients_grow_with_chaos():
    # The logistic map at r = 4, lambda = log 2: derivatives of the mean over n steps grow like 2^n, whatever n.
    def slope(n):
        x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
        ctsa.exponents(lambda x: 4.0 * x * (1 - x), x, intervals=n, geometry=FLAT)[0].backward()
        return abs(float(x.grad[0, 0]))

    sizes = [slope(n) for n in (10, 20, 30)]
    assert sizes[1] > 50 * sizes[0] and sizes[2] > 50 * sizes[1]


@mainly("torch")
def test_bad_input(face):
    layer = face.PostNormLayer(face.SelfAttention(), step=0.1)
    with pytest.raises(ValueError, match="8 are asked for"):
        ctsa.exponents([layer] * 7, X0, intervals=4, interval=2)
    with pytest.raises(ValueError, match="more than the dimension of the manifold, 8"):
        ctsa.exponents(layer, X0, count=9)
    with pytest.raises(Exception, match="gave up in an interval"):
        np.asarray(face.numpy(ctsa.exponents(face.SelfAttention(), X0, intervals=1, max_steps=2)))
