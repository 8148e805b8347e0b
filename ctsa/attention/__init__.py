"""Self-attention and its closed-form derivative, as pure functions of arrays."""

from .tangent import (
    FORMS as FORMS,
    attend_jacobian as attend_jacobian,
    attend_tangent as attend_tangent,
    dense_pays as dense_pays,
)
from .weights import (
    WEIGHTS as WEIGHTS,
    Heads as Heads,
    Weights as Weights,
    attend as attend,
    attention_weights as attention_weights,
    scores as scores,
    sinkhorn as sinkhorn,
)
