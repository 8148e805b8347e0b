"""Checkpoints of every architecture, made and judged by transformers: states, attention, heads, both forms, fields."""

import json
import logging
import os
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import ctsa
from ctsa import pretrained
from ctsa.pretrained._transformer import State, _step

for _name in ("transformers", "safetensors"):
    if find_spec(_name) is None:
        pytest.skip(f"{_name} is not installed", allow_module_level=True)

import torch  # noqa: E402

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
import transformers  # noqa: E402

logging.getLogger("transformers").setLevel(logging.ERROR)

IDS = [3, 1, 4, 1, 5, 9, 2]
_BERT = dict(
    vocab_size=11, hidden_size=12, num_attention_heads=3, intermediate_size=20, max_position_embeddings=16,
    num_hidden_layers=2, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
_ALBERT = _BERT | dict(embedding_size=8, num_hidden_layers=4)
_GPT2 = dict(vocab_size=11, n_positions=16, n_embd=12, n_head=3, n_layer=2, bos_token_id=0, eos_token_id=0)
# name -> (class, its configuration's class, settings)
CASES = {
    "bert": ("BertModel", "BertConfig", _BERT | dict(layer_norm_eps=1e-5)),
    "bert, with a head": ("BertForMaskedLM", "BertConfig", _BERT | dict(hidden_act="gelu_new")),
    "albert": ("AlbertModel", "AlbertConfig", _ALBERT),
    "albert, grouped": ("AlbertForMaskedLM", "AlbertConfig", _ALBERT | dict(num_hidden_groups=3, inner_group_num=2)),
    "gpt2": ("GPT2Model", "GPT2Config", _GPT2 | dict(n_inner=20)),
    "gpt2, with a head": ("GPT2LMHeadModel", "GPT2Config", _GPT2 | dict(scale_attn_by_inverse_layer_idx=True)),
    "gpt2, not scaled": ("GPT2Model", "GPT2Config", _GPT2 | dict(scale_attn_weights=False, activation_function="relu")),
}
# Where the product with the output matrix comes out, in the order of the layers.
OUTPUTS = {"bert": "attention.output.dense", "albert": "attention.dense", "gpt2": "attn.c_proj"}


def make(name, folder):
    kind, settings, values = CASES[name]
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, settings)(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases, too, shall matter
            parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


@pytest.fixture(params=CASES)
def theirs(request, made):
    return made(request.param)


def judged(model, dtype):
    """Hidden states, attention weights, and outputs of attention, as transformers computes them."""
    base = getattr(model, model.base_model_prefix, model).to(dtype)
    base.set_attn_implementation("eager")
    outputs = []
    ending = next(v for k, v in OUTPUTS.items() if k == base.config.model_type)
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: outputs.append(output[0].detach().numpy()))
        for name, module in base.named_modules()
        if name.endswith(ending)
    ]
    with torch.no_grad():
        out = base(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    for hook in hooks:
        hook.remove()
    return *(np.stack([a[0].numpy() for a in part]) for part in (out.hidden_states, out.attentions)), np.stack(outputs)


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["float64", "float32"])
def test_forward(theirs, dtype, tol):
    model, folder = theirs
    states, weights, outputs = judged(model, dtype)
    ours = pretrained.load(folder)
    assert ours.layers == len(outputs)
    computed = ours.states(IDS)
    scale = max(1.0, np.abs(states).max())
    np.testing.assert_allclose(computed, states, rtol=0, atol=3 * tol * scale)  # errors of several layers add up
    for layer in range(ours.layers):
        np.testing.assert_allclose(ours.attention_weights(IDS, layer), weights[layer], rtol=0, atol=3 * tol)
        # One attention block by itself, on the states of theirs.
        output = ours.attention_output(states[layer], layer)
        np.testing.assert_allclose(output, outputs[layer], rtol=0, atol=tol * max(1.0, np.abs(outputs).max()))
        again = ours.attention_output(computed[layer], layer)
        np.testing.assert_allclose(again, ours.attention_output(IDS, layer), rtol=0, atol=1e-14)


def test_states_through_transformers(theirs):
    model, folder = theirs
    ours = pretrained.load(folder).states(IDS)
    double = pretrained.states_through_transformers(folder, IDS, dtype="float64")
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, ours, rtol=0, atol=1e-12 * max(1.0, np.abs(ours).max()))


