"""The matrices that fields are made of: what acts at consensus, what symmetries must keep, and eigenspaces."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ctsa.parts import parts_of
from ctsa.results.base import as_numpy

from .algebra import flat_terms
from .multi_head import head_count

_EQUAL = 1e-9  # eigenvalues closer than this, relative to the largest, are one


def terms_of(field: Any) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield the parameters of every term of a field of ours as NumPy, with the number that multiplies the term.

    Of a term that is read at ``gain * x + bias``, "gain" and "bias" are among them.
    """
    for factor, term, read in flat_terms(field):
        if parts_of(type(term)) and getattr(term, "of_tokens", True):
            inner = term.arguments()
            given = {k: np.asarray(as_numpy(v), float) if hasattr(v, "shape") else v for k, v in inner.items()}
            yield factor, given if read is None else {**given, "gain": read[0], "bias": read[1]}


def consensus_matrix(field: Any, d: int) -> np.ndarray | None:
    """Return the matrix ``M`` whose real eigenvectors carry consensus: the sum of all values, over heads and terms.

    At consensus the weights of every row add up to one, so a token moves by ``P_x M x``. A rotation that all tokens
    share adds its matrix; a term that is read at ``gain * x`` acts by ``V diag(gain)``. None if the field has no such term,
    or reads one at a biased state.

    Args:
        field: a field of ours.
        d: dimension of a token.

    Example:
        >>> import numpy as np
        >>> from ctsa.fields.matrices import consensus_matrix
        >>> from ctsa.torch import Oja, SelfAttention
        >>> consensus_matrix(SelfAttention(value=np.eye(2)) + 2.0 * Oja(np.diag([1.0, 0.0])), 2)
        array([[3., 0.],
               [0., 1.]])
    """
    total, found = np.zeros((d, d)), False
    for factor, given in terms_of(field):
        if "output" in given:
            if given["positions"] is not None:
                return None
            inner, outer = (np.eye(d) if given[k] is None else given[k] for k in ("value", "output"))
            value = outer @ inner
            value = value.sum(0) if value.ndim == 3 else head_count(given) * value
        elif "value" in given:
            value, heads = given["value"], 1
            for name, rank in (("query", 3), ("key", 3), ("beta", 1), ("key_field", 2), ("mask", 3)):
                other = given.get(name)
                if isinstance(other, np.ndarray) and other.ndim == rank:
                    heads = len(other)
            value = heads * np.eye(d) if value is None else value
            if value.ndim == 3:
                value = value.sum(0)
            elif given["value"] is not None:
                value = heads * value
        elif getattr(given.get("omega"), "ndim", 0) == 2:
            value = (given["omega"] - given["omega"].T) / 2
        elif getattr(given.get("frequencies"), "ndim", 0) == 1:
            value = np.kron(np.diag(given["frequencies"]), [[0.0, -1.0], [1.0, 0.0]])
        else:
            continue
        if np.any(given.get("bias", 0.0)):
            return None
        if value.shape == (d, d):
            value = value * given.get("gain", 1.0)
            total, found = total + factor * value, True
    return total if found else None


def symmetric_parts(field: Any, d: int) -> list[np.ndarray]:
    """Return symmetric ``(d, d)`` matrices that any rotation or reflection which commutes with the field leaves alone."""
    parts: list[np.ndarray] = []
    for _, given in terms_of(field):
        if "output" in given:  # factors, and positions: what commutes is found by trying
            continue
        q, k = (given.get(name) for name in ("query", "key"))
        if "query" in given and (q is not None or k is not None):
            q, k = (np.eye(d) if m is None else m for m in (q, k))
            parts.extend((q.swapaxes(-1, -2) @ k).reshape(-1, d, d))
        for name in ("value", "omega"):
            if given.get(name) is not None:
                w = given[name].reshape(-1, d, d)
                parts.extend(w @ w if name == "omega" else w)
        for name in ("key_field", "input"):
            if given.get(name) is not None:
                rows = given[name].reshape(-1, d)
                parts.append(rows.T @ rows)
        parts.extend(np.diag(np.broadcast_to(given[name], d)) for name in ("gain", "bias") if name in given)
        for name in ("weight_in", "weight_out"):
            if given.get(name) is not None:
                w = given[name] if name == "weight_in" else given[name].T
                parts.append(w.T @ w)
    return [(m + m.T) / 2 for m in parts if m.shape == (d, d)]


def eigenspaces(matrix: np.ndarray) -> list[tuple[int, float, np.ndarray]]:
    """Return ``(k, eigenvalue, orthonormal columns)`` of every real eigenspace of a matrix.

    ``k`` counts all eigenvalues, complex ones too, by real part, descending, and is that of the first of equal ones.

    Example:
        >>> import numpy as np
        >>> from ctsa.fields.matrices import eigenspaces
        >>> [(k, value, space.shape) for k, value, space in eigenspaces(np.diag([1.0, 3.0, 1.0]))]
        [(0, 3.0, (3, 1)), (1, 1.0, (3, 2))]
    """
    if np.allclose(matrix, matrix.T, rtol=0, atol=1e-14 * max(1.0, np.abs(matrix).max())):
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    else:
        values, vectors = np.linalg.eig(matrix)
    order = np.lexsort((-values.imag, -values.real))
    values, vectors = values[order], vectors[:, order]
    slack = _EQUAL * max(1.0, float(np.abs(values).max()))
    spaces: list[tuple[int, float, np.ndarray]] = []
    for k, value in enumerate(values):
        if abs(value.imag) > slack:
            continue
        vector = vectors[:, k].real[:, None]
        if spaces and abs(spaces[-1][1] - value.real) <= slack:
            first, mean, space = spaces[-1]
            u, s, _ = np.linalg.svd(np.concatenate([space, vector], 1), full_matrices=False)
            spaces[-1] = (first, mean, u[:, s > 1e-7])
        else:
            spaces.append((k, float(value.real), vector / np.linalg.norm(vector)))
    return spaces
