"""What kind of equilibrium a state is: consensus, bipartite consensus, polygonal, or clustering."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend
from ctsa._types import State
from ctsa.events import still_time
from ctsa.fields.matrices import consensus_matrix, eigenspaces
from ctsa.flows.opening import check_velocity
from ctsa.geometry import Geometry
from ctsa.observables import clusters
from ctsa.results.base import Result, as_numpy
from ctsa.results.text import columns, lines

from .newton import field_geometry

Array = Any
KINDS = ("consensus", "bipartite consensus", "clustering", "polygonal", "none")
_ALIGNED = 1e-6  # 1 - overlap below which tokens lie on an eigenvector


@dataclass(frozen=True)
class Classification(Result):
    """What ``classification`` finds.

    Attributes:
        kind: "consensus", "bipartite consensus", "clustering", "polygonal" or "none".
        multiplicities: sizes of the clusters, in the order of their labels.
        labels: cluster of every token ``(n,)``, counted from 0 in order of first appearance.
        speed: speed of the fastest token.
        eigenvector: index of the eigenvector with which all tokens align, up to sign: eigenvalues of the matrix that acts
            at consensus (all values together), by real part, descending; -1 if there is none.
        overlap: ``|<x_i, v>|`` of the worst aligned token with the best eigenvector; 0 if the field has no such matrix.
        zero_output: whether the drift of every token vanishes, not just its tangent part.
    """

    kind: str
    multiplicities: Any
    labels: Any
    speed: float
    eigenvector: int
    overlap: float
    zero_output: bool
    _static: ClassVar[tuple[str, ...]] = ("kind", "speed", "eigenvector", "overlap", "zero_output")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"multiplicities": ("cluster",), "labels": ("token",)}

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.multiplicities))
        along = f", eigenvector={self.eigenvector}" if self.eigenvector >= 0 else ""
        return f"Classification({self.kind}, multiplicities=({sizes}){along}, speed={self.speed:.1e})"

    def table(self) -> str:
        """Return the class as text, a line each, then the tokens of every cluster."""
        labels = np.asarray(self.labels)
        about = lines([
            ("kind", self.kind), ("speed of the fastest token", self.speed),
            ("on eigenvector", self.eigenvector if self.eigenvector >= 0 else "none"),
            ("overlap with the best one", self.overlap), ("output vanishes", self.zero_output),
        ])  # fmt: skip
        return f"{about}\n{cluster_table(self.multiplicities, labels)}"


def cluster_table(multiplicities: Any, labels: Any) -> str:
    """Return a line a cluster as text: its size, and which tokens are in it."""
    rows = []
    for i, size in enumerate(np.asarray(multiplicities)):
        tokens = [str(k) for k in np.flatnonzero(np.asarray(labels) == i)]
        rows.append((i, int(size), " ".join(tokens[:12]) + (" ..." if len(tokens) > 12 else "")))
    return columns(("cluster", "tokens", "which"), rows, most=20)


@analysis
def classify(
    field: Any, x: State, rest: float = 1e-6, *, gap: float = 1e-3, t: float | None = None,
    geometry: Geometry | None = None,
) -> str:
    """Name the kind of equilibrium that ``x`` is.

    - "none": a token is faster than ``rest``;
    - "consensus": all tokens are equal;
    - "bipartite consensus": all tokens are ``+x`` or ``-x``, and both occur;
    - "polygonal": the output ``sum_j a_ij V x_j`` vanishes for every token (not in flat space);
    - "clustering": everything else.

    They are told apart in this order: two opposite groups without output count as bipartite (``zero_output`` of
    ``classification`` tells).

    Args:
        field: a field, ours or any callable.
        x: one state ``(n, d)``.
        rest: speed, and size of the drift, that counts as zero.
        gap: tokens closer than this are one cluster.
        t: a time at which to freeze a field that depends on it; such a field is refused without.
        geometry: where a bare callable lives. Its drift is not known, so "polygonal" is never said of it.

    Raises:
        ValueError: ``x`` is not one state of unit tokens, or ``rest`` or ``gap`` is not positive.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(value=np.diag([3.0, 2.0, 1.0]))
        >>> ctsa.classify(field, [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        'bipartite consensus'

    References:
        Altafini, arXiv 2511.11553.
    """
    return classification(field, x, rest, gap=gap, t=t, geometry=geometry).kind


@analysis
def classification(
    field: Any, x: State, rest: float = 1e-6, *, gap: float = 1e-3, t: float | None = None,
    geometry: Geometry | None = None,
) -> Classification:
    """Classify an equilibrium in detail: its kind, clusters, eigenvector and speed. Arguments as for ``classify``.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(value=np.diag([3.0, 2.0, 1.0]))
        >>> ctsa.classification(field, [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
        Classification(bipartite consensus, multiplicities=(2, 1), eigenvector=1, speed=0.0e+00)
    """
    g = field_geometry(field, geometry)
    if not getattr(field, "of_tokens", True):
        raise ValueError("field must be one of tokens: kinds are about how tokens lie, and a density has none")
    rest, gap = checks.number("rest", rest, low=0.0, strict=True), checks.number("gap", gap, low=0.0, strict=True)
    x = checks.tokens(x, field, g, name="x", normalize=None)
    if x.ndim != 2:
        raise ValueError(f"x must be one state (n, d), got shape {tuple(x.shape)}: loop over a batch")
    be = backend(x)
    time = be.like(still_time(field, x, t, g, "the kind of an equilibrium"), x)
    check_velocity(be, field, g, time, x)
    return classified(field, g, time, x, rest, gap)


def classified(field: Any, g: Geometry, t: Array, x: Array, rest: float = 1e-6, gap: float = 1e-3) -> Classification:
    """Classify one state that has been checked, see ``classification``."""
    velocity = as_numpy(field(t, x))
    drift = as_numpy(field.drift(t, x)) if hasattr(field, "drift") else None
    return sort_out(field, g, as_numpy(x), velocity, drift, rest, gap)


def sort_out(field, g, x, velocity, drift, rest, gap) -> Classification:
    """Classify from NumPy states, velocities and drifts (None if not known), all ``(n, d)``."""
    speed = float(np.sqrt((velocity**2).sum(-1)).max())
    labels = clusters(x, gap)
    sizes = np.bincount(labels)
    zero = bool(not g.flat and drift is not None and np.sqrt((drift**2).sum(-1)).max() <= rest)
    lines = x if g.unit else x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)
    eigenvector, overlap = _direction(field, lines) if g.radial else (-1, 0.0)
    if not speed <= rest:
        kind = "none"
    elif len(sizes) == 1:
        kind = "consensus"
    elif _opposite(x, gap):
        kind = "bipartite consensus"
    else:
        kind = "polygonal" if zero else "clustering"
    return Classification(kind, sizes, labels, speed, eigenvector, overlap, zero)


def _opposite(x: np.ndarray, gap: float) -> bool:
    """Tell whether all tokens are one point or its opposite."""
    folded = np.where((x @ x[0])[:, None] < 0, -x, x)
    return int(clusters(folded, gap).max()) == 0


def _direction(field: Any, x: np.ndarray) -> tuple[int, float]:
    matrix = consensus_matrix(field, x.shape[-1])
    best = (-1, 0.0)
    for k, _, space in eigenspaces(matrix) if matrix is not None else ():
        inside = x @ space
        line = np.linalg.svd(inside, full_matrices=False)[2][0]  # of equal eigenvalues, the best of all eigenvectors
        overlap = float(np.abs(inside @ line).min())
        best = max(best, (k, overlap), key=lambda pair: pair[1])
    k, overlap = best
    return (k if overlap > 1 - _ALIGNED else -1), overlap
