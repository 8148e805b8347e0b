"""Equilibria of a field: finding them all, their classes and stability, limit cycles."""

from . import _keep as _keep  # the kind of file that Equilibria are saved as
from .classes import Classification as Classification, classification as classification, classify as classify
from .find import Equilibria as Equilibria, Equilibrium as Equilibrium, find_equilibria as find_equilibria
from .limit_cycles import (
    LimitCycle as LimitCycle,
    LimitCycleError as LimitCycleError,
    find_limit_cycle as find_limit_cycle,
)
