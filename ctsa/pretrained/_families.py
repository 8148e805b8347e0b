"""Llama, Qwen, Mistral and ModernBERT, whose attention turns with the position, and DistilBERT, as a ``Network``."""

from __future__ import annotations

import math
from pathlib import Path

from ._files import Config
from ._settings import FULL, SLIDING, frequencies, kinds, modern_frequencies, windows
from ._tensors import Contents, Tensors, width_of
from ._transformer import ACTIVATIONS, Block, Embedding, Linear, Network, Norm


def read_llama(folder: Path, config: Config) -> Contents:
    """Read Llama and its kin: rotary embeddings, shared keys, RMSNorm before, gated perceptron."""
    kind = str(config.entries["model_type"])
    activation = config.choice("hidden_act", ACTIVATIONS, "silu")
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
    layers, heads, d, mlp, words = (config.count(key) for key in names)
    key_heads = config.count("num_key_value_heads", default=heads)
    if heads % key_heads:
        raise ValueError(f"{config.path}: num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}")
    given = config.entries.get("head_dim")
    usual = ("hidden_size", "num_attention_heads")
    width = width_of(config, d, heads, usual) if given is None else config.count("head_dim")
    eps, positions = config.size("rms_norm_eps", 1e-6), config.count("max_position_embeddings")
    normed = kind == "qwen3"
    biased = kind == "qwen2" or config.flag("attention_bias", False)
    out_biased = kind != "qwen2" and biased
    mlp_biased = config.flag("mlp_bias", False)
    sees, turn = windows(config, layers), frequencies(config, width)

    t = Tensors()
    t.want("embed_tokens.weight", words, d)
    t.want("norm.weight", d)
    parts = {
        "self_attn.q_proj": (heads * width, d, biased), "self_attn.k_proj": (key_heads * width, d, biased),
        "self_attn.v_proj": (key_heads * width, d, biased), "self_attn.o_proj": (d, heads * width, out_biased),
        "mlp.gate_proj": (mlp, d, mlp_biased), "mlp.up_proj": (mlp, d, mlp_biased), "mlp.down_proj": (d, mlp, mlp_biased),
    }  # fmt: skip
    for i in range(layers):
        for name, (out, into, bias) in parts.items():
            t.want_linear(f"layers.{i}.{name}", out, into, bias=bias)
        for name in ("input_layernorm", "post_attention_layernorm"):
            t.want(f"layers.{i}.{name}.weight", d)
        for name in ("q_norm", "k_norm") if normed else ():
            t.want(f"layers.{i}.self_attn.{name}.weight", width)
    t.read(folder, "model.")

    def block(i: int) -> Block:
        at = f"layers.{i}."
        query, key, value, output, gate, up, down = (t.linear(at + name) for name in parts)
        first, second = (t.rms(at + name, eps) for name in ("input_layernorm", "post_attention_layernorm"))
        of_query, of_key = (t.rms(f"{at}self_attn.{name}", eps) if normed else None for name in ("q_norm", "k_norm"))
        return Block(
            query, key, value, output, first, up, down, second, activation, 1.0 / math.sqrt(width), gate, key_heads,
            of_query, of_key, turn, sees[i],
        )  # fmt: skip

    blocks = tuple(block(i) for i in range(layers))
    embedding = Embedding(t["embed_tokens.weight"], None, None, None, None)
    network = Network(embedding, blocks, heads, causal=True, pre_norm=True, last_norm=t.rms("norm", eps))
    return Contents(kind, layers, heads, d, width, mlp, eps, positions, network)


