"""Who runs a folder: one process at a time, as the operating system knows, also when that process was killed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextlib.contextmanager
def hold(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold a folder for this process, or what in it goes by the name of a lock of its own.

    Raises:
        BlockingIOError: another one holds it.
        OSError: the folder cannot be written.
    """
    with open(folder / name, "ab") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(error.errno, f"another process is running {folder}") from None
        yield


def held(folder: Path) -> bool:
    """Tell whether a process runs a folder; where the system cannot tell, it is taken to."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
