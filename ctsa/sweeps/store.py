"""The Zarr store of a sweep: a chunk a block of points, written by whoever has run it; ``done`` comes last.

Whatever is killed at whatever moment, every array is whole: chunks appear under their names when they are complete, a
point counts once ``done`` says so, and the layout counts once the attributes of the group say so.
"""

import contextlib
import datetime
import functools
import json
import os
import platform
import shutil
import sys
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ctsa.results.npz import sweep as sweep_parts

from .grid import Axis, Region, slices
from .layout import NOTHING, Block, Layout, read as read_layout, written

FORMAT = 1
ENTRY = "sweep"  # the attribute of the group that says what else is needed to go on
NAME = "sweep.zarr"


class StoreError(OSError):
    """A sweep's file could not be written or read."""


def need() -> None:
    """Raise ImportError unless what stores need is installed."""
    for package in ("xarray", "zarr"):
        try:
            __import__(package)
        except ImportError as error:
            raise ImportError("sweeps need xarray and zarr: pip install 'ctsa[runs]'") from error


def place(out: Any) -> Path:
    """Return the path of the store: ``out`` itself if it ends with ``.zarr``, otherwise ``sweep.zarr`` in that folder.

    Raises:
        TypeError: it is no path.
        OSError: the folder cannot be made.
    """
    if not isinstance(out, str | os.PathLike):
        raise TypeError(f"out must be a string or a pathlib.Path, got {type(out).__name__}")
    path = Path(out).absolute()
    path = path if path.suffix == ".zarr" else path / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(error.errno, f"out: the folder {path.parent} cannot be made ({error.strerror})") from error
    return path


def _saying(path: Path) -> Callable[[OSError], StoreError]:
    def said(error: OSError) -> StoreError:
        return StoreError(
            error.errno,
            f"{path} could not be written ({error.strerror or error}); what is in it can be read, and the same call "
            "goes on from there",
        )

    return said


