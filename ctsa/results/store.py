"""Results in Zarr v3: a group a result, arrays with named axes and units, read whole or opened lazily."""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .npz import FORMAT
from .values import decode, encode

HEADER = "ctsa"  # the attribute of a group that says which result it holds
SUFFIX = ".zarr"


def zarr() -> Any:
    """Return the module zarr.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImportError("a Zarr store needs zarr: pip install 'ctsa[runs]'") from error
    return zarr


def write_group(path: Path, result: Any) -> None:
    """Write a result as the group ``path``, which appears whole or not at all; one that is there is replaced.

    The group is a Zarr store of its own, and a part of the one that a folder above holds. ``xarray.open_zarr(path,
    consolidated=False)`` opens it, ``xarray.open_datatree(path, engine="zarr", consolidated=False)`` one that holds
    results.

    Raises:
        FileExistsError: what is there is no result.
        OSError: it cannot be written.
        ImportError: zarr is not installed.
        TypeError: the result holds what no file keeps.
    """
    arrays: dict[str, Any] = {}
    text = header_of(result, arrays)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        group = zarr().open_group(str(temporary), mode="w", zarr_format=3)
        _write_nodes(group, result, arrays)
        group.attrs[HEADER] = text
        _put_in_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def header_of(result: Any, arrays: dict[str, Any]) -> str:
    """Return the attribute ``HEADER`` of a result, whose arrays join ``arrays``.

    Raises:
        TypeError: the result holds what no file keeps.
    """
    header = {"ctsa": FORMAT, "home": type(result).__module__, **result._packed(arrays), "names": list(arrays)}
    return json.dumps(header, default=encode)


def read_group(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays, as NumPy, of the result that the group ``path`` holds; ``ctsa.load`` makes it.

    Raises:
        ValueError: it holds none, is damaged, or comes from another version.
        ImportError: zarr, or what the result needs, is not installed.
    """
    try:
        group = zarr().open_group(str(path), mode="r")
        header = json.loads(group.attrs[HEADER], object_hook=decode)
        arrays = {name: np.asarray(group[_place(name)][...]) for name in header.pop("names")}
        arrays = {name: _text(a) if a.dtype.kind in "OT" else a for name, a in arrays.items()}
    except ImportError:
        raise
    except Exception as error:  # whatever Zarr and its codecs raise at what is not theirs
        raise ValueError(f"{path} is not a store of ctsa, or is damaged: {error!r:.200}") from None
    return header, arrays


def is_group(path: Path) -> bool:
    """Tell whether a folder is a Zarr group that holds a result."""
    try:
        return HEADER in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _put_in_place(new: Path, path: Path) -> None:
    """Give a folder its name; the result that had that name is moved away first, and then removed."""
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    if path.exists():
        if not path.is_dir() or (any(path.iterdir()) and not is_group(path)):
            raise FileExistsError(f"{path} exists and is no result of ctsa, which alone is replaced: choose another name")
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _write_nodes(group: Any, result: Any, arrays: dict[str, Any]) -> None:
    axes = dict(_axes(result))
    for name, a in arrays.items():
        dims = axes.get(name, [f"{name.rpartition('.')[2]}_{i}".replace("/", "_") for i in range(np.ndim(a))])
        text = np.asarray(a).dtype.kind in "OUS"
        made = group.create_array(
            _place(name), shape=np.shape(a), dtype="str" if text else np.asarray(a).dtype, dimension_names=dims,
            chunks=_chunks(np.shape(a), np.asarray(a).dtype.itemsize), fill_value=None,
            attributes={"units": unit} if (unit := _unit(result, name)) else {},
        )  # fmt: skip
        if np.size(a):
            made[...] = np.asarray(a).astype(object) if text else np.asarray(a)


def _text(a: np.ndarray) -> np.ndarray:
    return np.array(a.tolist(), dtype=str).reshape(a.shape)


def _place(name: str) -> str:
    return name.replace(".", "/")


def _chunks(shape: tuple[int, ...], itemsize: int, size: int = 4 * 2**20) -> tuple[int, ...]:
    """Return chunks of about ``size`` bytes, cut along the leading axes."""
    chunks = [max(1, n) for n in shape]
    for i in range(len(chunks)):
        rest = itemsize * int(np.prod(chunks[i:], dtype=float))
        if rest <= size:
            break
        chunks[i] = max(1, int(chunks[i] * size // rest))
    return tuple(chunks)


def _unit(result: Any, name: str) -> str:
    return type(result)._units.get(name, "") if "." not in name else ""


def _axes(result: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the names of the axes of every array, by the name that ``_packed`` gives it.

    Below a node, an axis of another length must have another name: a tree of xarray shares those above.
    """
    below = [
        (name, dims)
        for part, inner in result._parts().items()
        for i, each in enumerate(inner if isinstance(inner, tuple | list) else [inner])
        for name, dims in _axes(each, f"{prefix}{part}.{i}." if isinstance(inner, tuple | list) else f"{prefix}{part}.")
    ]
    taken = {axis for _, dims in below for axis in dims}
    own: dict[str, Any] = {}
    result._packed(own)
    outer = [f"sample_{i}" for i in range(np.ndim(own.get("ts", 0)) - 1)]
    for name, a in own.items():
        if "." not in name and "/" not in name:
            dims = result._axes_of(name, np.ndim(a), outer)
            yield f"{prefix}{name}", [f"{axis}_outer" if axis in taken else axis for axis in dims]
    yield from below
