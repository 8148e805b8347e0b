"""Layers applied until they are at rest, or until a condition holds."""

import jax
import numpy as np
import pytest
import torch

import ctsa

FLAT = ctsa.Euclidean()


def halved(x):
    return 0.5 * x + 1


def test_stops_at_rest(face):
    """``x_k = 2 + (x_0 - 2) / 2^k``: the step ``|x_0 - 2| / 2^k`` is at rest from a known layer on."""
    starts = np.array([1.0, 100.0])
    run = ctsa.iterate(
        halved, face.array(starts.reshape(2, 1, 1)), 1000, every=10, until="fixed point", rest=1e-6, geometry=FLAT
    )
    exact = np.ceil(np.log2(np.abs(starts - 2) / 2e-6)).astype(int)
    assert run.stats["stop_layers"].tolist() == exact.tolist() and run.stats["stopped"]
    assert run.ts.tolist() == [0, 10, 20, exact.max()] and run.stats["layers"] == exact.max()
    assert float(run.xs[-1].max()) == pytest.approx(2 + 98 / 2 ** exact.max(), abs=1e-12)


def test_what_does_not_rest_goes_on(face):
    run = ctsa.iterate(lambda x: 2.0 - x, face.array([[0.5]]), 20, until="fixed point", geometry=FLAT)
    assert not run.stats["stopped"] and run.stats["stop_layers"] == -1 and len(run) == 21
    shrinking = ctsa.iterate(lambda x: 0.5 * x, face.array([[0.5]]), 100, until="fixed point", geometry=FLAT)
    assert shrinking.stats["stopped"] and shrinking.stats["stop_layers"] < 40


def test_a_condition_of_ones_own(face):
    start = face.array(np.array([1.0, 100.0]).reshape(2, 1, 1))
    run = ctsa.iterate(halved, start, 100, until=lambda x, before: (abs(x - before) < 0.1).all(-1).all(-1), geometry=FLAT)
    assert run.stats["stop_layers"].tolist() == [4, 10] and len(run) == 11
    once = ctsa.iterate(halved, start, 100, until=lambda x: bool((x < 3).all()), geometry=FLAT)
    assert once.stats["layers"] == 7 and once.stats["stop_layers"].tolist() == [7, 7]


def test_single_precision_inside_rests_above_its_rounding():
    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh())
    layer = ctsa.WrappedLayer(lambda x: block(x.float()).double(), geometry=FLAT)
    run = ctsa.iterate(layer, torch.randn(3, 8, dtype=torch.float64), 2000, until="fixed point")
    assert run.stats["stopped"]


def test_sphere_and_gradients(torch_face):
    layer = ctsa.EulerLayer(torch_face.Oja(np.diag([2.0, 1.0])), step=0.5)
    x = torch_face.array(ctsa.random_tokens(3, 2)).requires_grad_()
    run = ctsa.iterate(layer, x, 500, until="fixed point")
    assert run.stats["stopped"] and np.abs(torch_face.numpy(run.xs[-1])[:, 1]).max() < 1e-5
    run.xs[-1].sum().backward()
    assert x.grad is not None


def test_bad_input(face, jax_face):
    x = face.array([[1.0]])
    for until, text in (("rest", '"fixed point"'), (3, '"fixed point"'), (lambda x: 1.0, "True or False"),
                        (lambda a, b, c: True, "takes 3")):  # fmt: skip
        with pytest.raises(TypeError, match=text):
            ctsa.iterate(halved, x, 3, until=until, geometry=FLAT)
    with pytest.raises(ValueError, match="rest goes with"):
        ctsa.iterate(halved, x, 3, rest=1e-3, geometry=FLAT)
    with pytest.raises(TypeError, match="not with a sequence"):
        ctsa.iterate([halved], x, until="fixed point", geometry=FLAT)
    with pytest.raises(TypeError, match="until needs values"):
        jax.jit(lambda x: ctsa.iterate(halved, x, 3, until="fixed point", geometry=FLAT).xs)(jax_face.array([[1.0]]))
