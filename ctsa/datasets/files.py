"""Readers for two public files of 9 x 9 Sudoku: tensors as SATNet has them, and lines as RRN has them."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ctsa import checks

from .boards import Board
from .dataset import Dataset
from .puzzles import board_data

_CELLS, _LONGEST = 81, 1024
_LINE = re.compile(rb"([0-9.]{81}),([1-9]{81})")
_WANTED = "81 digits, a comma, 81 digits other than 0"
_HEADER = re.compile(rb"[A-Za-z_]+,[A-Za-z_]+")


def read_satnet(features: str | os.PathLike, labels: str | os.PathLike) -> Dataset:
    """Read puzzles and solutions as SATNet stores them: ``features.pt`` and ``labels.pt``.

    Each is a tensor ``(count, 9, 9, 9)``, one-hot in the last axis, all zero where a cell is blank. It is opened with
    ``weights_only=True``, so that nothing in it is run. That solutions solve is checked; that they are unique is not
    (``solutions`` does).

    Args:
        features: path of the puzzles.
        labels: path of the solutions.

    Returns:
        ``Dataset``, as of ``sudoku``.

    Raises:
        ImportError: PyTorch is not installed.
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged, holds something else, or a solution is wrong; names the file and the puzzle.

    References:
        Wang et al., arXiv 1905.12149 (SATNet), https://github.com/locuslab/SATNet.
    """
    paths = _file("features", features), _file("labels", labels)
    puzzles, answers = _tensor(paths[0]), _tensor(paths[1])
    if puzzles.shape != answers.shape:
        raise ValueError(f"{paths[1]} has {len(answers)} boards, but {paths[0]} has {len(puzzles)}")
    full = answers.any(-1).reshape(-1, _CELLS).all(1)
    if not full.all():
        raise ValueError(f"{paths[1]}: board {int(full.argmin())} has blank cells: these are no solutions")
    inputs = np.where(puzzles.any(-1), puzzles.argmax(-1) + 1, 0).reshape(-1, _CELLS)
    targets = answers.argmax(-1).reshape(-1, _CELLS)
    return _checked(inputs, targets, lambda i: f"{paths[1]}: board {i}")


def read_rrn(path: str | os.PathLike, count: int | None = None) -> Dataset:
    """Read puzzles and solutions as the recurrent relational networks store them: a line of ``puzzle,solution`` each.

    Both are 81 digits, 0 (or a dot) where a cell is blank. The first line may be a header. That solutions solve is checked;
    that they are unique is not (``solutions`` does).

    Args:
        path: of a file such as ``train.csv``.
        count: how many puzzles to read; None for all.

    Returns:
        ``Dataset``, as of ``sudoku``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is something else, or its solution is wrong; names the file and the line.

    Example:
        >>> import pathlib, tempfile
        >>> from ctsa.datasets import read_rrn
        >>> solution = "".join("123456789"[(i + k) % 9 :] + "123456789"[: (i + k) % 9] for k in range(3) for i in (0, 3, 6))
        >>> file = pathlib.Path(tempfile.mkdtemp(), "test.csv")
        >>> written = file.write_text(f"0{solution[1:]},{solution}")
        >>> read_rrn(file)
        Dataset('sudoku-9x9', 1 samples of 81 tokens, vocabulary 10, classes 9)

    References:
        Palm, Paquet and Winther, arXiv 1711.08028.
    """
    path = _file("path", path)
    most = None if count is None else checks.integer("count", count, low=1)
    rows: list[bytes] = []
    at: list[int] = []
    with open(path, "rb") as stream:
        number = 0
        while (line := stream.readline(_LONGEST)) and (most is None or len(rows) < most):
            number += 1
            text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip().replace(b'"', b"")
            match = _LINE.fullmatch(text)
            if match:
                rows.append(match[1].replace(b".", b"0") + match[2])
                at.append(number)
            elif text and not (number == 1 and _HEADER.fullmatch(text)):
                raise ValueError(f"{path}, line {number}: must be {_WANTED}, got {text.decode('latin-1')!r:.60}")
    if not rows:
        raise ValueError(f"{path} has no puzzle: its lines must be {_WANTED}")
    boards = (np.frombuffer(b"".join(rows), np.uint8) - ord("0")).astype(np.int64).reshape(-1, 2, _CELLS)
    return _checked(boards[:, 0], boards[:, 1] - 1, lambda i: f"{path}, line {at[i]}")


def _checked(inputs: np.ndarray, targets: np.ndarray, where: Any) -> Dataset:
    board = Board((3, 3))
    right = board.solves(targets, inputs)
    if not right.all():
        i = int(right.argmin())
        clue = (inputs[i] != 0) & (inputs[i] != targets[i] + 1)
        why = f"cell {clue.argmax()} is not as given" if clue.any() else "a row, column or box has a digit twice"
        raise ValueError(f"{where(i)}: the solution does not solve the puzzle: {why}")
    return board_data(board, inputs, targets)


def _tensor(path: Path) -> np.ndarray:
    """Return a one-hot tensor as booleans ``(count, 9, 9, 9)``."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("the files of SATNet need torch: pip install 'ctsa[torch]'") from error
    try:
        a = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: refused: it is damaged, or holds more than tensors, and opening such a file could run code "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(a, torch.Tensor) or a.layout != torch.strided or a.is_quantized or a.device.type != "cpu":
        raise ValueError(f"{path} must be a tensor (count, 9, 9, 9), got {type(a).__name__}")
    if a.ndim != 4 or tuple(a.shape[1:]) != (9, 9, 9) or not len(a):
        raise ValueError(f"{path} must be a tensor (count, 9, 9, 9), got shape {tuple(a.shape)}")
    checks.room(f"{path} with {len(a)} boards", a.numel(), 8)
    values = a.detach()
    hot = values == 1
    wrong = ~(hot | (values == 0)).all(-1) | (hot.sum(-1) > 1)
    if wrong.any():
        i = int(wrong.flatten(1).any(1).int().argmax())
        raise ValueError(f"{path}: board {i} must be one-hot, zeros and at most one 1 in the last axis")
    return hot.numpy()


def _file(name: str, path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a string or a pathlib.Path, got {type(path).__name__}")
    path = Path(path)
    if not path.is_file():
        kind = f"{name} is a folder: name a file in it" if path.is_dir() else f"{name}: no such file"
        raise FileNotFoundError(f"{kind}: {path}")
    return path
