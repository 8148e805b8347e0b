"""The word and its evidence."""

from collections.abc import Iterator
from dataclasses import dataclass

NAMES = (
    "equilibrium", "settling", "periodic", "quasi-periodic", "chaotic", "drifting", "expanding", "undecided",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a motion is, as far as the stretch seen tells. Unpacks as the pair ``name, evidence``.

    Attributes:
        name: "equilibrium", "settling" (towards rest, or a cycle), "periodic", "quasi-periodic", "chaotic", "drifting" (a
            steady mean velocity), "expanding" (unbounded, faster and faster), or "undecided".
        evidence: the numbers that decided, in words.
        stability: "stable", "neutral", "unstable", or "" where that is not the question.
        period: of a periodic motion, in units of time or layers, where it is known.
        rate: e-folds per unit of time or layer by which a settling motion slows down or an expanding one grows; the speed
            of a drift.
        factor: how many times longer a run would have to be to decide (undecided), or to arrive (settling).
        detail: more about the kind, such as "alternating".
    """

    name: str
    evidence: str = ""
    stability: str = ""
    period: float | None = None
    rate: float | None = None
    factor: float | None = None
    detail: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter((self.name, self.evidence))

    def __getitem__(self, index):
        return (self.name, self.evidence)[index]

    def __len__(self) -> int:
        return 2

    @property
    def headline(self) -> str:
        """The word with what is known about it, without the evidence."""
        period = "" if self.period is None else f"period {self.period:.6g}"
        extra = [word for word in (self.stability, period, self.detail) if word]
        if self.rate is not None:
            extra.append(f"rate {self.rate:.2g}" if self.name != "drifting" else f"speed {self.rate:.3g}")
        if self.factor is not None:
            settling = f"arrived after {self.factor:.2g} such runs"
            extra.append(settling if self.name == "settling" else f"run about {self.factor:.2g} times longer")
        so_far = " so far" if self.name == "chaotic" else ""
        return f"{self.name}{so_far}{' (' + ', '.join(extra) + ')' if extra else ''}"

    def __str__(self) -> str:
        return f"{self.headline}: {self.evidence}" if self.evidence else self.headline