class Store:
    """A sweep on the disk.

    Attributes:
        path: the store, a folder that ends with ``.zarr``.
        axes: parameters with their coordinates; those that a refinement has added come last.
        block: the shape of a block of points; None until that is known.
        layout: the variables; None until a point is done.
        identity: which sweep this is.
        base: how many values every parameter had before refinements.
        plan: of every round of refinement the points that it has added.
        settings: of the frameworks, under which it was begun.
    """

    def __init__(self, path: Path, axes: tuple[Axis, ...], identity: str, about: dict[str, Any]):
        self.path, self.axes, self.identity, self.about = path, axes, identity, about
        self.block: tuple[int, ...] | None = None
        self.layout: Layout | None = None
        self.base = self.shape
        self.plan: list[list[tuple[int, ...]]] = []
        self.settings: dict[str, Any] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values every parameter has."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters."""
        return tuple(axis.name for axis in self.axes)

    @classmethod
    def opened(cls, path: Path) -> "Store | None":
        """Return the sweep that lies at a path, None if there is none.

        Raises:
            ValueError: something else lies there.
        """
        import zarr

        if not path.exists():
            return None
        try:
            group = zarr.open_group(path, mode="r")
            about = dict(group.attrs)
            if ENTRY not in about:
                raise ValueError("it does not say which sweep it is")
            entry = json.loads(str(about.pop(ENTRY)))
            if entry["format"] != FORMAT:
                raise ValueError(f"its format is {entry['format']}, and here {FORMAT} is read")
            axes = tuple(Axis(name, np.array(values, dtype=kind)) for name, kind, values in entry["axes"])
        except (KeyError, ValueError, OSError, TypeError) as error:
            raise ValueError(f"{path} is not a sweep of ctsa that can be read ({error}): choose another out") from error
        store = cls(path, axes, entry["identity"], about)
        store.block = None if entry["block"] is None else tuple(entry["block"])
        store.layout = None if entry["layout"] is None else read_layout(entry["layout"])
        store.base, store.settings = tuple(entry["base"]), entry.get("settings", {})
        store.plan = [[tuple(index) for index in points] for points in entry["plan"]]
        return store

    def create(self) -> None:
        """Make the store, with its coordinates only; it appears at once."""
        import zarr

        sweep_parts(self.path)
        new = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}.part")
        with self._writing():
            group = zarr.open_group(new, mode="w")
            self._coordinates(group)
            group.attrs.update({**self.about, ENTRY: self._entry()})
            os.replace(new, self.path)

    def set_block(self, block: tuple[int, ...]) -> None:
        """Say how many points a chunk holds, and make ``error`` and ``done``."""
        with self._writing():
            group = self._group()
            for name, kind, nothing in (("error", str, ""), ("done", bool, False)):
                self._array(group, name, kind, nothing, (), (), block)
            self.block = block
            group.attrs[ENTRY] = self._entry()

    def set_layout(self, layout: Layout) -> None:
        """Make the variables."""
        assert self.block is not None
        with self._writing():
            group = self._group()
            for v in layout:
                kind: Any = str if v.kind == "text" else v.kind
                self._array(group, v.name, kind, NOTHING[v.kind], v.dims, v.shape, self.block)
            self.layout = layout
            group.attrs[ENTRY] = self._entry()

    def grow(self, axes: tuple[Axis, ...], points: list[tuple[int, ...]]) -> None:
        """Begin a round of refinement: axes that may be longer than they were, and the points that it adds."""
        with self._writing():
            group = self._group()
            self.axes, self.plan = axes, [*self.plan, points]
            self._fit(group)
            group.attrs[ENTRY] = self._entry()

    def repair(self) -> None:
        """Undo what a process that was killed has left half done."""
        for scrap in self.path.rglob("*.partial"):
            with contextlib.suppress(OSError):
                scrap.unlink()
        with self._writing():
            self._fit(self._group())

    def _fit(self, group: Any) -> None:
        """Bring all arrays to the length of the axes."""
        for name in ("error", "done", *(v.name for v in self.layout or ())) if self.block is not None else ():
            shape = (*self.shape, *group[name].shape[len(self.axes) :])
            if group[name].shape != shape:
                group[name].resize(shape)
        for axis in self.axes:
            array = group[axis.name]
            if array.shape != axis.coordinates.shape:
                array.resize(len(axis))
                array[:] = axis.coordinates

    def wanted(self) -> np.ndarray:
        """Return which points the sweep has: those of the grid, and those that were added."""
        wanted = np.zeros(self.shape, bool)
        wanted[tuple(slice(size) for size in self.base)] = True
        for index in (index for points in self.plan for index in points):
            wanted[index] = True
        return wanted

    def marks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which points have been run, and which of them failed."""
        if self.block is None:
            return np.zeros(self.shape, bool), np.zeros(self.shape, bool)
        group = self._group("r")
        done = np.asarray(group["done"][...])
        return done, done & (np.asarray(group["error"][...]).astype(object) != "")

    def values(self, name: str) -> np.ndarray:
        """Return a variable of all points."""
        return np.asarray(self._group("r")[name][...])

    def _array(self, group: Any, name: str, kind: Any, nothing: Any, dims: Any, shape: Any, block: Any) -> None:
        group.create_array(
            name, shape=(*self.shape, *shape), dtype=kind, fill_value=nothing,
            chunks=tuple(max(1, size) for size in (*block, *shape)), dimension_names=(*self.names, *dims), overwrite=True,
        )  # fmt: skip

    def _coordinates(self, group: Any) -> None:
        for axis in self.axes:
            kind: Any = str if axis.coordinates.dtype.kind == "U" else axis.coordinates.dtype
            data = axis.coordinates.astype(object) if kind is str else axis.coordinates
            array = group.create_array(
                axis.name, shape=data.shape, dtype=kind, chunks=data.shape, dimension_names=(axis.name,), overwrite=True
            )
            array[:] = data

    def _entry(self) -> str:
        entry = {
            "format": FORMAT,
            "identity": self.identity,
            "axes": [(axis.name, axis.coordinates.dtype.str, axis.coordinates.tolist()) for axis in self.axes],
            "block": self.block,
            "layout": None if self.layout is None else written(self.layout),
            "base": self.base,
            "plan": self.plan,
            "settings": self.settings,
        }
        return json.dumps(entry)

    def _group(self, mode: Any = "r+") -> Any:
        import zarr

        return zarr.open_group(self.path, mode=mode)

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            raise _saying(self.path)(error) from error


@dataclass(frozen=True)
class Setting:
    """What all tasks have in common: small, as it goes with each of them.

    Attributes:
        path: the store.
        names: the parameters.
        shape: how many values each of them has.
        layout: the variables, None if these are not known yet.
        batched: whether the function takes several points at once.
        key: of what the workers have been given.
    """

    path: Path
    names: tuple[str, ...]
    shape: tuple[int, ...]
    layout: Layout | None
    batched: bool
    key: str


@functools.lru_cache(maxsize=4)
def _arrays(path: Path, names: tuple[str, ...], shape: tuple[int, ...], key: str) -> dict[str, Any]:
    """Open arrays once a process and call; a refinement lets their shape grow."""
    import zarr

    group = zarr.open_group(path, mode="r+")
    return {name: group[name] for name in names}


def _of(setting: Setting, block: Block) -> dict[str, Any]:
    return _arrays(setting.path, (*block.arrays, "error", "done"), setting.shape, setting.key)


def load_block(setting: Setting, region: Region) -> Block:
    """Return a block with what the store has of it."""
    block = Block(region, setting.layout)
    arrays, inside = _of(setting, block), slices(region)
    block.done[...] = arrays["done"][inside]
    if block.done.any():
        block.error[...] = arrays["error"][inside].astype(object)
        for variable in block.layout:
            block.arrays[variable.name][...] = np.asarray(arrays[variable.name][inside]).astype(variable.dtype)
    return block


def write_block(setting: Setting, block: Block) -> None:
    """Write a block: variables, then errors, then what is done.

    Raises:
        StoreError: that is not possible.
    """
    try:
        arrays, inside = _of(setting, block), slices(block.region)
        for name, values in (*block.arrays.items(), ("error", block.error), ("done", block.done)):
            arrays[name][inside] = values
    except OSError as error:
        raise _saying(setting.path)(error) from error


def about(function: Any) -> dict[str, str]:
    """Return where a sweep comes from, for its attributes."""
    import ctsa

    while hasattr(function, "func") and not hasattr(function, "__qualname__"):
        function = function.func
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    loaded = {str(package): version(package) for package in ("numpy", "torch", "jax") if package in sys.modules}
    begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "title": f"sweep of {name}", "function": f"{module}.{name}", "ctsa": ctsa.__version__,
        "python": platform.python_version(), **loaded, "begun": begun,
    }  # fmt: skip


def read(out: str | os.PathLike) -> Any:
    """Open a sweep, finished or not: an ``xarray.Dataset`` whose numbers are read from the disk when they are used.

    Axes of numbers are in ascending order where a refinement has added to them.

    Args:
        out: the folder that ``ctsa.sweep`` was given, or the store itself.

    Raises:
        FileNotFoundError: there is no sweep.
        ValueError: what lies there is none.
        ImportError: xarray or zarr is not installed.

    Example:
        >>> import tempfile, ctsa
        >>> folder = tempfile.mkdtemp()
        >>> done = ctsa.sweep(lambda beta: beta**2, {"beta": [1.0, 2.0]}, folder, workers=0)
        >>> ctsa.sweeps.read(folder).value.values.tolist()
        [1.0, 4.0]
    """
    need()
    import xarray

    if not isinstance(out, str | os.PathLike):
        raise TypeError(f"out must be a string or a pathlib.Path, got {type(out).__name__}")
    path = Path(out).absolute()
    path = path if path.suffix == ".zarr" else path / NAME
    store = Store.opened(path)
    if store is None:
        raise FileNotFoundError(f"out: no sweep at {path}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at")  # half a file that a killed process has left
        data = xarray.open_zarr(path, consolidated=False, chunks=None)
    data.attrs.pop(ENTRY)
    data = data.assign_coords({axis.name: axis.coordinates for axis in store.axes})
    if store.block is None:  # nothing has been run
        data["error"] = store.names, np.full(store.shape, "", dtype=object)
        data["done"] = store.names, np.zeros(store.shape, dtype=bool)
    data = data[[*(v.name for v in store.layout or ()), "error", "done"]]
    for name, variable in data.data_vars.items():
        if variable.dtype.kind in "TO":  # netCDF and others know Python's str
            data[name] = (variable.dims, np.asarray(variable.values).astype(object))
    for axis in store.axes:
        if store.plan and axis.coordinates.dtype.kind in "if":
            data = data.sortby(axis.name)
    return data


def remove(path: Path) -> None:
    """Remove a folder that a sweep made for itself."""
    shutil.rmtree(path, ignore_errors=True)
