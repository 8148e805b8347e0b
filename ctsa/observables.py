"""What to look at along a trajectory: every function takes states ``(..., n, d)`` of torch, JAX or NumPy."""

from typing import Any

from . import checks
from ._backend import autodiff, backend, dtype_name
from ._types import States
from .clustering.labels import cluster_count as cluster_count, clusters as clusters
from .geometry import Sphere, length

Array = Any


def gram(x: States) -> Array:
    """Return the Gram matrix ``<x_i, x_j>``: ``(..., n, n)``.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.gram(np.eye(2))
        array([[1., 0.],
               [0., 1.]])
    """
    x = checks.states(x)
    return x @ x.mT


def energy(field: Any, x: States) -> Array:
    """Return the attention energy ``E = sum_heads 1/(2 beta) sum_ij exp(beta <Q x_i, K x_j>)``: shape ``(...)``.

    For one head with ``Q^T K = V`` symmetric (or V = cQ^T K, c > 0), no mask and softmax or unnormalised weights it
    never decreases along the flow: ``dE/dt = sum_i Z_i |x_i'|^2`` under softmax. Else it is a diagnostic, no theorem.
    With masses pairs count ``m_i m_j`` times.
    For ``EnergyAttention`` it is its own energy, which never increases. Of a sum or a multiple it is that of the one
    attention term.

    Args:
        field: a field with one ``SelfAttention`` or ``EnergyAttention`` term.
        x: tokens ``(..., n, d)``.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(beta=1.0)
        >>> traj = ctsa.integrate(field, ctsa.random_tokens(6, 3), [0.0, 1.0, 2.0])
        >>> bool((ctsa.energy(field, traj.xs).diff() > 0).all())
        True

    References:
        Geshkovski et al., arXiv 2312.10794, section 3.
    """
    attention, x = _attention(field, x, "scores", "energy")
    if not hasattr(attention, "scores"):
        return attention.energy(x)
    betas = checks.concrete(attention.beta)
    if betas is not None and (betas == 0).any():
        raise ValueError("field has beta = 0, by which the energy divides: there is none")
    s = attention.scores(x)
    e = backend(x).xp.exp(s)
    masses = getattr(attention, "masses", None)
    each = (e if masses is None else e * masses * masses[:, None]).sum((-2, -1)) / (2 * attention.beta)
    return each.sum(-1) if s.ndim > x.ndim else each


def entropy(field: Any, x: States) -> Array:
    """Return the entropy of every row of attention, ``-sum_j a_ij log a_ij`` in nats.

    Shape ``(..., n)``, or ``(..., heads, n)``; log(n) for uniform attention, 0 for attention to one token.

    Args:
        field: a ``SelfAttention`` field with normalised weights.
        x: tokens ``(..., n, d)``.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> uniform = ctsa.entropy(SelfAttention(beta=0.0), ctsa.random_tokens(4, 3)).detach().numpy()
        >>> bool(np.allclose(uniform, np.log(4)))
        True
    """
    attention, x = _attention(field, x)
    if not attention.weights.normalised:
        raise ValueError(f"entropy needs weights whose rows sum to one, got weights={attention.weights.name!r}")
    a = attention.attention(x)
    xp, masses = backend(a).xp, getattr(attention, "masses", None)
    each = a if masses is None else a / xp.where(masses > 0, masses, xp.ones_like(masses))  # of one of m_j tokens
    return -(a * xp.log(xp.where(each > 0, each, xp.ones_like(a)))).sum(-1)


def _summands(field: Any) -> list:
    """Return the terms of a field, those of its multiples included."""
    terms = getattr(field, "terms", lambda: [field])()
    return [part for f in terms for part in (_summands(f.field) if hasattr(f, "factor") else [f])]


def _attention(field: Any, x: Array, *known: str) -> tuple[Any, Array]:
    """Return the one term of a field that has one of the methods, and the states in its framework (from a file: NumPy)."""
    found = [f for f in _summands(field) if any(hasattr(f, name) for name in known or ("scores",))]
    if len(found) != 1:
        kinds = "SelfAttention or EnergyAttention" if "energy" in known else "SelfAttention"
        raise TypeError(f"expected a field with one {kinds} term, got {type(field).__name__} with {len(found)}")
    (attention,) = found
    x = checks.states(x)
    if not autodiff(x):
        be = backend(attention.beta)
        x = be.asarray(x, dtype_name(attention.beta), attention.beta, "x")
    return attention, checks.given(x, attention)


def order_parameter(x: States, channels: int | None = None) -> Array:
    """Return the order parameter ``R = |mean_i x_i|``: 1 in consensus, 0 where tokens cancel; shape ``(...)``.

    For oscillators (``channels=N``) the mean is taken over all oscillators, Kuramoto's R for N = 2.

    Example:
        >>> import numpy as np, ctsa
        >>> float(ctsa.order_parameter(np.array([[1.0, 0.0], [-1.0, 0.0]])))
        0.0
    """
    x = checks.states(x)
    if channels is not None:
        Sphere(channels).check_dimension(x.shape[-1])
        x = x.reshape(*x.shape[:-2], -1, channels)
    return length(x.mean(-2))


def effective_rank(x: States) -> Array:
    """Return the effective rank of the tokens: the exponential of the entropy of the Gram matrix' eigenvalue shares.

    1 in consensus (and in bipartite consensus), at most min(n, d); shape ``(...)``.

    Example:
        >>> import numpy as np, ctsa
        >>> round(float(ctsa.effective_rank(np.eye(3))), 12)
        3.0

    References:
        Roy and Vetterli, *The effective rank*, EUSIPCO 2007 (with squared singular values as shares).
    """
    x = checks.states(x, finite=True)
    xp = backend(x).xp
    small = x.mT @ x if x.shape[-1] < x.shape[-2] else x @ x.mT
    p = xp.linalg.eigvalsh(small)
    p = xp.where(p > 0, p, xp.zeros_like(p))
    p = p / p.sum(-1, keepdims=True)
    return xp.exp(-(p * xp.log(xp.where(p > 0, p, xp.ones_like(p)))).sum(-1))
