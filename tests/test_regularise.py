"""Regularisers: dense truth, both frameworks, exact gradients, independent samples, transforms, a few steps of training."""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from programs import as_one
from sampling import mainly, sample

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa import regularise as reg

FLAT = ctsa.Euclidean()
N, D, B = 3, 4, 4
SIZE = N * D
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, N, D))
TOKENS = ctsa.random_tokens(N, D, batch=B, seed=1)
OTHER = ctsa.random_tokens(N, D, batch=B, seed=2)
DIRECTIONS = RNG.normal(size=(2, B, N, D))
VALUE = RNG.normal(size=(D, D))


def made(kind):
    q = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
    if kind == "normal":  # complex pairs
        return q @ np.kron(np.diag(np.linspace(0.3, 0.9, SIZE // 2)), [[0.6, 0.8], [-0.8, 0.6]]) @ q.T
    if kind == "Gaussian":
        return RNG.normal(size=(SIZE, SIZE)) / SIZE**0.5
    return q @ np.diag([0.9, *[0.3] * (SIZE - 1)]) @ q.T  # one mode


MATRICES = {kind: made(kind) for kind in ("normal", "Gaussian", "one mode")}


def linear(j):
    """A layer of flat space whose Jacobian is a matrix."""
    return lambda x: (x.reshape(*x.shape[:-2], SIZE) @ j.mT).reshape(x.shape)


# ---------------------------------------------------------------------------------------------------------- dense truth
# Mainly of torch: below every regulariser is compared with that of JAX.
@mainly("torch")
@pytest.mark.parametrize("kind", MATRICES)
def test_mean_gain_is_that_of_the_frobenius_norm(face, kind):
    j, probes = MATRICES[kind], 4000  # 2 for each of 2000 equal samples
    many = face.array(np.broadcast_to(X[:, None], (B, 2000, N, D)))
    gains = face.numpy(reg.rms_gain(linear(face.array(j)), many, probes=2, seed=3, geometry=FLAT)).mean(1)
    s2 = np.linalg.svd(j)[1] ** 2
    spread = (2 * ((s2**2).mean() - s2.mean() ** 2) / (SIZE + 2) / probes) ** 0.5  # of a quadratic form on the sphere
    assert np.abs(gains - s2.mean()).max() < 4.5 * spread and spread < 0.02 * s2.mean()


@mainly("torch")
def test_mean_gain_on_the_sphere_counts_tangent_directions(face):
    layer = face.EulerLayer(face.SelfAttention(value=VALUE, beta=2.0), 0.4)
    many = face.array(np.broadcast_to(TOKENS[:, None], (B, 3000, N, D)))
    gains = face.numpy(reg.rms_gain(layer, many, seed=3)).mean(1)
    for x, gain in zip(TOKENS, gains, strict=True):
        s2 = np.linalg.svd(face.numpy(ctsa.jacobian(layer, x, basis="tangent")))[1] ** 2
        n = N * (D - 1)
        spread = (2 * ((s2**2).mean() - s2.mean() ** 2) / (n + 2) / 3000) ** 0.5
        assert len(s2) == n and abs(gain - s2.mean()) < 4.5 * spread


@mainly("torch")
@pytest.mark.parametrize("kind", MATRICES)
def test_spectral_norm(face, kind):
    j = MATRICES[kind]
    layer, x = linear(face.array(j)), face.array(X)
    found = face.numpy(reg.spectral_norm(layer, x, above=None, steps=400, geometry=FLAT))
    assert found == pytest.approx(np.full(B, np.linalg.norm(j, 2)), rel=1e-6)
    few = [face.numpy(reg.spectral_norm(layer, x, above=None, steps=k, geometry=FLAT)) for k in (0, 1, 4)]
    assert (few[0] <= few[1] + 1e-12).all() and (few[1] <= few[2] + 1e-12).all()


@mainly("torch")
def test_spectral_norm_on_the_sphere(face):
    layer = face.PostNormLayer(face.SelfAttention(value=VALUE), 0.7)
    found = face.numpy(reg.spectral_norm(layer, face.array(TOKENS), above=None, steps=300))
    assert found == pytest.approx(ctsa.spectral_norm(layer, TOKENS), rel=1e-6)


def test_directions_are_carried_between_batches(face):
    layer, x, v = linear(face.array(MATRICES["one mode"])), face.array(X), None
    norms = as_one(face, lambda v: reg.spectral_norm(layer, x, above=None, steps=1, start=v, carry=True, geometry=FLAT))
    for _ in range(12):
        norm, v = norms(v)
    assert face.numpy(norm) == pytest.approx(np.full(B, 0.9), rel=1e-9)
    radius, w = as_one(face, lambda v: reg.spectral_radius(layer, x, steps=2, start=v, carry=True, geometry=FLAT))(v)
    assert face.numpy(radius) == pytest.approx(np.full(B, 0.9), rel=1e-9) and w.shape == v.shape


@mainly("torch")
def test_spectral_radius(face):
    x = face.array(X)

    def found(j, **options):
        return face.numpy(reg.spectral_radius(linear(face.array(j)), x, geometry=FLAT, **options))

    assert found(MATRICES["one mode"], steps=30) == pytest.approx(np.full(B, 0.9), rel=1e-9)
    skew = RNG.normal(size=(SIZE, SIZE))
    real = skew @ np.diag([-0.9, *np.linspace(0.1, 0.5, SIZE - 1)]) @ np.linalg.inv(skew)  # not normal
    assert found(real, steps=100, last=5) == pytest.approx(np.full(B, 0.9), rel=1e-9)
    assert found(MATRICES["normal"], steps=400, last=5) == pytest.approx(np.full(B, 0.9), rel=1e-9)
    pair = np.diag(np.linspace(0.05, 0.4, SIZE))
    pair[:2, :2] = 0.95 * np.array([[np.cos(1.1), -np.sin(1.1)], [np.sin(1.1), np.cos(1.1)]])
    pair = skew @ pair @ np.linalg.inv(skew)  # not normal: lengths swing, and the mean of many does not
    errors = [np.abs(found(pair, steps=100 + last, last=last) / 0.95 - 1).max() for last in (1, 10, 200)]
    assert errors[2] < 0.01 and errors[2] < errors[0] / 10


def test_nothing_left_is_no_nan(face):
    """A nilpotent and a dead layer: values and gradients are finite."""
    j, x = np.diag(np.ones(SIZE - 1), 1), face.array(X)
    layer = linear(face.array(j))
    radius = as_one(face, lambda x: reg.spectral_radius(layer, x, steps=2 * SIZE, above=0.5, geometry=FLAT))(x)
    assert (face.numpy(radius) == 0).all()

    def dead(a):
        f = lambda x: a * x  # noqa: E731
        return sum(r(f).sum() for r in (
            lambda f: reg.rms_gain(f, x, seed=0, geometry=FLAT),
            lambda f: reg.spectral_norm(f, x, above=None, geometry=FLAT),
            lambda f: reg.spectral_radius(f, x, geometry=FLAT),
            lambda f: reg.exponent(f, x, above=0.0, geometry=FLAT),
            lambda f: reg.residual(f, 0 * x, geometry=FLAT),
        ))  # fmt: skip

    if face.name == "jax":
        assert np.isfinite(jax.jit(jax.grad(dead))(0.0))
    else:
        a = torch.zeros((), dtype=torch.float64, requires_grad=True)
        dead(a).backward()
        assert torch.isfinite(a.grad)


@mainly("torch")
@pytest.mark.parametrize("kind", MATRICES)
def test_exponents(face, kind):
    j, x = MATRICES[kind], face.array(X)
    layer = linear(face.array(j))
    every = face.numpy(reg.exponent(layer, x, loops=3, count=SIZE, geometry=FLAT))
    assert every == pytest.approx(np.full(B, np.linalg.slogdet(j)[1]), rel=1e-10)  # their sum, exact in every loop
    radius = np.abs(np.linalg.eigvals(j)).max()
    first = face.numpy(reg.exponent(layer, x, loops=300, transient=100, geometry=FLAT))
    assert first == pytest.approx(np.full(B, np.log(radius)), abs=0.01)
    first, above, target = (
        face.numpy(reg.exponent(layer, x, loops=9, transient=3, geometry=FLAT, **options))
        for options in ({}, dict(above=-3.0), dict(target=-3.0))
    )
    assert above == pytest.approx((first + 3) ** 2, rel=1e-12) and (above == target).all()
    assert (face.numpy(reg.exponent(layer, x, above=2.0, geometry=FLAT)) == 0).all()


@mainly("torch")
def test_exponents_are_those_of_ctsa(face):
    layer = face.PostNormLayer(face.SelfAttention(value=VALUE), 0.7)
    q = ctsa.Sphere().project(TOKENS, DIRECTIONS)
    exact = face.numpy(ctsa.exponents(layer, TOKENS, intervals=5, interval=1, count=2, frame=q))
    found = face.numpy(reg.exponent(layer, face.array(TOKENS), loops=5, count=2, frame=face.array(q), target=-0.2))
    assert found == pytest.approx(((exact + 0.2) ** 2).sum(-1), rel=1e-10)
    _, last = reg.exponent(layer, face.array(TOKENS), loops=5, count=2, carry=True)
    assert last.shape == (2, B, N, D)


@mainly("torch")
def test_hinges(face):
    layer, x = linear(face.array(3.0 * np.eye(SIZE))), face.array(X)
    for f in (reg.spectral_norm, reg.spectral_radius):
        for above, value in ((None, 3.0), (1.0, 4.0), (3.5, 0.0)):
            assert face.numpy(f(layer, x, above=above, geometry=FLAT)) == pytest.approx(np.full(B, value))


def test_states(face):
    x, y = face.array(X), face.array(X[::-1].copy())
    assert face.numpy(reg.residual(lambda x: 0.5 * x, x, geometry=FLAT)) == pytest.approx(np.full(B, 0.25))
    assert face.numpy(reg.residual(lambda x: 0 * x + 1, 0 * x, geometry=FLAT)) == pytest.approx(np.full(B, SIZE))
    assert face.numpy(reg.scale(x)) == pytest.approx((((X**2).mean(-1) - 1) ** 2).mean(-1))
    apart = face.numpy(reg.restart(lambda x: 0.5 * x, x, y, loops=3, geometry=FLAT))
    assert apart == pytest.approx(((X - X[::-1]) ** 2).sum((1, 2)) / 64)


# ------------------------------------------------------------------------------------------------- layers and gradients
ALL = {
    "rms_gain": lambda f, x, **o: reg.rms_gain(f, x, seed=3, **o),
    "two probes": lambda f, x, **o: reg.rms_gain(f, x, probes=2, seed=3, **o),
    "spectral_norm": lambda f, x, **o: reg.spectral_norm(f, x, above=0.1, **o),
    "spectral_radius": lambda f, x, **o: reg.spectral_radius(f, x, above=0.1, **o),
    "exponent": lambda f, x, **o: reg.exponent(f, x, loops=3, above=-5.0, **o),
    "two exponents": lambda f, x, **o: reg.exponent(f, x, loops=3, count=2, target=-0.5, transient=2, **o),
    "residual": lambda f, x, **o: reg.residual(f, x, **o),
    "restart": lambda f, x, **o: reg.restart(f, x, 0.9 * x if o else -x, loops=3, **o),
}
every = pytest.mark.parametrize("name", ALL)
LAYERS = {
    "post-norm": lambda face, v: face.PostNormLayer(face.SelfAttention(value=v), 0.5),
    "Euler": lambda face, v: face.EulerLayer(face.SelfAttention(value=v, beta=2.0), 0.3),
    "ItrSA": lambda face, v: face.ItrSA(face.SelfAttention(value=v), 0.5),
    "AKOrN": lambda face, v: face.AKOrN(face.SelfAttention(value=v, geometry=ctsa.Sphere(2)), step=0.5),
    "wrapped": lambda face, v: face.WrappedLayer(lambda x: x + 0.5 * (x * x) @ v),
}


# Every layer, and every regulariser, at least once.
BOTH = {
    ("post-norm", "spectral_norm"), ("wrapped", "two exponents"), ("wrapped", "spectral_radius"),
    ("wrapped", "exponent"), ("Euler", "residual"), ("Euler", "two probes"), ("ItrSA", "restart"), ("AKOrN", "rms_gain"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), sample(product(LAYERS, ALL), lambda *case: case in BOTH))
def test_our_layers_in_both_frameworks(torch_face, jax_face, close, name, kind):
    x = ctsa.random_tokens(N, D, batch=B, seed=1, channels=2 if kind == "AKOrN" else None)
    v = torch.tensor(VALUE, requires_grad=True)
    value = ALL[name](LAYERS[kind](torch_face, v), torch_face.array(x))
    assert value.shape == (B,)
    value.mean().backward()

    def of(v):
        value = ALL[name](LAYERS[kind](jax_face, v), jnp.asarray(x))
        return value.mean(), value

    (_, there), slope = jax.jit(jax.value_and_grad(of, has_aux=True))(jnp.asarray(VALUE))
    close(there, value, 1e-11)
    close(slope, v.grad, 1e-9)


EXACT = {  # all directions on the graph, so that the gradient is that of the value
    "rms_gain": lambda f, x, u: reg.rms_gain(f, x, v=u),
    "spectral_norm": lambda f, x, u: reg.spectral_norm(f, x, above=0.1, steps=0, start=u[0]),
    "spectral_radius": lambda f, x, u: reg.spectral_radius(f, x, steps=4, last=4, start=u[0]),
    "exponent": lambda f, x, u: reg.exponent(f, x, loops=4, above=-5.0, frame=u[0]),
    "two exponents": lambda f, x, u: reg.exponent(f, x, loops=4, count=2, target=-0.5, frame=u),
    "residual": lambda f, x, u: reg.residual(f, x),
    "restart": lambda f, x, u: reg.restart(f, x, -x, loops=4),
}


SLOPES = {("post-norm", "spectral_norm"), ("post-norm", "two exponents"), ("ItrSA", "rms_gain"), ("ItrSA", "restart")}


OF_JAX = {("wrapped", "rms_gain"), ("wrapped", "spectral_norm"), ("wrapped", "two exponents")}  # for others see above


@pytest.mark.parametrize(
    ("face", "kind", "name"),
    sample(
        product(["torch", "jax"], ["wrapped", "post-norm", "ItrSA"], EXACT),
        lambda face, *case: case in OF_JAX if face == "jax" else case[0] == "wrapped" or case in SLOPES,
    ),
    indirect=["face"],
)
def test_gradients_are_those_of_differences(face, name, kind):
    u, eps, along = face.array(DIRECTIONS), 1e-5, RNG.normal(size=VALUE.shape)

    def of(v):
        return EXACT[name](LAYERS[kind](face, v), face.array(TOKENS), u).mean()

    if face.name == "jax":
        both = jax.jit(jax.value_and_grad(of))  # one program for all
        slope = np.asarray(both(jnp.asarray(VALUE))[1])
        of = lambda v: both(v)[0]  # noqa: E731
    else:
        v = torch.tensor(VALUE, requires_grad=True)
        of(v).backward()
        slope = v.grad.numpy()
    ends = [float(face.numpy(of(face.array(VALUE + s * eps * along)))) for s in (-1, 1)]
    assert (ends[1] - ends[0]) / (2 * eps) == pytest.approx((slope * along).sum(), rel=1e-6, abs=1e-8)


def test_gradients_in_the_state():
    """Where x is on the graph, they reach what it was computed from."""
    w, eps = RNG.normal(size=(D, D)), 1e-5
    block = lambda x: torch.tanh(x @ torch.as_tensor(w))  # noqa: E731
    for name in ("rms_gain", "residual"):
        x = torch.tensor(X, requires_grad=True)
        ALL[name](block, x, geometry=FLAT).sum().backward()
        ends = [ALL[name](block, torch.tensor(X + s * eps * DIRECTIONS[0]), geometry=FLAT).sum() for s in (-1, 1)]
        assert ((ends[1] - ends[0]) / (2 * eps)).item() == pytest.approx((x.grad.numpy() * DIRECTIONS[0]).sum(), rel=1e-6)


def test_gradients_where_directions_have_converged():
    """Those of the largest singular value, ``u v^T``, and of the modulus of the largest eigenvalue, ``l r^T / l^T r``."""
    j = torch.tensor(MATRICES["one mode"] + 0.1 * MATRICES["Gaussian"], requires_grad=True)
    x = torch.zeros(1, N, D, dtype=torch.float64)
    reg.spectral_norm(linear(j), x, above=None, steps=80, geometry=FLAT).sum().backward()
    u, _, v = torch.linalg.svd(j.detach())
    assert torch.allclose(j.grad, u[:, :1] @ v[:1], atol=1e-8)
    values, right = np.linalg.eig(j.detach().numpy())
    top = np.abs(values).argmax()
    exact = np.real(np.outer(np.linalg.inv(right)[top], right[:, top]))
    off = []
    for last in (10, 100):
        j.grad = None
        reg.spectral_radius(linear(j), x, steps=60 + last, last=last, geometry=FLAT).sum().backward()
        off.append(np.abs(j.grad.numpy() - exact).max())
    assert off[1] < 0.01 and off[1] < off[0] / 5


# --------------------------------------------------------------------------------------------------------------- samples
SOME = ("rms_gain",)  # of those that JAX compiles one by one


@pytest.mark.parametrize(
    ("face", "name"),
    sample(product(["torch", "jax"], ALL), lambda face, name: face == "torch" or name in SOME),
    indirect=["face"],
)
def test_samples_are_independent(face, name):
    """Other samples, and how many there are, change nothing; their gradients do not mix."""
    layer = LAYERS["post-norm"](face, face.array(VALUE))
    compiled = jax.jit(lambda x: ALL[name](layer, x)) if face.name == "jax" else lambda x: ALL[name](layer, x)

    def of(x):
        return face.numpy(compiled(face.array(x)))

    def shape(x):
        return jax.eval_shape(compiled, face.array(x)).shape if face.name == "jax" else of(x).shape

    whole, changed = of(TOKENS), TOKENS.copy()
    changed[1:] = OTHER[1:]
    assert of(changed)[0] == pytest.approx(whole[0], rel=1e-12)
    assert of(TOKENS[:2]) == pytest.approx(whole[:2], rel=1e-12)
    assert shape(TOKENS.reshape(2, 2, N, D)) == (2, 2) and shape(TOKENS[0]) == ()


@mainly("torch")  # in JAX see test_keys_of_jax, and directions among the gradients
def test_seeds_and_directions(face):
    layer, x = LAYERS["post-norm"](face, face.array(VALUE)), face.array(TOKENS)
    values = [face.numpy(reg.rms_gain(layer, x, seed=s)) for s in (0, 0, 1)]
    assert (values[0] == values[1]).all() and (values[0] != values[2]).all()
    u = ctsa.Sphere().project(face.numpy(layer(x)), DIRECTIONS)
    both = face.numpy(reg.rms_gain(layer, x, v=face.array(u)))
    each = [face.numpy(reg.rms_gain(layer, x, v=face.array(5 * one))) for one in u]  # length does not matter
    assert both == pytest.approx(np.mean(each, 0), rel=1e-12)


# ----------------------------------------------------------------------------------------------------- modules of others
def encoder(dtype=torch.float64, dropout=0.0):
    torch.manual_seed(0)
    return torch.nn.TransformerEncoderLayer(
        8, 2, 16, dropout=dropout, dtype=dtype, batch_first=True, activation="gelu", norm_first=True
    )


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_modules_of_torch_in_training_mode(name, dtype):
    """Fused attention inside, bare and wrapped, with gradients in all parameters."""
    block = encoder(dtype).train()
    x = torch.tensor(RNG.normal(size=(B, N, 8)), dtype=dtype)
    wrapped = ctsa.torch.WrappedLayer(block, geometry=FLAT, batched=True)
    found = []
    for layer, options in ((block, dict(geometry=FLAT)), (wrapped, dict(geometry=FLAT))):
        block.zero_grad()
        value = ALL[name](layer, x, **options)
        assert value.shape == (B,) and value.dtype == dtype and torch.isfinite(value).all()
        value.mean().backward()
        grads = {k: p.grad for k, p in block.named_parameters() if p.grad is not None}
        assert "self_attn.in_proj_weight" in grads and "linear1.weight" in grads
        assert all(torch.isfinite(g).all() for g in grads.values())
        found.append((value.detach(), block.linear1.weight.grad.clone()))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9 if dtype == torch.float64 else 1e-3, atol=1e-5)
    assert ALL[name](wrapped, x[0], geometry=FLAT).shape == ()  # batched=True adds the axis
    assert ALL[name](wrapped, x[None], geometry=FLAT).shape == (1, B)


@every
def test_single_precision(face, torch_face, name):
    def of(face, v, x):
        return ALL[name](LAYERS["post-norm"](face, v), x)

    arrays = face.array(VALUE, "float32"), face.array(TOKENS, "float32")
    narrow = jax.jit(of, static_argnums=0)(face, *arrays) if face.name == "jax" else of(face, *arrays)
    wide = torch_face.numpy(of(torch_face, torch_face.array(VALUE), torch_face.array(TOKENS)))
    assert str(narrow.dtype).removeprefix("torch.") == "float32"
    assert face.numpy(narrow) == pytest.approx(wide, rel=1e-3, abs=1e-5)


def test_half_precision_modules():
    layer = ctsa.torch.WrappedLayer(encoder(torch.bfloat16), geometry=FLAT, batched=True)
    value = reg.rms_gain(layer, torch.tensor(RNG.normal(size=(2, N, 8)), dtype=torch.float32), seed=0)
    value.mean().backward()
    assert value.dtype == torch.float32 and torch.isfinite(value).all()


def test_dropout():
    """One call is one mask: forward and product agree. Several products of several masks are refused, also in closures."""
    x = torch.tensor(RNG.normal(size=(B, N, 8)))
    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.Tanh()).double()
    torch.manual_seed(5)
    value = reg.rms_gain(net, x, v=torch.stack([torch.ones_like(x), x]), geometry=FLAT)
    torch.manual_seed(5)
    z = x.clone().requires_grad_()
    y = net(z)
    units = [w / w.flatten(1).norm(dim=1)[:, None, None] for w in (torch.ones_like(x), x)]
    g = torch.stack([torch.autograd.grad((y * w).sum(), z, retain_graph=True)[0] for w in units])
    assert torch.allclose(value, (g * g).sum((-2, -1)).mean(0), rtol=1e-12)
    block = encoder(dropout=0.3).train()  # also within attention
    reg.rms_gain(block, x, seed=0, geometry=FLAT).mean().backward()
    assert block.self_attn.in_proj_weight.grad.abs().sum() > 0
    assert reg.residual(block, x, geometry=FLAT).shape == (B,)
    closure = lambda z: block(z + x)  # noqa: E731
    for name in ("spectral_norm", "spectral_radius", "exponent", "restart"):
        for layer in (block, closure):
            with pytest.raises(ValueError, match=r"layer is in training mode and draws .*layer\.eval\(\).*rms_gain"):
                ALL[name](layer, x, geometry=FLAT)
    block.eval()
    assert ALL["spectral_norm"](block, x, geometry=FLAT).shape == (B,)
    norm = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.BatchNorm1d(N)).double()
    with pytest.raises(ValueError, match="normalises by the batch.*its samples are not independent"):
        reg.rms_gain(norm, x, seed=0, geometry=FLAT)
    assert reg.unroll(encoder(dropout=0.3).train(), x, 3, geometry=FLAT).shape == x.shape


