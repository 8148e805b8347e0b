"""Products of manifolds: the parts of a state, each on its own, in one row."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ctsa._backend import backend

from .base import Geometry

Array = Any


@dataclass(frozen=True)
class Product(Geometry):
    """Parts of different shapes and manifolds, one after the other in one token: states ``(..., 1, size)``.

    What a state of several parts, such as the two of a hierarchical reasoning model, lives on. ``ctsa.Loop`` makes it.

    Args:
        shapes: of the parts; the last axis of each holds the components of its tokens.
        geometries: where each lives.

    Example:
        >>> import numpy as np, ctsa
        >>> pair = ctsa.geometry.Product(((2,), (1,)), (ctsa.Sphere(), ctsa.Euclidean()))
        >>> pair.retract(np.array([[3.0, 4.0, 5.0]]))
        array([[0.6, 0.8, 5. ]])
        >>> pair.dimension(1, 3)
        2
    """

    shapes: tuple[tuple[int, ...], ...]
    geometries: tuple[Geometry, ...]
    place = "the product of manifolds"

    def __post_init__(self):
        if len(self.shapes) != len(self.geometries) or not self.shapes:
            raise ValueError("shapes and geometries must have an entry for each part")

    @property
    def closed(self) -> bool:  # type: ignore[override]
        """Whether every part is compact."""
        return all(g.closed for g in self.geometries)

    @property
    def sizes(self) -> list[int]:
        """Numbers in each part."""
        return [prod(shape) for shape in self.shapes]

    def _rows(self) -> list[tuple[int, int]]:
        return [(prod(shape[:-1]), shape[-1]) for shape in self.shapes]

    def _split(self, x: Array) -> list[Array]:
        """Return the parts of ``(..., 1, size)``, each ``(..., n_i, d_i)``."""
        ends = np.cumsum([0, *self.sizes])
        return [
            x[..., 0, a:b].reshape(*x.shape[:-2], *rows)
            for a, b, rows in zip(ends, ends[1:], self._rows(), strict=False)
        ]

    def _join(self, parts: list[Array]) -> Array:
        flat = [a.reshape(*a.shape[:-2], 1, a.shape[-2] * a.shape[-1]) for a in parts]
        return backend(flat[0]).xp.concatenate(flat, -1)

    def _each(self, method: str, *arrays: Array) -> Array:
        split = zip(*map(self._split, arrays), strict=True)
        return self._join([getattr(g, method)(*a) for g, a in zip(self.geometries, split, strict=True)])

    def check_dimension(self, d: int) -> None:
        """Raise ValueError unless a token has as many components as all parts together."""
        if d != sum(self.sizes):
            raise ValueError(f"the parts {self.shapes} have {sum(self.sizes)} components, but the token dimension is {d}")

    def dimension(self, n: int, d: int) -> int:
        """Return the sum of the dimensions of the parts, for each token."""
        return n * sum(g.dimension(*rows) for g, rows in zip(self.geometries, self._rows(), strict=True))

    def retract(self, y: Array) -> Array:
        """Retract every part."""
        return self._each("retract", y)

    def project(self, x: Array, v: Array) -> Array:
        """Project every part."""
        return self._each("project", x, v)

    def retract_tangent(self, y: Array, v: Array) -> Array:
        """Return the derivative of ``retract``, part by part."""
        return self._each("retract_tangent", y, v)

    def project_tangent(self, x: Array, u: Array, y: Array, dy: Array) -> Array:
        """Return the derivative of ``project(x, y(x))``, part by part."""
        return self._each("project_tangent", x, u, y, dy)

    def exp(self, x: Array, v: Array) -> Array:
        """Go from ``x`` along ``v``, part by part."""
        return self._each("exp", x, v)

    def random(self, n: int, d: int, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> np.ndarray:
        """Draw states ``(*batch, n, d)``, every part on its manifold."""
        parts = [g.random(n * a, b, rng, batch) for g, (a, b) in zip(self.geometries, self._rows(), strict=True)]
        return np.concatenate([p.reshape(*batch, n, -1) for p in parts], -1)

    def basis(self, x: Array) -> Array:
        """Return an orthonormal basis of the tangent space, ``(..., 1, size, r)``, block by block."""
        be, blocks = backend(x), []
        for g, part in zip(self.geometries, self._split(x), strict=True):
            e = g.basis(part)  # (..., n, d, r)
            n, d, r = e.shape[-3:]
            own = be.eye(n, x)[:, None, :, None] * e[..., :, :, None, :]
            blocks.append(own.reshape(*e.shape[:-3], n * d, n * r))
        width, rows, at = sum(b.shape[-1] for b in blocks), [], 0
        for b in blocks:
            before, after = (0 * b[..., :1] + be.like(np.zeros((1, w)), x) for w in (at, width - at - b.shape[-1]))
            rows.append(be.xp.concatenate([before, b, after], -1))
            at += b.shape[-1]
        return be.xp.concatenate(rows, -2)[..., None, :, :]
