"""Branches of equilibria: what continuation returns, and how it is put together from points."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines

from ._curve import Curve, Point
from .special import SpecialPoint


@dataclass(frozen=True)
class Branch(Result):
    """A curve of equilibria of a field, or of fixed points of a layer, point by point, with its special points.

    Attributes:
        parameter: name of the parameter.
        span: ``(2,)``, the range of the parameter that was asked for.
        parameters: values of the parameter ``(P,)``.
        xs: states ``(P, n, d)``.
        arclength: position of each point along the branch ``(P,)``, see ``continue_equilibrium``.
        eigenvalues: leading eigenvalues of the tangent Jacobian, complex ``(P, k)``: of a field by real part, of a layer
            (its multipliers) by modulus, descending; those that are 0 (of a layer 1) by a symmetry, and those of continuous
            families, are left out, nan fills up.
        index: how many have a positive real part, or are outside the unit circle ``(P,)``.
        stable: whether all have a negative one, or are inside ``(P,)``: stability modulo symmetry.
        neutral: how many eigenvalues were left out: those of the group orbit ``(P,)``, and of further families.
        framework: "torch" or "jax", of the field.
        begins: why it begins where it does: "span", "closed", "max_points", "step too small" or "start".
        ends: why it ends where it does.
        point_kinds, point_parameters, point_xs, point_frequencies, point_tangents, point_slopes, point_arclength: the
            special points, ``(K, ...)``; read them from ``points``.
        point_counts: how many null vectors each special point has ``(K,)``.
        vectors, vector_slopes: the null vectors of all special points ``(sum point_counts, n, d)``.
        continuous: whether of a field, not of a layer.
    """

    parameter: str
    span: Any
    parameters: Any
    xs: Any
    arclength: Any
    eigenvalues: Any
    index: Any
    stable: Any
    neutral: Any
    framework: str
    begins: str
    ends: str
    point_kinds: Any
    point_parameters: Any
    point_xs: Any
    point_frequencies: Any
    point_tangents: Any
    point_slopes: Any
    point_arclength: Any
    point_counts: Any
    vectors: Any
    vector_slopes: Any
    continuous: bool = True
    _static: ClassVar[tuple[str, ...]] = ("parameter", "framework", "begins", "ends", "continuous")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "parameters": ("point",), "xs": ("point", "token", "component"), "arclength": ("point",),
        "eigenvalues": ("point", "eigenvalue"), "index": ("point",), "stable": ("point",), "neutral": ("point",),
        "span": ("end",),
        "point_kinds": ("special",), "point_parameters": ("special",), "point_xs": ("special", "token", "component"),
        "point_frequencies": ("special",), "point_tangents": ("special", "token", "component"),
        "point_slopes": ("special",), "point_arclength": ("special",), "point_counts": ("special",),
        "vectors": ("vector", "token", "component"), "vector_slopes": ("vector",),
    }  # fmt: skip

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def points(self) -> tuple[SpecialPoint, ...]:
        """The special points, in order along the branch."""
        last = np.cumsum(self.point_counts)
        return tuple(
            SpecialPoint(
                str(self.point_kinds[i]), float(self.point_parameters[i]), self.point_xs[i],
                self.vectors[last[i] - self.point_counts[i] : last[i]],
                self.vector_slopes[last[i] - self.point_counts[i] : last[i]], float(self.point_frequencies[i]),
                self.point_tangents[i], float(self.point_slopes[i]), float(self.point_arclength[i]),
            )
            for i in range(len(self.point_kinds))
        )  # fmt: skip

    @property
    def folds(self) -> tuple[SpecialPoint, ...]:
        """The points where the parameter turns."""
        return tuple(p for p in self.points if p.kind == "fold")

    @property
    def branch_points(self) -> tuple[SpecialPoint, ...]:
        """The points where other branches cross."""
        return tuple(p for p in self.points if p.kind == "branch point")

    @property
    def hopf_points(self) -> tuple[SpecialPoint, ...]:
        """The points where a pair of eigenvalues is imaginary."""
        return tuple(p for p in self.points if p.kind == "Hopf")

    @property
    def period_doublings(self) -> tuple[SpecialPoint, ...]:
        """The points where a multiplier of a layer is -1."""
        return tuple(p for p in self.points if p.kind == "period doubling")

    @property
    def neimark_sacker_points(self) -> tuple[SpecialPoint, ...]:
        """The points where a pair of multipliers of a layer is on the unit circle."""
        return tuple(p for p in self.points if p.kind == "Neimark-Sacker")

    def __repr__(self) -> str:
        every = np.concatenate([self.parameters, self.point_parameters])
        low, high = float(every.min()) + 0.0, float(every.max()) + 0.0
        kinds = [f"{len(found)} {name}" for name, found in (
            ("folds", self.folds), ("branch points", self.branch_points), ("Hopf points", self.hopf_points),
            ("period doublings", self.period_doublings), ("Neimark-Sacker points", self.neimark_sacker_points),
        ) if found]  # fmt: skip
        return (
            f"Branch({self.parameter} from {low:.6g} to {high:.6g}, {len(self)} points, "
            f"{', '.join(kinds) or 'no special points'}, begins: {self.begins}, ends: {self.ends})"
        )

    def table(self) -> str:
        """Return a line a special point as text, then the ranges, and which share of the points is stable."""
        heads = ("special point", self.parameter, "multiplicity", "frequency", "arclength")
        rows = [
            (p.kind, f"{p.parameter + 0.0:.8g}", p.multiplicity, p.frequency if p.turns else "-", p.arclength)
            for p in self.points
        ]
        ends = [f"{end:.6g}" for end in (np.min(self.parameters) + 0.0, np.max(self.parameters) + 0.0)]
        about = lines([
            ("points", len(self)), ("range", f"{ends[0]} ... {ends[1]}"), ("stable", f"{np.mean(self.stable):.0%}"),
            ("largest index", int(np.max(self.index))), ("begins", self.begins), ("ends", self.ends),
        ])  # fmt: skip
        return f"{columns(heads, rows) if rows else 'no special points'}\n{about}"

    def plot(self, observable: Any = None, *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw an observable against the parameter, see ``ctsa.plot.continuation.diagram``."""
        return picture("continuation.diagram")(self, observable, ax=ax, **kwargs)


