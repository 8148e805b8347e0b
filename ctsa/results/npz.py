"""Files of ours: ``.npz`` archives with a JSON header, which appear whole or not at all."""

import contextlib
import glob
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .values import encode

FORMAT = 2  # of files; raised when what they hold can no longer be read by an older version, or here


def archive(path: str | os.PathLike, name: str = "path", endings: tuple[str, ...] = (".npz",)) -> Path:
    """Return a path to write to, with one of the endings, or ``.npz`` in addition; its folder must exist."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a string or a pathlib.Path, got {type(path).__name__}")
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(f"{name} must name a file, got {str(path)!r}")
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is a file, not a folder: {path} cannot be written")
    if not path.parent.exists():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it before writing {path.name}")
    return path if path.suffix in endings else path.with_name(path.name + ".npz")


def sweep(path: Path, older: float = 60.0) -> None:
    """Remove what killed processes left half written beside ``path``, ``older`` seconds ago or more."""
    for part in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 32}.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > older:
                part.unlink()


def write(path: Path, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write a header and arrays to a file, see ``replacing``.

    Raises:
        OSError: the file cannot be written.
        TypeError: the header holds what JSON cannot say.
    """
    text = np.frombuffer(json.dumps(header, default=encode).encode(), dtype=np.uint8)
    with replacing(path) as stream:
        np.savez(stream, __header__=text, **arrays)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` to be written, bring it on to the disk, and only then give it that name.

    Whatever happens on the way (a full disk, an interrupt, no power), ``path`` holds all that it held before, or all
    that it is to hold.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    stream = open(temporary, "xb")  # not tempfile: its files are readable by their owner only
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError, AttributeError):  # the new name, too; not every system opens folders
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
