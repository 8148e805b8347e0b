"""How scores become attention weights: a function of the pair, and a normaliser of the row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa._backend import backend
from ctsa.checks import integer

Array = Any


@dataclass(frozen=True)
class Weights:
    """How scores ``s_ij`` become attention weights ``a_ij``.

    ``pair`` looks at one score, ``rows`` at one row: neither needs the whole matrix, so that rows may be taken in pieces.

    Args:
        name: shown in messages and results.
        pair: maps ``(xp, scores, n)`` to one number ``e_ij`` a score, of the same shape; ``xp`` is torch or jax.numpy and
            ``n`` the number of keys, or the sum of their masses.
        rows: how a row is normalised: None, ``a_ij = mask_ij e_ij``; "sum", ``a_ij = mask_ij e_ij / sum_k mask_ik e_ik``;
            or a function ``(xp, e, mask)`` (mask an array or None) whose rows sum to one.
        slope: maps ``(a, mask, n)`` to ``w`` such that ``da_ij = w_ij ds_ij - a_ij sum_k w_ik ds_ik`` for normalised rows,
            and ``da_ij = w_ij ds_ij`` for others. None: it is derived from ``pair``, unless ``rows`` is a function; then
            there is no closed form, and forward mode serves.
        distance: scores are replaced by ``-beta |Q x_i - K x_j|^2 / 2`` (up to a term that rows do not see).
        rowwise: whether a row's weights depend on that row's scores alone.

    Raises:
        TypeError: ``pair`` or ``rows`` is no function.

    Example:
        >>> import ctsa
        >>> from ctsa.attention import Weights
        >>> from ctsa.torch import SelfAttention
        >>> relu = Weights("relu", lambda xp, s, n: xp.clip(s, 0.0, None) / n)
        >>> field = SelfAttention(weights=relu)
        >>> field.attention(ctsa.random_tokens(4, 3, seed=0)).min().item()
        0.0
    """

    name: str
    pair: Callable[[Any, Array, Any], Array]
    rows: Any = None
    slope: Callable[[Array, Array | None, Any], Array] | None = None
    distance: bool = False
    rowwise: bool = True

    def __post_init__(self):
        if not callable(self.pair):
            raise TypeError(f"pair must be a function (xp, scores, n), got {type(self.pair).__name__}")
        if not (self.rows is None or self.rows == "sum" or callable(self.rows)):
            raise TypeError(f"rows must be None, 'sum' or a function (xp, e, mask), got {self.rows!r}")

    @property
    def normalised(self) -> bool:
        """Whether rows sum to one."""
        return self.rows is not None

    @property
    def closed(self) -> bool:
        """Whether the derivative has a closed form."""
        return self.slope is not None or not callable(self.rows)

    def __call__(self, s: Array, mask: Array | None = None, n: Any = None) -> Array:
        """Return the weights of scores ``(..., n, n)``, or of some of their rows; ``n``: the sum of masses."""
        xp = backend(s).xp
        e = self.pair(xp, s, s.shape[-1] if n is None else n)
        if callable(self.rows):
            return self.rows(xp, e, mask)
        a = e if mask is None else e * mask
        return a if self.rows is None else a / a.sum(-1, keepdims=True)

    def with_slope(self, s: Array, mask: Array | None = None, n: Any = None) -> tuple[Array, Array]:
        """Return weights and slopes ``w``, see ``slope``.

        Raises:
            ValueError: there is no closed form.
        """
        n = s.shape[-1] if n is None else n
        if self.slope is not None:
            a = self(s, mask, n)
            return a, self.slope(a, mask, n)
        if callable(self.rows):
            raise ValueError(f"weights={self.name!r} have no closed-form derivative")
        be = backend(s)
        e, slope = be.jvp(lambda z: self.pair(be.xp, z, n), (s,), (be.xp.ones_like(s),))
        a, w = (e, slope) if mask is None else (e * mask, slope * mask)
        if self.rows is None:
            return a, w
        total = a.sum(-1, keepdims=True)
        return a / total, w / total


# ------------------------------------------------------------------------------------------------------------- the rules
def _score(xp, s: Array, n: Any) -> Array:
    return s


def _exponential(xp, s: Array, n: Any) -> Array:
    return xp.exp(s) / n


def _share(xp, s: Array, n: Any) -> Array:
    return s / n


def _sigmoid(xp, s: Array, n: Any) -> Array:
    # 1 / (1 + n e^-s), written with tanh so that it cannot overflow.
    return 0.5 * (1 + xp.tanh(0.5 * (s - (xp.log(n) if hasattr(n, "dtype") else float(np.log(n))))))


def log_mask(xp, s: Array, mask: Array | None) -> Array:
    """Return scores whose exponentials are multiplied by a mask."""
    if mask is None:
        return s
    open_ = mask > 0
    return s + xp.where(open_, xp.log(xp.where(open_, mask, xp.ones_like(mask))), -xp.inf)


def softmax_of_rows(xp, s: Array, mask: Array | None) -> Array:
    """Return the softmax of every row, weighted by a mask."""
    return backend(s).softmax(log_mask(xp, s, mask), -1)


def _largest(xp, s: Array, mask: Array | None) -> Array:
    open_ = s if mask is None else xp.where(mask > 0, s, -xp.inf)  # positive weights count, but do not choose
    top = xp.amax(open_, -1, keepdims=True)
    tie = 16 * xp.finfo(s.dtype).eps * xp.amax(xp.abs(s), -1, keepdims=True)  # ties up to rounding
    chosen = xp.where(open_ >= top - tie, xp.ones_like(s), xp.zeros_like(s))
    if mask is not None:
        chosen = chosen * mask
    return chosen / chosen.sum(-1, keepdims=True)


@dataclass(frozen=True)
class _Sinkhorn:
    iterations: int

    def __call__(self, xp, s: Array, mask: Array | None) -> Array:
        be = backend(s)

        def normalise(s):
            s = s - be.logsumexp(s, -2)[..., None, :]
            return s - be.logsumexp(s, -1)[..., :, None]

        return xp.exp(be.repeat(normalise, log_mask(xp, s, mask), self.iterations))


def _same(a, mask, n):
    return a


def _zero(a, mask, n):
    return 0 * a


def _constant(a, mask, n):
    return 0 * a + (1 if mask is None else mask) / n


def _logistic(a, mask, n):
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
    return Weights("sinkhorn", _score, _Sinkhorn(integer("iterations", iterations, low=1)), rowwise=False)


WEIGHTS: dict[str, Weights] = {
    "softmax": Weights("softmax", _score, softmax_of_rows, _same),
    "unnormalised": Weights("unnormalised", _exponential, None, _same),
    "hardmax": Weights("hardmax", _score, _largest, _zero),
    "linear": Weights("linear", _share, None, _constant),
    "l2": Weights("l2", _score, softmax_of_rows, _same, distance=True),
    "sigmoid": Weights("sigmoid", _sigmoid, None, _logistic),
    "sinkhorn": sinkhorn(),
}
