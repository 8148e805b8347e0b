"""Sums and multiples of fields."""

from typing import Any

from . import checks
from ._backend import framework
from .field import Field, drift_of, drift_tangent_of
from .geometry import Sphere

Array = Any


class Sum(Field):
    """A sum of fields, made by ``+``: the drifts are added and projected once."""

    fields: Any

    def __init__(self, fields):
        if not fields:
            raise ValueError("fields must not be empty")
        for f in fields:
            if not callable(f):
                raise TypeError(f"fields must be callables, got {type(f).__name__}")
        ours = [f for f in fields if isinstance(f, Field)]
        if len({f.geometry for f in ours}) > 1:
            raise ValueError(f"fields on different geometries do not add: {[f.geometry for f in ours]}")
        homes = sorted({home for f in fields if (home := framework(f)) is not None})
        if len(homes) > 1:
            raise TypeError(
                f"fields of different frameworks do not add ({', '.join(homes)}): convert with from_torch/from_jax"
            )
        self._assign({}, {}, fields=fields, geometry=ours[0].geometry if ours else Sphere())

    def terms(self):
        return list(self.fields)

    def drift(self, t, x):
        first, *rest = (drift_of(f)(t, x) for f in self.fields)
        return sum(rest, first)

    def drift_tangent(self, t, x, u):
        parts = [drift_tangent_of(f, t, x, u) for f in self.fields]
        y, dy = parts[0]
        for a, b in parts[1:]:
            y, dy = y + a, dy + b
        return y, dy

    def drift_jacobian(self, t, x):
        parts = [f.drift_jacobian(t, x) for f in self.fields]
        y, j = parts[0]
        for a, b in parts[1:]:
            y, j = y + a, j + b
        return y, j

    def dense_pays(self, x, k):
        return all(isinstance(f, Field) for f in self.fields) and any(f.dense_pays(x, k) for f in self.fields)

    def arguments(self):
        return dict(fields=list(self.fields))


class Scaled(Field):
    """A field times a number, made by ``*``: time runs ``factor`` times as fast."""

    field: Any
    factor: Any

    def __init__(self, field, factor):
        if not callable(field):
            raise TypeError(f"field must be callable, got {type(field).__name__}")
        factor = checks.parameter("factor", factor, 0)
        if factor is None:
            raise TypeError("factor must be a number, got None")
        geometry = getattr(field, "geometry", Sphere())
        self._assign({}, dict(factor=factor), field=field, geometry=geometry)

    def drift(self, t, x):
        return self.factor * drift_of(self.field)(t, x)

    def drift_tangent(self, t, x, u):
        y, dy = drift_tangent_of(self.field, t, x, u)
        return self.factor * y, self.factor * dy

    def drift_jacobian(self, t, x):
        y, j = self.field.drift_jacobian(t, x)
        return self.factor * y, self.factor * j

    def dense_pays(self, x, k):
        return isinstance(self.field, Field) and self.field.dense_pays(x, k)

    def arguments(self):
        return dict(field=self.field, factor=self.factor)
