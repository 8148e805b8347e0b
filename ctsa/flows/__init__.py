"""Integration in time, and one shape for flows, layers and sequences of layers."""

from .integration import integrate as integrate
from .outcome import IntegrationError as IntegrationError
from .solver import Solver as Solver
from .systems import System as System, system_of as system_of
