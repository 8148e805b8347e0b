"""Matrices and vectors as a file says them: a number, a name, a literal, a file, or a table with a kind and a seed."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ctsa.settings import Checked, one_of

MATRICES: dict[str, str] = {
    "identity": "scale times the identity",
    "diagonal": "scale times the diagonal matrix of `values`",
    "gaussian": "independent normal entries of variance scale^2 / columns",
    "goe": "symmetric, the Gaussian orthogonal ensemble: eigenvalues in a semicircle of radius 2 scale",
    "psd": "positive semidefinite, scale G G^T with G gaussian: eigenvalues in 0 ... 4 scale",
    "antisymmetric": "scale times the difference of a gaussian matrix and its transpose, over sqrt 2",
    "rotation": "scale times a rotation: by `angle` (radians) in the planes (1, 2), (3, 4), ..., or uniform in SO(d)",
}
_OF_RANDOM = ("gaussian", "goe", "psd", "antisymmetric", "rotation")


class _Table(Checked):
    kind: str
    seed: int | None = Field(default=None, ge=0)
    scale: float = 1.0
    width: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    values: list[float] | None = Field(default=None, min_length=1)
    angle: float | None = None


@dataclass(frozen=True)
class Place:
    """Where an array of a file stands, and what it depends on.

    Attributes:
        name: such as ``field.value``, for messages and as a part of the seed.
        n: tokens.
        d: components of one.
        seed: of the file.
        folder: of the file, from which paths of arrays count.
        heads: how many matrices, where the field has several heads; None: one, without an axis of heads.
    """

    name: str
    n: int
    d: int
    seed: int
    folder: Path
    heads: int | None = None

    def rng(self, seed: int | None) -> np.random.Generator:
        """Return the generator of an array: of its own seed, or of the seed of the file and its place.

        It is none of those of tokens: of one seed, these would be rows of the matrix.
        """
        given = [self.seed, zlib.crc32(self.name.encode())] if seed is None else seed
        return np.random.default_rng(np.random.SeedSequence(given, spawn_key=(2,)))


def array(given: Any, axes: str, place: Place) -> Any:
    """Return the array, or the number, that a value of a file stands for.

    Args:
        given: the value: a number, nested lists, "FILE.npz:NAME", "FILE.npy", the name of a kind of ``MATRICES``, or a
            table with ``kind`` and ``seed``, ``scale``, ``width`` (of what is not d), ``heads``, ``values``, ``angle``.
        axes: letters of its last axes, as ``ctsa.parts`` has them: "" is a number, "dd" a square matrix.
        place: where it stands.

    Raises:
        ValueError: it is none of these, or does not fit.
        OSError: a file cannot be read.
    """
    if isinstance(given, bool) or given is None:
        raise ValueError(f"{place.name} must be a number, an array or a matrix by name, got {given!r}")
    if isinstance(given, int | float):
        square = len(axes) >= 2 and axes[-2:] in ("dd", "md", "dm")
        return given * np.eye(place.d) if square else given
    if isinstance(given, list):
        return _literal(given, place)
    if isinstance(given, str) and given not in MATRICES:
        return _file(given, place)
    return _made({"kind": given} if isinstance(given, str) else given, axes, place)


def _literal(given: list, place: Place) -> np.ndarray:
    try:
        return np.array(given, dtype=float)
    except (ValueError, TypeError):
        raise ValueError(f"{place.name} must be lists of numbers of equal lengths, got {str(given):.60}") from None


def _file(given: str, place: Place) -> np.ndarray:
    path, _, name = given.rpartition(":") if ".npz:" in given else (given, "", "")
    if not path.endswith((".npz", ".npy")):
        known = ", ".join(MATRICES)
        raise ValueError(f"{place.name} must be a matrix ({known}) or a file (FILE.npz:NAME, FILE.npy), got {given!r:.60}")
    return read_array(place.folder / path, name, place.name)


def read_array(path: Path, name: str, where: str) -> np.ndarray:
    """Return an array of numbers of a file of NumPy; ``name`` chooses one of an ``.npz``.

    Raises:
        ValueError: the file holds no such array of numbers.
        OSError: it cannot be read.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            with found:
                names = found.files
                if name not in names and not (name == "" and len(names) == 1):
                    raise ValueError(f"{where}: {path} has no array {name!r}, but {', '.join(names)}")
                found = found[name or names[0]]
    except OSError as error:
        raise type(error)(error.errno, f"{where}: {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError) as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where}: {path} is no file of NumPy without Python objects") from None
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{where}: {path} must hold real numbers, got {found.dtype}")
    return found