def mlp(key=0):
    return eqx.nn.MLP(D, D, 8, 1, activation=jnp.tanh, key=jax.random.key(key))


def on_tokens(net):
    return lambda x: jnp.vectorize(net, signature="(d)->(d)")(x)


@pytest.mark.parametrize("name", sample(ALL, lambda name: name in SOME))
def test_modules_of_equinox(name):
    x = jnp.asarray(X)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def loss(net):
        value = ALL[name](on_tokens(net), x, geometry=FLAT)
        return value.mean(), value

    (_, value), grads = loss(mlp())
    assert value.shape == (B,)
    leaves = [a for a in jax.tree_util.tree_leaves(grads) if eqx.is_array(a)]
    assert leaves and all(np.isfinite(a).all() for a in leaves) and any(np.abs(a).max() > 0 for a in leaves)


# ------------------------------------------------------------------------------------------------------------ transforms
def test_keys_of_jax():
    traces = []

    @jax.jit
    def gain(w, key):
        traces.append(1)
        return reg.rms_gain(lambda x: jnp.tanh(x @ w), jnp.asarray(X), seed=key, geometry=FLAT)

    w = jnp.asarray(VALUE)
    values = [gain(w, key) for key in jax.random.split(jax.random.key(0), 3)]
    assert len(traces) == 1 and not np.allclose(values[0], values[1])
    key = jax.random.split(jax.random.key(0), 3)[0]
    here = reg.rms_gain(lambda x: jnp.tanh(x @ w), jnp.asarray(X), seed=key, geometry=FLAT)
    assert np.allclose(here, values[0], rtol=1e-12)
    assert jax.eval_shape(gain, w, jax.random.PRNGKey(3)).shape == (B,)
    with pytest.raises(TypeError, match=r"seed is traced.*jax.random.key\(seed\)"):
        gain(w, 3)


