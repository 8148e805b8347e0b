"""Read what results have saved."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np

from ._results import _FORMAT, Result


def load(path: str | os.PathLike) -> Result:
    """Read a result written by its ``save``: the same type, arrays as NumPy.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not one of ours, is damaged, or comes from a newer version.

    Example:
        >>> import os, tempfile, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> traj = ctsa.integrate(SelfAttention(), ctsa.random_tokens(4, 3), [0.0, 1.0])
        >>> folder = tempfile.mkdtemp()
        >>> ctsa.load(traj.save(os.path.join(folder, "run"))).xs.shape
        (2, 4, 3)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        header = json.loads(arrays.pop("__header__").tobytes())
        kind, version, values = header["kind"], header["ctsa"], header["values"]
        if version <= _FORMAT and kind in Result.kinds:
            return Result.kinds[kind](**arrays, **values)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, TypeError) as error:
        raise ValueError(f"{path} is not a file saved by ctsa, or is damaged: {error}") from error
    raise ValueError(f"{path} holds a {kind!r} of format {version}: it comes from a newer version of ctsa")
