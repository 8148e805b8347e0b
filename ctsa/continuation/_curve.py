"""Curves of equilibria in the product of state space and parameter: corrected, followed, modulo symmetry.

Unknowns are tangent coordinates at the current state and the parameter; a direction ``(T, s)`` has the length
``(|T|^2 / n + s^2)^(1/2)``, where ``s`` is measured in widths of the span. At an equilibrium of a field with symmetries
the Jacobian is singular. Motions along the symmetry are left out of the unknowns, and the rank is held at what it is along
the whole curve, so that each correction is the shortest that solves the equations (Gauss--Newton by truncated SVD).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import expm
from scipy.optimize import brentq

from ctsa.derivatives import basis_directions
from ctsa.symmetry.generators import velocities

from ._families import Family

TOLERANCE = 1e-12  # of the velocity, relative to the size of the Jacobian
SINGULAR = 1e-7  # relative size of a singular value that counts as zero at a corrected point
TURN = 0.25  # the largest angle between the tangents of two points, in radians
REJECT = 0.3  # the largest correction, in steps


@dataclass(frozen=True)
class Point:
    """A point of the curve: state, parameter, unit tangent ``(tangent, slope)``, and the eigenvalues modulo symmetry."""

    x: np.ndarray
    p: float
    tangent: np.ndarray
    slope: float
    spectrum: np.ndarray
    orbit: int  # dimension of the group orbit through x
    step: float = 0.0  # along the tangent of the point before, which led here


@dataclass(frozen=True)
class System:
    """The linearised equations at ``(x, p)``: ``J y + F_p q = -f``."""

    u: np.ndarray  # (m, n, d) basis of the tangent space
    f: np.ndarray  # (m,)
    jacobian: np.ndarray  # (m, m)
    free: np.ndarray  # (m, m - s) orthonormal, across the group orbit
    matrix: np.ndarray  # (m, m - s + 1) in scaled unknowns

    @property
    def reduced(self) -> np.ndarray:
        """The Jacobian modulo symmetry ``(m - s, m - s)``; its eigenvalues are those of J without the orbit's zeros."""
        return self.free.T @ self.jacobian @ self.free


