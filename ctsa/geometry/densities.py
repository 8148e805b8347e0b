"""Where the coefficients of a density live."""

from dataclasses import dataclass

import numpy as np

from ctsa.checks import integer

from .euclidean import Euclidean


def bands(sphere: int, degree: int) -> np.ndarray:
    """Return the degree ``l = 1 ... degree`` of every real harmonic on the circle (2) or the two-sphere (3), in order.

    Example:
        >>> from ctsa.geometry.densities import bands
        >>> bands(2, 2), bands(3, 1)
        (array([1, 1, 2, 2]), array([1, 1, 1]))
    """
    l = np.arange(1, degree + 1)
    return np.repeat(l, 2 if sphere == 2 else 2 * l + 1)


@dataclass(frozen=True)
class Densities(Euclidean):
    """Flat space of the harmonic coefficients of a density on the circle (2) or the two-sphere (3), see ``MeanField``.

    As ``Euclidean``, but for two things: states drawn at random are positive densities, and no rotation of coefficients is
    taken for a symmetry of tokens. A state is ``(1, features)``: one point, so that there are no tokens to exchange.

    Args:
        sphere: 2 for the circle, 3 for the two-sphere.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.geometry.Densities(2).random(1, 8, np.random.default_rng(0)).shape
        (1, 8)
    """

    sphere: int = 2
    place = "the densities"

    def __post_init__(self):
        if integer("sphere", self.sphere) not in (2, 3):
            raise ValueError(f"sphere must be 2 (the circle) or 3 (the two-sphere), got {self.sphere}")

    def degree(self, features: int) -> int:
        """Return up to which degree so many coefficients reach.

        Raises:
            ValueError: no degree has so many.
        """
        top = features // 2 if self.sphere == 2 else round((features + 1) ** 0.5) - 1
        if top < 1 or len(bands(self.sphere, top)) != features:
            wanted = "2 degree" if self.sphere == 2 else "(degree + 1)^2 - 1"
            raise ValueError(f"a density has {wanted} coefficients, without that of its mass, got {features}")
        return top

    def check_dimension(self, d: int) -> None:
        """Raise ValueError if no degree has ``d`` coefficients."""
        self.degree(d)

    def random(self, n: int, d: int, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> np.ndarray:
        """Draw densities ``(*batch, n, d)`` that are positive, and smooth: degrees fall off as ``2^-l``.

        By the addition theorem harmonics of degree l are at most ``|c_l| sqrt(N_l)``, with N_l of them: sums below one
        leave the density positive.
        """
        l = bands(self.sphere, self.degree(d))
        c = rng.normal(size=(*batch, n, d)) * 0.5**l
        start = np.flatnonzero(np.diff(l, prepend=0))
        most = np.sqrt(np.add.reduceat(c * c, start, -1) * np.diff(start, append=d)).sum(-1, keepdims=True)
        return 0.9 * rng.uniform(size=(*batch, n, 1)) * c / most

    def generators(self, d: int) -> np.ndarray:
        """Return none: rotations of the plane of two coefficients are no motions of the sphere."""
        return np.zeros((0, d, d))
