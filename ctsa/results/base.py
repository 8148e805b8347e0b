"""What analyses return: plain immutable values that save, load, plot and convert themselves."""

import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ctsa._backend import backend, framework

_FORMAT = 1


def as_numpy(value: Any) -> Any:
    """Return arrays of any framework as NumPy, other values as they are."""
    return backend(value).to_numpy(value) if framework(value) is not None else value


def archive(path: str | os.PathLike, name: str = "path") -> Path:
    """Return a path to write to, with the ending ``.npz``; its folder must exist."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a string or a pathlib.Path, got {type(path).__name__}")
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(f"{name} must name a file, got {str(path)!r}")
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is a file, not a folder: {path} cannot be written")
    if not path.parent.exists():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it before writing {path.name}")
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def picture(name: str) -> Callable[..., Any]:
    """Return a drawing function of ``ctsa.plot``, such as "spectra.spectrum"; matplotlib is loaded only now."""
    module, _, function = name.partition(".")
    return getattr(import_module(f"ctsa.plot.{module}"), function)


class Result:
    """Base of all results: frozen dataclasses whose fields are arrays, numbers, strings, or dicts of these.

    In JAX they are pytrees, with every field a child except those named in ``_static``. ``_dims`` names the axes of
    every array; ``"..."`` stands for the batch axes, which otherwise follow the first axis.
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
            OSError: the folder does not exist or cannot be written (FileNotFoundError, NotADirectoryError, ...).
            TypeError: ``path`` is not a path.
        """
        path = archive(path)
        arrays: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, dict):
                plain = {k: as_numpy(v) for k, v in value.items()}
                values[f.name] = {
                    k: v.tolist() if isinstance(v, np.generic | np.ndarray) else v for k, v in plain.items()
                }
            elif framework(value) is not None and not isinstance(value, np.bool_ | np.integer | np.floating):
                arrays[f.name] = as_numpy(value)
            else:
                value = value.item() if isinstance(value, np.generic) else value
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

    def _axes_of(self, name: str, ndim: int, outer: list[str]) -> list[str]:
        """Return a name for every axis of the array field ``name``; ``outer`` are those that ``jax.vmap`` has added."""
        names = self._dims.get(name, ())
        names = names if "..." in names or not names else (names[0], "...", *names[1:])
        spare = ndim - len(outer) - len(names) + 1
        if not names or spare < 0:
            return [f"{name}_{i}" for i in range(ndim)]
        at = names.index("...")
        return [*outer, *names[:at], *(f"batch_{i}" for i in range(spare)), *names[at + 1 :]]

    def _restored(self) -> Any:
        """Return what ``ctsa.load`` shall give back: this, unless it is how something else is kept."""
        return self

    def to_xarray(self):
        """Return an ``xarray.Dataset`` with named dimensions, such that ``.to_netcdf(path)`` can write it.

        Arrays become variables. As netCDF has no complex numbers, a complex array becomes two, ``NAME_real`` and
        ``NAME_imag``; as it has no dimensions of size 0, arrays without entries are left out, and the attribute ``empty``
        names them. All else becomes attributes: True and False as 1 and 0, lists and dicts as JSON; None is left out.

        Raises:
            ImportError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs xarray: pip install xarray") from error
        outer = [f"sample_{i}" for i in range(np.ndim(as_numpy(getattr(self, "ts", 0))) - 1)]  # made by jax.vmap
        variables: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        empty = []
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = as_numpy(getattr(self, f.name))
            entries = {str(k): as_numpy(v) for k, v in value.items()} if isinstance(value, dict) else {f.name: value}
            for name, v in entries.items():
                name = name if name not in variables and name not in attributes else f"{f.name}_{name}"
                if not isinstance(v, np.ndarray) or not (v.ndim or f.name in self._dims):
                    attributes |= {name: _attribute(v)} if v is not None else {}
                elif not v.size:
                    empty.append(name)
                else:
                    axes = outer if isinstance(value, dict) and v.ndim == len(outer) else None
                    axes = self._axes_of(name, v.ndim, outer) if axes is None else axes
                    variables |= {key: (axes, part) for key, part in _parts(name, v)}
        attributes |= {"empty": " ".join(empty)} if empty else {}
        data = xarray.Dataset(variables, attrs=attributes)
        return data.set_coords("ts") if "ts" in variables else data


_LARGEST = 2**31 - 1  # integer that classic netCDF files hold


def _parts(name: str, a: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return an array as variables of types that netCDF has."""
    if a.dtype.kind == "c":
        return [(f"{name}_real", a.real), (f"{name}_imag", a.imag)]
    if a.dtype.kind == "f" and a.dtype.itemsize not in (4, 8):
        a = a.astype(np.float32 if a.dtype.itemsize < 4 else np.float64)
    if a.dtype.kind in "iu" and max(int(a.max()), -int(a.min())) > _LARGEST:
        a = a.astype(np.float64)
    return [(name, a.astype(str) if a.dtype.kind == "O" else a)]


def _attribute(value: Any) -> Any:
    """Return a value as an attribute that netCDF can hold: a number or a string."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) and not np.ndim(value) else value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else float(value)
    if isinstance(value, float | str):
        return value
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    value = as_numpy(value)
    if np.iscomplexobj(value):
        return [np.asarray(value).real.tolist(), np.asarray(value).imag.tolist()]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _short(value: Any) -> str:
    """Return a count or a size as text; of several runs, the least and the largest."""
    if np.ndim(value) and framework(value) is not None:
        values = value if isinstance(value, np.ndarray) else backend(value).concrete(value)
        if values is None:
            return f"(traced {tuple(value.shape)})"
        low, high = _short(values.min().item()), _short(values.max().item())
        return low if low == high else f"{low}...{high}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class Trajectory(Result):
    """States along a flow or through layers.

    ``len(traj)`` is the number of states; ``traj[:50]``, ``traj[::2]`` and ``traj[[0, 10]]`` are trajectories of some of
    them, ``traj[-1]`` is one of a single state (``traj.xs[-1]`` is that state itself). ``stats`` stay those of the run.

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

    def __len__(self) -> int:
        return int(np.shape(self.ts)[-1])

    def __getitem__(self, index: Any) -> "Trajectory":
        count = len(self)
        try:
            kept = np.atleast_1d(np.arange(count)[index])
            fits = kept.ndim == 1
        except IndexError:
            fits = False
        if not fits:
            wanted = f"an integer from {-count} to {count - 1}, a slice, or a list of these"
            raise IndexError(f"index must be {wanted}, for the {count} states, got {index!r}: for tokens index .xs")
        if not len(kept):
            raise IndexError(f"index leaves none of the {count} states, got {index!r}")
        where: Any = index
        if not isinstance(index, slice):
            where = slice(kept[0], kept[0] + 1) if len(kept) == 1 else kept
        rows = (*[slice(None)] * (np.ndim(self.ts) - 1), where)  # axes that jax.vmap has added come first
        return dataclasses.replace(self, ts=self.ts[rows], xs=self.xs[rows])

    def __iter__(self) -> Iterator["Trajectory"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a Trajectory is not an array: take its .xs, or .xs[-1] for the last state")

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={_short(v)}" for k, v in self.stats.items())
        return f"Trajectory(xs: {tuple(self.xs.shape)}, {shown})"

    def plot(self, ax=None, **kwargs):
        """Draw the tokens' paths (circle, sphere, or leading principal plane) and return the ``Axes``."""
        return picture("tokens.trajectory")(self, ax=ax, **kwargs)
