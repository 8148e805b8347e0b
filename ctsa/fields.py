"""Vector fields on the sphere, and their algebra: the mathematics of both faces, written once.

A field is a callable ``field(t, x) -> dx/dt`` with ``x`` of shape ``(..., n, d)``. The classes here hold
formulas only; ``ctsa.torch`` makes ``nn.Module`` classes of them and ``ctsa.jax`` ``eqx.Module`` classes, alike in
constructors and attributes.

Each field gives a *drift* in the ambient space; velocity is its tangent projection, taken once for a whole sum, because
projections are linear: ``SelfAttention(...) + Rotation(omega) + Injection(c)``, ``2.0 * field``.
"""

from typing import Any

import numpy as np

from . import checks
from ._backend import backend, framework
from .attention import WEIGHTS, Heads, Weights, attend, attention_weights, scores
from .attention_tangent import FORMS, attend_jacobian, attend_tangent, dense_pays
from .geometry import Euclidean, Geometry, Sphere
from .variational import jvp_batched

Array = Any


def drift_of(field: Any):
    """Return the ambient drift of a field of ours, or a bare callable itself (its velocity, which projection keeps)."""
    return getattr(field, "drift", field)


def drift_tangent_of(field: Any, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
    """Return drift and its derivative along ``u``: in closed form where known, else by ``vmap(jvp)``."""
    closed = getattr(field, "drift_tangent", None)
    return closed(t, x, u) if closed is not None else jvp_batched(lambda y: drift_of(field)(t, y), x, u)


class Field:
    """What all fields share: projection of the drift, sums, scalar multiples.

    A face supplies ``_assign``, which stores parameters (trainable), constants (not) and static values as attributes of
    the same names, and ``_sum`` and ``_scaled``, its own classes for the algebra.
    """

    geometry: Geometry
    tokenwise = False  # whether the velocity of a token depends on that token alone

    def _assign(self, parameters: dict[str, Any], constants: dict[str, Any], **static: Any) -> None:
        raise NotImplementedError("take the field from a face: ctsa.torch or ctsa.jax")

    def _sum(self, terms: list) -> Any:
        raise NotImplementedError

    def _scaled(self, field: Any, factor: Any) -> Any:
        raise NotImplementedError

    def _check_geometry(self, geometry: Geometry | None, d: int | None) -> Geometry:
        if geometry is None:
            return Sphere()
        if not isinstance(geometry, (Sphere, Euclidean)):
            raise TypeError(f"geometry must be ctsa.Sphere(...) or ctsa.Euclidean(), got {geometry!r}")
        if d is not None:
            geometry.check_dimension(d)
        return geometry

    def drift(self, t: Array, x: Array) -> Array:
        """Return the velocity before projection, of the shape of ``x``."""
        raise NotImplementedError

    def drift_tangent(self, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the drift and its derivative along the directions ``u`` of shape ``(k, ..., n, d)``."""
        raise NotImplementedError

    def drift_jacobian(self, t: Array, x: Array) -> tuple[Array, Array]:
        """Return the drift and its Jacobian ``(..., n d, n d)``; this one asks ``drift_tangent`` for every column."""
        be, (n, d) = backend(x), x.shape[-2:]
        if self.tokenwise:  # d directions serve all tokens at once
            unit = be.like(np.eye(d).reshape(d, *[1] * (x.ndim - 1), d), x) + 0 * x
            y, columns = self.drift_tangent(t, x, unit)
            return y, _block_diagonal(be, be.xp.moveaxis(columns, 0, -1))
        unit = be.like(np.eye(n * d).reshape(n * d, *[1] * (x.ndim - 2), n, d), x) + 0 * x
        y, columns = self.drift_tangent(t, x, unit)
        return y, be.xp.moveaxis(columns.reshape(*columns.shape[:-2], n * d), 0, -1)

    def dense_pays(self, x: Array, k: int) -> bool:
        """Tell whether the derivative along ``k`` directions is cheapest through ``drift_jacobian``."""
        return False

    def velocity(self, t: Array, x: Array) -> Array:
        """Return ``dx/dt``, the tangent projection of the drift: ``(..., n, d)``."""
        return self.geometry.project(x, self.drift(t, x))

    def tangent(self, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the velocity and its derivative along ``k`` directions, in closed form.

        Args:
            t: time.
            x: state ``(..., n, d)``.
            u: directions ``(k, ..., n, d)``.

        Returns:
            ``F(t, x)`` of shape ``(..., n, d)`` and ``DF(t, x) u`` of shape ``(k, ..., n, d)``.
        """
        y, dy = self.drift_tangent(t, x, u)
        return self.geometry.project(x, y), self.geometry.project_tangent(x, u, y, dy)

    def __add__(self, other):
        if not callable(other):
            return NotImplemented
        return self._sum([*self.terms(), *(other.terms() if isinstance(other, Field) else [other])])

    def __radd__(self, other):
        if isinstance(other, (int, float)) and other == 0:  # sum([...]) starts at 0
            return self
        return self._sum([other, *self.terms()]) if callable(other) else NotImplemented

    def __mul__(self, factor):
        if callable(factor) or isinstance(factor, str):
            return NotImplemented
        return self._scaled(self, factor)

    __rmul__ = __mul__

    def __neg__(self):
        return self._scaled(self, -1.0)

    def __sub__(self, other):
        return self + -other if isinstance(other, Field) else NotImplemented

    def terms(self) -> list:
        """Return the summands: the field itself unless it is a sum."""
        return [self]

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that make an equal field, in either framework."""
        raise NotImplementedError


def _block_diagonal(be: Any, blocks: Array) -> Array:
    """Put ``(..., n, d, d)`` on the diagonal of ``(..., n d, n d)``."""
    n, d = blocks.shape[-3:-1]
    full = be.like(np.eye(n), blocks)[:, None, :, None] * blocks[..., :, :, None, :]
    return full.reshape(*blocks.shape[:-3], n * d, n * d)


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
        mask: None, "causal" (j <= i), or an ``(n, n)`` array: booleans, or non-negative numbers that multiply the
            weights before normalisation (``mask[i, j] = w_j`` makes weighted tokens).
        key_field: ``(d,)`` or ``(heads, d)``: adds ``beta <r, x_j>`` to the score of token j.
        geometry: ``ctsa.Sphere()`` (default), ``ctsa.Sphere(channels=N)`` for oscillators, or ``ctsa.Euclidean()``.
        tangent_form: how ``tangent`` evaluates the derivative: "auto" chooses by size; "scores", "outer", "assembled"
            override (see ``ctsa.attention_tangent``). The numbers are the same to rounding.

    Raises:
        ValueError: shapes do not fit each other, entries are nan or inf, a mask row is empty, an unknown weights name.
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
    causal: bool
    weights: Weights
    tangent_form: str

    def __init__(
        self,
        query=None,
        key=None,
        value=None,
        beta=1.0,
        weights="softmax",
        mask=None,
        key_field=None,
        geometry=None,
        tangent_form="auto",
    ):
        query = checks.parameter("query", query, 2, 3)
        key = checks.parameter("key", key, 2, 3)
        value = checks.parameter("value", value, 2, 3)
        if beta is None:
            raise TypeError("beta must be a number or one number a head, got None")
        beta = checks.parameter("beta", beta, 0, 1)
        key_field = checks.parameter("key_field", key_field, 1, 2)
        if isinstance(weights, str):
            checks.choice("weights", weights, WEIGHTS)
            weights = WEIGHTS[weights]
        elif not isinstance(weights, Weights):
            raise TypeError(f"weights must be a name or a ctsa.attention.Weights, got {weights!r}")
        causal = isinstance(mask, str)
        if causal:
            checks.choice("mask", mask, ["causal"])
            mask = None
        mask = self._check_mask(checks.parameter("mask", mask, 2, 3), causal, weights)
        d = self._check_shapes(query, key, value, beta, key_field, mask)
        parameters = dict(query=query, key=key, value=value, beta=beta, key_field=key_field)
        geometry = self._check_geometry(geometry, d)
        checks.choice("tangent_form", tangent_form, FORMS)
        self._assign(
            parameters, dict(mask=mask), causal=causal, weights=weights, geometry=geometry, tangent_form=tangent_form
        )

    @staticmethod
    def _check_mask(mask, causal, weights):
        values = None if mask is None else checks.concrete(mask)
        if weights.name == "sinkhorn" and (causal or (values is not None and not (values > 0).all())):
            raise ValueError(
                "weights='sinkhorn' needs a mask without zeros: no doubly stochastic matrix need exist else"
            )
        if values is None:
            return mask
        if values.shape[-1] != values.shape[-2]:
            raise ValueError(f"mask must be square (n, n), got shape {values.shape}")
        if (values < 0).any():
            raise ValueError(
                "mask must be booleans or non-negative numbers that multiply the weights, got negative ones"
            )
        if weights.normalised and not values.any(-1).all():
            row = int(np.argwhere(~values.any(-1))[0][-1])
            raise ValueError(f"mask row {row} is empty: token {row} would attend to nothing")
        return mask

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
        return Heads(self.query, self.key, self.value, self.beta, self.weights, self.mask, self.causal, self.key_field)

    def drift(self, t, x):
        return attend(self.heads, x)

    def drift_tangent(self, t, x, u):
        return attend_tangent(self.heads, x, u, self.tangent_form)

    def drift_jacobian(self, t, x):
        if self.weights.slope is None:
            return Field.drift_jacobian(self, t, x)
        return attend_jacobian(self.heads, x)

    def dense_pays(self, x, k):
        return dense_pays(self.heads, x, k, self.tangent_form)

    def scores(self, x: Array) -> Array:
        """Return the scores at ``x``: ``(..., n, n)``, or ``(..., heads, n, n)``."""
        return scores(self.heads, x)

    def attention(self, x: Array) -> Array:
        """Return the attention weights at ``x``: ``(..., n, n)``, or ``(..., heads, n, n)``."""
        return attention_weights(self.heads, x)

    def arguments(self):
        return dict(
            query=self.query, key=self.key, value=self.value, beta=self.beta, weights=self.weights,
            mask="causal" if self.causal else self.mask, key_field=self.key_field, geometry=self.geometry,
            tangent_form=self.tangent_form,
        )  # fmt: skip


class Oja(Field):
    """Oja's flow of n tokens: dx_i/dt = P_i V mean(x), which is self-attention at beta = 0.

    For one token it is Oja's rule dx/dt = V x - (x^T V x) x, solved exactly by ``ctsa.theory.oja_flow``.

    Args:
        value: ``(d, d)``.
        geometry: as for ``SelfAttention``.

    Example:
        >>> import numpy as np
        >>> from ctsa.torch import Oja
        >>> Oja(np.diag([3, 2, 1])).value.shape
        torch.Size([3, 3])

    References:
        Oja, J. Math. Biol. 15 (1982) 267.
    """

    value: Any

    def __init__(self, value, geometry=None):
        value = checks.parameter("value", value, 2)
        if value is None:
            raise TypeError("value must be a (d, d) array, got None")
        checks.fits("value", value, -2, value.shape[-1], "its other side (value is (d, d))")
        self._assign(dict(value=value), {}, geometry=self._check_geometry(geometry, value.shape[-1]))

    def _mean(self, x):
        m = x.mean(-2, keepdims=True) @ self.value.mT
        return m + 0 * x

    def drift(self, t, x):
        return self._mean(x)

    def drift_tangent(self, t, x, u):
        return self._mean(x), self._mean(u)

    def drift_jacobian(self, t, x):
        n, d = x.shape[-2:]
        be = backend(x)
        every = be.like(np.full((n, n), 1 / n), x)[:, None, :, None] * self.value[None, :, None, :]
        return self._mean(x), every.reshape(n * d, n * d) + 0 * x.sum((-2, -1))[..., None, None]

    def arguments(self):
        return dict(value=self.value, geometry=self.geometry)


class Rotation(Field):
    """Rotation: dx_i/dt = Omega_i x_i with Omega_i antisymmetric.

    Args:
        omega: ``(d, d)`` shared, or ``(n, d, d)`` one a token. Only its antisymmetric part acts, also while training.
        frequencies: 2x2 blocks on channel pairs instead of ``omega``, ``(d / 2,)`` shared or ``(n, d / 2)``, radians
            per unit time: (a, b) turns by (-w b, w a).
        geometry: as for ``SelfAttention``.

    Raises:
        ValueError: ``omega`` is not antisymmetric, or both or neither of ``omega`` and ``frequencies`` are given.

    Example:
        >>> import numpy as np, torch
        >>> from ctsa.torch import Rotation
        >>> Rotation(frequencies=[2.0])(0.0, torch.tensor([[0.0, 1.0]], dtype=torch.float64)).tolist()
        [[-2.0, 0.0]]
    """

    omega: Any
    frequencies: Any
    tokenwise = True

    def __init__(self, omega=None, frequencies=None, geometry=None):
        omega = checks.parameter("omega", omega, 2, 3)
        frequencies = checks.parameter("frequencies", frequencies, 1, 2)
        if (omega is None) == (frequencies is None):
            raise ValueError("give exactly one of omega (antisymmetric matrices) and frequencies (2x2 blocks)")
        if omega is not None:
            checks.fits("omega", omega, -2, omega.shape[-1], "its other side")
            w = checks.concrete(omega)
            if w is not None:
                off = float(np.abs(w + np.swapaxes(w, -1, -2)).max())
                eps = float(np.finfo(w.dtype).eps) if w.dtype.kind == "f" else 0.0
                if off > 64 * eps * max(1.0, float(np.abs(w).max())):
                    raise ValueError(
                        f"omega must be antisymmetric, but omega + omega^T is up to {off:.3g}: "
                        "pass (omega - omega.T) / 2"
                    )
        d = 2 * frequencies.shape[-1] if omega is None else omega.shape[-1]
        self._assign(dict(omega=omega, frequencies=frequencies), {}, geometry=self._check_geometry(geometry, d))

    def _turn(self, x):
        if self.omega is not None:
            w = 0.5 * (self.omega - self.omega.mT)
            return x @ w.mT if w.ndim == 2 else (w @ x[..., None])[..., 0]
        xp = backend(x).xp
        a, b = x[..., 0::2], x[..., 1::2]
        return xp.stack([-self.frequencies * b, self.frequencies * a], -1).reshape(x.shape)

    def drift(self, t, x):
        return self._turn(x)

    def drift_tangent(self, t, x, u):
        return self._turn(x), self._turn(u)

    def arguments(self):
        return dict(omega=self.omega, frequencies=self.frequencies, geometry=self.geometry)


class Injection(Field):
    """Constant input: dx_i/dt = P_i C_i.

    Args:
        input: ``(n, d)`` one a token, or ``(d,)`` shared.
        geometry: as for ``SelfAttention``.

    Example:
        >>> import torch
        >>> from ctsa.torch import Injection
        >>> Injection([3.0, 2.0])(0.0, torch.tensor([[1.0, 0.0]], dtype=torch.float64)).tolist()
        [[0.0, 2.0]]
    """

    input: Any
    tokenwise = True

    def __init__(self, input, geometry=None):
        c = checks.parameter("input", input, 1, 2)
        if c is None:
            raise TypeError("input must be an (n, d) or (d,) array, got None")
        self._assign(dict(input=c), {}, geometry=self._check_geometry(geometry, c.shape[-1]))

    def drift(self, t, x):
        return self.input + 0 * x

    def drift_tangent(self, t, x, u):
        return self.input + 0 * x, 0 * u

    def arguments(self):
        return dict(input=self.input, geometry=self.geometry)


# name -> maps (backend, z) to (sigma(z), sigma'(z))
def _tanh(be, z):
    s = be.xp.tanh(z)
    return s, 1 - s * s


def _relu(be, z):
    on = be.xp.where(z > 0, be.xp.ones_like(z), be.xp.zeros_like(z))
    return z * on, on


def _gelu(be, z):
    cdf = 0.5 * (1 + be.erf(z * 0.5**0.5))
    return z * cdf, cdf + z * be.xp.exp(-0.5 * z * z) * (2 * np.pi) ** -0.5


ACTIVATIONS = {"tanh": _tanh, "relu": _relu, "gelu": _gelu}


class Perceptron(Field):
    """Two-layer perceptron, a token at a time: dx_i/dt = P_i [W2 sigma(W1 x_i + b1) + b2].

    Args:
        weight_in: W1 ``(m, d)``.
        weight_out: W2 ``(d, m)``.
        bias_in: b1 ``(m,)`` or None.
        bias_out: b2 ``(d,)`` or None.
        activation: "tanh", "relu" or "gelu" (the exact one, with erf).
        geometry: as for ``SelfAttention``.

    Example:
        >>> import numpy as np
        >>> from ctsa.torch import Perceptron
        >>> Perceptron(np.ones((5, 3)), np.ones((3, 5)), activation="gelu").activation
        'gelu'
    """

    weight_in: Any
    weight_out: Any
    bias_in: Any
    bias_out: Any
    activation: str
    tokenwise = True

    def __init__(self, weight_in, weight_out, bias_in=None, bias_out=None, activation="tanh", geometry=None):
        w1, w2 = checks.parameter("weight_in", weight_in, 2), checks.parameter("weight_out", weight_out, 2)
        b1, b2 = checks.parameter("bias_in", bias_in, 1), checks.parameter("bias_out", bias_out, 1)
        if w1 is None or w2 is None:
            raise TypeError("weight_in (m, d) and weight_out (d, m) must be arrays, got None")
        checks.fits("weight_out", w2, -1, w1.shape[0], "the width m of weight_in")
        checks.fits("weight_out", w2, 0, w1.shape[1], "the token dimension d of weight_in")
        checks.fits("bias_in", b1, 0, w1.shape[0], "the width m of weight_in")
        checks.fits("bias_out", b2, 0, w1.shape[1], "the token dimension d of weight_in")
        checks.choice("activation", activation, ACTIVATIONS)
        parameters = dict(weight_in=w1, weight_out=w2, bias_in=b1, bias_out=b2)
        self._assign(parameters, {}, activation=activation, geometry=self._check_geometry(geometry, w1.shape[1]))

    def _hidden(self, x):
        z = x @ self.weight_in.mT
        z = z if self.bias_in is None else z + self.bias_in
        return ACTIVATIONS[self.activation](backend(x), z)

    def _out(self, s):
        y = s @ self.weight_out.mT
        return y if self.bias_out is None else y + self.bias_out

    def drift(self, t, x):
        return self._out(self._hidden(x)[0])

    def drift_tangent(self, t, x, u):
        s, ds = self._hidden(x)
        return self._out(s), (ds * (u @ self.weight_in.mT)) @ self.weight_out.mT

    def arguments(self):
        names = ("weight_in", "weight_out", "bias_in", "bias_out", "activation", "geometry")
        return {name: getattr(self, name) for name in names}


class Sum(Field):
    """A sum of fields, made by ``+``: the drifts are added and projected once."""

    fields: Any

    def __init__(self, fields):
        if not fields:
            raise ValueError("fields must not be empty")
        for f in fields:
            if not callable(f):
                raise TypeError(f"fields must be callables, got {type(f).__name__}")
        ours = [f for f in fields if isinstance(f, Field)]
        if len({f.geometry for f in ours}) > 1:
            raise ValueError(f"fields on different geometries do not add: {[f.geometry for f in ours]}")
        homes = sorted({home for f in fields if (home := framework(f)) is not None})
        if len(homes) > 1:
            raise TypeError(
                f"fields of different frameworks do not add ({', '.join(homes)}): convert with from_torch/from_jax"
            )
        self._assign({}, {}, fields=fields, geometry=ours[0].geometry if ours else Sphere())

    def terms(self):
        return list(self.fields)

    def drift(self, t, x):
        first, *rest = (drift_of(f)(t, x) for f in self.fields)
        return sum(rest, first)

    def drift_tangent(self, t, x, u):
        parts = [drift_tangent_of(f, t, x, u) for f in self.fields]
        y, dy = parts[0]
        for a, b in parts[1:]:
            y, dy = y + a, dy + b
        return y, dy

    def drift_jacobian(self, t, x):
        parts = [f.drift_jacobian(t, x) for f in self.fields]
        y, j = parts[0]
        for a, b in parts[1:]:
            y, j = y + a, j + b
        return y, j

    def dense_pays(self, x, k):
        return all(isinstance(f, Field) for f in self.fields) and any(f.dense_pays(x, k) for f in self.fields)

    def arguments(self):
        return dict(fields=list(self.fields))


class Scaled(Field):
    """A field times a number, made by ``*``: time runs ``factor`` times as fast."""

    field: Any
    factor: Any

    def __init__(self, field, factor):
        if not callable(field):
            raise TypeError(f"field must be callable, got {type(field).__name__}")
        factor = checks.parameter("factor", factor, 0)
        if factor is None:
            raise TypeError("factor must be a number, got None")
        geometry = getattr(field, "geometry", Sphere())
        self._assign({}, dict(factor=factor), field=field, geometry=geometry)

    def drift(self, t, x):
        return self.factor * drift_of(self.field)(t, x)

    def drift_tangent(self, t, x, u):
        y, dy = drift_tangent_of(self.field, t, x, u)
        return self.factor * y, self.factor * dy

    def drift_jacobian(self, t, x):
        y, j = self.field.drift_jacobian(t, x)
        return self.factor * y, self.factor * j

    def dense_pays(self, x, k):
        return isinstance(self.field, Field) and self.field.dense_pays(x, k)

    def arguments(self):
        return dict(field=self.field, factor=self.factor)


def convert(field: Any, face: Any) -> Any:
    """Rebuild a field with the classes of another face, keeping every parameter.

    Args:
        field: a field of ``ctsa.torch`` or ``ctsa.jax``.
        face: the module ``ctsa.torch`` or ``ctsa.jax``.

    Raises:
        TypeError: a term of the field is not one of ours.
    """
    if not isinstance(field, Field):
        raise TypeError(f"only fields of ctsa convert, got {type(field).__module__}.{type(field).__qualname__}")

    def carry(value):
        if isinstance(value, Field):
            return convert(value, face)
        if isinstance(value, list):
            return [carry(v) for v in value]
        if callable(value) and not isinstance(value, Weights):
            raise TypeError(f"only fields of ctsa convert, a plain callable does not: {value!r}")
        return backend(value).to_numpy(value) if framework(value) in ("torch", "jax") else value

    kind = next(name for name in FIELDS if isinstance(field, FIELDS[name]))
    return getattr(face, kind)(**{name: carry(value) for name, value in field.arguments().items()})


FIELDS = {c.__name__: c for c in (SelfAttention, Oja, Rotation, Injection, Perceptron, Sum, Scaled)}
