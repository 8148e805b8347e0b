"""Wrong input gets a clear error: all of it in PyTorch, a fixed sample in JAX, and the rows that were reported once."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from bad_input.allowed import ALLOWED
from bad_input.calls import calls
from bad_input.run import run
from conftest import FACES

import ctsa
from ctsa import theory

OTHER = {"torch": jnp.asarray, "jax": torch.as_tensor}
X = ctsa.random_tokens(4, 3)


@pytest.mark.parametrize("name, share", [("torch", 1), ("jax", 1 if os.environ.get("CTSA_SLOW") else 40)])
def test_wrong_input_is_named(name, share):
    counts, lines = run(calls(FACES[name], OTHER[name]), ALLOWED, only=lambda i: i % share == 0)
    every = sum(counts.values())
    clear = sum(n for (_, verdict), n in counts.items() if verdict == "clear")
    assert every >= 1500 // share and clear >= 0.98 * every, "\n".join(lines)
    assert not any(verdict == "hangs" for _, verdict in counts), "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- what was reported
def test_fields_and_layers_take_numpy_and_lists(face, close):
    field = face.SelfAttention(value=np.diag([2.0, 1.0, 0.5]), beta=2.0)
    layer, u = face.EulerLayer(field, 0.1), np.ones((2, 4, 3))
    x = face.array(X)
    for given in (X, X.tolist()):
        close(field(0.0, given), field(0.0, x), 1e-15)
        close(layer(given), layer(x), 1e-15)
        close(ctsa.EulerLayer(field, 0.1)(given), layer(x), 1e-15)
        close(field.scores(given), field.scores(x), 1e-15)
        close(field.tangent(0.0, given, u.tolist())[1], field.tangent(0.0, x, face.array(u))[1], 1e-15)
    close(ctsa.gram(X.tolist()), X @ X.T, 1e-15)
    assert ctsa.cluster_count(X.tolist()) == 4


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda f: f.SelfAttention(value=np.eye(2)), "value has shape"),
        (lambda f: f.SelfAttention(key_field=np.ones(2)), "key_field"),
        (lambda f: f.SelfAttention(mask=np.ones((3, 3))), "mask has shape"),
        (lambda f: f.Rotation(frequencies=[1.0]), "frequencies has shape"),
        (lambda f: f.Injection(np.ones((5, 3))), "input has shape"),
        (lambda f: f.SelfAttention().rescaled(np.ones(2)), "gain has shape"),
        (lambda f: f.EnergyAttention(memory=np.ones((3, 5))), "memory has shape"),
    ],
)
def test_sizes_are_named_on_direct_calls(face, make, match):
    field = make(face)
    for call in (lambda: field(0.0, face.array(X)), lambda: face.EulerLayer(field, 0.1)(face.array(X))):
        with pytest.raises(ValueError, match=match):
            call()


def test_precision_is_named_on_direct_calls(face):
    field = face.SelfAttention(beta=2.0)
    with pytest.raises(ValueError, match=r"x is .*float32 but the parameters are .*float64"):
        field(0.0, face.array(X, "float32"))


def test_swapped_arguments_are_named(face):
    with pytest.raises(ValueError, match=r"x must have shape \(..., n, d\)"):
        face.SelfAttention()(face.array(X), 0.0)
    with pytest.raises(ValueError, match=r"a system of 3 variables is one token, x\[None\]"):
        face.SelfAttention()(0.0, face.array(X[0]))
    with pytest.raises(ValueError, match=r"a system of 3 variables is one token, x0\[None\]"):
        ctsa.integrate(face.SelfAttention(), X[0], [0.0, 1.0])


def test_directions_have_an_axis_of_their_own(face):
    field, x = face.SelfAttention(), face.array(X)
    for call in (lambda u: ctsa.pushforward(field, 0.0, x, u), lambda u: field.tangent(0.0, x, u)):
        with pytest.raises(
            ValueError, match=r"u must have shape directions \(k, ..., n, d\), got \(4, 3\): u\[None\] is one"
        ):
            call(x)
        with pytest.raises(ValueError, match=r"u must be directions \(k, 4, 3\) at x, got shape \(2, 4, 2\)"):
            call(face.array(np.ones((2, 4, 2))))


@pytest.mark.parametrize(
    "analysis",
    [
        lambda f, x: ctsa.eigenvalues(f, x),
        lambda f, x: ctsa.jacobian(f, x),
        lambda f, x: ctsa.divergence(f, x),
        lambda f, x: ctsa.classify(f, x),
        lambda f, x: ctsa.spectral_norm(f, x),
        lambda f, x: ctsa.numerical_abscissa(f, x),
        lambda f, x: ctsa.jacobian_operator(f, x),
    ],
)
def test_advice_can_be_followed(face, analysis):
    with pytest.raises(ValueError, match=r"x must have unit tokens.* normalise it, ctsa.Sphere\(\).retract\(x\)"):
        analysis(face.SelfAttention(), 2 * X)
    analysis(face.SelfAttention(), ctsa.Sphere().retract(2 * X))


def test_tokens_that_are_unit_to_float32_are_normalised(face, close):
    coarse = X.astype(np.float32).astype(np.float64)
    assert 1e-9 < abs(np.linalg.norm(coarse, axis=-1) - 1).max() < 1e-6
    field = face.SelfAttention()
    steps = dict(solver="rk4", step=0.1)
    run = ctsa.integrate(field, coarse, [0.0, 1.0], **steps)
    assert abs(np.linalg.norm(face.numpy(run.xs[0]), axis=-1) - 1).max() < 1e-15
    close(run.xs[-1], ctsa.integrate(field, X, [0.0, 1.0], **steps).xs[-1], 1e-6)
    ctsa.eigenvalues(field, coarse)
    ctsa.iterate(face.EulerLayer(field, 0.1), coarse, depth=2)
    ctsa.lyapunov_spectrum(field, coarse, intervals=2, **steps)
    with pytest.raises(ValueError, match="unit tokens"):
        ctsa.integrate(field, (1 + 1e-5) * X, [0.0, 1.0])


def test_fields_without_time(face):
    with pytest.raises(TypeError, match=r"takes 1 argument\(s\): if it is a layer\(x\), ctsa.iterate applies it"):
        ctsa.integrate(lambda x: x, face.array(X), [0.0, 1.0])
    with pytest.raises(TypeError, match="ctsa.iterate"):
        ctsa.integrate(face.EulerLayer(face.SelfAttention(), 0.1), face.array(X), [0.0, 1.0])


@pytest.mark.parametrize(
    "run, match",
    [
        (lambda f: ctsa.iterate(f.EulerLayer(f.SelfAttention(), 0.1), X, depth=10**12), "would not end"),
        (lambda f: ctsa.iterate(f.EulerLayer(f.SelfAttention(), 0.1), X, depth=10**12, every=10**12), "would not end"),
        (lambda f: ctsa.iterate(f.EulerLayer(f.SelfAttention(), 0.1), X, depth=10**9), "would need .* GiB.*every="),
        (
            lambda f: ctsa.lyapunov_spectrum(f.SelfAttention(), X, intervals=10**12),
            "the history of .* would need .* GiB",
        ),
        (lambda f: ctsa.compare(f.SelfAttention(), X, 4.0, [1e-9]), r"step_sizes=1e-09 needs 4e\+09 layers"),
        (
            lambda f: ctsa.integrate(f.SelfAttention(how="dense"), ctsa.random_tokens(60_000, 64), [0.0, 1.0]),
            "attention among 60000 tokens.*GiB",
        ),
        (
            lambda f: ctsa.jacobian(f.Oja(np.eye(64)), ctsa.random_tokens(2000, 64)),
            "a dense Jacobian of 128000 unknowns .*GiB.*ctsa.leading",
        ),
        (lambda f: ctsa.random_tokens(10**9, 10**6), "GiB"),
    ],
)
def test_what_cannot_end_or_fit_is_refused(face, run, match):
    with pytest.raises(ValueError, match=match):
        run(face)


def test_one_dimensional_tokens_do_not_move(face):
    with pytest.raises(ValueError, match="d=1: tokens of the sphere of dimension 0 cannot move"):
        ctsa.lyapunov_spectrum(face.SelfAttention(), np.ones((1, 1)), intervals=2)


def test_random_tokens_take_a_number_of_batches():
    assert np.array_equal(ctsa.random_tokens(4, 3, batch=2), ctsa.random_tokens(4, 3, batch=(2,)))
    for seed in (-1, "a", 1.5, None):
        with pytest.raises((TypeError, ValueError), match="seed must be an integer"):
            ctsa.random_tokens(4, 3, seed=seed)


def test_steps_that_overflow(face):
    for layer in (face.EulerLayer, ctsa.EulerLayer):
        with pytest.raises(ValueError, match="step must be positive, and below 1e100"):
            layer(face.SelfAttention(), 1e308)


def test_closed_forms_take_arrays():
    g, beta, n = np.linspace(0, 0.9, 4)[:, None, None], np.array([0.0, 1.0, 5.0])[:, None], np.array([2, 10])
    times = theory.equiangular_time(g, beta, n)
    assert times.shape == (4, 3, 2)
    for i, j, k in np.ndindex(times.shape):
        assert times[i, j, k] == theory.equiangular_time(g[i, 0, 0], beta[j, 0], n[k])
