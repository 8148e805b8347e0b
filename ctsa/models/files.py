"""Fields and models in safetensors files: arrays by their names, everything else as JSON; no pickles."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, framework
from ctsa.attention import WEIGHTS, Positions, Weights
from ctsa.fields.base import Field
from ctsa.fields.conversion import class_in
from ctsa.parts import formula_of, walk
from ctsa.results.npz import replacing
from ctsa.results.values import as_numpy, decode, encode

FORMAT = "1"
_ARRAY, _THING, _WEIGHTS, _POSITIONS = "array", "thing", "weights", "positions"


def safetensors(purpose: str) -> Any:
    """Import the NumPy side of safetensors, or say how to get it."""
    try:
        return import_module("safetensors.numpy")
    except ImportError as error:
        raise ImportError(f"{purpose} needs safetensors; run: pip install 'ctsa[training]'") from error


def arrays_of(thing: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a field, layer or model by name: ``attention.query``, ``fields.0.value``."""
    found = {".".join(map(str, path)): value for path, part, value in walk(thing) if part.is_array}
    return {name: np.array(as_numpy(value)) for name, value in found.items() if value is not None}


def write(path: str | os.PathLike, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> Path:
    """Write arrays and a header to one file, which appears whole or not at all."""
    writer, path = safetensors("writing a model"), Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it before writing {path.name}")
    metadata = {"ctsa": FORMAT, "header": json.dumps(header, default=encode)}
    plain = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    with replacing(path) as stream:
        stream.write(writer.save(plain, metadata))
    return path


def read(path: str | os.PathLike, what: str = "a file of ctsa") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and header of a file that ``write`` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of ours, or damaged.
    """
    reader, path = safetensors("reading a model"), Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    opened = import_module("safetensors")
    try:
        with opened.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        arrays = reader.load_file(path)
        header = json.loads(metadata["header"], object_hook=decode)
    except (opened.SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not {what}, or is damaged ({error})") from error
    if metadata.get("ctsa") != FORMAT:
        raise ValueError(f"{path} has format {metadata.get('ctsa')}, this version reads {FORMAT}: use a newer ctsa")
    return arrays, header


# ------------------------------------------------------------------------------------------------------- what it is made of
def _described(value: Any, arrays: dict[str, np.ndarray], place: str) -> Any:
    """Return JSON for a constructor argument; its arrays join ``arrays``."""
    formula = formula_of(type(value))
    if formula is not None and hasattr(value, "arguments"):
        _check_own(type(value))
        inner = {k: _described(v, arrays, f"{place}{k}.") for k, v in value.arguments().items()}
        return {_THING: formula.__name__, "arguments": inner}
    if isinstance(value, list):
        return [_described(v, arrays, f"{place}{i}.") for i, v in enumerate(value)]
    if isinstance(value, Weights):
        if WEIGHTS.get(value.name) != value:
            raise TypeError(f"a file keeps the weights of attention that have a name, not {value!r}: they are code")
        return {_WEIGHTS: value.name}
    if isinstance(value, Positions):
        turns = {k: _described(a, arrays, f"{place}{k}.") for k, a in value.arrays.items()}
        return {_POSITIONS: value.layout, "arguments": turns}
    if framework(value) is not None and hasattr(value, "shape"):
        arrays[place[:-1]] = np.array(as_numpy(value))
        return {_ARRAY: place[:-1]}
    return value


def _check_own(kind: type) -> None:
    """Raise if a class of the user's computes something else than the class of ours that a file names."""
    ours = next(c for c in kind.__mro__ if c.__module__.partition(".")[0] == "ctsa")
    for each in kind.__mro__[: kind.__mro__.index(ours)]:
        for name, value in vars(each).items():
            if name != "describe" and not name.startswith("__") and callable(value) and hasattr(ours, name):
                raise TypeError(f"a file keeps {ours.__name__}, not the {name} of {kind.__name__}: it is code")


def _rebuilt(entry: Any, arrays: dict[str, np.ndarray], face: Any) -> Any:
    if isinstance(entry, list):
        return [_rebuilt(each, arrays, face) for each in entry]
    if not isinstance(entry, dict):
        return entry
    if _ARRAY in entry:
        return arrays[entry[_ARRAY]]
    if _WEIGHTS in entry:
        return WEIGHTS[entry[_WEIGHTS]]
    inner = {k: _rebuilt(v, arrays, face) for k, v in entry.get("arguments", {}).items()}
    if _POSITIONS in entry:
        return Positions(**inner, layout=entry[_POSITIONS])
    name = str(entry.get(_THING))
    known = (class_in(face, f) for f in Field.__subclasses__())  # among them those of users
    kind: Any = getattr(face, name) if name in face.__all__ else next((c for c in known if c and c.__name__ == name), None)
    if not isinstance(kind, type):
        raise ValueError(f"the file holds a {name}, which {face.__name__} does not have")
    return kind(**inner)


def described(thing: Any) -> Any:
    """Return what a field or model is, but for the values of its arrays, as plain JSON."""
    return json.loads(json.dumps(_described(thing, {}, ""), default=encode))


def save(thing: Any, path: str | os.PathLike) -> Path:
    """Write a field or model of ours to a safetensors file, for either framework to read.

    Args:
        thing: a field or model of ``ctsa.torch`` or ``ctsa.jax``.
        path: of the file; "model.safetensors".

    Returns:
        The path written. The file appears whole or not at all.

    Raises:
        TypeError: it is none of ours, or has parts that are code.
        OSError: the folder does not exist or cannot be written.

    Example:
        >>> import tempfile, ctsa, ctsa.torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = ctsa.models.save(ctsa.torch.SelfAttention(beta=2.0), f"{folder}/field.safetensors")
        ...     ctsa.models.load(path, "jax").beta.item()
        2.0
    """
    if formula_of(type(thing)) is None or not hasattr(thing, "arguments") or autodiff(thing) is None:
        raise TypeError(f"thing must be a field or model of ctsa.torch or ctsa.jax, got {type(thing).__name__}")
    arrays: dict[str, np.ndarray] = {}
    return write(path, arrays, dict(model=_described(thing, arrays, "")))


def load(path: str | os.PathLike, backend: str = "torch") -> Any:
    """Read a field or model that ``save`` wrote.

    Args:
        path: of the file.
        backend: "torch" or "jax", whatever it was written from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of ours, damaged, or of a later format.

    Example:
        See ``save``.
    """
    checks.choice("backend", backend, ("torch", "jax"))
    arrays, header = read(path, "a model of ctsa")
    if "model" not in header:
        raise ValueError(f"{path} holds no model: it is {', '.join(header) or 'empty'}")
    return _rebuilt(header["model"], arrays, import_module(f"ctsa.{backend}"))
