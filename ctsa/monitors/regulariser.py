"""The spectral regulariser of recurrent attention."""

from collections.abc import Iterable, Iterator
from typing import Any

from ctsa._backend import backend, framework

Array = Any
# Which constructor arguments of fields are weights, and which are biases.
_WEIGHTS = ("query", "key", "value", "weight_in", "weight_out", "memory")
_BIASES = ("key_field", "bias_in", "bias_out", "bias")


def spectral_regulariser(source: Any) -> Array:
    """Return ``R = sum_W (sigma(W)^2 - 1)^2 + sum_b |b|^4``, sigma the largest singular value.

    Least where every weight has norm one and biases vanish: the Jacobian then neither explodes nor dies out. It is
    differentiable in both frameworks; sigma is exact, where the authors iterate for it. They add it to the loss with
    coefficients 1e-4 (ItrSA) and 1e-5 (AKOrN).

    Args:
        source: arrays, matrices ``(..., m, d)`` (one a head), biases ``(d,)``, numbers are left out; or a field or
            layer of ours, of which queries, keys, values, perceptrons and key fields count. ``value`` is then the product
            of value and output projections; to regularise each, pass the arrays.

    Returns:
        A number, as an array of the framework.

    Raises:
        ValueError: there is nothing to regularise.
        TypeError: an entry is no array.

    Example:
        >>> import numpy as np, ctsa
        >>> float(ctsa.spectral_regulariser([2.0 * np.eye(3), np.array([1.0, 1.0])]))  # (4 - 1)^2 + 2^2
        13.0

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    if hasattr(source, "arguments"):
        arrays: Iterable[Any] = list(_parameters(source))
    elif framework(source) is not None and hasattr(source, "shape"):
        arrays = [source]
    else:
        arrays = list(source)
    total = None
    for a in arrays:
        if framework(a) is None or not hasattr(a, "ndim"):
            raise TypeError(f"source must hold arrays, got {type(a).__name__}")
        if not a.ndim:
            continue
        xp = backend(a).xp
        term = ((xp.linalg.svdvals(a)[..., 0] ** 2 - 1) ** 2).sum() if a.ndim > 1 else (a * a).sum() ** 2
        total = term if total is None else total + term
    if total is None:
        raise ValueError("source must hold at least one weight or bias: there is nothing to regularise")
    return total


def _parameters(part: Any) -> Iterator[Any]:
    for name, value in part.arguments().items():
        if name in _WEIGHTS or name in _BIASES:
            if value is not None:
                # Biases of heads are one vector: |b|^4 of all of them.
                yield value if name in _WEIGHTS else value.reshape(-1)
        elif hasattr(value, "arguments"):
            yield from _parameters(value)
        elif isinstance(value, (list, tuple)):
            for each in value:
                if hasattr(each, "arguments"):
                    yield from _parameters(each)
