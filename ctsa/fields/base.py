"""What all fields share: a drift, its tangent projection, sums and scalar multiples."""

from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.derivatives import compress, jvp_batched
from ctsa.geometry import Geometry, Sphere, check_geometry
from ctsa.parts import INNERS, Part, constructor_names, formula_of, parts_of

Array = Any


def drift_of(field: Any):
    """Return the ambient drift of a field of ours, or a bare callable itself (its velocity, which projection keeps)."""
    return getattr(field, "drift", field)


def drift_tangent_of(field: Any, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
    """Return drift and its derivative along ``u``: in closed form where known, else by ``vmap(jvp)``.

    The drift of a bare callable is its velocity, so that a closed form of its own, ``tangent(t, x, u)``, serves.
    """
    closed = getattr(field, "drift_tangent", None) or (None if hasattr(field, "drift") else getattr(field, "tangent", None))
    return closed(t, x, u) if closed is not None else jvp_batched(lambda y: drift_of(field)(t, y), x, u)


def drift_jacobian_of(field: Any, t: Array, x: Array) -> tuple[Array, Array]:
    """Return drift and its Jacobian ``(..., n d, n d)``: its own, else from ``drift_tangent_of``, by columns."""
    closed = getattr(field, "drift_jacobian", None)
    return closed(t, x) if closed is not None else _column_by_column(lambda u: drift_tangent_of(field, t, x, u), x)


def drift_compressed_of(
    field: Any, t: Array, x: Array, left: Array, right: Array
) -> tuple[Array, Array | None, Array | None]:
    """Return the drift and its Jacobian between bases, see ``Field.drift_compressed``, of any callable."""
    closed = getattr(field, "drift_compressed", None)
    if closed is not None:
        return closed(t, x, left, right)
    y, j = drift_jacobian_of(field, t, x)
    return y, _between(left, j, right), None


def merged_of(field: Any, labels: Any, size: int | None = None) -> Any:
    """Return the field of clusters, see ``Field.merged``.

    Raises:
        TypeError: it is a bare callable, or a field that does not say what becomes of it.
        ValueError: it has a mask, or parameters a token.
    """
    field = getattr(field, "function", field)
    if not hasattr(field, "merged"):
        raise TypeError(
            "tokens merge under fields of ctsa, which know clusters, and not under a bare callable "
            f"({getattr(field, '__name__', type(field).__name__)}): write it as a ctsa.fields.Field with merged(labels, "
            "size)"
        )
    return field.merged(labels, size)


def joined(labels: Any, masses: Any = None, size: int | None = None) -> np.ndarray:
    """Return the masses of clusters: how many tokens they have, or the sum of their masses."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0:
        got = f"{labels.dtype} of shape {labels.shape}"
        got += f", the least {labels.min()}" if labels.dtype.kind == "i" and labels.size else ""
        raise ValueError(f"labels must be non-negative integers (n,), the cluster of each token, got {got}")
    size = int(labels.max()) + 1 if size is None else checks.integer("size", size, low=int(labels.max()) + 1)
    own = None if masses is None else np.asarray(backend(masses).to_numpy(backend(masses).stop_gradient(masses)), float)
    if own is not None and len(own) != len(labels):
        raise ValueError(f"labels must be one a token, {len(own)}, got {len(labels)}")
    return np.bincount(labels, own, size).astype(float)


def _between(left: Array, j: Array, right: Array) -> Array:
    (n, _, r), s = left.shape[-3:], right.shape[-1]
    return compress(left, j, right).reshape(*left.shape[:-3], n, r, n, s)


def _column_by_column(tangent: Any, x: Array) -> tuple[Array, Array]:
    be, (n, d) = backend(x), x.shape[-2:]
    unit = be.eye(n * d, x).reshape(n * d, *[1] * (x.ndim - 2), n, d) + 0 * x
    y, columns = tangent(unit)
    return y, be.xp.moveaxis(columns.reshape(*columns.shape[:-2], n * d), 0, -1)


class Field:
    """What all fields share: projection of the drift, sums, scalar multiples.

    A class states what it is made of in ``parts`` (see ``ctsa.parts``) and gives ``drift``; with the constructor below that
    is all. A closed form ``drift_tangent`` makes spectra faster. ``class Mine(Formula, ctsa.torch.Field)`` and the same for
    ``ctsa.jax`` are its faces, which supply ``_assign``: it stores the parts as attributes.

    Example:
        >>> import ctsa, ctsa.torch
        >>> from ctsa.parts import parameter
        >>> class Pull(ctsa.fields.Field):
        ...     "Every token is pulled to a point: dx_i/dt = P_i k a."
        ...     parts = dict(strength=parameter(), point=parameter("d"))
        ...     def drift(self, t, x):
        ...         return self.strength * self.point + 0 * x
        >>> class TorchPull(Pull, ctsa.torch.Field): pass
        >>> field = TorchPull(2.0, [0.0, 0.0, 1.0]) + ctsa.torch.SelfAttention(beta=1.0)
        >>> tuple(field(0.0, ctsa.random_tokens(4, 3)).shape)
        (4, 3)
    """

    parts: ClassVar[dict[str, Part]] = {}
    geometry: Geometry
    tokenwise = False  # whether the velocity of a token depends on that token alone
    is_noise = False  # whether it has increments in place of a velocity, see ``ctsa.flows.stochastic``
    of_tokens = True  # whether rows of a state are tokens, which its matrices act on
    equivariant = False  # whether all rotations are symmetries where matrices are multiples of 1 and vectors absent

    def __init__(self, *args: Any, geometry: Geometry | None = None, **values: Any):
        names = list(type(self).parts)
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} parts ({', '.join(names)}), got {len(args)}")
        for name, value in zip(names, args, strict=False):
            if name in values:
                raise TypeError(f"{name} was given twice")
            values[name] = value
        unknown = next((name for name in values if name not in names), None)
        if unknown is not None:
            raise TypeError(f"{unknown} is no part of {type(self).__name__}, which has {', '.join(names) or 'none'}")
        for name, part in type(self).parts.items():
            if part.is_array:
                values[name] = checks.parameter(name, values.get(name), *range(len(part.axes), len(part.axes) + 5))
                if values[name] is None and not part.optional:
                    raise TypeError(f"{name} must be an array of shape (..., {', '.join(part.axes)}), got None")
            elif name not in values:
                raise TypeError(f"{name} must be given")
        known: dict[str, int] = {}
        for name, part in type(self).parts.items():
            if part.axes and values[name] is not None:
                for axis, size in checks.axis_sizes(part.axes, tuple(values[name].shape)):
                    if known.setdefault(axis, size) != size:
                        raise ValueError(f"{name} has {axis}={size}, where {axis}={known[axis]} was found before")
        self._assign(**values, geometry=self._check_geometry(geometry, known.get("d")))

    def _assign(self, **values: Any) -> None:
        raise NotImplementedError("take the field from a face: ctsa.torch or ctsa.jax")

    def _sum(self, terms: list) -> Any:
        raise NotImplementedError

    def _scaled(self, field: Any, factor: Any) -> Any:
        raise NotImplementedError

    def rescaled(self, gain: Any, bias: Any = None) -> Any:
        """Return the field that reads tokens ``gain * x + bias`` where this one reads ``x``, see ``Rescaled``."""
        raise NotImplementedError("take the field from a face: ctsa.torch or ctsa.jax")

    def _check_geometry(self, geometry: Geometry | None, d: int | None) -> Geometry:
        if geometry is None:
            return Sphere()
        geometry = check_geometry(geometry)
        if d is not None:
            geometry.check_dimension(d)
        return geometry

    def drift(self, t: Array, x: Array) -> Array:
        """Return the velocity before projection, of the shape of ``x``."""
        raise NotImplementedError

    def drift_tangent(self, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the drift and its derivative along directions ``u`` ``(k, ..., n, d)``; by forward mode if not given."""
        return jvp_batched(lambda y: self.drift(t, y), x, u)

    def drift_jacobian(self, t: Array, x: Array) -> tuple[Array, Array]:
        """Return the drift and its Jacobian ``(..., n d, n d)``; this one asks ``drift_tangent`` for every column."""
        if self.tokenwise:  # d directions serve all tokens at once
            be, d = backend(x), x.shape[-1]
            unit = be.eye(d, x).reshape(d, *[1] * (x.ndim - 1), d) + 0 * x
            y, columns = self.drift_tangent(t, x, unit)
            return y, _block_diagonal(be, be.xp.moveaxis(columns, 0, -1))
        return _column_by_column(lambda u: self.drift_tangent(t, x, u), x)

    def drift_compressed(
        self, t: Array, x: Array, left: Array, right: Array
    ) -> tuple[Array, Array | None, Array | None]:
        """Return the drift and its Jacobian ``D`` between bases given token by token: ``L_i^T D_ij R_j``.

        In tangent bases it is smaller than ``D``, and attention assembles it from skinny products.

        Args:
            t: time.
            x: state ``(..., n, d)``.
            left: ``(..., n, d, r)``.
            right: ``(..., n, d, s)``.

        Returns:
            ``(..., n, d)``; ``(..., n, r, n, s)``; and what comes on top for ``j = i``, ``(..., n, r, s)``. Either of the
            last two may be None, which is zero.
        """
        if self.tokenwise:  # s directions serve all tokens at once
            xp = backend(x).xp
            y, du = self.drift_tangent(t, x, xp.moveaxis(right, -1, 0))
            return y, None, left.mT @ xp.moveaxis(du, 0, -1)
        y, j = self.drift_jacobian(t, x)
        return y, _between(left, j, right), None

    def dense_pays(self, x: Array, k: int) -> bool:
        """Tell whether the derivative along ``k`` directions is cheapest through ``drift_jacobian``."""
        return False

    def velocity(self, t: Array, x: Array) -> Array:
        """Return ``dx/dt``, the tangent projection of the drift: ``(..., n, d)``."""
        return self.geometry.project(x, self.drift(t, x))

    def tangent(self, t: Array, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the velocity and its derivative along ``k`` directions, in closed form.

        Args:
            t: time.
            x: state ``(..., n, d)``.
            u: directions ``(k, ..., n, d)``.

        Returns:
            ``F(t, x)`` of shape ``(..., n, d)`` and ``DF(t, x) u`` of shape ``(k, ..., n, d)``.
        """
        y, dy = self.drift_tangent(t, x, u)
        return self.geometry.project(x, y), self.geometry.project_tangent(x, u, y, dy)

    def merged(self, labels: Any, size: int | None = None) -> Any:
        """Return the field of clusters: token i belongs to cluster ``labels[i]``, and those of a cluster are one token now.

        Tokens at one place stay together under a field that treats them alike. Attention then counts a cluster as many
        times as it has tokens (``masses``), and fields that are the same for all tokens stay what they are.

        Args:
            labels: integers ``(n,)``, the cluster of each token.
            size: number of clusters; those without a token have the mass 0. None: the largest label and one.

        Raises:
            TypeError: the field is not known to treat tokens alike.
            ValueError: it has a mask, or parameters a token.

        Example:
            >>> from ctsa.torch import SelfAttention
            >>> SelfAttention(beta=2.0).merged([0, 1, 0]).masses.tolist()
            [2.0, 1.0]
        """
        name = type(self).__name__
        if "n" in checks.sizes(self):
            raise ValueError(f"tokens of {name} do not merge: it has parameters for each of them, which tell them apart")
        if not self.tokenwise:
            raise TypeError(f"tokens of {name} do not merge: it does not say what becomes of it, in merged(labels, size)")
        return self

    def __add__(self, other):
        if not callable(other):
            return NotImplemented
        return self._sum([*self.terms(), *(other.terms() if isinstance(other, Field) else [other])])

    def __radd__(self, other):
        if isinstance(other, (int, float)) and other == 0:  # sum([...]) starts at 0
            return self
        return self._sum([other, *self.terms()]) if callable(other) else NotImplemented

    def __mul__(self, factor):
        if callable(factor) or isinstance(factor, str):
            return NotImplemented
        return self._scaled(self, factor)

    __rmul__ = __mul__

    def __neg__(self):
        return self._scaled(self, -1.0)

    def __sub__(self, other):
        return self + -other if isinstance(other, Field) else NotImplemented

    def settled(self, n: int, d: int) -> Any:
        """Return the field with ways of evaluation that are "auto" chosen for ``n`` tokens of dimension d."""
        return self

    def terms(self) -> list:
        """Return the summands: the field itself unless it is a sum."""
        return [self]

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that make an equal field, in either framework."""
        kind, parts = formula_of(type(self)) or type(self), parts_of(type(self))
        values = {name: getattr(self, name) for name in constructor_names(kind)}
        return {name: list(value) if parts[name].kind == INNERS else value for name, value in values.items()}


def _block_diagonal(be: Any, blocks: Array) -> Array:
    """Put ``(..., n, d, d)`` on the diagonal of ``(..., n d, n d)``."""
    n, d = blocks.shape[-3:-1]
    full = be.eye(n, blocks)[:, None, :, None] * blocks[..., :, :, None, :]
    return full.reshape(*blocks.shape[:-3], n * d, n * d)
