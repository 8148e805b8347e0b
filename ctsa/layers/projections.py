"""Read the projection weights of an attention module as the arguments of ``SelfAttention``."""

from typing import Any, NamedTuple

import numpy as np

from ctsa import checks


class Projections(NamedTuple):
    """Attention read from projection weights, see ``read_projections``."""

    attention: dict[str, Any]
    drift: np.ndarray | None

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {np.shape(a) or f'{a:.4g}'}" for name, a in self.attention.items())
        return f"Projections({shapes}; {'no drift' if self.drift is None else f'drift {self.drift.shape}'})"


def read_projections(
    query: Any,
    key: Any,
    value: Any,
    output: Any,
    heads: int,
    *,
    query_bias: Any = None,
    value_bias: Any = None,
    output_bias: Any = None,
    layout: str = "contiguous",
    scale: float = 1.0,
) -> Projections:
    """Turn the projection weights of an attention module into the arguments of ``SelfAttention``.

    A head of width m reads the rows of W_Q, W_K, W_V that are its own, and writes through its own columns of W_O, so
    ``Q_h = W_Q[s_h]``, ``K_h = W_K[s_h]``, ``V_h = W_O[:, s_h] W_V[s_h]`` and beta = 1 / sqrt(m).

    Biases: that of the queries acts as a field on the keys, ``r_h = K_h^T b_Q[s_h]``; that of the keys drops out of the
    softmax; those of values and output add the constant ``W_O b_V + b_O`` to every token, because rows of attention sum
    to one.

    Args:
        query: W_Q, ``(heads * m, d)`` as in ``nn.Linear.weight``.
        key: W_K, likewise.
        value: W_V, likewise.
        output: W_O, ``(d, heads * m)``.
        heads: how many.
        query_bias: b_Q, ``(heads * m,)`` or None.
        value_bias: b_V, ``(heads * m,)`` or None.
        output_bias: b_O, ``(d,)`` or None.
        layout: how heads share the channels: "contiguous" gives head h the channels ``h m ... h m + m - 1`` (PyTorch,
            BERT, ItrSA); "interleaved" gives it ``h, h + heads, h + 2 heads, ...`` (the authors' code of AKOrN).
        scale: length l of the tokens that the module reads, sqrt(d) after a LayerNorm. In the unit tokens x = y / l the
            scores are l^2 times those of x, and biases are divided by l: the field is ``MSA(l x) / l``.

    Returns:
        ``attention``, the keyword arguments ``query``, ``key``, ``value``, ``beta`` and, with a bias, ``key_field`` of
        ``SelfAttention``; and ``drift``, the constant ``(d,)`` for an ``Injection``, or None.

    Raises:
        ValueError: shapes do not fit, or ``heads`` does not divide the width.

    Example:
        >>> import numpy as np, ctsa
        >>> w = np.random.default_rng(0).normal(size=(4, 8, 8))
        >>> read = ctsa.read_projections(*w, heads=2, layout="interleaved")
        >>> sorted(read.attention), read.attention["query"].shape
        (['beta', 'key', 'query', 'value'], (2, 4, 8))

    References:
        Miyato et al., arXiv 2410.13821 (AKOrN); Tomihari and Karakida, arXiv 2505.19458 (ItrSA).
    """
    checks.choice("layout", layout, ("contiguous", "interleaved"))
    heads, scale = checks.integer("heads", heads, low=1), checks.number("scale", scale, low=0.0, strict=True)
    named = dict(query=query, key=key, value=value, output=output)
    w = {name: _matrix(name, a, 2) for name, a in named.items()}
    width, d = w["query"].shape
    if width % heads:
        raise ValueError(f"heads={heads} does not divide the width {width} of query")
    for name, shape in (("key", (width, d)), ("value", (width, d)), ("output", (d, width))):
        if w[name].shape != shape:
            raise ValueError(f"{name} must have shape {shape} to fit query {(width, d)}, got {w[name].shape}")
    channels = np.arange(width).reshape(heads, -1) if layout == "contiguous" else np.arange(width).reshape(-1, heads).T
    parts: dict[str, Any] = dict(
        query=w["query"][channels],
        key=w["key"][channels],
        value=np.moveaxis(w["output"][:, channels], 1, 0) @ w["value"][channels],
        beta=scale**2 / np.sqrt(width // heads),
    )
    if query_bias is not None:
        bias = _vector("query_bias", query_bias, width)[channels]
        parts["key_field"] = np.einsum("hmd,hm->hd", parts["key"], bias) / scale
    drift = None
    if value_bias is not None:
        drift = w["output"] @ _vector("value_bias", value_bias, width)
    if output_bias is not None:
        b = _vector("output_bias", output_bias, d)
        drift = b if drift is None else drift + b
    return Projections(parts, None if drift is None else drift / scale)


def _matrix(name: str, value: Any, rank: int) -> np.ndarray:
    a = checks.parameter(name, value, rank)
    if a is None:
        raise TypeError(f"{name} must be an array, got None")
    values = checks.concrete(a)
    if values is None:
        raise TypeError(f"{name} must be known, got a traced array")
    return np.asarray(values, dtype=float)


def _vector(name: str, value: Any, size: int) -> np.ndarray:
    a = _matrix(name, value, 1)
    if a.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {a.shape}")
    return a