def test_heads_give_the_attention_block(theirs):
    _, folder = theirs
    model = pretrained.load(folder)
    n, states = len(IDS), model.states(IDS)
    seen = np.tri(n, dtype=bool) if model.causal else np.ones((n, n), bool)
    for layer in range(model.layers):
        heads, y = model.heads(layer), states[layer]
        assert heads.mask == ("causal" if model.causal else None)
        assert np.linalg.matrix_rank(heads.value[0]) == model.width
        if model.pre_norm:
            norm = model._network.blocks[layer].attention_norm
            centred = y - y.mean(-1, keepdims=True)
            y = norm.gain * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + norm.bias
        output = np.zeros_like(y) + heads.output_bias
        for h in range(model.head_count):
            query, key = y @ heads.query[h].T + heads.query_bias[h], y @ heads.key[h].T + heads.key_bias[h]
            weights = softmax(np.where(seen, heads.beta * query @ key.T, -np.inf))
            output += weights @ (y @ heads.value[h].T + heads.value_bias[h])
        wanted = model.attention_output(IDS, layer)
        np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-13 * max(1, np.abs(wanted).max()))


def test_temperatures(made):
    """What GPT-2's two settings make of 1/sqrt(m), m = 4."""
    def betas(name):
        model = pretrained.load(made(name)[1])
        return [model.heads(layer).beta for layer in range(model.layers)]

    assert betas("gpt2") == [0.5, 0.5]
    assert betas("gpt2, with a head") == [0.5, 0.25]
    assert betas("gpt2, not scaled") == [1.0, 1.0]


def test_layers_that_share_weights(made):
    """ALBERT's groups: 4 layers in 3 groups of 2 are 8, in the order of transformers."""
    model = pretrained.load(made("albert, grouped")[1])
    assert model.layers == 8
    blocks = model._network.blocks
    assert len({id(block) for block in blocks}) == 6
    assert [blocks[i] is blocks[j] for i, j in ((0, 2), (1, 3), (0, 1), (2, 4))] == [True, True, False, False]


def test_exact_form(theirs):
    """The model's own attention on the sphere; with the shrunk tokens to rounding."""
    _, folder = theirs
    model = pretrained.load(folder)
    if model.kind == "albert":
        with pytest.raises(ValueError, match="layer 0 of this model has no exact form"):
            model.exact_on_sphere(IDS, 0)
    for layer in range(1 if model.kind == "albert" else 0, model.layers):
        exact = model.exact_on_sphere(IDS, layer)
        np.testing.assert_allclose(np.linalg.norm(exact.x, axis=-1), 1, atol=1e-15)
        np.testing.assert_allclose(exact.x.sum(-1), 0, atol=1e-14)
        x = exact.shrink[:, None] * exact.x
        output = np.zeros_like(x) + exact.drift
        seen = np.tri(len(x), dtype=bool) if exact.mask else np.ones((len(x), len(x)), bool)
        for q, k, v, r in zip(exact.query, exact.key, exact.value, exact.key_field, strict=True):
            weights = softmax(np.where(seen, exact.beta * ((x @ q.T) @ (x @ k.T).T + x @ r), -np.inf))
            output += weights @ x @ v.T
        wanted = model.attention_output(IDS, layer)
        np.testing.assert_allclose(output, wanted, rtol=0, atol=2e-13 * max(1, np.abs(wanted).max()))
        np.testing.assert_allclose(exact.head_drift.sum(0) + model.heads(layer).output_bias, exact.drift, atol=1e-13)


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2"])
def test_fields(made, face, close, name):
    """The fields of both forms, of all heads and of some, against the forms they are made of."""
    model, layer = pretrained.load(made(name)[1]), 1
    plain, exact = model.on_sphere(IDS, layer), model.exact_on_sphere(IDS, layer)
    x = face.array(plain.x)
    field = model.field(layer, face, IDS)
    assert field.causal == (name == "gpt2")
    whole = face.SelfAttention(plain.query, plain.key, plain.value, plain.beta, mask=plain.mask)
    close(field.drift(0.0, x), whole.drift(0.0, x), 1e-13)
    parts = [model.field(layer, face, IDS, head=h).drift(0.0, x) for h in range(3)]
    close(sum(face.numpy(p) for p in parts), face.numpy(whole.drift(0.0, x)), 1e-13)
    close(model.field(layer, face, IDS, head=[2, 0]).drift(0.0, x), parts[0] + parts[2], 1e-13)
    given = model.field(layer, face, model.states(IDS)[layer])
    close(given.drift(0.0, x), whole.drift(0.0, x), 1e-12)

    # The exact form: the model's own attention, centred, at the shrunk tokens.
    x = face.array(exact.shrink[:, None] * exact.x)
    output = model.attention_output(IDS, layer)
    centred = output - output.mean(-1, keepdims=True)
    close(model.field(layer, face, exact=True).drift(0.0, x), centred, 1e-12)
    parts = [model.field(layer, face, head=h, exact=True).drift(0.0, x) for h in range(3)]
    bias = model.heads(layer).output_bias
    close(sum(face.numpy(p) for p in parts) + bias - bias.mean(), centred, 1e-12)


