"""What is taken out of a layer: its heads as they are, and in two forms on the sphere."""

from __future__ import annotations

from dataclasses import dataclass

from ._transformer import Array


def _sizes(held: Heads | SphereHeads | ExactSphereHeads) -> str:
    heads, m, d = held.query.shape
    causal = f", mask={held.mask!r}" if held.mask else ""
    return f"heads={heads}, m={m}, d={d}, beta={held.beta:.4g}{causal}"


@dataclass(frozen=True, eq=False, repr=False)
class Heads:
    r"""Hold the attention heads of one layer, in the convention of :class:`SelfAttention`.

    With :math:`s_{ij} = \beta \langle Q_h y_i + q_h, K_h y_j + k_h \rangle` and
    :math:`a^h_{ij} = \mathrm{softmax}_j\, s_{ij}`, the layer's attention block puts out
    :math:`\sum_h \sum_j a^h_{ij} (V_h y_j + v_h) + o`, where ``y`` is what it reads: the layer's input, or in a
    pre-norm model (GPT-2) the LayerNorm of it.

    Attributes:
        query: :math:`Q_h`, ``(heads, m, d)``.
        key: :math:`K_h`, ``(heads, m, d)``.
        value_in: :math:`W_V[s_h]`, ``(heads, m, d)``.
        value_out: :math:`W_O[:, s_h]`, ``(heads, d, m)``.
        beta: :math:`1/\sqrt{m}`; in GPT-2 what its settings ``scale_attn_weights`` and
            ``scale_attn_by_inverse_layer_idx`` make of it.
        query_bias: :math:`q_h`, ``(heads, m)``.
        key_bias: :math:`k_h`, ``(heads, m)``.
        value_bias: :math:`v_h = W_O[:, s_h] b_V[s_h]`, ``(heads, d)``.
        output_bias: :math:`o`, ``(d,)``.
        mask: "causal" where token i sees the tokens j <= i only, else None.
        inner_bias: :math:`b_V[s_h]`, ``(heads, m)``; None where it is not known.
        frequencies: of rotary embeddings, ``(m / 2,)``: queries and keys of token i turn by i times these, in the planes
            of components k and k + m / 2. None where positions are part of the tokens.
    """

    query: Array
    key: Array
    value_in: Array
    value_out: Array
    beta: float
    query_bias: Array
    key_bias: Array
    value_bias: Array
    output_bias: Array
    mask: str | None
    inner_bias: Array | None = None
    frequencies: Array | None = None

    def __repr__(self) -> str:
        return f"Heads({_sizes(self)})"

    @property
    def value(self) -> Array:
        r""":math:`V_h = W_O[:, s_h] W_V[s_h]`, ``(heads, d, d)``, of rank at most ``m``; made anew on every call."""
        return self.value_out @ self.value_in


@dataclass(frozen=True, eq=False, repr=False)
class SphereHeads:
    r"""Hold one layer in the plain form: its tokens on the sphere and its matrices, no biases.

    Attributes:
        x: unit tokens :math:`x_i = y_i / |y_i|`, ``(n, d)``.
        query: ``(heads, m, d)``.
        key: ``(heads, m, d)``.
        value: ``(heads, d, d)``.
        beta: :math:`\operatorname{mean}_i |y_i|^2 / \sqrt{m}`, one number for all heads.
        norms: the lengths :math:`|y_i|` that were divided out, ``(n,)``.
        tokens: the ``n`` tokens as strings.
        layer: index of the layer.
        mask: "causal" or None, as ``SelfAttention`` takes it.
    """

    x: Array
    query: Array
    key: Array
    value: Array
    beta: float
    norms: Array
    tokens: tuple[str, ...]
    layer: int
    mask: str | None

    def __repr__(self) -> str:
        return f"SphereHeads(layer {self.layer}: n={len(self.x)}, {_sizes(self)})"


@dataclass(frozen=True, eq=False, repr=False)
class ExactSphereHeads:
    r"""Hold one layer in the exact form: attention of unit tokens that equals the model's own.

    With :math:`s_{ij} = \beta (\langle Q_h x_i, K_h x_j \rangle + \langle r_h, x_j \rangle)` the model's
    attention probabilities are :math:`a^h_{ij} = \mathrm{softmax}_j\, s_{ij}`, and its attention block puts
    out :math:`\sum_h \sum_j a^h_{ij} V_h x_j + c`.

    Attributes:
        x: unit tokens, each orthogonal to the all-ones vector, ``(n, d)``.
        query: :math:`Q_h = W_Q G`, ``(heads, m, d)``.
        key: :math:`K_h = W_K G`, ``(heads, m, d)``.
        value: :math:`\sqrt{d}\, W_O W_V G`, ``(heads, d, d)``.
        beta: :math:`d / \sqrt{m}`, one number for all heads.
        key_field: :math:`r_h`, ``(heads, d)``.
        drift: :math:`c`, ``(d,)``, the same for every token.
        shrink: :math:`s_i`, ``(n,)``, at most one; see :meth:`Pretrained.exact_on_sphere`.
        gain: :math:`g`, ``(d,)``, the gain of the LayerNorm before attention.
        bias: :math:`b`, ``(d,)``, its bias.
        tokens: the ``n`` tokens as strings.
        layer: index of the layer.
        mask: "causal" or None, as ``SelfAttention`` takes it.
        head_drift: the heads' own parts of the drift, ``(heads, d)``; the rest is the output bias.
    """

    x: Array
    query: Array
    key: Array
    value: Array
    beta: float
    key_field: Array
    drift: Array
    shrink: Array
    gain: Array
    bias: Array
    tokens: tuple[str, ...]
    layer: int
    mask: str | None
    head_drift: Array

    def __repr__(self) -> str:
        return f"ExactSphereHeads(layer {self.layer}: n={len(self.x)}, {_sizes(self)})"
