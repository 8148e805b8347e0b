"""Regularisers of the weights of recurrent attention."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, backend, framework, modules
from ctsa.fields import MultiHeadAttention, SelfAttention
from ctsa.parts import everything, parts_of

Array = Any


def spectral_regulariser(
    source: Any, *, iterations: int | None = None, where: Callable[[str], bool] | None = None
) -> Array:
    """Return ``R = sum_W (sigma(W)^2 - 1)^2 + sum_b |b|^4``, sigma the largest singular value.

    Least where every weight has norm one and biases vanish: the Jacobian then neither explodes nor dies out. It is
    differentiable in both frameworks. The authors add it to the loss with coefficients 1e-4 (ItrSA) and 1e-5 (AKOrN).

    Args:
        source: one of

            - arrays: matrices ``(..., m, d)`` (one a head), biases ``(d,)``; numbers are left out;
            - a field, layer or model of ours, of which queries, keys, values, perceptrons and key fields count. Of
              ``MultiHeadAttention`` the four matrices of all heads together do, and their biases; ``value`` of
              ``SelfAttention`` is the product of two of these;
            - a module (``nn.Module``, ``eqx.Module``, or a layer that wraps one): every trainable matrix counts, kernels of
              convolutions flattened to ``(out, -1)``, the stacked ``in_proj_weight`` of attention as its three
              matrices, and every vector whose name ends in "bias". Gains of norms do not count.
        iterations: so many power iterations for sigma, from a fixed vector, instead of singular values: a lower bound
            that is close when the leading singular value stands apart, and much faster for large matrices (its gradient
            is that of ``u^T W v`` at the vectors found).
        where: of a module, which parameters count, by name.

    Returns:
        A number, as an array of the framework.

    Raises:
        ValueError: there is nothing to regularise, or a weight has nan or inf.
        TypeError: an entry is no array.

    Example:
        >>> import numpy as np, ctsa
        >>> float(ctsa.spectral_regulariser([2.0 * np.eye(3), np.array([1.0, 1.0])]))  # (4 - 1)^2 + 2^2
        13.0

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    if iterations is not None:
        iterations = checks.integer("iterations", iterations, low=1)
    total = None
    for a in _arrays(source, where):
        if framework(a) is None or not hasattr(a, "ndim"):
            raise TypeError(f"source must hold arrays, got {type(a).__name__}: pass arrays, a field, a layer or a module")
        if not a.ndim:
            continue
        values = checks.concrete(a)
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"source has a weight of shape {tuple(a.shape)} with entries that are nan or inf")
        term = ((_largest(a, iterations) ** 2 - 1) ** 2).sum() if a.ndim > 1 else (a * a).sum() ** 2
        total = term if total is None else total + term
    if total is None:
        raise ValueError("source must hold at least one weight or bias: there is nothing to regularise")
    return total


def _arrays(source: Any, where: Callable[[str], bool] | None) -> Iterable[Any]:
    if hasattr(source, "module"):  # a layer that wraps one
        source = source.module
    if hasattr(source, "arguments"):
        return list(_parameters(source))
    home = framework(source)
    if home is not None and hasattr(source, "shape"):
        return [source]
    if autodiff(source) and not isinstance(source, (list, tuple)):
        named = modules(home).named_parameters(source)
        return [m for name, a in named if where is None or where(name) for m in _matrices(name, a)]
    if not isinstance(source, Iterable):
        raise TypeError(f"source must be arrays, a field, a layer or a module, got {type(source).__name__}")
    return list(source)


def _matrices(name: str, a: Array) -> list[Array]:
    """Return the matrices of a module's parameter, or its bias."""
    if a.ndim < 2:
        return [a] if name.endswith("bias") and a.ndim else []
    if name.endswith("in_proj_weight"):
        return list(a.reshape(3, -1, a.shape[-1]))
    return [a if a.ndim == 2 else a.reshape(a.shape[0], -1)]


