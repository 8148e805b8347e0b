"""The answer: a name, its numbers, and the evidence."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a motion is, and why. Also the pair ``(name, evidence)``: ``name, evidence = spectrum.verdict``.

    Attributes:
        name: "equilibrium", "settling", "periodic", "quasi-periodic", "chaotic", "drifting", "expanding" or "undecided".
        evidence: one line that says what was seen.
        stability: of an equilibrium or a cycle: "stable", "neutral" or "unstable"; otherwise "".
        period: a period in time or layers, where one was found; None otherwise.
        rate: of settling (per time or layer), of expanding, or the speed of a drift; None otherwise.
        factor: run about so many times as long (undecided: for a verdict; settling: until rest); None otherwise.

    Example:
        >>> from ctsa.motion import Verdict
        >>> name, evidence = Verdict("periodic", "returns to 1e-9 of its size", "stable", period=2)
        >>> name
        'periodic'
    """

    name: str
    evidence: str
    stability: str = ""
    period: float | None = None
    rate: float | None = None
    factor: float | None = None
    unit: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter((self.name, self.evidence))

    def __getitem__(self, index):
        return (self.name, self.evidence)[index]

    def __len__(self) -> int:
        return 2

    @property
    def headline(self) -> str:
        """The name with its numbers, without the evidence: ``periodic (stable, period 6.6633)``."""
        per = f" per {self.unit}" if self.unit else ""
        notes = [self.stability] if self.stability else []
        if self.period is not None:
            notes.append(f"period {self.period:.6g}" + (", alternating" if self.alternating else ""))
        if self.rate is not None:
            notes.append(f"{'speed' if self.name == 'drifting' else 'rate'} {self.rate:.3g}{per}")
        if self.factor is not None:
            longer = f"about {self.factor:.2g} times as long"
            notes.append(f"at rest after {longer}" if self.name == "settling" else f"run {longer}")
        # How a motion ends is not in its record: chaos may be a transient of any length.
        name = "chaotic so far" if self.name == "chaotic" else self.name
        return f"{name} ({', '.join(notes)})" if notes else name

    @property
    def alternating(self) -> bool:
        """Whether a layer goes to and fro between two states."""
        return self.name == "periodic" and self.unit == "layer" and self.period == 2

    def __str__(self) -> str:
        return f"{self.headline}: {self.evidence}"
