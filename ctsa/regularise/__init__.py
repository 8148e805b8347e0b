"""Regularisers for training recurrent layers, each named after what it measures; one number a sample.

All are differentiable in both frameworks, take any layer or module, and go through ``jax.jit``, ``vmap`` and ``grad``. Add
the mean over a batch to the loss. ``docs/regularise.md`` compares them.
"""

from .growth import (
    exponent as exponent,
    rms_gain as rms_gain,
    spectral_norm as spectral_norm,
    spectral_radius as spectral_radius,
)
from .loops import sample_loops as sample_loops, unroll as unroll
from .states import residual as residual, restart as restart, scale as scale
from .weights import spectral_regulariser as spectral_regulariser
