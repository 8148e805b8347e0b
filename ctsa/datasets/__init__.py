"""Tasks to train looped attention on: Sudoku of any size, addition, handwritten digits; parts without leaks. NumPy only."""

from .boards import solutions as solutions
from .dataset import Dataset as Dataset, Splits as Splits
from .files import read_rrn as read_rrn, read_satnet as read_satnet
from .images import digits as digits, digits_task as digits_task
from .presets import task as task
from .puzzles import sudoku as sudoku, sudoku_task as sudoku_task
from .splitting import split as split
from .sums import addition as addition, addition_task as addition_task
