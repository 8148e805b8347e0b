"""Keep a long run in a file, so that the same call continues it: spectra, basins, diagnoses, loops of training."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from .base import Result
from .files import load
from .identity import Identity
from .npz import archive, sweep
from .text import lines
from .values import as_numpy

_SHARE = 0.1  # of the time at most goes into writing


@dataclass(frozen=True)
class RunState(Result):
    """Where a run stood: what its checkpoint holds, and ``ctsa.load`` returns of it.

    Attributes:
        run: what kind of run, such as "lyapunov_spectrum", "basins", "training".
        identity: which run, see ``ctsa.results.Identity``; "" if that was not said.
        arrays: by name, as NumPy; they come back with the same type and bits.
        values: whatever JSON can say: numbers, text, lists and dicts of these.
        parts: results.
    """

    run: str
    identity: str
    arrays: dict[str, Any]
    values: dict[str, Any]
    parts: tuple[Any, ...] = ()
    _static: ClassVar[tuple[str, ...]] = ("run", "identity")
    _tables: ClassVar[tuple[str, ...]] = ("arrays",)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {tuple(np.shape(a))}" for name, a in list(self.arrays.items())[:6])
        return f"RunState({self.run}: {shown}{', ...' if len(self.arrays) > 6 else ''})"

    def table(self) -> str:
        """Return what kind of run, and its arrays with types and shapes, as text."""
        return lines(
            [("run", self.run), *((name, f"{a.dtype} {tuple(a.shape)}") for name, a in self.arrays.items())]
        )


class Checkpoint:
    """A run in a file: read where it stood, and write where it stands, now and then.

    The file is written beside the old one and takes its place when it is on the disk: what is read is whole, at whatever
    moment the run was stopped. A file of another run is refused, never overwritten.

    A loop of training keeps its weights, the optimiser's moments, the number of the step, and the state of the generator
    that draws its samples; then what comes out in the end does not depend on how often it was stopped::

        kept = Checkpoint("training.npz", "training", Identity(settings=settings, data=samples), every=60.0)
        state = kept.load()
        if state is not None:
            weights, step = state.arrays["weights"], state.values["step"]
            rng.bit_generator.state = state.values["rng"]
        with kept:
            while step < steps:
                weights, step = update(weights, rng), step + 1
                if kept.due or step == steps:
                    kept.save({"weights": weights}, {"step": step, "rng": rng.bit_generator.state})

    A model of PyTorch gives ``{name: p.detach().cpu().numpy() for name, p in model.state_dict().items()}``; a pytree of
    JAX ``{str(i): a for i, a in enumerate(jax.tree.leaves(tree))}``, and is made of them again by ``tree_unflatten``.
    ``save`` writes now. ``offer`` writes if it is time to, and otherwise remembers: ``with kept`` writes on the way out,
    by an error or Ctrl-C as well, what was offered last. It copies nothing, so offer arrays that will not be changed in
    place.

    Args:
        path: the file, with or without the ending ``.npz``; None keeps nothing.
        run: what kind of run, a word.
        identity: what tells it from other runs of its kind; None does not look.
        every: seconds between two writings, more where these take long: at most a tenth of the time.
        allow_unverified: take a file also where identity or file do not show whose it is.

    Raises:
        TypeError, FileNotFoundError, NotADirectoryError, IsADirectoryError: ``path`` cannot be written.
        ValueError: ``identity`` cannot tell the run from others.

    Example:
        >>> import os, tempfile, numpy as np
        >>> from ctsa.results import Checkpoint, Identity
        >>> path = os.path.join(tempfile.mkdtemp(), "run")
        >>> def total(count):
        ...     kept = Checkpoint(path, "sum", Identity(weights=np.arange(3)))
        ...     state = kept.load()
        ...     x, i = (np.zeros(3), 0) if state is None else (state.arrays["x"], state.values["i"])
        ...     begun = i
        ...     with kept:
        ...         for i in range(begun, count):
        ...             x = x + i * np.arange(3)
        ...             kept.offer({"x": x}, {"i": i + 1})
        ...     return x, begun
        >>> total(4)
        (array([ 0.,  6., 12.]), 0)
        >>> total(6)
        (array([ 0., 15., 30.]), 4)
    """

    def __init__(
        self, path: str | os.PathLike | None, run: str, identity: Identity | None = None, *, every: float = 0.5,
        allow_unverified: bool = False,
    ):  # fmt: skip
        self.path = None if path is None else archive(path, "checkpoint")
        self.run, self.identity, self.every, self.allow_unverified = run, identity, every, allow_unverified
        self._pending: RunState | None = None
        self._seen = False  # whether what lay there has been looked at
        self._next = time.monotonic() + every
        if self.path is not None and identity is not None:
            identity.verified(self._name, allow_unverified)

    @property
    def _name(self) -> str:
        return f"checkpoint {self.path}"

    def load(self, *names: str) -> RunState | None:
        """Return where the run stood, None if there is no file yet.

        Args:
            names: arrays that must be there.

        Raises:
            ValueError: the file belongs to another run, is damaged, is none of ours, or lacks an array.
        """
        self._seen = True
        if self.path is not None:
            sweep(self.path)
        if self.path is None or not self.path.exists():
            return None
        kept = load(self.path)
        if not isinstance(kept, RunState):
            raise ValueError(f"{self._name} holds a {type(kept).__name__}: choose another path")
        if kept.run != self.run:
            raise ValueError(f"{self._name} holds a run of {kept.run}, not of {self.run}: choose another path")
        if self.identity is not None:
            self.identity.require(self._name, kept.identity, self.allow_unverified)
        lacking = [name for name in names if name not in kept.arrays]
        if lacking:
            raise ValueError(
                f"{self._name} lacks {', '.join(lacking)}: it comes from another version of ctsa; begin anew with "
                "another path"
            )
        return kept

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return self.path is not None and time.monotonic() >= self._next

    def save(self, arrays: Mapping[str, Any], values: Mapping[str, Any] | None = None, parts: Any = ()) -> None:
        """Write now where the run stands.

        Args:
            arrays: by name, of any framework: numbers, truth values, or text.
            values: whatever JSON can say.
            parts: results.

        Raises:
            OSError: the file cannot be written, as on a full disk; the one that was there is as it was.
            TypeError: something is no such array or value.
            ValueError: a file lies there which ``load`` would refuse.
        """
        if self.path is not None:
            self._pending = self._state(arrays, values, parts)
            self._write()

    def offer(self, arrays: Mapping[str, Any], values: Mapping[str, Any] | None = None, parts: Any = ()) -> None:
        """Write where the run stands if that is due; else remember it, without a copy, until the ``with`` block ends."""
        if self.path is not None:
            self._pending = self._state(arrays, values, parts)
            if self.due:
                self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: Any) -> None:
        if self._pending is not None:
            self._write()

    def _state(self, arrays: Mapping[str, Any], values: Mapping[str, Any] | None, parts: Any) -> RunState:
        kept = {str(name): np.asarray(as_numpy(a)) for name, a in arrays.items()}
        for name, a in kept.items():
            if a.dtype.kind not in "biufcSU":
                raise TypeError(f"a checkpoint cannot keep the array {name!r} of type {a.dtype}: convert it, to float32")
        identity = "" if self.identity is None else str(self.identity)
        return RunState(self.run, identity, kept, dict(values or {}), tuple(parts))

    def _write(self) -> None:
        """Write what was offered last; what an interrupt cuts short stays on offer."""
        assert self.path is not None
        if not self._seen:
            self.load()
        state, began = self._pending, time.monotonic()
        assert state is not None
        try:
            state.save(self.path)
        except OSError as error:
            self._pending = None
            why = error.strerror or str(error)
            raise OSError(
                error.errno,
                f"{self._name} could not be written ({why}); a file that was there holds the run as it was before",
            ) from error
        except TypeError:
            self._pending = None
            raise
        now = time.monotonic()
        self._pending, self._next = None, now + max(self.every, (now - began) * (1 / _SHARE - 1))
