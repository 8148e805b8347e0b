"""Where equilibria are likely: structured starting points for a search.

All of it is host-side bookkeeping in NumPy. A symmetric start stays in its symmetric subspace while it is solved, so
starts with few distinct tokens search a space of few dimensions, in which even rare saddles are easy to hit.
"""

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement, product
from math import comb
from typing import Any

import numpy as np

from ctsa import checks
from ctsa.fields.matrices import consensus_matrix, eigenspaces, terms_of
from ctsa.geometry import Geometry, Sphere, direction_generator


def structured_starts(
    field: Any, n: int, d: int, count: int = 200, seed: int = 0, *, exchangeable: bool = True,
    geometry: Geometry | None = None,
) -> np.ndarray:  # fmt: skip
    """Return states near which equilibria are likely, made of eigenvectors.

    On the sphere: consensus at both ends of every real eigenvector of the matrix that acts at consensus, and along
    inputs; all splits of the tokens between both ends; tokens distributed over several eigenvectors; regular polygons in
    the planes of pairs of them. The same, retracted, on other radial geometries. In flat space: the origin. For oscillators
    and all else: none.

    Args:
        field: any field; matrices are read from fields of ours.
        n: number of tokens.
        d: dimension of a token.
        count: about how many at most; families that are too large are sampled.
        seed: seed of the sampling.
        exchangeable: whether permutations of tokens are symmetries, so that one of each orbit is enough.
        geometry: where tokens live.

    Returns:
        NumPy ``(S, n, d)``.

    Example:
        >>> import numpy as np
        >>> from ctsa.equilibria.starts import structured_starts
        >>> from ctsa.torch import Oja
        >>> structured_starts(Oja(np.diag([2.0, 1.0])), 3, 2)[0]
        array([[1., 0.],
               [1., 0.],
               [1., 0.]])
    """
    n, d = checks.integer("n", n, low=1), checks.integer("d", d, low=1)
    g = Sphere() if geometry is None else geometry
    if g.flat:
        return np.zeros((1, n, d))
    if g.channels is not None or not g.radial:
        return np.zeros((0, n, d))
    rng, frame = direction_generator(seed), _frame(field, d)
    states = list(_poles(field, n, frame))
    for family in (_splits, _mixtures, _polygons):
        states.extend(_sample(list(family(n, frame, exchangeable)), max(count // 3, 2 * d), rng))
    return np.stack(states) if g.unit else np.asarray(g.retract(np.stack(states)))


def symmetric_starts(
    n: int, d: int, count: int, rng: np.random.Generator, signs: np.ndarray, basis: np.ndarray, geometry: Geometry
) -> np.ndarray:
    """Draw states each of which is mapped to itself by a random group ``H`` of reflections, up to the order of tokens.

    Tokens are orbits ``H p`` of random points, each with a multiplicity; a point may lie on some of the mirrors, which
    makes its orbit smaller. With ``H`` trivial these are clusters at random places.

    Args:
        n: number of tokens.
        d: dimension of a token.
        count: how many states.
        rng: NumPy generator.
        signs: reflections ``(g, d)`` of the columns of ``basis``, the symmetries of the field.
        basis: orthonormal columns ``(d, d)``.
        geometry: where tokens live.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.equilibria.starts import symmetric_starts
        >>> signs = np.array([[1.0, 1.0], [-1.0, -1.0]])
        >>> symmetric_starts(4, 2, 10, np.random.default_rng(0), signs, np.eye(2), ctsa.Sphere()).shape
        (10, 4, 2)
    """
    if geometry.channels is not None:
        signs = signs[[0]]  # a mirror may leave nothing of an oscillator
    states = np.stack([_symmetric(rng, n, d, signs, basis) for _ in range(count)])
    return geometry.retract(states)


def recombined_starts(
    parents: np.ndarray, count: int, rng: np.random.Generator, signs: np.ndarray, basis: np.ndarray, geometry: Geometry
) -> np.ndarray:
    """Make new starts of known equilibria: some tokens are reflected, copied, taken from another one, or drawn anew.

    Tokens of different equilibria of a field resemble each other, so this finds the last missing ones much sooner than
    random starts do.

    Args:
        parents: states ``(P, n, d)``.
        count: how many states.
        rng: NumPy generator.
        signs: reflections ``(g, d)`` of the columns of ``basis``, the symmetries of the field.
        basis: orthonormal columns ``(d, d)``.
        geometry: where tokens live.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.equilibria.starts import recombined_starts
        >>> known = ctsa.random_tokens(3, 2, batch=(4,))
        >>> recombined_starts(known, 5, np.random.default_rng(0), np.ones((1, 2)), np.eye(2), ctsa.Sphere()).shape
        (5, 3, 2)
    """
    _, n, d = parents.shape
    states = []
    for _ in range(count):
        x, other = parents[rng.integers(len(parents), size=2)].copy()
        for i in rng.permutation(n)[: rng.integers(1, max(n, 2))]:
            mirror = signs[rng.integers(len(signs))]
            how = rng.integers(4)
            if how == 0:
                x[i] = (x[i] @ basis * mirror) @ basis.T
            elif how == 1:
                x[i] = x[rng.integers(n)]
            elif how == 2:
                x[i] = (other[rng.integers(n)] @ basis * mirror) @ basis.T
            else:
                x[i] = rng.normal(size=d)
        states.append(x)
    return geometry.retract(np.stack(states))


def _frame(field: Any, d: int) -> np.ndarray:
    """Return unit columns ``(d, d)``: real eigenvectors of the matrix at consensus, and the planes of complex ones."""
    matrix = consensus_matrix(field, d)
    if matrix is None:
        return np.eye(d)
    real = np.concatenate([np.zeros((d, 0)), *(space for _, _, space in eigenspaces(matrix))], 1)
    values, vectors = np.linalg.eig(matrix)
    turning = vectors[:, values.imag > 1e-9]
    rest = np.concatenate([turning.real, turning.imag, np.linalg.eigh((matrix + matrix.T) / 2)[1]], 1)
    frame = real
    for column in rest.T:  # what the eigenvectors leave open
        q = np.linalg.qr(frame)[0] if frame.shape[1] else np.zeros((d, 0))
        left = column - q @ (q.T @ column)
        if np.linalg.norm(left) > 1e-6 and frame.shape[1] < d:
            frame = np.concatenate([frame, left[:, None] / np.linalg.norm(left)], 1)
    frame = frame * np.where(frame[np.abs(frame).argmax(0), np.arange(frame.shape[1])] < 0, -1, 1)
    return frame


def _poles(field: Any, n: int, frame: np.ndarray) -> Iterator[np.ndarray]:
    """Consensus at both ends of every axis, and along the inputs."""
    axes = list(frame.T)
    for _, given in terms_of(field):
        rows = given.get("input")
        if rows is not None:
            axes.extend(row for row in rows.reshape(-1, len(frame))[:8] if np.linalg.norm(row) > 0)
    for axis in axes:
        for sign in (1, -1):
            yield np.tile(sign * axis / np.linalg.norm(axis) + 0.0, (n, 1))


def _splits(n: int, frame: np.ndarray, exchangeable: bool) -> Iterator[np.ndarray]:
    """Both signs on one axis: by the number of positive tokens, or all sign vectors if tokens are not alike."""
    if exchangeable:
        signs = [np.where(np.arange(n) < plus, 1.0, -1.0) for plus in range(n - 1, 0, -1)]
    elif n <= 8:
        signs = [np.array(s) for s in product((1.0, -1.0), repeat=n) if len(set(s)) == 2]
    else:
        rng = np.random.default_rng(0)
        signs = [rng.choice([1.0, -1.0], size=n) for _ in range(128)]
    for axis in frame.T:
        for s in signs:
            yield s[:, None] * axis


def _mixtures(n: int, frame: np.ndarray, exchangeable: bool) -> Iterator[np.ndarray]:
    """Tokens on several axes, both ends of each."""
    ends = np.concatenate([frame.T, -frame.T])
    rng = np.random.default_rng(0)
    if comb(n + len(ends) - 1, n) <= 2000:
        rows = [np.array(r) for r in combinations_with_replacement(range(len(ends)), n)]
        rows = [r if exchangeable else rng.permutation(r) for r in rows]
    else:
        rows = [rng.choice(len(ends), size=n) for _ in range(2000)]
    for r in rows:
        if len(set(r % frame.shape[1])) > 1:  # those on one axis are splits
            yield ends[r]


def _polygons(n: int, frame: np.ndarray, exchangeable: bool) -> Iterator[np.ndarray]:
    """Regular polygons in the planes of two axes, at two phases; what is left over sits at a pole."""
    for a, b in combinations(range(frame.shape[1]), 2):
        plane = np.linalg.qr(frame[:, [a, b]])[0].T
        for m in range(3, n + 1):
            for phase in (0.0, np.pi / m / 2):
                angle = phase + 2 * np.pi * (np.arange(n) % m) / m
                x = np.stack([np.cos(angle), np.sin(angle)], 1) @ plane
                if n % m:
                    x[n - n % m :] = frame[:, a]
                yield x


def _symmetric(rng, n: int, d: int, signs: np.ndarray, basis: np.ndarray) -> np.ndarray:
    group = signs[rng.integers(len(signs), size=rng.integers(0, 4))]
    members = np.ones((1, d))
    for s in group:
        members = np.unique(np.concatenate([members, members * s]), axis=0)
    places: list[np.ndarray] = []
    room = n
    while room:
        on = members[rng.integers(len(members), size=rng.integers(0, 3))]
        p = rng.normal(size=d) * (on > 0).all(0)  # in the fixed space of the mirrors chosen
        orbit = np.unique(members * p, axis=0)
        if np.linalg.norm(p) < 1e-3 or len(orbit) > room:
            members = members if rng.random() < 0.9 else np.ones((1, d))
            continue
        copies = int(rng.integers(1, room // len(orbit) + 1)) if rng.random() < 0.5 else 1
        places.extend(np.repeat(orbit, copies, axis=0))
        room -= copies * len(orbit)
    return rng.permutation(np.array(places)) @ basis.T


def _sample(states: list, most: int, rng: np.random.Generator) -> list:
    """Keep at most ``most`` of them, in their order."""
    if len(states) <= most:
        return states
    return [states[i] for i in np.sort(rng.permutation(len(states))[:most])]
