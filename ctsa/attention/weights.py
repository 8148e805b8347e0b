"""Self-attention and its closed-form derivative, as pure functions of arrays.

Matrices act as in ``torch.nn.Linear.weight``: the score of token j for token i is ``beta * <Q x_i, K x_j>`` (there is
no hidden 1/sqrt(d): the scale is ``beta``), the output of a head is ``sum_j a_ij V x_j``, and heads are summed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.checks import integer

Array = Any


# ---------------------------------------------------------------------------------------------------- weight functions
def _log_mask(be, scores: Array, mask: Array | None) -> Array:
    return scores if mask is None else scores + be.xp.log(mask)


def _softmax(be, scores: Array, mask: Array | None) -> Array:
    return be.softmax(_log_mask(be, scores, mask), -1)


def _unnormalised(be, scores: Array, mask: Array | None) -> Array:
    a = be.xp.exp(scores) / scores.shape[-1]
    return a if mask is None else a * mask


def _linear(be, scores: Array, mask: Array | None) -> Array:
    a = scores / scores.shape[-1]
    return a if mask is None else a * mask


def _sigmoid(be, scores: Array, mask: Array | None) -> Array:
    # 1 / (1 + n e^-s), written with tanh so that it cannot overflow.
    a = 0.5 * (1 + be.xp.tanh(0.5 * (scores - float(np.log(scores.shape[-1])))))
    return a if mask is None else a * mask


def _hardmax(be, scores: Array, mask: Array | None) -> Array:
    xp = be.xp
    s = scores if mask is None else xp.where(mask > 0, scores, -xp.inf)  # positive weights count, but do not choose
    top = xp.amax(s, -1, keepdims=True)
    tie = 16 * xp.finfo(s.dtype).eps * xp.amax(xp.abs(scores), -1, keepdims=True)  # ties up to rounding
    chosen = xp.where(s >= top - tie, xp.ones_like(s), xp.zeros_like(s))
    if mask is not None:
        chosen = chosen * mask
    return chosen / chosen.sum(-1, keepdims=True)


@dataclass(frozen=True)
class _Sinkhorn:
    iterations: int

    def __call__(self, be, scores: Array, mask: Array | None) -> Array:
        def normalise(s):
            s = s - be.logsumexp(s, -2)[..., None, :]
            return s - be.logsumexp(s, -1)[..., :, None]

        return be.xp.exp(be.repeat(normalise, _log_mask(be, scores, mask), self.iterations))


@dataclass(frozen=True)
class Weights:
    """How scores become attention weights.

    Args:
        name: shown in messages and results.
        value: maps ``(backend, scores (..., n, n), mask or None)`` to weights of the same shape.
        slope: maps the weights ``a`` and the mask (or None) to ``w`` such that ``da_ij = w_ij ds_ij - a_ij sum_k w_ik
            ds_ik`` when ``normalised``, and ``da_ij = w_ij ds_ij`` otherwise. None: no closed form, ``jvp`` serves.
        normalised: rows sum to one.
        distance: scores are replaced by ``-beta |Q x_i - K x_j|^2 / 2`` (up to a term that rows do not see).
    """

    name: str
    value: Callable[..., Array]
    slope: Callable[[Array, Array | None], Array] | None
    normalised: bool
    distance: bool = False


def _same(a, mask):
    return a


def _zero(a, mask):
    return 0 * a


def _constant(a, mask):
    return 0 * a + (1 if mask is None else mask) / a.shape[-1]


def _logistic(a, mask):
    # a = mask * sigma(s); where the mask is zero, so is a.
    return a * (1 - (a if mask is None else a / (mask + (mask == 0))))


def sinkhorn(iterations: int = 50) -> Weights:
    """Make doubly stochastic weights by alternating column and row normalisations in the log domain.

    Rows are normalised last, so they sum to one exactly; columns do up to an error that shrinks geometrically with
    ``iterations`` (slowly for large ``beta``). After Sander et al., *Sinkformers*, arXiv 2110.11773.

    Raises:
        ValueError, TypeError: ``iterations`` is not a positive integer.

    Example:
        >>> from ctsa.torch import SelfAttention
        >>> from ctsa.attention import sinkhorn
        >>> SelfAttention(beta=2.0, weights=sinkhorn(100)).weights.name
        'sinkhorn'
    """
    return Weights("sinkhorn", _Sinkhorn(integer("iterations", iterations, low=1)), None, normalised=True)


WEIGHTS: dict[str, Weights] = {
    "softmax": Weights("softmax", _softmax, _same, normalised=True),
    "unnormalised": Weights("unnormalised", _unnormalised, _same, normalised=False),
    "hardmax": Weights("hardmax", _hardmax, _zero, normalised=True),
    "linear": Weights("linear", _linear, _constant, normalised=False),
    "l2": Weights("l2", _softmax, _same, normalised=True, distance=True),
    "sigmoid": Weights("sigmoid", _sigmoid, _logistic, normalised=False),
    "sinkhorn": sinkhorn(),
}


# ------------------------------------------------------------------------------------------------------------ attention
@dataclass(frozen=True)
class Heads:
    """The parameters of attention, bundled for the functions below.

    Shapes: query, key ``(m, d)`` or ``(heads, m, d)``; value ``(d, d)`` or ``(heads, d, d)``; beta ``()`` or
    ``(heads,)``; key_field ``(d,)`` or ``(heads, d)``; mask ``(n, n)`` or ``(heads, n, n)``, non-negative, multiplying
    the weights before normalisation. None is the identity, or the absence of a term.
    """

    query: Array | None
    key: Array | None
    value: Array | None
    beta: Array
    weights: Weights
    mask: Array | None = None
    causal: bool = False
    key_field: Array | None = None

    def _axis(self) -> int | None:
        ranks = ((self.query, 3), (self.key, 3), (self.value, 3), (self.beta, 1), (self.key_field, 2), (self.mask, 3))
        return next((a.shape[0] for a, rank in ranks if a is not None and a.ndim == rank), None)

    @property
    def headed(self) -> bool:
        """Whether there is an axis of heads."""
        return self._axis() is not None

    @property
    def count(self) -> int:
        """The number of heads."""
        return self._axis() or 1


def _lift(heads: Heads, x: Array) -> Array:
    return x[..., None, :, :] if heads.headed else x


def _beta(heads: Heads) -> Array:
    return heads.beta[:, None, None] if heads.beta.ndim else heads.beta


def _act(matrix: Array | None, x: Array) -> Array:
    return x if matrix is None else x @ matrix.mT


def _score_parts(heads: Heads, x: Array) -> tuple[Array, Array, Array]:
    """Return the scores (..., n, n), the scaled queries and the keys."""
    q, k = _beta(heads) * _act(heads.query, x), _act(heads.key, x)
    s = q @ k.mT
    if heads.key_field is not None:
        s = s + _beta(heads) * (x @ heads.key_field[..., None]).mT
    if heads.weights.distance:
        s = s - 0.5 * _beta(heads) * (k * k).sum(-1, keepdims=True).mT
    return s, q, k


def _mask(heads: Heads, s: Array) -> Array | None:
    if heads.causal:
        xp = backend(s).xp
        return xp.tril(xp.ones_like(s))
    return None if heads.mask is None else backend(s).stop_gradient(heads.mask)  # log(0) has no derivative to pass on


def _weigh(heads: Heads, s: Array) -> Array:
    return heads.weights.value(backend(s), s, _mask(heads, s))


def scores(heads: Heads, x: Array) -> Array:
    """Return the scores ``beta <Q x_i, K x_j>`` (with key field; for l2 minus ``beta |K x_j|^2 / 2``).

    Returns:
        ``(..., n, n)``, or ``(..., heads, n, n)`` where there is an axis of heads.
    """
    s, _, _ = _score_parts(heads, _lift(heads, x))
    return s if not heads.headed else backend(s).xp.broadcast_to(s, (*s.shape[:-3], heads.count, *s.shape[-2:]))


def attention_weights(heads: Heads, x: Array) -> Array:
    """Return the attention weights ``a_ij``: ``(..., n, n)``, or ``(..., heads, n, n)``."""
    return _weigh(heads, scores(heads, x))


def attend(heads: Heads, x: Array) -> Array:
    """Return the output of attention, ``sum_heads sum_j a_ij V x_j``, of the shape of ``x``: ``(..., n, d)``."""
    xh = _lift(heads, x)
    s, _, _ = _score_parts(heads, xh)
    y = _weigh(heads, s) @ _act(heads.value, xh)
    return y.sum(-3) if heads.headed else y
