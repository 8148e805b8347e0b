"""The field of the Energy Transformer: attention as the descent of an energy."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend
from ctsa.attention import WEIGHTS, Heads, attention_weights
from ctsa.geometry import Geometry
from ctsa.parts import constant, parameter, static

from .base import Field
from .self_attention import given_mask

Array = Any


class EnergyAttention(Field):
    """Descend the energy of the Energy Transformer: dx/dt = -dE/dg at g = LayerNorm(x), or at g = x on the sphere.

    With heads h, scores ``s_ij = beta <Q_h g_i, K_h g_j>`` and attention ``a = softmax_j(s)``::

        E(g) = -(1/beta) sum_h sum_i log sum_j exp(s_ij) - (1/2) sum_i sum_m relu(<memory_m, g_i>)^2
        -dE/dg_k = sum_h ( sum_j a_kj Q^T K g_j + sum_i a_ik K^T Q g_i ) + memory^T relu(memory g_k).

    Two attention terms: tokens are drawn to what they attend to, and to what attends to them. E never increases along
    the flow, for any Q and K: on the sphere because the velocity is a projected gradient, in flat space because the
    derivative of LayerNorm is symmetric and positive semidefinite. The update of the paper,
    ``x <- x - alpha dE/dg``, is ``EulerLayer(EnergyAttention(..., geometry=ctsa.Euclidean()), step=alpha)``.

    Args:
        query: ``(m, d)`` or ``(heads, m, d)``; None is the identity.
        key: like ``query``.
        beta: inverse temperature, positive, a number or one a head.
        memory: patterns of the Hopfield term, ``(patterns, d)``, or None.
        mask: None, "causal", or an ``(n, n)`` or ``(heads, n, n)`` array as for ``SelfAttention``; the paper leaves out
            j = i.
        gain: gamma of LayerNorm, a number (flat space only).
        bias: delta of LayerNorm, ``(d,)`` or None (flat space only).
        eps: what LayerNorm adds to the variance.
        geometry: ``ctsa.Sphere()`` (default): g = x, no LayerNorm. ``ctsa.Euclidean()``: g = LayerNorm(x).

    Raises:
        ValueError: shapes do not fit, or ``beta`` is not positive.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import EnergyAttention
        >>> field = EnergyAttention(beta=2.0)
        >>> traj = ctsa.integrate(field, ctsa.random_tokens(6, 3), [0.0, 1.0, 2.0])
        >>> bool((field.energy(traj.xs).diff() < 0).all())
        True

    References:
        Hoover et al., *Energy Transformer*, arXiv 2302.07253.
    """

    query: Any
    key: Any
    beta: Any
    memory: Any
    mask: Any
    gain: Any
    bias: Any
    causal: bool
    eps: float
    equivariant = True
    parts = dict(
        query=parameter("md", "weight"), key=parameter("md", "weight"), beta=parameter(), memory=parameter("md", "weight"),
        gain=parameter(), bias=parameter("d", "bias"), mask=constant("nn"), causal=static(), eps=static(),
    )  # fmt: skip

    def __init__(
        self, query: Any = None, key: Any = None, beta: Any = 1.0, memory: Any = None, mask: Any = None,
        gain: Any = 1.0, bias: Any = None, eps: float = 1e-5, geometry: Geometry | None = None,
    ):  # fmt: skip
        query, key = checks.parameter("query", query, 2, 3), checks.parameter("key", key, 2, 3)
        beta, memory = checks.parameter("beta", beta, 0, 1), checks.parameter("memory", memory, 2)
        gain, bias = checks.parameter("gain", gain, 0), checks.parameter("bias", bias, 1)
        if beta is None or gain is None:
            raise TypeError("beta and gain must be numbers, got None")
        sizes = checks.concrete(beta)
        if sizes is not None and not (sizes > 0).all():
            raise ValueError(f"beta must be positive, got {sizes.tolist()}: the energy divides by it")
        eps = checks.number("eps", eps, low=0.0)
        mask, causal = given_mask(mask, WEIGHTS["softmax"])
        d = next((a.shape[-1] for a in (query, key, memory, bias) if a is not None), None)
        for name, a in (("query", query), ("key", key), ("memory", memory), ("bias", bias)):
            if d is not None:
                checks.fits(name, a, -1, d, "the token dimension d of the other arrays")
        width = [d if a is None else a.shape[-2] for a in (query, key)]
        if width[0] != width[1]:
            raise ValueError(f"query and key must map to the same width m, got {width[0]} and {width[1]}")
        heads = {a.shape[0] for a, rank in ((query, 3), (key, 3), (beta, 1), (mask, 3)) if a is not None and a.ndim == rank}
        if len(heads) > 1:
            raise ValueError(f"the numbers of heads differ: {sorted(heads)}")
        geometry = self._check_geometry(geometry, d)
        if not geometry.flat and bias is not None:
            raise ValueError("bias belongs to LayerNorm, which is for geometry=ctsa.Euclidean(): on the sphere g = x")
        parameters = dict(query=query, key=key, beta=beta, memory=memory, gain=gain, bias=bias)
        self._assign(**parameters, mask=mask, causal=causal, eps=eps, geometry=geometry)

    @property
    def heads(self) -> Heads:
        """The parameters of attention, bundled for the functions of ``ctsa.attention``."""
        return Heads(self.query, self.key, None, self.beta, WEIGHTS["softmax"], self.mask, self.causal)

    # ------------------------------------------------------------------------------------------- LayerNorm, or nothing
    def normalised(self, x: Array) -> Array:
        """Return g: LayerNorm(x) in flat space, ``x`` itself on the sphere."""
        if not self.geometry.flat:
            return x
        z = x - x.mean(-1, keepdims=True)
        g = self.gain * z / ((z * z).mean(-1, keepdims=True) + self.eps) ** 0.5
        return g if self.bias is None else g + self.bias

    def _normalised_tangent(self, x, u):
        if not self.geometry.flat:
            return u
        z, w = x - x.mean(-1, keepdims=True), u - u.mean(-1, keepdims=True)
        s2 = (z * z).mean(-1, keepdims=True) + self.eps
        return self.gain * (w - z * (z * w).mean(-1, keepdims=True) / s2) / s2**0.5

    # ------------------------------------------------------------------------------------------------ energy, gradient
    def energy(self, x: Array) -> Array:
        """Return the energy E, which never increases along the flow; of shape ``(...)``."""
        be, g = backend(x), self.normalised(x)
        s = self._scores(g)
        if self.causal or self.mask is not None:
            w = be.xp.tril(be.xp.ones_like(s)) if self.causal else backend(self.mask).stop_gradient(self.mask) + 0 * s
            s = be.xp.where(w > 0, s + be.xp.log(be.xp.where(w > 0, w, be.xp.ones_like(w))), -be.xp.inf)
        beta = self.beta[:, None] if self.beta.ndim else self.beta
        e = -(be.logsumexp(s, -1) / beta).sum(-1)
        e = e.sum(-1) if self.heads.headed else e
        if self.memory is not None:
            e = e - 0.5 * (self._recall(g) ** 2).sum((-2, -1))
        return e

    def _scores(self, g):
        q, k = self._queries(g), self._keys(g)
        return (self.beta[:, None, None] if self.beta.ndim else self.beta) * q @ k.mT

    def _lifted(self, g):
        return g[..., None, :, :] if self.heads.headed else g

    def _queries(self, g):
        g = self._lifted(g)
        return g if self.query is None else g @ self.query.mT

    def _keys(self, g):
        g = self._lifted(g)
        return g if self.key is None else g @ self.key.mT

    def _back(self, y, matrix):
        y = y if matrix is None else y @ matrix
        return y.sum(-3) if self.heads.headed else y

    def _recall(self, g):
        z = g @ self.memory.mT
        return backend(z).xp.where(z > 0, z, backend(z).xp.zeros_like(z))

    def drift(self, t, x):
        g = self.normalised(x)
        a, q, k = attention_weights(self.heads, g), self._queries(g), self._keys(g)
        y = self._back(a @ k, self.query) + self._back(a.mT @ q, self.key)
        return y if self.memory is None else y + self._recall(g) @ self.memory

    def drift_tangent(self, t, x, u):
        g, w = self.normalised(x), self._normalised_tangent(x, u)
        a, q, k = attention_weights(self.heads, g), self._queries(g), self._keys(g)
        y = self._back(a @ k, self.query) + self._back(a.mT @ q, self.key)
        dq, dk = self._queries(w), self._keys(w)
        ds = (self.beta[:, None, None] if self.beta.ndim else self.beta) * (dq @ k.mT + q @ dk.mT)
        da = a * (ds - (a * ds).sum(-1, keepdims=True))
        dy = self._back(da @ k + a @ dk, self.query) + self._back(da.mT @ q + a.mT @ dq, self.key)
        if self.memory is not None:
            r, dr = self._recall(g), w @ self.memory.mT
            y, dy = y + r @ self.memory, dy + (dr * (r > 0)) @ self.memory
        return y, dy

    def arguments(self):
        return super().arguments() | dict(mask="causal" if self.causal else self.mask)
