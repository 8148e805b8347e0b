"""What the architectures call their tensors and settings, read into one ``Network``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._files import Config, read_tensors
from ._transformer import ACTIVATIONS, Block, Embedding, Linear, Network, Norm

Shapes = dict[str, tuple[int, ...]]


class Checkpoint(NamedTuple):
    """What a folder holds, in the order of the attributes of ``Pretrained``."""

    kind: str
    layers: int
    head_count: int
    d: int
    width: int
    mlp: int
    eps: float
    positions: int
    network: Network


def read_model(folder: Path) -> Checkpoint:
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


class _Tensors:
    """Collects what is wanted, reads it at once, and hands it out as linear maps and norms."""

    def __init__(self) -> None:
        self.shapes: Shapes = {}
        self.tensors: dict[str, Any] = {}

    def want(self, name: str, *shape: int) -> None:
        self.shapes[name] = shape

    def want_linear(self, name: str, *shape: int, transposed: bool = False) -> None:
        """Want an affine map from ``shape[1]`` to ``shape[0]`` dimensions; transposed: stored as (in, out)."""
        self.want(f"{name}.weight", *(shape[::-1] if transposed else shape))
        self.want(f"{name}.bias", shape[0])

    def want_norm(self, name: str, d: int) -> None:
        self.want(f"{name}.weight", d)
        self.want(f"{name}.bias", d)

    def read(self, folder: Path, prefix: str) -> None:
        self.tensors = read_tensors(folder, self.shapes, prefix)

    def __getitem__(self, name: str) -> Any:
        return self.tensors[name]

    def linear(self, name: str, transposed: bool = False) -> Linear:
        weight = self.tensors[f"{name}.weight"]
        return Linear(weight.T if transposed else weight, self.tensors[f"{name}.bias"])

    def norm(self, name: str, eps: float) -> Norm:
        gain, bias = (self.tensors[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        return Norm(gain, bias, eps)


def _width(config: Config, d: int, heads: int, keys: tuple[str, str]) -> int:
    if d % heads:
        raise ValueError(f"{config.path}: {keys[0]} {d} is not a multiple of {keys[1]} {heads}")
    return d // heads


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


def _encoder(folder: Path, config: Config, albert: bool) -> Checkpoint:
    activation = config.choice("hidden_act", ACTIVATIONS, "gelu_new" if albert else "gelu")
    config.require("position_embedding_type", "absolute")
    config.require("is_decoder", False)
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    layers, heads, d, mlp = (config.count(key) for key in names)
    positions, words = config.count("max_position_embeddings"), config.count("vocab_size")
    segments = config.count("type_vocab_size", default=2)
    width = _width(config, d, heads, ("hidden_size", "num_attention_heads"))
    eps = config.size("layer_norm_eps", 1e-12)
    e, parts, names_of_layers = d, _BERT_PARTS, [f"encoder.layer.{i}." for i in range(layers)]
    if albert:
        e, parts, names_of_layers = config.count("embedding_size", default=128), _ALBERT_PARTS, _shared(config, layers)

    t = _Tensors()
    for table, rows in (("word", words), ("position", positions), ("token_type", segments)):
        t.want(f"embeddings.{table}_embeddings.weight", rows, e)
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
    t.read(folder, "albert." if albert else "bert.")

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
    )
    blocks = tuple(made[at] for at in names_of_layers)
    network = Network(embedding, blocks, heads, causal=False, pre_norm=False, last_norm=None)
    kind = "albert" if albert else "bert"
    return Checkpoint(kind, len(blocks), heads, d, width, mlp, eps, positions, network)


def _shared(config: Config, layers: int) -> list[str]:
    """The names of ALBERT's layers in the order in which they are applied: few names, many layers."""
    groups, inner = config.count("num_hidden_groups", default=1), config.count("inner_group_num", default=1)
    if groups > layers:
        raise ValueError(f"{config.path}: num_hidden_groups {groups} is more than num_hidden_layers {layers}")
    order = [int(i / (layers / groups)) for i in range(layers)]
    return [f"encoder.albert_layer_groups.{g}.albert_layers.{j}." for g in order for j in range(inner)]


def _read_bert(folder: Path, config: Config) -> Checkpoint:
    return _encoder(folder, config, albert=False)


def _read_albert(folder: Path, config: Config) -> Checkpoint:
    return _encoder(folder, config, albert=True)


# ----------------------------------------------------------------------------------------------------------- GPT-2
def _read_gpt2(folder: Path, config: Config) -> Checkpoint:
    activation = config.choice("activation_function", ACTIVATIONS, "gelu_new")
    config.require("add_cross_attention", False)
    layers, heads, d, words = (config.count(key) for key in ("n_layer", "n_head", "n_embd", "vocab_size"))
    positions, mlp = config.count("n_positions"), config.count("n_inner", default=4 * d)
    width = _width(config, d, heads, ("n_embd", "n_head"))
    eps = config.size("layer_norm_epsilon", 1e-5)
    scale = 1.0 / math.sqrt(width) if config.flag("scale_attn_weights", True) else 1.0
    by_layer = config.flag("scale_attn_by_inverse_layer_idx", False)

    t = _Tensors()
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
    return Checkpoint("gpt2", layers, heads, d, width, mlp, eps, positions, network)


_READERS: dict[str, Callable[[Path, Config], Checkpoint]] = {
    "albert": _read_albert,
    "bert": _read_bert,
    "gpt2": _read_gpt2,
}
