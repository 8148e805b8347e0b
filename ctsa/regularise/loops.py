"""How many loops to train with, and through how many of them gradients go."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa._types import States
from ctsa.geometry import Geometry

from ._reading import read

Array = Any


def sample_loops(
    kind: str = "poisson-lognormal",
    size: int = 1,
    *,
    mean: float = 32.0,
    sigma: float = 0.5,
    low: int = 1,
    high: int = 100,
    key: Any = 0,
) -> np.ndarray:
    """Draw numbers of loops to train with, so that no single depth is learnt.

    - "lognormal": ``round(exp(N(mu, sigma^2)))``, whose mean is ``mean``: ``mu = log(mean) - sigma^2 / 2``;
    - "poisson-lognormal": Poisson numbers, plus one, whose rate is log-normal with mean ``mean - 1``;
    - "uniform": from ``low`` to ``high``, all alike.

    Numbers outside of ``low ... high`` are drawn in to these. Published settings: Huginn "poisson-lognormal" with mean 33,
    sigma 0.5 (and gradients through the last 8 loops, see ``unroll``); STARS "lognormal" with mu 2, sigma 0.7 in 1 ... 100
    (mean 9.44), and with mu 1.7, sigma 0.4 in 1 ... 16 (mean 5.93).

    Args:
        kind: of distribution.
        size: how many to draw.
        mean: of the distribution, before limits.
        sigma: of the normal distribution.
        low, high: limits.
        key: an integer, or a ``numpy.random.Generator``, which goes on from call to call.

    Returns:
        NumPy integers ``(size,)``.

    Example:
        >>> import ctsa
        >>> ctsa.regularise.sample_loops("lognormal", 5, mean=9.44, sigma=0.7).shape
        (5,)

    References:
        Geiping et al., arXiv 2502.05171 (Huginn).
    """
    checks.choice("kind", kind, ("lognormal", "poisson-lognormal", "uniform"))
    size, low = checks.integer("size", size, low=1), checks.integer("low", low, low=1)
    high = checks.integer("high", high, low=low)
    mean = checks.number("mean", mean, low=1.0, strict=True)
    sigma = checks.number("sigma", sigma, low=0.0)
    rng = key if isinstance(key, np.random.Generator) else np.random.default_rng(checks.seed(key, "key"))
    if kind == "uniform":
        return rng.integers(low, high + 1, size)
    poisson = kind.startswith("poisson")
    rate = np.exp(rng.normal(np.log(mean - poisson) - sigma**2 / 2, sigma, size))
    drawn = 1 + rng.poisson(np.minimum(rate, 1e9)) if poisson else np.round(rate)
    return np.clip(drawn, low, high).astype(int)


def unroll(layer: Any, x: States, loops: int, *, last: int = 8, geometry: Geometry | None = None) -> Array:
    """Apply a layer ``loops`` times, with gradients through the last ones only: truncated backpropagation.

    Memory is that of ``last`` loops.

    Args:
        layer: any layer or module.
        x: states ``(..., n, d)``.
        loops: how often.
        last: through how many loops gradients go.
        geometry: where a bare module lives; the sphere by default.

    Returns:
        The last states.

    Example:
        >>> import torch, ctsa
        >>> gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> x = torch.ones(1, 1, 1, dtype=torch.float64)
        >>> ctsa.regularise.unroll(lambda x: gain * x, x, 4, last=1, geometry=ctsa.Euclidean()).sum().backward()
        >>> gain.grad.item()  # of 0.5^3 gain
        0.125
    """
    loops, last = checks.integer("loops", loops, low=1), checks.integer("last", last, low=1)
    r = read(layer, x, geometry)
    be, y = backend(r.x), r.x
    if loops > last:
        y = be.stop_gradient(be.repeat(be.partial(_fixed, layer), be.stop_gradient(y), loops - last))
    for _ in range(min(loops, last)):
        y = layer(y)
    return y


def _fixed(layer: Any, x: Array) -> Array:
    return backend(x).stop_gradient(layer(x))
