"""Parameters of which ``make test`` takes a part, and ``make test-thorough`` the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def sample(values: Iterable[Any], kept: int | Callable[..., bool]) -> list[Any]:
    """Return values for ``pytest.mark.parametrize``, marked thorough but for some.

    Args:
        values: the values, tuples where there are several names.
        kept: how many are not marked, spread evenly; or which, a function of them.
    """
    values = list(values)
    few = {round(i * (len(values) - 1) / max(kept - 1, 1)) for i in range(kept)} if isinstance(kept, int) else None
    found = []
    for i, value in enumerate(values):
        row = value if isinstance(value, tuple) else (value,)
        stays = kept(*row) if callable(kept) else few is None or i in few
        found.append(pytest.param(*row, marks=() if stays else pytest.mark.thorough))
    return found


def mainly(name: str) -> pytest.MarkDecorator:
    """Return a mark for tests that take ``face``: ``make test`` runs them on one, ``make test-thorough`` on the other.

    For what both frameworks have in common, where another test compares the two.
    """
    return pytest.mark.parametrize("face", sample(["torch", "jax"], lambda each: each == name), indirect=True)
