"""A contiguous piece of a trained transformer, applied over and over."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import load as backend_of
from ctsa.geometry import Sphere
from ctsa.results.base import as_numpy

from ._transformer import Block, State, step_block
from .model import Pretrained

Array = Any


def loop(
    model: Pretrained,
    layers: int | tuple[int, int],
    face: Any,
    *,
    inject: Any = None,
    share: float = 1.0,
    scale: float | None = None,
    perceptron: bool = True,
    dtype: str = "float64",
) -> Any:
    """Loop some layers of a model, as looped and retrofitted models do: all weights, biases, norms, perceptrons, positions.

    A state ``(n, d)`` is what comes into the first of the layers: ``model.states(text)[a]`` starts the loop where the model
    is. ``ctsa.diagnose(loop, x0)`` says what it does.

    Args:
        model: from ``pretrained.load``.
        layers: ``(a, b)``, the layers a ... b - 1; an integer for one.
        face: ``ctsa.torch`` or ``ctsa.jax``, whose ``Loop`` is made.
        inject: states ``(n, d)``, or ``(batch, n, d)`` one a member, that are added in every loop before the layers; None.
        share: of them that is added.
        scale: put tokens on the sphere, with this length for the layers; None lets them be. Post-norm layers end in
            tokens of length about ``sqrt(d) |g|``; those of a pre-norm model grow from loop to loop, unless they are
            kept at one length.
        perceptron: False leaves out the perceptrons and their norms: attention alone, ``N(z + o)`` where the model is
            post-norm, ``z + o`` where it is pre-norm.
        dtype: "float64" or "float32", in which the loop computes.

    Returns:
        A ``Loop``. Its weights move with it (``loop.to("cuda")`` in torch).

    Raises:
        TypeError: ``face`` is no face, an index is no integer.
        ValueError: there are no such layers, or ``inject`` is no states of this model, or of another number of tokens.

    Example:
        >>> import ctsa, ctsa.torch
        >>> from ctsa import pretrained
        >>> model = pretrained.load()
        >>> looped = pretrained.loop(model, (2, 4), ctsa.torch)
        >>> path = ctsa.iterate(looped, model.states("Tokens cluster.")[2], 3)
        >>> bool(abs(path.xs[1].numpy() - model.states("Tokens cluster.")[4]).max() < 1e-12)
        True

    References:
        Layers looped as recurrent depth: Geiping et al., arXiv 2502.05171.
    """
    if not callable(getattr(face, "Loop", None)) or not hasattr(face, "SelfAttention"):
        raise TypeError(f"face must be ctsa.torch or ctsa.jax, got {face!r:.60}")
    if not isinstance(model, Pretrained):
        raise TypeError(f"model must be a Pretrained, see pretrained.load, got {type(model).__name__}")
    first, last = _piece(model, layers)
    checks.choice("dtype", dtype, ("float32", "float64"))
    share = checks.number("share", share)
    scale = None if scale is None else checks.number("scale", scale, low=0.0, strict=True)
    inject = None if inject is None else _states(inject, model.d)
    network = model._network
    be = backend_of(face.Loop.face)

    def held(a):
        return be.asarray(np.asarray(a), dtype)

    taken = network.blocks[first:last]
    if not checks.flag("perceptron", perceptron):
        taken = tuple(block._replace(up=None, down=None, gate=None) for block in taken)
    blocks = tuple(_converted(block, held) for block in taken)
    settings = (network.heads, network.causal, network.pre_norm, share)
    inputs = None if inject is None else held(inject)
    return face.Loop(
        be.partial(_pass if inject is None else _pass_injected, blocks, settings), inputs,
        batched=inputs is not None and inputs.ndim > 2, geometry=None if scale is None else Sphere(),
        scale=1.0 if scale is None else scale,
    )  # fmt: skip


def _states(inject: Any, d: int) -> Array:
    states = np.asarray(as_numpy(inject))
    if states.ndim not in (2, 3) or states.shape[-1] != d or states.dtype.kind != "f":
        came = f"shape {states.shape} of {states.dtype}"
        raise ValueError(f"inject must be states (n, {d}) or (batch, n, {d}) of floating numbers, got {came}")
    if not np.isfinite(states).all():
        raise ValueError("inject must be finite states, got NaN or infinite numbers")
    return states


def _piece(model: Pretrained, layers: Any) -> tuple[int, int]:
    given = layers if isinstance(layers, (tuple, list)) else (layers, None)
    if len(given) != 2:
        raise ValueError(f"layers must be (a, b), or one index, got {layers!r}")
    first = model._index(given[0])
    last = first + 1 if given[1] is None else checks.integer("layers", given[1], low=1)
    if not first < last <= model.layers:
        raise ValueError(f"layers must be (a, b) with 0 <= a < b <= {model.layers}, got {layers!r}")
    return first, last


def _converted(part: Any, held: Any) -> Any:
    """Return a block with its arrays converted; frequencies stay numbers."""
    if isinstance(part, np.ndarray):
        return held(part)
    if isinstance(part, Block):
        kept = {"frequencies": part.frequencies}
        return Block(**{name: _converted(value, held) for name, value in part._asdict().items()} | kept)
    return type(part)(*(_converted(value, held) for value in part)) if hasattr(part, "_fields") else part


def _pass(blocks: tuple, settings: tuple, state: Array) -> Array:
    heads, causal, pre_norm, _ = settings
    now = State(state, None)
    for block in blocks:
        now = step_block(block, heads, causal, pre_norm, now)
    return now.z


def _pass_injected(blocks: tuple, settings: tuple, state: Array, inputs: Array) -> Array:
    if inputs.shape[-2] != state.shape[-2]:
        raise ValueError(f"inject: states of {inputs.shape[-2]} tokens, but the loop runs on {state.shape[-2]}")
    return _pass(blocks, settings, state + settings[3] * inputs)
