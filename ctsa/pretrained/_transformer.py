"""The forward pass of a transformer, post-norm or pre-norm, from token ids to hidden states, in any framework.

NumPy for what is read off a model, in float64; torch and JAX for its layers as parts of loops. The arrays decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsa._backend import backend
from ctsa.attention.positions import rotation_blocks, turned

Array = NDArray[np.float64]


class Linear(NamedTuple):
    """An affine map: ``x @ weight.T + bias``, in float64 whatever the type of the file."""

    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        return x @ self.weight.T + self.bias


class Normed(NamedTuple):
    """The output of a norm, and what it was made from."""

    y: Any  # (n, d), g * centred / sqrt(variance + eps) + b
    centred: Any  # (n, d)
    variance: Any  # (n, 1)


class Norm(NamedTuple):
    """LayerNorm, or RMSNorm, which does not centre and has no bias."""

    gain: Any
    bias: Any
    eps: float
    centres: bool = True

    def __call__(self, z: Any) -> Normed:
        centred = z - z.mean(-1)[..., None] if self.centres else z
        variance = (centred**2).mean(-1)[..., None]
        return Normed(self.gain * centred / (variance + self.eps) ** 0.5 + self.bias, centred, variance)


class Block(NamedTuple):
    """One layer, whatever the names in the file were."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm | None  # post-norm: after attention; pre-norm: before it, None where it reads what came in
    up: Linear | None  # None: no perceptron, and no norm of its own
    down: Linear | None
    output_norm: Norm  # post-norm: after the MLP; pre-norm: before it
    activation: str
    scale: float  # what multiplies <query, key>
    gate: Linear | None = None  # of a gated MLP: down(activation(gate(x)) * up(x))
    key_heads: int | None = None  # fewer than heads where several queries share a key
    query_norm: Norm | None = None  # of every head
    key_norm: Norm | None = None
    frequencies: Any = None  # of rotary embeddings, (m / 2,)
    window: int | None = None  # how far a token sees: |i - j| < window


class Embedding(NamedTuple):
    """The tables that make the first state of a text, and what follows them."""

    words: Any  # (vocabulary, e), in the type of the file: rows are widened when they are looked up
    positions: Any  # None where attention turns with the position
    segment: Any  # (e,)
    norm: Norm | None
    lift: Linear | None  # from e to d dimensions, after the norm (ALBERT)
    first: int = 0  # row of the first position (2 in RoBERTa)


class Network(NamedTuple):
    """Everything that the forward pass needs."""

    embedding: Embedding
    blocks: tuple[Block, ...]
    heads: int
    causal: bool
    pre_norm: bool
    last_norm: Norm | None  # after the last layer of a pre-norm model


class State(NamedTuple):
    """The input of a layer, and the output of a norm that it is, where it is one."""

    z: Any  # (n, d)
    normed: Normed | None


def _gelu(be: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + be.erf(x / math.sqrt(2.0)))


def _gelu_tanh(be: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + be.xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _relu(be: Any, x: Any) -> Any:
    return be.xp.where(x > 0, x, 0 * x)


def _silu(be: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + be.xp.tanh(0.5 * x))  # x / (1 + exp(-x)), without overflow


ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
    "swish": _silu,
}


def _split(x: Any, heads: int) -> Any:
    """``(..., n, heads * m)`` to ``(..., heads, n, m)``."""
    return backend(x).xp.swapaxes(x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads), -3, -2)


