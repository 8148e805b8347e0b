"""What analyses return: plain immutable values that save, load, plot and convert themselves."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ctsa._backend import backend, framework

from .labelled import labelled
from .npz import FORMAT as FORMAT, archive as archive, write
from .store import SUFFIX, write_group
from .text import lines
from .values import as_numpy as as_numpy


def picture(name: str) -> Callable[..., Any]:
    """Return a drawing function of ``ctsa.plot``, such as "spectra.spectrum"; matplotlib is loaded only now."""
    module, _, function = name.partition(".")
    return getattr(import_module(f"ctsa.plot.{module}"), function)


class Result:
    """Base of all results: frozen dataclasses of arrays, numbers, text, geometries, dicts of these, and other results.

    A field may hold one result or a tuple of them. In JAX results are pytrees, with every field a child except those
    named in ``_static``. ``_dims`` names the axes of every array; ``"..."`` stands for the batch axes, which otherwise
    follow the first axis. ``_code`` names the fields that hold fields and layers: they are code, which no file keeps,
    and come back as None. ``_tables`` names the dicts that hold arrays and nothing else, which files keep as such.
    ``_units`` are those of arrays that have some.
    ``_derived`` says what a table of many results has beside the fields: a name, the attribute, and its axes.
    """

    kinds: ClassVar[dict[str, type["Result"]]] = {}
    _static: ClassVar[tuple[str, ...]] = ()
    _code: ClassVar[tuple[str, ...]] = ()
    _tables: ClassVar[tuple[str, ...]] = ()
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {}
    _units: ClassVar[dict[str, str]] = {}
    _derived: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {}

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

        A path that ends in ``.zarr`` gets a Zarr v3 store instead, a folder with named axes and units, which
        ``xarray.open_zarr(path, consolidated=False)`` opens lazily. Either appears whole or not at all: a full disk or an
        interrupt leaves an older one as it was.

        Returns:
            The path written, with its ending.

        Raises:
            OSError: the folder does not exist or cannot be written (FileNotFoundError, NotADirectoryError, ...).
            TypeError: ``path`` is not a path.
            ImportError: zarr, for a store, is not installed.
        """
        path = archive(path, endings=(".npz", SUFFIX))
        if path.suffix == SUFFIX:
            write_group(path, self)
            return path
        arrays: dict[str, Any] = {}
        header = {"ctsa": FORMAT, "home": type(self).__module__, **self._packed(arrays)}
        write(path, header, arrays)
        return path

    def _parts(self) -> dict[str, Any]:
        """Return the fields that hold results: one, or a tuple or list of some."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in found.items() if _holds_results(value)}

    def _packed(self, arrays: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        """Return what a file's header says of this result; its arrays join ``arrays``, named ``prefix`` and the field.

        Those of results inside are called as one reaches them: ``branches.0.xs``; those of tables ``arrays/weights``.
        """
        values: dict[str, Any] = {}
        parts: dict[str, Any] = {}
        tables: dict[str, list[str]] = {}
        for name in (f.name for f in dataclasses.fields(self) if f.name not in self._code):  # type: ignore[arg-type]
            value, place = getattr(self, name), f"{prefix}{name}"
            if isinstance(value, Result):
                parts[name] = value._packed(arrays, f"{place}.")
            elif _holds_results(value) or (isinstance(value, tuple) and not value):
                parts[name] = [part._packed(arrays, f"{place}.{i}.") for i, part in enumerate(value)]
            elif name in self._tables:
                tables[name] = list(value)
                arrays.update({f"{place}/{key}": as_numpy(a) for key, a in value.items()})
            elif framework(value) is not None and not isinstance(value, np.bool_ | np.integer | np.floating):
                arrays[place] = as_numpy(value)
            else:
                values[name] = value
        more = {"tables": tables} if tables else {}
        return {"kind": type(self).__name__, "values": values, "parts": parts, **more}

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
        names them. All else becomes attributes: True and False as 1 and 0, lists and dicts as JSON, a geometry as text;
        None is left out.

        A result that holds results becomes an ``xarray.DataTree``, with a child for each, named as one reaches it:
        ``tree["branches/0"]``. It goes to netCDF by the engines that know groups, netcdf4 and h5netcdf, and to Zarr.
        Where an axis has another length inside, that of the outer result is called ``NAME_outer``.

        Raises:
            ImportError: xarray is not installed.
        """
        return labelled(self)


def _holds_results(value: Any) -> bool:
    several = isinstance(value, tuple | list) and bool(value) and all(isinstance(part, Result) for part in value)
    return several or isinstance(value, Result)


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
        stats: counts and sizes: for flows "steps", "rejected", "evaluations" and "interpolated" (outputs inside of steps;
            -1: not known), "radius_error" (largest deviation of a token's length from 1 before normalisation), "stopped"
            (whether ``until`` ended the run).
        merges: which tokens have met when, ``Merges``, of a run with ``merge=``; None of others.
    """

    ts: Any
    xs: Any
    stats: dict[str, Any]
    merges: Any = None
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"ts": ("time",), "xs": ("time", "token", "component")}
    _units: ClassVar[dict[str, str]] = {"ts": "units of time, or layers"}

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
        merges = self.merges
        if merges is not None:
            merges = dataclasses.replace(merges, labels=merges.labels[rows])
        return dataclasses.replace(self, ts=self.ts[rows], xs=self.xs[rows], merges=merges)

    def __iter__(self) -> Iterator["Trajectory"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a Trajectory is not an array: take its .xs, or .xs[-1] for the last state")

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={_short(v)}" for k, v in self.stats.items())
        return f"Trajectory(xs: {tuple(self.xs.shape)}, {shown})"

    def table(self) -> str:
        """Return the number of states, their shape, the times, and the stats as text, a line each."""
        ts = as_numpy(self.ts)
        rows = [("states", len(self)), ("shape of a state", tuple(self.xs.shape[np.ndim(ts) :]))]
        rows += [("times", f"{_short(float(ts.min()))} ... {_short(float(ts.max()))}")]
        return lines([*rows, *((str(k).replace("_", " "), _short(v)) for k, v in self.stats.items())])

    def plot(self, ax=None, **kwargs):
        """Draw the tokens' paths (circle, sphere, or leading principal plane) and return the ``Axes``."""
        return picture("tokens.trajectory")(self, ax=ax, **kwargs)

    def animate(self, path: str | os.PathLike, **kwargs: Any) -> Path:
        """Film the tokens (``.gif``, ``.mp4`` or ``.webm``), see ``ctsa.plot.animate``, and return the path."""
        return picture("film.animate")(self, path, **kwargs)
