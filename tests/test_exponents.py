"""Exponents as a plain function of arrays: values, gradients, transforms."""

import numpy as np
import pytest
import torch

import ctsa

FLAT = ctsa.Euclidean()
V = np.random.default_rng(0).normal(size=(3, 3))
X0 = ctsa.random_tokens(4, 3)


def of_value(face, value, j=3):
    """Return the sum of the first exponents of attention with a value matrix."""
    return ctsa.exponents(face.SelfAttention(value=value, beta=2.0), X0, intervals=3)[:j].sum()


def slopes(f, p, eps=1e-5):
    """Return central differences of a function of a matrix."""
    found = np.zeros_like(p)
    for i in np.ndindex(*p.shape):
        e = np.zeros_like(p)
        e[i] = eps
        with torch.no_grad():
            found[i] = (float(f(p + e)) - float(f(p - e))) / (2 * eps)
    return found


def test_values_are_those_of_the_spectrum(face):
    field = face.SelfAttention(value=V, beta=2.0)
    spec = ctsa.lyapunov_spectrum(field, X0, intervals=3, transient=1, interval=0.5)
    found = ctsa.exponents(field, X0, intervals=3, transient=1, interval=0.5)
    assert np.abs(face.numpy(found) - spec.history.mean(0)).max() < 1e-7


def test_values_of_layers(face):
    field = face.SelfAttention(value=V, beta=2.0)
    layer = face.PostNormLayer(field, step=0.1)
    spec = ctsa.lyapunov_spectrum(layer, X0, intervals=4, transient=1, interval=2, count=3)
    found = ctsa.exponents(layer, X0, intervals=4, transient=1, interval=2, count=3)
    assert np.abs(face.numpy(found) - spec.history.mean(0)).max() < 1e-13
    many = ctsa.exponents([layer] * 10, X0, intervals=4, transient=1, interval=2, count=3)
    assert np.abs(face.numpy(many) - face.numpy(found)).max() < 1e-13


def test_gradients(torch_face, jax_face):
    import jax

    exact = slopes(lambda v: of_value(torch_face, v).detach(), V)
    v = torch.tensor(V, requires_grad=True)
    of_value(torch_face, v).backward()
    found = jax.grad(lambda v: of_value(jax_face, v))(jax.numpy.asarray(V))
    assert np.abs(v.grad.numpy() - exact).max() < 1e-7
    assert np.abs(np.asarray(found) - v.grad.numpy()).max() < 1e-9


def test_gradients_of_layers(torch_face, jax_face):
    import jax

    def rate(face, v):
        return ctsa.exponents(face.PostNormLayer(face.SelfAttention(value=v), step=0.1), X0, intervals=3, interval=2)[0]

    exact = slopes(lambda v: rate(torch_face, v).detach(), V)
    v = torch.tensor(V, requires_grad=True)
    rate(torch_face, v).backward()
    found = jax.grad(lambda v: rate(jax_face, v))(jax.numpy.asarray(V))
    assert np.abs(v.grad.numpy() - exact).max() < 1e-9
    assert np.abs(np.asarray(found) - v.grad.numpy()).max() < 1e-12


def test_gradients_in_forward_mode(jax_face):
    import diffrax
    import jax

    def rate(b):
        field = jax_face.SelfAttention(value=V, beta=b)
        return ctsa.exponents(field, X0, intervals=2, count=2, adjoint=diffrax.ForwardMode())[0]

    value, slope = jax.jvp(rate, (2.0,), (1.0,))
    assert abs(slope - (rate(2.0 + 1e-5) - rate(2.0 - 1e-5)) / 2e-5) < 1e-7 and abs(value - rate(2.0)) < 1e-12


def test_jit_and_vmap(jax_face):
    import jax

    values = jax.numpy.stack([jax.numpy.asarray(V), 0.5 * V])
    one = jax.jit(lambda v: of_value(jax_face, v))
    many = jax.vmap(lambda v: of_value(jax_face, v))(values)
    for v, found in zip(values, many, strict=True):
        assert abs(one(v) - found) < 1e-9
    assert abs(of_value(jax_face, values[0]) - many[0]) < 1e-9


def test_the_derivative_of_the_sum_is_that_of_the_divergence(torch_face):
    # Oja's flow at its stable pole: the sum of all exponents is the trace, and so is its derivative.
    v = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    rates = ctsa.exponents(torch_face.Oja(torch.diag(v)), [[1.0, 0.0, 0.0]], intervals=4, atol=1e-11)
    rates.sum().backward()
    assert v.grad.tolist() == pytest.approx([-2.0, 1.0, 1.0], abs=1e-9)


def test_gradients_grow_with_chaos(jax_face):
    # The logistic map at r = 4, lambda = log 2: derivatives of the mean over n steps grow like 2^n, whatever n.
    import jax

    def rate(x, n):
        def logistic(x):
            return 4.0 * x * (1 - x)

        return ctsa.exponents(logistic, x, intervals=n, geometry=FLAT)[0]

    x = jax.numpy.asarray([[0.3]])
    sizes = [abs(float(jax.grad(lambda x, n=n: rate(x, n))(x)[0, 0])) for n in (10, 20, 30)]
    assert sizes[1] > 50 * sizes[0] and sizes[2] > 50 * sizes[1]


def test_bad_input(face):
    layer = face.PostNormLayer(face.SelfAttention(), step=0.1)
    with pytest.raises(ValueError, match="8 are asked for"):
        ctsa.exponents([layer] * 7, X0, intervals=4, interval=2)
    with pytest.raises(ValueError, match="more than the dimension of the manifold, 8"):
        ctsa.exponents(layer, X0, count=9)
    with pytest.raises(Exception, match="gave up in an interval"):
        np.asarray(face.numpy(ctsa.exponents(face.SelfAttention(), X0, intervals=1, max_steps=2)))
