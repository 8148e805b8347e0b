"""Regularisers for training: against dense truth, in both frameworks, through transforms, in a few steps of training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from loop_models import Regularised, Sandwich, seeded

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa import regularise

FLAT = ctsa.Euclidean()
N, D = 3, 4
SIZE = N * D
RNG = np.random.default_rng(0)


def matrix(kind):
    q = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
    if kind == "normal":
        turn = np.kron(np.diag(np.linspace(0.3, 0.9, SIZE // 2)), [[0.6, 0.8], [-0.8, 0.6]])
        return q @ turn @ q.T
    if kind == "Gaussian":
        return RNG.normal(size=(SIZE, SIZE)) / SIZE**0.5
    return q @ np.diag([0.88, *[0.3] * (SIZE - 1)]) @ q.T  # one mode


MATRICES = {kind: matrix(kind) for kind in ("normal", "Gaussian", "one mode")}


def linear(face, j, power=1.0):
    """A layer whose Jacobian is a matrix."""
    j = face.array(power * j)
    return lambda x: (x.reshape(*x.shape[:-2], SIZE) @ j.mT).reshape(x.shape)


X = RNG.normal(size=(5, N, D))


@pytest.mark.parametrize("kind", MATRICES)
def test_against_dense_truth(face, kind):
    j, x = MATRICES[kind], face.array(X)
    layer = linear(face, j)
    gains = face.numpy(regularise.rms_gain(layer, x, 0, probes=400, geometry=FLAT))
    spread = np.linalg.eigvalsh(j.T @ j).std() / (400 * SIZE / 2) ** 0.5 * 4
    assert np.abs(gains - (j**2).sum() / SIZE).max() < max(spread, 1e-12) * 2
    norms = face.numpy(regularise.spectral_norm(layer, x, 0, above=None, steps=300, geometry=FLAT))
    assert norms == pytest.approx(np.full(5, np.linalg.norm(j, 2)), rel=1e-6)
    radius = np.abs(np.linalg.eigvals(j)).max()
    found = face.numpy(regularise.spectral_radius(layer, x, 0, steps=300, last=200, geometry=FLAT))
    assert found == pytest.approx(np.full(5, radius), rel=0.02)
    if kind == "one mode":
        few = face.numpy(regularise.spectral_radius(layer, x, 0, steps=14, geometry=FLAT))
        assert few == pytest.approx(np.full(5, 0.88), rel=1e-6)
    exponents = face.numpy(regularise.exponent(layer, x, 0, loops=300, target=-3.0, geometry=FLAT))
    assert exponents == pytest.approx(np.full(5, (np.log(radius) + 3) ** 2), rel=0.02)
    below = face.numpy(regularise.exponent(layer, x, 0, loops=20, target=1.0, geometry=FLAT))
    assert (below == 0).all()


def test_all_exponents_sum_to_the_determinant(face):
    """sum (lambda_i - c)^2 with all of them: their sum is log |det J| in every loop."""
    j = MATRICES["Gaussian"]
    layer, x = linear(face, j), face.array(X)
    at = [
        face.numpy(regularise.exponent(layer, x, 0, loops=3, count=SIZE, target=c, below=False, geometry=FLAT))
        for c in (0.0, 1.0)
    ]
    slope = at[1] - at[0] - SIZE  # -2 sum lambda_i
    assert slope == pytest.approx(np.full(5, -2 * np.linalg.slogdet(j)[1]), rel=1e-10)


def test_hinges(face):
    layer, x = linear(face, np.eye(SIZE), 3.0), face.array(X)
    assert face.numpy(regularise.spectral_norm(layer, x, 0, geometry=FLAT)) == pytest.approx(np.full(5, 4.0))
    assert (face.numpy(regularise.spectral_norm(layer, x, 0, above=3.5, geometry=FLAT)) == 0).all()
    assert face.numpy(regularise.spectral_radius(layer, x, 0, above=2.0, geometry=FLAT)) == pytest.approx(np.ones(5))


def test_directions_that_are_carried(face):
    """One power step a batch, carried on, gets where many steps at once get."""
    layer, x = linear(face, MATRICES["one mode"]), face.array(X)
    v = None
    for _ in range(12):
        norm, v = regularise.spectral_norm(
            layer, x, 0, above=None, steps=1, start=v, directions_too=True, geometry=FLAT
        )
    assert face.numpy(norm) == pytest.approx(np.full(5, 0.88), rel=1e-6)
    assert np.linalg.norm(face.numpy(v), axis=(1, 2)) == pytest.approx(np.ones(5))


def test_states(face):
    x, other = face.array(X), face.array(X[::-1].copy())
    size = (X**2).sum((1, 2))
    assert face.numpy(regularise.residual(lambda x: 0.5 * x, x, geometry=FLAT)) == pytest.approx(np.full(5, 0.25))
    moved = face.numpy(regularise.residual(lambda x: 0 * x + 1.0, 0 * x, geometry=FLAT))
    assert moved == pytest.approx(np.full(5, float(SIZE)))
    assert face.numpy(regularise.scale(x)) == pytest.approx((((X**2).mean(-1) - 1) ** 2).mean(-1))
    apart = face.numpy(regularise.restart(lambda x: 0.5 * x, x, other, 3, geometry=FLAT))
    assert apart == pytest.approx(((X - X[::-1]) ** 2).sum((1, 2)) / size)


ALL = {
    "rms_gain": lambda f, x, key, g: regularise.rms_gain(f, x, key, geometry=g),
    "spectral_norm": lambda f, x, key, g: regularise.spectral_norm(f, x, key, above=0.1, geometry=g),
    "spectral_radius": lambda f, x, key, g: regularise.spectral_radius(f, x, key, above=0.1, geometry=g),
    "exponent": lambda f, x, key, g: regularise.exponent(f, x, key, loops=4, target=-5.0, geometry=g),
    "residual": lambda f, x, key, g: regularise.residual(f, x, geometry=g),
    "restart": lambda f, x, key, g: regularise.restart(f, x, x[::-1] if hasattr(x, "at") else x.flip(0), 3, geometry=g),
}
TOKENS = ctsa.random_tokens(N, D, batch=4, seed=1)
VALUE = np.random.default_rng(1).normal(size=(D, D))


def our_layers(face):
    """Layers with closed-form tangents, as functions of a value matrix."""
    return [
        lambda v: face.PostNormLayer(face.SelfAttention(value=v), 0.5),
        lambda v: face.EulerLayer(face.SelfAttention(value=v, beta=2.0), 0.2),
    ]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("which", [0, 1])
def test_our_layers_in_both_frameworks(torch_face, jax_face, name, which):
    """Values and gradients agree, and the gradient is that of differences."""
    v = torch.tensor(VALUE, requires_grad=True)
    value = ALL[name](our_layers(torch_face)[which](v), torch.as_tensor(TOKENS), 3, None)
    assert value.shape == (4,)
    value.mean().backward()

    def of(v):
        return ALL[name](our_layers(jax_face)[which](v), jnp.asarray(TOKENS), 3, None)

    again, slope = jax.jit(jax.value_and_grad(lambda v: of(v).mean()))(jnp.asarray(VALUE))
    assert float(again) == pytest.approx(value.mean().item(), rel=1e-10)
    assert np.allclose(v.grad.numpy(), slope, rtol=1e-8, atol=1e-10)
    if name in ("rms_gain", "residual", "restart"):  # whose gradient is that of the value itself
        eps, u = 1e-6, RNG.normal(size=VALUE.shape)
        quotient = (of(jnp.asarray(VALUE + eps * u)) - of(jnp.asarray(VALUE - eps * u))).mean() / (2 * eps)
        assert float(quotient) == pytest.approx(float((slope * u).sum()), rel=1e-6)


def test_gradients_where_directions_have_converged():
    """Spectral norm and radius: their derivatives are those of the singular value and of the eigenvalue."""
    j = torch.tensor(MATRICES["one mode"] + 0.1 * MATRICES["Gaussian"], requires_grad=True)
    x = torch.zeros(1, N, D, dtype=torch.float64)
    layer = lambda x: (x.reshape(-1, SIZE) @ j.mT).reshape(x.shape)  # noqa: E731
    regularise.spectral_norm(layer, x, 0, above=None, steps=60, geometry=FLAT).sum().backward()
    u, _, v = torch.linalg.svd(j.detach())
    assert torch.allclose(j.grad, u[:, :1] @ v[:1], atol=1e-7)
    j.grad = None
    regularise.spectral_radius(layer, x, 0, steps=90, last=40, geometry=FLAT).sum().backward()
    values, right = np.linalg.eig(j.detach().numpy())
    top = np.abs(values).argmax()
    left = np.linalg.inv(right)[top]
    assert np.allclose(j.grad.numpy(), np.real(np.outer(left, right[:, top])), atol=0.05)


@pytest.mark.parametrize("name", ALL)
def test_samples_are_their_own(torch_face, name):
    """What one sample gives does not depend on the others."""
    layer, x = our_layers(torch_face)[0](torch.as_tensor(VALUE)), torch.as_tensor(TOKENS)
    if name == "restart":
        pytest.skip("compares with the other samples, in this test")
    start = ctsa.Sphere().project(TOKENS, RNG.normal(size=TOKENS.shape))
    if name == "spectral_norm":
        found = [regularise.spectral_norm(layer, x[i], 0, start=torch.as_tensor(start[i])) for i in range(4)]
        every = regularise.spectral_norm(layer, x, 0, start=torch.as_tensor(start))
    else:
        every = ALL[name](layer, x, 5, None)
        changed = torch.cat([x[:2], x[2:].flip(0)])
        found = list(ALL[name](layer, changed, 5, None)[:2])
        every = every[:2]
    assert torch.allclose(every, torch.stack(found), rtol=1e-12)


@pytest.mark.parametrize("kind", [Sandwich, Regularised])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_modules_of_torch(kind, dtype):
    """Fused attention inside, twice differentiated; a module by itself, and one in a loop with inputs."""
    model = seeded(kind, dtype=dtype)
    x = torch.as_tensor(RNG.normal(size=(2, N, 16)), dtype=dtype)
    layer = ctsa.torch.Loop(model, x) if kind is Sandwich else model
    for name, f in ALL.items():
        model.zero_grad()
        value = f(layer, x, np.random.default_rng(0), None if kind is Sandwich else FLAT)
        assert value.shape == (2,) and value.dtype == dtype and torch.isfinite(value).all(), name
        value.mean().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert grads and all(torch.isfinite(g).all() for g in grads), name
        assert sum(float(g.abs().sum()) for g in grads) > 0, name


def test_modules_of_equinox():
    mlp = eqx.nn.MLP(D, D, 8, 1, activation=jnp.tanh, key=jax.random.PRNGKey(0))
    layer, x = eqx.filter_vmap(eqx.filter_vmap(mlp)), jnp.asarray(X)

    @eqx.filter_jit
    def loss(mlp, x, key):
        return regularise.rms_gain(eqx.filter_vmap(eqx.filter_vmap(mlp)), x, key, geometry=FLAT).mean()

    keys = jax.random.split(jax.random.PRNGKey(1), 2)
    values = [float(loss(mlp, x, key)) for key in keys]
    assert values[0] != values[1] and min(values) > 0
    grads = eqx.filter_grad(loss)(mlp, x, keys[0])
    assert all(np.isfinite(a).all() for a in jax.tree_util.tree_leaves(grads) if eqx.is_array(a))
    alone = jax.vmap(lambda x, key: regularise.rms_gain(eqx.filter_vmap(mlp), x, key, geometry=FLAT))
    assert alone(x, jax.random.split(keys[0], 5)).shape == (5,)
    with pytest.raises(TypeError, match="pass a key of JAX"):
        jax.jit(lambda x: regularise.rms_gain(layer, x, np.random.default_rng(0), geometry=FLAT))(x)


@pytest.mark.parametrize("name", ALL)
def test_a_few_steps_of_training_lower_it(name):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(1.5 * torch.randn(D, D, dtype=torch.float64))
    bias, x = torch.randn(D, dtype=torch.float64), torch.as_tensor(X)
    layer = lambda x: torch.tanh(x @ weight + bias)  # noqa: E731
    optimiser, values = torch.optim.SGD([weight], 0.2), []
    rng = np.random.default_rng(0)
    for _ in range(60):
        optimiser.zero_grad()
        value = ALL[name](layer, x, rng, FLAT).mean()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert np.mean(values[-15:]) < 0.9 * np.mean(values[:15])


def test_truncated_gradients(face):
    """Values are those of all loops; the gradient is that of the last ones."""
    x = face.array(np.ones((1, 1, 1)))
    assert face.numpy(regularise.unroll(lambda x: 0.5 * x, x, 5, last=2, geometry=FLAT)).item() == 0.5**5

    def end(a, last):
        return regularise.unroll(lambda x: a * x, x, 5, last=last, geometry=FLAT).sum()

    if face.name == "jax":
        slopes = [float(jax.grad(end)(0.5, last)) for last in (2, 9)]
    else:
        slopes = []
        for last in (2, 9):
            a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
            end(a, last).backward()
            slopes.append(a.grad.item())
    assert slopes == pytest.approx([2 * 0.5**4, 5 * 0.5**4])


def test_numbers_of_loops():
    draws = {
        kind: regularise.sample_loops(kind, 40_000, mean=mean, sigma=sigma, low=1, high=high, key=1)
        for kind, mean, sigma, high in (
            ("lognormal", 9.44, 0.7, 100), ("poisson-lognormal", 33.0, 0.5, 1000), ("uniform", 2.0, 0.5, 16),
        )
    }  # fmt: skip
    assert draws["lognormal"].mean() == pytest.approx(9.44, rel=0.02)
    assert np.log(draws["lognormal"]).mean() == pytest.approx(2.0, abs=0.02)
    assert draws["poisson-lognormal"].mean() == pytest.approx(33.0, rel=0.02)
    # Var of a Poisson number with a random rate: the mean of the rate and its variance, 32 + 32^2 (exp(1/4) - 1)
    assert draws["poisson-lognormal"].var() == pytest.approx(32 + 32**2 * (np.exp(0.25) - 1), rel=0.05)
    assert np.bincount(draws["uniform"])[1:].std() / 2500 < 0.05 and draws["uniform"].min() == 1
    rng = np.random.default_rng(0)
    assert not np.array_equal(*(regularise.sample_loops(size=8, key=rng) for _ in range(2)))


@pytest.mark.parametrize(("make", "what"), [
    (lambda x: regularise.rms_gain(3, x, 0), "must be a field"),
    (lambda x: regularise.rms_gain(lambda t, x: x, x, 0), "got a field"),
    (lambda x: regularise.rms_gain([lambda x: x], x, 0), "a sequence of layers"),
    (lambda x: regularise.rms_gain(lambda x: x, x, 0, probes=0), "probes must be"),
    (lambda x: regularise.rms_gain(lambda x: x, x, "a"), "key must be"),
    (lambda x: regularise.rms_gain(lambda x: x, 2 * x, 0), "x must have unit tokens"),
    (lambda x: regularise.rms_gain(torch.nn.Dropout(0.5), x, 0, geometry=FLAT), "training mode"),
    (lambda x: regularise.spectral_norm(lambda x: x, x, 0, above=-1.0), "above must be"),
    (lambda x: regularise.spectral_norm(lambda x: x, x, 0, start=x[:1]), "start must be"),
    (lambda x: regularise.spectral_radius(lambda x: x, x, 0, steps=2), "steps must be"),
    (lambda x: regularise.exponent(lambda x: x, x, 0, count=99), "more than the dimension"),
    (lambda x: regularise.exponent(lambda x: x, x, 0, below="no"), "below must be"),
    (lambda x: regularise.restart(lambda x: x, x, x[:1], 2), "must have the shape of x0"),
    (lambda x: regularise.restart(lambda x: x, x, x, 0), "loops must be"),
    (lambda x: regularise.scale("a"), "x must be"),
    (lambda x: regularise.unroll(lambda x: x, x, 2, last=0), "last must be"),
    (lambda x: regularise.sample_loops("normal"), "kind must be one of"),
    (lambda x: regularise.sample_loops(mean=0.5), "mean must be"),
    (lambda x: regularise.sample_loops(low=5, high=2), "high must be"),
])  # fmt: skip
def test_bad_input(make, what):
    with pytest.raises((TypeError, ValueError), match=what):
        make(torch.as_tensor(TOKENS))
