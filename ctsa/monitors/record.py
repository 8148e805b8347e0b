"""What to watch while a flow or a recurrent layer runs: pseudo-energy, contribution index, complex eigenvalues, norms."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._types import State, States
from ctsa.fields.base import Field, drift_of, drift_tangent_of
from ctsa.flows.integration import integrate
from ctsa.flows.opening import check_velocity
from ctsa.flows.systems import System, home_of, system_of
from ctsa.geometry import Densities, Geometry, direction_generator
from ctsa.layers.base import time_of
from ctsa.layers.check import check_foreign
from ctsa.layers.iteration import iterate
from ctsa.layers.recurrent import AKOrN, ItrSA
from ctsa.observables import order_parameter
from ctsa.parts import everything
from ctsa.results.base import Result, as_numpy, picture
from ctsa.tangent._products import Link, accuracy, ambient_link, link_of
from ctsa.tangent.jacobians import eigenvalues, tangent_jacobians
from ctsa.tangent.leading_modes import arpack_limits
from ctsa.tangent.norms import norms_by_products

Array = Any
_DENSE = 600  # largest n d for which Jacobians are formed
_BUDGET = 6000  # products of Lanczos' method
_SERIES = ("pseudo_energy", "contribution", "complex_share", "norm", "order_parameter")
_MISSING = {
    "pseudo_energy": "needs the update C + MSA(X), which a module or a bare callable does not tell",
    "complex_share": f"needs all eigenvalues, which are computed up to n d = {_DENSE}",
}


def _update_of(system: Any) -> Any:
    """Return the field whose drift is the update ``C + MSA`` of a field or layer of ours; None where it is not known."""
    if isinstance(system, (ItrSA, AKOrN)):
        return system.attention if isinstance(system, ItrSA) else system.coupling
    field = system if isinstance(system, Field) else getattr(system, "field", None)
    return field if isinstance(field, Field) else None


def _masses(field: Any) -> Any:
    """Return the masses of tokens; None where all count alike."""
    return next((part.masses for part in everything(field) if getattr(part, "masses", None) is not None), None)


def _of_tokens(g: Geometry) -> None:
    """See that states are tokens: numbers of a density have no lengths or directions to be aligned.

    Raises:
        ValueError: they are those of a density.
    """
    if isinstance(g, Densities):
        raise ValueError("system must be one of tokens: its states are coefficients of a density, which align with nothing")


def pseudo_energy(system: Any, x: States) -> Array:
    """Return the pseudo-energy ``E = -tr(X^T (C + MSA(X)))``, minus the alignment of tokens with their update.

    It is defined for every attention, falls while tokens align with what they receive, and in general no theorem bounds
    it. A rotation does not change it; tokens count as often as their masses say. For an ``AKOrN`` layer it is the Kuramoto
    energy that its authors log.

    Args:
        system: a field of ours, whose drift is ``C + MSA(X)``, or a layer of ours; one with a gain reads ``X = gamma * x``.
        x: states ``(..., n, d)``.

    Returns:
        ``(...)``, in the framework of ``x``.

    Raises:
        TypeError: a bare callable or a wrapped module, whose update before projection is not known.
        ValueError: the states are densities.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> ctsa.pseudo_energy(SelfAttention(), np.ones((4, 1)) * [[1.0, 0.0, 0.0]]).item()  # consensus
        -4.0

    References:
        Tomihari and Karakida, arXiv 2505.19458; Miyato et al., arXiv 2410.13821.
    """
    field = _update_of(system)
    if field is None:
        raise TypeError(f"system must be a field or layer of ctsa, whose drift is known, got {type(system).__name__}")
    _of_tokens(system.geometry)
    return _pseudo_energy(system, field, checks.tokens(x, home_of(field), system.geometry, name="x"))


def _pseudo_energy(system: Any, field: Any, x: Array) -> Array:
    y = system.tokens(x) if isinstance(system, (ItrSA, AKOrN)) else x
    each = y * field.drift(backend(x).like(time_of(system), x), y)
    masses = _masses(field)
    return -(each if masses is None else each * masses[:, None]).sum((-2, -1))


# ------------------------------------------------------------------------------------------------- contribution index
def _read(system: Any, x: Any, geometry: Geometry | None, batch: bool = False) -> tuple[System, Array]:
    s = system_of(system, geometry)
    if s.kind == "layers":
        raise TypeError("a sequence of layers has no single Jacobian: pass one layer")
    home = s.source if s.flow else home_of(s.source)
    x = checks.tokens(x, home, s.geometry, name="x")
    if x.ndim != 2 and not batch:
        raise ValueError(f"x must be one state (n, d), got shape {tuple(x.shape)}: loop over a batch")
    return s, x


@analysis
def contribution_index(
    system: Any,
    x: States,
    share: float = 0.02,
    *,
    count: int | None = None,
    dense: bool | None = None,
    budget: int = _BUDGET,
    t: float = 0.0,
    geometry: Geometry | None = None,
    seed: int = 0,
) -> Any:
    """Return which fraction of ``|x|^2`` lies in the leading eigenvectors of ``J + J^T``, ``share`` of them all.

    J is the Jacobian, (n d, n d), of the update ``C + MSA`` of a field or layer of ours, before projection and
    normalisation: after them nothing changes radially, and the tokens themselves would count for nothing. Of other
    callables it is that of the whole map. A random state has an index of about ``share``; where tokens turn to
    directions that the update amplifies, it rises. Tokens count as often as their masses say: ``M^(1/2) J M^(-1/2)`` and
    ``M^(1/2) x`` are read, the restriction of what repeated tokens have to states in which they are equal.

    Args:
        system: a field or a layer. ``ItrSA`` reads ``X = gamma * x``.
        x: states ``(..., n, d)``; those of a batch are taken one by one.
        share: of the ``n d`` eigenvectors, at least one.
        count: how many eigenvectors, in place of ``share``.
        dense: form J + J^T (True), or find the leading eigenvectors from products with J and J^T alone, by Lanczos'
            method (False); None forms it up to n d = 600.
        budget: about how many products, for each state, after which Lanczos' method gives up.
        t: time.
        geometry: where a bare callable lives.
        seed: of Lanczos' start.

    Returns:
        A float for one state, NumPy ``(...)`` for a batch.

    Raises:
        ValueError: ``share`` is not in (0, 1], ``count`` is more than n d, J does not fit into memory, or the states are
            densities.
        RuntimeError: the budget is used up.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Oja
        >>> x = np.ones((2, 1)) * [[1.0, 0.0, 0.0]]
        >>> round(ctsa.contribution_index(Oja(np.diag([3.0, 2.0, 1.0])), x), 12)  # consensus is the leading eigenvector
        1.0

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    s, x = _read(system, x, geometry, batch=True)
    _of_tokens(s.geometry)
    dense, budget = checks.flag("dense", dense, unset=True), checks.integer("budget", budget, low=1)
    size, seed = x.shape[-2] * x.shape[-1], checks.seed(seed)
    share = _check_share(share)
    if count is None:
        count = _count(share, size)
    elif checks.integer("count", count, low=1) > size:
        raise ValueError(f"count={count} is more than n d = {size}")
    found = [_contribution(s.member(at), x[at], count, dense, t, seed, budget) for at in np.ndindex(*x.shape[:-2])]
    return found[0] if x.ndim == 2 else np.array(found).reshape(x.shape[:-2])


