"""Follow an equilibrium of a field, or a fixed point of a layer, while a parameter changes, and change branches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, load
from ctsa._types import State
from ctsa.events import depends_on_time
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry
from ctsa.layers.check import check_foreign
from ctsa.layers.displacement import displaced

from ._curve import Curve, Point
from ._families import Family, find_parameter, with_value
from .bifurcations import random_directions, special_points, symmetric_directions
from .branches import Branch, branch_of, crossing, joined, turned
from .special import SpecialPoint

_FIND = "take one from ctsa.find_fixed_points, or relax it with ctsa.iterate"
START = 1e-3  # the largest velocity at a state that is taken for an approximate equilibrium


@analysis
def continue_equilibrium(
    field: Any,
    x: State,
    parameter: str | Callable[[Any], Any] = "beta",
    span: tuple[float, float] = (0.0, 10.0),
    *,
    at: float | None = None,
    step: float = 0.02,
    max_points: int = 500,
    count: int = 6,
    geometry: Geometry | None = None,
) -> Branch:
    """Follow an equilibrium or fixed point in both directions while a parameter changes: pseudo-arclength continuation.

    Solves ``F(x, p) = 0`` for states and parameter together, so that folds are no obstacle, in tangent coordinates of the
    geometry and modulo the rotations that commute with the field. Stability is watched; folds, branch points and Hopf
    points are located to about 1e-10.

    For a layer ``F(x, p) = P_x (f(x, p) - x)``, eigenvalues are its multipliers, and special points are folds and branch
    points (a multiplier is 1), period doublings (-1), and Neimark-Sacker points (a pair on the unit circle, at an angle).

    Arclength counts 1 for crossing the span, and 1 for moving every token by one radian:
    ``ds^2 = |dx|^2 / n + dp^2 / (high - low)^2``.

    Args:
        field: a field, ours or any callable ``field(t, x)`` (taken at t = 0), or a layer, ours, wrapped, or any callable
            ``layer(x)``, at the present value of the parameter.
        x: an equilibrium ``(n, d)``, or anything that has one as ``.x``; corrected if its velocity, or for a layer how far
            it is moved, is below 1e-3.
        parameter: name of a number among the arguments of the field or of exactly one of its terms ("beta", "factor"), of a
            layer or of its field ("step", "beta"), or of a parameter or buffer with one entry of a module of your own; or a
            function of one number that returns the field or layer, as for a direction in which its input changes (then
            ``field`` may be None, and ``at`` is needed). Under JAX the function is traced where it can be.
        span: range of the parameter ``(low, high)``; contains the present value.
        at: the present value, for a function.
        step: largest arclength of a step.
        max_points: largest number of points in each direction.
        count: how many leading eigenvalues to keep.
        geometry: where a bare callable lives.

    Returns:
        ``Branch``, from the end reached by decreasing the parameter at first to the other.

    Raises:
        ValueError: the field has no such parameter (names those it has), ``x`` is no equilibrium (says its velocity), the
            span does not increase or does not contain the present value, or the equilibrium does not continue.
        TypeError: not a field or layer, or not float64.

    Example:
        >>> import numpy as np, torch, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> a = np.diag([3.0, 2.0, 1.0])
        >>> poles = np.array([1.0, 1.0, -1.0, -1.0])[:, None] * [1.0, 0.0, 0.0]  # balanced, along the first eigenvector
        >>> branch = ctsa.continue_equilibrium(SelfAttention(key=a, value=a, beta=1.0), poles, "beta", (0.2, 1.0))
        >>> branch.points
        (SpecialPoint(branch point at 0.2682396521),)
        >>> bool(abs(branch.points[0].parameter - np.arctanh(2 / 3) / 3) < 1e-10)
        True
        >>> x, logistic = torch.full((1, 1), 0.6, dtype=torch.float64), lambda r: lambda x: r * x * (1 - x)
        >>> ctsa.continue_equilibrium(None, x, logistic, (1.5, 3.5), at=2.5, geometry=ctsa.Euclidean()).points
        (SpecialPoint(period doubling at 3),)

    References:
        Keller, *Numerical solution of bifurcation and nonlinear eigenvalue problems* (1977); Allgower and Georg,
        *Introduction to Numerical Continuation Methods*, SIAM (2003); Kuznetsov, *Elements of Applied Bifurcation
        Theory*, chapter 4 (of maps).
    """
    settings = Settings.checked(step, max_points, count)
    curve, state, value, name = open_curve(field, x, parameter, span, at, geometry)
    return followed(curve, name, beginning(curve, state, value), settings)


@analysis
def switch_branch(
    field: Any,
    branch: Branch,
    point: SpecialPoint | int = 0,
    direction: Any = None,
    *,
    parameter: Callable[[Any], Any] | None = None,
    step: float = 0.02,
    max_points: int = 500,
    count: int = 6,
    tries: int = 8,
    seed: int = 0,
    geometry: Geometry | None = None,
) -> list[Branch]:
    """Follow the branches that cross another one at a branch point.

    The first point is looked for at a small distance along a null direction, with the component along that direction held;
    both sides are followed and joined in one branch, through the branch point.

    Args:
        field: as for ``continue_equilibrium``.
        branch: a branch of it.
        point: one of ``branch.branch_points``, or its number among them.
        direction: along which null direction to leave:

            - None: "symmetric";
            - "symmetric": if there are several, directions distinguished by permutations of tokens, see
              ``ctsa.continuation.bifurcations.symmetric_directions`` (at a degenerate point there may be branches besides);
            - "random": ``tries`` random ones;
            - a number: that of the null vector;
            - an ``(n, d)`` array: this one, projected onto the null space.
        parameter: the function that was continued, where it was a function.
        step: largest arclength of a step, and the distance at which a branch is first looked for.
        max_points: largest number of points on each side.
        count: how many leading eigenvalues to keep.
        tries: how many random directions.
        seed: of the random directions.
        geometry: where a bare callable lives.

    Returns:
        the new branches, possibly none; directions that lead to the same side of the same branch give it once.

    Raises:
        ValueError: the branch has no such branch point, or the direction has no part in the null space.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> a = np.diag([3.0, 2.0])
        >>> field, poles = SelfAttention(key=a, value=a, beta=1.0), np.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> branch = ctsa.continue_equilibrium(field, poles, "beta", (0.2, 1.0))
        >>> (tilted,) = ctsa.switch_branch(field, branch)
        >>> angle = np.arccos(np.sqrt(np.arctanh(2 / 3) / 3))  # exact at beta = 1, where both arms end
        >>> bool(np.allclose(np.abs(tilted.xs[-1, :, 1]), np.sin(angle)))
        True
    """
    settings, tries = Settings.checked(step, max_points, count), checks.integer("tries", tries, low=1)
    point = _chosen(branch, point)
    how = branch.parameter if parameter is None else parameter
    x, span = load(branch.framework).asarray(np.asarray(point.x)), tuple(branch.span)
    curve, _, _, name = open_curve(field, x, how, span, point.parameter, geometry, name=branch.parameter)
    return switched(curve, name, point, _leaving(curve, point, direction, tries, seed), settings)


@dataclass(frozen=True)
class Settings:
    """How finely and how far to follow, and how many eigenvalues to keep."""

    step: float
    max_points: int
    count: int

    @classmethod
    def checked(cls, step: Any, max_points: Any, count: Any) -> "Settings":
        """Check what users passed."""
        return cls(
            checks.number("step", step, low=0.0, strict=True),
            checks.integer("max_points", max_points, low=1),
            checks.integer("count", count, low=1),
        )


def followed(curve: Curve, name: str, start: Point, settings: Settings) -> Branch:
    """Follow a curve from a point in both directions."""
    forward, ends = curve.follow(start, settings.step, settings.max_points)
    special = special_points(curve, forward)
    if ends == "closed":
        return branch_of(curve, name, forward, special, ends, ends, settings.count)
    backward, begins = curve.follow(turned(start), settings.step, settings.max_points)
    behind = special_points(curve, backward)
    return branch_of(curve, name, *joined(curve, backward, behind, forward, special), begins, ends, settings.count)


def switched(
    curve: Curve, name: str, point: SpecialPoint, directions: list, settings: Settings,
    known: Callable[[Point], bool] = lambda first: False,
) -> list[Branch]:  # fmt: skip
    """Follow the curves that leave a branch point along ``directions``; ``known`` tells first points to leave alone."""
    s = curve.system(point.x, point.parameter)
    curve.excess = max(0, len(curve.kernel(s, 1e-6)) - 1 - point.multiplicity)
    spectrum, orbit = curve.spectrum(s), len(s.u) - s.free.shape[1]
    firsts: list[Point] = []
    branches = []
    for tangent, slope in directions:
        centre = Point(point.x, point.parameter, tangent, slope, spectrum, orbit)
        arms = []
        for side in (centre, turned(centre)):
            first = _first(curve, side, settings.step)
            if first is None or not curve.span[0] <= first.p <= curve.span[1] or known(first):
                continue
            if any(curve.distance(first.x, first.p, q.x, q.p) < 1e-6 for q in firsts):
                continue
            firsts.append(first)
            points, reason = curve.follow(first, settings.step, settings.max_points, home=side)
            inner = points[:-1] if reason == "closed" else points
            found = special_points(curve, inner, curve.distance(point.x, point.parameter, first.x, first.p))
            arms.append(([side, *points], [crossing(point, side), *found], reason))
            if reason == "closed":
                break
        if arms:
            (ahead, special, ends), begins = arms[0], "start"
            if ends == "closed":
                begins = "closed"
            elif len(arms) > 1:
                back, behind, begins = arms[1]
                ahead, special = joined(curve, back, behind[1:], ahead, special)
            branches.append(branch_of(curve, name, ahead, special, begins, ends, settings.count))
    return branches


# ---------------------------------------------------------------------------------------------------- beginnings
def open_curve(
    field: Any, x: Any, parameter: Any, span: Any, at: float | None, geometry: Geometry | None, name: str | None = None
) -> tuple[Curve, np.ndarray, float, str]:
    """Check the arguments that all functions share; return the curve, the state, the parameter and its name."""
    try:
        low, high = (checks.number("span", end) for end in span)
    except (TypeError, ValueError):
        raise ValueError(f"span must be two finite numbers (low, high), got {span!r}") from None
    if not low < high:
        raise ValueError(f"span must increase, got ({low:g}, {high:g})")
    if isinstance(parameter, str):
        path, present = find_parameter(field, parameter)
        name = parameter
    elif callable(parameter):
        if at is None:
            raise ValueError("at must be the present value of the parameter where parameter is a function, got None")
        path, present = (), checks.number("at", at)
        name = name or getattr(parameter, "__name__", "parameter")
        name = "parameter" if name == "<lambda>" else name
    else:
        raise TypeError(f"parameter must be a name or a function that returns a field, got {type(parameter).__name__}")
    value = present if at is None else checks.number("at", at)
    if not low <= value <= high:
        raise ValueError(f"span=({low:g}, {high:g}) must contain the present value of {name}, {value:g}")
    here = field if not callable(parameter) else parameter(value)
    if callable(parameter) and not callable(here):
        raise TypeError(
            f"parameter must be a function of one number that returns a field(t, x) or a layer(x), but "
            f"parameter({value:g}) returned {type(here).__name__}: return the whole field at that value"
        )
    s = system_of(here, geometry)
    home = s.geometry
    state = s.start(getattr(x, "x", x), name="x")
    be = backend(state)
    if state.ndim != 2 or "float64" not in str(state.dtype):
        raise TypeError(f"x must be one state (n, d) in float64, got shape {tuple(state.shape)} of {state.dtype}")
    if not s.flow:
        check_foreign(here, state, home)
        off = float(np.abs(be.to_numpy(be.call(here, state) - state)).max())  # not the tangent part: that of -x is zero
        if not off < START:
            raise ValueError(f"x is not a fixed point, the layer moves it by up to {off:.3g}: {_FIND}")
    elif depends_on_time(here, state, 0.0, home):
        raise ValueError(
            "field depends on time, and continuation is of equilibria of fields that do not: freeze it at a time t0 "
            "(lambda t, x: field(t0, x)), or study the map over one period of its drive"
        )
    field_of = be.partial(with_value, field, path) if isinstance(parameter, str) else parameter
    field_of = field_of if s.flow else be.partial(displaced, field_of, home)
    family, x0 = Family(field_of, home, state, high - low, s.flow), be.to_numpy(state)
    family.settle(value, x0)
    other = low + 0.3819660112501051 * (high - low)
    return Curve(family, (low, high), family.symmetries(value, other, *x0.shape)), x0, value, str(name)


def beginning(curve: Curve, x: np.ndarray, p: float) -> Point:
    """Correct a state, find the dimension of the families it is in, and the tangent with increasing parameter."""
    off, flow = float(np.abs(curve.family.velocity(p, x)).max()), curve.family.flow
    what, does = ("an equilibrium", "its velocity is") if flow else ("a fixed point", "the layer moves it by")
    hint = "take one from ctsa.find_equilibria, or relax it with ctsa.integrate" if flow else _FIND
    if not off < START:
        raise ValueError(f"x is not {what}, {does} up to {off:.3g}: {hint}")
    found = None
    for excess in (0, _nullity(curve, x, p)):
        curve.excess = excess
        found = found or curve.at_parameter(x, p)
    if found is None or curve.distance(x, p, found[0], p) > 0.1:
        raise ValueError(f"x is not near {what}, though {does} no more than {off:.3g}: {hint}")
    x, s = found
    null = len(curve.kernel(s))
    if null == 0:
        raise ValueError(
            "x does not continue: another value of the parameter makes it drift along a symmetry of the field or layer"
        )
    curve.excess = null - 1
    if null > 1:  # a family, or a branch point? Only a family is there at other parameters
        for shift in (1e-3, -1e-3):
            moved = curve.at_parameter(x, p + shift * curve.width)
            if moved is not None:
                curve.excess = min(curve.excess, len(curve.kernel(moved[1])) - 1)
        x, s = curve.at_parameter(x, p) or (x, s)
    null_vectors = curve.kernel(s)
    z = null_vectors.T @ null_vectors[:, -1]
    length = float(np.linalg.norm(z))
    z = z / length if length > 1e-6 else null_vectors[-1]
    first = curve.point(x, p, s, *curve.direction(s, z))
    assert first is not None  # z is a null vector
    return first


def _nullity(curve: Curve, x: np.ndarray, p: float) -> int:
    """Count the singular values of the Jacobian modulo symmetry that are nearly zero."""
    size = np.linalg.svd(curve.system(x, p).reduced, compute_uv=False)
    return int((size <= 1e-4 * size.max(initial=0.0)).sum())


def _chosen(branch: Branch, point: SpecialPoint | int) -> SpecialPoint:
    if isinstance(point, SpecialPoint):
        if point.kind != "branch point":
            raise ValueError(f"point must be a branch point, got a {point.kind}: no curve of equilibria crosses there")
        return point
    number, every = checks.integer("point", point), branch.branch_points
    if number >= len(every):
        raise ValueError(f"point={number}, but the branch has {len(every)} branch points")
    return every[number]


def _leaving(curve: Curve, point: SpecialPoint, direction: Any, tries: int, seed: int) -> list:
    """Return the null directions, unit in the metric of the curve, that the argument ``direction`` asks for."""
    if direction is None or isinstance(direction, str):
        checks.choice("direction", direction or "symmetric", ("symmetric", "random"))
        random = direction == "random" and point.multiplicity > 1
        return random_directions(point, tries, seed) if random else symmetric_directions(curve, point)
    if np.ndim(direction) == 0:
        number = checks.integer("direction", direction)
        if number >= point.multiplicity:
            raise ValueError(f"direction={number}, but the null space has {point.multiplicity} directions")
        return [(point.vectors[number], float(point.slopes[number]))]
    given = np.asarray(direction, dtype=float)
    if given.shape != point.x.shape:
        raise ValueError(f"direction must have the shape {point.x.shape} of a state, got {given.shape}")
    c = point.vectors.reshape(point.multiplicity, -1) @ given.ravel()
    size = float(np.linalg.norm(c))
    if not size > 1e-8 * float(np.linalg.norm(given)):
        raise ValueError("direction has no part in the null space: take a combination of point.vectors")
    return [(np.tensordot(c / size, point.vectors, 1), float(c @ point.slopes) / size)]


def _first(curve: Curve, side: Point, step: float) -> Point | None:
    """Look for a point near ``side``, holding the component along its tangent."""
    for ds in (step, step / 4, step / 16):
        guess = curve.move(side.x, side.p, ds * side.tangent, ds * side.slope)
        found = curve.correct(*guess, hold=(side.tangent, side.slope), most=20)
        if found is not None and curve.distance(*guess, found[0], found[1]) < 2 * ds:
            first = curve.point(*found, side.tangent, side.slope)
            if first is not None:
                return first
    return None
