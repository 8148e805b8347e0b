"""Noise as a term of a field: tokens that diffuse."""

from typing import Any

from ctsa import checks
from ctsa.geometry import Geometry
from ctsa.parts import parameter

from .base import Field

Array = Any


class Noise(Field):
    """White noise, independent for every token, to be added to a field: ``field + Noise(0.1)``.

    dX_i = F_i(X) dt + sigma P_i o dW_i in the sense of Stratonovich. On the sphere this is Brownian motion: its
    generator is ``(sigma^2 / 2)`` times the Laplace--Beltrami operator, so that the mean of a harmonic of degree l
    decays at the rate ``(sigma^2 / 2) l (l + d - 2)``. In flat space it is additive noise.

    Only ``ctsa.integrate`` takes a field with noise, with ``step=`` and ``seed=``, see ``ctsa.flows.stochastic``. A
    noise has no velocity: everything else refuses it. Noises that are added are independent.

    Args:
        sigma: a number, or one a token ``(n,)``; at least 0.
        geometry: where tokens live; that of the field that it is added to.

    Raises:
        ValueError: ``sigma`` is negative.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Noise, SelfAttention
        >>> field, x0 = SelfAttention(beta=4.0) + Noise(0.1), ctsa.random_tokens(8, 3, seed=0)
        >>> ctsa.integrate(field, x0, [0.0, 1.0, 2.0], step=0.01, seed=1).xs.shape
        torch.Size([3, 8, 3])
    """

    sigma: Any
    tokenwise = is_noise = True
    parts = dict(sigma=parameter("n"))

    def __init__(self, sigma: Any, geometry: Geometry | None = None):
        sigma = checks.parameter("sigma", sigma, 0, 1)
        if sigma is None:
            raise TypeError("sigma must be a number, or one a token, got None")
        known = checks.concrete(sigma)
        if known is not None and (known < 0).any():
            raise ValueError(f"sigma must be at least 0, got {float(known.min()):g}")
        self._assign(sigma=sigma, geometry=self._check_geometry(geometry, None))

    def drift(self, t, x):
        raise TypeError(
            "a noise has no velocity: ctsa.integrate(field + Noise(sigma), x0, ts, step=..., seed=...) draws its paths; "
            "what needs a velocity, or its derivative, takes the field without it. MeanField(sigma=...) is the equation of "
            "the density with noise"
        )