def _check_share(share: float) -> float:
    share = checks.number("share", share, low=0.0, strict=True)
    if share > 1:
        raise ValueError(f"share must be at most 1, got {share:g}")
    return share


def _count(share: float, size: int) -> int:
    return int(np.ceil(share * size - 1e-9))


def _contribution(
    s: System, x: Array, count: int, dense: bool | None, t: float, seed: int, budget: int = _BUDGET
) -> float:
    system = s.source
    x = system.tokens(x) if isinstance(system, (ItrSA, AKOrN)) else x
    field = system if s.flow else _update_of(system)
    be = backend(x)
    if field is not None:
        now, masses = be.like(t if s.flow else time_of(system), x), _masses(field)
        root = None if masses is None else be.like(masses, x)[:, None] ** 0.5
        x = x if root is None else root * x
        link = ambient_link(be.partial(_drift, field, now, root), be.partial(_drift_tangent, field, now, root), x)
    else:
        link = link_of(s, x, t)
        link = ambient_link(link.image, link.tangent, x)
    size = x.shape[0] * x.shape[1]
    state = as_numpy(x).astype(float).ravel()
    if count == size:
        return 1.0
    if dense is None:
        dense = size <= _DENSE
    if dense:
        checks.room(f"a dense Jacobian of {size} unknowns", 4.0 * size**2, remedy="pass dense=False")
        j = as_numpy(link.forward(be.eye(size, x).reshape(size, *x.shape))).astype(float).reshape(size, size)
        vectors = np.linalg.eigh(j + j.T)[1][:, size - count :]
        return float(((state @ vectors) ** 2).sum() / (state @ state))
    # Of few vectors the leading ones; of most of them those that are left out.
    few = min(count, size - count)
    vectors = _lanczos(link, few, "LA" if few == count else "SA", seed, budget)
    part = float(((state @ vectors) ** 2).sum() / (state @ state))
    return part if few == count else 1 - part


