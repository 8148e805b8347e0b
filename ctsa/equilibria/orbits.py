"""Which states of a field are the same state: its symmetries, found numerically, and matching modulo them.

Three kinds are looked for, each by evaluating the field at random states, so that any callable will do:

- permutations of tokens: the transpositions that commute with the field sort the tokens into classes;
- reflections ``x -> x R`` with ``R`` diagonal in a basis: that of the field's matrices if they share one, else the
  coordinate axes. ``-I`` (odd fields) is one of them;
- continuous rotations ``x -> x exp(t W)^T``: antisymmetric ``W`` with ``DF(x)[x W^T] = F(x) W^T``, a linear condition.
"""

import math
from dataclasses import dataclass, field as data_field
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.geometry import Geometry, direction_generator, geometry_of
from ctsa.observables import clusters

from .newton import solve
from .starts import symmetric_parts

_EXACT = 1e-9  # a symmetry holds if it does to this relative accuracy at random states (of float64)
_LIE = 48  # largest token dimension whose d (d - 1) / 2 rotations are looked at one by one
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
            >>> from ctsa.equilibria.orbits import symmetry_of
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


def symmetry_of(
    field: Any, n: int, d: int, *, t: float = 0.0, geometry: Geometry | None = None, like: Any = None
) -> Symmetry:
    """Find the symmetries of a field on states ``(n, d)``.

    Args:
        field: any callable ``field(t, x)``.
        n: number of tokens.
        d: dimension of a token.
        t: time.
        geometry: where a bare callable lives.
        like: an array whose framework and dtype a bare callable wants.

    Example:
        >>> import numpy as np
        >>> from ctsa.equilibria.orbits import symmetry_of
        >>> from ctsa.torch import SelfAttention
        >>> found = symmetry_of(SelfAttention(), 3, 3)  # query, key and value are the identity
        >>> found.exchangeable, len(found.generators), len(found.signs)
        (True, 3, 2)
        >>> symmetry_of(SelfAttention(value=np.diag([3.0, 2.0, 1.0]), mask="causal"), 3, 3).classes
        array([0, 1, 2])
    """
    g = geometry_of(field, geometry)
    rng = direction_generator(17)

    def evaluate(states):
        states = states if like is None else backend(like).like(states, like)
        return solve(field, states, iterations=0, t=t, geometry=geometry)

    x = g.random(n, d, rng, (2,))
    one = checks.tokens(x[:1] if like is None else like[:1], field, g, name="like")
    exact = max(_EXACT, 1e3 * float(backend(one).xp.finfo(one.dtype).eps))
    _, f, j, _ = evaluate(x)
    generators = _rotations(g, x, f, j, exact) if d <= _LIE else np.zeros((0, d, d))
    basis, blocks, complete = _blocks(field, g, generators, d, rng)
    moves = _candidate_signs(blocks, d)
    if not g.unit:  # a mirror of R^d may not keep the manifold
        moves = moves[[np.abs(np.asarray(g.radius((x @ basis * s) @ basis.T)) - 1).max() <= exact for s in moves]]
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n) if n <= 24 or b == a + 1]
    reflected = [(x[0] @ basis * s) @ basis.T for s in moves]
    swapped = [x[0][_swap(n, a, b)] for a, b in pairs]
    image = evaluate(np.stack([*reflected, *swapped])).velocities
    slack = exact * max(1.0, float(np.abs(f).max()))
    good = [np.abs((f[0] @ basis * s) @ basis.T - v).max() <= slack for s, v in zip(moves, image, strict=False)]
    kept = np.array([s for s, ok in zip(moves, good, strict=True) if ok])
    signs = _group(kept)
    label = np.arange(n)
    for (a, b), v in zip(pairs, image[len(moves) :], strict=True):
        if np.abs(f[0][_swap(n, a, b)] - v).max() <= slack:
            label[label == label[b]] = label[a]
    return Symmetry(np.unique(label, return_inverse=True)[1], basis, signs, blocks, generators, complete)


def _swap(n: int, a: int, b: int) -> np.ndarray:
    order = np.arange(n)
    order[[a, b]] = b, a
    return order


