"""Sudoku boards of any size: which cells constrain each other, and a search for solutions on bit masks."""

from typing import Any

import numpy as np

from ctsa import checks

from ._arguments import pair

_NODES = 1_000_000  # of a search that a user asks for: some ten seconds
_LARGEST = 16  # digits


class Undecided(Exception):
    """Say that a search has used up what it may, and nothing is known."""


class Board:
    """A board of N x N cells in boxes of r rows and c columns, ``N = r c``, cells counted along the rows.

    Attributes:
        boxes: ``(r, c)``.
        size: N, the number of digits.
        units: index of the row, the column and the box of each cell, integers ``(3, N^2)``.
        masks: booleans ``(3, N^2, N^2)``: which cells share a row, a column, a box; each shares with itself.
        spent: cells that all searches together have filled.
    """

    def __init__(self, boxes: Any):
        r, c = pair("boxes", boxes, low=2)
        if r * c > _LARGEST:
            raise ValueError(f"boxes must have at most {_LARGEST} cells, got {r} x {c}")
        self.boxes, self.size = (r, c), r * c
        row, column = np.divmod(np.arange(self.size**2), self.size)
        self.units = np.stack([row, column, row // r * r + column // c])
        self.masks = self.units[:, :, None] == self.units[:, None, :]
        self._row, self._column, self._box = self.units.tolist()
        self._full, self.spent = (1 << self.size) - 1, 0
        self._peers = [np.flatnonzero(m).tolist() for m in self.masks.any(0) & ~np.eye(self.size**2, dtype=bool)]

    def search(self, board: list[int], limit: int, nodes: int, order: Any = None) -> list[list[int]]:
        """Return up to ``limit`` solutions: always try the cell that has the fewest digits left.

        Args:
            board: digits 1 ... N, 0 where unknown.
            limit: how many solutions end the search.
            nodes: how many cells may be filled.
            order: in which order a cell tries the digits 0 ... N - 1, ``(N^2, N)``; None for theirs.

        Raises:
            Undecided: the search was longer.
        """
        row, column, box, full = self._row, self._column, self._box, self._full
        rows, columns, boxes = ([0] * self.size for _ in range(3))  # digits taken, a bit for each
        board, empty, found = list(board), [], []
        for i, digit in enumerate(board):
            if not digit:
                empty.append(i)
                continue
            bit = 1 << (digit - 1)
            if (rows[row[i]] | columns[column[i]] | boxes[box[i]]) & bit:
                return []
            rows[row[i]] |= bit
            columns[column[i]] |= bit
            boxes[box[i]] |= bit
        left = nodes

        def fill() -> bool:
            """Fill the rest in every way; return whether there is enough."""
            nonlocal left
            fewest, at, free = full.bit_length() + 1, -1, 0
            for k, i in enumerate(empty):
                bits = full & ~(rows[row[i]] | columns[column[i]] | boxes[box[i]])
                if bits.bit_count() < fewest:
                    fewest, at, free = bits.bit_count(), k, bits
                    if fewest <= 1:
                        break
            if at < 0:
                found.append(list(board))
                return len(found) >= limit
            left -= 1
            if left < 0:
                raise Undecided
            i = empty.pop(at)
            r, c, b = row[i], column[i], box[i]
            for digit in range(self.size) if order is None else order[i]:
                bit = 1 << digit
                if free & bit:
                    board[i] = digit + 1
                    rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit
                    if fill():
                        return True
                    rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit
            empty.insert(at, i)
            board[i] = 0
            return False

        try:
            fill()
        finally:
            self.spent += nodes - max(left, 0)
        return found

    def forced(self, board: list[int], cell: int, digit: int, nodes: int) -> bool:
        """Whether ``digit`` is the only one at an empty cell of a board that has a solution with it there."""
        taken = 1 << (digit - 1)
        for i in self._peers[cell]:
            if board[i]:
                taken |= 1 << (board[i] - 1)
        board = list(board)
        for other in range(self.size):
            if not taken >> other & 1:
                board[cell] = other + 1
                if self.search(board, 1, nodes):
                    return False
        return True

    def solves(self, solutions: np.ndarray, boards: np.ndarray) -> np.ndarray:
        """Return which solutions ``(count, N^2)`` of 0 ... N - 1 are right for boards of 0 ... N, 0 where unknown."""
        right = ((boards == 0) | (boards == solutions + 1)).all(-1)
        for unit in self.units:
            cells = unit.argsort(kind="stable")  # N cells of the first row, column or box, then of the second
            lines = np.sort(solutions[:, cells].reshape(len(solutions), self.size, self.size), axis=-1)
            right &= (lines == np.arange(self.size)).all((-2, -1))
        return right


def solutions(board: Any, boxes: Any = (3, 3), limit: int = 2) -> np.ndarray:
    """Return the solutions of a Sudoku, as many as there are up to ``limit``: one row says that there is exactly one.

    Args:
        board: digits 1 ... N, 0 where unknown, ``(N^2,)`` or ``(N, N)``.
        boxes: rows and columns of a box; N is their product.
        limit: how many to look for.

    Returns:
        Integers ``(found, N^2)`` of 0 ... N - 1, as the targets of ``sudoku``.

    Raises:
        TypeError, ValueError: an argument is wrong; or the search is too long, as on large boards with few digits.

    Example:
        >>> from ctsa.datasets import solutions
        >>> solutions([[0, 0, 4, 0], [0, 0, 1, 0], [0, 3, 0, 0], [0, 4, 0, 0]], boxes=(2, 2)).shape
        (1, 16)
    """
    place = Board(boxes)
    limit, cells = checks.integer("limit", limit, low=1), place.size**2
    a = checks.plain("board", board)
    if a is None or a.dtype.kind not in "iu":
        raise TypeError(f"board must be integers, 0 where unknown, got {board!r:.60}")
    if a.shape not in ((cells,), (place.size, place.size)):
        raise ValueError(f"board must be of shape ({cells},), for boxes={place.boxes}, got {a.shape}")
    if a.min() < 0 or a.max() > place.size:
        raise ValueError(f"board must be of digits 0 ... {place.size}, got {a.min()} ... {a.max()}")
    try:
        found = place.search(a.reshape(-1).tolist(), limit, _NODES)
    except Undecided:
        raise ValueError(f"board is not decided after {_NODES} steps: give more digits, or a smaller limit") from None
    return np.array(found, np.int64).reshape(-1, cells) - 1
