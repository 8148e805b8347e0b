"""Find limit cycles by shooting: rotating consensus, other relative equilibria, and cycles of any flow."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend
from ctsa._types import State
from ctsa.derivatives import basis_directions
from ctsa.flows.integration import integrate
from ctsa.flows.solver import Solver, takes_solver
from ctsa.flows.systems import System, system_of
from ctsa.geometry import Geometry
from ctsa.observables import clusters
from ctsa.results.base import Result, as_numpy, picture
from ctsa.results.text import columns, lines
from ctsa.symmetry import symmetry_of
from ctsa.tangent.march import March

_PARTS = 4  # pieces of a period: their ends show whether the Gram matrix is constant along the cycle
_SAMPLES = 257  # output times in which a return is looked for
_UNIT = 1e-6  # multipliers this close to 1 count as 1


class LimitCycleError(RuntimeError):
    """No cycle was found: the flow comes to rest, does not return, or Newton's method did not converge."""


@dataclass(frozen=True)
class LimitCycle(Result):
    """A periodic orbit of a flow.

    Attributes:
        x: a state on it ``(n, d)``, NumPy.
        period: time after which the flow returns to it for the first time.
        multipliers: eigenvalues of the monodromy matrix on the tangent space, complex, by modulus, descending; one of
            them, along the flow, is 1.
        stable: whether nearby states approach the cycle, or, where rotations move it, the family of cycles.
        residual: distance of the worst token after one period from where it was.
        kind: "rotating consensus", "rotating bipartite consensus", "relative equilibrium" (the Gram matrix is constant),
            or "limit cycle".
        neutral: number of multipliers that are 1.
        neutral_symmetry: number of directions, beside that of the flow, in which rotations that commute with the field
            move ``x``.
    """

    x: Any
    period: float
    multipliers: Any
    stable: bool
    residual: float
    kind: str
    neutral: int
    neutral_symmetry: int
    _static: ClassVar[tuple[str, ...]] = ("period", "stable", "residual", "kind", "neutral", "neutral_symmetry")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"x": ("token", "component"), "multipliers": ("mode",)}

    @property
    def exponents(self) -> np.ndarray:
        """Real parts of the Floquet exponents, ``log|multiplier| / period``."""
        with np.errstate(divide="ignore"):
            return np.log(np.abs(self.multipliers)) / self.period

    def table(self) -> str:
        """Return the cycle as text, a line each, then its multipliers and the exponents that these make."""
        about = lines([
            ("kind", self.kind), ("period", f"{self.period:.10g}"), ("stable", self.stable), ("residual", self.residual),
            ("multipliers that are 1", self.neutral), ("of these by symmetry", self.neutral_symmetry),
        ])  # fmt: skip
        rows = zip(
            range(len(self.multipliers)), self.multipliers, np.abs(self.multipliers), self.exponents, strict=True
        )
        return f"{about}\n{columns(('mode', 'multiplier', 'modulus', 'exponent'), rows, most=20)}"

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the multipliers in the complex plane, see ``ctsa.plot.spectra.eigenvalues``; return the ``Axes``."""
        return picture("spectra.eigenvalues")(self.multipliers, ax=ax, continuous=False, neutral=self.neutral, **kwargs)

    def __repr__(self) -> str:
        verdict = "stable" if self.stable else "not stable"
        return f"LimitCycle({self.kind}, period={self.period:.10g}, {verdict}, residual={self.residual:.0e})"


@analysis
@takes_solver
def find_limit_cycle(
    field: Any,
    x0: State,
    period: float | None = None,
    *,
    tol: float = 1e-8,
    horizon: float | None = None,
    iterations: int = 30,
    solver: Any = "dopri8",
    atol: float = 1e-11,
    max_steps: int = 100_000,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> LimitCycle:
    """Find a limit cycle near ``x0`` by shooting.

    Newton's method, damped, solves ``x(T) = x`` for the state and the period together, with steps across the flow; the
    derivative is the monodromy matrix, from the variational equation. So cycles that repel are found as well, given a
    start and a period close enough, and of a family of cycles the closest one is.

    Args:
        field: an autonomous field, ours or any callable.
        x0: one state ``(n, d)``.
        period: first guess of the period. None follows the flow from ``x0`` until it settles, and takes the time
            after which it comes back: this finds cycles that attract.
        tol: distance of the worst token after one period that is accepted.
        horizon: time for which the flow is followed at first, if ``period`` is None; doubled up to four times. By default
            60 divided by the speed of the fastest token.
        iterations: most Newton steps.
        solver: solver of the shooting.
        atol: its tolerance. Multipliers are as accurate as this.
        max_steps: most steps of one solve.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.

    Returns:
        ``LimitCycle``.

    Raises:
        LimitCycleError: the flow comes to rest, does not come back, or Newton's method does not converge.
        ValueError: the field depends on time, or an argument is wrong.
        TypeError: not a field, or not float64.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> value = np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, -1.0]])  # leading pair 1 +- 2i
        >>> cycle = ctsa.find_limit_cycle(SelfAttention(value=value), ctsa.random_tokens(3, 3, seed=1))
        >>> cycle.kind, round(cycle.period / np.pi, 9), cycle.stable
        ('rotating consensus', 1.0, True)

    References:
        Altafini, arXiv 2511.11553 (consensus that rotates with period 2 pi / w); Kuznetsov, *Elements of Applied
        Bifurcation Theory*, chapter 10.
    """
    s = system_of(field, geometry)
    if not s.flow:
        raise TypeError("find_limit_cycle takes a field(t, x), not a layer: see ctsa.find_cycles")
    x = s.start(x0, normalize)
    if x.ndim != 2:
        raise ValueError(f"x0 must be one state (n, d), got shape {tuple(x.shape)}: loop over a batch")
    if "float64" not in str(x.dtype):
        raise TypeError(f"find_limit_cycle needs float64, for shooting amplifies rounding, got {x.dtype}")
    tol = checks.number("tol", tol, low=0.0, strict=True)
    iterations = checks.integer("iterations", iterations, low=1)
    velocity = as_numpy(s.image(x))
    if np.abs(as_numpy(s.image(x, 0.7310)) - velocity).max() > 1e-9 * max(1.0, np.abs(velocity).max()):
        raise ValueError("field depends on time: limit cycles are looked for in autonomous fields")
    method = Solver(solver, 0.0, atol, None, max_steps)
    state = as_numpy(x).astype(np.float64)
    if period is None:
        state, time = _return(s, state, x, horizon, method)
    else:
        time = checks.number("period", period, low=0.0, strict=True)
    state, time, shot = _shoot(s, state, time, x, tol, iterations, method)
    return _describe(s, state, time, shot, x)


def _speed(v: np.ndarray) -> float:
    return float(np.sqrt((v**2).sum(-1)).max())


def _follow(s: System, x: np.ndarray, like: Any, ts: np.ndarray, solver: Solver) -> Any:
    """Integrate; with a number of outputs that never changes, which JAX compiles once."""
    return integrate(s.source, backend(like).like(x, like), ts, replace(solver, atol=1e-9), geometry=s.geometry)


def _return(s: System, x: np.ndarray, like: Any, horizon: float | None, solver: Solver) -> tuple[np.ndarray, float]:
    """Follow the flow until it comes back to where it was; return a state and the time that took."""
    backend(like)
    speed = _speed(as_numpy(s.image(like)))
    if horizon is None:
        horizon = 60.0 / max(speed, 1e-2)
    horizon = checks.number("horizon", horizon, low=0.0, strict=True)
    fastest = speed
    for _ in range(5):
        ts = np.linspace(0.0, horizon, _SAMPLES)
        flow = _follow(s, x, like, ts, solver)
        xs = as_numpy(flow.xs).astype(np.float64)
        start = _SAMPLES // 2
        fastest = _speed(as_numpy(s.image(flow.xs[-1])))
        gap = np.sqrt(((xs[start:] - xs[start]) ** 2).sum((1, 2)))
        away = int(np.argmax(gap > 0.5 * gap.max()))
        for k in range(away + 1, len(gap) - 1):
            if gap[k] <= min(gap[k - 1], gap[k + 1]) and gap[k] < 0.1 * gap.max() and gap.max() > 1e-4:
                return xs[start], float(ts[start + k] - ts[start])
        x, horizon = xs[-1], 2 * horizon
        if fastest < 1e-6:
            break
    if fastest < 1e-4:
        raise LimitCycleError(
            f"the flow from x0 comes to rest (speed {fastest:.2g}): it ends in an equilibrium, see find_equilibria"
        )
    raise LimitCycleError(
        f"the flow from x0 did not come back to where it was within t={horizon:.4g} (speed {fastest:.2g}): it may be slow, "
        "quasi-periodic or chaotic; pass a longer horizon, another x0, or a period, or see lyapunov_spectrum"
    )


@dataclass
class _Shot:
    end: np.ndarray
    monodromy: np.ndarray  # from the basis at the start to itself
    states: np.ndarray


def _fire(s: System, x: np.ndarray, time: float, like: Any, solver: Solver) -> _Shot:
    """Integrate state and tangent basis over one period."""
    frame = basis_directions(s.geometry.basis(x))
    be = backend(like)
    march = March(
        s.source, be.like(x, like), solver, interval=time / _PARTS, frame=be.like(frame, like), geometry=s.geometry
    )
    # The frame is a basis already, so its factorisation on entry changes nothing.
    r, ok, xs, us = march.advance(_PARTS, thin=False)
    if not ok.all() or not np.isfinite(r).all():
        raise LimitCycleError(f"the flow could not be integrated over t={time:.4g}: raise max_steps or loosen atol")
    product = np.eye(len(frame))
    for factor in r:
        product = factor @ product
    out = frame.reshape(len(frame), -1) @ us[-1].reshape(len(frame), -1).T  # E^T Q
    return _Shot(xs[-1].astype(np.float64), out @ product, xs.astype(np.float64))


def _shoot(s: System, x, time, like, tol, iterations, solver) -> tuple[np.ndarray, float, _Shot]:
    """Solve ``x(T) = x`` by Levenberg--Marquardt steps in state and period, then look for a shorter period."""
    be, g, guess = backend(like), s.geometry, time
    shot, damping = _fire(s, x, time, like, solver), 1.0
    off = _off(shot, x)
    for _ in range(iterations):
        e = g.basis(x)
        here, there = (_coordinates(e, as_numpy(s.image(be.like(y, like)))) for y in (x, shot.end))
        m, size = len(here), np.linalg.norm(here)
        if size < 1e-7:
            raise LimitCycleError("Newton's method ran into an equilibrium: start further from it, see find_equilibria")
        matrix = np.zeros((m + 1, m + 1))
        matrix[:m, :m] = shot.monodromy - np.eye(m)
        matrix[:m, m], matrix[m, :m] = there / size, here / size  # the period in units of the path it adds
        rest = np.append(_coordinates(e, shot.end - x), 0.0)
        # Damping by the residual: quadratic convergence also to families of cycles, where the matrix is singular.
        u, sigma, vh = np.linalg.svd(matrix)
        share = sigma / (sigma**2 + damping * (rest @ rest) + (1e-10 * sigma[0]) ** 2)
        step = -vh.T @ (share * (u.T @ rest))
        step *= min(1.0, 0.5 / max(np.abs(step[:m]).max(), 1e-300), 0.3 * time * size / max(abs(step[m]), 1e-300))
        v = (e @ step[:m].reshape(*e.shape[:1], e.shape[-1])[..., None])[..., 0]
        y, later = g.retract(g.exp(x, v)), time + float(step[m]) / size
        trial = _fire(s, y, later, like, solver)
        closer = _off(trial, y) < off
        if closer:
            x, time, shot, off, damping = y, later, trial, _off(trial, y), damping / 8
        else:
            damping *= 8
        if off < 1e-4 * tol or (off <= tol and not closer):
            break
    if off > tol:
        raise LimitCycleError(
            f"Newton's method came back to within {off:.2g} after t={time:.6g}, not {tol:g}: start closer to the cycle, "
            f"with a better period than {guess:.4g}, or loosen tol"
        )
    shorter = _shortest(s, x, time, like, 10 * off + 1e-6, solver)
    return (x, time, shot) if shorter == 1 else (x, time / shorter, _fire(s, x, time / shorter, like, solver))


def _shortest(s: System, x: np.ndarray, time: float, like: Any, near: float, solver: Solver) -> int:
    """Return how often the cycle goes round in ``time``: Newton may have landed on a shorter one."""
    primes, rounds = (11, 7, 5, 3, 2), 1
    while True:
        shares = np.array([time / (rounds * p) for p in primes])
        between = np.linspace(0.0, shares[-1], _SAMPLES + 10)
        between = between[np.abs(between[:, None] - shares).min(1) > 1e-9 * time][: _SAMPLES - len(primes)]
        ts = np.sort(np.concatenate([between, shares]))
        flow = _follow(s, x, like, ts, solver)
        there = as_numpy(flow.xs)[np.searchsorted(ts, shares)]
        gaps = np.sqrt(((there - x) ** 2).sum(-1)).max(-1)
        back = [p for p, gap in zip(primes, gaps, strict=True) if gap <= near]
        if not back:
            return rounds
        rounds *= back[0]


def _off(shot: _Shot, x: np.ndarray) -> float:
    return float(np.sqrt(((shot.end - x) ** 2).sum(-1)).max())


def _coordinates(e: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (e.swapaxes(-1, -2) @ v[..., None]).reshape(-1)


def _describe(s: System, x: np.ndarray, time: float, shot: _Shot, like: Any) -> LimitCycle:
    multipliers = np.linalg.eigvals(shot.monodromy).astype(complex)
    multipliers = multipliers[np.lexsort((-multipliers.imag, -np.abs(multipliers)))]
    be = backend(like)
    velocity = as_numpy(s.image(be.like(x, like))).astype(np.float64)
    found = symmetry_of(s.source, *x.shape, geometry=s.geometry, like=be.like(x[None], like))
    along = np.concatenate([velocity.reshape(1, -1) / np.linalg.norm(velocity), found.moved(x)])
    symmetric = int(np.linalg.matrix_rank(along, tol=1e-6)) - 1
    near = np.abs(np.abs(multipliers) - 1) <= _UNIT
    stable = bool((np.abs(multipliers) <= 1 + _UNIT).all() and near.sum() <= 1 + symmetric)
    folded = np.where((x @ x[0])[:, None] < 0, -x, x)
    grams = shot.states @ shot.states.swapaxes(-1, -2)
    if clusters(x).max() == 0:
        kind = "rotating consensus"
    elif clusters(folded).max() == 0:
        kind = "rotating bipartite consensus"
    else:
        kind = "relative equilibrium" if np.abs(grams - x @ x.T).max() < 1e-6 else "limit cycle"
    return LimitCycle(
        x=x, period=float(time), multipliers=multipliers, stable=stable, kind=kind,
        residual=_off(shot, x),
        neutral=int((np.abs(multipliers - 1) <= _UNIT).sum()), neutral_symmetry=symmetric,
    )  # fmt: skip
