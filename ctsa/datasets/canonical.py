"""What is the same puzzle: boards up to the names of the digits and the symmetries of the board, as a hash."""

from itertools import permutations, product
from math import factorial

import numpy as np

_LARGEST = 10_000  # symmetries that are tried one by one
_ENTRIES = 2**24


def mixed(x: np.ndarray) -> np.ndarray:
    """Return 64-bit integers, scrambled one by one so that all are equally likely (the last steps of SplitMix64)."""
    x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashed(rows: np.ndarray) -> np.ndarray:
    """Return a hash ``(...)`` of rows of integers ``(..., n)``, the same on every machine."""
    weights = mixed(np.arange(rows.shape[-1])) | np.uint64(1)
    return mixed((rows.astype(np.uint64) * weights).sum(-1, dtype=np.uint64))


def in_order(boards: np.ndarray, size: int) -> np.ndarray:
    """Return boards ``(..., n)`` of 0 ... size, digits renamed in the order in which they appear, 0 as it is."""
    hit = boards[..., None, :] == np.arange(1, size + 1)[:, None]  # (..., size, n)
    first = np.where(hit.any(-1), hit.argmax(-1), boards.shape[-1])
    rank = first.argsort(-1, kind="stable").argsort(-1, kind="stable") + 1
    return np.take_along_axis(np.concatenate([np.zeros_like(rank[..., :1]), rank], -1), boards, -1)


def symmetries(boxes: tuple[int, int]) -> np.ndarray:
    """Return the symmetries of a board as permutations of its cells, ``(order, N^2)``.

    Bands may be exchanged, and rows within a band; likewise columns; and the board be transposed, if boxes are square.

    Raises:
        ValueError: there are too many.
    """
    r, c = boxes

    def lines(bands: int, width: int) -> np.ndarray:
        inside = list(permutations(range(width)))
        orders = product(permutations(range(bands)), product(inside, repeat=bands))
        return np.array([[band * width + i for band, rows in zip(o, each) for i in rows] for o, each in orders])

    order = factorial(c) * factorial(r) ** c * factorial(r) * factorial(c) ** r * (1 + (r == c))
    if order > _LARGEST:
        raise ValueError(f"symmetries=True is for small boards: one of boxes {boxes} has {order} of them")
    rows, columns = lines(c, r), lines(r, c)
    cells = rows[:, None, :, None] * (r * c) + columns[None, :, None, :]
    cells = cells.reshape(-1, r * c, r * c)
    every = np.concatenate([cells, cells.swapaxes(1, 2)]) if r == c else cells
    return every.reshape(len(every), -1)


def groups(boards: np.ndarray, boxes: tuple[int, int], by_symmetries: bool = False) -> np.ndarray:
    """Return a hash ``(count,)`` that boards ``(count, N^2)`` share if they differ in the names of the digits alone.

    With ``by_symmetries`` also if a symmetry of the board leads from one to the other: the least hash of all images.
    """
    size = boxes[0] * boxes[1]
    if not by_symmetries:
        return hashed(in_order(boards, size))
    every = symmetries(boxes)
    chunk = max(1, _ENTRIES // (every.size * size))
    parts = (boards[i : i + chunk][:, every] for i in range(0, len(boards), chunk))
    return mixed(np.concatenate([hashed(in_order(part, size)).min(1) for part in parts]))
