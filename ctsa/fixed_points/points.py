"""What searches for fixed points and cycles of layers return."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines

UNDECIDED, DIVERGED, SHORTER = -1, -2, -3  # in ``member``, of starts that led to none


def wilson(count: int, total: int, confidence: float) -> tuple[float, float, float]:
    """Return a share and its interval by Wilson's score."""
    from scipy.stats import binomtest

    about = binomtest(count, total).proportion_ci(confidence, method="wilson")
    return count / total, float(about.low), float(about.high)


@dataclass(frozen=True, repr=False)
class Found:
    """What fixed points and cycles have in common."""

    x: Any
    residuals: Any
    errors: Any
    multipliers: Any
    slack: Any
    stability: Any
    neutral_symmetry: Any
    member: Any
    start_residuals: Any
    evaluations: Any
    diverged: Any
    floor: float
    confidence: float
    complete: bool
    _static: ClassVar[tuple[str, ...]] = ("floor", "confidence", "complete")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("point", "token", "component"), "residuals": ("point",), "errors": ("point",),
        "multipliers": ("point", "mode"), "slack": ("point", "mode"), "stability": ("point",),
        "neutral_symmetry": ("point",), "member": ("start",), "start_residuals": ("start",), "evaluations": ("start",),
        "diverged": ("start",),
    }  # fmt: skip
    _name: ClassVar[str] = "point"

    def __len__(self) -> int:
        return len(self.residuals)

    @property
    def counts(self) -> np.ndarray:
        """How many starts led to each ``(P,)``."""
        return (np.asarray(self.member)[:, None] == np.arange(len(self))).sum(0)

    @property
    def shares(self) -> np.ndarray:
        """Share of the starts that led to each, and its confidence interval by Wilson's score: ``(P, 3)``."""
        total = len(self.member)
        return np.array([wilson(int(c), total, self.confidence) for c in self.counts]).reshape(-1, 3)

    @property
    def undecided(self) -> int:
        """How many starts led to none, and did not leave either."""
        return int((np.asarray(self.member) == UNDECIDED).sum())

    @property
    def left(self) -> int:
        """How many starts diverged, and no search from them arrived."""
        return int((np.asarray(self.member) == DIVERGED).sum())

    @property
    def radius(self) -> np.ndarray:
        """The spectral radius ``(P,)``: the largest modulus of a multiplier."""
        return np.abs(np.asarray(self.multipliers)).max(1) if len(self) else np.zeros(0)

    @property
    def stable(self) -> np.ndarray:
        """Whether states nearby return to it, or to the family that symmetries make of it ``(P,)``."""
        return np.asarray(self.stability) == "stable"

    def _about(self) -> list[tuple[str, Any]]:
        member = np.asarray(self.member)
        return [
            ("starts", len(member)), ("undecided", self.undecided), ("diverged", self.left or None),
            ("shorter period", int((member == SHORTER).sum()) or None),
        ]  # fmt: skip

    def table(self) -> str:
        """Return a line for each as text: stability, leading multiplier, residual, share; and what other starts did."""
        heads = (self._name, "stability", "multiplier", "modulus", "+-", "residual", "off by", "starts", "share")
        rows = []
        for i, (share, low, high) in enumerate(self.shares):
            z, slack = np.asarray(self.multipliers)[i, 0], float(np.asarray(self.slack)[i, 0])
            interval = f"{share:.0%} ({low:.0%} - {high:.0%})"
            rows.append((
                i, str(self.stability[i]), z, float(abs(z)), f"{slack:.0e}", f"{float(self.residuals[i]):.0e}",
                float(self.errors[i]), int(self.counts[i]), interval,
            ))  # fmt: skip
        return f"{columns(heads, rows, most=30) if rows else 'none found'}\n{lines(self._about())}"

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the multipliers of all in the complex plane, see ``ctsa.plot.equilibria.multipliers``."""
        return picture("equilibria.multipliers")(self, ax=ax, **kwargs)

    def _described(self, what: str) -> str:
        kinds = [f"{int((self.stability == k).sum())} {k}" for k in ("stable", "neutral", "unstable", "not known")]
        kinds = [text for text in kinds if not text.startswith("0 ")]
        rest = ", ".join(f"{name}: {value}" for name, value in self._about()[1:] if value)
        return f"{len(self)} {what}, {', '.join(kinds) or 'none'}; {len(self.member)} starts{', ' * bool(rest)}{rest}"


@dataclass(frozen=True)
class FixedPoints(Found, Result):
    """The fixed points that a search found, stable ones first, then by how many starts led there.

    Attributes:
        x: states ``(P, n, d)``.
        residuals: ``max_i |f(x)_i - x_i|``, relative to the longest token ``(P,)``.
        errors: how far each may be from the exact one: the length of one more Newton step; nan if not known.
        multipliers: eigenvalues of the layer's Jacobian on the tangent space, complex ``(P, k)``, by modulus,
            descending; all of them up to 1000 unknowns, the leading ones beyond.
        slack: how far each multiplier may be off ``(P, k)``.
        stability: "stable", "neutral", "unstable" within these errors; "not known" where none converged ``(P,)``.
        neutral_symmetry: in how many directions rotations that commute with the layer move each: so many multipliers
            are 1.
        member: which point each start led to ``(S,)``; -1 undecided, -2 diverged.
        start_residuals: relative residuals where each start ended ``(S,)``.
        evaluations: of the layer for each start, products with Jacobians included ``(S,)``.
        diverged: whether plain loops leave from each start ``(S,)``; the search may have found a point all the same.
        floor: the relative residual that counted as zero, from the measured rounding.
        confidence: of the intervals of shares.
        complete: whether ``multipliers`` are all.
    """

    def __repr__(self) -> str:
        return f"FixedPoints({self._described('found')})"


@dataclass(frozen=True)
class Cycles(Found, Result):
    """The cycles of one period that a search found, stable ones first, then by how many starts led there.

    Attributes:
        period: p, exact: no state of a cycle returns earlier.
        x: their states ``(C, p, n, d)`` in the order in which the layer visits them.
        residuals, errors: as of ``FixedPoints``, for ``f^p`` at the first state.
        multipliers: eigenvalues of the Jacobian of ``f^p``, complex ``(C, k)``; the same at every state of a cycle.
        slack, stability, neutral_symmetry, start_residuals, evaluations, diverged, floor, confidence, complete: as of
            ``FixedPoints``.
        member: which cycle each start led to ``(S,)``; -1 undecided, -2 diverged, -3 a shorter period.
    """

    period: int
    _name: ClassVar[str] = "cycle"
    _static: ClassVar[tuple[str, ...]] = ("period", *Found._static)
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **Found._dims, "x": ("point", "phase", "token", "component"),
    }  # fmt: skip

    def __repr__(self) -> str:
        return f"Cycles({self._described(f'of period {self.period}')})"
