"""Code that is not of ctsa: it works, or what keeps it from being one differentiable map is found and named."""

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from sampling import sample

import ctsa
from ctsa.torch import EulerLayer, WrappedLayer

FLAT = ctsa.Euclidean()
N, D = 4, 8
X = ctsa.random_tokens(N, D, seed=0)


def tensor(a, dtype=torch.float64):
    return torch.tensor(np.asarray(a), dtype=dtype)


def block(dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = dict(batch_first=True, dtype=dtype) | options
    return torch.nn.TransformerEncoderLayer(D, 2, 16, **options).eval()


class Viewing(torch.nn.Module):
    """Attention whose output is viewed, as the strides of the fused kernel allow."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.options = torch.nn.Linear(D, 3 * D).double(), options

    def forward(self, x):
        q, k, v = (t.view(*x.shape[:2], 2, D // 2).transpose(1, 2) for t in self.inner(x).chunk(3, -1))
        return F.scaled_dot_product_attention(q, k, v, **self.options).transpose(1, 2).view(x.shape)


def quotient(f, x, h=1e-5):
    eye = np.eye(x.numel()).reshape(-1, *x.shape)
    with torch.no_grad():
        return torch.stack([(f(x + h * tensor(e)) - f(x - h * tensor(e))).ravel() / (2 * h) for e in eye], 1).numpy()


# ---------------------------------------------------------------------------------------------------- fused attention
@pytest.mark.parametrize("options", [{}, dict(is_causal=True), dict(scale=0.3), dict(attn_mask=torch.eye(N).bool() | True)])
def test_views_after_attention_work(options):
    layer = WrappedLayer(Viewing(**options), geometry=FLAT, batched=True)
    x = tensor(X)
    j = ctsa.jacobian(layer, x).detach().numpy()
    assert np.abs(j - quotient(layer, x)).max() < 1e-8
    ctsa.iterate(layer, x, depth=2)
    got = ctsa.lyapunov_spectrum(layer, x, intervals=3, transient=0, count=2)
    assert np.isfinite(got.exponents).all()
    report = ctsa.check_map(layer, x)
    assert report.derivative < 1e-8 and report.adjoint < 1e-12 and report.repeats == 0
    assert ctsa.leading(layer, x, 1, which="singular", tol=1e-10).values[0] == pytest.approx(np.linalg.norm(j, 2), rel=1e-9)


def test_modules_of_torch_are_differentiated_like_their_formula():
    """The fast path of multi-head attention, its causal form, and grouped queries."""
    x = tensor(X)
    module = block()
    causal = torch.nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)
    grouped = lambda x: F.scaled_dot_product_attention(  # noqa: E731
        x.reshape(N, 4, 2).transpose(0, 1)[None], *2 * [x.reshape(N, 4, 2)[:, :2].transpose(0, 1)[None]], enable_gqa=True
    )[0].transpose(0, 1).reshape(N, D)
    cases = [
        lambda x: module(x[None])[0], lambda x: module(x[None], src_mask=causal, is_causal=True)[0],
        lambda x: module.self_attn(x[None], x[None], x[None], need_weights=False)[0][0], grouped,
    ]  # fmt: skip
    for f in cases:
        j = ctsa.jacobian(f, x, geometry=FLAT).detach().numpy()
        assert np.abs(j - quotient(f, x)).max() < 1e-7


def test_fields_with_attention_inside():
    """Also of a bare callable in a layer, and in a flow."""
    module = block()
    field = lambda t, y: ctsa.Sphere().project(y, module(y[None])[0])  # noqa: E731
    x = tensor(X)
    for system in (EulerLayer(field, 0.1), ctsa.EulerLayer(field, 0.1)):
        assert np.isfinite(ctsa.lyapunov_spectrum(system, x, intervals=2, transient=0, count=2).exponents).all()
    assert np.isfinite(ctsa.eigenvalues(field, x)).all()
    assert np.abs(ctsa.jacobian(field, x).detach().numpy() - quotient(lambda y: field(0.0, y), x)).max() < 1e-7


def test_no_switch_of_the_process_is_touched():
    layer, x, errors = WrappedLayer(block(), scale=D**0.5, batched=True), tensor(X), []

    def work():
        try:
            with torch.no_grad():
                ctsa.iterate(layer, x, depth=20)
                ctsa.lyapunov_spectrum(layer, x, intervals=2, transient=0, count=2)
        except Exception as error:
            errors.append(error)

    def switches():
        cuda = torch.backends.cuda
        return (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(),
                torch.backends.mha.get_fastpath_enabled())  # fmt: skip

    before = switches()
    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors and switches() == before


# --------------------------------------------------------------------------------------------------------- bare modules
def test_bare_modules_are_layers_where_they_keep_their_place():
    module, x = block(), tensor(X)
    plain = ctsa.lyapunov_spectrum(module, x, intervals=2, transient=0, count=2, geometry=FLAT)
    wrapped = ctsa.lyapunov_spectrum(WrappedLayer(module, FLAT), x, intervals=2, transient=0, count=2)
    assert np.abs(plain.exponents - wrapped.exponents).max() < 1e-12


@pytest.mark.parametrize("analysis", [
    lambda m, x: ctsa.lyapunov_spectrum(m, x, intervals=2), lambda m, x: ctsa.eigenvalues(m, x),
    lambda m, x: ctsa.spectral_norm(m, x), lambda m, x: ctsa.leading(m, x, 2), lambda m, x: ctsa.iterate(m, x, depth=2),
    lambda m, x: ctsa.covariant_vectors(m, x, intervals=2), lambda m, x: ctsa.check_map(m, x),
])  # fmt: skip
def test_a_module_that_leaves_the_sphere_is_named(analysis):
    with pytest.raises(ValueError, match=r"left the sphere.*WrappedLayer\("):
        analysis(block(), tensor(X))
    mlp = eqx.filter_vmap(eqx.nn.MLP(D, D, 16, 1, key=jax.random.key(0)))
    with pytest.raises(ValueError, match=r"left the sphere.*WrappedLayer\("):
        analysis(mlp, jnp.asarray(X))


@pytest.mark.parametrize("make", [lambda: block().train(), lambda: block(dropout=0.5).train()])
def test_training_mode_is_named(make):
    with pytest.raises(ValueError, match=r"draws random numbers \(self_attn\).*module.eval\(\)"):
        ctsa.lyapunov_spectrum(make(), tensor(X), intervals=2, geometry=FLAT)


def test_batch_statistics_are_named():
    with pytest.raises(ValueError, match=r"normalises by the batch, and remembers \(0\).*module.eval\(\)"):
        ctsa.lyapunov_spectrum(torch.nn.Sequential(torch.nn.BatchNorm1d(D)).double(), tensor(X), intervals=2, geometry=FLAT)


def test_attention_along_the_wrong_axis_is_refused():
    with pytest.raises(ValueError, match=r"self_attn has batch_first=False.*module.self_attn.batch_first = True"):
        WrappedLayer(block(batch_first=False), scale=D**0.5, batched=True)
    with pytest.raises(ValueError, match="batch_first=False"):
        ctsa.WrappedLayer(torch.nn.GRU(D, D), batched=True)
    module = block(batch_first=False)
    module.self_attn.batch_first = True
    layer = WrappedLayer(module, scale=D**0.5, batched=True)
    j = ctsa.jacobian(layer, X).detach().numpy().reshape(N, D, N, D)
    assert np.abs(j[0, :, 1]).max() > 1e-3  # token 1 moves token 0


def test_a_scale_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"tokens of length 2.83 .* given tokens of length 1.* scale=2.828"):
        ctsa.lyapunov_spectrum(WrappedLayer(block(), batched=True), X, intervals=2)
    ctsa.lyapunov_spectrum(WrappedLayer(block(), batched=True, check=False), X, intervals=2, count=1)
    ctsa.lyapunov_spectrum(WrappedLayer(block(), scale=D**0.5, batched=True), X, intervals=2, count=1)
    double = WrappedLayer(lambda x: 2 * x + 0.1 * x.roll(1, -2))  # no length of its own: nothing to guess
    ctsa.lyapunov_spectrum(double, tensor(X), intervals=2, count=1)


@pytest.mark.parametrize("f, match", [
    (lambda y: 0 * y, "a token that is zero"), (lambda y: y * float("nan"), "nan or inf"), (lambda y: y / 0, "nan or inf"),
])  # fmt: skip
def test_outputs_that_are_no_state(face, f, match):
    x = face.array(X)
    for layer in (ctsa.WrappedLayer(f), face.WrappedLayer(f)):
        with pytest.raises(ValueError, match=match):
            layer(x)
        with pytest.raises(ValueError):
            ctsa.lyapunov_spectrum(layer, x, intervals=2)


def test_iterates_stay_where_they_live(face):
    x = face.array(X)
    with pytest.raises(ValueError, match="after 1 layers a token has length 2"):
        ctsa.iterate(lambda y: 2 * y, x, depth=3)
    with pytest.raises(ValueError, match="nan or inf within the first 1 layers"):
        ctsa.iterate(lambda y: y * float("nan"), x, depth=3)
    ctsa.iterate(lambda y: 2 * y, x, depth=3, geometry=FLAT)
    with pytest.raises(ValueError, match="left the sphere"):
        ctsa.lyapunov_spectrum(lambda y: 2 * y, x, intervals=3)


# ------------------------------------------------------------------------------------------------------- one and the same
def forgetful(x):
    return 0.5 * x.detach() + 0.1 * x


def unrecorded(x):
    with torch.no_grad():
        return torch.tanh(0.5 * x)


class Wrong(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.sin(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def jvp(ctx, dx):
        return torch.sin(ctx.saved_tensors[0]) * dx

    @staticmethod
    def backward(ctx, dy):
        return torch.cos(ctx.saved_tensors[0]) * dy


def caching():
    kept = []

    def step(x):
        kept.append(x)
        return 0.5 * x + 0.1 * torch.stack(kept[-5:]).mean(0)

    return step


@pytest.mark.parametrize("make, match", [
    (lambda: forgetful, "derivative that is not its own.*detach"),
    (lambda: lambda x: Wrong.apply(x), "derivative that is not its own"),
    (caching, "another output for the same input.*remembers earlier calls"),
    (lambda: lambda x: F.dropout(x, 0.1), "another output for the same input.*draws random"),
    (lambda: lambda x: x + 1e-3 * torch.randn_like(x), "another output for the same input"),
])  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: WrappedLayer(f, FLAT), lambda f: ctsa.WrappedLayer(f, FLAT)])
def test_what_is_no_one_map_is_named(make, match, wrap):
    x = tensor(X)
    for analysis in (
        lambda f: ctsa.lyapunov_spectrum(f, x, intervals=2, geometry=FLAT), lambda f: ctsa.eigenvalues(f, x, geometry=FLAT),
        lambda f: ctsa.check_map(f, x, FLAT),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            analysis(wrap(make()))
    if make is not caching and "derivative" in match:
        ctsa.eigenvalues(WrappedLayer(make(), FLAT, check=False), x)


def test_gradients_stopped_in_jax_are_found():
    f = lambda x: 0.5 * jax.lax.stop_gradient(x) + 0.1 * x  # noqa: E731
    with pytest.raises(ValueError, match="derivative that is not its own"):
        ctsa.lyapunov_spectrum(f, jnp.asarray(X), intervals=2, geometry=FLAT)


def test_no_grad_inside_keeps_forward_mode():
    x = tensor(X)
    got = ctsa.lyapunov_spectrum(unrecorded, x, intervals=9, transient=60, count=2, geometry=FLAT)
    assert np.abs(got.exponents - np.log(0.5)).max() < 1e-6
    assert np.abs(ctsa.eigenvalues(unrecorded, 0 * x, geometry=FLAT) - 0.5).max() < 1e-12
    for run in (
        lambda: ctsa.leading(unrecorded, x, 2, which="singular", geometry=FLAT),
        lambda: ctsa.check_map(unrecorded, x, FLAT),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no right derivative in reverse mode"):
            run()
    assert ctsa.check_map(unrecorded, x, FLAT, adjoint=False).adjoint > 0.05
    ctsa.leading(unrecorded, x, 2, geometry=FLAT)


def test_coupled_axes_are_no_batch(face):
    mix = face.array([[0.5, 0.9, 0], [0, 0.5, 0.9], [0.9, 0, 0.5]])
    einsum = torch.einsum if face.name == "torch" else jnp.einsum
    layer = ctsa.WrappedLayer(lambda z: einsum("ab,bnd->and", mix, z), geometry=FLAT)
    x = face.array(np.random.default_rng(0).normal(size=(3, 4, 5)))
    with pytest.raises(ValueError, match="couples the members of a batch.*flatten them into tokens"):
        ctsa.lyapunov_spectrum(layer, x, intervals=10, count=2)
    flat = ctsa.WrappedLayer(lambda z: einsum("ab,bnd->and", mix, z.reshape(3, 4, 5)).reshape(12, 5), geometry=FLAT)
    got = ctsa.lyapunov_spectrum(flat, x.reshape(12, 5), intervals=30, transient=100, count=2)
    assert np.abs(got.exponents - np.log(1.4)).max() < 1e-9


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["tanh", "relu", "norm", "steep"]), double=st.booleans())
def test_right_modules_are_not_refused(seed, kind, double):
    """Smooth ones, kinks, steep ones, and normalisation, in both precisions."""
    torch.manual_seed(seed)
    inner = {"relu": torch.nn.ReLU(), "norm": torch.nn.LayerNorm(16)}.get(kind, torch.nn.Tanh())
    module = torch.nn.Sequential(torch.nn.Linear(D, 16), inner, torch.nn.Linear(16, D)).eval()
    if kind == "steep":
        module[0].weight.data *= 10
    dtype = torch.float64 if double else torch.float32
    report = ctsa.check_map(module.to(dtype), tensor(ctsa.random_tokens(N, D, seed=seed), dtype), FLAT)
    assert report.repeats == 0 and report.adjoint < 1e-2


# ------------------------------------------------------------------------------------------------------- half precision
@pytest.mark.parametrize("wrap, dtype", sample([
    (wrap, dtype) for wrap in (WrappedLayer, ctsa.WrappedLayer) for dtype in (torch.bfloat16, torch.float16)
], lambda wrap, dtype: (wrap is WrappedLayer) == (dtype == torch.bfloat16)))  # fmt: skip
def test_half_precision_modules(dtype, wrap):
    layer = wrap(block().to(dtype), scale=D**0.5, batched=True)
    exact = wrap(block().to(dtype).double(), scale=D**0.5, batched=True)
    coarse = 0.3 if dtype == torch.bfloat16 else 0.05
    want = ctsa.lyapunov_spectrum(exact, X, intervals=4, transient=2, count=2).exponents
    for x in (tensor(X, dtype), tensor(X, torch.float32), X):
        got = ctsa.lyapunov_spectrum(layer, x, intervals=4, transient=2, count=2)
        assert got.history.dtype == np.float64 and np.abs(got.exponents - want).max() < coarse
    assert ctsa.iterate(layer, tensor(X, dtype), depth=2).xs.dtype == torch.float32
    close = ctsa.eigenvalues(exact, X)[0].real
    assert ctsa.eigenvalues(layer, tensor(X, dtype))[0].real == pytest.approx(close, abs=coarse)
    assert ctsa.leading(layer, tensor(X, dtype), 1).values[0].real == pytest.approx(close, abs=coarse)
    assert np.isfinite(ctsa.covariant_vectors(layer, tensor(X, dtype), intervals=3, count=2).exponents).all()


def test_half_precision_in_jax():
    def cast(dtype):
        mlp = eqx.nn.MLP(D, D, 16, 1, activation=jnp.tanh, key=jax.random.key(0))
        return eqx.filter_vmap(jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, mlp))

    run = dict(intervals=3, transient=1, count=2)
    got = ctsa.lyapunov_spectrum(ctsa.jax.WrappedLayer(cast(jnp.bfloat16)), jnp.asarray(X, jnp.bfloat16), **run)
    want = ctsa.lyapunov_spectrum(ctsa.jax.WrappedLayer(cast(jnp.float64)), jnp.asarray(X), **run)
    assert np.abs(got.exponents - want.exponents).max() < 0.3


def test_another_precision_is_named():
    with pytest.raises(ValueError, match=r"x0 is torch.float64 but the field's parameters are torch.float32"):
        ctsa.lyapunov_spectrum(WrappedLayer(block(torch.float32), scale=D**0.5, batched=True), tensor(X), intervals=2)


# --------------------------------------------------------------------------------------------------------- large states
def test_leading_values_dense_and_by_products(face):
    field = face.SelfAttention(query=np.random.default_rng(0).normal(size=(3, 3)), value=np.diag([2.0, 1.0, 0.5]))
    x = ctsa.random_tokens(5, 3)
    layer = face.EulerLayer(field, 0.3)
    for system in (field, layer):
        for which in ("real", "modulus", "singular", "symmetric"):
            if which == "modulus" and system is field:
                continue
            dense, products = (ctsa.leading(system, x, 3, which=which, tol=tol) for tol in (None, 1e-12))
            assert np.abs(np.sort_complex(dense.values) - np.sort_complex(products.values)).max() < 1e-8, which
            assert dense.residuals.max() < 1e-10 and products.residuals.max() < 1e-8


def test_float32_inside_does_not_stall_arpack():
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 16))
    calls = []

    def module(x):
        calls.append(1)
        return inner(x.float()).double() + 0.1 * x.flip(-2)

    x = tensor(np.random.default_rng(0).normal(size=(80, 16)))  # 1280 unknowns: products
    got = ctsa.leading(module, x, 2, geometry=FLAT, which="modulus")
    assert len(calls) < 2000 and np.max(got.residuals) < 1e-4


# ------------------------------------------------------------------------------------------- tokens of another length
class Eight(torch.nn.Module):
    """Takes tokens of length 8, and so does not run on those of length 6."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(8, 8, dtype=torch.float64)

    def forward(self, x):
        return self.inner(x)


SIX = torch.as_tensor(ctsa.random_tokens(4, 6, batch=(3,)))
FLOW = lambda t, x: Eight()(x)  # noqa: E731
WRONG = {
    "diagnose": lambda f: ctsa.diagnose(f, SIX, 8, geometry=FLAT),
    "find_fixed_points": lambda f: ctsa.find_fixed_points(f, SIX, geometry=FLAT),
    "find_cycles": lambda f: ctsa.find_cycles(f, 2, SIX, geometry=FLAT),
    "settle": lambda f: ctsa.fixed_points.settle(f, SIX, geometry=FLAT),
    "iterate": lambda f: ctsa.iterate(f, SIX, 3, geometry=FLAT),
    "iterate until": lambda f: ctsa.iterate(f, SIX, 3, geometry=FLAT, until="fixed point"),
    "lyapunov_spectrum": lambda f: ctsa.lyapunov_spectrum(f, SIX[0], geometry=FLAT),
    "covariant_vectors": lambda f: ctsa.covariant_vectors(f, SIX[0], geometry=FLAT),
    "finite_time": lambda f: ctsa.finite_time_exponents(f, SIX[0], 3, geometry=FLAT),
    "basins": lambda f: ctsa.basins(f, SIX, geometry=FLAT),
    "monitor": lambda f: ctsa.monitor(f, SIX[0], 3, geometry=FLAT),
    "eigenvalues": lambda f: ctsa.eigenvalues(f, SIX[0], geometry=FLAT),
    "jacobian": lambda f: ctsa.jacobian(f, SIX[0], geometry=FLAT),
    "leading": lambda f: ctsa.leading(f, SIX[0], 2, geometry=FLAT),
    "spectral_norm": lambda f: ctsa.spectral_norm(f, SIX[0], geometry=FLAT),
    "exponents": lambda f: ctsa.exponents(f, SIX[0], geometry=FLAT),
    "effective_step": lambda f: ctsa.effective_step(f, SIX[0], lambda t, x: -x, geometry=FLAT),
    "rms_gain": lambda f: ctsa.regularise.rms_gain(f, SIX, seed=0, geometry=FLAT),
    "exponent": lambda f: ctsa.regularise.exponent(f, SIX, geometry=FLAT),
    "WrappedLayer": lambda f: ctsa.torch.WrappedLayer(f, geometry=FLAT)(SIX[0]),
    "integrate": lambda f: ctsa.integrate(FLOW, SIX[0], [0, 1.0], geometry=FLAT),
    "spectrum of a flow": lambda f: ctsa.lyapunov_spectrum(FLOW, SIX[0], geometry=FLAT),
    "basins of a flow": lambda f: ctsa.basins(FLOW, SIX, geometry=FLAT),
    "find_equilibria": lambda f: ctsa.find_equilibria(FLOW, 4, 6, starts=SIX, geometry=FLAT),
    "find_limit_cycle": lambda f: ctsa.find_limit_cycle(FLOW, SIX[0], geometry=FLAT),
    "classify": lambda f: ctsa.classify(FLOW, SIX[0], geometry=FLAT),
    "compare": lambda f: ctsa.compare(FLOW, SIX[0], 1.0, [0.5], geometry=FLAT),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_tokens_of_another_length_are_told_with_the_layer(name):
    """Every analysis says which code failed, and on what; the framework's own error is the cause."""
    with pytest.raises(ValueError, match=r"^(layer Eight|field <lambda>) failed on a state of shape .* = \(") as caught:
        WRONG[name](Eight().eval())
    assert "mat1 and mat2 shapes cannot be multiplied" in str(caught.value) and "length d = 6" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError) and str(caught.value.__cause__) in str(caught.value)


def test_the_step_of_a_loop_and_modules_of_jax_too(jax_face):
    class Step(Eight):
        def forward(self, x, e):
            return self.inner(x) + e

    with pytest.raises(ValueError, match=r"^step Step failed on a state of shape \(\.\.\., n, d\) = \(3, 4, 6\): mat1"):
        ctsa.iterate(ctsa.Loop(Step(), SIX, geometry=FLAT), SIX, 3)

    class Tall(eqx.Module):
        inner: eqx.nn.Linear

        def __call__(self, x):
            return jax.vmap(self.inner)(x)

    layer, x = Tall(eqx.nn.Linear(8, 8, key=jax.random.key(0))), jax_face.array(SIX[0].numpy())
    for run in (ctsa.iterate, ctsa.lyapunov_spectrum, ctsa.diagnose):
        with pytest.raises(ValueError, match=r"^layer Tall failed on a state of shape \(n, d\) = \(4, 6\): dot_general"):
            run(layer, x, **({"geometry": FLAT} if run is not ctsa.iterate else {"depth": 3, "geometry": FLAT}))


def test_other_errors_are_left_alone():
    """What says nothing about shapes, and what we say ourselves."""

    for error in (KeyError("no"), RuntimeError("out of luck"), KeyboardInterrupt()):

        def layer(x, error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            ctsa.iterate(layer, SIX, 2, geometry=FLAT)
        assert caught.value is error
    with pytest.raises(ValueError, match="^layer must return a state like x"):
        ctsa.iterate(lambda x: x[:1], SIX, 2, geometry=FLAT)
    inner = ctsa.torch.WrappedLayer(lambda x: x[:1], geometry=FLAT)
    with pytest.raises(ValueError, match="^module"):
        ctsa.iterate(lambda x: inner(x), SIX, 2, geometry=FLAT)
