"""What the architectures call their tensors and settings, read into one ``Network``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ._families import read_distilbert, read_llama, read_modernbert
from ._files import Config
from ._tensors import Contents, Tensors, width_of
from ._transformer import ACTIVATIONS, Block, Embedding, Linear, Network


def read_model(folder: Path) -> Contents:
    """Read configuration and weights of a folder that has them.

    Raises:
        ImportError: a reader is missing.
        ValueError: a file cannot be read, the architecture is not supported, or a tensor is missing or has
            another shape than the configuration says.
    """
    config = Config(folder)
    try:
        kind = config.choice("model_type", _READERS)
    except ValueError as error:
        raise ValueError(
            f"{error}. pretrained.states_through_transformers(folder, text) has the states of other architectures, and "
            "ctsa.read_projections makes attention of their weights"
        ) from None
    return _READERS[kind](folder, config)


# ------------------------------------------------------------------------------------------------- BERT and ALBERT
_BERT_PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "output_norm": "output.LayerNorm",
}
_ALBERT_PARTS = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "output": "attention.dense",
    "up": "ffn",
    "down": "ffn_output",
    "attention_norm": "attention.LayerNorm",
    "output_norm": "full_layer_layer_norm",
}


def _encoder(folder: Path, config: Config, family: str) -> Contents:
    albert, roberta = family == "albert", family == "roberta"
    activation = config.choice("hidden_act", ACTIVATIONS, "gelu_new" if albert else "gelu")
    config.require("position_embedding_type", "absolute")
    config.require("is_decoder", False)
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    layers, heads, d, mlp = (config.count(key) for key in names)
    rows, words = config.count("max_position_embeddings"), config.count("vocab_size")
    first = config.first("pad_token_id", 1) + 1 if roberta else 0  # RoBERTa counts positions from there
    if first >= rows:
        raise ValueError(f"{config.path}: pad_token_id {first - 1} leaves no positions of {rows}")
    segments = config.count("type_vocab_size", default=2)
    width = width_of(config, d, heads, ("hidden_size", "num_attention_heads"))
    eps = config.size("layer_norm_eps", 1e-12)
    e, parts, names_of_layers = d, _BERT_PARTS, [f"encoder.layer.{i}." for i in range(layers)]
    if albert:
        e, parts, names_of_layers = config.count("embedding_size", default=128), _ALBERT_PARTS, _shared(config, layers)

    t = Tensors()
    for table, count in (("word", words), ("position", rows), ("token_type", segments)):
        t.want(f"embeddings.{table}_embeddings.weight", count, e)
    t.want_norm("embeddings.LayerNorm", e)
    if albert:
        t.want_linear("encoder.embedding_hidden_mapping_in", d, e)
    for at in names_of_layers:
        for part in ("query", "key", "value", "output"):
            t.want_linear(at + parts[part], d, d)
        t.want_linear(at + parts["up"], mlp, d)
        t.want_linear(at + parts["down"], d, mlp)
        for part in ("attention_norm", "output_norm"):
            t.want_norm(at + parts[part], d)
    t.read(folder, f"{family}.")

    def block(at: str) -> Block:
        query, key, value, output = (t.linear(at + parts[p]) for p in ("query", "key", "value", "output"))
        up, down = (t.linear(at + parts[p]) for p in ("up", "down"))
        first, second = (t.norm(at + parts[p], eps) for p in ("attention_norm", "output_norm"))
        return Block(query, key, value, output, first, up, down, second, activation, 1.0 / math.sqrt(width))

    made = {at: block(at) for at in dict.fromkeys(names_of_layers)}  # shared layers are one object
    embedding = Embedding(
        words=t["embeddings.word_embeddings.weight"],
        positions=t["embeddings.position_embeddings.weight"],
        segment=t["embeddings.token_type_embeddings.weight"][0],
        norm=t.norm("embeddings.LayerNorm", eps),
        lift=t.linear("encoder.embedding_hidden_mapping_in") if albert else None,
        first=first,
    )
    blocks = tuple(made[at] for at in names_of_layers)
    network = Network(embedding, blocks, heads, causal=False, pre_norm=False, last_norm=None)
    kind = str(config.entries["model_type"])
    return Contents(kind, len(blocks), heads, d, width, mlp, eps, rows - first, network)


def _shared(config: Config, layers: int) -> list[str]:
    """The names of ALBERT's layers in the order in which they are applied: few names, many layers."""
    groups, inner = config.count("num_hidden_groups", default=1), config.count("inner_group_num", default=1)
    if groups > layers:
        raise ValueError(f"{config.path}: num_hidden_groups {groups} is more than num_hidden_layers {layers}")
    order = [int(i / (layers / groups)) for i in range(layers)]
    return [f"encoder.albert_layer_groups.{g}.albert_layers.{j}." for g in order for j in range(inner)]


