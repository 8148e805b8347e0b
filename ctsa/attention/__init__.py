"""Self-attention and its closed-form derivative, as pure functions of arrays."""

from .calls import (
    HOW as HOW,
    attend as attend,
    attend_compressed as attend_compressed,
    attend_jacobian as attend_jacobian,
    attend_tangent as attend_tangent,
    dense_pays as dense_pays,
)
from .heads import Heads as Heads, attention_weights as attention_weights, scores as scores
from .positions import Positions as Positions
from .weights import WEIGHTS as WEIGHTS, Weights as Weights, sinkhorn as sinkhorn