def _largest(a: Array, iterations: int | None) -> Array:
    """Return the largest singular values ``(...)`` of matrices ``(..., m, d)``."""
    be = backend(a)
    if iterations is None:
        return be.xp.linalg.svdvals(a)[..., 0]
    fixed = be.stop_gradient(a)
    start = np.random.default_rng(0).normal(size=(a.shape[-1], 1))
    v = be.like(start / np.linalg.norm(start), a) + 0 * fixed[..., :1, :].mT
    u = fixed @ v
    for _ in range(iterations):
        u = _unit(be, fixed @ v)
        v = _unit(be, fixed.mT @ u)
    return (u * (a @ v)).sum((-2, -1))


def _unit(be: Any, v: Array) -> Array:
    s = (v * v).sum(-2, keepdims=True)
    return v / be.xp.where(s > 0, s, be.xp.ones_like(s)) ** 0.5


def _parameters(thing: Any) -> Iterator[Any]:
    for each in everything(thing):
        if hasattr(each, "matrices"):
            yield from each.matrices().values()
            continue
        for name, part in parts_of(type(each)).items():
            value = getattr(each, name)
            if part.role and value is not None:
                # Biases of heads are one vector: |b|^4 of all of them.
                yield value if part.role == "weight" else value.reshape(-1)


def _attentions(source: Any) -> list[Any]:
    """Return the fields of attention in a field, layer or model."""
    kinds = (MultiHeadAttention, SelfAttention)
    found = [each for each in everything(source) if isinstance(each, kinds)]
    if not found:
        raise ValueError(f"source must hold SelfAttention or MultiHeadAttention, got {type(source).__name__}")
    return found


def symmetry(source: Any) -> Array:
    """Return ``R = sum_h |V_h - (A_h + A_h^T) / 2|_F^2``, ``A_h = Q_h^T K_h``, ``V_h`` the value of a head, ``W_O W_V``.

    Zero where every head's value is the symmetric part of its scores, as in ``SymmetricAttention``: attention that descends
    an energy. The authors call it R_E, for one head (coefficient 1e-6) or several (1e-4, with orthogonal W_V and W_O).

    Args:
        source: a field, layer or model of ours with ``SelfAttention`` or ``MultiHeadAttention``.

    Returns:
        A number, as an array of the framework.

    Raises:
        ValueError: there is no attention in it, or an identity stands where its size is not known.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> float(ctsa.regularise.symmetry(SelfAttention(query=np.eye(2), key=np.eye(2), value=3 * np.eye(2))))
        8.0

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    total = None
    for each in _attentions(source):
        value = each.value
        if isinstance(each, MultiHeadAttention):
            if value is None or each.output is None:
                value = each.output if value is None else value
            else:
                value = each.output @ value
        both = [a for a in (each.query, each.key) if a is not None]
        scores = both[0].mT @ both[1] if len(both) == 2 else both[0] if both else None
        if value is None and scores is None:
            continue  # both are the identity
        reference: Any = scores if value is None else value
        one = backend(reference).eye(reference.shape[-1], reference)
        a, v = (one if m is None else m for m in (scores, value))
        term = ((v - 0.5 * (a + a.mT)) ** 2 + 0 * v).sum()
        total = term if total is None else total + term
    if total is None:
        raise ValueError("source must have queries, keys or values: all of them are the identity")
    return total


def orthogonality(source: Any) -> Array:
    """Return ``R = sum_W |W^T W - 1|_F^2`` over the value and output matrices of all heads together, ``W_V`` and ``W_O``.

    Zero where they are orthogonal, as the authors have them with R_E of several heads, see ``symmetry``.

    Args:
        source: a field, layer or model of ours with ``SelfAttention`` or ``MultiHeadAttention``.

    Raises:
        ValueError: there is no attention in it, or it has neither values nor outputs.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> float(ctsa.regularise.orthogonality(SelfAttention(value=2 * np.eye(2))))
        18.0

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    total = None
    for each in _attentions(source):
        if isinstance(each, MultiHeadAttention):
            found = [a for name, a in each.matrices().items() if name in ("value", "output")]
        else:
            found = [each.value] if each.value is not None else []
        for w in found:
            be = backend(w)
            short = w @ w.mT if w.shape[-2] <= w.shape[-1] else w.mT @ w
            term = ((short - be.eye(short.shape[-1], w)) ** 2).sum()
            total = term if total is None else total + term
    if total is None:
        raise ValueError("source must have values or outputs: all of them are the identity")
    return total
