"""What many end states at once are: groups, kind, eigenvector, stability, and motions that turn for ever."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctsa.equilibria.classes import _ALIGNED
from ctsa.equilibria.newton import Solved
from ctsa.fields.matrices import eigenspaces
from ctsa.geometry import Geometry
from ctsa.results.base import as_numpy
from ctsa.symmetry import Symmetry

KINDS = (
    "consensus", "bipartite consensus", "clustering", "polygonal", "rotating consensus", "rotating bipartite consensus",
    "rotating clustering", "unresolved", "escaped", "fixed point", "cycle",
)  # fmt: skip
UNRESOLVED = KINDS.index("unresolved")
ESCAPED = KINDS.index("escaped")
FIXED, CYCLE = KINDS.index("fixed point"), KINDS.index("cycle")
TURNING = KINDS.index("rotating consensus")  # shapes 0, 1, 2 become this plus their number
STABILITY = ("stable", "unstable", "marginal", "unknown")
STABLE, UNSTABLE, MARGINAL, UNKNOWN = range(4)

_NEUTRAL = 1e-6  # eigenvalues below this share of the Jacobian's norm count as zero
_RANK = 1e-7  # singular values below this share of the largest count as zero
_TURNS = (0.7, 1.9, 4.1)  # radians by which a turning state is turned to see whether it still moves alike
_ALIKE = 1e-3  # relative accuracy of such comparisons
_SMALL = 16  # largest token dimension whose d (d - 1) / 2 rotations are fitted

Evaluate = Callable[[np.ndarray], np.ndarray]


# ------------------------------------------------------------------------------------------------------------- shape
def group(x: np.ndarray, gap: float) -> np.ndarray:
    """Label tokens linked by chains of distances below ``gap``, for states ``(S, n, d)``: the least index of each."""
    n = x.shape[1]
    near = ((x[:, :, None] - x[:, None]) ** 2).sum(-1) < gap * gap
    labels = np.broadcast_to(np.arange(n), x.shape[:2])
    while True:  # the least label spreads along the chains
        new = np.where(near, labels[:, None, :], n).min(-1)
        if (new == labels).all():
            return new
        labels = new


def group_sizes(labels: np.ndarray) -> np.ndarray:
    """Return the sizes of the groups ``(S, n)``, descending, zeros after the last."""
    n = labels.shape[1]
    counts = (labels[:, :, None] == np.arange(n)).sum(1)
    return -np.sort(-counts, axis=1)


def shapes(x: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return 0 for consensus, 1 for two opposite groups, 2 for anything else ``(S,)``; and the sizes ``(S, n)``."""
    sizes = group_sizes(group(x, gap))
    folded = np.where((x * x[:, :1]).sum(-1, keepdims=True) < 0, -x, x)
    opposite = (group(folded, gap) == 0).all(1)
    return np.where(sizes[:, 0] == x.shape[1], 0, np.where(opposite, 1, 2)), sizes


