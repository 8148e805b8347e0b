"""Derivatives through PyTorch's attention: its fused kernels have none in forward mode, so they are written out.

Only while a derivative is taken, and only in the thread that takes it: no switch of the process is touched, and plain
evaluations keep the fused kernels.
"""

import functools
import threading

import torch
from torch.func import jvp as _jvp, vjp as _vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_FUSED = torch.nn.functional.scaled_dot_product_attention
_LOCK = threading.RLock()  # the level of forward-mode derivatives is one for the whole process
_MULTIHEAD = torch.nn.functional.multi_head_attention_forward


def _written_out(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Attention by its formula, with the strides of the fused kernel, on which a ``view`` may rely."""
    if enable_gqa:
        key, value = (a.repeat_interleave(query.shape[-3] // a.shape[-3], -3) for a in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = torch.softmax(scores, -1)
    if dropout_p > 0:
        weights = torch.nn.functional.dropout(weights, dropout_p)
    y = weights @ value
    return y.transpose(-3, -2).contiguous().transpose(-3, -2) if y.ndim > 2 else y


class _Differentiable(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is _FUSED:
            return _written_out(*args, **kwargs)
        if function is _MULTIHEAD:  # with weights asked for it computes them, and leaves the fused kernel alone
            asked = kwargs.get("need_weights", True)
            y, weights = function(*args, **{**kwargs, "need_weights": True})
            return y, weights if asked else None
        return function(*args, **kwargs)


def differentiable(f):
    """Return ``f`` with attention written out, for a derivative to be taken of it."""

    @functools.wraps(f)
    def called(*args):
        with _Differentiable():
            return f(*args)

    return called


def in_transform() -> bool:
    """Whether a transform of ``torch.func`` is under way, or a derivative in forward mode."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def compiling() -> bool:
    """Whether this thread is traced for a program; PyTorch's flag is one for the process."""
    compiler = torch.compiler
    return compiler.is_dynamo_compiling() or (compiler.is_compiling() and torch._C._len_torch_dispatch_stack() > 0)


def jvp(f, primals, tangents):
    """``torch.func.jvp``, also through fused attention."""
    if compiling():
        return _transposed_twice(f, primals, tangents)
    with _LOCK:
        return _jvp(differentiable(f), primals, tangents)


def _transposed_twice(f, primals, tangents):
    """The same in reverse mode: the derivative of ``w -> Df^T w``, a linear map, transposes once more.

    For programs of ``torch.compile``, which know neither locks nor modes, and fail on forward mode through layer_norm.
    """
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have one derivative only
        y, pull = _vjp(f, *primals)
        _, push = _vjp(pull, torch.zeros_like(y))
        return y, push(tuple(tangents))[0]


def vjp(f, *primals):
    """``torch.func.vjp``, also through fused attention."""
    return _vjp(differentiable(f), *primals)
