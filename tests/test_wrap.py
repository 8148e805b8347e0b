"""Modules of torch and pytrees of JAX as layers of every analysis."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import ctsa
import ctsa.jax
import ctsa.torch

N, D = 4, 8
FLAT = ctsa.Euclidean()
X = ctsa.random_tokens(N, D, seed=0)


@pytest.fixture
def block():
    torch.manual_seed(0)
    return torch.nn.TransformerEncoderLayer(D, 2, 16, dtype=torch.float64, batch_first=True).eval()


def test_a_transformer_block_has_a_jacobian(block, close):
    """The fused kernels of torch have no forward-mode derivative; finite differences say what it should be."""
    layer = ctsa.torch.WrappedLayer(block, geometry=FLAT, batched=True)
    x = torch.tensor(X)
    close(layer(x), block(x[None])[0])
    j = ctsa.jacobian(layer, x).detach().numpy()
    eps, unit = 1e-6, np.eye(N * D).reshape(-1, N, D)
    with torch.no_grad():
        quotient = [(layer(x + eps * torch.tensor(e)) - layer(x - eps * torch.tensor(e))) / (2 * eps) for e in unit]
    close(j, torch.stack(quotient).reshape(N * D, N * D).T, 1e-7)


def test_a_post_norm_block_on_the_sphere(block, close):
    """LayerNorm without gain and bias puts out tokens of length sqrt(d): the module in coordinates x / sqrt(d)."""
    root = np.sqrt(D)
    layer = ctsa.torch.WrappedLayer(block, scale=root, batched=True)
    big = torch.tensor(root * (X - X.mean(-1, keepdims=True)))
    u = ctsa.Sphere().retract(big)
    with torch.no_grad():
        path, y = ctsa.iterate(layer, u, depth=3), root * u
        for _ in range(3):
            y = block(y[None])[0]
    close(root * path.xs[-1], y, 1e-4)  # eps = 1e-5 of LayerNorm shortens its outputs
    block.norm2.eps = 0.0
    block.norm1.eps = 0.0
    with torch.no_grad():
        close(root * layer(u), block(root * u[None])[0], 1e-13)


def test_every_analysis_takes_it(block):
    layer = ctsa.torch.WrappedLayer(block, scale=np.sqrt(D), batched=True)
    spec = ctsa.lyapunov_spectrum(layer, X, intervals=2, interval=1, transient=0, count=3)
    assert np.isfinite(spec.exponents).all() and len(spec.exponents) == 3
    assert len(ctsa.eigenvalues(layer, X)) == N * (D - 1)
    assert ctsa.spectral_norm(layer, X) > 0
    found = ctsa.leading(layer, X, 2, which="singular")
    assert found.values[0] == pytest.approx(ctsa.spectral_norm(layer, X), rel=1e-8)


def test_a_module_of_equinox(close):
    mlp = eqx.nn.MLP(D, D, 16, 1, activation=jax.numpy.tanh, key=jax.random.PRNGKey(0))
    layer = ctsa.jax.WrappedLayer(eqx.filter_vmap(mlp))
    x = jax.numpy.asarray(X)
    y = np.asarray(jax.vmap(mlp)(x))
    close(layer(x), y / np.linalg.norm(y, axis=-1, keepdims=True))
    close(ctsa.jacobian(layer, x), np.asarray(jax.jacfwd(layer)(x)).reshape(N * D, N * D))
    spec = ctsa.lyapunov_spectrum(layer, x, intervals=2, interval=1, transient=0)
    assert spec.exponents.shape == (N * (D - 1),)


class Pair(torch.nn.Module):
    def forward(self, x):
        return x.flip(-2), None


def test_what_is_picked(close):
    x = torch.tensor(X)
    close(ctsa.WrappedLayer(Pair())(x), X[::-1])
    named = ctsa.WrappedLayer(lambda x: {"out": 2 * x}, pick=lambda y: y["out"])
    close(named(x), X)


def test_a_module_that_wants_a_batch_says_so(block):
    with pytest.raises(Exception) as caught:
        ctsa.torch.WrappedLayer(torch.nn.Conv2d(1, 1, 3, dtype=torch.float64))(torch.tensor(X))
    assert any("batched=True" in note for note in caught.value.__notes__)


def test_no_flow_and_bad_input(block):
    x = torch.tensor(X)
    layer = ctsa.WrappedLayer(lambda x: x[:-1])
    assert layer.field is None and layer.flow_step is None
    with pytest.raises(ValueError, match="does not say which flow"):
        layer.euler_step(x)
    with pytest.raises(ValueError, match="must keep shape and dtype"):
        layer(x)
    with pytest.raises(ValueError, match="must keep shape and dtype"):
        ctsa.iterate(ctsa.WrappedLayer(lambda x: x.float()), x, depth=1)
    with pytest.raises(TypeError, match="use pick="):
        ctsa.WrappedLayer(lambda x: {"out": x})(x)
    with pytest.raises(TypeError, match="module must be callable"):
        ctsa.WrappedLayer(3.0)
    with pytest.raises(TypeError, match="pick must be callable"):
        ctsa.WrappedLayer(block, pick="out")
    with pytest.raises(ValueError, match="scale is the length"):
        ctsa.WrappedLayer(block, geometry=FLAT, scale=2.0)
    with pytest.raises(ValueError, match="scale must be"):
        ctsa.WrappedLayer(block, scale=0.0)


class Batched(torch.nn.Module):
    """A module that insists on one batch axis, as many do."""

    def forward(self, x):
        b, n, d = x.shape
        return (2 * x.flip(-2) + x**2).reshape(b, n, d), None


def test_leading_axes_become_one_batch(close):
    x = ctsa.random_tokens(N, D, batch=(2, 3))
    for layer in (ctsa.WrappedLayer(Batched(), batched=True), ctsa.torch.WrappedLayer(Batched(), batched=True)):
        y = layer(torch.tensor(x))
        for i in np.ndindex(2, 3):
            close(y[i], layer(torch.tensor(x[i])))
        assert ctsa.iterate(layer, torch.tensor(x), 2).xs.shape == (3, 2, 3, N, D)


def test_a_plain_wrapper_of_a_module_takes_numpy(block, close):
    own = ctsa.torch.WrappedLayer(block, scale=D**0.5, batched=True)
    module = torch.nn.Linear(D, D, dtype=torch.float64)
    close(ctsa.jacobian(ctsa.WrappedLayer(module), X), ctsa.jacobian(ctsa.torch.WrappedLayer(module), X))
    assert ctsa.iterate(own, X, 1).xs.dtype == torch.float64


def test_dropout_is_noticed():
    noisy = torch.nn.Sequential(torch.nn.Linear(D, D, dtype=torch.float64), torch.nn.Dropout(0.1))
    attending = torch.nn.TransformerEncoderLayer(D, 2, 8, dropout=0.1, dtype=torch.float64, batch_first=True)
    for module, name in ((noisy, "1"), (attending, "self_attn")):
        with pytest.warns(UserWarning, match=rf"draws random numbers \({name}\)"):
            layer = ctsa.torch.WrappedLayer(module, batched=True)
        with pytest.raises(ValueError, match="call module.eval"):
            ctsa.jacobian(layer, X)
        module.eval()
        ctsa.jacobian(layer, X)


def test_an_empty_tuple_is_no_state():
    with pytest.raises(TypeError, match="got tuple: use pick="):
        ctsa.WrappedLayer(lambda x: ())(torch.tensor(X))
