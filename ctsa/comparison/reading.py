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

from ._watching import mask_seen, norm_read, other_tokens, watch
from .fitting import EffectiveStep, effective_step

Array = Any
_ACTIVATIONS = ("relu", "gelu", "tanh")  # of Perceptron


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
    is taken for its post-norm step. Which norm a part of a torch module reads, whatever its name, is seen in one call at
    ``x``; a causal mask is the field's, too. What the field has not, other tokens or masks, is among ``reasons``.

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
    at = random_tokens(n, d, seed) if x is None else x
    at = at - at.mean(-1, keepdims=True) if x is None else at  # norms centre
    at = Sphere().retract(at) if x is None else at
    first, second = _linears(module, attention)
    kind = None if first is None else _activation(module)
    layer = _layer(face, module, attention, scale)
    norms = [part for _, part in _norms(module)]
    seen = watch(layer, [] if module is attention else [attention, first, *norms], at)
    watched = seen.get(id(attention))
    if watched and id(first) not in seen:  # it is not called
        first = None
    before, after = (
        _norm_before(module, part, name, seen, norms) for part, name in ((attention, "norm1"), (first, "norm2"))
    )
    gain, bias = _reading(before, scale, d)
    mask, reasons = mask_seen(watched, len(at)) if watched else (None, [])
    if watched:
        reasons += other_tokens(watched, gain * as_numpy(at) + (0.0 if bias is None else bias))
    whole = field = _read(face, attention, mask).rescaled(gain, bias)
    if first is not None and kind is not None:
        arrays = (None if a is None else as_numpy(a) for a in (first.weight, second.weight, first.bias, second.bias))
        read = _reading(None if before is None else after, scale, d)
        whole = field + face.Perceptron(*arrays, activation=kind).rescaled(*read)
        reasons.append("attention and perceptron one after the other, not together")
    elif module is not attention and _matrices(module, attention):
        reasons.append("linear maps besides attention are not read")
    if before is None:
        reasons += [f"{name}: gain and bias after the step" for name, norm in _norms(module) if _affine(norm)]
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


def _read(face: Any, attention: Any, mask: Any = None) -> Any:
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
        beta=as_numpy(out).dtype.type(m**-0.5), mask=mask,
    )  # fmt: skip


def _inside(module: Any) -> list[tuple[str, Any]]:
    return list(module.named_modules()) if hasattr(module, "named_modules") else list(vars(module).items())


def _matrices(module: Any, attention: Any) -> list[Any]:
    """Return the linear maps of a module that are not the attention's own."""
    own = {id(part) for _, part in _inside(attention)}
    parts = (part for _, part in _inside(module) if id(part) not in own)
    return [part for part in parts if getattr(getattr(part, "weight", None), "ndim", 0) == 2]


def _linears(module: Any, attention: Any) -> tuple[Any, Any]:
    """Return the two linear maps of the perceptron, or None, None."""
    if module is attention:
        return None, None
    found = _matrices(module, attention)
    if len(found) != 2 or found[0].weight.shape != found[1].weight.shape[::-1]:
        return None, None
    return (found[0], found[1]) if found[0].weight.shape[1] == _sizes(attention)[0] else (None, None)


def _activation(module: Any) -> str | None:
    """Return the name of the one activation of a module; None if it states none, or has several.

    Raises:
        ValueError: it is stated, and no activation of ``Perceptron``.
    """
    parts = [part for _, part in _inside(module)]
    stated = [a for part in (module, *parts) if callable(a := getattr(part, "activation", None))]
    if not stated:
        kinds = {kind for part in parts if (kind := _kind(part)) is not None}
        return kinds.pop() if len(kinds) == 1 else None
    kind = _kind(stated[0])
    if kind is None:
        name = getattr(stated[0], "__name__", type(stated[0]).__name__)
        raise ValueError(f"module has the activation {name!r}: relu, gelu (the exact one) and tanh are read")
    return kind


def _kind(activation: Any) -> str | None:
    """Return the name of an activation, a function or a module, that ``Perceptron`` has."""
    name = str(getattr(activation, "__name__", type(activation).__name__)).lower()
    return name if name in _ACTIVATIONS and getattr(activation, "approximate", "none") == "none" else None


def _norms(module: Any) -> list[tuple[str, Any]]:
    return [(name, part) for name, part in _inside(module) if "Norm" in type(part).__name__]


def _norm_before(module: Any, part: Any, name: str, seen: dict[int, Any], norms: list[Any]) -> Any:
    """Return the norm that a part reads: as seen in a call, else by its usual name."""
    if id(part) in seen:
        return norm_read(seen, part, norms)
    return getattr(module, name, None) if getattr(module, "norm_first", False) else None


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
