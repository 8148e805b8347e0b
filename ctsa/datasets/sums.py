"""Addition of numbers digit by digit, whose difficulty is the carries."""

from typing import Any

import numpy as np

from ctsa import checks

from ._arguments import apart, span
from .canonical import hashed
from .dataset import Dataset, Splits
from .splitting import split

PLUS, EQUALS = 11, 12  # tokens; 0 is unknown, 1 ... 10 are the digits 0 ... 9
_LONGEST = 9  # digits of an operand
_PATIENCE = 50  # draws in vain, one after the other


def addition(
    digits: int = 4, count: int = 10_000, carries: Any = None, seed: int = 0, *, reverse: bool = False
) -> Dataset:
    """Make sums ``a + b = c`` of which c is to be found.

    A sample is ``a_1 ... a_k + b_1 ... b_k = c_0 ... c_k``, ``n = 3 k + 3`` tokens for ``k = digits``: numbers have leading
    zeros, so that a digit stands where its power of ten wants it. Operands are uniform on ``0 ... 10^k - 1`` among those
    with so many carries. No pair comes twice, and ``a + b`` and ``b + a`` are the same pair.

    Args:
        digits: of the operands, 1 ... 9.
        count: how many sums.
        carries: least and largest number of carries, such as (0, 2); None for any.
        seed: of the operands.
        reverse: write all three numbers with the digit of the ones first, so that carries run from left to right. A causal
            model learns that far more easily; to one that sees all tokens it makes little difference.

    Returns:
        ``Dataset``: tokens 0 unknown, 1 ... 10 for the digits 0 ... 9, 11 for "+", 12 for "="; targets are the tokens less
        one, of which those of c are scored.

    Raises:
        ValueError: there are no so many sums; says how many were found.
        TypeError: an argument is wrong.

    Example:
        >>> from ctsa.datasets import addition
        >>> sums = addition(digits=2, count=3)
        >>> sums
        Dataset('addition-2', 3 samples of 9 tokens, vocabulary 13, classes 12)
        >>> sums.inputs[0], sums.targets[0]  # 63 + 26 = 089
        (array([ 7,  4, 11,  3,  7, 12,  0,  0,  0]), array([ 6,  3, 10,  2,  6, 11,  0,  8,  9]))

    References:
        Lee et al., arXiv 2307.03381 (reversed digits).
    """
    return _made(digits, count, carries, [checks.seed(seed)], reverse, "count", "carries")


def addition_task(
    digits: int = 4,
    count: int = 10_000,
    carries: Any = (0, 2),
    ood_carries: Any = (3, 4),
    ood_count: int = 1000,
    seed: int = 0,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    reverse: bool = False,
) -> Splits:
    """Make sums to train and to test with, and harder ones with more carries.

    ``a + b`` and ``b + a`` are always in the same part, also in those of another seed.

    Args:
        digits: of the operands.
        count: sums in ``train``, ``validation`` and ``test`` together.
        carries: least and largest number of carries in these; None for any.
        ood_carries: the same for ``ood``, apart from ``carries``; None for no such part.
        ood_count: sums in ``ood``.
        seed: of the operands.
        validation, test: shares of ``count``, met up to chance.
        reverse: the digit of the ones comes first, see ``addition``.

    Returns:
        ``Splits``.

    Raises:
        TypeError, ValueError: as ``addition``; the ranges of carries meet; a part is empty.

    Example:
        >>> from ctsa.datasets import addition_task
        >>> addition_task(ood_count=500).ood
        Dataset('addition-4', 500 samples of 15 tokens, vocabulary 13, classes 12)
    """
    seed, k = checks.seed(seed), _width(digits)
    if ood_carries is not None:
        usual = (0, k) if carries is None else span("carries", carries, 0, k, "the digits")
        apart("ood_carries", span("ood_carries", ood_carries, 0, k, "the digits"), "carries", usual)
    every = split(_made(digits, count, carries, [seed], reverse, "count", "carries"), validation, test)
    if ood_carries is None:
        return every
    return every._replace(ood=_made(digits, ood_count, ood_carries, [seed, 1], reverse, "ood_count", "ood_carries"))


def _width(digits: Any) -> int:
    k = checks.integer("digits", digits, low=1)
    if k > _LONGEST:
        raise ValueError(f"digits must be at most {_LONGEST}, got {k}")
    return k


def _made(digits: Any, count: Any, carries: Any, seeds: list[int], reverse: Any, counted: str, named: str) -> Dataset:
    k, count = _width(digits), checks.integer(counted, count, low=1)
    checks.flag("reverse", reverse)
    checks.room(f"{counted}={count} sums", 12.0 * count * (3 * k + 3))
    low, high = (0, k) if carries is None else span(named, carries, 0, k, "the digits")
    rng = np.random.default_rng(seeds)
    pairs, vain = np.zeros((0, 2), np.int64), 0
    while len(pairs) < count and vain < _PATIENCE:
        new = (rng.random((2 * count + 100, 2)) * 10**k).astype(np.int64)
        number = _carries(new, k)
        every = np.concatenate([pairs, new[(low <= number) & (number <= high)]])
        first = np.sort(np.unique(np.sort(every, axis=1), axis=0, return_index=True)[1])
        vain = 0 if len(first) > len(pairs) else vain + 1
        pairs = every[first]
    if len(pairs) < count:
        raise ValueError(
            f"{counted}={count} sums with {named}={(low, high)} were not found, only {len(pairs)}: take fewer"
        )
    pairs = pairs[:count]
    return _written(pairs, k, bool(reverse))


def _written(pairs: np.ndarray, k: int, reverse: bool) -> Dataset:
    a, b, c = (_digits(x, w, reverse) for x, w in ((pairs[:, 0], k), (pairs[:, 1], k), (pairs.sum(1), k + 1)))
    sign = np.ones((len(pairs), 1), np.int64)
    tokens = np.concatenate([a + 1, PLUS * sign, b + 1, EQUALS * sign, c + 1], axis=1)  # (count, 3 k + 3)
    scored = np.zeros(tokens.shape, bool)
    scored[:, 2 * k + 2 :] = True
    return Dataset(
        name=f"addition-{k}",
        inputs=np.where(scored, 0, tokens),
        targets=tokens - 1,
        classes=EQUALS,
        vocabulary=EQUALS + 1,
        scored=scored,
        groups=hashed(np.sort(pairs, axis=1)),
    )


def _digits(x: np.ndarray, width: int, reverse: bool) -> np.ndarray:
    powers = 10 ** np.arange(width)
    return x[:, None] // (powers if reverse else powers[::-1]) % 10


def _carries(pairs: np.ndarray, k: int) -> np.ndarray:
    """Return the number of carries of each sum: one into place i if ``a mod 10^i + b mod 10^i >= 10^i``."""
    powers = 10 ** np.arange(1, k + 1)
    return ((pairs[:, :, None] % powers).sum(1) >= powers).sum(-1)
