"""Fields and layers as a file says them, of a face: terms that are added, and the layer that discretises their sum."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, create_model

from ctsa import fields as formulas, layers as schemes
from ctsa.attention import Positions
from ctsa.geometry import Geometry
from ctsa.parts import parts_of
from ctsa.settings import Checked, arguments_of, one_of

from .matrices import Place, array
from .tokens import pretrained_model

FIELDS = ("SelfAttention", "SymmetricAttention", "MultiHeadAttention", "EnergyAttention", "Oja", "Rotation", "Injection",
          "Perceptron", "Noise", "pretrained")  # fmt: skip
LAYERS = ("EulerLayer", "PostNormLayer", "RungeKuttaLayer", "ItrSA", "AKOrN", "pretrained")
_FIRST = {"EulerLayer": "field", "PostNormLayer": "field", "RungeKuttaLayer": "field", "ItrSA": "attention",
          "AKOrN": "coupling"}  # fmt: skip


class _PretrainedField(Checked):
    kind: str
    factor: float = 1.0
    layer: int = Field(default=0, ge=0)
    text: str | None = None
    head: int | list[int] | None = None
    exact: bool = False
    model: str | None = None


class _PretrainedLayer(Checked):
    kind: str
    layers: int | Annotated[list[int], Field(min_length=2, max_length=2)] = 0
    inject: str | None = None
    perceptron: bool = True
    share: float = 1.0
    scale: float | None = None
    model: str | None = None


class _Rotary(Checked):
    kind: str = "rotary"
    m: int = Field(ge=2)
    base: float = Field(default=10000.0, gt=0)
    planes: int | None = Field(default=None, ge=1)
    first: int = 0
    layout: str = "halves"


@dataclass(frozen=True)
class Sizes:
    """What a field is made for: its tokens, the seed and folder of the file, the geometry and the dtype."""

    n: int
    d: int
    seed: int
    folder: Path
    geometry: Geometry
    dtype: str

    def place(self, name: str, heads: int | None = None) -> Place:
        """Return the description of an array at a place."""
        return Place(name, self.n, self.d, self.seed, self.folder, heads)


def check_field(table: dict[str, Any], where: str) -> Checked:
    """Return the settings of a table of a field: ``kind``, and the arguments of that class.

    Raises:
        ValueError: names key, what was wanted and what came.
    """
    return field_class(one_of(f"{where}.kind", table.get("kind", "SelfAttention"), FIELDS)).read(table, where)


def field_class(kind: str) -> type[Checked]:
    """Return the class of a table of a field of a kind: the arguments of its class, ``factor`` and ``heads``."""
    if kind == "pretrained":
        return _PretrainedField
    cls = getattr(formulas, kind)
    names = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "geometry")]
    kinds: dict[str, Any] = dict.fromkeys(names, (Any, None))
    kinds |= dict(kind=(str, kind), factor=(float, 1.0), heads=(int | None, Field(default=None, ge=1)))
    return create_model(kind, __base__=Checked, **kinds)


def check_layer(table: dict[str, Any]) -> Checked:
    """Return the settings of the table ``[layer]``.

    Raises:
        ValueError: names key, what was wanted and what came.
    """
    return layer_class(one_of("layer.kind", table.get("kind", "EulerLayer"), LAYERS)).read(table, "layer")


def layer_class(kind: str) -> type[Checked]:
    """Return the class of the table ``[layer]`` of a kind: the arguments of its class."""
    if kind == "pretrained":
        return _PretrainedLayer
    more: dict[str, Any] = dict(kind=(str, kind), step=(float, Field(default=1.0, gt=0, allow_inf_nan=False)))
    if kind == "AKOrN":
        more["rotation"] = (dict[str, Any] | None, None)
    without = ("self", "geometry", _FIRST[kind], "t")
    return arguments_of(getattr(schemes, kind).__init__, without, **more)


def make_field(settings: list[Any], face: Any, sizes: Sizes) -> Any:
    """Return the sum of the terms of a field, of a face.

    Raises:
        ValueError: a value cannot be, or does not fit the tokens.
        OSError, ImportError: a file cannot be read, or what reads it is missing.
    """
    several = len(settings) > 1
    terms = [_term(s, face, sizes, f"field.{i}" if several else "field") for i, s in enumerate(settings)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def make_layer(settings: Any, field: Any, face: Any, sizes: Sizes) -> Any:
    """Return the layer of a file, of a face; ``field`` is what it discretises, None for one that has its own.

    Raises:
        ValueError, OSError, ImportError: as for ``make_field``.
    """
    if settings.kind == "pretrained":
        return _loop(settings, face, sizes)
    given = {name: getattr(settings, name) for name in settings.model_fields_set - {"kind"}}
    given.setdefault("step", settings.step)
    if given.get("rotation") is not None:
        given["rotation"] = _term(check_field({"kind": "Rotation", **given["rotation"]}, "layer.rotation"), face, sizes,
                                  "layer.rotation")  # fmt: skip
    if "gamma" in given and given["gamma"] is not None:
        given["gamma"] = _cast(array(given["gamma"], "d", sizes.place("layer.gamma")), sizes)
    try:
        return getattr(face, settings.kind)(field, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer: {error}") from error


def in_dtype(system: Any, dtype: str) -> Any:
    """Return a field or a layer with all its numbers in single precision, if that is the dtype; else as it is.

    Numbers that stand alone, such as beta, and the weights of models are made in double, which would carry all with them.
    """
    if dtype != "float32" or system is None:
        return system
    if hasattr(system, "float"):  # a module of PyTorch
        return system.float()
    from jax import tree

    return tree.map(lambda a: a.astype(dtype) if getattr(a, "dtype", None) == np.float64 else a, system)


def _term(settings: Any, face: Any, sizes: Sizes, where: str) -> Any:
    if settings.kind == "pretrained":
        return settings.factor * _head(settings, face, sizes) if settings.factor != 1.0 else _head(settings, face, sizes)
    cls = getattr(formulas, settings.kind)
    given: dict[str, Any] = {}
    for name in settings.model_fields_set - {"kind", "factor", "heads"}:
        given[name] = _value(cls, name, getattr(settings, name), sizes, where, settings.heads)
    try:
        made = getattr(face, settings.kind)(**given, geometry=sizes.geometry)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return made if settings.factor == 1.0 else settings.factor * made


def _value(cls: type, name: str, value: Any, sizes: Sizes, where: str, heads: int | None) -> Any:
    part = parts_of(cls).get(name)
    if name == "positions":
        return _positions(value, sizes, f"{where}.positions")
    if part is None or not part.is_array or value == "causal":
        return value
    axes = {"ndd": "dd"}.get(part.axes, part.axes)
    made = array(value, axes, sizes.place(f"{where}.{name}", heads))
    if part.axes == "np" and not np.ndim(made):
        made = np.full(sizes.d // 2, made)
    return _cast(made, sizes)


def _cast(a: Any, sizes: Sizes) -> Any:
    return a.astype(sizes.dtype) if isinstance(a, np.ndarray) and a.dtype.kind in "fiu" else a


def _positions(value: Any, sizes: Sizes, where: str) -> Positions:
    table = {"kind": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise ValueError(f'{where} must be a table such as {{kind = "rotary", m = 8}}, got {value!r:.60}')
    one_of(f"{where}.kind", table.get("kind", "rotary"), ("rotary",))
    s = _Rotary.read(table, where)
    return Positions.rotary(sizes.n, s.m, base=s.base, planes=s.planes, first=s.first, layout=s.layout)


def _head(settings: Any, face: Any, sizes: Sizes) -> Any:
    def of(name: str) -> Any:  # JAX in 32 bits would not take the doubles of a model
        return lambda *args, **more: getattr(face, name)(
            *(_cast(a, sizes) for a in args), **{key: _cast(a, sizes) for key, a in more.items()}
        )

    own = SimpleNamespace(**{name: of(name) for name in ("SelfAttention", "MultiHeadAttention", "Injection")})
    model = pretrained_model(settings.model, sizes.folder)
    return model.field(settings.layer, own, settings.text, head=settings.head, exact=settings.exact)


def _loop(settings: Any, face: Any, sizes: Sizes) -> Any:
    from ctsa import pretrained

    model = pretrained_model(settings.model, sizes.folder)
    layers = tuple(settings.layers) if isinstance(settings.layers, list) else settings.layers
    first = layers[0] if isinstance(layers, tuple) else layers
    inject = None if settings.inject is None else model.states(settings.inject)[first]
    return pretrained.loop(
        model, layers, face, inject=inject, share=settings.share, scale=settings.scale, perceptron=settings.perceptron,
        dtype=sizes.dtype,
    )