def read_modernbert(folder: Path, config: Config) -> Contents:
    """Read ModernBERT: an encoder with rotary embeddings, two kinds of layers, a gated perceptron, LayerNorm before."""
    activation = config.choice("hidden_activation", ACTIVATIONS, "gelu")
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
    layers, heads, d, mlp, words = (config.count(key) for key in names)
    width = width_of(config, d, heads, ("hidden_size", "num_attention_heads"))
    eps, positions = config.size("norm_eps", 1e-5), config.count("max_position_embeddings")
    biased, mlp_biased, norm_biased = (config.flag(key, False) for key in ("attention_bias", "mlp_bias", "norm_bias"))
    every = config.count("global_attn_every_n_layers", default=3)
    types = kinds(config, [SLIDING if i % every else FULL for i in range(layers)])
    local = config.count("local_attention", default=128) // 2 + 1
    turn = {kind: modern_frequencies(config, width, kind) for kind in set(types)}

    t = Tensors()
    t.want("embeddings.tok_embeddings.weight", words, d)
    t.want_norm("embeddings.norm", d, bias=norm_biased)
    t.want_norm("final_norm", d, bias=norm_biased)
    for i in range(layers):
        t.want_linear(f"layers.{i}.attn.Wqkv", 3 * d, d, bias=biased)
        t.want_linear(f"layers.{i}.attn.Wo", d, d, bias=biased)
        t.want_linear(f"layers.{i}.mlp.Wi", 2 * mlp, d, bias=mlp_biased)
        t.want_linear(f"layers.{i}.mlp.Wo", d, mlp, bias=mlp_biased)
        for name in ("attn_norm", "mlp_norm") if i else ("mlp_norm",):  # the first reads what the embedding's norm made
            t.want_norm(f"layers.{i}.{name}", d, bias=norm_biased)
    t.read(folder, "model.")

    def block(i: int) -> Block:
        at = f"layers.{i}."
        fused, both = t.linear(f"{at}attn.Wqkv"), t.linear(f"{at}mlp.Wi")
        query, key, value = (Linear(fused.weight[j : j + d], fused.bias[j : j + d]) for j in (0, d, 2 * d))
        gate, up = (Linear(both.weight[j : j + mlp], both.bias[j : j + mlp]) for j in (0, mlp))
        first: Norm | None = t.norm(f"{at}attn_norm", eps) if i else None
        return Block(
            query, key, value, t.linear(f"{at}attn.Wo"), first, up, t.linear(f"{at}mlp.Wo"), t.norm(f"{at}mlp_norm", eps),
            activation, 1.0 / math.sqrt(width), gate, frequencies=turn[types[i]],
            window=local if types[i] == SLIDING else None,
        )  # fmt: skip

    blocks = tuple(block(i) for i in range(layers))
    embedding = Embedding(t["embeddings.tok_embeddings.weight"], None, None, t.norm("embeddings.norm", eps), None)
    network = Network(embedding, blocks, heads, causal=False, pre_norm=True, last_norm=t.norm("final_norm", eps))
    return Contents("modernbert", layers, heads, d, width, mlp, eps, positions, network)


def read_distilbert(folder: Path, config: Config) -> Contents:
    """Read DistilBERT: BERT under other names, without segments."""
    activation = config.choice("activation", ACTIVATIONS, "gelu")
    layers, heads, d, mlp = (config.count(key) for key in ("n_layers", "n_heads", "dim", "hidden_dim"))
    words, positions = config.count("vocab_size"), config.count("max_position_embeddings")
    width, eps = width_of(config, d, heads, ("dim", "n_heads")), 1e-12

    t = Tensors()
    t.want("embeddings.word_embeddings.weight", words, d)
    t.want("embeddings.position_embeddings.weight", positions, d)
    t.want_norm("embeddings.LayerNorm", d)
    parts = {
        "attention.q_lin": (d, d), "attention.k_lin": (d, d), "attention.v_lin": (d, d), "attention.out_lin": (d, d),
        "ffn.lin1": (mlp, d), "ffn.lin2": (d, mlp),
    }  # fmt: skip
    for i in range(layers):
        for name, shape in parts.items():
            t.want_linear(f"transformer.layer.{i}.{name}", *shape)
        for name in ("sa_layer_norm", "output_layer_norm"):
            t.want_norm(f"transformer.layer.{i}.{name}", d)
    t.read(folder, "distilbert.")

    def block(i: int) -> Block:
        at = f"transformer.layer.{i}."
        query, key, value, output, up, down = (t.linear(at + name) for name in parts)
        first, second = (t.norm(at + name, eps) for name in ("sa_layer_norm", "output_layer_norm"))
        return Block(query, key, value, output, first, up, down, second, activation, 1.0 / math.sqrt(width))

    blocks = tuple(block(i) for i in range(layers))
    embedding = Embedding(
        t["embeddings.word_embeddings.weight"], t["embeddings.position_embeddings.weight"], None,
        t.norm("embeddings.LayerNorm", eps), None,
    )  # fmt: skip
    network = Network(embedding, blocks, heads, causal=False, pre_norm=False, last_norm=None)
    return Contents("distilbert", layers, heads, d, width, mlp, eps, positions, network)
