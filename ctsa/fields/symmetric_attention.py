"""Self-attention whose values are tied to its scores, so that it descends an energy where rows agree."""

from typing import Any

from ctsa import checks
from ctsa.attention import Heads
from ctsa.parts import constant, parameter, static

from .self_attention import SelfAttention

Array = Any


class SymmetricAttention(SelfAttention):
    """Self-attention with the value tied to the scores: ``V_h = (A_h + A_h^T) / 2`` with ``A_h = Q_h^T K_h``.

    dx_i/dt = P_i sum_heads sum_j a_ij V_h x_j. For one head with ``A = A^T`` and unnormalised weights it ascends
    ``sum_ij exp(beta <x_i, A x_j>)``; training under this constraint is the hard form of ``ctsa.regularise.symmetry``.

    Args:
        query, key, beta, weights, mask, key_field, geometry, how, masses: as for ``SelfAttention``.

    Raises:
        ValueError, TypeError: as for ``SelfAttention``.

    Example:
        >>> import numpy as np
        >>> from ctsa.torch import SymmetricAttention
        >>> SymmetricAttention(query=np.diag([2.0, 1.0]), key=[[0.0, 1.0], [0.0, 0.0]]).value.tolist()
        [[0.0, 1.0], [1.0, 0.0]]

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """

    parts = dict(
        query=parameter("md", "weight"), key=parameter("md", "weight"), beta=parameter(), key_field=parameter("d", "bias"),
        mask=constant("nn"), masses=constant("n"), causal=static(), weights=static(), how=static(), reach=static(),
    )  # fmt: skip

    def __init__(
        self, query: Any = None, key: Any = None, beta: Any = 1.0, weights: Any = "softmax", mask: Any = None,
        key_field: Any = None, geometry: Any = None, how: str = "auto", masses: Any = None,
    ):  # fmt: skip
        for name, a, other in (("query", query, key), ("key", key, query)):
            a, other = checks.parameter(name, a, 2, 3), checks.parameter("the other", other, 2, 3)
            if a is not None and other is None and a.shape[-2] != a.shape[-1]:
                raise ValueError(f"{name} must be square where the other of query and key is the identity, got {a.shape}")
        SelfAttention.__init__(self, query, key, None, beta, weights, mask, key_field, geometry, how, masses)

    def _assign(self, **values):
        values.pop("value", None)
        super()._assign(**values)

    @property
    def value(self):  # type: ignore[override]
        """``(A + A^T) / 2``, one a head where queries or keys are; None is the identity."""
        if self.query is None and self.key is None:
            return None
        if self.query is None or self.key is None:
            a = self.key if self.query is None else self.query
        else:
            a = self.query.mT @ self.key
        return 0.5 * (a + a.mT)

    @property
    def heads(self) -> Heads:
        """The parameters, bundled for the functions of ``ctsa.attention``."""
        return Heads(
            self.query, self.key, self.value, self.beta, self.weights, self.mask, self.causal, self.key_field, self.masses
        )
