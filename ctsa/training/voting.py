"""Several starts for one input, and a vote on which answer to believe."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, framework, load
from ctsa.layers.stopping import following
from ctsa.results.base import Result
from ctsa.results.text import columns

from .evaluation import binomial_error, check_data, check_model, plain_inputs, right_samples, starts_of, told_by

Array = Any
VOTES = ("energy", "energy-sum", "confidence", "majority")


@dataclass(frozen=True)
class Votes(Result):
    """What a model answers from several starts, and how well votes choose among the answers; K starts, M samples.

    Attributes:
        by: the votes, of "energy", "energy-sum", "confidence", "majority".
        accuracy: share of samples that a vote among the first 1, 2, ..., K starts gets right, ``(votes, K)``.
        single: share that each start alone gets right, ``(K,)``.
        any: share that at least one of the first 1, 2, ..., K starts gets right, ``(K,)``: no choice of one of them does
            better; a majority, which may mix answers, can.
        solved: which samples each start gets right, ``(K, M)``.
        chosen: which samples each vote among all starts gets right, ``(votes, M)``.
        energy: pseudo-energy of the last state, ``(K, M)``.
        energy_sum: pseudo-energies of all layers, added, ``(K, M)``; nan unless it was asked for.
        confidence: mean over tokens of the largest probability, ``(K, M)``.
        depth: layers passed.
        task: name of the data.
    """

    by: tuple[str, ...]
    accuracy: Any
    single: Any
    any: Any
    solved: Any
    chosen: Any
    energy: Any
    energy_sum: Any
    confidence: Any
    depth: int
    task: str
    _static: ClassVar[tuple[str, ...]] = ("by", "depth", "task")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "accuracy": ("vote", "start"), "single": ("start",), "any": ("start",), "chosen": ("vote", "sample"),
        **dict.fromkeys(("solved", "energy", "energy_sum", "confidence"), ("start", "sample")),
    }  # fmt: skip

    @property
    def error(self) -> np.ndarray:
        """Standard error of ``accuracy`` by the binomial law, ``(votes, K)``."""
        return binomial_error(self.accuracy, self.solved.shape[1])

    def _restored(self) -> Any:
        return replace(self, by=tuple(self.by))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {a:.3f}" for name, a in zip(self.by, self.accuracy[:, -1], strict=True))
        return (
            f"Votes({self.task}, {self.solved.shape[1]} samples, {len(self.single)} starts at depth {self.depth}: "
            f"single {np.mean(self.single):.3f}, {shown}, any {self.any[-1]:.3f})"
        )

    def table(self) -> str:
        """Return accuracies for 1, 2, 4, ... starts as text."""
        count = len(self.single)
        some = sorted({2**i for i in range(count.bit_length()) if 2**i <= count} | {count})
        rows = [(k, np.mean(self.single[:k]), *self.accuracy[:, k - 1], self.any[k - 1]) for k in some]
        return columns(("starts", "single", *self.by, "any"), rows)


def run_of(model: Any, inputs: Array, noise: Array, depth: int, summed: bool) -> dict[str, Array]:
    """Return answers, confidence and energies of one start of every sample."""
    be, layer = backend(noise), model.layer_of(inputs)

    def advance(carry):
        u, total = carry
        u = following(layer, u)
        return (u, total + model.energy(inputs, u)), 0 * total

    u = model.start(inputs, noise)
    if summed:
        u, total = be.scan(advance, (u, 0 * model.energy(inputs, u)), depth)[0]
    else:
        u = model.onward(inputs, u, depth)
        total = float("nan") * u.sum((-2, -1))
    return told_by(model, inputs, u) | dict(energy_sum=total)


def majorities(answers: np.ndarray, classes: int) -> np.ndarray:
    """Return the class that most of the first k starts say, for every token: ``(K, M, ...)`` of answers of that shape.

    Where classes have equally many votes, that of the earliest start counts.
    """
    votes = np.cumsum(answers[..., None] == np.arange(classes), axis=0)  # (K, M, ..., classes), of the first k starts
    first = np.argmax(answers[..., None] == np.arange(classes), axis=0)  # start that says it first; 0 if none does
    score = votes * (len(answers) + 1) - first
    return np.where(votes > 0, score, np.iinfo(score.dtype).min).argmax(-1)


@analysis
def vote(
    model: Any,
    data: Any,
    *,
    depth: int = 64,
    starts: int = 16,
    by: str | Sequence[str] = ("energy", "confidence", "majority"),
    seed: int = 0,
    batch: int = 500,
) -> Votes:
    """Let a model answer from several starts, and choose among the answers by a vote.

    Inputs that are blank start from noise, which a model has largely, but not wholly, forgotten in the end. Of the first k
    starts a vote takes the answer

    - "energy": of the least pseudo-energy of the last state, ``-<X, C + MSA(X)>`` (``ctsa.pseudo_energy``);
    - "energy-sum": of the least sum of these over all layers, as the authors of AKOrN do;
    - "confidence": of the largest mean over tokens of the largest probability;
    - "majority": that most starts give, a token at a time; the earliest counts where there are as many of two.

    The first start is that of ``evaluate`` with the same seed, and more starts do not change those before them.

    Args:
        model: a ``RecurrentModel``.
        data: a data set of ``ctsa.datasets``.
        depth: layers.
        starts: how many, K.
        by: which votes.
        seed: of the starts.
        batch: samples at a time.

    Returns:
        ``Votes``: accuracy of every vote, of single starts, and of an oracle, for 1, 2, ..., K starts.

    Raises:
        ValueError: the data are of another task, or there is no such vote.
        TypeError: the model is none of ours.

    Example:
        >>> import ctsa, ctsa.torch
        >>> data = ctsa.datasets.task("sudoku-4x4", count=40)
        >>> model = ctsa.torch.RecurrentModel.for_task(data.train, d=16)
        >>> found = ctsa.training.vote(model, data.test, depth=4, starts=3, by="energy")
        >>> found.accuracy.shape, bool((found.accuracy <= found.any).all())
        ((1, 3), True)

    References:
        Miyato et al., arXiv 2410.13821.
    """
    check_model(model)
    check_data(model, data)
    depth, starts = checks.integer("depth", depth, low=1), checks.integer("starts", starts, low=1)
    seed, batch = checks.seed(seed), checks.integer("batch", batch, low=1)
    names = (by,) if isinstance(by, str) or not isinstance(by, Sequence) else tuple(by)
    for name in names:
        checks.choice("by", name, VOTES)
    if not names:
        raise ValueError(f"by must name at least one vote: {', '.join(VOTES)}")
    be, inputs = load(str(framework(model))), plain_inputs(data.inputs)
    every: list[dict[str, np.ndarray]] = []
    for k in range(starts):
        noise, parts = starts_of(model, data, [seed, k]), []
        for first in range(0, len(data), batch):
            some = slice(first, first + batch)
            given = model.placed(be.xp.asarray(inputs[some])), be.like(noise[some], model.embedding)
            found = be.call(run_of, model, *given, depth, "energy-sum" in names)
            parts.append({name: be.to_numpy(a) for name, a in found.items()})
        every.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    rows = {name: np.stack([one[name] for one in every]) for name in every[0]}  # (K, M), answers (K, M, n)
    solved = np.stack([right_samples(answer, data) for answer in rows["answer"]])
    merits = {"energy": -rows["energy"], "energy-sum": -rows["energy_sum"], "confidence": rows["confidence"]}
    right = [  # a vote (K, M)
        np.stack([right_samples(a, data) for a in majorities(rows["answer"], int(model.head.shape[0]))])
        if name == "majority"
        else _best(merits[name], solved)
        for name in names
    ]
    return Votes(
        by=names, accuracy=np.stack([r.mean(1) for r in right]), single=solved.mean(1),
        any=np.logical_or.accumulate(solved).mean(1), solved=solved, chosen=np.stack([r[-1] for r in right]),
        energy=rows["energy"], energy_sum=rows["energy_sum"], confidence=rows["confidence"], depth=depth, task=data.name,
    )  # fmt: skip


def _best(merit: np.ndarray, solved: np.ndarray) -> np.ndarray:
    """Return whether the start of the most merit among the first k is right, ``(K, M)``; nan has none."""
    merit = np.where(np.isnan(merit), -np.inf, merit)
    best = np.stack([merit[: k + 1].argmax(0) for k in range(len(merit))])
    return np.take_along_axis(solved, best, axis=0)
