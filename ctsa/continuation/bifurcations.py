"""Special points of a curve of equilibria: where stability changes, where the curve turns, where others cross it.

Between two points of the curve the eigenvalues are matched. Each whose real part changes sign, or for layers each
multiplier that crosses the unit circle, has the place bracketed along the curve, as has a change of sign of the parameter's
slope. Near a branch point the equations become singular and the
corrector inaccurate; so the zero is read from a polynomial through six corrected points around it, and not approached.
An eigenvalue that crosses and returns within one step is missed.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ctsa.observables import clusters

from ._curve import Curve, Point, System
from .special import SpecialPoint

NODES = np.array([-5.0, -3.0, -1.0, 1.0, 3.0, 5.0]) / 5
REACH = 2e-3  # arclength from the middle to the outermost node
UPRIGHT = 1e-6  # slope below which the parameter stands still: an eigenvalue is zero all along, others cross unseen
REAL = 1e-6  # relative size of an imaginary part that counts as zero
SAME = 1e-6  # special points nearer than this in arclength are one


def special_points(curve: Curve, points: list[Point], start: float = 0.0) -> list[SpecialPoint]:
    """Find the special points between consecutive points of a curve.

    Args:
        curve: the equations.
        points: points in order.
        start: arclength of the first.

    Returns:
        the special points in order; those that coincide (several eigenvalues, or a fold with its eigenvalue) are one.
    """
    found: list[SpecialPoint] = []
    for a, b in zip(points, points[1:], strict=False):
        here: list[SpecialPoint] = []
        for test in _tests(curve, a, b):
            point = _locate(curve, a, b, test, start)
            if point is None and not here:
                text = f"stability or direction changes between {a.p:.6g} and {b.p:.6g}, but the place was not found"
                warnings.warn(f"{text}: try a smaller step", RuntimeWarning, stacklevel=4)
            if point is not None and not any(
                point.kind == q.kind and abs(point.arclength - q.arclength) < SAME for q in here
            ):
                here.append(point)
        found += sorted(here, key=lambda q: q.arclength)
        start += curve.distance(a.x, a.p, b.x, b.p)
    return found


Test = Callable[[Point, float], float]


def _tests(curve: Curve, a: Point, b: Point) -> list[Test]:
    """Return functions of the points between ``a`` and ``b`` that change sign."""
    tests: list[Test] = []
    upright = max(abs(a.slope), abs(b.slope)) < UPRIGHT and not curve.excess
    if upright:

        def bordered(point: Point, s: float) -> float:
            """The smallest singular value of equations and tangent together, with the sign of their determinant."""
            equations = curve.system(point.x, point.p)
            square = np.vstack([equations.matrix, curve.unknowns(equations, point.tangent, point.slope)])
            return float(np.linalg.slogdet(square)[0] * np.linalg.svd(square, compute_uv=False)[-1])

        if bordered(a, 0.0) * bordered(b, b.step) < 0:
            tests.append(bordered)
    if (a.slope >= 0) != (b.slope >= 0) and max(abs(a.slope), abs(b.slope)) > 1e-6:
        tests.append(lambda point, s: point.slope)
    if len(a.spectrum) != len(b.spectrum):
        return tests
    noise = 1e-8 * max(1.0, float(np.abs(a.spectrum).max(initial=0.0)))
    rows, columns = linear_sum_assignment(np.abs(a.spectrum[:, None] - b.spectrum[None]))
    seen: list[tuple[complex, complex]] = []
    for pair in zip(_upper(a.spectrum[rows]), _upper(b.spectrum[columns]), strict=True):
        left, right = (float(curve.family.growth(np.array(z))) for z in pair)
        forward = curve.family.flow or pair[0].real > 0
        if upright and forward and max(abs(pair[0].imag), abs(pair[1].imag)) < noise:
            continue  # the other zero is in its way, and ``bordered`` sees it
        known = any(abs(pair[0] - i) + abs(pair[1] - j) < noise for i, j in seen)  # its conjugate, or one equal to it
        if (left >= 0) != (right >= 0) and max(abs(left), abs(right)) > noise and not known:
            seen.append(pair)
            tests.append(_Track(curve.family.growth, *pair, b.step))
    return tests


def _upper(z: np.ndarray) -> np.ndarray:
    return z.real + 1j * np.abs(z.imag)


class _Track:
    """Follows one eigenvalue between two points: the nearest to what its known neighbours let expect."""

    def __init__(self, growth: Callable[[np.ndarray], np.ndarray], first: complex, last: complex, ds: float):
        self.growth, self.s, self.values = growth, [0.0, ds], [first, last]

    def value(self, point: Point, s: float) -> complex:
        order = np.argsort(self.s)
        at, known = np.array(self.s)[order], np.array(self.values)[order]
        i = int(np.clip(np.searchsorted(at, s), 1, len(at) - 1))
        share = (s - at[i - 1]) / (at[i] - at[i - 1])
        expected = known[i - 1] + share * (known[i] - known[i - 1])
        upper = _upper(point.spectrum)
        return complex(upper[np.argmin(np.abs(upper - expected))])

    def __call__(self, point: Point, s: float) -> float:
        value = self.value(point, s)
        if min(abs(s - t) for t in self.s) > 1e-12:
            self.s.append(s)
            self.values.append(value)
        return float(self.growth(np.array(value)))


def _locate(curve: Curve, a: Point, b: Point, test: Test, start: float) -> SpecialPoint | None:
    """Find the zero of ``test`` on the way from ``a`` to ``b``; None if too few points can be corrected around it."""
    found = _nodes(curve, a, b, test)
    if found is None:
        return None
    s, nodes, middle = found
    zero = interpolated_root(s, np.array([test(q, t) for q, t in zip(nodes, s, strict=True)]), middle)

    def read(values: Any) -> Any:
        return interpolate(s, np.array(values), zero)

    x = np.asarray(curve.geometry.retract(read([q.x for q in nodes])))
    middle_point = replace(
        nodes[2],
        x=x, p=float(read([q.p for q in nodes])), tangent=read([q.tangent for q in nodes]),
        slope=float(read([q.slope for q in nodes])),
    )  # fmt: skip
    position = start + curve.distance(a.x, a.p, x, middle_point.p)
    size = max(1.0, float(np.abs(a.spectrum).max(initial=0.0)))
    if isinstance(test, _Track):
        crossing = complex(read([test.value(q, t) for q, t in zip(nodes, s, strict=True)]))
        if crossing.imag > REAL * size:
            return _turning(curve, middle_point, crossing, position)
        if not curve.family.flow and crossing.real < 0:
            return _doubling(curve, middle_point, position)
    reference = max(np.linalg.norm(curve.system(q.x, q.p).matrix, 2) for q in (a, b))
    return _real(curve, middle_point, nodes[-1], position, float(reference))


def _nodes(curve: Curve, a: Point, b: Point, test: Test) -> tuple[np.ndarray, list[Point], float] | None:
    """Return six points of the curve around the zero of ``test``: arclength beyond ``a``, points, and about the zero.

    An eigenvalue is no smooth function where two real ones become a complex pair; a smaller neighbourhood is taken if
    there is such a place inside, or if four points give another zero than six.
    """
    low, high = 0.0, b.step
    falling = test(a, low) >= 0
    reach = min(REACH / curve.distance(a.x, a.p, b.x, b.p), 0.25) * b.step
    size = max(1.0, float(np.abs(a.spectrum).max(initial=0.0)))
    best, least = None, np.inf
    for _ in range(5):
        while high - low > reach / 4:
            for share in (0.5, 0.4, 0.6):  # a point may be lost if it is the branch point itself
                inside = low + share * (high - low)
                point = curve.between(a, b, inside)
                if point is not None:
                    break
            else:
                break
            if (test(point, inside) >= 0) == falling:
                low = inside
            else:
                high = inside
        middle = 0.5 * (low + high)
        for wide in (1, 2, 4):
            s = middle + wide * reach * NODES
            nodes = [point for t in s if (point := curve.between(a, b, t, fine=True)) is not None]
            if len(nodes) == len(NODES):
                break
        else:
            return best
        reach /= 8
        values = np.array([test(q, t) for q, t in zip(nodes, s, strict=True)])
        if isinstance(test, _Track):
            paired = sum(test.value(q, t).imag > REAL * size for q, t in zip(nodes, s, strict=True))
            if paired not in (0, len(nodes)):
                continue
        off = abs(interpolated_root(s[1:-1], values[1:-1], middle) - interpolated_root(s, values, middle))
        if off < least:  # near a branch point nodes are corrected badly, and ever worse the nearer they are
            best, least = (s, nodes, middle), off
        if off < 1e-9:
            return best
    return best


def interpolate(s: np.ndarray, values: np.ndarray, at: float) -> Any:
    """Evaluate at ``at`` the polynomial through ``values`` (first axis) at the nodes ``s``."""
    weights = [np.prod([(at - t) / (s[i] - t) for j, t in enumerate(s) if j != i]) for i in range(len(s))]
    return np.tensordot(weights, values, 1)


def interpolated_root(s: np.ndarray, values: np.ndarray, guess: float) -> float:
    """Return the zero nearest to ``guess`` of the polynomial through ``values`` at the nodes ``s``.

    With six nodes within ``h`` of the zero its error is of order ``h^6``.

    Example:
        >>> import numpy as np
        >>> s = np.linspace(0.9, 1.1, 6)
        >>> bool(abs(interpolated_root(s, np.log(s), 1.02) - 1) < 1e-8)
        True
    """
    middle, scale = s.mean(), np.abs(s - s.mean()).max()
    roots = np.polynomial.Polynomial.fit(s, values, len(s) - 1, domain=[middle - scale, middle + scale]).roots()
    real = roots[np.abs(roots.imag) < 1e-6 * scale].real
    return float(real[np.argmin(np.abs(real - guess))]) if len(real) else guess


def _real(curve: Curve, at: Point, near: Point, position: float, reference: float) -> SpecialPoint:
    """Tell a fold from a branch point by the rank of the equations, and find the null directions.

    ``reference`` is the size of the equations at the ends of the step: where all of them vanish (a pitchfork reached along
    its arm, with one unknown), the rank relative to the largest entry there would be that of rounding errors.
    """
    s = curve.system(at.x, at.p)
    null = curve.kernel(s, 1e-6, reference)
    if len(null) == 1 + curve.excess and abs(at.slope) > 1e-3:  # an eigenvalue is zero, but the parameter does not turn
        null = np.linalg.svd(s.matrix)[2][-2 - curve.excess :]
    common = np.array([curve.unknowns(s, *d) for d in _directions(curve, near)])  # null all along the curve
    inside = np.linalg.svd(common @ null.T)[2]  # coordinates in the null space: first what is common
    across = inside[len(common) :] @ null
    if len(across):
        vectors = [curve.direction(s, z) for z in across]
        kind = "branch point"
    else:
        vectors, kind = [(at.tangent, at.slope)], "fold"
    return SpecialPoint(
        kind, at.p, at.x, np.array([v for v, _ in vectors]), np.array([q for _, q in vectors]), 0.0, at.tangent,
        at.slope, position,
    )  # fmt: skip


def _directions(curve: Curve, point: Point) -> list[tuple[np.ndarray, float]]:
    s = curve.system(point.x, point.p)
    return [curve.direction(s, z) for z in curve.along(s)]


def _turning(curve: Curve, at: Point, pair: complex, position: float) -> SpecialPoint | None:
    """Describe a Hopf or Neimark-Sacker point by the eigenvectors of the pairs that are on the boundary there."""
    s, flow = curve.system(at.x, at.p), curve.family.flow
    values, right = np.linalg.eig(s.reduced)
    values = values if flow else values + 1
    pair = complex(values[np.argmin(np.abs(values - pair))])
    target = 1j * pair.imag if flow else pair / abs(pair)
    chosen = right[:, np.abs(values - target) < 1e-5 * max(1.0, float(np.abs(values).max()))]
    if not chosen.size:
        return None
    parts = np.concatenate([chosen.real.T, chosen.imag.T])
    kind, frequency = ("Hopf", pair.imag) if flow else ("Neimark-Sacker", float(np.angle(pair)))
    return _across(curve, s, kind, at, parts, frequency, position)


def _doubling(curve: Curve, at: Point, position: float) -> SpecialPoint | None:
    """Describe a point where multipliers are -1 by the directions that alternate there."""
    s = curve.system(at.x, at.p)
    _, size, right = np.linalg.svd(s.reduced + 2 * np.eye(len(s.reduced)))
    chosen = right[size <= 1e-5 * max(1.0, float(size.max()))]
    return _across(curve, s, "period doubling", at, chosen, 0.0, position) if len(chosen) else None


def _across(
    curve: Curve, s: System, kind: str, at: Point, parts: np.ndarray, frequency: float, position: float
) -> SpecialPoint:
    """Make a special point of directions at a fixed parameter, in the unknowns of ``s``."""
    vectors = np.array([curve.direction(s, np.append(z, 0.0))[0] for z in parts])
    zeros = np.zeros(len(vectors))
    return SpecialPoint(kind, at.p, at.x, vectors, zeros, frequency, at.tangent, at.slope, position)


def symmetric_directions(curve: Curve, point: SpecialPoint) -> list[tuple[np.ndarray, float]]:
    """Return null directions that a permutation of tokens distinguishes, one of each pair ``+-``.

    Where tokens form clusters, null spaces are large: the tokens of a cluster part in any proportion. Equivariant branching
    puts branches where ``k`` tokens of a cluster move one way and the others the other way, along an axis of symmetry;
    eigenvectors of the mean linear response of the tokens serve as axes. A single null direction is returned as it is.

    Args:
        curve: the equations.
        point: a branch point.

    Returns:
        pairs ``(tangent (n, d), slope)``, unit in the metric of the curve.

    References:
        Golubitsky, Stewart and Schaeffer, *Singularities and Groups in Bifurcation Theory II* (Springer, 1988).
    """
    basis = np.concatenate([point.vectors.reshape(len(point.vectors), -1), point.slopes[:, None]], 1)
    n, d = point.x.shape
    if len(basis) == 1:
        return [(point.vectors[0], float(point.slopes[0]))]
    scaled = np.concatenate([basis[:, :-1] / n**0.5, basis[:, -1:]], 1)
    s = curve.system(point.x, point.parameter)
    flat = s.u.reshape(len(s.u), -1)
    blocks = (flat.T @ s.jacobian @ flat).reshape(n, d, n, d)
    labels = clusters(point.x, gap=1e-6)
    found: list[np.ndarray] = []
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        response = blocks[np.ix_(members, np.arange(d), members, np.arange(d))].sum((0, 2))
        axes = np.linalg.eigh(response + response.T)[1].T
        for count in [*range(1, len(members) // 2 + 1), len(members)]:
            for axis in axes:
                pushed = np.zeros((n, d))
                pushed[members[:count]] = axis / n**0.5
                z = scaled @ np.append(pushed.ravel(), 0.0)
                length = np.linalg.norm(z)
                if length > 1e-6 and all(abs(z @ other) < (1 - 1e-6) * length for other in found):
                    found.append(z / length)
    moved = [z @ basis for z in found]
    return [(m[:-1].reshape(n, d), float(m[-1])) for m in moved]


def random_directions(point: SpecialPoint, count: int, seed: int) -> list[tuple[np.ndarray, float]]:
    """Return ``count`` directions drawn uniformly from the null space of a branch point."""
    z = np.random.default_rng(seed).normal(size=(count, len(point.vectors)))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return [(np.tensordot(c, point.vectors, 1), float(c @ point.slopes)) for c in z]