def _read_bert(folder: Path, config: Config) -> Contents:
    return _encoder(folder, config, "bert")


def _read_albert(folder: Path, config: Config) -> Contents:
    return _encoder(folder, config, "albert")


def _read_roberta(folder: Path, config: Config) -> Contents:
    return _encoder(folder, config, "roberta")


# ----------------------------------------------------------------------------------------------------------- GPT-2
def _read_gpt2(folder: Path, config: Config) -> Contents:
    activation = config.choice("activation_function", ACTIVATIONS, "gelu_new")
    config.require("add_cross_attention", False)
    layers, heads, d, words = (config.count(key) for key in ("n_layer", "n_head", "n_embd", "vocab_size"))
    positions, mlp = config.count("n_positions"), config.count("n_inner", default=4 * d)
    width = width_of(config, d, heads, ("n_embd", "n_head"))
    eps = config.size("layer_norm_epsilon", 1e-5)
    scale = 1.0 / math.sqrt(width) if config.flag("scale_attn_weights", True) else 1.0
    by_layer = config.flag("scale_attn_by_inverse_layer_idx", False)

    t = Tensors()
    t.want("wte.weight", words, d)
    t.want("wpe.weight", positions, d)
    t.want_norm("ln_f", d)
    for i in range(layers):
        sizes = (("attn.c_attn", 3 * d, d), ("attn.c_proj", d, d), ("mlp.c_fc", mlp, d), ("mlp.c_proj", d, mlp))
        for name, out, into in sizes:
            t.want_linear(f"h.{i}.{name}", out, into, transposed=True)
        for name in ("ln_1", "ln_2"):
            t.want_norm(f"h.{i}.{name}", d)
    t.read(folder, "transformer.")

    def block(i: int) -> Block:
        fused = t.linear(f"h.{i}.attn.c_attn", transposed=True)
        query, key, value = (Linear(fused.weight[j : j + d], fused.bias[j : j + d]) for j in (0, d, 2 * d))
        output, up, down = (t.linear(f"h.{i}.{p}", transposed=True) for p in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"))
        first, second = (t.norm(f"h.{i}.{p}", eps) for p in ("ln_1", "ln_2"))
        own = scale / (i + 1) if by_layer else scale
        return Block(query, key, value, output, first, up, down, second, activation, own)

    blocks = tuple(block(i) for i in range(layers))
    embedding = Embedding(t["wte.weight"], t["wpe.weight"], segment=None, norm=None, lift=None)
    network = Network(embedding, blocks, heads, causal=True, pre_norm=True, last_norm=t.norm("ln_f", eps))
    return Contents("gpt2", layers, heads, d, width, mlp, eps, positions, network)


_READERS: dict[str, Callable[[Path, Config], Contents]] = {
    "albert": _read_albert,
    "bert": _read_bert,
    "camembert": _read_roberta,
    "distilbert": read_distilbert,
    "gpt2": _read_gpt2,
    "llama": read_llama,
    "mistral": read_llama,
    "modernbert": read_modernbert,
    "qwen2": read_llama,
    "qwen3": read_llama,
    "roberta": _read_roberta,
    "xlm-roberta": _read_roberta,
}
