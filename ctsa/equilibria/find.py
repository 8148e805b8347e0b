"""Find all equilibria of a field, stable or not, tell which are the same, and say what each one is."""

import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis
from ctsa.geometry import Geometry
from ctsa.observables import clusters
from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines
from ctsa.symmetry import Symmetry

from ._search import NEUTRAL, Search
from .classes import KINDS, cluster_table, sort_out

_PATIENCE = 3  # rounds without anything new after which the search may end


@dataclass(frozen=True)
class Equilibrium(Result):
    """An equilibrium of a field.

    Attributes:
        x: state ``(n, d)``, NumPy.
        kind: "consensus", "bipartite consensus", "polygonal" or "clustering", see ``ctsa.classify``.
        eigenvalues: of the tangent Jacobian, complex, by real part, descending: ``n (d-1)`` on the sphere.
        stable: whether nearby states return to it, or, where equilibria come in a continuous family, to the family: no
            eigenvalue has a positive real part, and those without a real part are the family's own zeros.
        index: number of eigenvalues with positive real part.
        speed: speed of the fastest token.
        multiplicities: sizes of the clusters.
        labels: cluster of every token.
        eigenvector: index of the eigenvector of V with which all tokens align, -1 if none; see ``ctsa.classification``.
        overlap: how well they align with the best one.
        neutral: number of eigenvalues that vanish.
        neutral_symmetry: number of directions in which rotations that commute with the field move ``x``.
        family: dimension of the set of equilibria around ``x``: ``neutral_symmetry``, or more where steps along other
            neutral directions led to more equilibria.
        orbit: number of distinct equilibria it stands for, under permutations of tokens and reflections; inf in a family.
    """

    x: Any
    kind: str
    eigenvalues: Any
    stable: bool
    index: int
    speed: float
    multiplicities: Any
    labels: Any
    eigenvector: int
    overlap: float
    neutral: int
    neutral_symmetry: int
    family: int
    orbit: float
    _static: ClassVar[tuple[str, ...]] = (
        "kind", "stable", "index", "speed", "eigenvector", "overlap", "neutral", "neutral_symmetry", "family", "orbit",
    )  # fmt: skip
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("token", "component"), "eigenvalues": ("mode",), "multiplicities": ("cluster",), "labels": ("token",),
    }  # fmt: skip

    @property
    def marginal(self) -> bool:
        """Whether the linearisation leaves stability open: no growth, but eigenvalues without a real part to spare."""
        return self.index == 0 and not self.stable

    @property
    def _verdict(self) -> str:
        return "stable" if self.stable else "marginal" if self.marginal else f"unstable (index {self.index})"

    def table(self) -> str:
        """Return all of it as text: a line each, then the clusters, then the eigenvalues."""
        about = lines([
            ("kind", self.kind), ("stability", self._verdict), ("speed of the fastest token", self.speed),
            ("on eigenvector", self.eigenvector if self.eigenvector >= 0 else "none"), ("overlap", self.overlap),
            ("eigenvalues that vanish", self.neutral), ("of these by symmetry", self.neutral_symmetry),
            ("dimension of its family", self.family), ("equilibria it stands for", self.orbit),
        ])  # fmt: skip
        values = columns(("mode", "eigenvalue"), enumerate(self.eigenvalues), most=20)
        return f"{about}\n{cluster_table(self.multiplicities, self.labels)}\n{values}"

    def plot(self, value: Any = None, *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw it on a globe, see ``ctsa.plot.equilibria.equilibrium``; return the ``Axes``."""
        return picture("equilibria.equilibrium")(self, value, ax=ax, **kwargs)

    def __repr__(self) -> str:
        sizes = "+".join(map(str, sorted(self.multiplicities, reverse=True)))
        along = f" on v{self.eigenvector}" if self.eigenvector >= 0 else ""
        family = f", family of dimension {self.family}" if self.family else ""
        return f"Equilibrium({self.kind} {sizes}{along}, {self._verdict}{family}, speed={self.speed:.0e})"


class Equilibria(list):
    """A list of ``Equilibrium``, stable ones first, with how the search went.

    Attributes:
        reason: why the search ended, and, if nothing was found, why.
        report: numbers: "starts", "converged", "rounds", "seen_once" (equilibria to which only one start led), "unseen"
            (Chao's estimate of how many are missing), "index_sum" and "euler" (equal if nothing is missing, see
            ``find_equilibria``; nan if the theorem does not apply), "moving" (flow limits that did not come to rest),
            "slowest" (lowest speed met), "known" (starts that led to known ones).
        symmetry: the ``ctsa.equilibria.orbits.Symmetry`` modulo which duplicates were removed.
    """

    def __init__(self, items: Iterable[Equilibrium], reason: str, report: dict[str, Any], symmetry: Symmetry):
        super().__init__(items)
        self.reason, self.report, self.symmetry = reason, report, symmetry

    @property
    def stable(self) -> list[Equilibrium]:
        """The stable ones."""
        return [e for e in self if e.stable]

    @property
    def counts(self) -> dict[tuple[str, bool], int]:
        """How many of each kind, ``{(kind, stable): number}``, one of each orbit."""
        return dict(Counter((e.kind, e.stable) for e in self))

    def _table(self) -> Any:
        """Return the kind of result that files hold."""
        return Result.kinds["EquilibriaTable"].of(self)  # type: ignore[attr-defined]

    def save(self, path: str | os.PathLike) -> Path:
        """Write them, and how the search went, to one ``.npz`` file, as other results do; ``ctsa.load`` reads it."""
        return self._table().save(path)

    def to_xarray(self) -> Any:
        """Return an ``xarray.Dataset`` with a row an equilibrium, see ``Trajectory.to_xarray``."""
        return self._table().to_xarray()

    def table(self) -> str:
        """Return a line an equilibrium as text, then how the search went."""
        heads = ("equilibrium", "kind", "clusters", "eigenvector", "stability", "family", "stands for", "speed")
        rows = []
        for i, e in enumerate(self):
            sizes = "+".join(map(str, sorted(e.multiplicities, reverse=True)))
            along = e.eigenvector if e.eigenvector >= 0 else "-"
            rows.append((i, e.kind, sizes, along, e._verdict, e.family, e.orbit, e.speed))
        about = [("reason", self.reason), *((str(k).replace("_", " "), v) for k, v in self.report.items())]
        return f"{columns(heads, rows) if rows else 'none found'}\n{lines(about)}"

    def plot(self, value: Any = None, *, axes: Any = None, **kwargs: Any) -> Any:
        """Draw a globe each, see ``ctsa.plot.equilibria.equilibria``; return the ``Axes``."""
        return picture("equilibria.equilibria")(self, value, axes=axes, **kwargs)

    def __repr__(self) -> str:
        lines = [f"{len(self)} equilibri{'um' if len(self) == 1 else 'a'}, {len(self.stable)} stable: {self.reason}"]
        lines += [f"  {e!r}" for e in self[:12]]
        return "\n".join(lines + ([f"  ... {len(self) - 12} more"] if len(self) > 12 else []))


@analysis
def find_equilibria(
    field: Any,
    n: int,
    d: int,
    *,
    starts: Any = 100,
    seed: int = 0,
    rest: float = 1e-10,
    structured: bool = True,
    flow_limits: bool = True,
    known: Iterable[Any] = (),
    rounds: int | None = None,
    iterations: int = 100,
    t: float | None = None,
    geometry: Geometry | None = None,
) -> Equilibria:
    """Find the equilibria of a field, stable and unstable alike, one of each orbit of its symmetries.

    Newton's method, globalised (``ctsa.equilibria.newton``), is started from random states, from where the flow
    itself goes, from structured states (``ctsa.equilibria.starts``), and then, round after round, from recombinations
    of what was found together with new random and symmetric states. It does not care about stability.

    Solutions that a permutation of tokens, a reflection or a rotation maps to each other are one, provided the
    field has that symmetry, which is tested numerically (``ctsa.equilibria.orbits``). Of a continuous family that no
    symmetry explains, one member of each kind, index and partition is kept.

    The search ends when three rounds have brought nothing new, every equilibrium has been met at least twice, and,
    where the theorem of Poincare and Hopf applies (isolated equilibria on spheres, a continuous field), the indices
    ``sign det J`` of all equilibria add up to the Euler characteristic: ``2^n`` for odd d, 0 for even d. A sum that differs
    proves that some are missing; one that agrees is good evidence that none is.

    Args:
        field: any callable ``field(t, x)`` that takes leading axes.
        n: number of tokens.
        d: dimension of a token.
        starts: number of random starts of the first round; or the starts themselves, ``(S, n, d)``, which also tell the
            framework of a bare callable.
        seed: seed of everything random.
        rest: speed below which a state is an equilibrium; raised to the rounding error where the field is so large that
            it cannot be reached.
        structured: whether to try structured states.
        flow_limits: whether to follow the flow of a few starts and go on from where they end.
        known: equilibria (or states) to leave out. They still serve as parents, and ``len(known)`` enters the seed: feed
            back what was found, and the search looks elsewhere.
        rounds: most further rounds; by default 40 in small problems, fewer in large ones.
        iterations: most Levenberg--Marquardt steps of a start.
        t: a time at which to freeze a field that depends on it; such a field is refused without.
        geometry: where a bare callable lives.

    Returns:
        ``Equilibria``, a list: stable ones first, then by index. An empty one says why in ``.reason``.

    Raises:
        TypeError: the field is not callable, or its framework cannot be told.
        ValueError: sizes do not fit the field, tokens cannot move (d = 1), or ``rest`` is below what the dtype holds.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> found = ctsa.find_equilibria(SelfAttention(value=np.diag([2.0, 1.0]), beta=1.0), n=2, d=2)
        >>> [(e.kind, e.eigenvector, e.stable) for e in found if e.kind == "consensus"]
        [('consensus', 0, True), ('consensus', 1, False)]

    References:
        Altafini, arXiv 2511.11553 (the classes); Farrell, Birkisson, Funke, SIAM J. Sci. Comput. 37 (2015) A2026
        (deflation, whose place recombination takes here); Chao, Scand. J. Statist. 11 (1984) 265; Milnor, *Topology from
        the Differentiable Viewpoint* (1965), section 6.
    """
    search = Search(field, n, d, starts, seed, rest, known, iterations, t, geometry)
    rounds = int(np.clip(2560 // search.dimension**2, 2, 40)) if rounds is None else checks.integer("rounds", rounds, low=1)
    search.first(structured, flow_limits)
    quiet = last = 0
    while last < rounds and not (quiet >= _PATIENCE and search.pool.settled() and _balanced(search)):
        last += 1
        quiet = 0 if search.further() else quiet + 1
        if quiet >= 2 and not search.pool.rows:
            break
    return _results(search, last, quiet)


def _balanced(search: Search) -> bool:
    total, expected = search.index_sum()
    return math.isnan(total) or total == expected


def _results(search: Search, rounds: int, quiet: int) -> Equilibria:
    """Describe what was found, and how."""
    pool, items, once = search.pool, [], 0
    seen: set[tuple] = set()
    for k, family in enumerate(search.families()):
        e = _describe(search, k, family)
        if e.family > e.neutral_symmetry:
            key = (e.kind, tuple(sorted(e.multiplicities)), e.index, e.family, e.eigenvector)
            if key in seen:
                continue
            seen.add(key)
        once += pool.hits[k] == 1 and not pool.loose[k]
        items.append(e)
    items.sort(key=_order)
    total, expected = search.index_sum()
    report = dict(
        starts=search.tried, converged=search.converged, rounds=rounds, seen_once=once,
        unseen=round(once * max(once - 1, 0) / (2 * (pool.hits.count(2) + 1))), index_sum=total, euler=expected,
        moving=search.moving, slowest=search.slowest, known=search.repeated,
    )  # fmt: skip
    return Equilibria(items, _reason(search, report, len(items), quiet), report, search.symmetry)


def _order(e: Equilibrium) -> tuple:
    modes = tuple(-e.eigenvalues.real.round(6))
    return not e.stable, e.index, KINDS.index(e.kind), e.eigenvector, -max(e.multiplicities), modes


def _reason(search: Search, report: dict, found: int, quiet: int) -> str:
    text = f"{report['converged']} of {report['starts']} starts in {report['rounds'] + 1} rounds led to an equilibrium"
    if not found:
        text = f"none of {report['starts']} starts led to {'a new' if search.repeated else 'an'} equilibrium"
        if search.repeated:
            text += f", {search.repeated} led to known ones"
        elif search.slowest > search.rest:
            text += f"; the lowest speed met is {search.slowest:.3g}"
    elif quiet >= _PATIENCE and not report["seen_once"]:
        text += f"; the last {quiet} brought nothing new, and each was met at least twice"
    elif report["seen_once"]:
        text += f"; {report['seen_once']} were met only once, so there are probably more: raise rounds or starts"
    else:
        text += "; the last rounds still brought new ones: raise rounds or starts"
    if found and not math.isnan(report["index_sum"]):
        if report["index_sum"] == report["euler"]:
            text += f"; their indices add up to {report['euler']}, as Poincare and Hopf demand"
        else:
            text += (
                f"; their indices add up to {report['index_sum']} instead of {report['euler']} (Poincare, Hopf), so some "
                "are missing, or the field is not continuous"
            )
    if search.moving:
        text += (
            f"; {search.moving} of {search.flows} flow limits still move: they turn (see ctsa.find_limit_cycle) or settle "
            "slowly"
        )
    return text


def _describe(search: Search, k: int, family: int) -> Equilibrium:
    x, velocity, jacobian, drift, _ = search.pool.rows[k]
    if search.symmetry.exchangeable:  # large clusters first
        labels = clusters(x)
        order = np.lexsort((labels, -np.bincount(labels)[labels]))
        x, velocity, drift = x[order], velocity[order], drift[order]
    values = np.linalg.eigvals(jacobian).astype(complex)
    values = values[np.lexsort((-values.imag, -values.real))]
    slack = NEUTRAL * max(float(np.linalg.norm(jacobian, 2)), 1e-300)
    known_drift = drift if hasattr(search.field, "drift") else None
    about = sort_out(search.field, search.g, x, velocity, known_drift, max(1e-6, search.rest), 1e-3)
    index, still = int((values.real > slack).sum()), int((np.abs(values.real) <= slack).sum())
    return Equilibrium(
        x=x, kind=about.kind, eigenvalues=values, stable=index == 0 and still <= family, index=index,
        speed=about.speed, multiplicities=about.multiplicities, labels=about.labels, eigenvector=about.eigenvector,
        overlap=about.overlap, neutral=int((np.abs(values) <= slack).sum()),
        neutral_symmetry=search.symmetry.modes(x), family=family, orbit=math.inf if family else search.orbit(k),
    )  # fmt: skip
