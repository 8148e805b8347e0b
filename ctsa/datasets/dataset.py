"""Tasks as plain arrays: tokens or vectors that go in, what is to come out, and what a model needs to know of both."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ctsa import checks


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Samples of one task, NumPy throughout.

    Inputs are tokens ``(count, n)``, integers with 0 for what is unknown, or vectors ``(count, n, features)``. Targets are
    one class for each token ``(count, n)`` or one for each sample ``(count,)``. In the tasks of this package a token that
    is given says its own target: ``inputs = targets + 1`` wherever ``given``.

    ``len(data)`` is the number of samples; ``data[:50]``, ``data[[0, 10]]`` and ``data[data.given.sum(-1) < 8]`` are data
    sets of some of them, ``data[-1]`` is one of a single sample.

    Attributes:
        name: of the task.
        inputs: integers ``(count, n)`` below ``vocabulary``, or floats ``(count, n, features)``.
        targets: integers ``(count, n)`` or ``(count,)`` below ``classes``.
        classes: how many answers there are.
        vocabulary: how many tokens there are, the unknown one among them; None for vectors.
        features: length of the vectors; None for tokens.
        masks: booleans ``(k, n, n)``: which tokens stand in which relation to which, such as row, column and box of a
            board; a token is related to itself. Fit for ``SelfAttention(mask=)``. None where there are none.
        scored: booleans ``(count, n)``: which tokens count in an accuracy; None where targets belong to samples.
        interchangeable: whether the symbols may be exchanged for each other, as the digits of a Sudoku.
        groups: integers ``(count,)`` of 64 bits: samples of one group are the same but for names, or for order, and
            ``split`` never parts them. None: samples are the same if their inputs are.

    Raises:
        TypeError, ValueError: a field is wrong, or does not fit the others; the message names it.

    Example:
        >>> from ctsa.datasets import Dataset
        >>> echo = Dataset(name="echo", inputs=[[1, 2], [2, 0]], targets=[[0, 1], [1, 1]], classes=2, vocabulary=3,
        ...                scored=[[True, True], [True, False]])
        >>> echo
        Dataset('echo', 2 samples of 2 tokens, vocabulary 3, classes 2)
        >>> echo[1:].inputs
        array([[2, 0]])
    """

    name: str
    inputs: Any
    targets: Any
    classes: int
    vocabulary: int | None = None
    features: int | None = None
    masks: Any = None
    scored: Any = None
    interchangeable: bool = False
    groups: Any = None

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {self.name!r:.60}")
        checks.integer("classes", self.classes, low=1)
        if (self.vocabulary is None) == (self.features is None):
            raise ValueError("vocabulary (of tokens) or features (of vectors) must be given, one of the two")
        inputs = self._tokens() if self.features is None else self._vectors()
        count, n = inputs.shape[:2]
        targets = _integers("targets", self.targets, self.classes, "classes")
        if targets.shape not in ((count,), (count, n)):
            raise ValueError(f"targets must have shape ({count},) or ({count}, {n}), got {targets.shape}")
        changed = dict(inputs=inputs, targets=targets)
        if (self.scored is None) != (targets.ndim == 1):
            raise ValueError("scored must be given for targets of tokens, and None for those of samples")
        if self.scored is not None:
            changed["scored"] = _shaped("scored", self.scored, (count, n), bool)
        if self.masks is not None:
            changed["masks"] = _shaped("masks", self.masks, (None, n, n), bool)
        if self.groups is not None:
            changed["groups"] = _shaped("groups", self.groups, (count,), np.uint64)
        if checks.flag("interchangeable", self.interchangeable):
            if self.vocabulary != self.classes + 1 or targets.ndim == 1:
                raise ValueError("interchangeable symbols need targets of tokens, and classes of vocabulary - 1")
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    def _tokens(self) -> np.ndarray:
        checks.integer("vocabulary", self.vocabulary, low=2)
        a = _integers("inputs", self.inputs, self.vocabulary, "vocabulary")
        if a.ndim != 2 or 0 in a.shape:
            raise ValueError(f"inputs must be tokens (count, n), got shape {a.shape}")
        return a

    def _vectors(self) -> np.ndarray:
        checks.integer("features", self.features, low=1)
        a = checks.numbers("inputs", self.inputs)
        if a.ndim != 3 or 0 in a.shape or a.shape[2] != self.features:
            raise ValueError(f"inputs must be vectors (count, n, features={self.features}), got shape {a.shape}")
        return a

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Any) -> "Dataset":
        try:
            rows = np.atleast_1d(np.arange(len(self))[index])
            fits = rows.ndim == 1
        except (IndexError, TypeError, ValueError):
            fits = False
        if not fits:
            raise IndexError(
                f"index must be an integer below {len(self)}, a slice, or a list or mask of samples, got {index!r:.60}"
            )
        if not len(rows):
            raise IndexError(f"index leaves none of the {len(self)} samples, got {index!r:.60}")
        scored, groups = (None if a is None else a[rows] for a in (self.scored, self.groups))
        return dataclasses.replace(
            self, inputs=self.inputs[rows], targets=self.targets[rows], scored=scored, groups=groups
        )

    def __repr__(self) -> str:
        kind = f"features {self.features}" if self.vocabulary is None else f"vocabulary {self.vocabulary}"
        return f"Dataset({self.name!r}, {len(self)} samples of {self.n} tokens, {kind}, classes {self.classes})"

    @property
    def n(self) -> int:
        """The number of tokens of a sample."""
        return self.inputs.shape[1]

    @property
    def blank(self) -> int | None:
        """The token that stands for what is unknown, 0; None for vectors."""
        return None if self.vocabulary is None else 0

    @property
    def given(self) -> np.ndarray | None:
        """Booleans ``(count, n)``: which tokens are known; None for vectors."""
        return None if self.vocabulary is None else self.inputs != 0

    def relabel(self, rng: Any) -> "Dataset":
        """Return the samples with their symbols renamed at random, each in its own way, where ``interchangeable``.

        Args:
            rng: a generator of NumPy, from which is drawn, or a seed.

        Returns:
            Another ``Dataset``; this one where symbols may not be exchanged.

        Raises:
            TypeError, ValueError: ``rng`` is neither.
        """
        rng = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(checks.seed(rng, "rng"))
        if not self.interchangeable:
            return self
        names = rng.random((len(self), self.classes)).argsort(-1)  # (count, classes): what each class is called now
        tokens = np.concatenate([np.zeros((len(self), 1), int), names + 1], axis=1)
        inputs, targets = (np.take_along_axis(a, b, 1) for a, b in ((tokens, self.inputs), (names, self.targets)))
        return dataclasses.replace(self, inputs=inputs, targets=targets)


class Splits(NamedTuple):
    """The parts of a task. ``splits._replace(ood=other)`` is one with another last part.

    Attributes:
        train: to learn from.
        validation: to choose settings by; None where its share is 0.
        test: to judge by; None where its share is 0.
        ood: samples of a harder kind than any in ``train``; None where there are none.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    ood: Dataset | None = None


def _integers(name: str, value: Any, bound: Any, what: str) -> np.ndarray:
    a = _array(name, value)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {a.dtype}")
    if a.size and not (0 <= a.min() and a.max() < bound):
        raise ValueError(f"{name} must be in 0 ... {bound - 1} ({what}={bound}), got {a.min()} ... {a.max()}")
    return a.astype(np.int64)


def _shaped(name: str, value: Any, shape: tuple[int | None, ...], dtype: Any) -> np.ndarray:
    a = _array(name, value)
    if a.dtype != dtype:
        raise TypeError(f"{name} must be of type {np.dtype(dtype)}, got {a.dtype}")
    if a.ndim != len(shape) or 0 in a.shape or any(s not in (None, t) for s, t in zip(shape, a.shape)):
        raise ValueError(f"{name} must have shape {str(shape).replace('None', 'k')}, got {a.shape}")
    return a


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be an array, got {value!r:.60}") from None