def _drift(field: Any, t: Array, root: Array | None, x: Array) -> Array:
    return drift_of(field)(t, x) if root is None else root * drift_of(field)(t, x / root)


def _drift_tangent(field: Any, t: Array, root: Array | None, x: Array, u: Array) -> Array:
    if root is None:
        return drift_tangent_of(field, t, x, u)[1]
    return root * drift_tangent_of(field, t, x / root, u / root)[1]


def _lanczos(link: Link, count: int, which: str, seed: int, budget: int) -> np.ndarray:
    """Return eigenvectors ``(n d, count)`` of ``J + J^T`` at one end of its spectrum."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    x, be = link.x, backend(link.x)
    size = x.shape[0] * x.shape[1]
    if count >= size:
        raise ValueError(f"count={count} must be below n d = {size} with dense=False")

    def product(v):
        u = be.like(np.asarray(v).reshape(1, *x.shape), x)
        return (as_numpy(link.forward(u)) + as_numpy(link.transposed(u))).ravel()

    start = direction_generator(seed).normal(size=size)
    limits = arpack_limits(size, count, budget) | dict(v0=start, tol=accuracy(product, start, rounding(x)))
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    try:
        return eigsh(operator, k=count, which=which, **limits)[1]
    except ArpackNoConvergence as error:
        raise RuntimeError(
            f"{len(error.eigenvalues)} of {count} eigenvectors of J + J^T converged within about {budget} products: raise "
            f"budget={budget}, ask for another count (or share), or pass dense=True"
        ) from None


@analysis
def complex_share(system: Any, x: State, tol: float = 1e-9, *, t: float = 0.0, geometry: Geometry | None = None) -> float:
    """Return the share of complex eigenvalues of the tangent Jacobian: how much of the linearised motion oscillates.

    Args:
        system: a field or a layer.
        x: one state ``(n, d)``.
        tol: imaginary parts below this share of the largest modulus count as zero.
        t: time.
        geometry: where a bare callable lives.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Rotation
        >>> ctsa.complex_share(Rotation(frequencies=[1.0, 2.0]), [[1.0, 0.0, 0.0, 0.0]])  # 0 along the orbit, +-2i
        0.6666666666666666

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    tol = checks.number("tol", tol, low=0.0)
    s, x = _read(system, x, geometry)
    return _oscillating(eigenvalues(system, x, t=t, geometry=s.geometry), tol)


def _oscillating(values: np.ndarray, tol: float = 1e-9) -> float:
    return float((np.abs(values.imag) > tol * np.abs(values).max()).mean())


# ------------------------------------------------------------------------------------------------------------ a record
@dataclass(frozen=True)
class MonitorRecord(Result):
    """Monitors along a run, see ``monitor``. Arrays are NumPy ``(T,)``; nan where a monitor does not apply.

    Attributes:
        ts: times, or layers passed.
        pseudo_energy: ``-tr(X^T (C + MSA(X)))``.
        contribution: share of ``|x|^2`` in the leading eigenvectors of ``J + J^T``.
        complex_share: share of complex eigenvalues of the tangent Jacobian.
        norm: largest singular value of the tangent Jacobian: of the velocity, or of the layer.
        order_parameter: length of the mean token (oscillator).
        share: how many eigenvectors ``contribution`` takes.
        continuous: whether time is continuous.
    """

    ts: Any
    pseudo_energy: Any
    contribution: Any
    complex_share: Any
    norm: Any
    order_parameter: Any
    share: float
    continuous: bool
    _static: ClassVar[tuple[str, ...]] = ("share", "continuous")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(("ts", *_SERIES), ("time",))

    def __repr__(self) -> str:
        unit, e, c = "t" if self.continuous else "layer", self.pseudo_energy, self.contribution
        energy = f"pseudo-energy {e[0]:.3g} -> {e[-1]:.3g}, " if np.isfinite(e).all() else ""
        return (
            f"MonitorRecord({unit} {self.ts[0]:g} ... {self.ts[-1]:g}: {energy}contribution {c[0]:.1%} -> {c[-1]:.1%})"
        )

    @property
    def missing(self) -> dict[str, str]:
        """Monitors that do not apply, all of them nan, and why: ``{"pseudo_energy": "needs the update ..."}``."""
        names = [name for name in _SERIES if np.isnan(np.asarray(getattr(self, name))).all()]
        return {name: _MISSING.get(name, "is not a number in any state") for name in names}

    def table(self) -> str:
        """Return the record as text, a line a state; at the end, why monitors are left out."""
        missing = self.missing
        shown = [name for name in _SERIES if name not in missing]
        lines = [f"{'t' if self.continuous else 'layer':>9}" + "".join(f"{name:>17}" for name in shown)]
        for i, t in enumerate(self.ts):
            lines.append(f"{t:>9.4g}" + "".join(f"{getattr(self, name)[i]:>17.6g}" for name in shown))
        lines += [f"left out: {name} {why}" for name, why in missing.items()]
        return "\n".join(lines)

    def plot(self, axes=None, **kwargs):
        """Draw every monitor against time or depth; return the ``Axes``."""
        return picture("monitors.record")(self, axes=axes, **kwargs)


