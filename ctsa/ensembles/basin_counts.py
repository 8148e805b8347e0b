"""Basins of attraction: where random starts go, how often, and how sure one can be."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa._backend._solve import show_progress
from ctsa.flows.solver import Solver, takes_solver
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry
from ctsa.results.base import Result, picture

from ._layers import LayerRun
from ._limits import KINDS as KINDS, STABILITY as STABILITY, STABLE, UNKNOWN, UNRESOLVED
from ._rounds import GaveUp, Rounds
from ._run import Run

LEVELS = ("kind", "eigenvector", "sizes")


class BasinsError(RuntimeError):
    """A run that could not go on; ``basins`` holds what was known by then, all other starts being unresolved."""

    def __init__(self, message: str, basins: "Basins"):
        super().__init__(message)
        self.basins = basins


@dataclass(frozen=True)
class Basins(Result):
    """Where each of S starts went. Arrays have a row a start, in the order of the starts.

    Attributes:
        ends: final states ``(S, n, d)``; those at rest, or on a cycle, are polished by Newton's method.
        kind_index: indices into ``KINDS`` of this module; ``kind`` has the names.
        eigenvector: index of the eigenvector of V with which all tokens align, up to sign, -1 if none (see
            ``ctsa.classify``); for a limit that turns, that of the complex pair which drives it.
        overlap: how well the tokens align with the best eigenvector.
        sizes: sizes of the groups ``(S, n)``, descending, zeros after the last.
        stability_index: indices into ``STABILITY`` of this module; ``stability`` has the names.
        growth: largest real part of the eigenvalues of the Jacobian at the limit; of a layer the logarithm of the largest
            modulus of a multiplier; nan if it was not looked at.
        speed: speed of the fastest token at the end, or its last step.
        times: time at which the start was found to have arrived, or given up; of a layer a number of loops.
        duration: the longest time allowed.
        confidence: of the intervals of shares.
        attractor: in flat space, and of layers, the number of the limit among the different isolated ones of its kind (and
            period) ``(S,)``, in the order of their coordinates; -1 if there is one only, or a family, or of flows on
            spheres.
        period: of layers, the period of the limit ``(S,)``, 1 of fixed points; 0 if there is none.
    """

    ends: Any
    kind_index: Any
    eigenvector: Any
    overlap: Any
    sizes: Any
    stability_index: Any
    growth: Any
    speed: Any
    times: Any
    duration: float
    confidence: float
    attractor: Any = None
    period: Any = None
    _static: ClassVar[tuple[str, ...]] = ("duration", "confidence")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "ends": ("start", "token", "component"), "sizes": ("start", "group"),
        **dict.fromkeys(("kind_index", "eigenvector", "overlap", "stability_index", "growth"), ("start",)),
        **dict.fromkeys(("speed", "times", "attractor", "period"), ("start",)),
    }  # fmt: skip
    _derived: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        name: (name, ("start",)) for name in ("kind", "stability", "resolved")
    }

    def __len__(self) -> int:
        return len(self.kind_index)

    @property
    def kind(self) -> np.ndarray:
        """Names of the kinds ``(S,)``: those of ``ctsa.classify``, "rotating ...", "unresolved" or "escaped".

        Of a layer "fixed point", "cycle", "unresolved" or "escaped".
        """
        return np.array(KINDS)[np.asarray(self.kind_index)]

    @property
    def stability(self) -> np.ndarray:
        """What the Jacobian at the limit says ``(S,)``.

        "stable"; "unstable": a start on the way into a saddle; "marginal": no growth, but zeros that no symmetry explains;
        "unknown": not at rest, or not looked at.
        """
        return np.array(STABILITY)[np.asarray(self.stability_index)]

    @property
    def resolved(self) -> np.ndarray:
        """Whether the limit is known ``(S,)``."""
        return np.asarray(self.kind_index) != UNRESOLVED

    @property
    def cluster_counts(self) -> np.ndarray:
        """Number of clusters ``(S,)`` of the final states, also of those that are unresolved."""
        return (np.asarray(self.sizes) > 0).sum(1)

    def labels(self, by: str = "eigenvector") -> np.ndarray:
        """Return a name a start ``(S,)``.

        Args:
            by: "kind"; "eigenvector": the eigenvector, what is not stable, and where limits are numbered which it is, too,
                and the period of a cycle; "sizes": and the sizes of the groups.
        """
        checks.choice("by", by, LEVELS)
        columns = [np.asarray(self.kind_index)[:, None]]
        if by != "kind":
            number = np.full(len(self), -1) if self.attractor is None else np.asarray(self.attractor)
            period = np.zeros(len(self), int) if self.period is None else np.asarray(self.period)
            rest = (self.eigenvector, self.stability_index, number, period)
            columns += [np.asarray(a)[:, None] for a in rest]
        if by == "sizes":
            columns.append(np.asarray(self.sizes))
        rows, which = np.unique(np.concatenate(columns, 1), axis=0, return_inverse=True)
        return np.array([_name(row, by) for row in rows.tolist()], dtype=object).astype(str)[which.reshape(-1)]

    def counts(self, by: str = "eigenvector") -> dict[str, int]:
        """Count the starts by label, the most frequent first, those unresolved last."""
        found = Counter(self.labels(by).tolist())
        return dict(sorted(found.items(), key=lambda item: (item[0].startswith("unresolved"), -item[1], item[0])))

    def share(self, label: str) -> tuple[float, float, float]:
        """Return the share of starts with a label of any level, and its confidence interval.

        The interval is that of Clopper and Pearson: whatever the true share is, it covers it with a probability of at
        least ``confidence``. A label that did not occur has share 0 and an interval that says how rare it must be.

        Args:
            label: one of ``labels``, e.g. "consensus", "bipartite consensus on v0", "unresolved".
        """
        if not isinstance(label, str) or not label.startswith(KINDS):
            raise ValueError(
                f"label must begin with one of {', '.join(map(repr, KINDS))}, got {label!r}: see .counts()"
            )
        count = max(int((self.labels(by) == label).sum()) for by in LEVELS)
        return _interval(count, len(self), self.confidence)

    def shares(self, by: str = "eigenvector") -> dict[str, tuple[float, float, float]]:
        """Return ``{label: (share, low, high)}``, in the order of ``counts``."""
        return {label: _interval(count, len(self), self.confidence) for label, count in self.counts(by).items()}

    def table(self, by: str = "eigenvector") -> str:
        """Return counts, shares and confidence intervals as a text table."""
        counts = self.counts(by)
        width = max(len("limit"), *map(len, counts))
        lines = [f"{'limit':{width}}  {'starts':>7}  {'share':>7}  {f'{100 * self.confidence:g} % interval':>17}"]
        for label, count in counts.items():
            share, low, high = _interval(count, len(self), self.confidence)
            lines.append(f"{label:{width}}  {count:7d}  {share:7.2%}  {f'{low:.2%} - {high:.2%}':>17}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        shown = ", ".join(f"{label}: {count}" for label, count in list(self.counts().items())[:4])
        more = ", ..." if len(self.counts()) > 4 else ""
        return f"Basins({len(self)} starts, {shown}{more})"

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the shares with their intervals, see ``ctsa.plot.equilibria.basin_bars``; return the ``Axes``."""
        return picture("equilibria.basin_bars")(self, ax=ax, **kwargs)


