"""Norms of layer Jacobians beside their bounds: what normalisation does for a recurrent layer."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import States
from ctsa.fields import Injection, Oja, Perceptron, Rescaled, Rotation, Scaled, SelfAttention
from ctsa.flows.systems import home_of, member_of
from ctsa.layers import EulerLayer, Layer
from ctsa.layers.base import time_of
from ctsa.layers.check import check_foreign
from ctsa.layers.recurrent import AKOrN, ItrSA
from ctsa.results.base import Result, as_numpy, picture
from ctsa.tangent._products import Link, ambient_link, layer_link
from ctsa.tangent.jacobians import DENSE
from ctsa.tangent.norms import norms_by_products, spectral_norm

Array = Any
_SLOPES = {"tanh": 1.0, "relu": 1.0, "gelu": 1.12905}  # largest slope of the activation


def _norm(a: Any) -> float:
    return 1.0 if a is None else float(np.linalg.norm(as_numpy(a).astype(float), 2))


def _one(a: Any, h: int, rank: int) -> Any:
    """Return the parameter of head ``h``."""
    return None if a is None else a[h] if a.ndim > rank else a


def _attention(field: Any, n: int, radius: float) -> float:
    if field.weights.name != "softmax":
        return float("nan")
    total, heads = 0.0, field.heads
    for h in range(heads.count):
        q, k, v = (_one(getattr(heads, name), h, 2) for name in ("query", "key", "value"))
        q, k = (None if m is None else as_numpy(m).astype(float) for m in (q, k))
        a = _norm(k) if q is None else _norm(q) if k is None else _norm(q.T @ k)
        beta = abs(float(as_numpy(_one(heads.beta, h, 0))))
        bias = 0.0 if heads.key_field is None else float(np.linalg.norm(as_numpy(_one(heads.key_field, h, 1))))
        own, others = a * radius**2, radius * (radius * a + bias)
        total += _norm(v) * np.sqrt(3 * (beta**2 * (own**2 + 4 * n * others**2) + n))
    return float(total)


@analysis
def lipschitz_bound(field: Any, n: int, radius: float = 1.0) -> float:
    """Bound the spectral norm of the Jacobian of a field's drift, for all states of n tokens no longer than ``radius``.

    Softmax attention, heads h with A = Q^T K and key field r (0 if there is none; without it the bound is Castin's)::

        |J| <= sqrt(3) sum_h |V_h| ( beta^2 |A_h|^2 R^4 + 4 n beta^2 R^2 (R |A_h| + |r_h|)^2 + n )^(1/2).

    It grows like the square root of n. Any mask may be in place. Rotations add ``|Omega|``, ``Oja`` adds ``|V|``,
    perceptrons ``|W2| |W1|``.

    Args:
        field: a field of ours.
        n: number of tokens.
        radius: R.

    Returns:
        The bound; nan where none is known (other weights, bare callables).

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> round(ctsa.lipschitz_bound(SelfAttention(beta=1.0), n=4), 6)  # sqrt(3 (4 * 4 + 1 + 4))
        7.937254

    References:
        Castin, Ablin, Peyré, arXiv 2312.14820.
    """
    n, radius = checks.integer("n", n, low=1), checks.number("radius", radius, low=0.0, strict=True)
    if isinstance(field, Scaled):
        return abs(float(as_numpy(field.factor))) * lipschitz_bound(field.field, n, radius)
    if isinstance(field, Rescaled):
        gain = float(np.abs(as_numpy(field.gain)).max())
        shift = 0.0 if field.bias is None else _length(as_numpy(field.bias))
        return gain * lipschitz_bound(field.field, n, gain * radius + shift)
    if hasattr(field, "fields"):
        return float(sum(lipschitz_bound(part, n, radius) for part in field.fields))
    if isinstance(field, SelfAttention):
        return _attention(field, n, radius)
    if isinstance(field, Oja):
        return _norm(field.value)
    if isinstance(field, Injection):
        return 0.0
    if isinstance(field, Perceptron):
        return _norm(field.weight_out) * _norm(field.weight_in) * _SLOPES[field.activation]
    if isinstance(field, Rotation):
        if field.omega is None:
            return float(np.abs(as_numpy(field.frequencies)).max())
        m = as_numpy(field.omega).astype(float)
        return float(np.linalg.norm((m - np.swapaxes(m, -1, -2)) / 2, 2, axis=(-2, -1)).max())
    return float("nan")


def _length(bias: np.ndarray) -> float:
    return float(np.linalg.norm(bias)) if bias.ndim else float("inf")  # a number is added to d components: d unknown


@dataclass(frozen=True)
class JacobianNorms(Result):
    """Spectral norms of a layer's Jacobian at a state, and bounds of them. See ``jacobian_norms``.

    Attributes:
        norm: of the Jacobian of the layer.
        tangent_norm: the same between tangent spaces; the radial directions left out.
        update_norm: of the Jacobian of the update that the layer adds, ``|J_F|``; nan for wrapped modules.
        radius: R, length of the shortest token before normalisation.
        bound: ``max|gamma| / R (1 + step |J_F|)`` with the measured ``|J_F|``, or ``|J_move| / R``.
        lipschitz: ``|J_F|`` bounded without looking at the state, see ``lipschitz_bound``; nan where none is known.
        a_priori: ``bound`` with ``lipschitz`` in place of ``update_norm``.
        holds: whether ``norm <= bound``, and ``update_norm <= lipschitz`` where there is one.
    """

    norm: float
    tangent_norm: float
    update_norm: float
    radius: float
    bound: float
    lipschitz: float
    a_priori: float
    holds: bool
    _static: ClassVar[tuple[str, ...]] = (
        "norm", "tangent_norm", "update_norm", "radius", "bound", "lipschitz", "a_priori", "holds",
    )  # fmt: skip

    def __repr__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        return f"JacobianNorms(norm={self.norm:.4g}, bound={self.bound:.4g} {verdict}, tangent={self.tangent_norm:.4g})"

    def table(self) -> str:
        """Return all of it as text, a line a number."""
        names = (
            "layer Jacobian", "  on tangent spaces", "update Jacobian", "shortest token R", "bound of the layer Jacobian",
            "Lipschitz bound of the update", "bound without looking at the state",
        )  # fmt: skip
        values = [getattr(self, f.name) for f in fields(self)]
        shown = [f"{value:>10.4g}" if np.isfinite(value) else f"{'not known':>10}" for value in values[:-1]]
        return "\n".join(f"{name:<36}{value}" for name, value in zip(names, shown, strict=True))

    def plot(self, ax: Any = None) -> Any:
        """Draw the norms and their bounds; ``ctsa.plot.monitors.norms`` takes a list, too, and draws it against depth."""
        return picture("monitors.norms")(self, ax=ax)


@analysis
def jacobian_norms(
    layer: Any, x: States, *, dense: bool | None = None, budget: int = 2000, normalize: bool = False
) -> Any:
    """Measure the spectral norm of a layer's Jacobian and compare it with what normalisation guarantees.

    ``N(y) = y / |y|`` has a derivative of norm ``1 / |y|``, so a layer ``N(gamma * x + step F)`` obeys::

        |J| <= max|gamma| / R (1 + step |J_F|),    R = min_i |gamma * x_i + step F_i|,

    and ``|J_F|``, whose best bound grows like sqrt(n), is divided by an R that grows with the step: however large
    the update, the layer's Jacobian stays of order one. In flat space R = 1.

    Args:
        layer: a layer of ours. F is ``C + MSA`` for ``ItrSA`` and ``PostNormLayer``, the velocity for ``EulerLayer``.
        x: one state ``(n, d)``, or a batch of them ``(b, n, d)``.
        dense: form the Jacobians (True), or take products with them and their transposes (False); None forms them up to
            1000 unknowns n d.
        budget: most products for each norm.
        normalize: normalise ``x`` first.

    Returns:
        ``JacobianNorms``; of a batch a list of them, which ``ctsa.plot.monitors.norms`` draws.

    Raises:
        TypeError: not a layer of ours; wrap others in ``WrappedLayer``.
        RuntimeError: the budget is used up.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> layer = ctsa.ItrSA(SelfAttention(beta=2.0), step=1.0, gamma=0.5)
        >>> ctsa.jacobian_norms(layer, ctsa.random_tokens(6, 3)).holds
        True

    References:
        Tomihari and Karakida, arXiv 2505.19458; Castin, Ablin, Peyré, arXiv 2312.14820.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer must be a layer of ctsa, got {type(layer).__name__}: wrap it in ctsa.WrappedLayer")
    g = layer.geometry
    if not (g.flat or g.unit):
        raise ValueError(f"bounds are known on the sphere and in flat space, and layer lives on {g.place}")
    x = checks.tokens(x, home_of(layer), g, normalize=normalize, name="x")
    if x.ndim > 3:
        raise ValueError(f"x must be one state (n, d) or a batch (b, n, d), got shape {tuple(x.shape)}: loop over it")
    dense, budget = checks.flag("dense", dense, unset=True), checks.integer("budget", budget, low=2)
    if dense is None:
        dense = x.shape[-2] * x.shape[-1] <= DENSE
    check_foreign(layer, x, g, adjoint=not dense)
    if x.ndim == 2:
        return _norms(layer, x, dense, budget)
    return [_norms(member_of(layer, (i,)), each, dense, budget) for i, each in enumerate(x)]


def _norms(layer: Any, x: Array, dense: bool, budget: int) -> JacobianNorms:
    (n, d), g, be = x.shape, layer.geometry, backend(x)
    moved = ambient_link(be.partial(_move, layer), be.partial(_move_tangent, layer), x)
    whole = layer_link(layer, g, x)
    whole = ambient_link(whole.image, whole.tangent, x)
    radius = float(as_numpy(g.radius(be.call(moved.image, x))).min())

    def norm_of(link: Link) -> float:
        if dense:
            checks.room(f"a dense Jacobian of {n * d} unknowns", 3.0 * (n * d) ** 2, remedy="pass dense=False")
            columns = link.forward(be.eye(n * d, x).reshape(n * d, n, d))
            return float(np.linalg.norm(as_numpy(columns).astype(float).reshape(n * d, n * d), 2))
        return float(norms_by_products(link, n * d, budget))

    norm, tangent = norm_of(whole), spectral_norm(layer, x, dense=dense, budget=budget)
    keep, divisor, step = _update(layer, n, d)
    if divisor is None:
        update_norm, bound = float("nan"), norm_of(moved) / radius
        lipschitz = a_priori = float("nan")
    else:
        gain = float(np.abs(keep).max()) if isinstance(layer, ItrSA) else 1.0
        base = float(np.abs(keep).max())
        parts = layer, be.like(keep.reshape(n, d), x), be.like(divisor.reshape(n, d), x), x
        update_norm = norm_of(ambient_link(be.partial(_added, *parts), be.partial(_added_tangent, *parts), x))
        bound = (base + gain * step * update_norm) / radius
        lipschitz = _update_bound(layer, x, gain)
        a_priori = (base + gain * step * lipschitz) / radius
    slack = 1 + 1e3 * rounding(x)
    holds = norm <= bound * slack and not update_norm > lipschitz * slack
    return JacobianNorms(norm, tangent, update_norm, radius, bound, lipschitz, a_priori, holds)


def _move(layer: Any, x: Array) -> Array:
    return layer.move(x)


def _move_tangent(layer: Any, x: Array, u: Array) -> Array:
    return layer.move_tangent(x, u)[1]


def _added(layer: Any, keep: Array, divisor: Array, at: Array, y: Array) -> Array:
    """Return a function whose Jacobian at a state ``at`` is that of the update by its tokens, J_F."""
    off = (y - at) / divisor
    return layer.move(at + off) - keep * off


def _added_tangent(layer: Any, keep: Array, divisor: Array, at: Array, y: Array, u: Array) -> Array:
    off = u / divisor
    return layer.move_tangent(at, off)[1] - keep * off


def _update(layer: Any, n: int, d: int) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Split ``J_move = keep + J_F divisor``: what is kept of x, and what the Jacobian of the update is multiplied by."""
    gained = isinstance(layer, AKOrN) and layer.gamma is not None  # P_u of a drift of gamma u: no bound is known here
    if gained or hasattr(layer, "module") or getattr(layer, "retraction", "normalize") != "normalize":
        return np.ones(n * d), None, 1.0
    step = float(as_numpy(layer.step))
    keep = np.ones(n * d)
    if isinstance(layer, ItrSA):
        keep = np.broadcast_to(np.asarray(as_numpy(layer.gamma), dtype=float), (n, d)).ravel()
        return keep, step * keep, step  # the Jacobian by the tokens gamma * x
    if isinstance(layer, AKOrN) and layer.identity:
        keep = keep * (1 + step)
    return keep, step * np.ones(n * d), step


def _update_bound(layer: Any, x: Array, gain: float) -> float:
    """Bound ``|J_F|``; a projection ``P_x F`` adds at most ``2 |F_i|``, which is taken as it is."""
    n, longest = x.shape[0], float(np.sqrt((as_numpy(x).astype(float) ** 2).sum(-1)).max())
    if isinstance(layer, ItrSA):
        return lipschitz_bound(layer.attention, n, gain * longest)
    if hasattr(layer, "method"):  # several stages of the field
        return float("nan")
    bound = lipschitz_bound(layer.field, n, longest)
    projected: Any = layer.coupling if isinstance(layer, AKOrN) and layer.project else None
    projected = layer.field if isinstance(layer, EulerLayer) else projected
    if hasattr(projected, "drift") and layer.geometry.unit:
        drift = as_numpy(projected.drift(backend(x).like(time_of(layer), x), x)).astype(float)
        bound += 2 * float(np.sqrt((drift**2).sum(-1)).max())
    return bound