@pytest.mark.parametrize("name", ["gpt2", "gpt2, with a head"])
def test_a_pre_norm_layer_is_an_euler_step(made, torch_face, name):
    """The exact form, a step of 1 / |C r|: where the residual stream points after attention, from the state r."""
    model = pretrained.load(made(name)[1])
    for layer in range(model.layers):
        r, exact = model.states(IDS)[layer], model.exact_on_sphere(IDS, layer)
        after = r + model.attention_output(IDS, layer)
        after = after - after.mean(-1, keepdims=True)
        length = np.linalg.norm(r - r.mean(-1, keepdims=True), axis=-1, keepdims=True)
        x = exact.shrink[:, None] * exact.x  # so that eps counts
        v = torch_face.numpy(model.field(layer, torch_face, exact=True).drift(0.0, torch_face.array(x)))
        wanted = after / np.linalg.norm(after, axis=-1, keepdims=True)
        np.testing.assert_allclose(ctsa.Sphere().retract(exact.x + v / length), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "layer"), [("bert", 1), ("albert", 0), ("gpt2", 0)])
def test_field_without_a_text(made, torch_face, name, layer):
    """Its beta is that of evenly spread tokens, by sampling them."""
    model = pretrained.load(made(name)[1])
    network = model._network
    size = 8 if name == "albert" else 12
    z = np.random.default_rng(0).normal(size=(200_000, size))
    if name == "gpt2":
        y = network.blocks[layer].attention_norm(z).y
    elif name == "albert":
        y = network.embedding.lift(network.embedding.norm(z).y)
    else:
        y = network.blocks[layer - 1].output_norm(z).y
    beta = float(torch_face.numpy(model.field(layer, torch_face).beta))
    assert beta == pytest.approx((y**2).sum(-1).mean() * model.heads(layer).beta, rel=5e-3)


def test_bad_fields(made, torch_face):
    model = pretrained.load(made("bert")[1])
    with pytest.raises(TypeError, match=r"face must be ctsa\.torch or ctsa\.jax"):
        model.field(0, "torch")
    with pytest.raises(ValueError, match=r"head must be one of 0 \.\.\. 2, got 3"):
        model.field(0, torch_face, head=3)
    for head in (1.0, "0", True, [0, None]):
        with pytest.raises(TypeError, match="head must be an integer"):
            model.field(0, torch_face, head=head)
    with pytest.raises(ValueError, match="head must be at least one"):
        model.field(0, torch_face, head=[])
    with pytest.raises(ValueError, match="layer must be one of 0"):
        model.field(2, torch_face, exact=True)


def test_bad_states_and_ids(made):
    model = pretrained.load(made("gpt2")[1])
    for states in (np.zeros((3, 5)), np.zeros((0, 12)), np.zeros((3, 12), int)):
        with pytest.raises(ValueError, match=r"text must be states \(n, 12\) of floating numbers"):
            model.attention_output(states, 0)
    with pytest.raises(ValueError, match="text must be finite states"):
        model.attention_weights(np.full((2, 12), np.nan), 0)
    for ids in ([3, 11], [-1]):
        with pytest.raises(ValueError, match=r"text must be token ids of 0 \.\.\. 10"):
            model.states(ids)
    with pytest.raises(ValueError, match="at least one token"):
        model.states(np.zeros(0, int))
    with pytest.raises(ValueError, match="17 tokens, but the model has 16 positions"):
        model.states([1] * 17)
    with pytest.raises(TypeError, match="text must be a string, got list"):
        model.states([0.5, 1.0])
    states = model.states(IDS)
    with pytest.raises(TypeError, match=r"got ndarray of shape \(3, 7, 12\); the input of a layer \(n, d\), one entry"):
        model.on_sphere(states, 1)  # all of them
    with pytest.raises(TypeError, match=r"of shape \(7, 12\); .* is taken by attention_weights"):
        model.exact_on_sphere(states[1], 1)
    traced = torch.tensor(states[1], requires_grad=True)
    np.testing.assert_array_equal(model.attention_output(traced, 1), model.attention_output(IDS, 1))


