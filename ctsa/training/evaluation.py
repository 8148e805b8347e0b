"""How well a model does: accuracy of whole samples at several depths, and the best of several starts by a vote."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, framework, load
from ctsa.results.base import Result, picture
from ctsa.results.text import columns

from .objective import cross_entropy

Array = Any


@dataclass(frozen=True)
class Evaluation(Result):
    """What a model answers at several depths.

    Attributes:
        depths: layers passed, or units of time, ``(D,)``.
        accuracy: share of samples of which every scored token is right, ``(D,)``.
        token_accuracy: share of scored tokens that are right, ``(D,)``; of targets of samples as ``accuracy``.
        loss: cross entropy, mean over tokens and samples, ``(D,)``.
        solved: which samples are right, ``(D, count)``.
        confidence: mean over tokens of the largest probability, ``(D, count)``.
        energy: pseudo-energy ``-<X, C + MSA(X)>`` of a sample, ``(D, count)``; see ``ctsa.pseudo_energy``.
        task: name of the data.
    """

    depths: Any
    accuracy: Any
    token_accuracy: Any
    loss: Any
    solved: Any
    confidence: Any
    energy: Any
    task: str
    _static: ClassVar[tuple[str, ...]] = ("task",)
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "depths": ("depth",), "accuracy": ("depth",), "token_accuracy": ("depth",), "loss": ("depth",),
        "solved": ("depth", "sample"), "confidence": ("depth", "sample"), "energy": ("depth", "sample"),
    }  # fmt: skip

    @property
    def error(self) -> np.ndarray:
        """Standard error of ``accuracy`` by the binomial law, ``(D,)``."""
        return binomial_error(self.accuracy, self.solved.shape[1])

    def __repr__(self) -> str:
        shown = ", ".join(f"{d}: {a:.3f}" for d, a in zip(self.depths, self.accuracy, strict=True))
        return f"Evaluation({self.task}, {self.solved.shape[1]} samples; accuracy at depth {shown})"

    def table(self) -> str:
        """Return depth, accuracy, accuracy of tokens, loss, mean energy and confidence as text."""
        heads = ("depth", "accuracy", "+-", "tokens", "loss", "energy", "confidence")
        parts = (self.accuracy, self.error, self.token_accuracy, self.loss, self.energy.mean(1), self.confidence.mean(1))
        rows = [(str(d), *(f"{v:.4g}" for v in row)) for d, *row in zip(self.depths, *parts, strict=True)]
        return columns(heads, rows)

    def plot(self, ax=None, **kwargs):
        """Draw accuracy with its error against depth; return the ``Axes``."""
        return picture("training.evaluation")(self, ax=ax, **kwargs)


def _depths(depths: Any) -> list[int]:
    given = depths if isinstance(depths, (tuple, list, np.ndarray, range)) else [depths]
    found = sorted({checks.integer("depths", d) for d in given})
    if not found:
        raise ValueError("depths must be at least one number of layers")
    return found


def answers(model: Any, inputs: Array, targets: Array, noise: Array, depth: int, refine: int, solver: Any, u: Any) -> dict:
    """Return states, answers and what is told of them ``depth`` layers after the state ``u``, or the start where None."""
    if u is None:
        u = model.start(inputs, noise)
    if depth:
        u = model.onward(inputs, u, depth, refine=refine, solver=solver)
    return dict(state=u, loss=cross_entropy(model.read(u), targets), **told_by(model, inputs, u))


def told_by(model: Any, inputs: Array, u: Array) -> dict[str, Array]:
    """Return the answers at states, the confidence in them (mean of the largest probability), and pseudo-energies."""
    be, z = backend(u), model.read(u)
    z = z - be.xp.amax(z, -1, keepdims=True)
    sure = 1 / be.xp.exp(z).sum(-1)  # of the largest logit, which is now 0
    confidence = sure if model.pooled else sure.mean(-1)
    return dict(answer=be.xp.argmax(z, -1), confidence=confidence, energy=model.energy(inputs, u))


def binomial_error(share: Any, count: int) -> np.ndarray:
    """Return the standard error of shares of ``count`` samples."""
    p = np.asarray(share)
    return np.sqrt(p * (1 - p) / count)


def starts_of(model: Any, data: Any, seed: Any) -> np.ndarray:
    """Return the noise that a model starts from, drawn from a seed, or a list of some: ``(count, n, d)``."""
    n, d = data.inputs.shape[1], int(model.embedding.shape[1])
    return np.random.default_rng(seed).standard_normal((len(data), n, d), dtype=np.float32)


def check_model(model: Any) -> None:
    """Raise unless this is a model of ours."""
    if framework(model) is None or not hasattr(model, "layer_of"):
        raise TypeError(f"model must be a RecurrentModel of ctsa.torch or ctsa.jax, got {type(model).__name__}")


def right_samples(answer: np.ndarray, data: Any) -> np.ndarray:
    """Return which samples are right, ``(count,)``: in every token that is scored."""
    right = answer == data.targets
    return right if right.ndim == 1 else (right | ~data.scored).all(-1)


def check_data(model: Any, data: Any) -> None:
    """Raise unless data are for this model."""
    from ctsa.models.starting import sizes_of

    size = sizes_of(data, "data")
    rows, classes = (int(a.shape[0]) for a in (model.embedding, model.head))
    n = size["n"] if model.position is None else int(model.position.shape[0])
    for name, ours, theirs in (
        ("inputs", rows, size["rows"]), ("classes", classes, size["classes"]), ("tokens", n, size["n"]),
        ("targets a sample", model.pooled, size["pooled"]),
    ):  # fmt: skip
        if ours != theirs:
            raise ValueError(f"the model has {name} {ours}, but the data {theirs}: it is a model of another task")


@analysis
def evaluate(
    model: Any,
    data: Any,
    depths: Any = (16,),
    *,
    seed: int = 0,
    batch: int = 500,
    refine: int = 1,
    solver: Any = None,
) -> Evaluation:
    """Measure how many samples a model answers right after several numbers of layers.

    A sample counts if every token that is scored is right. Inputs that are blank start from noise of ``seed``, the same
    whatever the depth, so that depths belong to one run.

    Args:
        model: a ``RecurrentModel``.
        data: a data set of ``ctsa.datasets``.
        depths: numbers of layers; 0 reads the start.
        seed: of the starts.
        batch: samples at a time.
        refine, solver: as for ``RecurrentModel.run``: finer steps, or the flow.

    Raises:
        ValueError: the data are of another task, or the model has no flow to be integrated.
        TypeError: the model is none of ours.

    Example:
        >>> import ctsa, ctsa.torch
        >>> data = ctsa.datasets.task("sudoku-4x4", count=40)
        >>> model = ctsa.torch.RecurrentModel.for_task(data.train, d=16)
        >>> ctsa.training.evaluate(model, data.test, (4, 8)).accuracy.tolist()
        [0.0, 0.0]
    """
    check_model(model)
    check_data(model, data)
    wanted, seed = _depths(depths), checks.seed(seed)
    batch, refine = checks.integer("batch", batch, low=1), checks.integer("refine", refine, low=1)
    be, noise = load(str(framework(model))), starts_of(model, data, seed)
    kept: list[list[dict[str, np.ndarray]]] = []
    for first in range(0, len(data), batch):
        some = slice(first, first + batch)
        inputs, targets = (be.xp.asarray(a[some]) for a in (plain_inputs(data.inputs), data.targets))
        inputs, targets = (model.placed(a) for a in (inputs, targets))
        given = be.like(noise[some], model.embedding)
        state, before, rows = None, 0, []
        for depth in wanted:
            found = be.call(answers, model, inputs, targets, given, depth - before, refine, solver, state)
            state, before = found.pop("state"), depth
            rows.append({name: be.to_numpy(a) for name, a in found.items()})
        kept.append(rows)
    rows = [{name: np.concatenate([part[i][name] for part in kept]) for name in kept[0][0]} for i in range(len(wanted))]
    scored = np.ones(data.targets.shape, bool) if data.scored is None else data.scored
    if not scored.any():
        raise ValueError("data has no token that is scored, so that there is no accuracy")
    right = np.stack([row["answer"] == data.targets for row in rows])
    solved = np.stack([right_samples(row["answer"], data) for row in rows])
    return Evaluation(
        depths=np.array(wanted), accuracy=solved.mean(1), token_accuracy=right[:, scored].mean(1),
        loss=np.stack([row["loss"] for row in rows]).reshape(len(wanted), -1).mean(1), solved=solved,
        confidence=np.stack([row["confidence"] for row in rows]), energy=np.stack([row["energy"] for row in rows]),
        task=data.name,
    )  # fmt: skip


def plain_inputs(inputs: np.ndarray) -> np.ndarray:
    """Return integers as they are, features in single precision."""
    return inputs if inputs.dtype.kind in "iu" else inputs.astype(np.float32)
