"""The parameters of attention; scores, weights and outputs, as pure functions of arrays.

Matrices act as in ``torch.nn.Linear.weight``: the score of token j for token i is ``beta * <Q x_i, K x_j>`` (there is
no hidden 1/sqrt(d): the scale is ``beta``), the output of a head is ``sum_j a_ij V x_j``, and heads are summed.
"""

import math
from dataclasses import dataclass
from typing import Any

from ctsa import checks
from ctsa._backend import backend

from .weights import Weights

Array = Any
MANY = 4096  # tokens from which it is asked whether their scores fit into memory


@dataclass(frozen=True)
class Heads:
    """The parameters of attention, bundled for the functions below.

    Shapes: query, key ``(m, d)`` or ``(heads, m, d)``; value ``(d, d)`` or ``(heads, d, d)``; beta ``()`` or
    ``(heads,)``; key_field ``(d,)`` or ``(heads, d)``; mask ``(n, n)`` or ``(heads, n, n)``, non-negative, multiplying
    the weights before normalisation; masses ``(n,)``, token j counting as ``m_j`` tokens. None is the identity, or the
    absence of a term.
    """

    query: Array | None
    key: Array | None
    value: Array | None
    beta: Array
    weights: Weights
    mask: Array | None = None
    causal: bool = False
    key_field: Array | None = None
    masses: Array | None = None

    def __post_init__(self):
        ranks = ((self.query, 3), (self.key, 3), (self.value, 3), (self.beta, 1), (self.key_field, 2), (self.mask, 3))
        axis = next((a.shape[0] for a, rank in ranks if a is not None and a.ndim == rank), None)
        object.__setattr__(self, "_axis", axis)  # asked for in every formula

    @property
    def headed(self) -> bool:
        """Whether there is an axis of heads."""
        return self._axis is not None  # type: ignore[attr-defined]

    @property
    def count(self) -> int:
        """The number of heads."""
        return self._axis or 1  # type: ignore[attr-defined]


def lift(heads: Heads, x: Array) -> Array:
    """Give ``x`` an axis of heads where there is one."""
    return x[..., None, :, :] if heads.headed else x


def inverse_temperature(heads: Heads) -> Array:
    """Return beta, to be multiplied with ``(..., [heads,] n, m)``."""
    return heads.beta[:, None, None] if heads.beta.ndim else heads.beta


def act(matrix: Array | None, x: Array) -> Array:
    """Return ``M x_i`` for every token; None is the identity."""
    return x if matrix is None else x @ matrix.mT


def score_parts(heads: Heads, x: Array) -> tuple[Array, Array, Array]:
    """Return the scores (..., n, n), the scaled queries and the keys."""
    n = x.shape[-2]
    if n >= MANY:
        entries = 3.0 * n * n * math.prod(x.shape[:-3] if heads.headed else x.shape[:-2]) * heads.count
        checks.room(f"all scores of {n} tokens", entries, x.dtype.itemsize, "use how='chunked', or how='auto'")
    q, k = inverse_temperature(heads) * act(heads.query, x), act(heads.key, x)
    s, column = q @ k.mT, of_keys(heads, x, k)
    return s if column is None else s + column.mT, q, k


def of_keys(heads: Heads, x: Array, k: Array) -> Array | None:
    """Return what scores have of the key alone ``(..., n, 1)``: the key field's part, and that of distances."""
    column = None
    if heads.key_field is not None:
        column = inverse_temperature(heads) * (x @ heads.key_field[..., None])
    if heads.weights.distance:
        pull = 0.5 * inverse_temperature(heads) * (k * k).sum(-1, keepdims=True)
        column = -pull if column is None else column - pull
    return column


def mask_of(heads: Heads, s: Array) -> Array | None:
    """Return the mask times the masses of its columns, as it broadcasts to the scores; None where there is none."""
    be, row = backend(s), masses_of(heads.masses)
    if heads.causal:
        mask = be.xp.tril(be.xp.ones_like(s))
    elif heads.mask is None:
        return row
    else:
        mask = be.stop_gradient(heads.mask)  # log(0) has no derivative to pass on
    return mask if row is None else mask * row


def masses_of(masses: Array | None) -> Array | None:
    """Return masses as a row ``(1, n)``, which multiplies weights as a mask does."""
    return None if masses is None else backend(masses).stop_gradient(masses)[None, :]


def total_of(masses: Array | None) -> Array | None:
    """Return the sum of the masses, which stands for the number of tokens."""
    return None if masses is None else masses_of(masses).sum()  # type: ignore[union-attr]


def weigh(heads: Heads, s: Array) -> Array:
    """Turn scores into weights."""
    return heads.weights(s, mask_of(heads, s), total_of(heads.masses))


def scores(heads: Heads, x: Array) -> Array:
    """Return the scores ``beta <Q x_i, K x_j>`` (with key field; for l2 minus ``beta |K x_j|^2 / 2``).

    Returns:
        ``(..., n, n)``, or ``(..., heads, n, n)`` where there is an axis of heads.
    """
    s, _, _ = score_parts(heads, lift(heads, x))
    return s if not heads.headed else backend(s).xp.broadcast_to(s, (*s.shape[:-3], heads.count, *s.shape[-2:]))


def attention_weights(heads: Heads, x: Array) -> Array:
    """Return the attention weights ``a_ij``: ``(..., n, n)``, or ``(..., heads, n, n)``."""
    return weigh(heads, scores(heads, x))
