"""The search behind ``find_equilibria``: rounds of starts, and a pool of the distinct solutions."""

import math
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa.events import still_time
from ctsa.fields.matrices import terms_of
from ctsa.flows.opening import check_velocity
from ctsa.geometry import Geometry
from ctsa.observables import clusters
from ctsa.results.base import as_numpy
from ctsa.symmetry import Symmetry, symmetry_of

from .newton import Solved, check_room, chunk_size, field_geometry, solve
from .starts import recombined_starts, structured_starts, symmetric_starts

NEUTRAL = 1e-6  # eigenvalues and singular values below this share of the Jacobian's norm count as zero
_SAME = 1e-5  # states that a symmetry brings this close are one
_PROBE = 0.05  # length of a step along a neutral direction, to see whether it leads to more equilibria
_FLOWS = 16  # starts whose flow limits are looked at
_MEMBERS = 24  # most solutions kept of those alike that may lie in one continuous family


class Pool:
    """The distinct equilibria so far. Solutions whose invariants agree are matched in full."""

    def __init__(self, symmetry: Symmetry):
        self.symmetry = symmetry
        self.rows: list[tuple] = []  # state, velocity, Jacobian, drift, basis
        self.hits: list[int] = []
        self.loose: list[bool] = []  # whether there are neutral directions that no symmetry explains
        self._marks = np.zeros((0, 0))  # invariants, and estimated errors
        self._errors = np.zeros(0)
        self._alike: dict[tuple, int] = {}

    def add(self, row: tuple, singular: np.ndarray) -> bool:
        """Add a solution unless it is there already; tell whether it is new."""
        x, velocity, jacobian, *_ = row
        neutral = int((singular <= NEUTRAL * max(singular[0], 1e-300)).sum())
        loose, key = neutral > self.symmetry.modes(x), ()
        if loose:  # most of a continuous family would be new forever
            growing = int((np.linalg.eigvals(jacobian).real > NEUTRAL * singular[0]).sum())
            key = (neutral, growing, *np.sort(np.bincount(clusters(x))))
            if self._alike.get(key, 0) >= _MEMBERS:
                return False
        error, mark = _error(velocity, singular), _invariants(x, jacobian)
        known = self.find(x, mark, error)
        if known is not None:
            self.hits[known] += 1
            if np.abs(velocity).max() < np.abs(self.rows[known][1]).max():
                self.rows[known], self._errors[known] = row, error
            return False
        if loose:
            self._alike[key] = self._alike.get(key, 0) + 1
        self.rows.append(row)
        self.hits.append(1)
        self.loose.append(loose)
        self._errors = np.append(self._errors, error)
        self._marks = np.concatenate([self._marks.reshape(-1, len(mark)), mark[None]])
        return True

    def find(self, x: np.ndarray, mark: np.ndarray, error: float = 0.0) -> int | None:
        """Return the index of the solution that a symmetry maps to ``x``, or None."""
        if not self.rows:
            return None
        errors = np.maximum(self._errors, error)
        slack = (1e-4 + 10 * errors) * max(1.0, float(np.abs(mark).max()))
        for k in np.flatnonzero(np.abs(self._marks - mark).max(1) <= slack):
            if self.symmetry.same(x, self.rows[k][0], max(_SAME, 2 * errors[k])):
                return int(k)
        return None

    def knows(self, row: tuple, singular: np.ndarray) -> bool:
        """Tell whether a solution is there already, without adding it."""
        return self.find(row[0], _invariants(row[0], row[2]), _error(row[1], singular)) is not None

    def settled(self) -> bool:
        """Whether every solution was met twice, leaving aside those of families, of which there are always more."""
        return all(hits > 1 or loose for hits, loose in zip(self.hits, self.loose, strict=True))


def _error(velocity: np.ndarray, singular: np.ndarray) -> float:
    """Estimate how far off a solution is. At a degenerate equilibrium, where ``F ~ s^p``, this is about ``p r / sigma``.

    In a continuous family a singular value vanishes as well, but Newton's method ends with a residual of rounding size.
    """
    r, largest, smallest = float(np.linalg.norm(velocity)), float(singular[0]), float(singular[-1])
    if r <= 1e-14 * max(largest, 1e-300):
        return 0.0
    return min(0.02, 10 * r / max(smallest, 1e-300))


