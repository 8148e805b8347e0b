"""What analyses return: plain immutable values that save, load, plot and convert themselves."""

import dataclasses
import json
import os
import uuid
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ._backend import backend, framework

_FORMAT = 1


def as_numpy(value: Any) -> Any:
    """Return arrays of any framework as NumPy, other values as they are."""
    return backend(value).to_numpy(value) if framework(value) is not None else value


class Result:
    """Base of all results: frozen dataclasses whose fields are arrays, numbers, strings, or dicts of these.

    In JAX they are pytrees, with every field a child except those named in ``_static``.
    """

    kinds: ClassVar[dict[str, type["Result"]]] = {}
    _static: ClassVar[tuple[str, ...]] = ()
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if Result.kinds.setdefault(cls.__name__, cls).__module__ != cls.__module__:
            raise TypeError(f"two results are called {cls.__name__}: files could not tell them apart")
        Result.kinds[cls.__name__] = cls

    @classmethod
    def leaves(cls) -> tuple[list[str], list[str]]:
        """Return the names of the array fields and of the static fields."""
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return [n for n in names if n not in cls._static], [n for n in names if n in cls._static]

    def save(self, path: str | os.PathLike) -> Path:
        """Write everything to one ``.npz`` file (arrays, plus a JSON header; no pickles); read it with ``ctsa.load``.

        The file appears whole or not at all: a full disk or an interrupt leaves an older file as it was.

        Returns:
            The path written, with the ending ``.npz``.

        Raises:
            OSError: the folder does not exist or cannot be written.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        arrays: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, dict):
                plain = {k: as_numpy(v) for k, v in value.items()}
                values[f.name] = {
                    k: v.tolist() if isinstance(v, np.generic | np.ndarray) else v for k, v in plain.items()
                }
            elif framework(value) is not None:
                arrays[f.name] = as_numpy(value)
            else:
                values[f.name] = value
        header = {"ctsa": _FORMAT, "kind": type(self).__name__, "values": values}
        header_bytes = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        stream = open(temporary, "xb")  # not tempfile: its files are readable by their owner only
        try:
            with stream:
                np.savez(stream, __header__=header_bytes, **arrays)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path

    def to_xarray(self):
        """Return an ``xarray.Dataset`` with named dimensions.

        Raises:
            ImportError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs xarray: pip install xarray") from error
        variables, attributes = {}, {}
        outer = [f"sample_{i}" for i in range(np.ndim(as_numpy(getattr(self, "ts", 0))) - 1)]  # made by jax.vmap
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = as_numpy(getattr(self, f.name))
            if isinstance(value, np.ndarray) and f.name in self._dims:
                lead, *rest = self._dims[f.name]
                batch = [f"batch_{i}" for i in range(value.ndim - len(outer) - 1 - len(rest))]
                variables[f.name] = ((*outer, lead, *batch, *rest), value)
            elif isinstance(value, dict):
                attributes.update({k: as_numpy(v) for k, v in value.items()})
            elif value is not None:
                attributes[f.name] = value
        data = xarray.Dataset(variables, attrs=attributes)
        return data.set_coords("ts") if "ts" in variables else data


@dataclasses.dataclass(frozen=True)
class Trajectory(Result):
    """States along a flow or through layers.

    Attributes:
        ts: times ``(T,)``; for layers the number of layers passed.
        xs: states ``(T, ..., n, d)``; ``xs[0]`` is the start.
        stats: counts and sizes: for flows "steps", "rejected", "evaluations" (-1: not known), "radius_error" (largest
            deviation of a token's length from 1 before normalisation), "stopped" (whether ``until`` ended the run).
    """

    ts: Any
    xs: Any
    stats: dict[str, Any]
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"ts": ("time",), "xs": ("time", "token", "component")}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.stats.items())
        return f"Trajectory(xs: {tuple(self.xs.shape)}, {shown})"

    def plot(self, ax=None, **kwargs):
        """Draw the tokens' paths (circle, sphere, or leading principal plane) and return the ``Axes``."""
        from . import plot

        return plot.trajectory(self, ax=ax, **kwargs)
