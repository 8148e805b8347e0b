"""Where a run ended: the fixed point nearby, multipliers, and what the end state owes to the inputs."""

from typing import Any, NamedTuple

import numpy as np

from ctsa._backend import backend, framework, rounding
from ctsa.geometry import Geometry
from ctsa.layers.loop import Loop, mapped
from ctsa.results.base import as_numpy
from ctsa.tangent._arnoldi import arnoldi, leading_of, solve_shifted
from ctsa.tangent._products import Chain, layer_link

from .kinds import REGULAR
from .passing import Passed

Array = Any
_MOST = 96  # products for multipliers
_SOLVE = 48  # products for a linear system
_NEWTON_STEPS, _TOL = 3, 3e-3  # residual of the linear systems: steps gain as much
_SPACE, _AHEAD = 16, 400  # dimension in which, and loops over which, the way down to a fixed point is followed


class Ends(NamedTuple):
    """Of every member.

    Attributes:
        multipliers: leading eigenvalues of the derivative of f, or of f^p, at the end state, ``(members, count)``.
        errors: their residuals.
        distance: from the end state to the fixed point that Newton's steps lead to; nan where they lead nowhere.
        gain: residual after the last of these steps over that before.
        point: the fixed point, ``(members, n, d)``.
        bend: how far the map is from its linear part between the two, see ``_bend``.
    """

    multipliers: np.ndarray
    errors: np.ndarray
    distance: np.ndarray
    gain: np.ndarray
    point: np.ndarray
    bend: np.ndarray


def chain_of(layer: Any, g: Geometry, x: Array, period: int = 1) -> Chain:
    """Return the derivative of ``period`` applications at states ``(members, n, d)``, as products."""
    be, links = backend(x), []
    for _ in range(period):
        links.append(layer_link(layer, g, x))
        x = be.call(layer, x)
    return Chain(links)


