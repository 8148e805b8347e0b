"""What analyses return, and how it is kept: results, files, and the identity of a run."""

from .base import Result as Result, Trajectory as Trajectory, archive as archive, as_numpy as as_numpy
from .files import load as load
from .identity import Identity as Identity
