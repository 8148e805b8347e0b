"""What goes on inside a recurrent layer: energies, Jacobians, their norms and bounds."""

from .bounds import JacobianNorms as JacobianNorms, jacobian_norms as jacobian_norms, lipschitz_bound as lipschitz_bound
from .energies import EnergyReport as EnergyReport, energy_report as energy_report
from .record import (
    MonitorRecord as MonitorRecord,
    complex_share as complex_share,
    contribution_index as contribution_index,
    monitor as monitor,
    pseudo_energy as pseudo_energy,
)
from .staircase import Plateaus as Plateaus, plateaus as plateaus
