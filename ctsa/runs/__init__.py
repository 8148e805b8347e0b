"""Runs: a file says what to do; a folder keeps what came of it, goes on after an interrupt, and opens again."""

from .analyses import ANALYSES as ANALYSES
from .config import Config as Config, read_config as read_config
from .reading import Run as Run, open_run as open_run
from .running import RunError as RunError, run_config as run_config
from .sweeping import run_sweep as run_sweep
from .telling import answers as answers
