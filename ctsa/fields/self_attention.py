"""Multi-head self-attention as a velocity field."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, dtype_name, framework, ring, rounding
from ctsa.attention import (
    HOW,
    WEIGHTS,
    Heads,
    Weights,
    attend,
    attend_compressed,
    attend_jacobian,
    attend_tangent,
    attention_weights,
    dense_pays,
    harmonic,
    scores,
    series,
)
from ctsa.attention.calls import way_of
from ctsa.attention.chunked import SURELY
from ctsa.attention.ring import fits_ring
from ctsa.geometry import Geometry, Sphere
from ctsa.parts import constant, parameter, static

from .base import Field, joined

Array = Any


class SelfAttention(Field):
    """Multi-head self-attention as a velocity field.

    dx_i/dt = P_i sum_heads sum_j a_ij V x_j,  a_ij = softmax_j(beta <Q x_i, K x_j>),  P_i = I - x_i x_i^T.

    Args:
        query: ``(m, d)``, or ``(heads, m, d)``; None is the identity.
        key: like ``query``.
        value: ``(d, d)``, or ``(heads, d, d)``; None is the identity.
        beta: inverse temperature, a number or one a head ``(heads,)``. There is no hidden 1/sqrt(d).
        weights: how scores ``s_ij`` become weights:

            - ``"softmax"``: ``exp(s_ij) / sum_j exp(s_ij)``;
            - ``"unnormalised"``: ``exp(s_ij) / n`` (USA, arXiv 2312.10794);
            - ``"hardmax"``: uniform on the maximal scores, ties included. Where Q^T K = I exclude j = i by a mask, or every
              token on the sphere only sees itself;
            - ``"linear"``: ``s_ij / n``;
            - ``"l2"``: softmax of ``-beta |Q x_i - K x_j|^2 / 2`` (arXiv 2006.04710);
            - ``"sigmoid"``: ``1 / (1 + n exp(-s_ij))`` (bias -log n, arXiv 2409.04431);
            - ``"sinkhorn"``: doubly stochastic, see ``ctsa.attention.sinkhorn``.
        mask: None, "causal" (j <= i), or an ``(n, n)`` or ``(heads, n, n)`` array: booleans, or non-negative numbers
            that multiply the weights before normalisation. For softmax, l2 and hardmax ``mask[i, j] = w_j`` makes
            tokens of weight ``w_j``. Unnormalised, linear and sigmoid weights keep dividing by ``n`` under a mask.
        key_field: ``(d,)`` or ``(heads, d)``: adds ``beta <r, x_j>`` to the score of token j.
        masses: ``(n,)`` non-negative numbers, one a token: token j counts as ``m_j`` tokens at its place. Weights ``e_ij``
            become ``m_j e_ij`` before normalisation, and ``n`` becomes ``sum_j m_j``. A mask multiplies besides.
        geometry: ``ctsa.Sphere()`` (default), ``ctsa.Sphere(channels=N)`` for oscillators, or ``ctsa.Euclidean()``.
        how: the way in which attention and its derivative are evaluated; the numbers are the same to rounding. "auto"
            chooses between "dense", all scores at once, and "chunked", a block of rows at a time, in memory that grows as
            n; runs of many tokens also choose "harmonic" where it is faster. "harmonic" (d = 2 and 3, softmax or
            unnormalised weights, no mask, tokens on the sphere) sums the exponentials by harmonics in a time that grows as
            n, to 1e-12, and is "chunked" where that cannot be had; second derivatives are right along the sphere only, and
            torch.func.vmap does not take it; see ``ctsa.attention.harmonic``. "ring" (JAX) passes
            keys round devices among which a mesh with an axis "tokens", in use by ``jax.set_mesh(mesh)``, spreads tokens;
            "auto" takes it there, too, see ``ctsa.attention.ring``. "scores", "outer" and "assembled" are "dense", with the
            derivative taken in one way, see ``ctsa.attention.dense``.

    Raises:
        ValueError: shapes do not fit each other, entries are nan or inf, a mask row is empty, masses that cannot be, an
            unknown weights name.
        TypeError: arguments that are not numbers or arrays.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(beta=4.0)
        >>> traj = ctsa.integrate(field, ctsa.random_tokens(8, 3, seed=0), [0.0, 1.0])
        >>> tuple(traj.xs.shape)
        (2, 8, 3)

    References:
        Geshkovski, Letrouit, Polyanskiy, Rigollet, arXiv 2312.10794 (SA, USA); Altafini, arXiv 2511.11553 (general
        query, key, value).
    """

    query: Any
    key: Any
    value: Any
    beta: Any
    mask: Any
    key_field: Any
    masses: Any
    causal: bool
    weights: Weights
    how: str
    reach: float | None
    equivariant = True
    parts = dict(
        query=parameter("md", "weight"), key=parameter("md", "weight"), value=parameter("dd", "weight"), beta=parameter(),
        key_field=parameter("d", "bias"), mask=constant("nn"), masses=constant("n"), causal=static(), weights=static(),
        how=static(), reach=static(),
    )  # fmt: skip

    def __init__(
        self,
        query: Any = None,
        key: Any = None,
        value: Any = None,
        beta: Any = 1.0,
        weights: Any = "softmax",
        mask: Any = None,
        key_field: Any = None,
        geometry: Geometry | None = None,
        how: str = "auto",
        masses: Any = None,
    ):
        query = checks.parameter("query", query, 2, 3)
        key = checks.parameter("key", key, 2, 3)
        value = checks.parameter("value", value, 2, 3)
        if beta is None:
            raise TypeError("beta must be a number or one number a head, got None")
        beta = checks.parameter("beta", beta, 0, 1)
        key_field = checks.parameter("key_field", key_field, 1, 2)
        weights = given_weights(weights)
        mask, causal = given_mask(mask, weights)
        masses = given_masses(masses, weights, mask, causal)
        d = self._check_shapes(query, key, value, beta, key_field, mask)
        parameters = dict(query=query, key=key, value=value, beta=beta, key_field=key_field)
        geometry = self._check_geometry(geometry, d)
        checks.choice("how", how, HOW)
        if how == "chunked" and not weights.rowwise:
            raise ValueError(
                f"how='chunked' takes rows by themselves, but weights={weights.name!r} look at all of them: use how='dense'"
            )
        if how == "ring":
            if framework(self) == "torch":
                raise ValueError("how='ring' is for JAX, whose arrays are spread over devices: use how='chunked' on torch")
            if masses is not None:
                raise ValueError("how='ring' does not know masses: use how='chunked'")
            if not fits_ring(weights):
                raise ValueError(
                    f"how='ring' needs weights that are sums over keys, but weights={weights.name!r} look at whole rows: "
                    "use how='chunked' or 'dense'"
                )
        reach = None
        if how == "harmonic":
            reach = self._reach(Heads(query, key, value, beta, weights, mask, causal, key_field, masses), d, geometry)
        self._assign(
            **parameters, mask=mask, masses=masses, causal=causal, weights=weights, geometry=geometry, how=how,
            reach=reach,
        )

    @staticmethod
    def _reach(heads, d, geometry):
        why = harmonic.fits(heads, 3 if d is None else d)
        if geometry not in (Sphere(), Sphere(channels=d or 2)):
            why = f"tokens live on {geometry!r}, not on ctsa.Sphere()"
        if why:
            raise ValueError(f"how='harmonic' does not go here: {why}; use how='chunked'")
        reach = harmonic.reach_of(heads)
        if reach is None:
            raise ValueError(
                "how='harmonic' needs the values of beta, query and key when the field is made: make it outside of jit and "
                "grad, or use how='auto'"
            )
        return reach

    @property
    def _way(self) -> Any:
        return self.how if self.reach is None else harmonic.Harmonic(self.reach)

    @staticmethod
    def _check_shapes(query, key, value, beta, key_field, mask):
        named = dict(query=query, key=key, value=value)
        d = next((a.shape[-1] for a in named.values() if a is not None), None)
        d = d if d is not None or key_field is None else key_field.shape[-1]
        for name, a in (*named.items(), ("key_field", key_field)):
            if d is not None:
                checks.fits(name, a, -1, d, "the token dimension d of the other matrices")
        if value is not None:
            checks.fits("value", value, -2, value.shape[-1], "its other side (value is (d, d))")
        m = {name: (d if a is None else a.shape[-2]) for name, a in (("query", query), ("key", key))}
        if m["query"] != m["key"]:
            raise ValueError(f"query and key must map to the same width m, got {m['query']} and {m['key']}")
        ranks = (
            ("query", query, 3),
            ("key", key, 3),
            ("value", value, 3),
            ("beta", beta, 1),
            ("key_field", key_field, 2),
        )
        heads = {name: a.shape[0] for name, a, rank in (*ranks, ("mask", mask, 3)) if a is not None and a.ndim == rank}
        if len(set(heads.values())) > 1:
            raise ValueError(f"the numbers of heads differ: {', '.join(f'{k} has {v}' for k, v in heads.items())}")
        return d

    @property
    def heads(self) -> Heads:
        """The parameters, bundled for the functions of ``ctsa.attention``."""
        return Heads(
            self.query, self.key, self.value, self.beta, self.weights, self.mask, self.causal, self.key_field, self.masses
        )

    def in_blocks(self, n: int) -> bool:
        """Tell whether the scores of ``n`` tokens are taken a block of rows at a time: never are all of them there."""
        return self.how in ("chunked", "harmonic", "ring") or (self.how == "auto" and self.weights.rowwise and n >= SURELY)

    def settled(self, n, d):
        at_home = d in (2, 3) and self.geometry in (Sphere(), Sphere(channels=d))
        if self.how != "auto" or not at_home or harmonic.fits(self.heads, d):
            return self
        if dtype_name(self.beta) != "float64":  # others have digits to lose: ask for it
            return self
        if framework(self) == "jax" and ring("jax").parts() > 1:  # tokens are spread over devices
            return self
        reach = harmonic.reach_of(self.heads)
        if reach is None or not harmonic.pays(n, d, reach):
            return self
        return type(self)(**(self.arguments() | dict(how="harmonic")))

    def account(self, x):
        told: dict[str, Any] = dict(attention=way_of(self.heads, x, self._way))
        if self.reach is not None:
            told |= dict(
                attention_degree=series.degree(x.shape[-1], self.reach), attention_error=harmonic.WANTED * rounding(x)
            )
        return told

    def drift(self, t, x):
        return attend(self.heads, x, self._way)

    def drift_tangent(self, t, x, u):
        return attend_tangent(self.heads, x, u, self._way)

    def drift_jacobian(self, t, x):
        if not self.weights.closed:
            return Field.drift_jacobian(self, t, x)
        return attend_jacobian(self.heads, x, self.how)

    def drift_compressed(self, t, x, left, right):
        if not self.weights.closed:
            return Field.drift_compressed(self, t, x, left, right)
        return attend_compressed(self.heads, x, left, right)

    def dense_pays(self, x, k):
        return dense_pays(self.heads, x, k, self.how)

    def scores(self, x: Array) -> Array:
        """Return the scores at ``x``: ``(..., n, n)``, or ``(..., heads, n, n)``."""
        return scores(self.heads, checks.given(x, self))

    def attention(self, x: Array) -> Array:
        """Return the attention weights at ``x``: ``(..., n, n)``, or ``(..., heads, n, n)``."""
        return attention_weights(self.heads, checks.given(x, self))

    def merged(self, labels, size=None):
        if self.causal or self.mask is not None:
            raise ValueError(
                "tokens do not merge under a mask, which tells them apart: integrate without merge=, or without the mask"
            )
        masses = joined(labels, self.masses, size)
        return type(self)(**self.arguments() | dict(masses=backend(self.beta).like(masses, self.beta)))

    def arguments(self):
        return super().arguments() | dict(mask="causal" if self.causal else self.mask)


def given_weights(weights: Any) -> Weights:
    """Return the weights of attention, given or named."""
    if isinstance(weights, str):
        checks.choice("weights", weights, WEIGHTS)
        return WEIGHTS[weights]
    if not isinstance(weights, Weights):
        raise TypeError(f"weights must be a name or a ctsa.attention.Weights, got {weights!r}")
    return weights


def given_mask(mask: Any, weights: Weights) -> tuple[Any, bool]:
    """Return the mask of attention, where weights can have it, and whether it is the causal one, which has no array."""
    causal = isinstance(mask, str)
    if causal:
        checks.choice("mask", mask, ["causal"])
    mask = None if causal else checks.parameter("mask", mask, 2, 3)
    values = None if mask is None else checks.concrete(mask)
    if weights.name == "sinkhorn" and (causal or (values is not None and not (values > 0).all())):
        raise ValueError(
            "weights='sinkhorn' needs a mask without zeros: no doubly stochastic matrix need exist else"
        )
    return checks.attention_mask(mask, weights.normalised), causal


def given_masses(masses: Any, weights: Weights | None = None, mask: Any = None, causal: bool = False) -> Any:
    """Check masses ``(n,)``: non-negative, some positive, and for every row of a mask that is normalised."""
    masses = checks.parameter("masses", masses, 1)
    if masses is None:
        return None
    checks.constant("masses", masses)
    if weights is not None and weights.name == "sinkhorn":
        raise ValueError("masses do not go with weights='sinkhorn', where columns sum to one as rows do: leave masses out")
    if mask is not None:
        checks.fits("masses", masses, 0, mask.shape[-1], "the tokens of the mask")
    values, open_ = checks.concrete(masses), None if mask is None else checks.concrete(mask)
    if values is None:
        return masses
    if (values < 0).any():
        raise ValueError(f"masses must be non-negative numbers, one a token, got {values.min():g}")
    if not (values > 0).any():
        raise ValueError("masses are all zero: at least one token must have a positive mass")
    rows = np.tril(np.ones((1, len(values)))) if causal else np.ones((1, 1)) if open_ is None else open_ > 0
    if weights is not None and weights.normalised and not (rows * (values > 0)).any(-1).all():
        row = int(np.argwhere(~(rows * (values > 0)).any(-1))[0][-1])
        raise ValueError(f"masses leave row {row} of the mask empty: all that token {row} may attend to has the mass 0")
    return masses