def _name(row: list[int], by: str) -> str:
    kind, rest = KINDS[row[0]], row[1:]
    if by == "kind":
        return kind
    sizes = "+".join(str(s) for s in rest[4:] if s)
    if kind == "unresolved":
        return kind if by == "eigenvector" else f"{kind}, {sizes}"
    if kind == "escaped":
        return kind
    name = kind + (f" of period {rest[3]}" if kind == "cycle" else "") + (f" on v{rest[0]}" if rest[0] >= 0 else "")
    name += f" #{rest[2]}" if rest[2] >= 0 else ""
    if by == "sizes" and sizes:
        name += ", " + sizes
    return name if rest[1] in (STABLE, UNKNOWN) else f"{name} ({STABILITY[rest[1]]})"


def _interval(count: int, total: int, confidence: float) -> tuple[float, float, float]:
    from scipy.stats import binomtest

    about = binomtest(count, total).proportion_ci(confidence, method="exact")
    return count / total, float(about.low), float(about.high)


@analysis
@takes_solver
def basins(
    field: Any,
    starts: Any,
    *,
    n: int | None = None,
    d: int | None = None,
    seed: int = 0,
    duration: float | None = None,
    rest: float = 1e-6,
    gap: float = 1e-3,
    verify: bool = True,
    period: int = 8,
    confidence: float = 0.95,
    batch: int | None = None,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-6,
    step: float | None = None,
    max_steps: int = 100_000,
    t: float | None = None,
    geometry: Geometry | None = None,
    normalize: bool = False,
    checkpoint: Any = None,
    allow_unverified: bool = False,
    progress: bool | None = None,
) -> Basins:
    """Follow many starts to their limits and count what these are.

    Starts are integrated in batches. After 1/32, 1/16, ..., all of ``duration`` those that have arrived leave. A
    start has arrived if its tokens are slow, Newton's method finds an equilibrium within ``gap``, and the Jacobian
    there does not repel. So neither a plateau, where tokens creep for very long, nor a passage by a saddle is taken
    for a limit. Limits that turn for ever while all inner products stay as they are get the names "rotating
    consensus", "rotating bipartite consensus" and "rotating clustering". What is not known by then is "unresolved",
    except that a state which rests on a saddle by then is named, and marked unstable. In flat space a start that
    leaves for 10^4 times the size of the starts (100 times in float32) has "escaped"; and different isolated
    equilibria of a kind are numbered, "consensus #0", "consensus #1", in the order of their coordinates: nothing says
    there beforehand which of them are alike.

    **Layers** are applied again and again. A start has arrived if its state comes back after p loops, p at most
    ``period``, Newton's method finds a fixed point of ``f^p`` within ``gap``, and its multipliers do not repel: at a "fixed
    point" or on a "cycle of period p", numbered where there are several isolated ones. On closed manifolds limits are
    the same modulo the symmetries of the layer (permutations of tokens, reflections, rotations), in flat space only if
    they are equal.

    Args:
        field: any callable ``field(t, x)`` that takes leading axes and does not depend on time (or see ``t``); or any layer
            ``layer(x)`` that does.
        starts: how many uniform random starts; or the starts themselves, ``(S, n, d)``, which also tell the framework of a
            bare callable.
        n: number of tokens, if ``starts`` is a number.
        d: dimension of a token, if ``starts`` is a number.
        seed: seed of the random starts, which are those of ``ctsa.random_tokens(n, d, seed, batch=(starts,))``.
        duration: longest time, 100 if None; of a layer the number of loops, 1000 if None. Limits are approached at the rate
            ``growth``: near a bifurcation allow more.
        rest: speed below which a token is at rest (1000 times that is slow), and size of the drift that counts as zero; of
            a layer a distance relative to the longest token.
        gap: tokens closer than this are one cluster; and how far off an equilibrium may be (of a layer relative to the
            longest token).
        verify: whether to look at the Jacobian. Without it speed alone decides: a saddle or a plateau may pass for a limit,
            and stability is unknown. It costs an eigenvalue problem of size n (d - 1) a start.
        period: longest period of a cycle of a layer that is looked for.
        confidence: of the intervals of shares.
        batch: how many starts are integrated together, with one step size; None chooses by n and d.
        solver: as for ``ctsa.integrate``; this and the next four are for flows.
        rtol: relative tolerance.
        atol: absolute tolerance, of the rms over a batch. Looser than elsewhere: only a start that comes this close to the
            boundary of a basin may change its limit, and limits are polished.
        step: step of a fixed-step solver.
        max_steps: most steps between two looks.
        t: a time at which to freeze a field that depends on it; such a field is refused without.
        geometry: where a bare callable lives.
        normalize: normalise given starts.
        checkpoint: path of a file in which the run is kept, about every half second. If it exists and belongs to the same
            run, the run continues from it, with the same results as if it had not been interrupted. A file of another
            run is refused.
        allow_unverified: continue also where the field does not show which run the file belongs to.
        progress: draw a bar of the starts that have arrived; None draws it in a terminal.

    Returns:
        ``Basins``: kinds, eigenvectors, group sizes and stability of all limits; counts and shares.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.
        BasinsError: the solver gave up; carries what was known by then.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> a = np.diag([3.0, 1.0])
        >>> found = ctsa.basins(SelfAttention(key=a, value=a, beta=4.0), 50, n=5, d=2)
        >>> found.counts("kind")
        {'bipartite consensus': 44, 'consensus': 6}
        >>> import torch
        >>> starts = torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(40, 1, 1)
        >>> ctsa.basins(lambda x: torch.tanh(2 * x) + 0.1, starts, geometry=ctsa.Euclidean()).counts()
        {'fixed point #1': 21, 'fixed point #0': 19}

    References:
        Altafini, arXiv 2511.11553 (classes of equilibria, random sampling); Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    confidence = checks.number("confidence", confidence, low=0.0, strict=True)
    if not confidence < 1:
        raise ValueError(f"confidence must be below 1, such as 0.95, got {confidence!r}")
    s = system_of(field, geometry) if callable(field) and checks.arity(field) == 1 else None
    run: Rounds
    if s is not None:
        if step is not None or t is not None or solver != "dopri5":
            name = "step" if step is not None else "t" if t is not None else "solver"
            raise ValueError(f"{name} is for flows, and field is a layer(x): leave it out")
        run = LayerRun(
            s, starts, n, d, seed, normalize=normalize, duration=1000 if duration is None else duration, rest=rest,
            gap=gap, verify=verify, batch=batch, period=period,
        )  # fmt: skip
    else:
        run = Run(
            field, starts, n, d, seed, geometry=geometry, normalize=normalize,
            duration=100.0 if duration is None else duration, rest=rest, gap=gap, verify=verify, batch=batch,
            solver=Solver(solver, rtol, atol, step, max_steps), t=t,
        )  # fmt: skip
    if checkpoint is not None:
        run.keep_in(checkpoint, bool(allow_unverified))
    try:
        run.go(show_progress(progress))
    except GaveUp as error:
        kept = Basins(**error.rows, duration=run.duration, confidence=confidence)
        raise BasinsError(f"{error}. The error's .basins holds what was known by then", kept) from None
    return Basins(**run.columns(), duration=run.duration, confidence=confidence)