def _shared(x: Any, heads: int) -> Any:
    """Give every query its key: ``(..., key_heads, n, m)`` to ``(..., heads, n, m)``."""
    own, n, m = x.shape[-3:]
    if own == heads:
        return x
    xp, lead = backend(x).xp, x.shape[:-3]
    return xp.broadcast_to(x[..., None, :, :], (*lead, own, heads // own, n, m)).reshape(*lead, heads, n, m)


def seen(block: Block, causal: bool, n: int) -> NDArray[np.bool_] | None:
    """Return which tokens each token sees; None where all of them."""
    i, j = np.arange(n)[:, None], np.arange(n)
    sees = (j <= i) if causal else np.ones((n, n), bool)
    if block.window is not None:
        sees &= np.abs(i - j) < block.window
    return None if sees.all() else sees


def turns(block: Block, n: int) -> Any:
    """Return the blocks of rotary embeddings ``(n, m / 2, 2, 2)``; None without."""
    if block.frequencies is None:
        return None
    return rotation_blocks(np.arange(n)[:, None] * np.asarray(block.frequencies))


def attend(network: Network, layer: int, y: Any) -> tuple[Any, Any]:
    """Return attention probabilities ``(..., heads, n, n)`` and output of a layer that reads y ``(..., n, d)``."""
    return attend_block(network.blocks[layer], network.heads, network.causal, y)


def attend_block(block: Block, heads: int, causal: bool, y: Any) -> tuple[Any, Any]:
    """Return attention probabilities ``(..., heads, n, n)`` and output ``(..., n, d)`` of a block."""
    be, n = backend(y), y.shape[-2]
    q, k, v = block.query(y), block.key(y), block.value(y)
    q, k, v = _split(q, heads), *(_split(z, block.key_heads or heads) for z in (k, v))
    if block.query_norm is not None and block.key_norm is not None:
        q, k = block.query_norm(q).y, block.key_norm(k).y
    turn = turns(block, n)
    if turn is not None:
        turn = be.like(turn, y)
        q, k = turned(turn, q, True), turned(turn, k, True)
    k, v = _shared(k, heads), _shared(v, heads)
    scores = block.scale * q @ be.xp.swapaxes(k, -2, -1)
    sees = seen(block, causal, n)
    if sees is not None:
        scores = scores + be.like(np.where(sees, 0.0, -np.inf), y)
    weights = be.softmax(scores, -1)
    mixed = be.xp.swapaxes(weights @ v, -3, -2)
    return weights, block.output(mixed.reshape(*mixed.shape[:-2], -1))


def reading(network: Network, layer: int, state: State) -> State:
    """Return what the attention of a layer reads: its input, or in a pre-norm model the norm of it."""
    return _reading(network.blocks[layer], network.pre_norm, state)


def _reading(block: Block, pre_norm: bool, state: State) -> State:
    if not pre_norm or block.attention_norm is None:
        return state
    normed = block.attention_norm(state.z)
    return State(normed.y, normed)


def _step(network: Network, layer: int, state: State) -> State:
    return step_block(network.blocks[layer], network.heads, network.causal, network.pre_norm, state)


def step_block(block: Block, heads: int, causal: bool, pre_norm: bool, state: State) -> State:
    """Return the next state, after one block."""
    _, output = attend_block(block, heads, causal, _reading(block, pre_norm, state).z)
    middle = state.z + output
    if pre_norm:
        return State(middle if block.up is None else middle + _perceptron(block, block.output_norm(middle).y), None)
    assert block.attention_norm is not None
    normed = block.attention_norm(middle)
    if block.up is not None:
        normed = block.output_norm(normed.y + _perceptron(block, normed.y))
    return State(normed.y, normed)


def _perceptron(block: Block, x: Any) -> Any:
    assert block.up is not None and block.down is not None
    act = ACTIVATIONS[block.activation]
    be = backend(x)
    hidden = act(be, block.up(x)) if block.gate is None else act(be, block.gate(x)) * block.up(x)
    return block.down(hidden)


def forward(network: Network, ids: list[int], layers: int) -> Iterator[State]:
    """Yield the input of each of the first ``layers`` layers, then the output of the last of them."""
    embedding = network.embedding
    z = embedding.words[ids].astype(np.float64)
    if embedding.positions is not None:
        z = z + embedding.positions[embedding.first : embedding.first + len(ids)]
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
