"""Regularisers for training recurrent layers, each named after what it measures: one number a sample, on the graph.

They take a layer of ours, a wrapped one, or a bare module or function with ``geometry=``; states ``(..., n, d)`` give
``(...)``. Add the mean, times a weight, to the loss. ``docs/training-regularisers.md`` compares them.
"""

from .jacobians import rms_gain as rms_gain, spectral_norm as spectral_norm, spectral_radius as spectral_radius
from .loops import sample_loops as sample_loops, unroll as unroll
from .states import residual as residual, restart as restart, scale as scale
from .tangents import exponent as exponent
from .weights import (
    orthogonality as orthogonality,
    spectral_regulariser as spectral_regulariser,
    symmetry as symmetry,
)
