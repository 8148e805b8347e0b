"""Blocks of others as a field and a layer, and what no field explains."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ctsa
import ctsa.jax
import ctsa.torch

D, N = 8, 6


def block(seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    made = torch.nn.TransformerEncoderLayer(D, 2, 16, dtype=dtype, batch_first=True, **options).eval()
    with torch.no_grad():  # biases start at zero
        for name, p in made.named_parameters():
            if "bias" in name:
                p.normal_(0, 0.1)
    return made


def tokens(seed=1):
    x = ctsa.random_tokens(N, D, seed=seed)
    return ctsa.Sphere().retract(x - x.mean(-1, keepdims=True))


def test_attention_is_the_modules_own(close):
    """All biases, from the inside of a module: its output on tokens of length scale."""
    module = block().self_attn
    x, scale = torch.as_tensor(tokens()), D**0.5
    form = ctsa.read_block(module)
    with torch.no_grad():
        y = module(scale * x[None], scale * x[None], scale * x[None])[0][0]
    close(form.attention.drift(0.0, x), y, 1e-14)
    # A post-norm step is one of the flow for every token, of a size of its own.
    assert np.nanmax(form.fit.residuals) < 1e-12 and 0 < form.unexplained < 0.2


@pytest.mark.parametrize("activation", ["relu", "gelu", torch.nn.ReLU(), torch.nn.GELU(), torch.tanh])
def test_pre_norm_blocks(close, activation):
    """Behind LayerNorm with its gain and bias both parts are exact; that they come one after the other is left."""
    module = block(norm_first=True, activation=activation)
    with torch.no_grad():
        module.norm1.weight.uniform_(0.5, 1.5)
        module.norm2.weight.uniform_(0.5, 1.5)
        module.norm1.eps = module.norm2.eps = 0.0
        x = torch.as_tensor(tokens())
        form = ctsa.read_block(module, x)
        read = module.norm1(x)
        attended = module.self_attn(read[None], read[None], read[None])[0][0]
        fed = module.linear2(module.activation(module.linear1(module.norm2(x))))
    close(form.attention.drift(0.0, x), attended, 1e-13)
    close(form.field.drift(0.0, x), attended + fed, 1e-13)
    assert 0 < form.unexplained < form.fit_attention.common_residual < 1
    assert any("one after the other" in reason for reason in form.reasons)
    assert form.layer(x).shape == x.shape and "unexplained" in form.table() and "unexplained" in repr(form)


def test_small_steps_are_explained():
    """Weights that move tokens little: one after the other is together, to first order in the move."""
    shares = []
    for size in (0.2, 0.1, 0.05):
        module = block(norm_first=True)
        with torch.no_grad():
            for p in (module.linear2.weight, module.linear2.bias, *module.self_attn.out_proj.parameters()):
                p *= size
            module.norm1.eps = module.norm2.eps = 0.0
        form = ctsa.read_block(module, tokens())
        shares.append(form.unexplained)
        assert form.fit.common_step == pytest.approx(form.step, rel=size)
    assert np.log2(np.divide(shares[:-1], shares[1:])) == pytest.approx([1, 1], abs=0.15)


def test_post_norm_blocks():
    form = ctsa.read_block(block(), tokens())
    assert form.scale == pytest.approx(D**0.5) and 0 < form.unexplained < 1
    assert any(reason.startswith("norm2") for reason in form.reasons)


def test_single_precision():
    form = ctsa.read_block(block(dtype=torch.float32), tokens().astype(np.float32))
    assert str(next(form.layer.parameters()).dtype) == "torch.float32" and 0 < form.unexplained < 1


def test_attention_of_equinox(close):
    module = eqx.nn.MultiheadAttention(
        2, D, use_query_bias=True, use_key_bias=True, use_value_bias=True, use_output_bias=True, key=jax.random.PRNGKey(0)
    )
    x = jnp.asarray(tokens())
    form = ctsa.read_block(module, x)
    y = module(D**0.5 * x, D**0.5 * x, D**0.5 * x)
    close(form.attention.drift(0.0, x), y, 1e-13)
    assert np.nanmax(form.fit.residuals) < 1e-10


def test_results_are_kept(tmp_path):
    form = ctsa.read_block(block(), tokens())
    kept = ctsa.load(form.save(tmp_path / "form"))
    assert kept.unexplained == form.unexplained and kept.field is None and tuple(kept.reasons) == form.reasons


class Own(torch.nn.Module):
    """A block with names of its own."""

    def __init__(self, norm, pre, activation=torch.nn.GELU, masked=False):
        super().__init__()
        f64 = dict(dtype=torch.float64)
        self.ln_a, self.ln_b = norm(D, eps=1e-300, **f64), norm(D, eps=1e-300, **f64)
        self.mixer = torch.nn.MultiheadAttention(D, 2, batch_first=True, **f64)
        self.up, self.act, self.down = torch.nn.Linear(D, 16, **f64), activation(), torch.nn.Linear(16, D, **f64)
        self.pre, self.masked = pre, masked
        with torch.no_grad():
            for p in self.parameters():
                p += 0.2 * torch.randn_like(p)

    def mix(self, x):
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1) if self.masked else None
        return self.mixer(x, x, x, attn_mask=mask, need_weights=False)[0]

    def feed(self, x):
        return self.down(self.act(self.up(x)))

    def forward(self, x):
        if self.pre:
            x = x + self.mix(self.ln_a(x))
            return x + self.feed(self.ln_b(x))
        x = self.ln_a(x + self.mix(x))
        return self.ln_b(x + self.feed(x))


@pytest.mark.parametrize("norm", [torch.nn.LayerNorm, torch.nn.RMSNorm])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", [torch.nn.GELU, torch.nn.ReLU, torch.nn.Tanh])
def test_blocks_with_names_of_their_own(close, norm, masked, activation):
    """Norms are found by what the parts read: both parts are exact, biases, gains and causal masks included."""
    torch.manual_seed(0)
    module = Own(norm, True, activation, masked).eval()
    x = torch.as_tensor(tokens())
    form = ctsa.read_block(module, x)
    with torch.no_grad():
        attended = module.mix(module.ln_a(x)[None])[0]
        close(form.attention.drift(0.0, x), attended, 1e-13)
        close(form.field.drift(0.0, x), attended + module.feed(module.ln_b(x)), 1e-13)
    assert form.reasons == ("attention and perceptron one after the other, not together",)
    assert not any(part._forward_hooks for part in module.modules())
    after = Own(norm, False, activation, masked).eval()
    read = ctsa.read_block(after, x)
    with torch.no_grad():
        close(read.attention.drift(0.0, x), after.mix(D**0.5 * x[None])[0], 1e-13)
    assert [reason[:4] for reason in read.reasons[1:]] == ["ln_a", "ln_b"]


class Shifted(torch.nn.RMSNorm):
    """A norm whose gain is 1 + weight."""

    def forward(self, x):
        return super().forward(x) + x / x.norm(dim=-1, keepdim=True) * D**0.5


class Half(torch.nn.Module):
    """Attention alone is called, with tokens or masks that no field has."""

    def __init__(self, read=lambda x: x, key=lambda x: x, **options):
        super().__init__()
        self.read, self.key, self.options = read, key, options
        self.mixer = torch.nn.MultiheadAttention(D, 2, batch_first=True, dtype=torch.float64)
        self.up, self.act, self.down = torch.nn.Linear(D, 16), torch.nn.ReLU(), torch.nn.Linear(16, D)

    def forward(self, x):
        return x + self.mixer(self.read(x), self.key(x), self.key(x), need_weights=False, **self.options)[0]


@pytest.mark.parametrize(("make", "what"), [
    (lambda: Half(read=lambda x: 2 * x, key=lambda x: 2 * x), "reads other tokens than the field, 50.0% apart"),
    (lambda: Half(read=Shifted(D, dtype=torch.float64), key=Shifted(D, dtype=torch.float64)), "reads other tokens"),
    (lambda: Half(key=lambda x: x.flip(1)), "key of other tokens"),
    (lambda: Half(attn_mask=torch.eye(N, dtype=torch.bool)), "a mask, which the field has not"),
    (lambda: Half(attn_mask=torch.randn(N, N, dtype=torch.float64)), "a mask, which the field has not"),
    (lambda: Half(key_padding_mask=torch.arange(N)[None] > 3), "a padding mask"),
    (lambda: Half(), "linear maps besides attention are not read"),
    (lambda: Own(torch.nn.LayerNorm, True, torch.nn.LeakyReLU), "linear maps besides attention are not read"),
    (lambda: Own(torch.nn.LayerNorm, True, lambda: torch.nn.GELU("tanh")), "besides attention are not read"),
])  # fmt: skip
def test_what_no_field_has_is_said(make, what):
    torch.manual_seed(0)
    form = ctsa.read_block(make().eval(), tokens())
    assert any(what in reason for reason in form.reasons), form.reasons
    assert "perceptron" not in " ".join(form.reasons) and form.field is form.attention


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (torch.nn.MultiheadAttention(D, 2, batch_first=True) for _ in range(2))

    def forward(self, x):
        return x


@pytest.mark.parametrize(("make", "what"), [
    (lambda: ctsa.read_block(3), "module must be a module"),
    (lambda: ctsa.read_block(torch.nn.Linear(3, 3)), "must have one"),
    (lambda: ctsa.read_block(Two()), "with 2"),
    (lambda: ctsa.read_block(torch.nn.MultiheadAttention(D, 2, add_bias_kv=True)), "bias_k"),
    (lambda: ctsa.read_block(torch.nn.MultiheadAttention(D, 2, add_zero_attn=True)), "add_zero_attn"),
    (lambda: ctsa.read_block(torch.nn.MultiheadAttention(D, 2, kdim=3)), "another width"),
    (lambda: ctsa.read_block(torch.nn.TransformerEncoderLayer(D, 2, 8, activation=torch.nn.functional.silu)), "activation"),
    (lambda: ctsa.read_block(block(activation=torch.nn.functional.leaky_relu)), "'leaky_relu'"),
    (lambda: ctsa.read_block(block(activation=torch.nn.functional.hardtanh)), "'hardtanh'"),
    (lambda: ctsa.read_block(block(activation=torch.nn.GELU(approximate="tanh"))), "'GELU'"),
    (lambda: ctsa.read_block(torch.nn.TransformerEncoderLayer(D, 2, 8)), "batch_first"),
    (lambda: ctsa.read_block(block(), scale=-1.0), "scale must be"),
])  # fmt: skip
def test_bad_input(make, what):
    with pytest.raises((TypeError, ValueError), match=what):
        make()
