"""Vector fields on the sphere, and their algebra: the mathematics of both faces, written once.

A field is a callable ``field(t, x) -> dx/dt`` with ``x`` of shape ``(..., n, d)``. The classes here hold
formulas only; ``ctsa.torch`` makes ``nn.Module`` classes of them and ``ctsa.jax`` ``eqx.Module`` classes, alike in
constructors and attributes.

Each field gives a *drift* in the ambient space; velocity is its tangent projection, taken once for a whole sum, because
projections are linear: ``SelfAttention(...) + Rotation(omega) + Injection(c)``, ``2.0 * field``.
"""

from .algebra import Rescaled as Rescaled, Scaled as Scaled, Sum as Sum
from .base import Field as Field
from .conversion import convert as convert
from .drifts import Injection as Injection, Oja as Oja, Perceptron as Perceptron, Rotation as Rotation
from .energy_attention import EnergyAttention as EnergyAttention
from .mean_field import MeanField as MeanField
from .multi_head import MultiHeadAttention as MultiHeadAttention
from .noise import Noise as Noise
from .self_attention import SelfAttention as SelfAttention
from .symmetric_attention import SymmetricAttention as SymmetricAttention
