"""Layers are the Euler steps they claim to be; effective steps of any module, and what no step explains."""

import re

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sampling import sample

import ctsa

N, D = 5, 4
X = ctsa.random_tokens(N, D, seed=1)
RNG = np.random.default_rng(2)
VALUE, INPUT = RNG.normal(size=(D, D)), RNG.normal(size=(N, D))
PAIRS, FLAT = ctsa.Sphere(channels=2), ctsa.Euclidean()


def attention(face, geometry=None, **options):
    return face.SelfAttention(value=VALUE, beta=1.5, geometry=geometry, **options)


def driven(face, geometry=None):
    return attention(face, geometry) + face.Injection(INPUT, geometry=geometry)


def turn(face):
    return face.Rotation(frequencies=[1.0, 2.0], geometry=PAIRS)


def speed(face, scheme):
    return face.SpeedRegulated(attention(face), scheme).layers(0.3, 3)[2]


# name -> (layer, nominal step, one step for all tokens)
LAYERS = {
    "euler": (lambda f: f.EulerLayer(driven(f), 0.3), 0.3, True),
    "plain euler": (lambda f: ctsa.EulerLayer(driven(f), 0.3), 0.3, True),
    "oscillators": (lambda f: f.EulerLayer(driven(f, PAIRS) + turn(f), 0.3), 0.3, True),
    "geodesic": (lambda f: f.EulerLayer(driven(f), 0.1, retraction="exp"), 0.1, False),
    "post-norm": (lambda f: f.PostNormLayer(driven(f), 0.4), 0.4, False),
    "post-norm of oscillators": (lambda f: f.PostNormLayer(driven(f, PAIRS), 0.4), 0.4, False),
    "itrsa": (lambda f: f.ItrSA(driven(f), step=0.6, gamma=0.8), 0.75, False),
    "itrsa of equal gammas": (lambda f: f.ItrSA(driven(f), step=0.6, gamma=np.full(D, 0.8)), 0.75, False),
    "akorn": (lambda f: f.AKOrN(driven(f, PAIRS), turn(f), step=0.7), 0.7, True),
    "akorn, identity": (lambda f: f.AKOrN(driven(f, PAIRS), step=0.7, identity=True), 0.7 / 1.7, True),
    "akorn, no projection": (lambda f: f.AKOrN(driven(f, PAIRS), turn(f), step=0.3, project=False), 0.3, False),
    "energy transformer": (lambda f: f.EulerLayer(f.EnergyAttention(beta=2.0, geometry=FLAT), 0.1), 0.1, True),
    "flat post-norm": (lambda f: f.PostNormLayer(attention(f, FLAT), 0.1), 0.1, True),
    "post": (lambda f: speed(f, "post"), 0.3, False),
    "ngpt": (lambda f: speed(f, "ngpt"), 0.3, False),
    "ln-scaling": (lambda f: speed(f, "ln-scaling"), 0.3, False),
    "peri": (lambda f: speed(f, "peri"), 0.3, True),
}


# ------------------------------------------------------------------------------------------------------------ as_euler
@pytest.mark.parametrize(
    ("face", "name"),
    sample(
        [(face, name) for face in ("torch", "jax") for name in LAYERS],
        lambda face, name: face == "torch" or name in ("euler", "post-norm", "itrsa", "akorn", "flat post-norm", "peri"),
    ),
    indirect=["face"],
)
def test_every_layer_is_the_euler_step_it_names(face, name):
    make, step, constant = LAYERS[name]
    form = ctsa.as_euler(make(face))
    assert form.difference < 1e-12
    assert form.step == pytest.approx(step, rel=1e-14) and form.constant == constant and form.states == 16
    assert form.smallest <= form.largest and (form.smallest == form.largest) == constant
    # Written out: steps by hand, velocity of the field, normalisation.
    g = form.layer.geometry
    rng = np.random.default_rng(5)
    x = rng.normal(size=(N, D)) if g == FLAT else g.retract(rng.normal(size=(N, D)))
    s = face.numpy(form.steps(x))
    v = face.numpy(form.field(getattr(form.layer, "t", 0.0), face.array(x)))
    y = g.retract(x + g.spread(s, v))
    sign = g.spread(np.where(s < 0, -1.0, 1.0), np.ones_like(y)) if g != FLAT else 1.0
    assert np.abs(sign * y - face.numpy(form.layer(face.array(x)))).max() < 1e-12


def test_both_frameworks(torch_face, jax_face):
    for name in ("post-norm", "itrsa", "akorn, identity"):
        a, b = (ctsa.as_euler(LAYERS[name][0](face), ctsa.random_tokens(N, D, channels=2)) if "akorn" in name
                else ctsa.as_euler(LAYERS[name][0](face), X) for face in (torch_face, jax_face))  # fmt: skip
        assert [a.smallest, a.largest, a.step] == pytest.approx([b.smallest, b.largest, b.step], rel=1e-12)