@pytest.mark.parametrize("name", sample(ALL, lambda name: name == "spectral_norm"))
def test_vmap_of_jax(name):
    """Over samples it is the batch, but for the directions drawn; over parameters a sweep."""
    x, sizes = jnp.asarray(TOKENS), jnp.asarray([0.5, 1.0])
    of = lambda s, x: ALL[name](LAYERS["post-norm"](ctsa.jax, s * VALUE), x)  # noqa: E731
    sweep = jax.jit(jax.vmap(of, (0, None)))(sizes, x)
    one = ALL[name](LAYERS["post-norm"](ctsa.torch, VALUE), torch.as_tensor(TOKENS))  # alike, and nothing is compiled
    assert sweep.shape == (2, B) and np.allclose(sweep[1], one.detach(), rtol=1e-10)
    alone = jax.jit(jax.vmap(of, (None, 0)))(1.0, x)
    assert alone.shape == (B,) and np.isfinite(alone).all()


@every
def test_func_grad_of_torch(name):
    block = encoder()
    x = torch.tensor(RNG.normal(size=(2, N, 8)))
    p = {k: a.detach() for k, a in block.named_parameters()}
    grads = torch.func.grad(
        lambda p: ALL[name](lambda z: torch.func.functional_call(block, p, (z,)), x, geometry=FLAT).mean()
    )(p)
    ALL[name](block, x, geometry=FLAT).mean().backward()
    assert torch.allclose(grads["linear1.weight"], block.linear1.weight.grad, rtol=1e-9, atol=1e-12)


