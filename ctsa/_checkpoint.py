"""Read a transformer encoder from a folder: its configuration, its tensors, its tokenizer.

``safetensors`` and ``tokenizers`` are imported when a folder is read.
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._transformer import Array, Block, Embedding, Linear, Norm

FILES = ("config.json", "model.safetensors", "tokenizer.json")
INSTALL_READERS = "pip install 'ctsa[pretrained]'"


class Checkpoint(NamedTuple):
    """What a folder holds, in the order of the attributes of ``ctsa.pretrained.Pretrained``."""

    layers: int
    head_count: int
    d: int
    width: int
    mlp: int
    eps: float
    positions: int
    embedding: Embedding
    blocks: tuple[Block, ...]
    tokenizer: Any


def read(folder: Path) -> Checkpoint:
    """Read the three files of a folder, which are there.

    Raises:
        ImportError: ``safetensors`` or ``tokenizers`` is missing.
        ValueError: a file cannot be read, the architecture is not supported, or a tensor is missing or has
            another shape than the configuration says.
    """
    config = _read_config(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _READERS:
        supported = ", ".join(sorted(_READERS))
        raise ValueError(f"{folder / 'config.json'}: model_type {kind!r} is not supported; supported: {supported}")
    return _READERS[kind](folder, config)


def _reader(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"reading a model needs {name.split('.')[0]}; run: {INSTALL_READERS}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: a JSON object was wanted, but {type(config).__name__} came")
    return config


def _read_bert(folder: Path, config: dict[str, Any]) -> Checkpoint:
    path = folder / "config.json"
    _require(path, config, "hidden_act", "gelu")
    _require(path, config, "position_embedding_type", "absolute")
    _require(path, config, "is_decoder", False)
    layers, heads, d, mlp, positions, words = (
        _count(path, config, key)
        for key in (
            "num_hidden_layers",
            "num_attention_heads",
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "vocab_size",
        )
    )
    segments = _count(path, config, "type_vocab_size", default=2)
    if d % heads:
        raise ValueError(f"{path}: hidden_size {d} is not a multiple of num_attention_heads {heads}")
    eps = config.get("layer_norm_eps", 1e-12)
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 <= eps < math.inf:
        raise ValueError(f"{path}: layer_norm_eps: a number >= 0 was wanted, but {eps!r} came")

    linear = {
        "attention.self.query": (d, d),
        "attention.self.key": (d, d),
        "attention.self.value": (d, d),
        "attention.output.dense": (d, d),
        "intermediate.dense": (mlp, d),
        "output.dense": (d, mlp),
    }
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (words, d),
        "embeddings.position_embeddings.weight": (positions, d),
        "embeddings.token_type_embeddings.weight": (segments, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for i in range(layers):
        for name, shape in linear.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
        for name in norms:
            shapes[f"encoder.layer.{i}.{name}.weight"] = shapes[f"encoder.layer.{i}.{name}.bias"] = (d,)
    tensors = _read_tensors(folder / "model.safetensors", shapes, prefix="bert.")

    def wide(name: str) -> Array:
        return tensors[name].astype(np.float64)

    def norm(name: str) -> Norm:
        return Norm(wide(f"{name}.weight"), wide(f"{name}.bias"), float(eps))

    def block(i: int) -> Block:
        at = f"encoder.layer.{i}."
        query, key, value, output, up, down = (
            Linear(wide(f"{at}{name}.weight"), wide(f"{at}{name}.bias")) for name in linear
        )
        first, last = (norm(at + name) for name in norms)
        return Block(query, key, value, output, first, up, down, last)

    return Checkpoint(
        layers=layers,
        head_count=heads,
        d=d,
        width=d // heads,
        mlp=mlp,
        eps=float(eps),
        positions=positions,
        embedding=Embedding(
            words=tensors["embeddings.word_embeddings.weight"],
            positions=wide("embeddings.position_embeddings.weight"),
            segment=wide("embeddings.token_type_embeddings.weight")[0],
            norm=norm("embeddings.LayerNorm"),
        ),
        blocks=tuple(block(i) for i in range(layers)),
        tokenizer=_read_tokenizer(folder / "tokenizer.json"),
    )


_READERS = {"bert": _read_bert}


def _require(path: Path, config: dict[str, Any], key: str, wanted: object) -> None:
    if config.get(key, wanted) != wanted:
        raise ValueError(f"{path}: {key} {config[key]!r} is not supported; supported: {wanted!r}")


def _count(path: Path, config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        came = repr(value) if key in config else "nothing"
        raise ValueError(f"{path}: {key}: a positive integer was wanted, but {came} came")
    return value


def _plain_name(name: str, prefix: str) -> str:
    """The name in today's files: no prefix of a larger model, LayerNorm.weight for LayerNorm.gamma."""
    name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _read_tensors(path: Path, shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, NDArray[Any]]:
    safetensors = _reader("safetensors")
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            stored = {_plain_name(name, prefix): name for name in file.keys()}
            tensors = {name: file.get_tensor(stored[name]) for name in shapes if name in stored}
    except Exception as error:  # a damaged header, a truncated file, a type that NumPy lacks
        raise ValueError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    absent = [name for name in shapes if name not in tensors]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ValueError(f"{path}: tensor {absent[0]}{more} missing; is this the model of config.json beside it?")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{path}: tensor {name} of shape {shape} was wanted, but {tensors[name].shape} came")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{path}: tensor {name} holds NaN or infinite numbers")
    return tensors


def _read_tokenizer(path: Path) -> Any:
    tokenizers = _reader("tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"{path}: cannot be read ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
