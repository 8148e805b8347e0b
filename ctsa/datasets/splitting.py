"""Parts of a data set that share nothing: the sample itself, by its hash, decides where it belongs."""

from typing import Any

import numpy as np

from ctsa import checks

from .canonical import hashed, mixed
from .dataset import Dataset, Splits


def shares(validation: Any, test: Any) -> tuple[float, float]:
    """Return two shares, at least 0 and below 1 together."""
    validation, test = checks.number("validation", validation, low=0.0), checks.number("test", test, low=0.0)
    for name, share in (("validation", validation), ("test", test)):
        if share >= 1:
            raise ValueError(f"{name} must be a share below 1, got {share:g}")
    if validation + test >= 1:
        raise ValueError(
            f"validation={validation:g} and test={test:g} must be below 1 together, to leave some to train with"
        )
    return validation, test


def parts(dataset: Dataset, place: np.ndarray, validation: float, test: float) -> Splits:
    """Return the parts of a data set: ``place (count,)`` is 0 for training, 1 for validation, 2 for test."""
    found: list[Dataset | None] = []
    for i, (name, wanted) in enumerate((("train", True), ("validation", validation > 0), ("test", test > 0))):
        rows = np.flatnonzero(place == i)
        if wanted and not len(rows):
            raise ValueError(f"of {len(dataset)} samples none falls into {name}: take more, or another share of {name}")
        found.append(dataset[rows] if wanted else None)
    assert found[0] is not None
    return Splits(found[0], found[1], found[2])


def split(dataset: Dataset, validation: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """Split a data set in parts such that no sample of one is in another, be it under other names.

    The hash of a sample's group, a number u in [0, 1), decides: test if ``u < test``, validation if ``test <= u < test +
    validation``, else train. So shares are met up to chance; and as the other samples have no say, no sample in the test of
    one data set is in the training part of a larger one, or of one with another seed of its samples.

    Args:
        dataset: with ``groups``, or else equal inputs are a group.
        validation, test: shares, below 1 together; 0 for no such part.
        seed: of another division.

    Returns:
        ``Splits``, without ``ood``.

    Raises:
        TypeError, ValueError: an argument is wrong, or a part is empty.

    Example:
        >>> from ctsa.datasets import split, sudoku
        >>> train, validation, test, ood = split(sudoku(count=50), validation=0.0, test=0.3)
        >>> len(train) + len(test), validation, set(train.groups) & set(test.groups)
        (50, None, set())
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a ctsa.datasets.Dataset, got {type(dataset).__name__}")
    validation, test = shares(validation, test)
    groups = dataset.groups
    if groups is None:
        rows = np.ascontiguousarray(dataset.inputs.reshape(len(dataset), -1)) + 0  # no -0.0
        groups = hashed(rows.view(np.uint64))
    salt = mixed(np.array([checks.seed(seed) % 2**64], np.uint64))
    u = mixed(groups ^ salt) / 2.0**64
    return parts(dataset, np.where(u < test, 2, np.where(u < test + validation, 1, 0)), validation, test)
