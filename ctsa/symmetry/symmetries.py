"""Which states are the same state: matching modulo permutations, reflections and rotations of tokens."""

import math
from dataclasses import dataclass, field as data_field

import numpy as np

from ctsa.observables import clusters

_NODES = 20_000  # partial assignments that a match may try


@dataclass(frozen=True)
class Symmetry:
    """The symmetries of a field on states ``(n, d)``.

    Attributes:
        classes: integers ``(n,)``: tokens of a class may be exchanged.
        basis: orthonormal columns ``(d, d)`` to which ``signs`` and ``blocks`` refer.
        signs: reflections ``(g, d)`` of the basis' columns by +-1; the first is the identity.
        blocks: sets of columns whose span may be rotated arbitrarily.
        generators: antisymmetric ``(k, d, d)``, a basis of the Lie algebra of all rotations found.
        complete: whether ``blocks`` make up all rotations found; else states are matched modulo the blocks alone.
    """

    classes: np.ndarray
    basis: np.ndarray
    signs: np.ndarray
    blocks: list[np.ndarray] = data_field(default_factory=list)
    generators: np.ndarray = data_field(default_factory=lambda: np.zeros((0, 1, 1)))
    complete: bool = True

    def __repr__(self) -> str:
        classes = f"{len(np.unique(self.classes))} classes of {len(self.classes)} tokens"
        return f"Symmetry({classes}, {len(self.signs)} reflections, {len(self.generators)} rotations)"

    @property
    def exchangeable(self) -> bool:
        """Whether all tokens may be exchanged."""
        return bool((self.classes == self.classes[0]).all())

    def moved(self, x: np.ndarray) -> np.ndarray:
        """Return the directions in which rotations move ``x``, flat: ``(k, n d)``."""
        return (x @ self.generators.swapaxes(-1, -2)).reshape(len(self.generators), x.size)

    def modes(self, x: np.ndarray, tol: float = 1e-6) -> int:
        """Return the number of independent directions in which rotations move ``x``."""
        if not len(self.generators):
            return 0
        return int((np.linalg.svd(self.moved(x), compute_uv=False) > tol * np.linalg.norm(x)).sum())

    def same(self, x: np.ndarray, y: np.ndarray, tol: float = 1e-5) -> bool:
        """Tell whether a symmetry maps ``x`` to ``y``, with no token further off than ``tol``.

        Example:
            >>> import numpy as np
            >>> from ctsa.symmetry import symmetry_of
            >>> from ctsa.torch import SelfAttention
            >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
            >>> symmetry_of(SelfAttention(value=np.diag([2.0, 1.0])), 3, 2).same(x, -x[[1, 0, 2]])
            True
        """
        u, v = x @ self.basis, y @ self.basis
        return any(self._aligned(u * s, v, tol) for s in self.signs)

    def orbit(self, x: np.ndarray, tol: float = 1e-5) -> float:
        """Return the number of distinct states that permutations and reflections make of ``x``; inf if rotations act."""
        if self.modes(x):
            return math.inf
        labels, count = clusters(x, tol), 1
        for c in np.unique(self.classes):
            sizes = np.bincount(labels[self.classes == c])
            count *= math.factorial(int(sizes.sum()))
            for size in sizes:
                count //= math.factorial(int(size))
        u = x @ self.basis
        fixing = sum(_paired(u * s, u, self.classes, tol) is not None for s in self.signs)
        return count * (len(self.signs) // max(fixing, 1))

    def _aligned(self, u: np.ndarray, v: np.ndarray, tol: float) -> bool:
        """Tell whether a permutation, and a rotation of each block, maps ``u`` to ``v``."""
        if not self.blocks:
            return _paired(u, v, self.classes, tol) is not None
        moving = np.concatenate(self.blocks)
        fixed = np.setdiff1d(np.arange(u.shape[1]), moving)
        gaps = np.linalg.norm(u[:, None, fixed] - v[None][:, :, fixed], axis=-1)
        loose = 10 * tol
        fits = (gaps <= loose) & (self.classes[:, None] == self.classes[None])
        grams = []
        for b in self.blocks:
            a, c = u[:, b], v[:, b]
            fits &= np.abs(np.linalg.norm(a, axis=1)[:, None] - np.linalg.norm(c, axis=1)) <= loose
            grams.append((a @ a.T, c @ c.T))
        if not fits.any(1).all():
            return False
        anchors, nodes = _anchors(u, self.blocks), 0
        labels = clusters(v, tol)
        stack: list[tuple[int, ...]] = [()]
        while stack and nodes < _NODES:
            chosen = stack.pop()
            nodes += 1
            if len(chosen) == len(anchors):
                if self._rotated(u, v, anchors, list(chosen), tol):
                    return True
                continue
            i, seen = anchors[len(chosen)], set()
            for j in np.flatnonzero(fits[i]):
                key = (labels[j], self.classes[j])
                if key in seen:  # equal tokens make equal rotations
                    continue
                if all(
                    abs(a[i, p] - c[j, q]) <= loose for a, c in grams for p, q in zip(anchors, chosen, strict=False)
                ):
                    seen.add(key)
                    stack.append((*chosen, int(j)))
        return False

    def _rotated(self, u: np.ndarray, v: np.ndarray, rows: list[int], images: list[int], tol: float) -> bool:
        for _ in range(3):  # the anchors' rotation, then that of all tokens as they pair
            w = u.copy()
            for b in self.blocks:
                w[:, b] = u[:, b] @ _rotation(u[rows][:, b], v[images][:, b])
            pairs = _paired(w, v, self.classes, math.inf)
            assert pairs is not None
            if np.linalg.norm(w - v[pairs], axis=1).max() <= tol:
                return True
            rows, images = list(range(len(u))), list(pairs)
        return False


def _paired(u: np.ndarray, v: np.ndarray, classes: np.ndarray, tol: float) -> np.ndarray | None:
    """Return the best assignment of tokens within their classes, or None if a token is further off than ``tol``."""
    from scipy.optimize import linear_sum_assignment

    gaps = np.linalg.norm(u[:, None] - v[None], axis=-1)
    apart = classes[:, None] != classes[None]
    gaps[apart] = 1e6
    if gaps.min(1).max() > tol or gaps.min(0).max() > tol:
        return None
    pairs = linear_sum_assignment(gaps**2)[1]
    return pairs if gaps[np.arange(len(u)), pairs].max() <= tol else None


def _anchors(u: np.ndarray, blocks: list[np.ndarray]) -> list[int]:
    """Choose tokens whose components span those of all tokens in every block."""
    rest, anchors = [u[:, b].copy() for b in blocks], []
    for _ in range(u.shape[1]):
        sizes = np.max([np.linalg.norm(r, axis=1) for r in rest], axis=0)
        i = int(np.argmax(sizes))
        if sizes[i] < 1e-3:
            break
        anchors.append(i)
        for r in rest:
            size = np.linalg.norm(r[i])
            if size >= 1e-3:
                q = r[i] / size
                r -= np.outer(r @ q, q)
    return anchors


def _rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rotation ``R`` (determinant 1) that makes ``|a R - b|`` smallest."""
    p, _, q = np.linalg.svd(a.T @ b)
    p[:, -1] *= np.sign(np.linalg.det(p @ q))
    return p @ q