def test_jumps_to_the_far_side(torch_face):
    """1 + h <x, v> < 0: the layer is minus the Euler step of a negative size."""
    layer = torch_face.PostNormLayer(torch_face.Oja(-np.eye(2)), 3.0)  # v = -mean(x): consensus jumps across
    form = ctsa.as_euler(layer, np.ones((2, 3, 1)) * [[1.0, 0.0]])
    assert form.flips == 1 and form.smallest == form.largest == pytest.approx(3 / (1 - 3)) and form.difference == 0
    assert "flips=100.0%" in repr(form)


def test_states_fit_the_parameters(torch_face):
    assert ctsa.as_euler(torch_face.EulerLayer(torch_face.Injection(np.ones((7, 6))), 0.1)).difference == 0
    mask = torch_face.SelfAttention(mask=np.tri(9))
    assert ctsa.as_euler(torch_face.EulerLayer(mask, 0.1)).states == 16
    one = ctsa.as_euler(torch_face.EulerLayer(mask, 0.1), ctsa.random_tokens(9, 3))
    assert one.states == 1
    shown = r"EulerForm\(EulerLayer: step=0.1 of the flow of SelfAttention, difference=.* on 1 states\)"
    assert re.fullmatch(shown, repr(one))


def test_a_layer_that_lies_is_found_out(torch_face):
    class Wrong(ctsa.EulerLayer):
        def move(self, x):
            return x + 1.001 * self.step * self.field(0.0, x)

    form = ctsa.as_euler(Wrong(attention(torch_face), 0.3), X)
    assert 1e-6 < form.difference < 1e-3


def test_layers_without_an_euler_form(torch_face):
    with pytest.warns(UserWarning, match="no flow"):
        vector = torch_face.ItrSA(attention(torch_face), gamma=[1.0, 2.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="ItrSA has no flow: gamma is a vector"):
        ctsa.as_euler(vector)
    with pytest.raises(ValueError, match="of higher order"):
        ctsa.as_euler(ctsa.RungeKuttaLayer(attention(torch_face), 0.1))
    with pytest.raises(ValueError, match="a wrapped module does not say"):
        ctsa.as_euler(ctsa.WrappedLayer(lambda x: x))
    with pytest.raises(TypeError, match="effective_step"):
        ctsa.as_euler(lambda x: x)
    with pytest.raises(ValueError, match="states has n=5 tokens of dimension d=3"):
        ctsa.as_euler(torch_face.EulerLayer(attention(torch_face), 0.1), ctsa.random_tokens(5, 3))


# ------------------------------------------------------------------------------------------------------ effective_step
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "ln-scaling"])
def test_effective_steps_of_known_layers(torch_face, jax_face, name):
    face = jax_face if name in ("post-norm", "akorn") else torch_face  # the fit itself is NumPy
    layer = LAYERS[name][0](face)
    x = layer.geometry.retract(X)
    fit = ctsa.effective_step(layer, x)
    exact = face.numpy(layer.euler_step(face.array(x)))
    kept = ~fit.turned
    assert kept.mean() > 0.5
    assert np.abs(fit.steps[kept] / exact[kept] - 1).max() < 1e-12 and fit.residuals[kept].max() < 1e-12
    assert np.array_equal(fit.turned, exact < 0)


def test_a_bare_module_against_a_field(face):
    """The module need not be a layer of ours, nor normalise."""
    field = attention(face)
    fit = ctsa.effective_step(lambda x: 3 * (x + 0.25 * field(0.0, x)), X, field)
    assert np.abs(fit.steps - 0.25).max() < 1e-14 and fit.common_step == pytest.approx(0.25, rel=1e-14)
    assert fit.common_residual < 1e-14
    v = face.numpy(field(0.0, face.array(X)))
    assert np.abs(fit.angles - np.arctan(0.25 * np.linalg.norm(v, axis=-1))).max() < 1e-14


@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 3.0), step=st.floats(0.01, 2.0))
def test_what_no_step_explains(torch_face, seed, size, step):
    """Add an update orthogonal to token and velocity, of known size: residual |p| / (|p|^2 + |s v|^2)^(1/2)."""
    x = ctsa.random_tokens(N, D, seed=seed)
    field = attention(torch_face)
    v = field(0.0, torch_face.array(x)).detach().numpy()
    p = np.random.default_rng([seed, 1]).normal(size=(N, D))
    for axis in (x, v / np.linalg.norm(v, axis=-1, keepdims=True)):
        p -= (p * axis).sum(-1, keepdims=True) * axis
    p *= size / np.linalg.norm(p, axis=-1, keepdims=True)
    y = ctsa.Sphere().retract(x + step * v + p)
    fit = ctsa.effective_step(lambda z: torch_face.array(y), x, field)
    along = step * np.linalg.norm(v, axis=-1)
    assert np.abs(fit.steps / step - 1).max() < 1e-9
    assert np.abs(fit.residuals - size / np.hypot(size, along)).max() < 1e-11
    total = (along**2).sum()
    assert fit.common_step == pytest.approx(step, rel=1e-10)
    assert fit.common_residual == pytest.approx(size * N**0.5 / np.sqrt(size**2 * N + total), abs=1e-11)


