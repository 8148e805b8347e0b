"""Sudoku puzzles with one solution: full boards at random, from which digits are taken while the solution is unique."""

from math import comb
from typing import Any

import numpy as np

from ctsa import checks

from ._arguments import apart, span
from .boards import Board, Undecided
from .canonical import groups, symmetries as symmetries_of
from .dataset import Dataset, Splits
from .splitting import split

# The fewest clues that fix a solution: McGuire et al. for 9 x 9, by enumeration for the small ones. On any board two digits
# that are nowhere given could be exchanged.
_FEWEST = {(2, 2): 4, (2, 3): 8, (3, 2): 8, (3, 3): 17}
# The full boards of 4 x 4 but for the names of the digits, from which puzzles that differ are counted.
_FULL = {(2, 2): 12}
_PATIENCE = 40_000, 1_000_000  # in vain, one after the other: cells of full boards, steps of all searches


def sudoku(
    boxes: Any = (2, 2), count: int = 6000, clues: Any = (6, 10), seed: int = 0, *, symmetries: bool = False
) -> Dataset:
    """Make Sudoku puzzles, each with exactly one solution.

    A full board is filled at random. Digits are taken from it in random order, each if the solution stays the only one,
    until as many are left as were drawn from ``clues``; a board that does not come so far is kept if the number left is in
    the range. No two puzzles differ in the names of the digits alone. The first puzzles of a larger ``count`` are those of
    a smaller one.

    A puzzle of 4 x 4 takes about 0.06 ms, of 6 x 6 0.2 ms, of 9 x 9 1 to 2 ms. Very few clues take longer: 22 or 23 on
    9 x 9 take 80 ms.

    Args:
        boxes: rows and columns of a box, such as (2, 2), (2, 3), (3, 3), (2, 4); the board has ``N x N`` cells, N their
            product, at most 16.
        count: how many puzzles.
        clues: least and largest number of digits given.
        seed: of the puzzles. The same seed gives the same puzzles on every machine.
        symmetries: let ``groups`` also join puzzles that a symmetry of the board leads to each other; 4 x 4 and 6 x 6 only
            (3456 symmetries: 3 ms a puzzle).

    Returns:
        ``Dataset``: inputs ``(count, N^2)`` of 0 ... N, cells along the rows, 0 where blank; targets of 0 ... N - 1; masks
        for row, column and box; the blanks are scored.

    Raises:
        ValueError: the range of clues holds no puzzle, or so many puzzles were not found; says how many were.
        TypeError: an argument is wrong.

    Example:
        >>> from ctsa.datasets import sudoku
        >>> puzzles = sudoku(count=5, clues=(6, 8))
        >>> puzzles
        Dataset('sudoku-4x4', 5 samples of 16 tokens, vocabulary 5, classes 4)
        >>> puzzles.masks.shape, bool((puzzles.given.sum(1) <= 8).all())
        ((3, 16, 16), True)

    References:
        McGuire, Tugemann and Civario, arXiv 1201.0749 (17 clues).
    """
    return _made(boxes, count, clues, [checks.seed(seed)], symmetries, "count", "clues")


def sudoku_task(
    boxes: Any = (2, 2),
    count: int = 6000,
    clues: Any = (6, 10),
    ood_clues: Any = (4, 5),
    ood_count: int = 1000,
    seed: int = 0,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    symmetries: bool = False,
) -> Splits:
    """Make Sudoku puzzles to train and to test with, and harder ones with fewer clues.

    Which part a puzzle belongs to is decided by the puzzle (``split``), so that no puzzle of ``test`` is one of ``train``
    with other digits, not even one of another seed. Puzzles of ``ood`` differ by their numbers of clues. Solutions may be
    shared: but for the names of the digits there are 12 full boards of 4 x 4 and 39168 of 6 x 6; those of 9 x 9 are so
    many that none comes twice.

    Args:
        boxes: rows and columns of a box.
        count: puzzles in ``train``, ``validation`` and ``test`` together.
        clues: least and largest number of digits given in these.
        ood_clues: the same for ``ood``, apart from ``clues``; None for no such part.
        ood_count: puzzles in ``ood``.
        seed: of the puzzles.
        validation, test: shares of ``count``, met up to chance.
        symmetries: never part puzzles that a symmetry of the board leads to each other, see ``sudoku``.

    Returns:
        ``Splits``.

    Raises:
        TypeError, ValueError: as ``sudoku``; the ranges of clues meet; a part is empty.

    Example:
        >>> from ctsa.datasets import sudoku_task
        >>> task = sudoku_task(count=100, ood_count=10)
        >>> int(task.train.given.sum(1).min()) > int(task.ood.given.sum(1).max())
        True
    """
    seed = checks.seed(seed)
    if ood_clues is not None:
        cells = Board(boxes).size ** 2
        ranges = (span("clues", clues, 0, cells, "the cells"), span("ood_clues", ood_clues, 0, cells, "the cells"))
        apart("ood_clues", ranges[1], "clues", ranges[0])
    every = split(_made(boxes, count, clues, [seed], symmetries, "count", "clues"), validation, test)
    if ood_clues is None:
        return every
    return every._replace(ood=_made(boxes, ood_count, ood_clues, [seed, 1], symmetries, "ood_count", "ood_clues"))


