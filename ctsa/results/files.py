"""Read what results have saved."""

import json
import os
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .base import FORMAT, Result
from .store import SUFFIX, is_group, read_group
from .values import decode

RUN = "run.json"  # what makes a folder one of a run, see ``ctsa.runs``


def load(path: str | os.PathLike) -> Any:
    """Read a result written by its ``save``: the same type, arrays as NumPy; or open the folder of a run.

    A run of the command line, or of ``ctsa.runs``, comes back as a ``ctsa.runs.Run``, which reads its results when they are
    asked for.

    Raises:
        FileNotFoundError: there is no such file, or it is a folder of something else.
        ValueError: the file is not one of ours, is damaged, or comes from a newer version.
        ImportError: what it holds needs a package that is not installed.

    Example:
        >>> import os, tempfile, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> traj = ctsa.integrate(SelfAttention(), ctsa.random_tokens(4, 3), [0.0, 1.0])
        >>> folder = tempfile.mkdtemp()
        >>> ctsa.load(traj.save(os.path.join(folder, "run"))).xs.shape
        (2, 4, 3)
    """
    path = _path(path)
    if path.is_dir():
        return _of_folder(path)
    _need_file(path)
    try:
        with open(path, "rb") as stream:
            if stream.read(2) != b"PK":
                raise ValueError("it does not begin as an .npz file does")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as data:
                if "__header__" not in data.files:
                    raise ValueError(
                        f"it has no header of ctsa, but the arrays {', '.join(data.files)}: try numpy.load"
                    )
                arrays = {name: data[name] for name in data.files}
        header = json.loads(arrays.pop("__header__").tobytes(), object_hook=decode)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, TypeError, AttributeError, RuntimeError) as error:
        raise _damaged(path, error) from None
    return unpacked(header, arrays, path)


def unpacked(header: dict[str, Any], arrays: dict[str, np.ndarray], path: Path) -> Any:
    """Return the result that a header and arrays describe, which were read from ``path``.

    Raises:
        ValueError: they fit no result of this version.
        ImportError: it needs a package that is not installed.
    """
    try:
        version = header["ctsa"]
        _bring(header)
        newer = version > FORMAT or not _kinds(header) <= Result.kinds.keys()
        if version == FORMAT and not newer:
            return _unpacked(header, arrays)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None
    age = "a newer version of ctsa" if newer else "an older version of ctsa, whose files are no longer read"
    raise ValueError(f"{path} holds a {header['kind']!r} of format {version}: it comes from {age}")


def _damaged(path: Path, error: Exception) -> ValueError:
    # NumPy would advise to open pickles, which may run anything.
    why = "it holds Python objects, which are not opened" if "pickle" in str(error) else error
    return ValueError(f"{path} is not a file saved by ctsa, or is damaged: {why}")


def _bring(header: dict[str, Any]) -> None:
    """Import the module of ours that a result comes from, if that has not been done: not all come with ``ctsa`` itself."""
    home = str(header.get("home", ""))
    if header["kind"] not in Result.kinds and home.startswith("ctsa.") and "__" not in home:
        try:
            import_module(home)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("ctsa"):  # a package that is not installed, and not a newer ctsa
                raise


def _kinds(tree: dict[str, Any]) -> set[str]:
    """Return the kinds of a result and of all results in it, by its header."""
    several = (part if isinstance(part, list) else [part] for part in tree.get("parts", {}).values())
    return {tree["kind"]}.union(*(_kinds(each) for parts in several for each in parts))


def _unpacked(tree: dict[str, Any], arrays: dict[str, np.ndarray], prefix: str = "") -> Any:
    """Return the result that a header describes; its own arrays are those whose names go on after ``prefix``."""
    kind = Result.kinds[tree["kind"]]
    values = {**dict.fromkeys(kind._code), **tree["values"]}
    for name, part in tree["parts"].items():
        place = f"{prefix}{name}."
        if isinstance(part, list):
            values[name] = tuple(_unpacked(each, arrays, f"{place}{i}.") for i, each in enumerate(part))
        else:
            values[name] = _unpacked(part, arrays, place)
    for name, keys in tree.get("tables", {}).items():
        values[name] = {key: arrays[f"{prefix}{name}/{key}"] for key in keys}
    rest = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
    return kind(**{name: a for name, a in rest.items() if not {".", "/"} & set(name)}, **values)._restored()


def _path(path: str | os.PathLike) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a pathlib.Path, got {type(path).__name__}")
    return Path(path)


def _of_folder(path: Path) -> Any:
    """Return what a folder holds: a store of a result, or a run."""
    if is_group(path):
        return unpacked(*read_group(path), path)
    if (path / RUN).is_file():
        return import_module("ctsa.runs").open_run(path)  # which stands above
    inside = sorted(p.name for p in (*path.glob("*.npz"), *path.glob(f"*{SUFFIX}")))[:3]
    raise FileNotFoundError(
        f"{path} is a folder: name a file in it" + (f", as {', '.join(inside)}" if inside else "")
    )


def _need_file(path: Path) -> None:
    if not path.is_file():
        named = path.with_name(path.name + ".npz")
        hint = f": the folder {path.parent} does not exist" if not path.parent.is_dir() else ""
        hint = f": did you mean {named.name}?" if named.is_file() else hint
        raise FileNotFoundError(f"no such file: {path}{hint}")
