"""Equilibria followed through a parameter: branches, bifurcations, diagrams."""

from .branches import Branch as Branch
from .diagrams import Diagram as Diagram, bifurcation_diagram as bifurcation_diagram
from .follow import continue_equilibrium as continue_equilibrium, switch_branch as switch_branch
from .special import SpecialPoint as SpecialPoint
