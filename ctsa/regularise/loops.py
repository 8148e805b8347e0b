"""How many loops to train with, and through how many of them the gradient goes."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, framework, no_graph
from ctsa._types import States
from ctsa.flows.systems import system_of
from ctsa.geometry import Geometry

from ._opening import stepped

Array = Any
_DEFAULTS = {"lognormal": (0.7, 100), "poisson-lognormal": (0.5, None), "uniform": (0.0, 16)}  # sigma, high


def sample_loops(
    kind: str,
    size: int,
    *,
    mu: float = 2.0,
    sigma: float | None = None,
    mean: float = 32.0,
    low: int = 1,
    high: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw how many loops each step of training takes, so that no single depth is learnt.

    - "lognormal": ``exp(mu + sigma z)``, rounded. STARS has mu 2, sigma 0.7 in 1 ... 100, the default; its fine-tuning of
      Ouro ``mu=1.7, sigma=0.4, high=16``.
    - "poisson-lognormal": one more than a Poisson number whose rate is log-normal with mean ``mean``, sigma 0.5: Huginn.
      The numbers have the mean ``mean + 1``.
    - "uniform": ``low ... high``, 1 ... 16 by default.

    Numbers outside of ``low ... high`` are set to the nearest limit. Let gradients go through the last loops only, 8 in
    Huginn (truncated backpropagation): ``unroll`` does that, and memory is then that of eight loops, whatever is drawn.

    Args:
        kind: of distribution.
        size: how many numbers: draw those of the whole training at once.
        mu: of "lognormal".
        sigma: of the logarithm; None for what was published.
        mean: of the rate of "poisson-lognormal".
        low, high: limits; None for what was published.
        seed: of the numbers.

    Returns:
        NumPy integers ``(size,)``.

    Raises:
        ValueError: ``kind`` is unknown, or limits or parameters are out of range.

    Example:
        >>> import ctsa
        >>> ctsa.regularise.sample_loops("lognormal", 5).shape
        (5,)

    References:
        Geiping et al., arXiv 2502.05171 (Huginn).
    """
    checks.choice("kind", kind, _DEFAULTS)
    usual, most = _DEFAULTS[kind]
    size, low = checks.integer("size", size, low=1), checks.integer("low", low, low=1)
    checks.room(f"size={size} numbers of loops", size)
    high = most if high is None else checks.integer("high", high)
    if high is not None and high < low:
        raise ValueError(f"high={high} is below low={low}")
    mu, mean = checks.number("mu", mu), checks.number("mean", mean, low=0.0, strict=True)
    sigma = usual if sigma is None else checks.number("sigma", sigma, low=0.0)
    rng = np.random.default_rng(checks.seed(seed))
    if kind == "uniform":
        return rng.integers(low, high, size, endpoint=True)
    poisson = kind == "poisson-lognormal"
    center = np.log(mean) - sigma**2 / 2 if poisson else mu
    rate = np.exp(np.minimum(center + sigma * rng.normal(size=size), 40.0))
    drawn = 1 + rng.poisson(rate) if poisson else np.round(rate)
    return np.clip(drawn, low, high).astype(int)


def unroll(layer: Any, x: States, loops: Any, *, last: int = 8, geometry: Geometry | None = None) -> Array:
    """Apply a layer ``loops`` times, the gradient through the last ones only: truncated backpropagation.

    Args:
        layer: a layer or module, in any mode.
        x: states ``(..., n, d)``. Where ``loops`` exceeds ``last``, no gradient reaches them.
        loops: how often; under ``jax.jit`` it may be traced, so that other numbers do not compile again.
        last: through how many loops the gradient goes.
        geometry: where a bare module or function lives.

    Returns:
        The last states ``(..., n, d)``.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    Example:
        >>> import torch, ctsa
        >>> gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> x = torch.ones(1, 1, 1, dtype=torch.float64)
        >>> ctsa.regularise.unroll(lambda x: gain * x, x, 4, last=1, geometry=ctsa.Euclidean()).sum().backward()
        >>> gain.grad.item()  # of 0.5^3 gain
        0.125

    References:
        Geiping et al., arXiv 2502.05171, section 3.3.
    """
    last = checks.integer("last", last, low=1)
    s = system_of(layer, geometry)
    if s.kind != "layer":
        raise TypeError("layer must be callable as layer(x), got a field(t, x) or a sequence of layers")
    x = s.start(x, None)
    be = backend(x)
    traced = framework(loops) == "jax" and checks.concrete(loops) is None
    if not traced:
        loops = checks.integer("loops", loops, low=1)
    step = be.partial(stepped, layer)
    stop = be.stop_gradient
    if traced or loops > last:
        before = be.xp.where(loops > last, loops - last, 0) if traced else loops - last
        with no_graph():
            y = be.repeat(lambda y: stop(step(y)), stop(x), before)
        x = be.xp.where(loops > last, y, x) if traced else y
    for i in range(last if traced else min(loops, last)):
        x = be.xp.where(i < loops, step(x), x) if traced else step(x)
    return x
