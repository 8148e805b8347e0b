"""What the commands share that needs no packages of their own: failures in one line, what is installed, where to write."""

import contextlib
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

NEEDS = {"torch": ("torch", "torchdiffeq"), "jax": ("jax", "equinox", "diffrax", "optimistix", "lineax")}


class WrongUse(Exception):
    """What the user asked for cannot be: exit status 2."""


def fail(message: str, status: int = 2, name: str = "ctsa") -> int:
    """Print a message in one line on stderr and return the exit status."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return status


def need_settings() -> None:
    """Raise WrongUse unless what checks settings is installed."""
    if missing("pydantic"):
        raise WrongUse("training needs pydantic: pip install 'ctsa[training]'")


def missing(*packages: str) -> list[str]:
    """Return those packages that are not installed, without importing any."""
    return [name for name in packages if find_spec(name) is None]


def installed() -> list[str]:
    """Return the backends that are installed."""
    return [name for name, packages in NEEDS.items() if not missing(*packages)]


def backend_to_use(wanted: str | None, training: bool = False) -> str:
    """Return the backend that was asked for, or the first that is installed.

    Raises:
        WrongUse: it is not installed, or, for training, a package that it needs.
    """
    here = installed()
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


def ready(backend: str, dtype: str = "float64") -> None:
    """Have JAX count in 64 bits where that is wanted, and keep what it compiles for the next command."""
    if backend == "jax":
        import jax

        keep_compiled()
        if dtype == "float64":
            jax.config.update("jax_enable_x64", True)


def keep_compiled() -> None:
    """Have JAX keep what it compiles for the next command, unless the user has set a folder, or there is none."""
    import jax

    from ctsa.jax import keep_compiled as keep

    if jax.config.jax_compilation_cache_dir is None:
        with contextlib.suppress(OSError):
            keep()
