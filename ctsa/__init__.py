"""Continuous-time self-attention: attention as a vector field on the sphere, integrated and analysed.

Fields come from a face: ``from ctsa.torch import SelfAttention`` or ``from ctsa.jax import SelfAttention``. Importing
``ctsa`` itself loads neither framework.
"""

from . import pretrained as pretrained, theory as theory
from ._results import Trajectory as Trajectory
from .basins import Basins as Basins, BasinsError as BasinsError, basins as basins
from .bifurcations import SpecialPoint as SpecialPoint
from .bounds import (
    JacobianNorms as JacobianNorms,
    jacobian_norms as jacobian_norms,
    lipschitz_bound as lipschitz_bound,
)
from .branches import Branch as Branch
from .classify import (
    Classification as Classification,
    classification as classification,
    classify as classify,
)
from .compare import compare as compare
from .comparison import Comparison as Comparison
from .continuation import continue_equilibrium as continue_equilibrium, switch_branch as switch_branch
from .covariant import (
    CovariantVectors as CovariantVectors,
    covariant_vectors as covariant_vectors,
    finite_time_exponents as finite_time_exponents,
    gali as gali,
)
from .diagrams import Diagram as Diagram, bifurcation_diagram as bifurcation_diagram
from .energies import EnergyReport as EnergyReport, energy_report as energy_report
from .equilibria import (
    Equilibria as Equilibria,
    Equilibrium as Equilibrium,
    find_equilibria as find_equilibria,
)
from .flow import IntegrationError as IntegrationError, integrate as integrate
from .geometry import Euclidean as Euclidean, Sphere as Sphere, random_tokens as random_tokens
from .io import load as load
from .iterate import iterate as iterate
from .jacobian import (
    Leading as Leading,
    divergence as divergence,
    eigenvalues as eigenvalues,
    jacobian as jacobian,
    jacobian_operator as jacobian_operator,
    leading as leading,
    numerical_abscissa as numerical_abscissa,
    spectral_norm as spectral_norm,
)
from .layers import EulerLayer as EulerLayer, PostNormLayer as PostNormLayer
from .limit_cycles import (
    LimitCycle as LimitCycle,
    LimitCycleError as LimitCycleError,
    find_limit_cycle as find_limit_cycle,
)
from .lyapunov import (
    LyapunovError as LyapunovError,
    LyapunovSpectrum as LyapunovSpectrum,
    lyapunov_spectrum as lyapunov_spectrum,
)
from .monitors import (
    MonitorRecord as MonitorRecord,
    complex_share as complex_share,
    contribution_index as contribution_index,
    monitor as monitor,
    pseudo_energy as pseudo_energy,
)
from .observables import (
    cluster_count as cluster_count,
    clusters as clusters,
    effective_rank as effective_rank,
    energy as energy,
    entropy as entropy,
    gram as gram,
    order_parameter as order_parameter,
)
from .projections import read_projections as read_projections
from .recovery import (
    EffectiveStep as EffectiveStep,
    EulerForm as EulerForm,
    as_euler as as_euler,
    effective_step as effective_step,
)
from .recurrent import AKOrN as AKOrN, ItrSA as ItrSA, readout_norm as readout_norm
from .regulariser import spectral_regulariser as spectral_regulariser
from .runge_kutta import RungeKuttaLayer as RungeKuttaLayer
from .variational import pushforward as pushforward
from .wrap import WrappedLayer as WrappedLayer

__version__ = "0.1.0"
