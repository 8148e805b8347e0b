"""Read the files of a model folder: configuration, tensors, tokenizer. Nothing here runs code that a file brings.

``safetensors``, ``tokenizers`` and, for ``.bin`` files alone, ``torch`` are imported when a folder is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
# In order of preference: whole, in shards, and the same as pickles.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
INSTALL_READERS = "pip install 'ctsa[pretrained]'"
_INSTALL = {"torch": "pip install 'ctsa[torch]'", "transformers": "pip install transformers"}


class WeightsNotFound(FileNotFoundError):
    """Say that the weights of a model are not where they were looked for.

    A ``FileNotFoundError``, because what is missing is data on the disk: the code runs with any other folder,
    and one ``except`` covers the absent package, the absent folder and the absent file. A missing *reader*
    (``safetensors``, ``tokenizers``) is an ``ImportError``.
    """


def reader(name: str, purpose: str = "reading a model") -> Any:
    """Import a package that only this needs, or say how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        root = name.partition(".")[0]
        raise ImportError(f"{purpose} needs {root}; run: {_INSTALL.get(root, INSTALL_READERS)}") from error


def require_files(folder: Path) -> None:
    """Raise WeightsNotFound unless the folder has a configuration and weights in one of the known files."""
    missing = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any((folder / name).is_file() for name in WEIGHTS):
        missing.append(f"weights ({' or '.join(WEIGHTS)})")
    if missing:
        raise WeightsNotFound(f"{folder}: {' and '.join(missing)} not found")


# ---------------------------------------------------------------------------------------------------- configuration
def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object, got {type(content).__name__}")
    return content