def _rotations(g: Geometry, x: np.ndarray, f: np.ndarray, j: np.ndarray, exact: float) -> np.ndarray:
    """Return a basis of the geometry's antisymmetric ``W`` with ``DF(x)[x W^T] = F(x) W^T`` at all the states."""
    d = x.shape[-1]
    w, rows = g.generators(d), []
    if not len(w):
        return w
    for state, velocity, jac in zip(x, f, j, strict=True):
        e = g.basis(state)  # (n, d, r)
        moved = (state @ w.swapaxes(-1, -2))[:, :, None, :] @ e  # (k, n, 1, r)
        turned = (velocity @ w.swapaxes(-1, -2))[:, :, None, :] @ e
        rows.append(jac @ moved.reshape(len(w), -1).T - turned.reshape(len(w), -1).T)
    _, s, vh = np.linalg.svd(np.concatenate(rows), full_matrices=True)
    scale = max(1.0, float(np.abs(j).max()))
    null = vh[np.concatenate([s, np.zeros(len(vh) - len(s))]) <= exact * scale]
    return np.tensordot(null, w, 1) / math.sqrt(2)


def _blocks(field, g, generators, d, rng) -> tuple[np.ndarray, list[np.ndarray], bool]:
    """Return a basis adapted to the field, and the sets of its columns that rotate."""
    known = symmetric_parts(field, d)
    mixed = np.tensordot(rng.normal(size=len(known)), np.stack(known), 1) if known else np.diag(np.arange(1.0, d + 1))
    if g.channels is not None:  # a basis across oscillators would not keep them
        return np.eye(d), [], not len(generators)
    if not len(generators):
        return np.linalg.eigh(mixed)[1], [], True
    two = np.tensordot(rng.normal(size=(2, len(generators))), generators, 1)  # generic, so they stand for all
    rows, cols = np.triu_indices(d)
    unit = np.zeros((len(rows), d, d))
    unit[np.arange(len(rows)), rows, cols] = unit[np.arange(len(rows)), cols, rows] = 1.0
    unit /= np.linalg.norm(unit, axis=(1, 2), keepdims=True)
    brackets = np.concatenate([(unit @ w - w @ unit).reshape(len(rows), -1) for w in two], 1)
    p, s, _ = np.linalg.svd(brackets)
    commuting = np.tensordot(p.T[np.concatenate([s, np.zeros(len(rows) - len(s))]) < 1e-8], unit, 1)
    own = np.tensordot((commuting * mixed).sum((1, 2)), commuting, 1)  # what of the matrices commutes with them all
    values, basis = np.linalg.eigh(own)
    groups = np.split(np.arange(d), np.flatnonzero(np.diff(values) > 1e-7 * max(1.0, np.abs(values).max())) + 1)
    blocks = []
    for b in groups:
        inside = basis[:, b].T @ generators @ basis[:, b]
        if len(b) > 1 and np.linalg.matrix_rank(inside.reshape(len(generators), -1), tol=1e-8) > 0:
            blocks.append(b)
    if sum(len(b) * (len(b) - 1) // 2 for b in blocks) == len(generators):
        return basis, blocks, True
    return basis, [], False


def _candidate_signs(blocks: list[np.ndarray], d: int) -> np.ndarray:
    """Return reflections to try, modulo rotations of the blocks; the identity first."""
    free = [i for i in range(d) if not any(i in b[1:] for b in blocks)]
    if len(free) <= 8:
        flips = [[i for k, i in enumerate(free) if m >> k & 1] for m in range(2 ** len(free))]
    else:
        even = {int(b[0]) for b in blocks if len(b) % 2 == 0}  # of these -1 is a rotation
        flips = [[], *([i] for i in free), [i for i in free if i not in even]]
    moves = np.ones((len(flips), d))
    for row, which in zip(moves, flips, strict=True):
        row[which] = -1.0
    return moves


def _group(generators: np.ndarray, most: int = 256) -> np.ndarray:
    """Return the group that reflections generate, the identity first; at most ``most`` of it."""
    d = generators.shape[1]
    group = {(1.0,) * d: None}
    for s in generators:
        if tuple(s) not in group and 2 * len(group) <= most:
            group.update({tuple(np.array(h) * s): None for h in list(group)})
    return np.array(list(group))
