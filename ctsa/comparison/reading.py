"""Read a transformer block of others: its attention and perceptron as a field, itself as a layer, and what is left."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, autodiff
from ctsa._types import States
from ctsa.geometry import Sphere, random_tokens
from ctsa.results.base import Result, as_numpy
from ctsa.results.text import lines

from .fitting import EffectiveStep, effective_step

Array = Any


@dataclass(frozen=True)
class BlockForm(Result):
    """A transformer block as a field and a layer on the sphere, see ``read_block``.

    Attributes:
        field: attention and, where there is one, the perceptron, as each reads unit tokens: ``F``.
        attention: the attention alone.
        layer: the block itself, on the sphere.
        scale: length of the block's tokens.
        step: the Euler step that the block takes of the field if norms after it change no direction: ``1 / scale``.
        fit: what the field explains of the block's move at the state that was looked at.
        fit_attention: what the attention alone explains.
        unexplained: share of the move that no step of the field explains.
        reasons: what no field has: norms with gains, residual steps one after the other.
    """

    field: Any
    attention: Any
    layer: Any
    scale: float
    step: float
    fit: EffectiveStep
    fit_attention: EffectiveStep
    unexplained: float
    reasons: tuple[str, ...]
    _static: ClassVar[tuple[str, ...]] = ("scale", "step", "unexplained", "reasons")
    _code: ClassVar[tuple[str, ...]] = ("field", "attention", "layer")

    def __repr__(self) -> str:
        return (
            f"BlockForm(step {self.fit.common_step:.4g} of a field, {self.unexplained:.1%} unexplained; attention alone "
            f"{self.fit_attention.common_residual:.1%})"
        )

    def table(self) -> str:
        """Return what the field explains, and what it does not, as text."""
        rows: list[tuple[str, Any]] = [
            ("step that fits best", self.fit.common_step), ("step by its tokens' length", self.step),
            ("unexplained", self.unexplained), ("unexplained by attention alone", self.fit_attention.common_residual),
        ]  # fmt: skip
        return lines([*rows, *(("no field has", reason) for reason in self.reasons)])


@analysis
def read_block(
    module: Any, x: States | None = None, *, scale: float | None = None, n: int = 16, seed: int = 0
) -> BlockForm:
    """Turn a ``TransformerEncoderLayer``, or a module with one ``MultiheadAttention``, into a field and a layer.

    Tokens ``X = scale * x`` with unit x. Attention, with all biases, is ``MultiHeadAttention`` read at ``scale * x`` in a
    post-norm block, or at ``sqrt(d) g x + b`` behind the norm of a pre-norm block (gain g, bias b; exact where tokens are
    centred, or behind RMSNorm), and ``linear1``, ``linear2`` are a ``Perceptron``, likewise. Both together are the field:
    the block would be its Euler step of ``1 / scale``, were they not one after the other, with norms. Attention by itself
    is taken for its post-norm step.

    Args:
        module: of torch: ``nn.TransformerEncoderLayer``, ``nn.MultiheadAttention``, or a module that has one of these
            inside; of JAX: ``eqx.nn.MultiheadAttention``. Modules of torch take ``(batch, n, d)``.
        x: unit tokens ``(n, d)`` at which block and field are compared; random ones if None.
        scale: length of the block's tokens; sqrt(d) by default, which LayerNorm and RMSNorm without gains make.
        n: number of random tokens.
        seed: of random tokens.

    Returns:
        ``BlockForm``.

    Raises:
        TypeError: there is no attention in the module.
        ValueError: it has an option that is not read (``add_bias_kv``, ``add_zero_attn``, ``batch_first=False``, another
            width of keys or values), or several attentions.

    Example:
        >>> import torch, ctsa
        >>> torch.manual_seed(0)
        <torch._C.Generator object at ...>
        >>> block = torch.nn.TransformerEncoderLayer(8, 2, 16, dtype=torch.float64, batch_first=True).eval()
        >>> form = ctsa.read_block(block)
        >>> form.unexplained < form.fit_attention.common_residual  # the perceptron explains a part
        True
    """
    home = autodiff(module)
    if home is None or not callable(module):
        raise TypeError(f"module must be a module of torch or equinox, got {type(module).__name__}")
    face = import_module(f"ctsa.{home}")
    attention = _attention_in(module)
    d = int(_sizes(attention)[0])
    scale = float(np.sqrt(d)) if scale is None else checks.number("scale", scale, low=0.0, strict=True)
    before = _norm(module, "norm1") if getattr(module, "norm_first", False) else None
    field = _read(face, attention).rescaled(*_reading(before, scale, d))
    whole, reasons = field, []
    first, second = (getattr(module, name, None) for name in ("linear1", "linear2"))
    if first is not None and second is not None:
        after = _norm(module, "norm2") if getattr(module, "norm_first", False) else None
        whole = field + _perceptron(face, module, first, second).rescaled(*_reading(after, scale, d))
        reasons.append("attention and perceptron one after the other, not together")
    layer = _layer(face, module, attention, scale)
    reasons += [
        f"{name}: gain and bias after the step" for name in ("norm1", "norm2")
        if not getattr(module, "norm_first", False) and _affine(_norm(module, name))
    ]  # fmt: skip
    at = random_tokens(n, d, seed) if x is None else x
    at = at - at.mean(-1, keepdims=True) if x is None else at  # norms centre
    at = Sphere().retract(at) if x is None else at
    fit, alone = (effective_step(layer, at, f) for f in (whole, field))
    return BlockForm(
        whole, field, layer, scale, 1 / scale, fit, alone, fit.common_residual, tuple(reasons)
    )


def _attention_in(module: Any) -> Any:
    """Return the one attention of a module: itself, or inside."""
    if _is_attention(module):
        return module
    inside = [part for _, part in module.named_modules()] if hasattr(module, "named_modules") else vars(module).values()
    found = [part for part in inside if _is_attention(part)]
    if len(found) != 1:
        kinds = "torch.nn.MultiheadAttention or eqx.nn.MultiheadAttention"
        raise (TypeError if not found else ValueError)(
            f"module must have one {kinds}, got {type(module).__name__} with {len(found)}: ctsa.read_projections reads "
            "weights by themselves"
        )
    return found[0]


def _is_attention(part: Any) -> bool:
    return hasattr(part, "num_heads") and (hasattr(part, "out_proj") or hasattr(part, "output_proj"))


def _sizes(attention: Any) -> tuple[int, int]:
    """Return dimension of a token and number of heads."""
    size = attention.embed_dim if hasattr(attention, "embed_dim") else attention.query_size
    return int(size), int(attention.num_heads)


def _read(face: Any, attention: Any) -> Any:
    """Return attention with all its biases as a field."""
    d, heads = _sizes(attention)
    if hasattr(attention, "in_proj_bias"):
        wrong = [name for name in ("bias_k", "bias_v") if getattr(attention, name, None) is not None]
        if wrong or attention.add_zero_attn:
            raise ValueError(f"module has {wrong[0] if wrong else 'add_zero_attn'}, which no field has")
        if attention.in_proj_weight is None:
            raise ValueError("module has keys or values of another width: self-attention has one")
        weights = as_numpy(attention.in_proj_weight).reshape(3, d, d)
        bias = attention.in_proj_bias
        biases = [None] * 3 if bias is None else list(as_numpy(bias).reshape(3, d))
        out, out_bias = attention.out_proj.weight, attention.out_proj.bias
    else:
        linear = [attention.query_proj, attention.key_proj, attention.value_proj]
        weights = [as_numpy(part.weight) for part in linear]
        biases = [None if part.bias is None else as_numpy(part.bias) for part in linear]
        out, out_bias = attention.output_proj.weight, attention.output_proj.bias
    if any(w.shape != (d, d) for w in weights):
        raise ValueError("module has keys or values of another width: self-attention has one")
    m = d // heads
    names = ("query", "key", "value")
    split = {name: w.reshape(heads, m, d) for name, w in zip(names, weights, strict=True)}
    split |= {f"{name}_bias": None if b is None else b.reshape(heads, m) for name, b in zip(names, biases, strict=True)}
    output = as_numpy(out).reshape(d, heads, m).swapaxes(0, 1)
    return face.MultiHeadAttention(
        **split, output=output, output_bias=None if out_bias is None else as_numpy(out_bias),
        beta=as_numpy(out).dtype.type(m**-0.5),
    )  # fmt: skip


def _perceptron(face: Any, module: Any, first: Any, second: Any) -> Any:
    name = getattr(getattr(module, "activation", None), "__name__", "")
    kind = next((k for k in ("gelu", "relu", "tanh") if k in name.lower()), None)
    if kind is None:
        raise ValueError(f"module has the activation {name or 'of no name'!r}: relu, gelu and tanh are read")
    arrays = (None if a is None else as_numpy(a) for a in (first.weight, second.weight, first.bias, second.bias))
    return face.Perceptron(*arrays, activation=kind)


def _norm(module: Any, name: str) -> Any:
    return getattr(module, name, None)


def _affine(norm: Any) -> bool:
    gain, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
    return bool(
        (gain is not None and np.ptp(as_numpy(gain)) > 1e-6) or (bias is not None and np.abs(as_numpy(bias)).max() > 1e-6)
    )


def _reading(norm: Any, scale: float, d: int) -> tuple[Any, Any]:
    """Return gain and bias with which a part reads unit tokens: behind a norm its own, else the tokens' length."""
    if norm is None:
        return scale, None
    gain, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
    gain = np.ones(d) if gain is None else as_numpy(gain)
    return np.asarray(d**0.5 * gain, dtype=gain.dtype), None if bias is None else as_numpy(bias)


def _layer(face: Any, module: Any, attention: Any, scale: float) -> Any:
    """Return the module as a layer; of attention alone its post-norm step."""
    if module is attention:
        return face.PostNormLayer(_read(face, attention).rescaled(scale), 1 / scale)
    return face.WrappedLayer(module, scale=scale, batched=autodiff(module) == "torch")
