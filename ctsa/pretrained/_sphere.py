"""From heads to the two forms on the sphere: what does not depend on a text."""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np

from ._transformer import Network, Norm
from .heads import Heads


def choose(head: Any, count: int, name: str = "head") -> Any:
    """Return what indexes the axis of heads: an int drops it, a list or a slice keeps it."""
    if head is None:
        return slice(None)
    many = isinstance(head, (list, tuple, range, np.ndarray))
    wanted = list(head) if many else [head]
    for h in wanted:
        if isinstance(h, (bool, np.bool_)) or not hasattr(h, "__index__"):
            raise TypeError(f"{name} must be an integer, got {h!r}")
        if not 0 <= index(h) < count:
            raise ValueError(f"{name} must be one of 0 ... {count - 1}, got {h}")
    if not wanted:
        raise ValueError(f"{name} must be at least one, got an empty list")
    return [index(h) for h in wanted] if many else index(wanted[0])


def norm_before(network: Network, layer: int) -> Norm:
    """Return the LayerNorm whose output the attention of a layer reads.

    Raises:
        ValueError: there is none.
    """
    if network.pre_norm:
        own = network.blocks[layer].attention_norm
        if own is not None:
            return own
        if layer == 0 and network.embedding.norm is not None:  # which the first layer of ModernBERT reads
            return network.embedding.norm
        raise ValueError("layer: attention of this layer does not read the output of a norm")
    if layer:
        return network.blocks[layer - 1].output_norm
    if network.embedding.norm is None or network.embedding.lift is not None:
        raise ValueError(
            "layer: layer 0 of this model has no exact form, since its attention does not read a LayerNorm output; "
            "take a later layer (ALBERT's share their weights), or the plain form"
        )
    return network.embedding.norm


def mean_square(network: Network, layer: int) -> float:
    """Return the mean of |y|^2 over tokens that are spread evenly before gain and bias.

    For ``y = sqrt(d) G x + b``, x uniform among the unit vectors orthogonal to 1, it is |g|^2 + |b|^2.
    """
    lift, first = network.embedding.lift, network.embedding.norm
    if layer or lift is None or first is None:
        norm = norm_before(network, layer)
        return float((norm.gain**2).sum() + (norm.bias**2).sum())
    e, weight = len(first.gain), lift.weight * first.gain  # y = sqrt(e) W G x + W b + c, x in R^e
    spread = ((weight**2).sum() - (weight.sum(1) ** 2).sum() / e) * e / (e - 1)
    return float(spread + (lift(first.bias) ** 2).sum())


def plain_arguments(heads: Heads, square: float, chosen: Any) -> dict[str, Any]:
    """Return what ``SelfAttention`` takes in the plain form."""
    value = heads.value_out[chosen] @ heads.value_in[chosen]
    beta = square * heads.beta
    return dict(query=heads.query[chosen], key=heads.key[chosen], value=value, beta=beta, mask=heads.mask)


def exact_parts(heads: Heads, norm: Norm) -> dict[str, Any]:
    """Return the parts of the exact form, as ``ExactSphereHeads`` names them."""
    d = len(norm.gain)
    key, value = heads.key * norm.gain, heads.value
    at_bias = heads.query @ norm.bias + heads.query_bias  # (heads, m)
    head_drift = value @ norm.bias + heads.value_bias
    return dict(
        query=heads.query * norm.gain,
        key=key,
        value=value * (math.sqrt(d) * norm.gain),
        beta=d * heads.beta,
        key_field=np.einsum("hmd,hm->hd", key, at_bias) / math.sqrt(d),
        drift=head_drift.sum(0) + heads.output_bias,
        mask=heads.mask,
        head_drift=head_drift,
    )


def exact_arguments(heads: Heads, norm: Norm, chosen: Any) -> tuple[dict[str, Any], Any]:
    """Return what ``SelfAttention`` and ``Injection`` take in the exact form, centred as the next LayerNorm does."""
    parts = exact_parts(heads, norm)
    value = parts["value"][chosen]
    every = isinstance(chosen, slice)
    drift = parts["drift"] if every else parts["head_drift"][chosen].reshape(-1, value.shape[-1]).sum(0)
    attention = dict(
        query=parts["query"][chosen],
        key=parts["key"][chosen],
        value=value - value.mean(-2, keepdims=True),
        beta=parts["beta"],
        mask=parts["mask"],
        key_field=parts["key_field"][chosen],
    )
    return attention, drift - drift.mean()
