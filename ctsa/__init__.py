"""Continuous-time self-attention: attention as a vector field on the sphere, integrated and analysed.

Fields come from a face: ``from ctsa.torch import SelfAttention`` or ``from ctsa.jax import SelfAttention``. Importing
``ctsa`` itself loads neither framework, and no matplotlib: ``ctsa.plot`` comes when first used.
"""

from typing import TYPE_CHECKING

from . import (
    datasets as datasets,
    models as models,
    pretrained as pretrained,
    regularise as regularise,
    theory as theory,
)
from .clustering import (
    Clustering as Clustering,
    cluster_count as cluster_count,
    clusters as clusters,
    find_clusters as find_clusters,
)
from .comparison import (
    BlockForm as BlockForm,
    Comparison as Comparison,
    EffectiveStep as EffectiveStep,
    EulerForm as EulerForm,
    as_euler as as_euler,
    compare as compare,
    effective_step as effective_step,
    read_block as read_block,
)
from .continuation import (
    Branch as Branch,
    Diagram as Diagram,
    SpecialPoint as SpecialPoint,
    bifurcation_diagram as bifurcation_diagram,
    continue_equilibrium as continue_equilibrium,
    switch_branch as switch_branch,
)
from .derivatives import pushforward as pushforward
from .diagnosis import Diagnosis as Diagnosis, diagnose as diagnose
from .ensembles import Basins as Basins, BasinsError as BasinsError, basins as basins
from .equilibria import (
    Classification as Classification,
    Equilibria as Equilibria,
    Equilibrium as Equilibrium,
    LimitCycle as LimitCycle,
    LimitCycleError as LimitCycleError,
    classification as classification,
    classify as classify,
    find_equilibria as find_equilibria,
    find_limit_cycle as find_limit_cycle,
)
from .fixed_points import (
    Cycles as Cycles,
    FixedPoints as FixedPoints,
    find_cycles as find_cycles,
    find_fixed_points as find_fixed_points,
)
from .flows import IntegrationError as IntegrationError, Solver as Solver, integrate as integrate
from .geometry import (
    Euclidean as Euclidean,
    Geometry as Geometry,
    Sphere as Sphere,
    random_tokens as random_tokens,
)
from .layers import (
    AKOrN as AKOrN,
    EulerLayer as EulerLayer,
    ItrSA as ItrSA,
    Loop as Loop,
    MapReport as MapReport,
    PostNormLayer as PostNormLayer,
    RungeKuttaLayer as RungeKuttaLayer,
    WrappedLayer as WrappedLayer,
    check_map as check_map,
    iterate as iterate,
    read_projections as read_projections,
    readout_norm as readout_norm,
)
from .monitors import (
    EnergyReport as EnergyReport,
    JacobianNorms as JacobianNorms,
    MonitorRecord as MonitorRecord,
    Plateaus as Plateaus,
    complex_share as complex_share,
    contribution_index as contribution_index,
    energy_report as energy_report,
    jacobian_norms as jacobian_norms,
    lipschitz_bound as lipschitz_bound,
    monitor as monitor,
    plateaus as plateaus,
    pseudo_energy as pseudo_energy,
)
from .observables import (
    effective_rank as effective_rank,
    energy as energy,
    entropy as entropy,
    gram as gram,
    order_parameter as order_parameter,
)
from .regularise.weights import spectral_regulariser as spectral_regulariser
from .results import Trajectory as Trajectory, load as load
from .tangent import (
    CovariantVectors as CovariantVectors,
    JacobianSpectrum as JacobianSpectrum,
    Leading as Leading,
    LyapunovError as LyapunovError,
    LyapunovSpectrum as LyapunovSpectrum,
    covariant_vectors as covariant_vectors,
    divergence as divergence,
    eigenvalues as eigenvalues,
    exponents as exponents,
    finite_time_exponents as finite_time_exponents,
    gali as gali,
    jacobian as jacobian,
    jacobian_operator as jacobian_operator,
    jacobian_spectrum as jacobian_spectrum,
    largest_finite_time as largest_finite_time,
    leading as leading,
    lyapunov_spectrum as lyapunov_spectrum,
    mean_exponent as mean_exponent,
    numerical_abscissa as numerical_abscissa,
    spectral_norm as spectral_norm,
)

if TYPE_CHECKING:
    from . import plot as plot, runs as runs, sweeps as sweeps, training as training
    from .runs.estimating import Estimate as Estimate, estimate as estimate
    from .sweeps import sweep as sweep
    from .training import train as train
else:
    # What needs matplotlib, pydantic, Zarr or Dask comes when it is asked for.
    _LATER = dict.fromkeys(("plot", "runs", "sweeps", "training")) | {
        "train": "training", "sweep": "sweeps", "estimate": "runs.estimating", "Estimate": "runs.estimating"
    }  # fmt: skip

    def __getattr__(name: str):
        if name in _LATER:
            from importlib import import_module

            home = _LATER[name]
            return import_module(f"ctsa.{name}") if home is None else getattr(import_module(f"ctsa.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_LATER})


__version__ = "0.1.0"
