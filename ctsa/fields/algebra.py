"""Sums and multiples of fields, and fields read at rescaled tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, framework
from ctsa.geometry import Sphere
from ctsa.parts import constant, inner, inners, parameter, parts_of
from ctsa.results.base import as_numpy

from .base import Field, drift_compressed_of, drift_jacobian_of, drift_of, drift_tangent_of, merged_of

Array = Any


class Sum(Field):
    """A sum of fields, made by ``+``: the drifts are added and projected once."""

    fields: Any
    parts = dict(fields=inners())

    def __init__(self, fields: Sequence[Any]):
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
        self._assign(fields=fields, geometry=ours[0].geometry if ours else Sphere())

    def terms(self):
        return list(self.fields)

    def settled(self, n, d):
        ours = [f.settled(n, d) if isinstance(f, Field) else f for f in self.fields]
        return self if all(a is b for a, b in zip(ours, self.fields, strict=True)) else self._sum(ours)

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
        parts = [drift_jacobian_of(f, t, x) for f in self.fields]
        y, j = parts[0]
        for a, b in parts[1:]:
            y, j = y + a, j + b
        return y, j

    def drift_compressed(self, t, x, left, right):
        y, full, own = zip(*(drift_compressed_of(f, t, x, left, right) for f in self.fields), strict=True)
        return sum(y[1:], y[0]), _add(full), _add(own)

    def merged(self, labels, size=None):
        return self._sum([merged_of(f, labels, size) for f in self.fields])

    def dense_pays(self, x, k):
        return all(isinstance(f, Field) for f in self.fields) and any(f.dense_pays(x, k) for f in self.fields)


def _add(arrays):
    first, *rest = [a for a in arrays if a is not None] or [None]
    return sum(rest, first)


class Scaled(Field):
    """A field times a number, made by ``*``: time runs ``factor`` times as fast."""

    field: Any
    factor: Any
    parts = dict(field=inner(), factor=constant())

    def __init__(self, field: Any, factor: Any):
        if not callable(field):
            raise TypeError(f"field must be callable, got {type(field).__name__}")
        factor = checks.parameter("factor", factor, 0)
        if factor is None:
            raise TypeError("factor must be a number, got None")
        geometry = getattr(field, "geometry", Sphere())
        self._assign(factor=factor, field=field, geometry=geometry)

    def settled(self, n, d):
        inner = self.field.settled(n, d) if isinstance(self.field, Field) else self.field
        return self if inner is self.field else self._scaled(inner, self.factor)

    def drift(self, t, x):
        return self.factor * drift_of(self.field)(t, x)

    def drift_tangent(self, t, x, u):
        y, dy = drift_tangent_of(self.field, t, x, u)
        return self.factor * y, self.factor * dy

    def drift_jacobian(self, t, x):
        y, j = drift_jacobian_of(self.field, t, x)
        return self.factor * y, self.factor * j

    def drift_compressed(self, t, x, left, right):
        y, full, own = drift_compressed_of(self.field, t, x, left, right)
        return self.factor * y, *(None if a is None else self.factor * a for a in (full, own))

    def merged(self, labels, size=None):
        return self._scaled(merged_of(self.field, labels, size), self.factor)

    def dense_pays(self, x, k):
        return isinstance(self.field, Field) and self.field.dense_pays(x, k)


class Rescaled(Field):
    """A field read at other tokens: drift ``F(t, gain * x + bias)`` with ``gain`` and ``bias`` a number or a channel's.

    The input of a normalised layer is ``y = gain * x + bias`` with ``x`` a unit vector: RMSNorm and LayerNorm with their
    gains and biases. Made by ``field.rescaled(gain, bias)``. The velocity is ``P_x F(t, gain * x + bias)``.

    Args:
        field: a field of ours (its drift is read).
        gain: a number or ``(d,)``.
        bias: None, a number or ``(d,)``.

    Example:
        >>> import numpy as np, torch
        >>> from ctsa.torch import Oja
        >>> twice = Oja(np.diag([1.0, 3.0])).rescaled(2.0)
        >>> x = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
        >>> twice.drift(0.0, x).tolist()
        [[1.2, 4.800000000000001]]
    """

    field: Any
    gain: Any
    bias: Any
    parts = dict(field=inner(), gain=parameter("d"), bias=parameter("d", "bias"))

    def __init__(self, field: Any, gain: Any, bias: Any = None):
        if not hasattr(field, "drift"):
            raise TypeError(f"field must be a field of ctsa, which has a drift, got {type(field).__name__}")
        gain, bias = checks.parameter("gain", gain, 0, 1), checks.parameter("bias", bias, 0, 1)
        if gain is None:
            raise TypeError("gain must be a number or an array (d,), got None")
        if bias is not None and gain.ndim == bias.ndim == 1:
            checks.fits("bias", bias, 0, gain.shape[0], "gain")
        self._assign(gain=gain, bias=bias, field=field, geometry=field.geometry)

    def _read(self, x):
        y = self.gain * x
        return y if self.bias is None else y + self.bias

    def drift(self, t, x):
        return self.field.drift(t, self._read(x))

    def drift_tangent(self, t, x, u):
        return self.field.drift_tangent(t, self._read(x), self.gain * u)

    def drift_jacobian(self, t, x):
        y, j = self.field.drift_jacobian(t, self._read(x))
        n = x.shape[-2]
        return y, j * (self.gain if self.gain.ndim == 0 else backend(x).xp.concatenate([self.gain] * n))

    def drift_compressed(self, t, x, left, right):
        gain = self.gain if self.gain.ndim == 0 else self.gain[:, None]
        return self.field.drift_compressed(t, self._read(x), left, gain * right)

    def merged(self, labels, size=None):
        return merged_of(self.field, labels, size).rescaled(self.gain, self.bias)

    def dense_pays(self, x, k):
        return self.field.dense_pays(x, k)


def flat_terms(field: Any, factor: float = 1.0, read: Any = None) -> Iterator[tuple[float, Any, Any]]:
    """Yield the terms of a field that are no sums nor multiples: the number that multiplies it, the term, and ``read``.

    A term that is read at ``gain * x + bias`` has ``read = (gain, bias)`` as NumPy, others None.
    """
    described = parts_of(type(field))
    if "fields" in described:
        for each in field.fields:
            yield from flat_terms(each, factor, read)
    elif "field" in described:
        if "gain" in described:
            gain, bias = (np.asarray(as_numpy(0.0 if a is None else a), float) for a in (field.gain, field.bias))
            outer, shift = read or (1.0, 0.0)
            read = gain * outer, gain * shift + bias
        yield from flat_terms(field.field, factor * float(as_numpy(getattr(field, "factor", 1.0))), read)
    else:
        yield factor, field, read
