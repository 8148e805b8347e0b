"""The forward pass of a post-norm transformer encoder, from a text to hidden states, in NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Linear(NamedTuple):
    """An affine map: ``x @ weight.T + bias``."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        return x @ self.weight.T + self.bias


class Normed(NamedTuple):
    """A LayerNorm output, and what it was made from."""

    y: Array  # (n, d), g * centred / sqrt(variance + eps) + b
    centred: Array  # (n, d)
    variance: Array  # (n, 1)
    norm: Norm


class Norm(NamedTuple):
    """LayerNorm."""

    gain: Array
    bias: Array
    eps: float

    def __call__(self, z: Array) -> Normed:
        centred = z - z.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        y = self.gain * centred / np.sqrt(variance + self.eps) + self.bias
        return Normed(y, centred, variance, self)


class Block(NamedTuple):
    """One post-norm layer, whatever the names in the file were."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


class Embedding(NamedTuple):
    """The tables that make the first state of a text, and the LayerNorm after them."""

    words: NDArray[Any]  # (vocabulary, d), in the type of the file: rows are widened when they are looked up
    positions: Array
    segment: Array  # (d,)
    norm: Norm


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: Array) -> Array:
    erf: Array = _erf(x / math.sqrt(2.0))
    return 0.5 * x * (1.0 + erf)


def _softmax(scores: Array) -> Array:
    weights: Array = np.exp(scores - scores.max(-1, keepdims=True))
    total: Array = weights.sum(-1, keepdims=True)
    return weights / total


def _split(x: Array, heads: int) -> Array:
    """``(n, heads * m)`` to ``(heads, n, m)``."""
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def attend(block: Block, heads: int, y: Array) -> tuple[Array, Array]:
    """Return attention probabilities (heads, n, n) and output (n, d) of a layer on its input y (n, d)."""
    q, k, v = (_split(project(y), heads) for project in (block.query, block.key, block.value))
    weights = _softmax(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
    mixed = (weights @ v).swapaxes(0, 1).reshape(y.shape)
    return weights, block.output(mixed)


def forward(embedding: Embedding, blocks: tuple[Block, ...], heads: int, ids: list[int]) -> Iterator[Normed]:
    """Yield the input of each of the layers, then the output of the last."""
    z = embedding.words[ids].astype(np.float64) + embedding.positions[: len(ids)] + embedding.segment
    normed = embedding.norm(z)
    yield normed
    for block in blocks:
        _, output = attend(block, heads, normed.y)
        middle = block.attention_norm(normed.y + output).y
        normed = block.output_norm(middle + block.down(_gelu(block.up(middle))))
        yield normed


def encode(tokenizer: Any, text: str, positions: int, words: int, folder: PathLike[str]) -> tuple[list[int], list[str]]:
    """Split a text into ids and tokens, and check that a model with these tables can take them."""
    if not isinstance(text, str):
        raise TypeError(f"text: a string was wanted, but {type(text).__name__} came; pass one sentence at a time")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text: {text!r} is no valid Unicode ({error.reason})") from error
    encoding = tokenizer.encode(text)
    if all(encoding.special_tokens_mask):
        raise ValueError(f"text: at least one token was wanted, but {text!r} holds none")
    ids = encoding.ids
    if len(ids) > positions:
        raise ValueError(f"text: {len(ids)} tokens, but the model has {positions} positions; shorten it")
    if max(ids) >= words:
        raise ValueError(
            f"{folder}: tokenizer.json gives token {max(ids)}, but the model has {words} words; "
            "the two files do not belong together"
        )
    return ids, encoding.tokens