def test_no_recompilation(jax_face):
    traces = []

    @jax.jit
    def loss(layer, x, key):
        traces.append(1)
        return sum(f(layer, x).mean() for f in ALL.values()) + reg.rms_gain(layer, x, seed=key).mean()

    for s in (1.0, 2.0):
        jax.eval_shape(loss, LAYERS["post-norm"](jax_face, s * VALUE), jnp.asarray(TOKENS), jax.random.key(int(s)))
    assert len(traces) == 1
    jax.eval_shape(loss, LAYERS["post-norm"](jax_face, VALUE), jnp.asarray(TOKENS[:2]), jax.random.key(0))
    assert len(traces) == 2


# -------------------------------------------------------------------------------------------------------------- training
def settings(name):
    return [1.0, 0.5] if name in ("residual", "restart") else [1.5, 0.02]


@pytest.mark.parametrize(
    ("home", "name"), sample(product(["torch", "jax"], ALL), lambda home, name: home == "torch" or name in SOME)
)
def test_three_steps_of_training_lower_it(home, name):
    size, rate = settings(name)
    w, b, x = size * VALUE, RNG.normal(size=D), X
    values = []
    if home == "torch":
        w, b, x = torch.tensor(w, requires_grad=True), torch.tensor(b), torch.tensor(x)
        for _ in range(4):
            value = ALL[name](lambda x, w=w: torch.tanh(x @ w + b), x, geometry=FLAT).mean()
            (slope,) = torch.autograd.grad(value, w)
            w = (w - rate * slope / (1 + slope.norm())).detach().requires_grad_()
            values.append(value.item())
    else:
        b, x = jnp.asarray(b), jnp.asarray(x)
        step = jax.jit(
            jax.value_and_grad(lambda w: ALL[name](lambda x: jnp.tanh(x @ w + b), x, geometry=FLAT).mean())
        )
        for _ in range(4):
            value, slope = step(w)
            w = w - rate * slope / (1 + jnp.linalg.norm(slope))
            values.append(float(value))
    assert values[3] < values[2] < values[1] < values[0]