def turned(point: Point) -> Point:
    """Return a point with its tangent reversed."""
    return replace(point, tangent=-point.tangent, slope=-point.slope)


def crossing(point: SpecialPoint, side: Point) -> SpecialPoint:
    """Describe a branch point as one of the branch that leaves it along ``side``."""
    n = len(point.x)
    rows = [np.append(v.ravel() / n**0.5, q) for v, q in zip(point.vectors, point.slopes, strict=True)]
    every = np.array([np.append(point.tangent.ravel() / n**0.5, point.slope), *rows])
    own = np.append(side.tangent.ravel() / n**0.5, side.slope)
    others = np.linalg.svd((every @ own)[None])[2][1:] @ every
    vectors = n**0.5 * others[:, :-1].reshape(-1, *point.x.shape)
    return replace(point, vectors=vectors, slopes=others[:, -1], tangent=side.tangent, slope=side.slope, arclength=0.0)


def joined(
    curve: Curve, back: list[Point], behind: list[SpecialPoint], ahead: list[Point], special: list[SpecialPoint]
) -> tuple[list[Point], list[SpecialPoint]]:
    """Join two halves that begin at the same point, turning the first."""
    length = sum(curve.distance(a.x, a.p, b.x, b.p) for a, b in zip(back, back[1:], strict=False))
    before = [replace(q, tangent=-q.tangent, slope=-q.slope, arclength=length - q.arclength) for q in reversed(behind)]
    after = [replace(q, arclength=length + q.arclength) for q in special]
    return [*reversed(back[1:]), *ahead], before + after


def branch_of(
    curve: Curve, name: str, points: list[Point], special: list[SpecialPoint], begins: str, ends: str, count: int
) -> Branch:
    """Make a branch of points and special points."""
    shape = points[0].x.shape
    chords = [curve.distance(a.x, a.p, b.x, b.p) for a, b in zip(points, points[1:], strict=False)]
    width = min(count, max(len(q.spectrum) for q in points))
    leading = np.full((len(points), width), np.nan + 0j)
    for row, q in zip(leading, points, strict=True):
        row[: len(q.spectrum)] = q.spectrum[:width]
    noise = [1e-8 * max(1.0, float(np.abs(q.spectrum).max(initial=0.0))) for q in points]
    growth = [curve.family.growth(q.spectrum) for q in points]
    counts = np.array([q.multiplicity for q in special], dtype=int)
    return Branch(
        name, np.array(curve.span), np.array([q.p for q in points]), np.array([q.x for q in points]),
        np.concatenate([[0.0], np.cumsum(chords)]), leading,
        np.array([int((z > e).sum()) for z, e in zip(growth, noise, strict=True)]),
        np.array([bool((z < -e).all()) for z, e in zip(growth, noise, strict=True)]),
        np.array([q.orbit + curve.excess for q in points]), curve.family.be.name, begins, ends,
        np.array([q.kind for q in special], dtype="<U16"), np.array([q.parameter for q in special]),
        np.array([q.x for q in special]).reshape(-1, *shape), np.array([q.frequency for q in special]),
        np.array([q.tangent for q in special]).reshape(-1, *shape), np.array([q.slope for q in special]),
        np.array([q.arclength for q in special]), counts,
        np.concatenate([np.zeros((0, *shape)), *(q.vectors for q in special)]),
        np.concatenate([np.zeros(0), *(q.slopes for q in special)]), curve.family.flow,
    )  # fmt: skip