def _made(given: Any, axes: str, place: Place) -> np.ndarray:
    if not isinstance(given, dict):
        raise ValueError(f"{place.name} must be a number, an array, a name or a table, got {given!r:.60}")
    table = _Table.read(given, place.name)
    kind = one_of(f"{place.name}.kind", table.kind, MATRICES)
    for name, kinds in (("values", ("diagonal",)), ("angle", ("rotation",)), ("seed", _OF_RANDOM)):
        if getattr(table, name) is not None and kind not in kinds:
            raise ValueError(f"{place.name}.{name} goes with kind {' or '.join(kinds)}, not with {kind}")
    if not axes:
        raise ValueError(f"{place.name} must be a number, got the matrix {kind}")
    shape = tuple(_size(letter, table, place) for letter in axes)
    heads = table.heads if table.heads is not None else place.heads
    lead = () if heads is None or len(axes) < 2 else (heads,)
    if kind == "gaussian":
        pass
    elif kind == "identity" and len(shape) >= 2:
        pass
    elif len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"{place.name}: kind {kind} is a square matrix, but this is {shape}")
    every = np.empty((*lead, *shape))
    rng = place.rng(table.seed)
    for at in np.ndindex(every.shape[:-2]):
        every[at] = table.scale * _ONE[kind](rng, shape[-2:], table)
    return every


def _size(letter: str, table: _Table, place: Place) -> int:
    sizes = {"n": place.n, "d": place.d, "p": place.d // 2}
    return sizes[letter] if letter in sizes else (table.width or place.d)


def _gaussian(rng: Any, shape: tuple[int, ...], table: Any) -> np.ndarray:
    return rng.normal(size=shape) / np.sqrt(shape[-1])


def _goe(rng: Any, shape: tuple[int, ...], table: Any) -> np.ndarray:
    g = _gaussian(rng, shape, table)
    return (g + g.T) / np.sqrt(2)


def _antisymmetric(rng: Any, shape: tuple[int, ...], table: Any) -> np.ndarray:
    g = _gaussian(rng, shape, table)
    return (g - g.T) / np.sqrt(2)


def _psd(rng: Any, shape: tuple[int, ...], table: Any) -> np.ndarray:
    g = _gaussian(rng, shape, table)
    return g @ g.T


def _diagonal(rng: Any, shape: tuple[int, ...], table: Any) -> np.ndarray:
    values = table.values
    if values is None or len(values) != shape[-1]:
        raise ValueError(f"values must be {shape[-1]} numbers, one a component, got {values}")
    return np.diag(values)


def _rotation(rng: Any, shape: tuple[int, ...], table: Any) -> np.ndarray:
    d = shape[-1]
    if table.angle is None:
        q, r = np.linalg.qr(rng.normal(size=shape))
        q = q * np.sign(np.diag(r))
        q[:, 0] *= np.sign(np.linalg.det(q))
        return q
    turn = np.eye(d)
    c, s = np.cos(table.angle), np.sin(table.angle)
    for i in range(0, d - 1, 2):
        turn[i : i + 2, i : i + 2] = [[c, -s], [s, c]]
    return turn


_ONE: dict[str, Callable[[Any, tuple[int, ...], Any], np.ndarray]] = {
    "identity": lambda rng, shape, table: np.eye(shape[0], shape[1]),
    "diagonal": _diagonal,
    "gaussian": _gaussian,
    "goe": _goe,
    "psd": _psd,
    "antisymmetric": _antisymmetric,
    "rotation": _rotation,
}