def test_one_step_for_all_is_the_best_one(torch_face):
    field = attention(torch_face)
    layer = torch_face.PostNormLayer(field, 0.5)
    fit = ctsa.effective_step(layer, X)
    v = field(0.0, torch_face.array(X)).detach().numpy()
    w = fit.steps[:, None] * v

    def unexplained(s):
        return np.linalg.norm(w - s * v) / np.linalg.norm(w)

    assert unexplained(fit.common_step) == pytest.approx(fit.common_residual, rel=1e-12)
    assert all(unexplained(fit.common_step + e) > fit.common_residual for e in (-1e-3, 1e-3))


def test_tokens_that_turn_too_far_stand_still_or_have_no_velocity(torch_face):
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    y = np.array([[-0.6, 0.8], [0.0, 1.0], [0.0, 1.0], [0.8, 0.6]])
    rates = torch_face.array([[1.0], [1.0], [1.0], [0.0]])

    def field(t, x):  # the last token is given no velocity, but moves
        return rates * torch.stack([-x[:, 1], x[:, 0]], -1)

    fit = ctsa.effective_step(lambda z: torch_face.array(y), torch_face.array(x), field)
    assert fit.turned.tolist() == [True, True, False, False]
    assert np.isnan(fit.steps).tolist() == [True, True, False, True] and fit.steps[2] == 0
    assert np.isnan(fit.residuals[:2]).all() and fit.residuals[2:].tolist() == [0, 1]
    assert fit.common_step == 0 and fit.common_residual == 1
    assert "2 turned too far" in repr(fit) and "2 of 4" in fit.table()
    ax = fit.plot()
    ax.figure.canvas.draw()
    assert np.array_equal(ax.lines[0].get_xydata()[2], [0, 0])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one token", "one step for all, 0: 100.0% unexplained"]
    plt.close(ax.figure)


def test_flat_space(face):
    field = attention(face, FLAT)
    fit = ctsa.effective_step(ctsa.EulerLayer(field, 0.2), 3 * X)
    assert np.abs(fit.steps - 0.2).max() < 1e-13 and not fit.turned.any()


def test_transformer_block(torch_face):
    """A trained-looking post-norm block: finite numbers between 0 and 1."""
    torch.manual_seed(0)
    block = torch.nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0, batch_first=True, dtype=torch.float64).eval()
    layer = torch_face.WrappedLayer(block, scale=D**0.5, batched=True)
    fit = ctsa.effective_step(layer, X - X.mean(-1, keepdims=True), attention(torch_face), normalize=True)
    seen = fit.residuals[~fit.turned]
    assert seen.size and ((0 <= seen) & (seen <= 1)).all() and 0 < fit.common_residual <= 1


def test_batches_saving_and_pytrees(jax_face, tmp_path):
    layer = LAYERS["akorn"][0](jax_face)
    x = ctsa.random_tokens(N, D, batch=(3,), channels=2)
    fit = ctsa.effective_step(layer, x)
    assert fit.steps.shape == (3, N, 2)
    again = ctsa.load(fit.save(tmp_path / "fit"))
    assert np.array_equal(again.steps, fit.steps) and again.common_step == fit.common_step
    assert len(jax.tree_util.tree_leaves(fit)) == 4


def test_bad_input(torch_face):
    field = attention(torch_face)
    with pytest.raises(ValueError, match="field is needed .* which flow it is a step of"):
        ctsa.effective_step(lambda x: x, torch_face.array(X))
    with pytest.raises(ValueError, match="field is needed to compare WrappedLayer"):
        ctsa.effective_step(ctsa.WrappedLayer(lambda x: x), torch_face.array(X))
    with pytest.raises(ValueError, match=r"keep shape and dtype of the state, \(5, 4\)"):
        ctsa.effective_step(lambda x: x[:-1], X, field)
    with pytest.raises(TypeError, match="module must be callable"):
        ctsa.effective_step(3, X, field)
    with pytest.raises(TypeError, match="field must be callable"):
        ctsa.effective_step(lambda x: x, X, 3)
    with pytest.raises(ValueError, match="contradicts"):
        ctsa.effective_step(LAYERS["akorn"][0](torch_face), X, field)
    with pytest.raises(ValueError, match="unit tokens"):
        ctsa.effective_step(lambda x: x, 2 * X, field)


def test_effective_step_of_another_precision_says_what_to_do(torch_face):
    module = torch_face.WrappedLayer(torch.nn.Linear(3, 3))
    with pytest.raises(TypeError, match=r"module.double\(\)"):
        ctsa.effective_step(module, ctsa.random_tokens(4, 3), torch_face.SelfAttention(value=np.eye(3)))


def test_effective_step_of_plain_callables_asks_for_arrays_of_a_framework():
    x = ctsa.random_tokens(3, 2)
    plain = dict(module=lambda x: x, field=lambda t, x: 0 * x)
    with pytest.raises(TypeError, match="the framework is unknown: pass x as a torch.Tensor or a jax.Array"):
        ctsa.effective_step(x=x, **plain)
    assert np.isnan(ctsa.effective_step(x=torch.as_tensor(x), **plain).common_residual)  # nothing moves
