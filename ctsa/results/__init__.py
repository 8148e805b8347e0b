"""What analyses return, and how it is kept: results, files, the identity of a run, and runs that can be continued."""

from .base import Result as Result, Trajectory as Trajectory, archive as archive, as_numpy as as_numpy
from .checkpoints import Checkpoint as Checkpoint, RunState as RunState
from .files import load as load
from .identity import Identity as Identity
from .merges import Merges as Merges
