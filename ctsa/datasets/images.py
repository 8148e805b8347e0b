"""Handwritten digits as a handful of tokens: patches of small images, one class an image."""

from typing import Any

import numpy as np

from ctsa import checks

from .dataset import Dataset, Splits
from .splitting import parts, shares

_WIDTH, _WHITE = 8, 16.0  # pixels, and the largest value of one


def digits(patch: int = 2) -> Dataset:
    """Return the 1797 images of handwritten digits that come with scikit-learn, cut in patches.

    Args:
        patch: width of a patch, 1, 2, 4 or 8; 2 gives 16 tokens of 4 numbers.

    Returns:
        ``Dataset``: inputs ``(1797, n, patch^2)`` in [0, 1], the 17 grey levels over 16; patches along the rows of the
        image, as are the pixels in a patch; targets ``(1797,)``, the digit.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError, ValueError: ``patch`` does not divide 8.

    Example:
        >>> from ctsa.datasets import digits
        >>> digits()
        Dataset('digits', 1797 samples of 16 tokens, features 4, classes 10)

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998): its test
        part, of 13 writers.
    """
    patch = checks.integer("patch", patch, low=1)
    if _WIDTH % patch:
        raise ValueError(f"patch must divide {_WIDTH}, the width of an image, got {patch}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: pip install 'ctsa[datasets]'") from error
    found = load_digits()
    side = _WIDTH // patch
    images = np.asarray(found.images, float).reshape(-1, side, patch, side, patch) / _WHITE
    inputs = images.swapaxes(2, 3).reshape(len(images), side**2, patch**2)
    return Dataset(name="digits", inputs=inputs, targets=found.target, classes=10, features=patch**2)


def digits_task(patch: int = 2, seed: int = 0, *, validation: float = 0.1, test: float = 0.2) -> Splits:
    """Return the handwritten digits in parts, each with the same shares of the ten classes (stratified).

    Args:
        patch: width of a patch, see ``digits``.
        seed: of the division.
        validation, test: shares of every class, rounded. The writers are the same in all parts.

    Returns:
        ``Splits``, without ``ood``.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError, ValueError: an argument is wrong, or a part is empty.

    Example:
        >>> from ctsa.datasets import digits_task
        >>> [len(part) for part in digits_task()[:3]]
        [1258, 180, 359]
    """
    validation, test = shares(validation, test)
    rng = np.random.default_rng(checks.seed(seed))
    data = digits(patch)
    return parts(data, _stratified(data.targets, rng, validation, test), validation, test)


def _stratified(targets: Any, rng: np.random.Generator, validation: float, test: float) -> np.ndarray:
    """Return 0, 1 or 2 for each sample: training, validation or test."""
    place, drawn = np.zeros(len(targets), int), rng.random(len(targets))
    for digit in np.unique(targets):
        rows = np.flatnonzero(targets == digit)
        rows = rows[drawn[rows].argsort()]
        first, second = round(test * len(rows)), round((test + validation) * len(rows))
        place[rows[first:second]], place[rows[:first]] = 1, 2
    return place
