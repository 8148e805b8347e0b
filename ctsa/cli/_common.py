"""What the commands share: a parser with short errors, failures in one line, what is installed, where to write."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

NEEDS = {"torch": ("torch", "torchdiffeq"), "jax": ("jax", "equinox", "diffrax", "optimistix", "lineax")}


class Parser(argparse.ArgumentParser):
    """A parser that tells wrong use in one line."""

    def error(self, message: str):
        """Say what is wrong, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class WrongUse(Exception):
    """What the user asked for cannot be: exit status 2."""


def fail(message: str, status: int = 2) -> int:
    """Print a message in one line on stderr and return the exit status."""
    print(f"ctsa: {' '.join(message.split())}", file=sys.stderr)
    return status


def at_least(low: int) -> Callable[[str], int]:
    """Return the type of an option that is an integer of at least ``low``."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(f"wanted an integer of at least {low}, got {text!r}")
        return int(text)

    return read


def need_settings() -> None:
    """Raise WrongUse unless what checks settings is installed."""
    if missing("pydantic"):
        raise WrongUse("training needs pydantic: pip install 'ctsa[training]'")


def missing(*packages: str) -> list[str]:
    """Return those packages that are not installed, without importing any."""
    return [name for name in packages if find_spec(name) is None]


def backend_to_use(wanted: str | None, training: bool = False) -> str:
    """Return the backend that was asked for, or the first that is installed.

    Raises:
        WrongUse: it is not installed, or, for training, a package that it needs.
    """
    here = [name for name, packages in NEEDS.items() if not missing(*packages)]
    backend = wanted or (here[0] if here else "torch")
    if backend not in here:
        raise WrongUse(f"the {backend} backend is not installed: pip install 'ctsa[{backend}]'")
    extra = ("safetensors", "optax") if backend == "jax" else ("safetensors",)
    lacking = missing("pydantic", *extra) if training else []
    if lacking:
        raise WrongUse(f"training needs {' and '.join(lacking)}: pip install 'ctsa[training]'")
    return backend


def folder_to_write(folder: Path) -> None:
    """Make a folder, and see that files can be written into it.

    Raises:
        WrongUse: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WrongUse(f"--out {folder}: {error.strerror or error}") from error


def keep_compiled() -> None:
    """Have JAX keep what it compiles for the next command, unless the user has set a folder, or there is none."""
    import jax

    from ctsa.jax import keep_compiled as keep

    if jax.config.jax_compilation_cache_dir is None:
        with contextlib.suppress(OSError):
            keep()