def test_three_steps_lower_the_scale(torch_face):
    x = torch.tensor(X, requires_grad=True)
    values = []
    for _ in range(4):
        value = reg.scale(x).mean()
        (slope,) = torch.autograd.grad(value, x)
        x = (x - 0.3 * slope).detach().requires_grad_()
        values.append(value.item())
    assert values[3] < values[2] < values[1] < values[0]


# ----------------------------------------------------------------------------------------------------------------- loops
def test_truncated_gradients(face):
    x = face.array(np.ones((1, 1, 1)))

    def end(a, loops, last):
        return reg.unroll(lambda x: a * x, x, loops, last=last, geometry=FLAT).sum()

    for loops, last, slope in ((5, 2, 2 * 0.5**4), (5, 9, 5 * 0.5**4), (1, 8, 1.0)):
        if face.name == "jax":
            value, found = jax.jit(jax.value_and_grad(end), static_argnums=(1, 2))(0.5, loops, last)
            traced = jax.jit(jax.value_and_grad(end), static_argnums=2)(0.5, jnp.asarray(loops), last)
            assert [float(a) for a in traced] == pytest.approx([0.5**loops, slope])
        else:
            a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
            value = end(a, loops, last)
            value.backward()
            found = a.grad
        assert face.numpy(value) == 0.5**loops and float(found) == pytest.approx(slope)


