"""Closed forms that hold exactly: features for users, oracles for tests. NumPy in, NumPy out."""

from .clustering import clustering_spectrum as clustering_spectrum, within_cluster_spectrum as within_cluster_spectrum
from .counting import census as census, census_table as census_table, hemisphere_probability as hemisphere_probability
from .flows import (
    equiangular_rate as equiangular_rate,
    equiangular_time as equiangular_time,
    oja_flow as oja_flow,
)
from .spectra import (
    OjaEquilibrium as OjaEquilibrium,
    bipartite_spectrum as bipartite_spectrum,
    consensus_multipliers as consensus_multipliers,
    consensus_period as consensus_period,
    consensus_spectrum as consensus_spectrum,
    oja_equilibria as oja_equilibria,
)
from .thresholds import (
    balanced_threshold as balanced_threshold,
    bipartite_threshold as bipartite_threshold,
    bipartite_windows as bipartite_windows,
)
from .uniform import (
    critical_noise as critical_noise,
    most_unstable_mode as most_unstable_mode,
    uniform_growth_rate as uniform_growth_rate,
)