class Config:
    """A configuration whose entries are checked as they are asked for; errors name the file and the key."""

    def __init__(self, folder: Path):
        self.path = folder / CONFIG
        self.entries = _read_json(self.path)

    def require(self, key: str, wanted: object) -> None:
        """Raise unless the entry is absent or as wanted."""
        if self.entries.get(key, wanted) != wanted:
            raise ValueError(f"{self.path}: {key} {self.entries[key]!r} is not supported; supported: {wanted!r}")

    def choice(self, key: str, allowed: Any, default: str | None = None) -> str:
        """Return an entry that is one of the allowed words."""
        value = self.entries.get(key, default)
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{self.path}: {key} {value!r} is not supported; supported: {', '.join(sorted(allowed))}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """Return an entry that is a positive integer; null counts as absent."""
        came = self.entries.get(key)
        value = default if came is None else came
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            shown = repr(value) if key in self.entries else "nothing"
            raise ValueError(f"{self.path}: {key} must be a positive integer, got {shown}")
        return value

    def first(self, key: str, default: int) -> int:
        """Return an entry that is an integer of at least zero."""
        value = self.entries.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{self.path}: {key} must be an integer >= 0, got {value!r}")
        return value

    def size(self, key: str, default: float) -> float:
        """Return an entry that is a number of at least zero."""
        value = self.entries.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ValueError(f"{self.path}: {key} must be a number >= 0, got {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return an entry that is true or false."""
        value = self.entries.get(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.path}: {key} must be true or false, got {value!r}")
        return value


# ---------------------------------------------------------------------------------------------------------- tensors
def _plain_name(name: str, prefix: str) -> str:
    """The name in today's files: no prefix of a larger model, LayerNorm.weight for LayerNorm.gamma."""
    name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _shards(index: Path) -> list[Path]:
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
        raise ValueError(f"{index}: weight_map must be an object from tensors to files, got {names!r:.60}")
    files = sorted(set(names.values()))
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise ValueError(f"{index}: it must name files beside it, got {outside[0]!r}")
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise WeightsNotFound(f"{index.parent}: {' and '.join(missing)} not found, named by {index.name}")
    return [index.parent / name for name in files]


def _stored_names(path: Path) -> list[str]:
    """Return the names of the tensors of a model, as they are stored; none of a pickle, which is not opened twice."""
    if path.suffix == ".json":
        return list(_read_json(path)["weight_map"])
    if path.suffix != ".safetensors":
        return []
    try:
        with reader("safetensors").safe_open(str(path), framework="np") as file:
            return list(file.keys())
    except ImportError:
        raise
    except Exception as error:  # a damaged header, a truncated file
        raise ValueError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error


def _prefix(stored: list[str], wanted: str, usual: str) -> str:
    """Return what stands before the names that are wanted: nothing, the usual prefix, or the shortest there is."""
    names = {_plain_name(name, "") for name in stored}
    if not names or wanted in names or usual + wanted in names:
        return usual
    return min((name[: -len(wanted)] for name in names if name.endswith("." + wanted)), key=len, default=usual)


def _from_safetensors(path: Path, prefix: str, wanted: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    safetensors = reader("safetensors")
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            for stored in file.keys():
                name = _plain_name(stored, prefix)
                if name in wanted:
                    brain = file.get_slice(stored).get_dtype() == "BF16"
                    yield name, _bfloat16(path, stored) if brain else file.get_tensor(stored)
    except Exception as error:  # a damaged header, a truncated file, a type that NumPy lacks
        raise ValueError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error


def _bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Widen a tensor of a type that NumPy lacks: bfloat16 is the upper half of float32."""
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + header + begin)
        upper = np.frombuffer(file.read(end - begin), dtype="<u2")
    return (upper.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _from_pickle(path: Path, prefix: str, wanted: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    torch = reader("torch", f"reading {path.name}")
    try:
        stored = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: refused: it is damaged, or holds more than tensors, and opening such a file could run code "
            f"({type(error).__name__}). It is opened with weights_only=True and in no other way; use a file in the "
            "safetensors format"
        ) from error
    if not isinstance(stored, dict):
        raise ValueError(f"{path} must be a dict of tensors, got {type(stored).__name__}")
    for key, tensor in stored.items():
        name = _plain_name(key, prefix) if isinstance(key, str) else key
        if name in wanted:
            if not isinstance(tensor, torch.Tensor):
                raise ValueError(f"{path}: {key} must be a tensor, got {type(tensor).__name__}")
            tensor = tensor.detach()
            yield name, (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()


def read_tensors(folder: Path, shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, NDArray[Any]]:
    """Read the tensors named in ``shapes``, in the types of the file, from the first kind of file that is there.

    Raises:
        ImportError: a package that this kind of file needs is missing.
        WeightsNotFound: a shard is missing.
        ValueError: a file cannot be read or is refused; a tensor is missing, has another shape, or is not finite.
    """
    path = next(folder / name for name in WEIGHTS if (folder / name).is_file())
    files = _shards(path) if path.suffix == ".json" else [path]
    prefix = _prefix(_stored_names(path), next(iter(shapes)), prefix)
    tensors: dict[str, NDArray[Any]] = {}
    for file in files:
        read = _from_safetensors if file.suffix == ".safetensors" else _from_pickle
        tensors.update(read(file, prefix, shapes))
    absent = [name for name in shapes if name not in tensors]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ValueError(f"{path}: tensor {absent[0]}{more} missing; is this the model of config.json beside it?")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ValueError(f"{path}: tensor {name} must have shape {shape}, got {tensor.shape}")
        if tensor.dtype.kind != "f":
            raise ValueError(f"{path}: tensor {name} must be floating, got {tensor.dtype}")
        if not np.isfinite(tensor).all():
            raise ValueError(f"{path}: tensor {name} holds NaN or infinite numbers")
    return tensors


# -------------------------------------------------------------------------------------------------------- tokenizer
def read_tokenizer(folder: Path) -> Any:
    """Read the tokenizer, neither padding nor cutting off; None where the folder has none."""
    path = folder / TOKENIZER
    if not path.is_file():
        return None
    tokenizers = reader("tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"{path}: cannot be read ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
