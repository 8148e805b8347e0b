"""Covariant Lyapunov vectors, and the alignment index GALI."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa._types import Directions, State
from ctsa.flows.solver import Solver, takes_solver
from ctsa.geometry import Geometry
from ctsa.results.base import Result, as_numpy, picture
from ctsa.results.text import columns

from .march import March
from .spectrum import LyapunovError

Array = Any


def _march(system: Any, x0: Any, solver: Solver, **options: Any) -> March:
    march = March(system, x0, solver, **options)
    if march.carry[1].ndim != 2:
        raise ValueError(f"x0 must be one state (n, d), got shape {tuple(march.carry[1].shape)}: loop over a batch")
    return march


def _run(march: March, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """March ``count`` intervals; return triangular factors, states and frames, float64."""
    parts = []
    while count > 0:
        size = min(count, 64)
        r, ok, x, u = march.advance(size, thin=False)
        good = ok & np.isfinite(r).reshape(size, -1).all(1)
        if not good.all():
            where = march.index - size + int(np.argmin(good))
            raise LyapunovError(f"the run broke off in interval {where}: nan, a failed solve, or a left sphere", None)
        parts.append((r, x, u))
        count -= size
    r, x, u = (np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True))
    return r, x, u


@dataclass(frozen=True)
class CovariantVectors(Result):
    """Covariant Lyapunov vectors along a trajectory.

    Attributes:
        xs: states ``(T, n, d)``.
        vectors: unit covariant vectors ``(T, k, n, d)``, in the order of the exponents: the flow maps ``vectors[t, j]``
            to a multiple of ``vectors[t + 1, j]``.
        growth: local exponents ``(T - 1, k)`` of each covariant vector, per unit time or layer.
        interval: time (or layers) between states.
    """

    xs: Any
    vectors: Any
    growth: Any
    interval: float
    _static: ClassVar[tuple[str, ...]] = ("interval",)
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "xs": ("time", "token", "component"),
        "vectors": ("time", "exponent", "token", "component"),
        "growth": ("interval_index", "exponent"),
    }

    def __repr__(self) -> str:
        means = self.exponents
        shown = ", ".join(f"{v:.4g}" for v in means[:6]) + (", ..." if len(means) > 6 else "")
        return f"CovariantVectors({len(means)} vectors at {len(self.xs)} times, exponents [{shown}])"

    @property
    def exponents(self) -> np.ndarray:
        """Means of the local exponents, ``(k,)``."""
        return self.growth.mean(0)

    @property
    def angles(self) -> np.ndarray:
        """Angles ``(T, k, k)`` in radians, in [0, pi/2], between the covariant directions at each time."""
        v = self.vectors.reshape(*self.vectors.shape[:2], -1)
        cosine = np.abs(v @ v.swapaxes(-1, -2))
        return np.arccos(np.clip(cosine, 0.0, 1.0)) * (1 - np.eye(v.shape[1]))

    def subspace_angle(self, split: int) -> np.ndarray:
        """Return the smallest angle ``(T,)`` between the span of the first ``split`` vectors and that of the rest.

        Bounded away from zero along the trajectory: the splitting is dominated (hyperbolic, for stable and unstable).
        """
        k = self.vectors.shape[1]
        if not 0 < checks.integer("split", split) < k:
            raise ValueError(f"split must lie between 1 and {k - 1}, got {split}")
        v = self.vectors.reshape(*self.vectors.shape[:2], -1).swapaxes(-1, -2)
        first, rest = np.linalg.qr(v[..., :split])[0], np.linalg.qr(v[..., split:])[0]
        # sin of the smallest angle, accurate for small ones: the part of one span outside of the other
        outside = rest - first @ (first.swapaxes(-1, -2) @ rest)
        return np.arcsin(np.clip(np.linalg.svd(outside, compute_uv=False)[..., -1], 0.0, 1.0))

    def table(self) -> str:
        """Return a line a vector as text: its exponent, how much that varies, its least angle with the next, in degrees."""
        next_to = np.degrees(np.diagonal(self.angles, 1, 1, 2).min(0))  # (k - 1,)
        rows = zip(range(1, 1 + len(self.exponents)), self.exponents, self.growth.std(0), [*next_to, "-"], strict=True)
        return columns(("vector", "exponent", "spread of local ones", "least angle with next"), rows, most=20)

    def plot(self, ax=None, **kwargs):
        """Draw histograms of the angles between neighbouring vectors; return the ``Axes``."""
        return picture("spectra.angles")(self, ax=ax, **kwargs)


@analysis
@takes_solver
def covariant_vectors(
    system: Any,
    x0: State,
    *,
    intervals: int = 200,
    interval: float = 1.0,
    transient: int = 50,
    transient_back: int = 50,
    count: int | None = None,
    frame: Directions | None = None,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-8,
    step: float | None = None,
    max_steps: int = 100_000,
    seed: int = 0,
    t0: float = 0.0,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> CovariantVectors:
    """Compute covariant Lyapunov vectors by Ginelli's method, for flows and layers.

    Forward, frames ``Q_m`` and triangular factors ``R_m`` are kept; backward, ``C_{m-1} = R_m^{-1} C_m`` (columns
    normalised) converges to the coefficients of the covariant vectors ``Q_m C_m``.

    Args:
        system: a field, a layer, or a sequence of layers.
        x0: unit tokens ``(n, d)``.
        intervals: length of the window that is returned.
        interval: time (or layers) between states.
        transient: intervals before the window, in which the frame converges.
        transient_back: intervals after the window, in which the coefficients converge backward.
        count: how many vectors; None for all.
        frame: initial directions ``(k, n, d)``.
        solver, rtol, atol, step, max_steps: as for ``lyapunov_spectrum``; a ``ctsa.Solver`` holds them all.
        seed: of the frame.
        t0: initial time.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.

    Returns:
        ``CovariantVectors`` at ``intervals + 1`` times.

    Raises:
        ValueError: an argument is wrong, or a factor is singular (a direction that is lost at once).
        LyapunovError: the run broke off.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Oja
        >>> clv = ctsa.covariant_vectors(Oja(np.diag([3.0, 2.0, 1.0])), [[1.0, 0.0, 0.0]], intervals=5)
        >>> [round(float(v), 5) for v in clv.exponents]
        [-1.0, -2.0]

    References:
        Ginelli et al., Phys. Rev. Lett. 99 (2007) 130601; J. Phys. A 46 (2013) 254005.
    """
    intervals = checks.integer("intervals", intervals, low=1)
    transient = checks.integer("transient", transient, low=0)
    back = checks.integer("transient_back", transient_back, low=0)
    march = _march(
        system, x0, Solver(solver, rtol, atol, step, max_steps), interval=interval, count=count, frame=frame, seed=seed,
        t0=t0, geometry=geometry, normalize=normalize,
    )  # fmt: skip
    if transient:
        _run(march, transient)
    _, x, u, _ = (as_numpy(a) for a in march.carry)
    r, xs, frames = _run(march, intervals + back)
    if not (np.abs(np.diagonal(r, axis1=1, axis2=2)) > 0).all():
        raise ValueError("a direction is mapped to zero within an interval: ask for fewer vectors (count)")
    xs, frames = np.concatenate([x[None], xs]), np.concatenate([u[None], frames])
    k = frames.shape[1]
    c = np.triu(np.random.default_rng(0).normal(size=(k, k)) * 0.1, 1) + np.eye(k)
    vectors = np.empty((intervals + 1, *frames.shape[1:]))
    growth = np.empty((intervals, k))
    from scipy.linalg import solve_triangular

    for m in range(intervals + back, -1, -1):
        c = c / np.linalg.norm(c, axis=0)
        if m <= intervals:
            vectors[m] = np.einsum("ij,i...->j...", c, frames[m])
        if m > 0:
            c = solve_triangular(r[m - 1], c)
            if m <= intervals:
                growth[m - 1] = -np.log(np.linalg.norm(c, axis=0)) / march.interval
    return CovariantVectors(xs[: intervals + 1], vectors, growth, march.interval)


@analysis
@takes_solver
def gali(
    system: Any,
    x0: State,
    count: int = 2,
    *,
    intervals: int = 100,
    interval: float = 1.0,
    frame: Directions | None = None,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-8,
    step: float | None = None,
    max_steps: int = 100_000,
    seed: int = 0,
    t0: float = 0.0,
    geometry: Geometry | None = None,
    normalize: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return times and GALI_k, the volume spanned by ``k`` unit deviation vectors that evolve freely.

    It decays like ``exp(-t sum_{j=2..k} (l_1 - l_j))`` for chaotic motion, and stays constant or decays like a power for
    regular motion on a torus.

    Args:
        system: a field, a layer, or a sequence of layers.
        x0: unit tokens ``(n, d)``.
        count: k, at least 2.
        intervals: how many values.
        interval: time (or layers) between them.
        frame: initial directions ``(k, n, d)``; the volume starts at 1.
        solver, rtol, atol, step, max_steps: as for ``lyapunov_spectrum``; a ``ctsa.Solver`` holds them all.
        seed: of the frame.
        t0: initial time.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.

    Returns:
        NumPy ``(intervals + 1,)`` times and the natural logarithm of GALI_k at them, which does not underflow.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Rotation
        >>> t, log = ctsa.gali(Rotation(frequencies=[1.0, 2.0]), ctsa.random_tokens(1, 4), 2, intervals=3)
        >>> bool(np.abs(log).max() < 1e-6)  # rotations keep volumes
        True

    References:
        Skokos, Bountis, Antonopoulos, Physica D 231 (2007) 30.
    """
    if checks.integer("count", count, low=2) and frame is not None:
        count = len(frame)
    march = _march(
        system, x0, Solver(solver, rtol, atol, step, max_steps), interval=interval, count=count, frame=frame, seed=seed,
        t0=t0, geometry=geometry, normalize=normalize,
    )  # fmt: skip
    r, _, _ = _run(march, checks.integer("intervals", intervals, low=1))
    c, logs = np.eye(r.shape[1]), [0.0]
    log_volume = 0.0
    for factor in r:
        # Columns of factor @ c are the deviation vectors in the orthonormal frame: volume / product of lengths.
        log_volume += np.log(np.abs(np.diagonal(factor))).sum()
        c = factor @ c
        lengths = np.linalg.norm(c, axis=0)
        log_volume -= np.log(lengths).sum()
        c = c / lengths
        logs.append(log_volume)
    return march.interval * np.arange(len(logs)) + march.t0, np.array(logs)
