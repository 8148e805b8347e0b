"""Read what results have saved."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .base import _FORMAT, Result


def load(path: str | os.PathLike) -> Any:
    """Read a result written by its ``save``: the same type, arrays as NumPy.

    Raises:
        FileNotFoundError: there is no such file, or it is a folder.
        ValueError: the file is not one of ours, is damaged, or comes from a newer version.

    Example:
        >>> import os, tempfile, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> traj = ctsa.integrate(SelfAttention(), ctsa.random_tokens(4, 3), [0.0, 1.0])
        >>> folder = tempfile.mkdtemp()
        >>> ctsa.load(traj.save(os.path.join(folder, "run"))).xs.shape
        (2, 4, 3)
    """
    path = _file(path)
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
        header = json.loads(arrays.pop("__header__").tobytes())
        kind, version, values = header["kind"], header["ctsa"], header["values"]
        if version <= _FORMAT and kind in Result.kinds:
            return Result.kinds[kind](**arrays, **values)._restored()
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, TypeError) as error:
        # NumPy would advise to open pickles, which may run anything.
        why = "it holds Python objects, which are not opened" if "pickle" in str(error) else error
        raise ValueError(f"{path} is not a file saved by ctsa, or is damaged: {why}") from None
    raise ValueError(f"{path} holds a {kind!r} of format {version}: it comes from a newer version of ctsa")


def _file(path: str | os.PathLike) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a pathlib.Path, got {type(path).__name__}")
    path = Path(path)
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.npz"))[:3]
        raise FileNotFoundError(
            f"{path} is a folder: name a file in it" + (f", as {', '.join(inside)}" if inside else "")
        )
    if not path.is_file():
        named = path.with_name(path.name + ".npz")
        hint = f": the folder {path.parent} does not exist" if not path.parent.is_dir() else ""
        hint = f": did you mean {named.name}?" if named.is_file() else hint
        raise FileNotFoundError(f"no such file: {path}{hint}")
    return path
