"""Multi-head attention in its usual parametrisation, with biases and positions, as a velocity field."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend, framework
from ctsa.attention import Positions, Weights
from ctsa.attention.calls import choose
from ctsa.attention.chunked import SURELY
from ctsa.attention.dense import LARGEST
from ctsa.attention.projected import (
    Projected,
    projected_compressed,
    projected_output,
    projected_scores,
    projected_tangent,
    projected_weights,
)
from ctsa.derivatives import jvp_batched
from ctsa.geometry import Geometry
from ctsa.parts import constant, parameter, static

from .base import Field, joined
from .self_attention import given_mask, given_masses, given_weights

Array = Any
_MATRICES = ("query", "key", "value", "output")


class MultiHeadAttention(Field):
    """Multi-head attention with projections of a head's width, biases, and maps that depend on the position of a token.

    dx_i/dt = P_i (sum_heads W_O T_i''' sum_j a_ij v_j + b_O),  v_j = T_j'' (W_V x_j + b_V),

    a_ij = softmax_j <beta T_i (W_Q x_i + b_Q), T_j' (W_K x_j + b_K)>.

    Without positions it is ``SelfAttention`` with ``V = W_O W_V``; a head costs what its width is, d / m times less.
    Positions (rotary embeddings, AKOrN's rotations) make the bilinear form, and the value, depend on where tokens stand.

    Args:
        query, key, value: ``(m, d)``, or ``(heads, m, d)``; None is the identity.
        output: ``(d, m)``, or ``(heads, d, m)``; None is the identity.
        beta: inverse temperature, a number or one a head. There is no hidden 1/sqrt(m).
        positions: ``ctsa.attention.Positions``; None: all positions are alike.
        query_bias, key_bias, value_bias: ``(m,)``, or ``(heads, m)``.
        output_bias: ``(d,)``.
        weights: as for ``SelfAttention``.
        mask, masses: as for ``SelfAttention``.
        geometry: as for ``SelfAttention``.

    Blocks of positions are constants; as ``nn.Parameter`` they train in torch, and tensors that are computed from angles
    pass gradients on to them. In JAX they are leaves like all arrays: to train angles make the field from them in the
    loss, since a step on the blocks themselves leaves the rotations.

    Raises:
        ValueError: shapes do not fit each other, entries are nan or inf, an unknown weights name.
        TypeError: arguments that are not numbers or arrays.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.attention import Positions
        >>> from ctsa.torch import MultiHeadAttention
        >>> w = np.random.default_rng(0).normal(size=(3, 2, 4, 8))  # query, key, value of two heads of width 4
        >>> field = MultiHeadAttention(*w, output=w[0].swapaxes(-1, -2), positions=Positions.rotary(n=5, m=4))
        >>> tuple(ctsa.integrate(field, ctsa.random_tokens(5, 8), [0.0, 1.0]).xs.shape)
        (2, 5, 8)

    References:
        Vaswani et al., arXiv 1706.03762; Su et al., arXiv 2104.09864 (rotary embeddings); Miyato et al., arXiv 2310.10375
        and 2410.13821 (rotations of values and outputs).
    """

    query: Any
    key: Any
    value: Any
    output: Any
    beta: Any
    query_bias: Any
    key_bias: Any
    value_bias: Any
    output_bias: Any
    turn_query: Any
    turn_key: Any
    turn_value: Any
    turn_output: Any
    mask: Any
    masses: Any
    causal: bool
    weights: Weights
    halves: bool
    parts = dict(
        query=parameter("md", "weight"), key=parameter("md", "weight"), value=parameter("md", "weight"),
        output=parameter("dm", "weight"), beta=parameter(), query_bias=parameter("m", "bias"),
        key_bias=parameter("m", "bias"), value_bias=parameter("m", "bias"), output_bias=parameter("d", "bias"),
        turn_query=constant("nkab"), turn_key=constant("nkab"), turn_value=constant("nkab"), turn_output=constant("nkab"),
        mask=constant("nn"), masses=constant("n"), causal=static(), weights=static(), halves=static(),
    )  # fmt: skip

    def __init__(
        self,
        query: Any = None,
        key: Any = None,
        value: Any = None,
        output: Any = None,
        beta: Any = 1.0,
        positions: Any = None,
        query_bias: Any = None,
        key_bias: Any = None,
        value_bias: Any = None,
        output_bias: Any = None,
        weights: Any = "softmax",
        mask: Any = None,
        geometry: Geometry | None = None,
        masses: Any = None,
    ):
        named = dict(query=query, key=key, value=value, output=output)
        named = {name: checks.parameter(name, a, 2, 3) for name, a in named.items()}
        if beta is None:
            raise TypeError("beta must be a number or one number a head, got None")
        beta = checks.parameter("beta", beta, 0, 1)
        biases = dict(query_bias=query_bias, key_bias=key_bias, value_bias=value_bias)
        biases = {name: checks.parameter(name, a, 1, 2) for name, a in biases.items()}
        output_bias = checks.parameter("output_bias", output_bias, 1)
        weights = given_weights(weights)
        if not (positions is None or isinstance(positions, Positions)):
            raise TypeError(f"positions must be a ctsa.attention.Positions, got {type(positions).__name__}")
        mask, causal = given_mask(mask, weights)
        masses = given_masses(masses, weights, mask, causal)
        turns = {} if positions is None else positions.arrays
        d = _fitted(named, biases, beta, output_bias, mask, turns)
        self._assign(
            **named, beta=beta, **biases, output_bias=output_bias, mask=mask, masses=masses, causal=causal, weights=weights,
            halves=positions is not None and positions.layout == "halves", geometry=self._check_geometry(geometry, d),
            **{f"turn_{name}": _weak(turns.get(name)) for name in _MATRICES},
        )  # fmt: skip

    @property
    def positions(self) -> Positions | None:
        """The maps that depend on positions; None where there are none."""
        turns = {name: getattr(self, f"turn_{name}") for name in _MATRICES}
        if all(a is None for a in turns.values()):
            return None
        return Positions(**turns, layout="halves" if self.halves else "interleaved")

    @property
    def heads(self) -> Projected:
        """The parameters, bundled, each with an axis of heads."""

        def lifted(a, rank):
            return a if a is None or a.ndim == rank else a[None]

        def bias(a):
            return None if a is None else a[..., None, :] if a.ndim == 2 else a

        beta = self.beta[:, None, None] if self.beta.ndim else self.beta[None, None, None]
        return Projected(
            **{name: lifted(getattr(self, name), 3) for name in _MATRICES},
            **{f"{name}_bias": bias(getattr(self, f"{name}_bias")) for name in _MATRICES[:3]},
            **{f"turn_{name}": getattr(self, f"turn_{name}") for name in _MATRICES},
            beta=beta, weights=self.weights, mask=self.mask, causal=self.causal, halves=self.halves,
            count=self.count, masses=self.masses,
        )  # fmt: skip

    def matrices(self) -> dict[str, Array]:
        """Return the matrices and biases of all heads together, as papers and ``nn.Linear`` write them, by name.

        ``query``, ``key`` and ``value`` are ``(heads m, d)``, ``output`` is ``(d, heads m)``, biases ``(heads m,)`` and
        ``(d,)``; what is the identity, or absent, is left out.
        """
        found: dict[str, Any] = {}
        for name in _MATRICES[:3]:
            a, b = getattr(self, name), getattr(self, f"{name}_bias")
            found |= {name: None if a is None else a.reshape(-1, a.shape[-1])}
            found |= {f"{name}_bias": None if b is None else b.reshape(-1)}
        if self.output is not None:
            o = self.output if self.output.ndim == 3 else self.output[None]
            found["output"] = backend(o).xp.swapaxes(o, 0, 1).reshape(o.shape[1], -1)
        found["output_bias"] = self.output_bias
        return {name: a for name, a in found.items() if a is not None}

    @property
    def count(self) -> int:
        """The number of heads."""
        return head_count({name: getattr(self, name) for name in type(self).parts})

    def _shift(self, y: Array) -> Array:
        return y if self.output_bias is None else y + self.output_bias

    def in_blocks(self, n: int) -> bool:
        """Tell whether the scores of ``n`` tokens are taken a block of rows at a time."""
        return self.weights.rowwise and n >= SURELY

    def drift(self, t, x):
        return self._shift(projected_output(self.heads, x))

    def drift_tangent(self, t, x, u):
        if not self.weights.closed:
            return jvp_batched(lambda y: self.drift(t, y), x, u)
        y, dy = projected_tangent(self.heads, x, u, LARGEST)
        return self._shift(y), dy

    def drift_jacobian(self, t, x):
        if not self.weights.closed:
            return Field.drift_jacobian(self, t, x)
        be, (n, d) = backend(x), x.shape[-2:]
        unit = be.eye(d, x) + 0 * x[..., None]
        y, full, own = self.drift_compressed(t, x, unit, unit)
        full = full + be.eye(n, x)[:, None, :, None] * own[..., :, :, None, :]
        return y, full.reshape(*full.shape[:-4], n * d, n * d)

    def drift_compressed(self, t, x, left, right):
        if not self.weights.closed:
            return Field.drift_compressed(self, t, x, left, right)
        y, full, own = projected_compressed(self.heads, x, left, right)
        return self._shift(y), full, own

    def dense_pays(self, x, k):
        n, d = x.shape[-2:]
        m = d if self.query is None else self.query.shape[-2]
        return bool(self.weights.closed and choose(n, d, m, self.count, k) == "assembled")

    def scores(self, x: Array) -> Array:
        """Return the scores at ``x``: ``(..., heads, n, n)``."""
        return projected_scores(self.heads, checks.given(x, self))

    def attention(self, x: Array) -> Array:
        """Return the attention weights at ``x``: ``(..., heads, n, n)``."""
        return projected_weights(self.heads, checks.given(x, self))

    def merged(self, labels, size=None):
        if self.causal or self.mask is not None or self.positions is not None:
            raise ValueError("tokens do not merge under a mask or positions, which tell them apart: leave these out")
        masses = joined(labels, self.masses, size)
        return type(self)(**self.arguments() | dict(masses=backend(self.beta).like(masses, self.beta)))

    def arguments(self):
        return super().arguments() | dict(mask="causal" if self.causal else self.mask, positions=self.positions)


def _weak(a: Any) -> Any:
    """Return NumPy blocks as numbers that take the dtype of the projections."""
    return a.astype(object) if framework(a) == "numpy" else a


def head_count(given: dict[str, Any]) -> int:
    """Return the number of heads that parameters have, given by name."""
    ranks = dict(query=3, key=3, value=3, output=3, beta=1, query_bias=2, key_bias=2, value_bias=2, mask=3)
    ranks |= {f"turn_{name}": 5 for name in _MATRICES}
    arrays: list[tuple[Any, int]] = [(given.get(name), rank) for name, rank in ranks.items()]
    return next((int(a.shape[0]) for a, rank in arrays if getattr(a, "ndim", 0) == rank), 1)


def _fitted(named: dict, biases: dict, beta: Any, output_bias: Any, mask: Any, turns: dict) -> int | None:
    """Check that shapes fit each other; return the dimension of a token where it is fixed."""
    sides = [(name, a.shape[-2 if name == "output" else -1]) for name, a in named.items() if a is not None]
    sides += [("output_bias", output_bias.shape[-1])] if output_bias is not None else []
    if len({size for _, size in sides}) > 1:
        raise ValueError(f"the token dimensions differ: {', '.join(f'{name} has {size}' for name, size in sides)}")
    d = sides[0][1] if sides else None
    width = {name: d if a is None else a.shape[-1 if name == "output" else -2] for name, a in named.items()}
    for one, other in (("query", "key"), ("value", "output")):
        if width[one] != width[other]:
            raise ValueError(f"{one} and {other} must have the same width m, got {width[one]} and {width[other]}")
    for name, b in biases.items():
        m = width[name.partition("_")[0]]
        if b is not None and m is not None and b.shape[-1] != m:
            raise ValueError(f"{name} must have the width of a head, {m}, got shape {tuple(b.shape)}")
    for name, blocks in turns.items():
        m = width[name]
        if blocks is not None and m is not None and 2 * blocks.shape[-3] > m:
            raise ValueError(f"positions.{name} has {blocks.shape[-3]} planes, more than a width of {m} has")
    ranks = [(name, a, 3) for name, a in named.items()] + [(name, a, 2) for name, a in biases.items()]
    ranks += [("beta", beta, 1), ("mask", mask, 3), *((f"positions.{name}", a, 5) for name, a in turns.items())]
    heads = {name: int(a.shape[0]) for name, a, rank in ranks if a is not None and a.ndim == rank}
    if len(set(heads.values())) > 1:
        raise ValueError(f"the numbers of heads differ: {', '.join(f'{k} has {v}' for k, v in heads.items())}")
    return d


