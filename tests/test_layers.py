"""Euler layers against their formula, against the flow, and each other; iterate; bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ctsa

N, D = 5, 4
X = ctsa.random_tokens(N, D, seed=1)
VALUE = np.random.default_rng(2).normal(size=(D, D))


def build(face, value=VALUE, **options):
    return face.SelfAttention(value=value, beta=1.5, **options) + face.Rotation(value - value.T)


def euler(x, v, h):
    y = x + h * v
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def variants(face, field, step):
    """The layer of the face, and the plain one."""
    return face.EulerLayer(field, step), ctsa.EulerLayer(field, step)


# ------------------------------------------------------------------------------------------------------------ formula
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_formula(face, batch):
    field, x = build(face), ctsa.random_tokens(N, D, seed=3, batch=batch)
    v = face.numpy(field(0.0, face.array(x)))
    for layer in variants(face, field, 0.3):
        y = face.numpy(layer(face.array(x)))
        assert np.abs(y - euler(x, v, 0.3)).max() < 1e-15
        assert np.abs(np.linalg.norm(y, axis=-1) - 1).max() < 1e-15


def test_frameworks_agree(torch_face, jax_face):
    ends = [face.numpy(face.EulerLayer(build(face), 0.3)(face.array(X))) for face in (torch_face, jax_face)]
    assert np.abs(ends[0] - ends[1]).max() < 1e-15


def test_oscillators_are_normalised_one_by_one(face):
    pairs = ctsa.Sphere(channels=2)
    layer = face.EulerLayer(face.Rotation(frequencies=[1.0, -2.0], geometry=pairs), 0.5)
    x = ctsa.random_tokens(N, D, seed=4, channels=2)
    y = face.numpy(layer(face.array(x))).reshape(N, 2, 2)
    turned = np.arctan2(y[..., 1], y[..., 0]) - np.arctan2(x[:, 1::2], x[:, 0::2])
    # A normalised Euler step turns by arctan(h w), not by h w.
    assert np.abs(np.sin(turned - np.arctan([0.5, -1.0]))).max() < 1e-15


def test_flat_space_is_not_normalised(face):
    layer = face.EulerLayer(lambda t, x: -x, 0.5, geometry=ctsa.Euclidean())
    assert face.numpy(layer(face.array([[2.0, 4.0]]))).tolist() == [[1.0, 2.0]]


def test_post_norm_is_an_euler_step_of_another_size(face):
    # N(x + h V x) = N(x + h / (1 + h <x, Vx>) P_x V x), exactly.
    x, h = ctsa.random_tokens(1, D, seed=5), 0.4
    v = x @ VALUE.T
    step = float(h / (1 + h * (x * v).sum()))
    y = face.numpy(face.EulerLayer(face.Oja(VALUE), step)(face.array(x)))
    assert np.abs(y - euler(x, v, h)).max() < 1e-15


def test_multipliers_at_consensus(torch_face):
    # 1 + h (mu_k - mu_1) along the common directions, 1 - h mu_1 within the group.
    mu, h, eps = np.array([3.0, 2.0, 0.5]), 0.1, 1e-6
    layer = torch_face.EulerLayer(torch_face.SelfAttention(value=np.diag(mu), beta=2.0), h)
    pole = np.tile([[1.0, 0, 0]], (2, 1))
    for u, multiplier in (
        ([[0, 1, 0], [0, 1, 0]], 1 + h * (2 - 3)), ([[0, 0, 1], [0, 0, 1]], 1 + h * (0.5 - 3)),
        ([[0, 1, 0], [0, -1, 0]], 1 - 3 * h), ([[0, 0, 1], [0, 0, -1]], 1 - 3 * h),
    ):  # fmt: skip
        ends = [layer(torch_face.array(euler(pole, np.array(u), s * eps))).detach().numpy() for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * eps)
        assert np.abs(slope - multiplier * np.array(u)).max() < 1e-9


def test_one_layer_knows_no_time(face):
    seen = []

    def field(t, x):
        seen.append(t)
        return 0 * x * t

    layer = face.EulerLayer(field, 0.1)
    layer(layer(face.array(X)))
    assert [float(t) for t in seen] == [0.0, 0.0]  # a layer is the same map each time


# --------------------------------------------------------------------------------------------------- against the flow
def test_layers_converge_to_the_flow_at_first_order(torch_face):
    field = build(torch_face)
    exact = torch_face.numpy(ctsa.integrate(field, X, [0.0, 1.0], "dopri8", atol=1e-11).xs)[-1]
    steps = np.array([0.02, 0.01, 0.005])
    errors = []
    for h in steps:
        path = ctsa.iterate(torch_face.EulerLayer(field, h), X, depth=round(1 / h))
        errors.append(np.abs(torch_face.numpy(path.xs)[-1] - exact).max())
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] - 1) < 0.1, errors


def test_a_layer_is_a_step_of_the_euler_solver(face):
    # Normalising every layer or on read-out alone: the degree-1 extension makes them the same.
    field = build(face)
    flow = ctsa.integrate(field, X, [0.0, 1.0, 2.0], "euler", step=0.1)
    path = ctsa.iterate(face.EulerLayer(field, 0.1), X, depth=20, every=10)
    assert np.abs(face.numpy(flow.xs) - face.numpy(path.xs)).max() < 1e-13


# ------------------------------------------------------------------------------------------------------------ learning
def test_the_step_is_a_parameter(torch_face, jax_face):
    layer = torch_face.EulerLayer(build(torch_face), 0.3)
    assert "step" in dict(layer.named_parameters()) and "field.fields.0.value" in dict(layer.named_parameters())
    assert any(
        np.ndim(a) == 0 and a == 0.3 for a in jax.tree_util.tree_leaves(jax_face.EulerLayer(build(jax_face), 0.3))
    )
    assert isinstance(ctsa.EulerLayer(build(torch_face), 0.3).step, float)


def test_gradients_of_depth(torch_face, jax_face):
    """By the step, the start and the parameters, through several layers: torch, JAX and differences."""
    w = np.random.default_rng(6).normal(size=(N, D))

    def loss(face, layer, x):
        return (face.array(w) * ctsa.iterate(layer, x, depth=6, every=3).xs[-1]).sum()

    layer, x = torch_face.EulerLayer(build(torch_face), 0.2), torch_face.array(X).requires_grad_()
    loss(torch_face, layer, x).backward()
    by_step, by_start, by_value = layer.step.grad, x.grad.numpy(), layer.field.fields[0].value.grad.numpy()

    by_layer, start = jax.jit(jax.grad(lambda layer, x: loss(jax_face, layer, x), (0, 1)))(
        jax_face.EulerLayer(build(jax_face), 0.2), jnp.asarray(X)
    )
    assert float(by_layer.step) == pytest.approx(float(by_step), rel=1e-12)
    assert np.abs(np.asarray(start) - by_start).max() < 1e-12
    assert np.abs(np.asarray(by_layer.field.fields[0].value) - by_value).max() < 1e-12

    with torch.no_grad():
        field, h = build(torch_face), 2e-4
        ends = [float(loss(torch_face, torch_face.EulerLayer(field, 0.2 + k * h), X)) for k in (-2, -1, 1, 2)]
    assert np.array([1, -8, 8, -1]) @ ends / (12 * h) == pytest.approx(float(by_step), rel=1e-8)


# ------------------------------------------------------------------------------------------------------------- iterate
def test_iterate_is_a_loop(face):
    for layer in variants(face, build(face), 0.2):
        path = ctsa.iterate(layer, X, depth=6)
        x, states = face.array(X), [X]
        for _ in range(6):
            x = layer(x)
            states.append(face.numpy(x))
        assert np.abs(face.numpy(path.xs) - np.stack(states)).max() < 1e-14
        assert face.numpy(path.ts).tolist() == list(range(7)) and path.stats == {"layers": 6}


def test_every(face):
    layer = face.EulerLayer(build(face), 0.2)
    all_of_them = face.numpy(ctsa.iterate(layer, X, depth=6).xs)
    for every in (2, 3, 6):
        path = ctsa.iterate(layer, X, depth=6, every=every)
        assert face.numpy(path.ts).tolist() == list(range(0, 7, every))
        assert np.abs(face.numpy(path.xs) - all_of_them[::every]).max() < 1e-14


def test_batches_lists_and_normalisation(face):
    layer = face.EulerLayer(build(face), 0.2)
    xs = ctsa.random_tokens(N, D, seed=7, batch=(2,))
    many = face.numpy(ctsa.iterate(layer, xs, depth=4).xs)
    assert many.shape == (5, 2, N, D)
    one = face.numpy(ctsa.iterate(layer, xs[1].tolist(), depth=4).xs)
    assert np.abs(many[:, 1] - one).max() < 1e-14
    scaled = face.numpy(ctsa.iterate(layer, 3 * xs[1], depth=4, normalize=True).xs)
    assert np.abs(scaled - one).max() < 1e-14


def test_any_callable_is_a_layer(face):
    def mirror(x):
        return ctsa.Sphere().retract(x * face.array([1.0, -1.0, 1.0, -1.0]))

    path = face.numpy(ctsa.iterate(mirror, face.array(X), depth=3).xs)
    assert np.abs(path[3] - X * [1, -1, 1, -1]).max() < 1e-15
    doubled = ctsa.iterate(lambda x: 2 * x, face.array([[3.0, 1.0]]), depth=3, geometry=ctsa.Euclidean())
    assert face.numpy(doubled.xs)[:, 0, 0].tolist() == [3.0, 6.0, 12.0, 24.0]


def test_modules_of_the_user(torch_face):
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(D, D, dtype=torch.float32)

        def forward(self, x):
            return torch.nn.functional.normalize(x + self.linear(x), dim=-1)

    path = ctsa.iterate(Block(), X, depth=2, normalize=True)  # NumPy tokens take the dtype of the module
    assert path.xs.dtype == torch.float32 and path.xs.shape == (3, N, D)


def test_long_strides_are_not_unrolled(jax_face):
    traced = []

    def layer(x):
        traced.append(x)
        return -x

    path = ctsa.iterate(layer, jnp.asarray(X), depth=20_000, every=10_000)
    assert np.array_equal(np.asarray(path.xs), np.stack([X, X, X])) and len(traced) < 10


def test_other_numbers_do_not_recompile(jax_face):
    programs = ctsa._backend._jax.scan.programs

    def compiled(seed):
        value = np.random.default_rng(seed).normal(size=(D, D))
        layer = jax_face.EulerLayer(jax_face.SelfAttention(value=value, beta=seed + 1.0), 0.1 * (seed + 1))
        ctsa.iterate(layer, ctsa.random_tokens(3, D, seed=seed), depth=4)
        return programs()

    assert compiled(0) == compiled(1) == compiled(2)


def test_single_precision(face):
    field = face.SelfAttention(value=VALUE.astype(np.float32))
    path = ctsa.iterate(face.EulerLayer(field, 0.1), X.astype(np.float32), depth=5)
    plain = ctsa.iterate(ctsa.EulerLayer(field, 0.1), X.astype(np.float32), depth=5)
    assert "float32" in str(path.xs.dtype) and "float32" in str(plain.xs.dtype)
    double = ctsa.iterate(face.EulerLayer(face.SelfAttention(value=VALUE), 0.1), X, depth=5)
    assert np.abs(face.numpy(path.xs) - face.numpy(double.xs)).max() < 1e-5


def test_repr(torch_face):
    assert repr(ctsa.EulerLayer(torch_face.Oja(VALUE), 0.25)) == "EulerLayer(step=0.25, field=Oja)"
    assert (
        repr(ctsa.iterate(ctsa.EulerLayer(torch_face.Oja(VALUE), 0.25), X, 3)) == "Trajectory(xs: (4, 5, 4), layers=3)"
    )


# ------------------------------------------------------------------------------------------------------------ bad input
def refused(error, words, call, *args, **options):
    with pytest.raises(error) as caught:
        call(*args, **options)
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"


STEPS = {
    "zero": (0, ValueError, "positive"), "negative": (-0.1, ValueError, "-0.1"), "none": (None, TypeError, "None"),
    "words": ("small", TypeError, "real numbers"), "nan": (np.nan, ValueError, "finite"),
    "several": ([0.1, 0.2], ValueError, "(2,)"),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_steps(face, case):
    step, error, word = STEPS[case]
    field = face.Oja(VALUE)
    refused(error, ["step", word], face.EulerLayer, field, step)
    refused(error, ["step", word], ctsa.EulerLayer, field, step)


def test_what_a_layer_is_made_of(face, torch_face, jax_face):
    for layer in (face.EulerLayer, ctsa.EulerLayer):
        refused(TypeError, ["field", "callable", "int"], layer, 3, 0.1)
        refused(ValueError, ["geometry", "contradicts"], layer, face.Oja(VALUE), 0.1, geometry=ctsa.Euclidean())
        refused(TypeError, ["geometry", "'flat'"], layer, lambda t, x: x, 0.1, geometry="flat")
    other = jax_face if face is torch_face else torch_face
    refused(TypeError, ["field", "torch", "jax", "EulerLayer of ctsa."], face.EulerLayer, other.Oja(VALUE), 0.1)


CALLS = {
    "depth zero": (dict(depth=0), ValueError, ["depth", "at least 1"]),
    "depth negative": (dict(depth=-2), ValueError, ["depth", "at least 1", "-2"]),
    "depth half": (dict(depth=2.5), TypeError, ["depth", "integer", "2.5"]),
    "depth none": (dict(depth=None), TypeError, ["depth", "integer"]),
    "every zero": (dict(every=0), ValueError, ["every", "at least 1"]),
    "every half": (dict(every=1.5), TypeError, ["every", "integer"]),
    "every misfit": (dict(every=3), ValueError, ["every=3", "divide", "depth=4"]),
    "one token": (dict(x0=X[0]), ValueError, ["x0", "(..., n, d)", "(4,)"]),
    "none": (dict(x0=None), TypeError, ["x0", "None"]),
    "not unit": (dict(x0=2 * X), ValueError, ["x0", "unit", "up to 1", "normalize=True"]),
    "integers": (dict(x0=np.eye(4, dtype=int)), TypeError, ["x0", "floating", "int64"]),
    "nan": (dict(x0=X * np.nan), ValueError, ["x0", "finite"]),
    "zero": (dict(x0=0 * X), ValueError, ["x0", "zero token"]),
    "other dimension": (dict(x0=ctsa.random_tokens(N, 3)), ValueError, ["x0", "d=3", "value", "(4, 4)"]),
    "other geometry": (dict(geometry=ctsa.Euclidean()), ValueError, ["geometry", "contradicts"]),
    "words for geometry": (dict(geometry="sphere"), TypeError, ["geometry", "'sphere'"]),
    "not a layer": (dict(layer=0.1), TypeError, ["layer", "callable", "float"]),
    "numpy and a callable": (dict(layer=lambda x: x), TypeError, ["x0", "torch.Tensor", "jax.Array"]),
}


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "module"])
@pytest.mark.parametrize("case", CALLS)
def test_calls(face, case, plain):
    change, error, words = CALLS[case]
    field = face.Oja(VALUE)
    arguments = dict(layer=(ctsa if plain else face).EulerLayer(field, 0.1), x0=X, depth=4)
    refused(error, words, ctsa.iterate, **(arguments | change))


def test_mixed_frameworks(torch_face, jax_face):
    for one, other in ((torch_face, jax_face), (jax_face, torch_face)):
        for layer in variants(one, one.Oja(VALUE), 0.1):
            refused(TypeError, ["x0", "torch", "jax", "numpy.asarray"], ctsa.iterate, layer, other.array(X), 4)


def test_layers_that_return_something_else(face):
    x = face.array(X)
    refused(ValueError, ["layer", "(5, 4)", "(4,)"], ctsa.iterate, lambda x: x[0], x, 3)
    refused(ValueError, ["layer", "(5, 4)", "NoneType"], ctsa.iterate, lambda x: None, x, 3)
    narrow = face.array(X, "float32")
    refused(ValueError, ["layer", "float64", "float32"], ctsa.iterate, lambda x: narrow, x, 3)


# ---------------------------------------------------------------------------------------------------- traced, and float32
def test_traced_parameters(jax_face, close):
    field, x = jax_face.SelfAttention(beta=2.0), jax.numpy.asarray(X)
    with pytest.raises(TypeError, match=r"step is traced .*ctsa.EulerLayer holds .* use the EulerLayer of ctsa.jax"):
        jax.grad(lambda h: ctsa.EulerLayer(field, h)(x).sum())(0.1)
    h = np.array([0.1, 0.3])
    both = jax.vmap(lambda h: ctsa.iterate(jax_face.EulerLayer(field, h), x, 3).xs)(h)
    for one, step in zip(both, h, strict=True):
        close(one, ctsa.iterate(ctsa.EulerLayer(field, step), x, 3).xs)
    seen = []
    jax.jit(lambda layer: seen.append(repr(layer)))(ctsa.EulerLayer(field, 0.1))
    assert seen == ["EulerLayer(step=traced, field=SelfAttention)"]


def test_geodesic_steps_under_jit(jax_face, close):
    x = jax.numpy.asarray(X)
    layer = ctsa.EulerLayer(jax_face.SelfAttention(beta=2.0), 0.1, retraction="exp")
    close(jax.jit(layer.euler_step)(x), layer.euler_step(x))
    long = ctsa.EulerLayer(jax_face.SelfAttention(value=30 * np.eye(X.shape[-1])), 1.0, retraction="exp")
    with pytest.raises(Exception, match="a right angle or more"):
        jax.block_until_ready(jax.jit(long.euler_step)(x))
    with pytest.raises(ValueError, match="a right angle or more"):
        long.euler_step(x)


def test_float32_layers_need_no_tolerance(face):
    # atol belongs to solvers: a layer has none, so the default, too fine for float32, must not matter.
    value = np.eye(X.shape[-1], dtype=np.float32)
    layer = face.PostNormLayer(face.SelfAttention(value=value), 0.2)
    spec = ctsa.lyapunov_spectrum(layer, X.astype(np.float32), intervals=2, interval=1, count=2)
    assert np.isfinite(spec.exponents).all()


def test_a_layer_is_no_field(face):
    with pytest.raises(TypeError, match="field must be callable as field"):
        face.EulerLayer(face.EulerLayer(face.SelfAttention(), 0.1), 0.1)


def test_modules_of_torch_show_their_numbers():
    assert "step=0.25" in repr(ctsa.torch.EulerLayer(ctsa.torch.SelfAttention(), 0.25))
    assert "gamma=0.5" in repr(ctsa.torch.ItrSA(ctsa.torch.SelfAttention(), gamma=0.5))