def test_other_numbers_of_loops_do_not_compile_again():
    traces = []

    @jax.jit
    @jax.grad
    def slope(w, loops):
        traces.append(1)
        return (reg.unroll(lambda x: jnp.tanh(x @ w), jnp.asarray(X), loops, last=3, geometry=FLAT) ** 2).sum()

    w = jnp.asarray(VALUE)
    for loops in (1, 3, 20):
        def loss(v, loops=loops):
            x = torch.tensor(X)
            return (reg.unroll(lambda x: torch.tanh(x @ v), x, loops, last=3, geometry=FLAT) ** 2).sum()

        v = torch.tensor(VALUE, requires_grad=True)
        loss(v).backward()
        assert np.allclose(slope(w, loops), v.grad.numpy(), rtol=1e-9, atol=1e-10)
    assert len(traces) == 1


def test_numbers_of_loops():
    draw = reg.sample_loops
    stars = draw("lognormal", 40_000, seed=1)
    assert np.log(stars).mean() == pytest.approx(2.0, abs=0.02) and stars.min() >= 1 and stars.max() <= 100
    ouro = draw("lognormal", 40_000, mu=1.7, sigma=0.4, high=16)
    assert ouro.mean() == pytest.approx(np.exp(1.7 + 0.08), rel=0.02) and ouro.max() == 16
    huginn = draw("poisson-lognormal", 40_000)
    assert huginn.mean() == pytest.approx(33.0, rel=0.02) and huginn.min() >= 1
    assert huginn.var() == pytest.approx(32 + 32**2 * (np.exp(0.25) - 1), rel=0.05)  # of a Poisson number of random rate
    flat = draw("uniform", 16_000, low=3, high=6)
    assert set(flat) == {3, 4, 5, 6} and np.bincount(flat)[3:].min() > 3800
    assert flat.dtype == int and np.array_equal(draw("uniform", 9, seed=2), draw("uniform", 9, seed=2))


