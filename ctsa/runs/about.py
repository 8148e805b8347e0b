"""What a run was made with: versions, the state of the code around it, the machine."""

import hashlib
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ctsa import __version__

_OF = {
    "torch": ("torch", "torchdiffeq"),
    "jax": ("jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax"),
}
_WORDS = ("text", "inject")  # keys whose texts are for models to read, and name no files
_ALWAYS = ("numpy", "scipy", "zarr", "xarray")


def versions(backend: str) -> dict[str, str]:
    """Return the versions of Python, ctsa and what a backend computes with."""
    found = {"python": platform.python_version(), "ctsa": __version__}
    for name in (*_ALWAYS, *_OF[backend]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what computed: system, processor, cores."""
    return {"system": platform.platform(terse=True), "processor": platform.machine(), "cores": os.cpu_count()}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and whether files differ from it, for the repository that a folder lies in; None if there is none."""
    git = shutil.which("git")
    if git is None:
        return None

    def told(*words: str) -> str | None:
        try:
            done = subprocess.run(
                [git, "-C", str(folder.resolve()), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = told("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = told("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changes)}


def inputs(table: Any, folder: Path) -> dict[str, str]:
    """Return a hash of every file that a table of a config names, by its name there."""
    found: dict[str, str] = {}
    for text in _texts(table):
        path = folder / text.rpartition(":")[0] if ".npz:" in text else folder / text
        if path.is_file():
            with open(path, "rb") as stream:
                found[text] = hashlib.file_digest(stream, "blake2b").hexdigest()[:24]
    return found


def moved(table: Any, old: Path, new: Path) -> Any:
    """Return a table of a config for a file in another folder: names of files count from there."""
    if isinstance(table, dict):
        return {
            key: value if key in _WORDS else os.path.relpath(old / value, new)
            if key == "model" and isinstance(value, str) and not Path(value).is_absolute() else moved(value, old, new)
            for key, value in table.items()
        }  # fmt: skip
    if isinstance(table, list):
        return [moved(value, old, new) for value in table]
    if isinstance(table, str) and _names_a_file(table):
        path, colon, name = table.rpartition(":") if ".npz:" in table else (table, "", "")
        return table if Path(path).is_absolute() else f"{os.path.relpath(old / path, new)}{colon}{name}"
    return table


def _names_a_file(text: str) -> bool:
    return text.endswith((".npy", ".npz")) or ".npz:" in text


def _texts(table: Any) -> list[str]:
    if isinstance(table, dict):
        return [text for key, value in table.items() if key not in _WORDS for text in _texts(value)]
    if isinstance(table, list):
        return [text for value in table for text in _texts(value)]
    return [table] if isinstance(table, str) and _names_a_file(table) else []
