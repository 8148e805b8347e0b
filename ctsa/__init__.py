"""Continuous-time self-attention: attention as a vector field on the sphere, integrated and analysed.

Fields come from a face: ``from ctsa.torch import SelfAttention`` or ``from ctsa.jax import SelfAttention``. Importing
``ctsa`` itself loads neither framework.
"""

from . import theory as theory
from ._results import Trajectory as Trajectory
from .covariant import (
    CovariantVectors as CovariantVectors,
    covariant_vectors as covariant_vectors,
    finite_time_exponents as finite_time_exponents,
    gali as gali,
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
from .lyapunov import (
    LyapunovError as LyapunovError,
    LyapunovSpectrum as LyapunovSpectrum,
    lyapunov_spectrum as lyapunov_spectrum,
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
from .recurrent import AKOrN as AKOrN, ItrSA as ItrSA, readout_norm as readout_norm
from .runge_kutta import RungeKuttaLayer as RungeKuttaLayer
from .variational import pushforward as pushforward
from .wrap import WrappedLayer as WrappedLayer

__version__ = "0.1.0"