class Curve:
    """The equations ``F(x, p) = 0`` of a family, and how to move along their solutions.

    Attributes:
        excess: dimension of a continuous family of equilibria at fixed parameter that no known symmetry explains.
    """

    def __init__(self, family: Family, span: tuple[float, float], generators: tuple[np.ndarray, np.ndarray]):
        self.family, self.span, self.generators = family, span, generators
        self.geometry, self.width = family.geometry, span[1] - span[0]
        self.excess = 0

    # ------------------------------------------------------------------------------------------------- equations
    def system(self, x: np.ndarray, p: float) -> System:
        """Linearise at ``(x, p)``."""
        e, v, jacobian = self.family.linearised(p, x)
        u = basis_directions(e)
        m, n = len(u), x.shape[0]
        flat = u.reshape(m, -1)
        w, c = self.generators
        free = np.eye(m)
        if len(w):
            orbit = flat @ velocities(w, c, x).reshape(len(w), -1).T
            left, size, _ = np.linalg.svd(orbit)
            free = left[:, int((size > 1e-7 * max(1.0, float(size[0]))).sum()) :]
        forced = flat @ self.family.sensitivity(p, x).ravel()
        matrix = np.column_stack([n**0.5 * jacobian @ free, self.width * forced])
        return System(u, flat @ v.ravel(), jacobian, free, matrix)

    def unknowns(self, s: System, tangent: np.ndarray, slope: float) -> np.ndarray:
        """Write a direction in the unknowns of ``s``; parts that are not tangent there, or along the orbit, are lost."""
        n = tangent.shape[0]
        return np.append(s.free.T @ (s.u.reshape(len(s.u), -1) @ tangent.ravel()) / n**0.5, slope)

    def direction(self, s: System, z: np.ndarray) -> tuple[np.ndarray, float]:
        """Write unknowns as a direction ``(tangent (n, d), slope)``."""
        n = s.u.shape[1]
        return n**0.5 * np.einsum("m,mnd->nd", s.free @ z[:-1], s.u), float(z[-1])

    def move(self, x: np.ndarray, p: float, tangent: np.ndarray, slope: float) -> tuple[np.ndarray, float]:
        """Step from ``(x, p)`` along a direction."""
        return np.asarray(self.geometry.retract(self.geometry.exp(x, tangent))), p + self.width * slope

    def correct(
        self, x: np.ndarray, p: float, hold: tuple[np.ndarray, float] | None = None, most: int = 10, fine: bool = False
    ) -> tuple[np.ndarray, float, System] | None:
        """Solve ``F = 0`` from a guess by the shortest corrections, or those across the direction ``hold``.

        ``fine`` goes on as long as that helps: beside a branch point the equations are nearly singular, and a residual of
        ``TOLERANCE`` leaves a state off by that over the distance.

        Returns:
            state, parameter and equations there; None where the iteration does not converge.
        """
        before = np.inf
        for _ in range(most):
            s = self.system(x, p)
            size = float(np.abs(s.f).max())
            if not np.isfinite(s.matrix).all() or not np.isfinite(size):
                return None
            scale = TOLERANCE * max(1.0, float(np.abs(s.jacobian).max()))
            if (size <= scale and not (fine and size < 0.1 * before)) or (size <= 100 * scale and size > 0.9 * before):
                return x, p, s
            before = size
            matrix, rhs = s.matrix, -s.f
            if hold is not None:
                matrix, rhs = np.vstack([matrix, self.unknowns(s, *hold)]), np.append(rhs, 0.0)
            step = _solve(matrix, rhs, matrix.shape[1] - self.excess - (hold is None))
            if np.linalg.norm(step) > 1:
                return None
            x, p = self.move(x, p, *self.direction(s, step))
        return None

    def at_parameter(self, x: np.ndarray, p: float) -> tuple[np.ndarray, System] | None:
        """Solve ``F = 0`` for the state, at a fixed parameter."""
        found = self.correct(x, p, (np.zeros_like(x), 1.0))
        return None if found is None else (found[0], found[2])

    def kernel(self, s: System, tol: float = SINGULAR, reference: float = 0.0) -> np.ndarray:
        """Return an orthonormal basis of the null space of the equations, as rows; what is small, beside ``reference``."""
        _, size, right = np.linalg.svd(s.matrix)
        return right[int((size > tol * max(size[0], reference)).sum()) :]

    def along(self, s: System) -> np.ndarray:
        """Return the ``1 + excess`` right singular vectors that are null along the whole curve, as rows.

        At a branch point, met to rounding, all its null vectors.
        """
        _, size, right = np.linalg.svd(s.matrix)
        return right[min(len(right) - 1 - self.excess, int((size > 1e-11 * size[0]).sum())) :]

    # ------------------------------------------------------------------------------------------------- points
    def spectrum(self, s: System) -> np.ndarray:
        """Return the eigenvalues (multipliers) modulo symmetry, leading ones first; those of a family are left out."""
        values = np.linalg.eigvals(s.reduced)
        return self.family.spectrum(values[np.argsort(np.abs(values))[self.excess :]])

    def point(self, x: np.ndarray, p: float, s: System, tangent: np.ndarray, slope: float) -> Point | None:
        """Complete a corrected state; its tangent is the null direction nearest to the given one."""
        null = self.along(s)
        z = null.T @ (null @ self.unknowns(s, tangent, slope))
        length = float(np.linalg.norm(z))
        if length < 0.1:
            return None
        return Point(x, p, *self.direction(s, z / length), self.spectrum(s), len(s.u) - s.free.shape[1])

    def advance(self, a: Point, ds: float) -> Point | None:
        """Step the arclength ``ds`` along the tangent and correct; None if no point of the curve is found near there."""
        found = self._near(*self.move(a.x, a.p, ds * a.tangent, ds * a.slope), REJECT * abs(ds))
        b = None if found is None else self.point(*found, a.tangent, a.slope)
        return None if b is None else replace(b, step=ds)

    def between(self, a: Point, b: Point, s: float, fine: bool = False) -> Point | None:
        """Return the point at arclength about ``s`` beyond ``a``, from a cubic guess between ``a`` and ``b``.

        Beside a branch point the crossing curve is near, too; a guess as good as this one keeps the corrector on its own.
        """
        length, t = self.distance(a.x, a.p, b.x, b.p), s / b.step
        h = (2 * t**3 - 3 * t**2 + 1, length * (t**3 - 2 * t**2 + t), 3 * t**2 - 2 * t**3, length * (t**3 - t**2))
        x = np.asarray(self.geometry.retract(h[0] * a.x + h[1] * a.tangent + h[2] * b.x + h[3] * b.tangent))
        p = h[0] * a.p + h[2] * b.p + self.width * (h[1] * a.slope + h[3] * b.slope)
        found = self._near(x, p, REJECT * length, fine)
        tangent, slope = (1 - t) * a.tangent + t * b.tangent, (1 - t) * a.slope + t * b.slope
        return None if found is None else self.point(*found, tangent, slope)

    def _near(
        self, x: np.ndarray, p: float, limit: float, fine: bool = False
    ) -> tuple[np.ndarray, float, System] | None:
        found = self.correct(x, p, fine=fine)
        return None if found is None or self.distance(x, p, found[0], found[1]) > limit else found

    def distance(self, x: np.ndarray, p: float, y: np.ndarray, q: float) -> float:
        """Return the distance in the metric of the curve (chords)."""
        return float((np.sum((x - y) ** 2) / len(x) + ((p - q) / self.width) ** 2) ** 0.5)

    def aligned(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Move ``x`` along its group orbit to where it is nearest to ``target`` (locally), by Gauss--Newton."""
        w, c = self.generators
        for _ in range(20 if len(w) else 0):
            orbit = velocities(w, c, x)
            step = np.linalg.lstsq(orbit.reshape(len(w), -1).T, (target - x).ravel(), rcond=1e-9)[0]
            d = x.shape[1]
            affine = np.zeros((d + 1, d + 1))
            affine[:d, :d], affine[:d, d] = np.einsum("g,gab->ab", step, w), step @ c
            motion = expm(affine)
            x = x @ motion[:d, :d].T + motion[:d, d]
            if np.abs(step).max() < 1e-14:
                break
        return x

    # ------------------------------------------------------------------------------------------------- following
    def follow(self, start: Point, step: float, most: int, home: Point | None = None) -> tuple[list[Point], str]:
        """Follow the curve from ``start`` in the direction of its tangent.

        Args:
            start: first point.
            step: largest arclength of a step.
            most: largest number of points after ``start``.
            home: a point that closes the curve when it is met again; ``start`` by default.

        Returns:
            the points, ``start`` first, and why they end: "span", "closed", "max_points" or "step too small".
        """
        home = start if home is None else home
        points, ds = [start], step / 4
        while len(points) <= most:
            a = points[-1]
            b = self.advance(a, ds)
            turn = np.pi if b is None else self._angle(a, b)
            if b is None or turn > TURN:
                ds /= 2
                if ds < 1e-6 * step:
                    return points, "step too small"
                continue
            if not self.span[0] <= b.p <= self.span[1]:
                border = self._land(a, b, ds)
                return ([*points, border] if border is not None else points), "span"
            if len(points) > 3 and self._passes(home, a, b):
                return [*points, self._closing(home, b)], "closed"
            points.append(b)
            ds = min(step, ds * (1.5 if turn < TURN / 3 else 1.0))
        return points, "max_points"

    def _angle(self, a: Point, b: Point) -> float:
        n = len(a.x)
        moved = np.asarray(self.geometry.project(b.x, a.tangent))
        product = float(np.sum(moved * b.tangent)) / n + a.slope * b.slope
        return float(np.arccos(np.clip(product, -1, 1)))

    def _land(self, a: Point, b: Point, ds: float) -> Point | None:
        """Return the point where the curve leaves the span, between ``a`` and ``b``."""
        border = self.span[0] if b.p < self.span[0] else self.span[1]
        if a.p == border:
            return None

        def beyond(s: float) -> float:
            c = {0.0: a, ds: b}.get(s) or self.between(a, b, s)
            return a.p - border if c is None else c.p - border

        share = float(brentq(beyond, 0.0, ds, xtol=1e-12 * ds))
        c = self.between(a, b, share)
        end = None if c is None else self.at_parameter(c.x, border)
        last = None if c is None or end is None else self.point(end[0], border, end[1], c.tangent, c.slope)
        return None if last is None else replace(last, step=share)

    def _closing(self, home: Point, b: Point) -> Point:
        """Return the point that closes the curve, turned by the symmetry to where the curve met it."""
        if not len(self.generators[0]):
            return replace(home, step=b.step)
        x = self.aligned(home.x, b.x)
        end = self.point(x, home.p, self.system(x, home.p), b.tangent, b.slope)
        return replace(home if end is None else end, step=b.step)

    def _passes(self, home: Point, a: Point, b: Point) -> bool:
        """Tell whether the curve runs through ``home`` between ``a`` and ``b``, in the direction of its tangent."""
        length = self.distance(a.x, a.p, b.x, b.p)
        if self.distance(a.x, a.p, home.x, home.p) > 4 * length and not len(self.generators[0]):
            return False
        x, y = self.aligned(a.x, home.x), self.aligned(b.x, home.x)
        n = len(x) ** 0.5
        gap = np.append((home.x - x).ravel() / n, (home.p - a.p) / self.width)
        chord = np.append((y - x).ravel() / n, (b.p - a.p) / self.width)
        share = float(gap @ chord) / float(chord @ chord)
        ahead = np.append(home.tangent.ravel() / n, home.slope) @ chord > 0.8 * length
        return 0 <= share <= 1 and bool(ahead) and float(np.linalg.norm(gap - share * chord)) < 0.1 * length


def _solve(matrix: np.ndarray, rhs: np.ndarray, rank: int) -> np.ndarray:
    """Return the shortest least-squares solution with at most ``rank`` singular values."""
    left, size, right = np.linalg.svd(matrix, full_matrices=False)
    keep = np.arange(len(size)) < rank
    keep &= size > 1e-13 * size[0]
    return right[keep].T @ ((left[:, keep].T @ rhs) / size[keep])
