"""What ``diagnose`` returns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines

from .kinds import KINDS

_SUMS = ("ends_sum",)  # added where chunks are joined, not put one after the other


@dataclass(frozen=True)
class Diagnosis(Result):
    """What a recurrent layer does on every input, and the numbers that say so. Arrays have an axis of inputs.

    Attributes:
        verdicts: of every input: "settles", "marginal", "periodic", "wanders", "chaotic", "drifts", "expands", "undecided".
        why: of every input, one line with what decided.
        modes: of inputs that settle: "" , "alternating" or "spiralling".
        parts: names of the parts of the state.
        part_verdicts: what each part does, for every input: joined by "|".
        loops: how often the layer was applied.
        rate: log of the factor by which steps shrink or grow in a loop (drifts: the distance), nan where there is none.
        slope, slope_error: of the logarithm of the steps, over the second half above rounding; 68 % half-width.
        floor: rounding of the layer, relative to the size of the state.
        multipliers: leading eigenvalues of the derivative at the end state, of f, or of f^p for a cycle ``(input, m)``.
        multiplier_errors: their residuals.
        distance: to the fixed point near the end state, relative to the size; nan if none was found.
        period: of cycles, in loops; nan for others.
        frequency: turns a loop of the leading multiplier, from 0 to 1/2.
        exponents, stderr: leading Lyapunov exponents per loop, and their error bars ``(input, k)``.
        steps: ``|x_k - x_(k-1)| / |x_k|`` of every part, ``(loops, part, input)``.
        sizes: root mean square of a token's length, ``(loops + 1, part, input)``.
        means: the same of the mean token.
        cosines: between successive steps ``(loops, input)``; the first is nan.
        error: what is left at the end of the run, relative: ``step m / (1 - m)`` for the rate of the leading multiplier.
        loops_needed: until the error is below the tolerance; inf where it never will be, nan where that is open.
        loops_to_decide: about how many loops would decide what is undecided; nan for others.
        safe_depth: the last loop up to which sizes of states and readouts stay within the band about those at loop
            ``trained=``; nan if that was not told.
        restart_spread: distance between where restarts and the run itself end, relative, root mean square.
        restart_agree: share of restarts that end within the tolerance of the run itself.
        input_gain: ``|(1 - J)^-1 d_e f|``: relative change of the end state for a relative change of its inputs.
        rules: names of the rules to stop early, see ``exits=``.
        exits: loop at which every rule fires ``(rule, input)``; nan where never.
        exit_errors: distance from the state at that loop to the end state, relative.
        token_loops: first loop after which every token stays within the tolerance of its end ``(input, token)``.
        token_steps: step of every token, relative ``(loops, token, input)``; None if not kept.
        clusters, rank, order: number of clusters, effective rank, order parameter ``(loops + 1, input)``.
        change: of the readout, relative ``(loops, input)``; None without one.
        scores: what ``score=`` says after every loop ``(loops + 1, input)``; None without it.
        path: along fixed random directions ``(loops + 1, coordinate, input)``.
        restart_paths: the same of restarts, at some loops ``(point, coordinate, restart, input)``; None without.
        effective_step, unexplained: step of the given field that the layer takes at the end state, and the share of its
            move that no step explains ``(input,)``; None without ``field=``.
        tolerance: relative distance that counts as arrived.
        ends_sum: sums over inputs that ``input_share`` is made of.
    """

    verdicts: tuple[str, ...]
    why: tuple[str, ...]
    modes: tuple[str, ...]
    parts: tuple[str, ...]
    part_verdicts: tuple[str, ...]
    loops: int
    rate: Any
    slope: Any
    slope_error: Any
    floor: Any
    multipliers: Any
    multiplier_errors: Any
    distance: Any
    period: Any
    frequency: Any
    exponents: Any
    stderr: Any
    steps: Any
    sizes: Any
    means: Any
    cosines: Any
    error: Any
    loops_needed: Any
    loops_to_decide: Any
    safe_depth: Any
    restart_spread: Any
    restart_agree: Any
    input_gain: Any
    rules: tuple[str, ...]
    exits: Any
    exit_errors: Any
    token_loops: Any
    token_steps: Any
    clusters: Any
    rank: Any
    order: Any
    change: Any
    scores: Any
    path: Any
    restart_paths: Any
    effective_step: Any
    unexplained: Any
    tolerance: float
    ends_sum: Any
    identity: str = ""
    _static: ClassVar[tuple[str, ...]] = (
        "verdicts", "why", "modes", "parts", "part_verdicts", "rules", "loops", "tolerance", "identity",
    )  # fmt: skip
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(
            ("rate", "slope", "slope_error", "floor", "distance", "period", "frequency", "error", "loops_needed",
             "loops_to_decide", "safe_depth", "restart_spread", "restart_agree", "input_gain", "effective_step",
             "unexplained"), ("input",)),
        **dict.fromkeys(("multipliers", "multiplier_errors"), ("input", "multiplier")),
        **dict.fromkeys(("exponents", "stderr"), ("input", "exponent")),
        "steps": ("loop", "part", "input"), "sizes": ("state", "part", "input"), "means": ("state", "part", "input"),
        "cosines": ("loop", "input"), "exits": ("rule", "input"), "exit_errors": ("rule", "input"),
        "token_loops": ("input", "token"), "token_steps": ("loop", "token", "input"),
        "clusters": ("state", "input"), "rank": ("state", "input"), "order": ("state", "input"),
        "change": ("loop", "input"), "scores": ("state", "input"), "path": ("state", "coordinate", "input"),
        "restart_paths": ("point", "coordinate", "restart", "input"), "ends_sum": ("sum",),
    }  # fmt: skip
    _derived: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "verdict": ("verdict", ()), "parts": ("parts", ("part",)), "rules": ("rules", ("rule",)),
        **{name: (name, ("input",)) for name in ("verdicts", "why", "modes", "part_verdicts", "radius")},
        "exponents_stderr": ("stderr", ("input", "exponent")), "slope_stderr": ("slope_error", ("input",)),
    }  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("verdicts", "why", "modes", "parts", "part_verdicts", "rules"):  # lists, where files were read
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.verdicts)

    @property
    def counts(self) -> dict[str, int]:
        """How many inputs there are of every kind, the most frequent first."""
        return dict(Counter(self.verdicts).most_common())

    @property
    def verdict(self) -> str:
        """One word for the batch: the kind of all inputs, "mixed", or "undecided" if half of them are."""
        counts = self.counts
        if len(counts) == 1:
            return next(iter(counts))
        return "undecided" if 2 * counts.get("undecided", 0) >= len(self) else "mixed"

    @property
    def radius(self) -> np.ndarray:
        """Modulus of the leading multiplier ``(input,)``."""
        return np.abs(self.multipliers[:, 0]) if self.multipliers.shape[1] else np.full(len(self), np.nan)

    @property
    def input_share(self) -> float:
        """Share of the variance of end states between inputs; nan without restarts, of one input, or with one end for all.

        Ends whose root mean square distance is below ``tolerance`` are one point: what is left of it is rounding.
        """
        count, between, within = (float(a) for a in self.ends_sum[:3])
        mean = self.ends_sum[3:] / max(count, 1)
        apart = between / max(count, 1) - float((mean**2).sum())
        whole = apart + within / max(count, 1)
        varies = whole > self.tolerance**2 * between / max(count, 1)
        return apart / whole if count > 1 and varies and np.isfinite(whole) else float("nan")

    @property
    def per_input(self) -> dict[str, np.ndarray]:
        """A column for every number that there is one of for an input, by name, for a data frame."""
        found: dict[str, Any] = {"verdict": np.array(self.verdicts), "mode": np.array(self.modes)}
        for name, axes in self._dims.items():
            if axes == ("input",) and getattr(self, name) is not None:
                found[name] = np.asarray(getattr(self, name))
        found["radius"] = self.radius
        for i in range(self.exponents.shape[1]):
            found[f"exponent_{i + 1}"] = self.exponents[:, i]
        return found | {f"exit_{n.replace(' ', '_')}": loop for n, loop in zip(self.rules, self.exits, strict=True)}

    @property
    def per_token(self) -> np.ndarray:
        """First loop after which every token stays within the tolerance of its end ``(input, token)``."""
        return self.token_loops

    def member(self, index: int) -> "Diagnosis":
        """Return the diagnosis of one input, or with a list of some."""
        kept = np.atleast_1d(np.arange(len(self))[index])
        changes: dict[str, Any] = {}
        for name in ("verdicts", "why", "modes", "part_verdicts"):
            changes[name] = tuple(getattr(self, name)[i] for i in kept)
        for name, axes in self._dims.items():
            value = getattr(self, name)
            if value is not None and "input" in axes:
                changes[name] = np.take(value, kept, axes.index("input"))
        return replace(self, ends_sum=np.full(3, np.nan), **changes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return f"Diagnosis({self.verdict}: {counts}, {self.loops} loops)"

    def __str__(self) -> str:
        return f"{self!r}\n{self.evidence()}"

    def evidence(self) -> str:
        """Return a few lines: what the inputs of every kind have in common, and what their users want to know."""
        rows: list[tuple[str, Any]] = []
        for kind in self.counts:
            at = [i for i, k in enumerate(self.verdicts) if k == kind]
            rows.append((kind, f"{len(at)} of {len(self)}, e.g. {self.why[at[0]]}"))
        rows += [("log radius, exponent, slope", " / ".join(map(_range, (_log(self.radius), self._top, self.slope))))]
        rows += [("loops needed", _range(self.loops_needed)), ("safe depth", self._safe if self._told else None)]
        if np.isfinite(self.restart_spread).any():
            rows += [("restarts end apart by", _range(self.restart_spread))]
        if np.isfinite(self.input_share):
            rows += [("variance between inputs", f"{self.input_share:.1%}")]
        return lines(rows)

    @property
    def _top(self) -> np.ndarray:
        return self.exponents[:, 0]

    @property
    def _told(self) -> bool:
        """Whether it is known how many loops the model was trained with."""
        return not np.isnan(self.safe_depth).all()

    @property
    def _safe(self) -> str:
        within = self.safe_depth >= self.loops
        return f"{self.loops} and more" if within.all() else _range(self.safe_depth)

    def table(self, most: int = 20) -> str:
        """Return a line an input, up to ``most``, and the counts, as text."""
        heads = ("input", "verdict", "rate", "radius", "exponent", "error", "needed", "restarts", "safe")
        numbers: Any = [self.rate, self.radius, self._top, self.stderr[:, 0], self.loops_needed, self.restart_spread]
        numbers = zip(*numbers, *[self.safe_depth] * self._told, strict=True)
        names = [f"{k}, {m}" if m else k for k, m in zip(self.verdicts, self.modes, strict=True)]
        names = [f"{k} {p:g}" if np.isfinite(p) else k for k, p in zip(names, self.period, strict=True)]
        rows = ((i, name, *row) for i, (name, row) in enumerate(zip(names, numbers, strict=True)))
        return f"{columns(heads[: len(heads) - (not self._told)], rows, most=most)}\n{self.evidence()}"

    def plot(self, axes=None, **kwargs):
        """Draw one page: steps, multipliers, paths, tokens, exits, exponents; return the Axes."""
        return picture("diagnosis.diagnosis")(self, axes=axes, **kwargs)


def _log(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values)


def _range(values: Any) -> str:
    values = np.asarray(values, dtype=float)
    known = values[~np.isnan(values)]
    if not known.size:
        return "not known"
    low, middle, high = np.quantile(known, [0, 0.5, 1], method="nearest")
    return f"{middle:.4g}" if low == high else f"{low:.3g} ... {middle:.3g} ... {high:.3g}"


def joined(parts: Sequence[Diagnosis]) -> Diagnosis:
    """Return the diagnoses of chunks of the inputs as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    changes: dict[str, Any] = {}
    for field in fields(first):
        name, values = field.name, [getattr(part, field.name) for part in parts]
        if name in ("verdicts", "why", "modes", "part_verdicts"):
            changes[name] = sum(values, ())
        elif name in _SUMS:
            changes[name] = sum(values)
        elif "input" in first._dims.get(name, ()) and values[0] is not None:
            changes[name] = np.concatenate(values, first._dims[name].index("input"))
    return replace(first, **changes)


__all__ = ["KINDS", "Diagnosis", "joined"]