def test_what_is_printed_is_short(made):
    model = pretrained.load(made("gpt2")[1])
    assert repr(model).startswith("Pretrained(gpt2, 2 layers of 3 heads, d=12, '")
    assert repr(model.heads(0)) == "Heads(heads=3, m=4, d=12, beta=0.5, mask='causal')"
    assert repr(model.on_sphere(IDS, 1)).startswith("SphereHeads(layer 1: n=7, heads=3, m=4, d=12, beta=")
    assert repr(model.exact_on_sphere(IDS, 1)).startswith("ExactSphereHeads(layer 1: n=7, heads=3, m=4, d=12, beta=6, ")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert", {"model_type": "t5"}, "'t5' is not supported; .* xlm-roberta. pretrained.states_through_transformers"),
        ("gpt2", {"n_head": 5}, "n_embd 12 is not a multiple of n_head 5"),
        ("gpt2", {"activation_function": "mish"}, "activation_function 'mish' is not supported; supported: gelu,"),
        ("gpt2", {"scale_attn_weights": "yes"}, "scale_attn_weights must be true or false, got 'yes'"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention True is not supported"),
        ("gpt2", {"n_inner": 24}, r"h\.0\.mlp\.c_fc\.weight must have shape \(12, 24\), got \(12, 20\)"),
        ("gpt2", {"n_layer": 3}, r"tensor h\.2\.attn\.c_attn\.weight and 11 more missing"),
        ("albert", {"embedding_size": 6}, r"word_embeddings\.weight must have shape \(11, 6\), got \(11, 8\)"),
        ("albert", {"num_hidden_groups": 5}, "num_hidden_groups 5 is more than num_hidden_layers 4"),
        ("albert", {"num_hidden_groups": 2}, r"albert_layer_groups\.1\.albert_layers\.0\.attention\.query\.weight"),
    ],
)
def test_config_is_wrong(made, tmp_path, name, changes, message):
    folder = made(name)[1]
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


def test_what_transformers_cannot_do(made, tmp_path):
    folder = made("bert")[1]
    with pytest.raises(pretrained.WeightsNotFound, match="only local folders"):
        pretrained.states_through_transformers("bert-base-uncased", IDS)
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'float16'"):
        pretrained.states_through_transformers(folder, IDS, dtype="float16")
    with pytest.raises(ValueError, match="transformers failed"):
        pretrained.states_through_transformers(tmp_path, IDS)
    # It makes up an empty tokenizer where there is none: [CLS] [UNK] [SEP] for any sentence, in GPT-2 nothing at all.
    for name in ("bert", "gpt2"):
        with pytest.raises(ValueError, match="the tokenizer knows no token of 'tokens move'"):
            pretrained.states_through_transformers(made(name)[1], "tokens move")


@pytest.mark.parametrize("name", ["transformers", "torch"])
def test_reader_is_absent(made, monkeypatch, name):
    folder = made("bert")[1]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"this needs {name}; run: pip install"):
        pretrained.states_through_transformers(folder, IDS)


def test_layers_of_transformers_wrapped(made):
    """As docs/pretrained.md says: a post-norm layer on the sphere, a pre-norm block in flat space with its causal mask."""
    import ctsa.torch

    def opened(name):
        folder = made(name)[1]
        options = dict(attn_implementation="eager", dtype=torch.float64)
        return pretrained.load(folder), transformers.AutoModel.from_pretrained(folder, **options).eval()

    n, wrap = len(IDS), ctsa.torch.WrappedLayer
    ours, theirs = opened("bert")
    plain = ours.on_sphere(IDS, 1)
    layer = wrap(theirs.encoder.layer[1], scale=plain.norms.mean(), batched=True)
    after = _step(ours._network, 1, State(layer.scale * plain.x, None)).z  # the same layer in NumPy
    with torch.no_grad():
        moved = layer(torch.tensor(plain.x)).numpy()
    np.testing.assert_allclose(moved, after / np.linalg.norm(after, axis=-1, keepdims=True), rtol=0, atol=1e-12)

    ours, theirs = opened("gpt2")
    states = ours.states(IDS)
    mask = torch.full((n, n), -torch.inf, dtype=torch.float64).triu(1)
    block = wrap(lambda y: theirs.h[0](y, attention_mask=mask), geometry=ctsa.Euclidean(), batched=True)
    with torch.no_grad():
        np.testing.assert_allclose(block(torch.tensor(states[0])).numpy(), states[1], rtol=0, atol=1e-12)
        later = np.asarray(ctsa.jacobian(block, states[0]))[: ours.d, ours.d :]
    assert (later == 0).all()  # token 0 does not see the others


def test_code_in_a_folder_is_not_run(made, tmp_path):
    """A folder that names a class of its own is read without it."""
    folder = made("bert")[1]
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "own.Own", "AutoConfig": "own.OwnConfig"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    ours = pretrained.load(tmp_path).states(IDS)
    theirs = pretrained.states_through_transformers(tmp_path, IDS, dtype="float64")
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12)
    assert not (tmp_path / "ran").exists()
