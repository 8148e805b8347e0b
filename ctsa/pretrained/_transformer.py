"""The forward pass of a transformer in NumPy alone, post-norm or pre-norm, from token ids to hidden states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]


class Linear(NamedTuple):
    """An affine map: ``x @ weight.T + bias``, in float64 whatever the type of the file."""

    weight: NDArray[Any]
    bias: NDArray[Any]

    def __call__(self, x: Array) -> Array:
        return x @ self.weight.T + self.bias


class Normed(NamedTuple):
    """A LayerNorm output, and what it was made from."""

    y: Array  # (n, d), g * centred / sqrt(variance + eps) + b
    centred: Array  # (n, d)
    variance: Array  # (n, 1)


class Norm(NamedTuple):
    """LayerNorm."""

    gain: Array
    bias: Array
    eps: float

    def __call__(self, z: Array) -> Normed:
        centred = z - z.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return Normed(self.gain * centred / np.sqrt(variance + self.eps) + self.bias, centred, variance)


class Block(NamedTuple):
    """One layer, whatever the names in the file were."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm  # post-norm: after attention; pre-norm: before it
    up: Linear
    down: Linear
    output_norm: Norm  # post-norm: after the MLP; pre-norm: before it
    activation: str
    scale: float  # what multiplies <query, key>


class Embedding(NamedTuple):
    """The tables that make the first state of a text, and what follows them."""

    words: NDArray[Any]  # (vocabulary, e), in the type of the file: rows are widened when they are looked up
    positions: NDArray[Any]
    segment: NDArray[Any] | None  # (e,)
    norm: Norm | None
    lift: Linear | None  # from e to d dimensions, after the norm (ALBERT)


class Network(NamedTuple):
    """Everything that the forward pass needs."""

    embedding: Embedding
    blocks: tuple[Block, ...]
    heads: int
    causal: bool
    pre_norm: bool
    last_norm: Norm | None  # after the last layer of a pre-norm model


class State(NamedTuple):
    """The input of a layer, and the LayerNorm output it is, where it is one."""

    z: Array  # (n, d)
    normed: Normed | None


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
}


def softmax(scores: Array) -> Array:
    """Return the softmax over the last axis; -inf counts as masked."""
    weights: Array = np.exp(scores - scores.max(-1, keepdims=True))
    total: Array = weights.sum(-1, keepdims=True)
    return weights / total


def _split(x: Array, heads: int) -> Array:
    """``(n, heads * m)`` to ``(heads, n, m)``."""
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def attend(network: Network, layer: int, y: Array) -> tuple[Array, Array]:
    """Return attention probabilities (heads, n, n) and output (n, d) of a layer whose attention reads y (n, d)."""
    block = network.blocks[layer]
    q, k, v = (_split(project(y), network.heads) for project in (block.query, block.key, block.value))
    scores = block.scale * q @ k.swapaxes(1, 2)
    if network.causal:
        scores = np.where(np.tri(len(y), dtype=bool), scores, -np.inf)
    weights = softmax(scores)
    mixed = (weights @ v).swapaxes(0, 1).reshape(y.shape)
    return weights, block.output(mixed)


def reading(network: Network, layer: int, state: State) -> State:
    """Return what the attention of a layer reads: its input, or in a pre-norm model the LayerNorm of it."""
    if not network.pre_norm:
        return state
    normed = network.blocks[layer].attention_norm(state.z)
    return State(normed.y, normed)


def _step(network: Network, layer: int, state: State) -> State:
    block = network.blocks[layer]
    _, output = attend(network, layer, reading(network, layer, state).z)

    def perceptron(x: Array) -> Array:
        return block.down(ACTIVATIONS[block.activation](block.up(x)))

    middle = state.z + output
    if network.pre_norm:
        return State(middle + perceptron(block.output_norm(middle).y), None)
    middle = block.attention_norm(middle).y
    normed = block.output_norm(middle + perceptron(middle))
    return State(normed.y, normed)


def forward(network: Network, ids: list[int], layers: int) -> Iterator[State]:
    """Yield the input of each of the first ``layers`` layers, then the output of the last of them."""
    embedding = network.embedding
    z = embedding.words[ids].astype(np.float64) + embedding.positions[: len(ids)]
    if embedding.segment is not None:
        z = z + embedding.segment
    state = State(z, None)
    if embedding.norm is not None:
        normed = embedding.norm(z)
        state = State(normed.y, normed)
    if embedding.lift is not None:
        state = State(embedding.lift(state.z), None)
    yield state
    for layer in range(layers):
        state = _step(network, layer, state)
        yield state
