"""Integration in time, and one shape for flows, layers and sequences of layers."""

from .integration import IntegrationError as IntegrationError, integrate as integrate
from .systems import System as System, system_of as system_of
