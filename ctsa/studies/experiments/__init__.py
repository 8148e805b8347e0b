"""Experiments with trained models: the second paper's, repeated, each one function of a ``Lab``.

``ctsa reproduce NAME`` runs one; ``run`` does so from Python.
"""

from .lab import Findings as Findings, Lab as Lab, Recipe as Recipe
from .names import EXPERIMENTS as EXPERIMENTS
from .registry import run as run
