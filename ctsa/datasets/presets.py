"""Tasks by name."""

import inspect
from collections.abc import Callable
from typing import Any

from ctsa import checks

from .dataset import Splits
from .images import digits_task
from .puzzles import sudoku_task
from .sums import addition_task

TASKS: dict[str, tuple[Callable[..., Splits], dict[str, Any]]] = {
    "sudoku-4x4": (sudoku_task, dict(boxes=(2, 2), count=6000, clues=(6, 10), ood_clues=(4, 5), ood_count=1000)),
    "sudoku-6x6": (sudoku_task, dict(boxes=(2, 3), count=4000, clues=(14, 22), ood_clues=(12, 13), ood_count=500)),
    "sudoku-9x9": (sudoku_task, dict(boxes=(3, 3), count=2000, clues=(36, 50), ood_clues=(28, 34), ood_count=500)),
    "addition-4": (addition_task, dict(digits=4)),
    "digits": (digits_task, {}),
}


def task(name: str, seed: int = 0, **changes: Any) -> Splits:
    """Return the parts of a task by its name.

    =============  ==========================================================================================  ==========
    name           what                                                                                        made in
    =============  ==========================================================================================  ==========
    "sudoku-4x4"   6000 puzzles of 6 ... 10 clues; ``ood``: 1000 of 4 or 5 (``sudoku_task``)                   0.5 s
    "sudoku-6x6"   4000 of 14 ... 22; 500 of 12 or 13                                                          1 s
    "sudoku-9x9"   2000 of 36 ... 50; 500 of 28 ... 34                                                         3 s
    "addition-4"   10000 sums of four digits with up to 2 carries; 1000 with 3 or 4 (``addition_task``)        0.1 s
    "digits"       1797 images of 16 patches, a class each; no ``ood`` (``digits_task``)                       0.1 s
    =============  ==========================================================================================  ==========

    Args:
        name: of the task.
        seed: of its samples, or of the division of the digits.
        changes: other arguments of the function in brackets, such as ``count=500``.

    Returns:
        ``Splits``: train, validation, test, ood.

    Raises:
        TypeError, ValueError: there is no such task, or no such argument, or one is wrong.
        ImportError: "digits" without scikit-learn.

    Example:
        >>> from ctsa.datasets import task
        >>> task("addition-4", count=200).ood
        Dataset('addition-4', 1000 samples of 15 tokens, vocabulary 13, classes 12)
    """
    checks.choice("name", name, TASKS)
    make, arguments = TASKS[name]
    known = [key for key in inspect.signature(make).parameters if key != "seed"]
    for key in changes:
        if key not in known:
            raise TypeError(f"{key} is not an argument of the task {name!r}, which has {', '.join(known)}")
    return make(seed=seed, **(arguments | changes))
