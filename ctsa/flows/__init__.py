"""Integration in time, and one shape for flows, layers and sequences of layers."""

from .integration import IntegrationError as IntegrationError, integrate as integrate
from .solver import Solver as Solver
from .systems import System as System, system_of as system_of