def _invariants(x: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return numbers that no symmetry changes, because it acts orthogonally on tokens and on the tangent space."""
    square = j @ j
    powers = np.trace(j), np.trace(square), (square * j.T).sum(), (j * j).sum(), ((j.T @ j) ** 2).sum()
    roots = [np.sign(p) * abs(p) ** (1 / k) for p, k in zip(powers, (1, 2, 3, 2, 4), strict=True)]
    return np.array([*roots, *np.linalg.svd(x, compute_uv=False)])


class Search:
    """One search: what ``find_equilibria`` was asked, its rounds, and what they brought."""

    def __init__(self, field, n, d, starts, seed, rest, known, iterations, t, geometry: Geometry | None):
        self.field, self.g = field, field_geometry(field, geometry)
        self.n, self.d = checks.integer("n", n, low=1), checks.integer("d", d, low=1)
        self.g.check_dimension(self.d)
        self.dimension = check_room(self.g, self.n, self.d)
        self.rest = checks.number("rest", rest, low=0.0, strict=True)
        self.iterations = checks.integer("iterations", iterations, low=1)
        known = [known] if hasattr(known, "x") else known
        states = [np.asarray(as_numpy(getattr(e, "x", e)), dtype=np.float64) for e in known]
        for x in states:
            if x.shape != (self.n, self.d):
                raise ValueError(f"known must be equilibria or states of shape ({n}, {d}), got shape {x.shape}")
        self.rng = np.random.default_rng([checks.integer("seed", seed), len(states)])
        x = self._starts(starts)
        be, self.one = backend(x), x[:1]
        self.t = still_time(field, self.one, t, self.g, "find_equilibria")
        self.eps = rounding(x)
        if self.rest < 8 * self.eps:
            raise ValueError(
                f"rest={self.rest:g} is below what {str(x.dtype).rpartition('.')[2]} can hold ({8 * self.eps:.1g}): raise "
                "rest, or pass float64 tokens and parameters"
            )
        check_velocity(be, field, self.g, be.like(self.t, x), self.one)
        self.starts = as_numpy(x).astype(np.float64)
        self.symmetry = symmetry_of(field, self.n, self.d, t=self.t, geometry=geometry, like=self.one)
        self.pool, self.old = Pool(self.symmetry), Pool(self.symmetry)
        self.tried = self.converged = self.repeated = self.moving = self.flows = 0
        self.slowest = math.inf
        self._orbits: list[float] = []
        if states:
            given = checks.tokens(be.like(np.stack(states), self.one), field, self.g, name="known")
            for row, singular in self._good(self.solve(as_numpy(given))):
                self.old.add(row, singular)
            self.tried = self.converged = 0

    def _starts(self, starts: Any):
        if hasattr(starts, "shape") or isinstance(starts, (list, tuple)):
            x = checks.tokens(starts, self.field, self.g, name="starts")
            if tuple(x.shape[1:]) != (self.n, self.d):
                raise ValueError(f"starts must be states (S, {self.n}, {self.d}), got shape {tuple(x.shape)}")
            return x
        count = checks.integer("starts", starts, low=1)
        try:
            return checks.tokens(self._random(count), self.field, self.g, name="starts")
        except TypeError as error:
            if "plain callable" not in str(error):
                raise
        raise TypeError(
            "field is a plain callable, so the framework is unknown: pass the starts themselves as a torch.Tensor or a "
            "jax.Array, e.g. starts=torch.as_tensor(ctsa.random_tokens(n, d, batch=(100,)))"
        )

    def _random(self, count: int) -> np.ndarray:
        return self.g.random(self.n, self.d, self.rng, (count,))

    def fit(self, x: np.ndarray) -> np.ndarray:
        """Put states on the geometry."""
        return self.g.retract(x) if len(x) else x

    def solve(self, x: np.ndarray, iterations: int | None = None) -> Solved:
        """Look for a zero from each of the states."""
        states = backend(self.one).like(x, self.one)
        iterations = self.iterations if iterations is None else iterations
        return solve(self.field, states, iterations=iterations, rest=self.rest, t=self.t, geometry=self.g, like=self.one)

    def at_rest(self, s: Solved) -> np.ndarray:
        """Tell which ends are equilibria: slower than ``rest``, or than rounding allows where the field is huge."""
        finite = np.isfinite(s.jacobians).all((1, 2)) & np.isfinite(s.states).all((1, 2))
        floor = 1e3 * self.eps * np.sqrt((np.where(finite[:, None, None], s.jacobians, 0.0) ** 2).sum((1, 2)))
        return finite & (s.speeds <= np.maximum(self.rest, floor))

    def _good(self, s: Solved) -> list[tuple[tuple, np.ndarray]]:
        good = self.at_rest(s)
        self.tried, self.converged = self.tried + len(good), self.converged + int(good.sum())
        with np.errstate(invalid="ignore"):
            self.slowest = min(self.slowest, float(np.nanmin(s.speeds, initial=math.inf)))
        singular = np.linalg.svd(s.jacobians[good], compute_uv=False)
        return list(zip(zip(*(a[good] for a in s), strict=True), singular, strict=True))

    def collect(self, x: np.ndarray) -> bool:
        """Solve from the states ``x``; tell whether that brought anything new."""
        new = False
        for row, singular in self._good(self.solve(x)):
            if self.old.knows(row, singular):
                self.repeated += 1
            else:
                new |= self.pool.add(row, singular)
        return new

    def first(self, structured: bool, flow_limits: bool) -> None:
        """Solve from random and structured starts, and from flow limits."""
        x = [self.starts]
        if structured:
            alike, seed = self.symmetry.exchangeable, int(self.rng.integers(2**31))
            x.append(structured_starts(self.field, self.n, self.d, seed=seed, exchangeable=alike, geometry=self.g))
        if flow_limits:
            x.append(self._flow(self.starts[np.arange(_FLOWS) % len(self.starts)]))
        self.collect(np.concatenate(x))

    def further(self) -> bool:
        """Solve from recombinations of what was found, and from more random and symmetric states."""
        size = chunk_size(self.n, self.d)
        size *= -(-len(self.starts) // size)
        s, rng = self.symmetry, self.rng
        parents = [row[0] for row in (*self.pool.rows, *self.old.rows)]
        half = size // 2 if parents else 0
        quarter = (size - half) // 2
        x = [self._random(size - half - quarter), symmetric_starts(self.n, self.d, quarter, rng, s.signs, s.basis, self.g)]
        if parents:
            x.append(recombined_starts(np.stack(parents), half, rng, s.signs, s.basis, self.g))
        return self.collect(np.concatenate(x))

    def _flow(self, x: np.ndarray) -> np.ndarray:
        """Follow the flow of some starts for a while; count those that do not come to rest."""
        be, at = backend(self.one), self.solve(x, iterations=0)
        speed, stiff = float(np.median(at.speeds)), float(np.abs(at.jacobians).sum(-1).max())
        if not (speed > 0 and math.isfinite(stiff)):
            return x
        step = min(0.5 / stiff, 0.1 / speed) if stiff > 0 else 0.1 / speed  # accuracy is of no concern, only stability
        carry = tuple(be.like(v, self.one) for v in (x, step, min(30.0 / speed / step, 2000.0), self.t))
        _, (ends, rate) = be.call(be.partial(_follow, self.field, self.g), carry)
        ends, rate = as_numpy(ends).astype(np.float64), as_numpy(rate)
        good = np.isfinite(ends).all((1, 2))
        self.flows, self.moving = len(x), int((rate > 1e-2 * speed).sum())
        return ends[good] if good.any() else x

    def orbit(self, k: int) -> float:
        """Return how many states the k-th solution stands for."""
        while len(self._orbits) <= k:
            self._orbits.append(self.symmetry.orbit(self.pool.rows[len(self._orbits)][0]))
        return self._orbits[k]

    def index_sum(self) -> tuple[float, int]:
        """Return the sum of the indices ``sign det J`` of all equilibria, and what Poincare and Hopf say it is.

        On a closed manifold with isolated equilibria that is the Euler characteristic: 2 for each even sphere, 0 for each
        odd one. nan where equilibria are not isolated, the field jumps (hardmax), or the geometry does not know it.
        """
        expected = self.g.euler_characteristic(self.n, self.d)
        if expected is None:
            return math.nan, 0
        jumps = any(getattr(given.get("weights"), "name", "") == "hardmax" for _, given in terms_of(self.field))
        if jumps or self.old.rows or len(self.symmetry.generators) or any(self.pool.loose):
            return math.nan, expected
        signs = (np.linalg.slogdet(row[2])[0] for row in self.pool.rows)
        return sum(int(s) * self.orbit(k) for k, s in enumerate(signs)), expected

    def families(self) -> list[int]:
        """Return the dimension of the set of equilibria around each: step along neutral directions and solve again."""
        sizes, steps, owners = [], [], []
        for k, (x, _, j, _, e) in enumerate(self.pool.rows):
            _, s, vh = np.linalg.svd(j)
            neutral, modes = int((s <= NEUTRAL * max(s[0], 1e-300)).sum()), self.symmetry.modes(x)
            sizes.append(min(modes, neutral))
            if neutral <= modes:
                continue
            for direction in vh[len(s) - neutral :]:
                v = (e @ direction.reshape(len(x), -1)[..., None])[..., 0]
                for sign in (_PROBE, -_PROBE):
                    steps.append(self.fit(x + sign * v))
                    owners.append((k, sign * v))
        if not steps:
            return sizes
        solved = self.solve(np.stack(steps))
        moved: dict[int, list[bool]] = {}
        for (k, step), y, ok in zip(owners, solved.states, self.at_rest(solved), strict=True):
            along = float(((y - self.pool.rows[k][0]) * step).sum() / (step * step).sum())
            moved.setdefault(k, []).append(bool(ok) and along > 0.5)
        for k, went in moved.items():
            sizes[k] = max(sizes[k], sum(a and b for a, b in zip(went[::2], went[1::2], strict=True)))
        return sizes


def _follow(field, g, carry):
    """Follow the flow by Heun steps; return where it is, how fast it is there, and the state it came from."""
    x, step, count, t = carry
    be = backend(x)

    def going(state):
        return state[0] < count

    def advance(state):
        k, y = state
        a = field(t, y)
        b = field(t, g.retract(y + step * a))
        return k + 1, g.retract(y + step / 2 * (a + b))

    _, y = be.repeat_while(going, advance, (0 * count, x))
    v = field(t, y)
    return carry, (y, be.xp.amax((v * v).sum(-1), -1) ** 0.5)
