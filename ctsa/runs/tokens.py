"""Tokens as a file says them: drawn, placed, read from a file, or those of a sentence in a pretrained model."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ctsa.geometry import Sphere, random_tokens
from ctsa.settings import Checked, one_of

from .matrices import read_array


class _Drawn(Checked):
    kind: str = "uniform"
    n: int = Field(default=32, ge=1)
    d: int = Field(default=3, ge=1)
    seed: int | None = Field(default=None, ge=0)
    batch: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=1)]] | None = None
    channels: int | None = Field(default=None, ge=2)


class _Hemisphere(_Drawn):
    angle: float = Field(default=np.pi / 2, gt=0, le=np.pi)


class _Clusters(_Drawn):
    count: int = Field(default=4, ge=1)
    spread: float = Field(default=0.1, ge=0, allow_inf_nan=False)


class _Equiangular(Checked):
    kind: str
    n: int = Field(default=32, ge=1)
    d: int | None = Field(default=None, ge=1)
    cosine: float = Field(default=0.0, ge=-1, le=1)


class _File(Checked):
    kind: str
    path: str = Field(min_length=1)
    normalize: bool = False
    channels: int | None = Field(default=None, ge=2)


class _Sentence(Checked):
    kind: str
    text: str = Field(min_length=1)
    layer: int | None = Field(default=None, ge=0)
    model: str | None = None
    form: Literal["plain", "exact"] | None = None

    def of(self, field: Any) -> "_Sentence":
        """Return these with what was left out as a pretrained field has it; None: of the first layer."""
        own = ("plain", 0, None) if field is None else ("exact" if field.exact else "plain", field.layer, field.model)
        form, layer, model = own
        return self.model_copy(update=dict(
            form=self.form or form, layer=layer if self.layer is None else self.layer, model=self.model or model
        ))  # fmt: skip


def check_tokens(table: dict[str, Any]) -> Checked:
    """Return the settings of the table ``[tokens]``.

    Raises:
        ValueError: names key, what was wanted and what came.
    """
    kind = one_of("tokens.kind", table.get("kind", "uniform"), TOKENS)
    return TOKENS[kind][0].read(table, "tokens")


def geometry_of(settings: Any) -> Sphere:
    """Return where tokens live: the sphere, or a product of spheres of oscillators."""
    return Sphere(getattr(settings, "channels", None))


def tokens(settings: Any, seed: int, folder: Path) -> np.ndarray:
    """Return tokens ``(..., n, d)`` of the settings.

    Raises:
        ValueError: they cannot be, or a file holds none.
        OSError: a file cannot be read.
    """
    return TOKENS[settings.kind][1](settings, seed, folder)


def _uniform(s: Any, seed: int, folder: Path) -> np.ndarray:
    batch = s.batch or ()
    batch = tuple(batch) if isinstance(batch, list) else batch
    return random_tokens(s.n, s.d, s.seed if s.seed is not None else seed, batch=batch, channels=s.channels)


def _hemisphere(s: Any, seed: int, folder: Path) -> np.ndarray:
    """Uniform in the cap of that angle about the first axis: rejected until they lie there, by reflection for the half."""
    if s.channels is not None:
        raise ValueError("tokens.channels goes with kind uniform or file")
    rng = np.random.default_rng(s.seed if s.seed is not None else seed)
    shape = (*(s.batch if isinstance(s.batch, list) else [s.batch] if s.batch else []), s.n)
    low = np.cos(s.angle)
    if s.d == 1:
        return np.ones((*shape, 1))
    # The first component has density (1 - c^2)^((d - 3) / 2): its inverse distribution, by a fine table in the angle.
    angle = np.linspace(0.0, np.arccos(low), 20001)
    weight = np.sin(angle) ** (s.d - 2)
    total = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    first = np.interp(rng.random(shape) * total[-1], total, angle)
    rest = rng.normal(size=(*shape, s.d - 1))
    rest = rest / np.linalg.norm(rest, axis=-1, keepdims=True)
    return np.concatenate([np.cos(first)[..., None], np.sin(first)[..., None] * rest], axis=-1)


def _clusters(s: Any, seed: int, folder: Path) -> np.ndarray:
    """``count`` uniform centres; token i is centre i mod count plus ``spread`` times a normal vector, normalised."""
    if s.batch is not None:
        raise ValueError("tokens.batch goes with kind uniform or hemisphere")
    rng = np.random.default_rng(s.seed if s.seed is not None else seed)
    sphere = Sphere(s.channels)
    sphere.check_dimension(s.d)
    centres = sphere.retract(rng.normal(size=(s.count, s.d)))
    return sphere.retract(centres[np.arange(s.n) % s.count] + s.spread * rng.normal(size=(s.n, s.d)))


def _equiangular(s: Any, seed: int, folder: Path) -> np.ndarray:
    """All pairs at one cosine: the rows of a square root of their Gram matrix."""
    gram = (1 - s.cosine) * np.eye(s.n) + s.cosine
    values, vectors = np.linalg.eigh(gram)
    if values[0] < -1e-12:
        least = -1 / (s.n - 1)
        raise ValueError(f"tokens.cosine must be at least -1 / (n - 1) = {least:.6g} for n = {s.n}, got {s.cosine}")
    rank = int(np.sum(values > 1e-13 * (s.n + 10)))
    d = s.n if s.d is None else s.d
    if d < rank:
        raise ValueError(f"tokens.d must be at least {rank} for {s.n} tokens at a cosine of {s.cosine:g}, got {d}")
    x = np.zeros((s.n, d))
    kept = vectors * np.sqrt(np.maximum(values, 0.0))
    x[:, :rank] = kept[:, s.n - rank :]
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _file(s: Any, seed: int, folder: Path) -> np.ndarray:
    path, _, name = s.path.rpartition(":") if ".npz:" in s.path else (s.path, "", "")
    x = read_array(folder / path, name, "tokens.path").astype(float)
    if x.ndim < 2:
        raise ValueError(f"tokens.path: tokens are (..., n, d), got an array of shape {x.shape}")
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"tokens.path: {s.path} must hold finite numbers, got {'none' if not x.size else 'nan or inf'}")
    sphere = Sphere(s.channels)
    sphere.check_dimension(x.shape[-1])
    if not s.normalize:
        return x
    if not (np.asarray(sphere.radius(x)) > 0).all():
        raise ValueError(f"tokens.normalize: {s.path} has a token of length 0, which has no direction")
    return sphere.retract(x)


def _sentence(s: Any, seed: int, folder: Path) -> np.ndarray:
    model = pretrained_model(s.model, folder)
    return model.on_sphere(s.text, s.layer).x if s.form == "plain" else model.exact_tokens(s.text, s.layer)


def pretrained_model(name: str | None, folder: Path) -> Any:
    """Return the model of a folder, or the small one that a package holds.

    Raises:
        ImportError: what reads it, or the model, is not installed.
        OSError, ValueError: it cannot be read.
    """
    from ctsa import pretrained

    return pretrained.load() if name is None else pretrained.load(folder / name)


TOKENS: dict[str, tuple[type[Checked], Callable[[Any, int, Path], np.ndarray]]] = {
    "uniform": (_Drawn, _uniform),
    "hemisphere": (_Hemisphere, _hemisphere),
    "clusters": (_Clusters, _clusters),
    "equiangular": (_Equiangular, _equiangular),
    "file": (_File, _file),
    "sentence": (_Sentence, _sentence),
}
