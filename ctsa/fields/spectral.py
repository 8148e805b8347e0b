"""Real harmonics of the circle and the two-sphere as a basis of densities, and quadrature that their products need."""

import functools
from typing import Any, NamedTuple

import numpy as np

from ctsa._backend import backend
from ctsa.attention.series import harmonics, moments
from ctsa.geometry.densities import bands

Array = Any


class Basis(NamedTuple):
    """Harmonics at the nodes of a quadrature.

    Attributes:
        nodes: unit vectors ``(G, d)``.
        shares: weights ``(G,)``, which add up to one: sums are means over the sphere.
        values: ``Y_a`` at the nodes, ``(features, G)``, without the constant; the mean of ``Y_a Y_b`` is 1 if a = b,
            else 0.
        slopes: their tangential gradients ``(features, G, d)``.
        decay: ``l (l + d - 2) / 2`` of each, minus half the eigenvalue of the Laplacian: ``(1, features)``.
    """

    nodes: np.ndarray
    shares: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    decay: np.ndarray


def quadrature(d: int, exact: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes ``(G, d)`` and weights ``(G,)`` that give the mean of every polynomial of degree ``exact`` or less.

    Equispaced on the circle; on the two-sphere Gauss--Legendre in the height, equispaced around, with no node at a pole.

    Example:
        >>> from ctsa.fields.spectral import quadrature
        >>> nodes, shares = quadrature(3, 4)
        >>> nodes.shape, float((shares * nodes[:, 0] ** 4).sum().round(12))
        ((15, 3), 0.2)
    """
    count = exact + 1
    angle = 2 * np.pi * np.arange(count) / count
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    if d == 2:
        return ring, np.full(count, 1 / count)
    height, share = np.polynomial.legendre.leggauss(-(-count // 2))
    radius = np.sqrt(1 - height**2)[:, None, None]
    nodes = np.concatenate([radius * ring, np.broadcast_to(height[:, None, None], (*height.shape, count, 1))], -1)
    return nodes.reshape(-1, 3), np.repeat(share / 2 / count, count)


@functools.lru_cache(64)
def _places(d: int, degree: int) -> tuple[np.ndarray, float]:
    """Return where the harmonics from degree one on stand in those of ``ctsa.attention.series``, and a factor."""
    if d == 2:
        return np.arange(2, 2 * degree + 2), 2.0**0.5
    size = degree + 1
    rows = [(l * size + m) * 2 + part for l in range(1, size) for part in (0, 1) for m in range(part, l + 1)]
    return np.array(rows), 1.0


def values_at(points: Array, degree: int) -> Array:
    """Return the harmonics at unit vectors ``(B, d)``: ``(features, B)``."""
    where, factor = _places(points.shape[1], degree)
    return factor * harmonics(points, degree).reshape(-1, points.shape[0])[where]


def means_of(x: Array, degree: int) -> Array:
    """Return the means of the harmonics over tokens ``(n, d)``: ``(features,)``, in memory that does not grow with n."""
    where, factor = _places(x.shape[1], degree)
    xp = backend(x).xp
    return factor / x.shape[0] * moments(x, xp.ones_like(x[:, :1]), degree).reshape(-1)[where]


@functools.lru_cache(8)
def basis(d: int, degree: int, exact: int) -> Basis:
    """Return the harmonics up to a degree at the nodes of ``quadrature(d, exact)``."""
    nodes, shares = quadrature(d, exact)
    values = values_at(nodes, degree)
    tiny = 1e-30  # a complex step: harmonics are polynomials of the components, so that nothing cancels
    slopes = np.stack([values_at(nodes + 1j * tiny * e, degree).imag / tiny for e in np.eye(d)], -1)
    slopes = slopes - (slopes * nodes).sum(-1, keepdims=True) * nodes
    l = bands(d, degree)
    return Basis(nodes, shares, values, slopes, (l * (l + d - 2) / 2.0)[None])