def test_weights_are_regularised_from_here_too(face):
    field = face.SelfAttention(value=VALUE)
    assert face.numpy(reg.spectral_regulariser(field)) == face.numpy(ctsa.spectral_regulariser(field))


# ------------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(("make", "what"), [
    (lambda x: reg.rms_gain(3, x, seed=0), "must be a field"),
    (lambda x: reg.rms_gain(lambda t, x: x, x, seed=0), r"got a field\(t, x\)"),
    (lambda x: reg.rms_gain([lambda x: x], x, seed=0), "got a sequence of layers"),
    (lambda x: reg.rms_gain(lambda x: x, x), "seed must be given .seed=step.*or v"),
    (lambda x: reg.rms_gain(lambda x: x, x, seed=0, probes=0), "probes must be"),
    (lambda x: reg.rms_gain(lambda x: x, x, seed="a"), "seed must be"),
    (lambda x: reg.rms_gain(lambda x: x, x, seed=0, geometry="a"), "geometry must be"),
    (lambda x: reg.rms_gain(lambda x: x, x, v=x[:1]), "v must be directions"),
    (lambda x: reg.rms_gain(lambda x: x, x, v=x / 0), "v must be finite"),
    (lambda x: reg.rms_gain(lambda x: x, x, v=jnp.asarray(TOKENS)), "v is an array of jax"),
    (lambda x: reg.rms_gain(lambda x: x, 2 * x, seed=0), "x must have unit tokens.*Euclidean"),
    (lambda x: reg.rms_gain(lambda x: x, x * float("nan"), seed=0), "x must be finite"),
    (lambda x: reg.rms_gain(lambda x: 2 * x, x, seed=0), "layer left the sphere"),
    (lambda x: reg.exponent(lambda x: 2 * x, x), "layer left the sphere"),
    (lambda x: reg.residual(lambda x: x / 0, x), "layer returned nan or inf"),
    (lambda x: reg.residual(lambda x: x[..., :1], x), "layer must return a state like x"),
    (lambda x: reg.spectral_norm(lambda x: x, x, above=-1.0), "above must be"),
    (lambda x: reg.spectral_norm(lambda x: x, x, carry="yes"), "carry must be"),
    (lambda x: reg.spectral_norm(lambda x: x, x, start=DIRECTIONS), "start must be one direction"),
    (lambda x: reg.spectral_radius(lambda x: x, x, steps=2, last=3), "last=3 is more than steps=2"),
    (lambda x: reg.exponent(lambda x: x, x, count=99), "count=99 is more than the dimension of the manifold, 9"),
    (lambda x: reg.exponent(lambda x: x, x, above=0, target=0), "two regularisers"),
    (lambda x: reg.exponent(lambda x: x, x, frame=DIRECTIONS), "frame must have count=1"),
    (lambda x: reg.restart(lambda x: x, x, x[:1], loops=2), "other must be like x0"),
    (lambda x: reg.restart(lambda x: x, x, x, loops=0), "loops must be"),
    (lambda x: reg.scale(x * float("inf")), "x must be finite"),
    (lambda x: reg.unroll(lambda x: x, x, 2, last=0), "last must be"),
    (lambda x: reg.unroll(lambda t, x: x, x, 2), "layer must be callable"),
    (lambda x: reg.sample_loops("normal", 3), "kind must be one of"),
    (lambda x: reg.sample_loops("uniform", 3, low=5, high=2), "high=2 is below low=5"),
    (lambda x: reg.sample_loops("lognormal", 3, sigma=-1.0), "sigma must be"),
])  # fmt: skip
def test_bad_input(make, what):
    with pytest.raises((TypeError, ValueError), match=what):
        make(torch.as_tensor(TOKENS))