def directions(matrix: np.ndarray | None, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return index of the eigenvector on which all tokens lie (-1: none), overlap of the worst, size of its eigenspace."""
    spaces = [] if matrix is None else eigenspaces(matrix)
    if not spaces:
        return np.full(len(x), -1), np.zeros(len(x)), np.ones(len(x), int)
    overlaps = np.stack([_overlap(x @ space) for _, _, space in spaces])
    best = overlaps.argmax(0)
    overlap = overlaps.max(0)
    numbers, dimensions = np.array([k for k, _, _ in spaces]), np.array([space.shape[1] for _, _, space in spaces])
    return np.where(overlap > 1 - _ALIGNED, numbers[best], -1), overlap, dimensions[best]


def _overlap(inside: np.ndarray) -> np.ndarray:
    """Return how far the worst token lies along the best line of an eigenspace ``(S,)``, given components ``(S, n, m)``."""
    if inside.shape[-1] > 1:
        line = np.linalg.svd(inside, full_matrices=False)[2][:, :1]
        inside = (inside * line).sum(-1, keepdims=True)
    return np.abs(inside[..., 0]).min(-1)


def attractors(x: np.ndarray, kind: np.ndarray, growth: np.ndarray, gap: float) -> np.ndarray:
    """Number the different isolated limits of each kind ``(S,)``, in the order of their states; -1 if there is just one.

    For flat space, where nothing says beforehand which limits are alike. Members of continuous families (no growth or
    decay) are not told apart, nor is what was not looked at.

    Args:
        x: states ``(S, n, d)``.
        kind: indices into ``KINDS``.
        growth: largest real part of the eigenvalues there.
        gap: states nearer than this, relative to their size, are one.
    """
    number = np.full(len(x), -1)
    for k in np.unique(kind):
        some = np.flatnonzero((kind == k) & (k < TURNING) & (np.abs(growth) > _NEUTRAL))
        states: list[np.ndarray] = []
        which = np.zeros(len(some), int)
        for i, row in enumerate(x[some]):
            near = [j for j, y in enumerate(states) if np.abs(row - y).max() <= gap * max(1.0, np.abs(y).max())]
            if not near:
                states.append(row)
            which[i] = near[0] if near else len(states) - 1
        if len(states) > 1:
            order = sorted(range(len(states)), key=lambda j: states[j].ravel().tolist())
            number[some] = np.argsort(order)[which]
    return number


# -------------------------------------------------------------------------------------------------------------- rest
class Verdict(NamedTuple):
    """What the linearisation says: whether an equilibrium is near, its stability, its growth rate ``(S,)``."""

    rest: np.ndarray
    stability: np.ndarray
    growth: np.ndarray


def judge(
    g: Geometry, x: np.ndarray, solved: Solved, gap: float, eps: float, families: np.ndarray, symmetry: Any
) -> Verdict:
    """Judge slow states ``x`` by where Newton's method went from them, and by the Jacobian there.

    Slow is not at rest: on a plateau Newton's step is long, or, where even the Jacobian hardly sees the slope, the speed
    stays above rounding. And what rests on a saddle will leave it.

    Args:
        g: geometry.
        x: states ``(S, n, d)``.
        solved: Newton's method from them.
        gap: how far an equilibrium may be.
        eps: rounding of the field.
        families: dimensions of the families of equilibria around each that are known from the field's matrices.
        symmetry: called for the ``Symmetry`` if there are neutral directions that these do not explain.
    """
    e, j = solved.bases, solved.jacobians
    r = (e.swapaxes(-1, -2) @ solved.velocities[..., None]).reshape(len(x), -1)
    left = np.sqrt(((np.linalg.pinv(j, rcond=_RANK) @ r[..., None]) ** 2).sum((1, 2)))
    moved = np.asarray(g.distance(x, solved.states)).reshape(len(x), -1).max(1)
    values = np.linalg.eigvals(j)
    size = np.maximum(np.linalg.norm(j, 2, axis=(1, 2)), 1e-300)
    small = _NEUTRAL * size[:, None]
    growing = (values.real > small).any(1)
    still = (np.abs(values.real) <= small).sum(1)
    open_ = ~growing & (still > families)
    if open_.any():
        families = families.copy()
        families[open_] = np.maximum(families[open_], _modes(symmetry(), solved.states[open_]))
    stability = np.where(growing, UNSTABLE, np.where(still > families, MARGINAL, STABLE))
    rest = (left + moved < gap) & ((stability != MARGINAL) | (solved.speeds <= 1e3 * eps * size))
    return Verdict(rest, stability, values.real.max(1))


def _modes(symmetry: Symmetry, x: np.ndarray, tol: float = 1e-6) -> np.ndarray:
    """Return the number of directions in which rotations move each state; all at once, see ``Symmetry.modes``."""
    if not len(symmetry.generators):
        return np.zeros(len(x), int)
    moved = (x[:, None] @ symmetry.generators.swapaxes(-1, -2)).reshape(len(x), len(symmetry.generators), -1)
    size = np.sqrt((x * x).sum((1, 2)))[:, None]
    return (np.linalg.svd(moved, compute_uv=False) > tol * size).sum(1)


# ----------------------------------------------------------------------------------------------------------- turning
def turning(
    g: Geometry,
    matrix: np.ndarray | None,
    x: np.ndarray,
    v: np.ndarray,
    shape: np.ndarray,
    rest: float,
    gap: float,
    evaluate: Evaluate,
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which states turn for ever with fixed inner products, and the index of the complex pair of V that drives it.

    Either the tokens agree and lie in the span of a leading complex pair of the matrix that acts at consensus, whose flow
    is known; or all of them turn about the same axes, and the field at the turned state is the turned velocity.

    Args:
        g: geometry.
        matrix: what acts at consensus, see ``ctsa.fields.matrices.consensus_matrix``.
        x: states ``(S, n, d)``.
        v: their velocities.
        shape: 0 for consensus, see ``shapes``.
        rest: speed that counts as zero.
        gap: tokens closer than this are one cluster.
        evaluate: the field.
    """
    found, pair = np.zeros(len(x), bool), np.full(len(x), -1)
    if not g.closed:
        return found, pair
    speed = np.sqrt((v * v).sum(-1)).max(1)
    rigid = (_deforming(x, v, gap) < rest) & (speed > 10 * rest)
    if matrix is not None and (rigid & (shape == 0)).any():
        some = np.flatnonzero(rigid & (shape == 0))
        yes, k = _driven(g, matrix, x[some, 0], v[some, 0])
        found[some[yes]], pair[some[yes]] = True, k
    some = np.flatnonzero(rigid & ~found)
    if len(some) and x.shape[-1] <= _SMALL:
        found[some] = _rigid(x[some], v[some], speed[some], evaluate)
    return found, pair


def _deforming(x: np.ndarray, v: np.ndarray, gap: float) -> np.ndarray:
    """Return the fastest change of a distance of tokens, or of a token from another's opposite, beyond ``gap`` ``(S,)``.

    Not of inner products: those of tokens that are about to meet change by the square of their distance only.
    """
    fastest = np.zeros(len(x))
    for sign in (-1, 1):
        apart, drift = x[:, :, None] + sign * x[:, None], v[:, :, None] + sign * v[:, None]
        distance = np.sqrt((apart * apart).sum(-1))
        rate = np.abs((apart * drift).sum(-1)) / np.maximum(distance, gap)
        fastest = np.maximum(fastest, np.where(distance >= gap, rate, 0).max((1, 2)))
    return fastest


def _driven(g: Geometry, matrix: np.ndarray, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, int]:
    """Tell which single tokens ``(S, d)`` have settled on the span of the leading eigenvalues and turn there."""
    values, vectors = np.linalg.eig(matrix)
    order = np.lexsort((-values.imag, -values.real))
    values, vectors = values[order], vectors[:, order]
    lead = values.real >= values.real[0] - 1e-9 * max(1.0, np.abs(values).max())
    pairs = np.flatnonzero(lead & (np.abs(values.imag) > 1e-9))
    if not len(pairs):
        return np.zeros(len(x), bool), -1
    u, s, _ = np.linalg.svd(np.concatenate([vectors[:, lead].real, vectors[:, lead].imag], 1))
    span = u[:, : int((s > 1e-7).sum())]
    w = np.asarray(g.project(x, x @ matrix.T))
    off, drive = np.linalg.norm(x - x @ span @ span.T, axis=-1), np.linalg.norm(w, axis=-1)
    along = (v * w).sum(-1) / np.maximum(drive, 1e-300) ** 2  # unnormalised weights change the speed, not the path
    follows = np.linalg.norm(v - along[:, None] * w, axis=-1) <= _ALIKE * np.linalg.norm(v, axis=-1)
    # What is still on its way to a real eigenvector moves as far as it is off.
    return follows & (along > 0) & (off < 1e-2) & (drive > 10 * np.linalg.norm(matrix) * off), int(pairs[0])


def _rigid(x: np.ndarray, v: np.ndarray, speed: np.ndarray, evaluate: Evaluate) -> np.ndarray:
    """Tell which states ``(S, n, d)`` move as ``x W^T`` with ``W`` antisymmetric, and still do when turned along."""
    d = x.shape[-1]
    a, b = np.triu_indices(d, 1)
    basis = np.zeros((len(a), d, d))
    basis[np.arange(len(a)), a, b], basis[np.arange(len(a)), b, a] = 1.0, -1.0
    moved = (x[:, None] @ basis.swapaxes(-1, -2)).reshape(len(x), len(a), -1).swapaxes(1, 2)
    weights = (np.linalg.pinv(moved, rcond=1e-9) @ v.reshape(len(v), -1, 1))[..., 0]
    w = np.tensordot(weights, basis, 1)
    good = np.abs(x @ w.swapaxes(1, 2) - v).max((1, 2)) <= _ALIKE * speed
    some = np.flatnonzero(good)
    for angle in _TURNS if len(some) else ():
        turn = _rotations(w[some], angle).swapaxes(1, 2)
        off = np.abs(evaluate(x[some] @ turn) - v[some] @ turn).max((1, 2))
        good[some] &= off <= _ALIKE * speed[some]
    return good


def _rotations(w: np.ndarray, angle: float) -> np.ndarray:
    """Return ``exp(s W)`` for antisymmetric ``W`` ``(S, d, d)``, the fastest plane turning by ``angle``."""
    rates, planes = np.linalg.eigh(1j * w)  # exp(s W) = U exp(-i s rates) U^H
    s = angle / np.maximum(np.abs(rates).max(-1, keepdims=True), 1e-300)
    return ((planes * np.exp(-1j * s * rates)[:, None, :]) @ planes.conj().swapaxes(1, 2)).real


def in_batches(evaluate: Any, be: Any, like: Any, size: int) -> Evaluate:
    """Return a NumPy function of states that evaluates a framework's in batches of one size, compiled once."""

    def call(x: np.ndarray) -> np.ndarray:
        parts = []
        for first in range(0, len(x), size):
            rows = np.minimum(np.arange(first, first + size), len(x) - 1)
            parts.append(as_numpy(evaluate(be.like(x[rows], like)))[: len(x) - first].astype(np.float64))
        return np.concatenate(parts)

    return call
