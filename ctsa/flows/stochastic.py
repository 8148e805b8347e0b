r"""Integrate a field with noise: ``dX = F dt + sigma P_X o dW``, Stratonovich, by Heun's method along geodesics.

One step of size h, with ``w`` the increment of W, a normal vector of variance h a component:

.. math::
    Y = \exp_X(h F(X) + \sigma P_X w), \qquad X' = \exp_X(\tfrac h2 (F(X) + P_X F(Y)) + \sigma P_X w) .

On spheres what Stratonovich's integral adds to that of Ito is normal to them, which the geodesic goes by itself:
without F a step on the circle has the law of Brownian motion exactly. On other manifolds, whose retraction need not
follow geodesics, the noise is averaged as in the ambient space: ``(P_X + P_Y) w / 2`` with ``Y = N(X + sigma P_X w)``.
"euler" takes F at X alone.

Paths converge with order 1/2 where noises do not commute, as on spheres, and means with order 1; where noise is
additive, in flat space, paths converge with order 1. Without noise "heun" is of order 2, "euler" of order 1.

The increments are drawn by NumPy, the same for both frameworks: first those of the odd number of longest steps into
which an output interval is cut, then midpoints by Brownian bridges, over and over, each level from a stream of its own.
So half the step refines the *same* path, where steps divide the intervals, and a few thousand of them are in memory at
a time.

References:
    Kloeden, Platen, *Numerical Solution of Stochastic Differential Equations* (1992); Rößler, SIAM J. Numer. Anal. 48
    (2010) 922.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, rounding
from ctsa.geometry import Geometry
from ctsa.parts import everything
from ctsa.results.base import Trajectory

from .opening import check_velocity
from .outcome import IntegrationError

Array = Any

_NORMALS, _LONGEST = 2**20, 4096  # numbers, and steps, that are drawn together
_SCHEMES = ("heun", "euler")


def noisy(field: Any) -> bool:
    """Tell whether a field has a term of noise, at any depth."""
    return any(getattr(each, "is_noise", False) for each in everything(field))


def split(field: Any) -> tuple[Any, list[Any]]:
    """Return what of a field has a velocity (None: nothing) and its noises.

    Raises:
        ValueError: a noise is not a term of its own: in a multiple, or read at other tokens.
    """
    terms = field.terms()
    noises = [term for term in terms if getattr(term, "is_noise", False)]
    rest = [term for term in terms if not getattr(term, "is_noise", False)]
    if any(noisy(term) for term in rest):
        raise ValueError(
            "field has a noise inside of a multiple or of another field, where it has no meaning: add it last, "
            "2.0 * field + Noise(sigma)"
        )
    if len(rest) > 1:
        return field._sum(rest), noises
    return (rest[0] if rest else None), noises


def increments(
    seed: int, interval: int, count: int, duration: float, shape: tuple[int, ...], most: int = _LONGEST
) -> Iterator[np.ndarray]:
    """Yield the increments of Brownian motions over ``count`` equal steps, in blocks of at most ``most``.

    With twice the count the path is the same, at more times.

    Args:
        seed: of the path.
        interval: which one of its intervals.
        count: number of steps.
        duration: of all of them.
        shape: of the motions.
        most: longest block.

    Yields:
        NumPy ``(B, *shape)``, of variance ``duration / count``.

    Example:
        >>> import numpy as np
        >>> from ctsa.flows.stochastic import increments
        >>> coarse, fine = (np.concatenate(list(increments(0, 0, count, 1.0, (2,)))) for count in (6, 12))
        >>> bool(np.allclose(coarse, fine.reshape(6, 2, 2).sum(1)))
        True
    """
    odd, levels = count, 0
    while odd % 2 == 0:
        odd, levels = odd // 2, levels + 1
    streams = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3, interval, k))) for k in range(levels + 1)
    ]

    def blocks(level: int) -> Iterator[np.ndarray]:
        time = duration / (odd << level)
        if level == 0:
            size = max(1, most >> levels)
            for start in range(0, odd, size):
                yield time**0.5 * streams[0].normal(size=(min(size, odd - start), *shape))
            return
        half = max(1, most // 2)
        for block in blocks(level - 1):
            for start in range(0, len(block), half):
                whole = block[start : start + half]
                bridge = (time / 2) ** 0.5 * streams[level].normal(size=whole.shape)
                yield np.stack([whole / 2 + bridge, whole / 2 - bridge], 1).reshape(-1, *shape)

    return blocks(levels)


def integrate_noise(
    field: Any, x0: Any, ts: Any, solver: Any, step: Any, seed: Any, max_steps: Any, normalize: Any, geometry: Geometry,
    grid: Any,
) -> Trajectory:  # fmt: skip
    """Integrate a field with noise, see ``ctsa.integrate``; ``grid`` cuts output times into steps."""
    scheme = "heun" if solver == "dopri5" else solver  # which is what no solver named is
    if scheme not in _SCHEMES:
        raise ValueError(f"solver must be one of 'heun', 'euler' where there is noise, got {solver!r}")
    if step is None:
        raise ValueError("step must be given where there is noise: the size of a step, e.g. step=0.01")
    step = checks.number("step", step, low=0.0, strict=True)
    seed = 0 if seed is None else checks.seed(seed)
    rest, noises = split(field)
    x = checks.tokens(x0, field, geometry, normalize=normalize)
    be = backend(x)
    times = checks.output_times(ts, eps=rounding(x))
    if times[-1] < times[0]:
        raise ValueError("ts must increase where there is noise: a diffusion does not run backward")
    at = grid(times, step)
    counts = np.diff(np.searchsorted(at, times, side="left"))
    if counts.sum() > checks.integer("max_steps", max_steps, low=1):
        raise ValueError(
            f"step={step:g} needs {counts.sum()} steps, more than max_steps={max_steps}: raise one of them"
        )
    if rest is not None:
        x = check_velocity(be, rest, geometry, be.like(times[0], x), x)
    sigma = _strength(be, noises)
    advance = be.partial(_step, rest, geometry, scheme, sigma)
    most = int(np.clip(_NORMALS // max(1, int(np.prod(x.shape))), 1, _LONGEST))
    xs, done = [x], 0
    for i, count in enumerate(counts):
        h, passed = (times[i + 1] - times[i]) / count, 0
        for block in increments(seed, i, int(count), times[i + 1] - times[i], tuple(x.shape), most):
            start = be.like(times[i] + passed * h, x)
            carry = x, start, be.like(h, x), be.like(block, x), be.xp.arange(1)[0]
            x, passed = be.scan(advance, carry, len(block))[0][0], passed + len(block)
        done += passed
        values = checks.concrete(x)
        if values is not None and not np.isfinite(values).all():
            reached = _trajectory(be, times[: len(xs)], xs, done, scheme, seed)
            raise IntegrationError(
                f"integrate reached t={times[i]:g} of {times[-1]:g} in {done} steps: the state became nan or inf; take a "
                "smaller step. The error's .trajectory holds the outputs so far",
                reached,
            )
        x = geometry.retract(x)
        xs.append(x)
    return _trajectory(be, times, xs, done, scheme, seed)


def _strength(be: Any, noises: list[Any]) -> Array:
    """Return sigma to multiply tokens with: that of independent noises together, ``()`` or ``(n, 1)``."""
    sigma = noises[0].sigma
    if len(noises) > 1:
        square = sum(noise.sigma**2 for noise in noises)
        sigma = be.xp.where(square > 0, be.xp.where(square > 0, square, 1.0) ** 0.5, 0.0 * square)
    return sigma[:, None] if sigma.ndim else sigma


def _step(field: Any, geometry: Geometry, scheme: str, sigma: Array, carry: tuple) -> tuple:
    x, t, h, w, i = carry
    noise = sigma * w[i]
    first = geometry.project(x, noise)
    drift = 0.0 * x if field is None else h * geometry.project(x, field(t, x))
    if geometry.unit or geometry.flat:  # along geodesics, with vectors at x
        go, at, along = geometry.exp, lambda y: x, first
    else:  # a retraction may bend aside: the noise is averaged in the ambient space, to second order
        go, at = lambda x, v: geometry.retract(x + v), lambda y: y
        along = 0.5 * (first + geometry.project(go(x, first), noise))
    if scheme == "heun" and field is not None:
        y = go(x, first + drift)
        drift = 0.5 * (drift + h * geometry.project(at(y), field(t + h, y)))
    return (go(x, along + drift), t + h, h, w, i + 1), i


def _trajectory(be: Any, times: np.ndarray, xs: list, steps: int, scheme: str, seed: int) -> Trajectory:
    stats = dict(
        steps=steps, rejected=0, evaluations=steps * (2 if scheme == "heun" else 1), interpolated=0, radius_error=0.0,
        stopped=False, seed=seed,
    )  # fmt: skip
    return Trajectory(be.xp.asarray(times), be.xp.stack(xs), stats)