def board_data(board: Board, inputs: np.ndarray, targets: np.ndarray, symmetries: bool = False) -> Dataset:
    """Return puzzles ``(count, N^2)`` and their solutions as a data set."""
    return Dataset(
        name=f"sudoku-{board.size}x{board.size}",
        inputs=inputs,
        targets=targets,
        classes=board.size,
        vocabulary=board.size + 1,
        masks=board.masks,
        scored=inputs == 0,
        interchangeable=True,
        groups=groups(inputs, board.boxes, symmetries),
    )


def _made(boxes: Any, count: Any, clues: Any, seeds: list[int], symmetries: Any, counted: str, named: str) -> Dataset:
    board = Board(boxes)
    cells, count = board.size**2, checks.integer(counted, count, low=1)
    checks.room(f"{counted}={count} puzzles", 4.0 * count * cells)
    fewest = _FEWEST.get(board.boxes, board.size - 1)
    clues = span(named, clues, fewest, cells, f"what boxes={board.boxes} allow")
    if checks.flag("symmetries", symmetries):
        symmetries_of(board.boxes)  # refused before the work is done
    most = _FULL.get(board.boxes, count) * sum(comb(cells, k) for k in range(clues[0], clues[1] + 1))
    if count > most:
        raise ValueError(f"{counted}={count} puzzles with {named}={clues}: there are not even {most + 1}, take fewer")
    rng = np.random.default_rng(seeds)
    found: list[list[int]] = []
    full_boards: list[list[int]] = []
    seen, tries, vain, start = set(), 0, 0, 0
    while len(found) < count:
        tries, vain = tries + 1, vain + 1
        full, puzzle = _dug(board, rng.random((cells, board.size + 1)), rng.random(), clues)
        names: dict[int, int] = {0: 0}
        same = bytes(names.setdefault(digit, len(names)) for digit in puzzle)
        if full and clues[0] <= cells - puzzle.count(0) <= clues[1] and same not in seen:
            seen.add(same)
            found.append(puzzle)
            full_boards.append(full)
            vain, start = 0, board.spent
        if vain * cells >= _PATIENCE[0] or board.spent - start >= _PATIENCE[1]:
            raise ValueError(
                f"{counted}={count} puzzles with {named}={clues} were not found, only {len(found)} from {tries} full "
                f"boards, none from the last {vain}: take fewer, or a wider range of clues"
            )
    return board_data(board, np.array(found), np.array(full_boards) - 1, bool(symmetries))


def _dug(board: Board, drawn: np.ndarray, share: float, clues: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Return a full board and a puzzle of it, from random numbers ``(N^2, N + 1)``; empty lists if it takes too long."""
    cells, (low, high) = board.size**2, clues
    try:
        (full,) = board.search([0] * cells, 1, 20 * cells, drawn[:, 1:].argsort(1).tolist())
    except Undecided:
        return [], []
    puzzle, left, wanted = list(full), cells, low + int(share * (high - low + 1))
    for cell in drawn[:, 0].argsort().tolist():
        if left <= wanted:
            break
        digit, puzzle[cell] = puzzle[cell], 0
        try:
            unique = board.forced(puzzle, cell, digit, 10 * cells)
        except Undecided:
            unique = False
        if unique:
            left -= 1
        else:
            puzzle[cell] = digit
    return full, puzzle
