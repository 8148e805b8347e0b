"""Fields of models whose queries and keys turn with the position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ctsa.attention import Positions

from ._transformer import Network, seen, turns
from .heads import Heads


def rotary_arguments(
    network: Network, layer: int, heads: Heads, chosen: Any, n: int, square: float | None, norm: Any
) -> dict[str, Any]:
    """Return what ``MultiHeadAttention`` takes for ``n`` tokens.

    In the plain form (``square``, the mean square of the tokens' lengths) without biases; in the exact form the tokens that
    attention reads are ``y = sqrt(d) g x + b``, with gain and bias of the norm before it.

    Raises:
        ValueError: queries and keys are normalised before they are compared (Qwen 3), which is no bilinear form.
    """
    block = network.blocks[layer]
    if block.query_norm is not None:
        raise ValueError(
            "layer: this model normalises queries and keys, so that scores are no bilinear form of the tokens: no field "
            "has them. pretrained.loop takes the layer as it is"
        )
    turn = turns(block, n)
    sees = seen(block, network.causal, n)
    every = isinstance(chosen, slice)
    arguments: dict[str, Any] = dict(
        query=heads.query[chosen], key=heads.key[chosen], value=heads.value_in[chosen], output=heads.value_out[chosen],
        positions=Positions(turn, turn, layout="halves"), mask=None if sees is None else sees.astype(float),
    )  # fmt: skip
    if square is not None:
        return arguments | dict(beta=square * heads.beta)
    d = len(norm.gain)
    gain = math.sqrt(d) * norm.gain
    biases = {
        "query_bias": heads.query @ norm.bias + heads.query_bias, "key_bias": heads.key @ norm.bias + heads.key_bias,
        "value_bias": heads.value_in @ norm.bias + np.asarray(heads.inner_bias),
    }  # fmt: skip
    arguments |= {name: arguments[name] * gain for name in ("query", "key", "value")}
    arguments |= {name: b[chosen] for name, b in biases.items()}
    output, bias = arguments["output"], heads.output_bias if every else np.zeros(d)
    if norm.centres:  # as the next LayerNorm does
        output, bias = output - output.mean(-2, keepdims=True), bias - bias.mean()
    return arguments | dict(output=output, output_bias=bias, beta=heads.beta)