def multipliers(chain: Chain, g: Geometry, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading eigenvalues of a chain, and their residuals, ``(members, count)``."""
    rank = g.dimension(*chain.shape[-2:])
    start = chain.start(1, seed)[..., 0]
    tol = max(1e-5, 1e3 * rounding(chain.x))
    values, errors = leading_of(chain.forward, start, min(count, rank), rank=rank, tol=tol, most=_MOST, inside=chain.inside)
    more = ((0, 0), (0, count - values.shape[1]))
    return np.pad(values, more, constant_values=np.nan), np.pad(errors, more, constant_values=np.nan)


def cycle_multipliers(p: Passed, last: np.ndarray, period: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading multipliers of cycles on which members end, and their residuals, ``(members, count)``."""
    g, x = p.system.geometry, p.like(last)
    chain = chain_of(p.last_map, g, x, period)
    return multipliers(chain, g, count, p.plan.seed)


def ends(p: Passed, last: np.ndarray, count: int) -> Ends:
    """Look at where runs ended: at states ``(members, n, d)``.

    Multipliers are those at the fixed point, where Newton's steps lead to one.
    """
    layer, g, x = p.last_map, p.system.geometry, p.like(last)
    be = backend(x)
    size = np.linalg.norm(last, axis=(-2, -1)) + 1e-300
    y, gain = _newton(p, x, size)
    point = as_numpy(y).astype(float)
    distance = np.linalg.norm(point - last, axis=(-2, -1)) / size
    near = (gain < REGULAR) & (distance < 1e3)
    chain = chain_of(layer, g, p.like(np.where(near[:, None, None], point, last)))
    found, errors = multipliers(chain, g, count, p.plan.seed)
    delta, image = (
        as_numpy(g.project(y, a - y)).astype(float).reshape(len(size), -1) for a in (x, be.call(layer, x))
    )
    bend = np.where(near, _bend(chain, delta, image, p.noise * size, g.dimension(*x.shape[-2:])), np.nan)
    return Ends(found, errors, np.where(np.isfinite(gain), distance, np.nan), gain, point, bend)


def _newton(p: Passed, x: Array, size: np.ndarray) -> tuple[Array, np.ndarray]:
    """Return where Newton's steps lead from states, and the residual after the last step over that before; nan: nowhere."""
    layer, g, be, y = p.last_map, p.system.geometry, backend(x), x
    lost = np.zeros(len(size), dtype=bool)
    sizes = [_residual(be, layer, x)]
    for _ in range(_NEWTON_STEPS):
        if not (~lost & (sizes[-1] > 10 * p.noise * size)).any():
            break
        chain = chain_of(layer, g, y)
        b = as_numpy(g.project(y, be.call(layer, y) - y)).astype(float).reshape(len(size), -1)
        step, off, _ = solve_shifted(
            chain.forward, b, rank=g.dimension(*x.shape[-2:]), tol=_TOL, most=_SOLVE, inside=chain.inside
        )
        lost |= ~((off < 0.01) & (np.linalg.norm(step, axis=-1) < 1e3 * size))
        step = np.where(lost[:, None], 0.0, step)
        y = g.exp(y, p.like(step.reshape(tuple(x.shape))))
        sizes.append(_residual(be, layer, y))
        lost |= ~np.isfinite(sizes[-1])
        y = p.like(np.where(lost[:, None, None], as_numpy(x), as_numpy(y)))
    before, after = sizes[-2] if len(sizes) > 1 else 0 * sizes[-1], sizes[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(after <= 30 * p.noise * size, 0.0, after / before)
    return y, np.where(lost, np.nan, gain)


def _bend(chain: Chain, delta: np.ndarray, image: np.ndarray, noise: np.ndarray, rank: int) -> np.ndarray:
    """Return how much the map bends between a state and a fixed point, and all the way down to it.

    ``|f(x) - x* - J (x - x*)| / |x - x*|``, times how much ``|J^k (x - x*)|`` exceeds ``|x - x*|`` on the way.
    """
    length = np.linalg.norm(delta, axis=-1)
    moved = chain.forward(delta[..., None])[..., 0]
    off = np.maximum(np.linalg.norm(image - moved, axis=-1) - 30 * noise, 0.0)
    krylov = arnoldi(chain.forward, delta, min(rank, _SPACE), chain.inside)
    h, z = krylov.h[:, : krylov.steps], np.eye(1, krylov.steps)[0] + 0 * krylov.h[:, 0]
    most = np.ones(len(delta))
    for _ in range(_AHEAD):
        z = (h @ z[..., None])[..., 0]
        most = np.fmax(most, np.linalg.norm(z, axis=-1))
    return np.where(length > 30 * noise, off / (length + 1e-300) * most, 0.0)


def _residual(be: Any, layer: Any, x: Array) -> np.ndarray:
    off = as_numpy(be.call(layer, x) - x).astype(float)
    return np.linalg.norm(off, axis=(-2, -1))


def sensitivity(p: Passed, last: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return ``|(1 - J)^-1 d_e f|``, the change of a fixed point by a random change of its inputs, both relative.

    ``numbers`` are those of the members among all, from which their directions follow.

    A root mean square over directions, ``(members,)``; nan where the layer has no inputs that are numbers, or the linear
    system was not solved.
    """
    loop, g, x, members = p.last_map, p.system.geometry, p.like(last), len(last)
    arrays = _floating(loop.inputs) if isinstance(loop, Loop) and loop.batched else []
    if not arrays:
        return np.full(members, np.nan)
    be = backend(x)
    streams = [np.random.default_rng([p.plan.seed, 1, i]) for i in numbers]
    total, chain = np.zeros(members), chain_of(loop, g, x)
    for _ in range(p.plan.probes):
        draws = [np.stack([stream.normal(size=tuple(a.shape[1:])) for stream in streams]) for a in arrays]
        length = sum((d.reshape(members, -1) ** 2).sum(1) for d in draws) ** 0.5
        draws = [d / length.reshape(-1, *[1] * (d.ndim - 1)) for d in draws]
        b = _pushed(be, loop, x, arrays, [be.like(d, x) for d in draws])
        b = as_numpy(g.project(x, b)).astype(float).reshape(members, -1)
        y, off, _ = solve_shifted(
            chain.forward, b, rank=g.dimension(*x.shape[-2:]), tol=1e-4, most=_SOLVE, inside=chain.inside
        )
        total += np.where(off < 0.01, (y**2).sum(1), np.nan)
    inputs = sum((as_numpy(a).astype(float).reshape(members, -1) ** 2).sum(1) for a in arrays) ** 0.5
    return (total / p.plan.probes) ** 0.5 / (np.linalg.norm(last, axis=(-2, -1)) + 1e-300) * inputs


def _floating(inputs: Any) -> list[Array]:
    found: list[Array] = []

    def look(a):
        if hasattr(a, "dtype") and "float" in str(a.dtype) and a.ndim:
            found.append(a)
        return a

    mapped(look, inputs)
    return found


def _pushed(be: Any, loop: Loop, x: Array, arrays: list, directions: list) -> Array:
    """Return the derivative of one loop along directions of its inputs."""
    arrays = [be.like(a, x) if framework(a) == "numpy" else a for a in arrays]

    def image(*values):
        left = list(values)
        inputs = mapped(lambda a: left.pop(0) if _floating(a) else a, loop.inputs)
        return g.retract(loop.image(x, inputs=inputs))

    g = loop.geometry
    return be.call(be.jvp, image, tuple(arrays), tuple(directions))[1]