@analysis
def monitor(
    system: Any,
    start: Any,
    depth: int | None = None,
    *,
    duration: float | None = None,
    points: int = 33,
    share: float = 0.02,
    solver: Any = "dopri5",
    geometry: Geometry | None = None,
) -> MonitorRecord:
    """Run a layer or a flow, or take a run that there is, and monitor it.

    Args:
        system: a layer or a field.
        start: unit tokens ``(n, d)`` to run from, or a ``Trajectory`` of one state.
        depth: how many layers; for a layer and a start.
        duration: how long; for a field and a start.
        points: most states to look at; every one costs a Jacobian.
        share: see ``contribution_index``.
        solver: of a flow: a name, or a ``ctsa.Solver``; see ``ctsa.integrate``.
        geometry: where a bare callable lives.

    Returns:
        ``MonitorRecord``.

    Raises:
        ValueError: ``depth`` or ``duration`` is missing, or does not belong to what is run; the states are densities.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> layer = ctsa.ItrSA(SelfAttention(beta=2.0), step=1.0, gamma=0.5)
        >>> record = ctsa.monitor(layer, ctsa.random_tokens(6, 3), depth=4)
        >>> record.ts.tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    s = system_of(system, geometry)
    points, share = checks.integer("points", points, low=2), _check_share(share)
    if s.kind == "layers":
        raise TypeError("a sequence of layers has no single Jacobian: pass one layer")
    _of_tokens(s.geometry)
    if hasattr(start, "xs"):
        if depth is not None or duration is not None:
            raise ValueError("start is a trajectory: leave depth and duration out")
        ts, xs = as_numpy(start.ts).astype(float), start.xs
    elif s.flow:
        if duration is None or depth is not None:
            raise ValueError("a flow needs duration=, how long to run, and no depth")
        duration = checks.number("duration", duration, low=0.0, strict=True)
        run = integrate(system, start, np.linspace(0, duration, points), solver, geometry=geometry)
        ts, xs = as_numpy(run.ts).astype(float), run.xs
    else:
        if depth is None or duration is not None:
            raise ValueError("a layer needs depth=, how many layers to run, and no duration")
        run = iterate(system, start, depth, geometry=geometry)
        ts, xs = as_numpy(run.ts).astype(float), run.xs
    if xs.ndim != 3:
        raise ValueError(f"start must be one state (n, d), got a run of shape {tuple(xs.shape)}: loop over a batch")
    if len(ts) > points:
        kept = np.unique(np.round(np.linspace(0, len(ts) - 1, points)).astype(int))
        ts, xs = ts[kept], xs[kept]
    xs = s.start(xs, None, "start")  # a trajectory may come from a file
    if not s.flow:
        check_foreign(s.source, xs[0], s.geometry)
    elif not hasattr(s.source, "drift"):
        check_velocity(backend(xs), s.source, s.geometry, backend(xs).like(ts[0], xs), xs[0])
    rows = [_watch(s, x, float(t) if s.flow else 0.0, share) for t, x in zip(ts, xs, strict=True)]
    aligned = order_parameter(as_numpy(xs), s.geometry.channels)
    energies, indices, oscillating, norms = np.array(rows).T
    return MonitorRecord(ts, energies, indices, oscillating, norms, aligned, share, s.flow)


def _watch(s: System, x: Array, t: float, share: float) -> tuple[float, float, float, float]:
    field = _update_of(s.source)
    energy = float("nan") if field is None else float(as_numpy(_pseudo_energy(s.source, field, x)))
    index = _contribution(s, x, _count(share, x.shape[0] * x.shape[1]), None, t, seed=0)
    if x.shape[0] * x.shape[1] > _DENSE:
        largest = norms_by_products(link_of(s, x, t), s.geometry.dimension(*x.shape))
        return energy, index, float("nan"), float(largest)
    here, ends = (as_numpy(j).astype(np.float64) for j in tangent_jacobians(s, x, t))
    return energy, index, _oscillating(np.linalg.eigvals(here)), float(np.linalg.norm(ends, 2))
