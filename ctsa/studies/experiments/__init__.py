"""Experiments with trained models: the second paper's, repeated, each one function of a ``Lab``.

``ctsa reproduce NAME`` runs one; ``run`` does so from Python.
"""

from ctsa.studies.findings import Findings as Findings
from ctsa.studies.names import EXPERIMENTS as EXPERIMENTS

from .lab import Lab as Lab, Recipe as Recipe
from .registry import run as run
