"""The symmetries of a field, found numerically.

Three kinds are looked for, each by evaluating the field at random states, so that any callable will do:

- permutations of tokens: the transpositions that commute with the field sort the tokens into classes;
- reflections ``x -> x R`` with ``R`` diagonal in a basis: that of the field's matrices if they share one, else the
  coordinate axes. ``-I`` (odd fields) is one of them;
- continuous rotations ``x -> x exp(t W)^T``: antisymmetric ``W`` with ``DF(x)[x W^T] = F(x) W^T``, a linear condition.
"""

import math
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa.derivatives import tangent_jacobian
from ctsa.fields.matrices import symmetric_parts
from ctsa.geometry import Geometry, direction_generator, geometry_of

from .generators import commuting, motions
from .symmetries import Symmetry

_EXACT = 1e-9  # a symmetry holds if it does to this relative accuracy at random states (of float64)
_LIE = 48  # largest token dimension whose d (d - 1) / 2 rotations are looked at one by one


@analysis
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
        >>> from ctsa.symmetry import symmetry_of
        >>> from ctsa.torch import SelfAttention
        >>> found = symmetry_of(SelfAttention(), 3, 3)  # query, key and value are the identity
        >>> found.exchangeable, len(found.generators), len(found.signs)
        (True, 3, 2)
        >>> symmetry_of(SelfAttention(value=np.diag([3.0, 2.0, 1.0]), mask="causal"), 3, 3).classes
        array([0, 1, 2])
    """
    g = geometry_of(field, geometry)
    rng = direction_generator(17)

    x = g.random(n, d, rng, (2,))
    one = checks.tokens(x[:1] if like is None else like[:1], field, g, name="like")
    be = backend(one)
    t = be.like(t, one)
    exact = max(_EXACT, 1e3 * rounding(one))
    found = be.call(tangent_jacobian, field, g, t, be.like(x, one))
    e, f, j = (be.to_numpy(a).astype(np.float64) for a in found)
    w, c = motions(g, d)
    generators = np.zeros((0, d, d))
    if d <= _LIE and len(w):
        generators = np.tensordot(commuting(w, c, zip(x, e, f, j, strict=True), exact).T, w, 1) / math.sqrt(2)
    basis, blocks, complete = _blocks(field, g, generators, d, rng)
    moves = _candidate_signs(blocks, d)
    if not g.unit:  # a mirror of R^d may not keep the manifold
        moves = moves[[np.abs(np.asarray(g.radius((x @ basis * s) @ basis.T)) - 1).max() <= exact for s in moves]]
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n) if n <= 24 or b == a + 1]
    reflected = [(x[0] @ basis * s) @ basis.T for s in moves]
    swapped = [x[0][_swap(n, a, b)] for a, b in pairs]
    image = be.to_numpy(be.call(_velocities, field, g, t, be.like(np.stack([*reflected, *swapped]), one)))
    slack = exact * max(1.0, float(np.abs(f).max()))
    good = [np.abs((f[0] @ basis * s) @ basis.T - v).max() <= slack for s, v in zip(moves, image, strict=False)]
    kept = np.array([s for s, ok in zip(moves, good, strict=True) if ok])
    signs = _group(kept)
    label = np.arange(n)
    for (a, b), v in zip(pairs, image[len(moves) :], strict=True):
        if np.abs(f[0][_swap(n, a, b)] - v).max() <= slack:
            label[label == label[b]] = label[a]
    return Symmetry(np.unique(label, return_inverse=True)[1], basis, signs, blocks, generators, complete)


def _velocities(field, g, t, x):
    return g.project(x, field(t, x))


def _swap(n: int, a: int, b: int) -> np.ndarray:
    order = np.arange(n)
    order[[a, b]] = b, a
    return order


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
