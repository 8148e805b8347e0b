"""Discrete maps ``layer(x) -> x`` that are one step of a flow: Euler steps, and the post-norm layer."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.derivatives import jvp_batched, pushforward
from ctsa.fields.base import drift_of, drift_tangent_of
from ctsa.geometry import Geometry
from ctsa.parts import static

from .base import FieldStep

Array = Any


class EulerLayer(FieldStep):
    """One explicit Euler step of a field, retracted: ``layer(x) = N(x + step * field(t, x))``.

    ``ctsa.EulerLayer`` takes any field; ``ctsa.torch.EulerLayer`` is an ``nn.Module`` and ``ctsa.jax.EulerLayer`` an
    ``eqx.Module`` whose ``step`` can be learnt.

    Args:
        field: any field; the layer lives on its geometry.
        step: size of the step, positive.
        geometry: where a bare callable lives.
        retraction: "normalize" divides by the length; "exp" follows the geodesic, ``exp_x(step * field(t, x))``, so
            that a token moves by exactly ``step * |field|`` radians.
        t: when the step is taken, for fields that depend on time.

    Raises:
        TypeError: ``field`` is not callable.
        ValueError: ``step`` is not a positive number, or ``retraction`` is unknown.

    Example:
        >>> import ctsa
        >>> from ctsa.torch import SelfAttention
        >>> path = ctsa.iterate(ctsa.EulerLayer(SelfAttention(beta=4.0), step=0.1), ctsa.random_tokens(8, 3), depth=50)
        >>> tuple(path.xs.shape)
        (51, 8, 3)
    """

    retraction: str
    parts = dict(FieldStep.parts, retraction=static())

    def __init__(
        self, field: Any, step: Any, geometry: Geometry | None = None, retraction: str = "normalize", t: Any = 0.0
    ):
        checks.choice("retraction", retraction, ("normalize", "exp"))
        self._step_of(field, step, geometry, t, retraction=retraction)

    def move(self, x):
        v = self.step * self.field(self._now(x), x)
        return x + v if self.retraction == "normalize" else self.geometry.exp(x, v)

    def move_tangent(self, x, u):
        f, df = pushforward(self.field, self._now(x), x, u)
        v, dv = self.step * f, self.step * df
        if self.retraction == "normalize":
            return x + v, u + dv
        xp, at = backend(x).xp, self.geometry
        return jvp_batched(lambda z: at.exp(z[0], z[1]), xp.stack([x, v]), xp.stack([u, dv], 1))

    def euler_step(self, x):
        at = self.geometry
        s = self.step + 0 * at.inner(x, x)
        if self.retraction == "normalize" or at.flat or type(at).exp is Geometry.exp:
            return s
        if not at.unit:
            raise ValueError(f"retraction='exp' on {at.place} is no Euler step of a known size; use 'normalize'")
        be, v = backend(x), self.field(self._now(x), x)
        xp, s2 = be.xp, self.geometry.inner(v, v)
        speed = xp.where(s2 > 0, xp.where(s2 > 0, s2, xp.ones_like(s2)) ** 0.5, s2)
        turn = s * speed  # N(x + s v) turns by arctan(s |v|)
        short, long = (turn < np.pi / 2).all(), "step is so long that a token turns by a right angle or more: "
        long += "no Euler step goes there"
        known = checks.concrete(short)
        if known is None:
            turn = be.guard(turn, short, long)
        elif not known:
            raise ValueError(long)
        return xp.where(speed > 0, xp.tan(turn) / xp.where(speed > 0, speed, xp.ones_like(speed)), s)


class PostNormLayer(FieldStep):
    """The post-norm residual layer, ``layer(x) = N(x + step * v(x))`` with ``v`` the drift of a field, not projected.

    Since ``x + h v = (1 + h <x, v>) x + h P_x v`` it is, exactly, an Euler step of the flow ``dx/dt = P_x v`` of size
    ``h / (1 + h <x, v>)``, a size of its own for every token (``euler_step``): close to a cluster on the leading
    eigenvector of V the layer runs about ``1 + h <x, v>`` times slower than the flow. Where ``1 + h <x, v> < 0`` the
    token jumps to the far side, which no Euler step does.

    Args:
        field: a field of ours, whose drift is taken; of any other callable the values are taken as they are.
        step: ``h``, positive; 1 in a transformer.
        geometry: where a bare callable lives.
        t: when the step is taken, for fields that depend on time.

    Raises:
        TypeError: ``field`` is not callable.
        ValueError: ``step`` is not a positive number.

    Example:
        >>> import numpy as np, torch, ctsa
        >>> from ctsa.torch import Oja
        >>> layer = ctsa.PostNormLayer(Oja(np.diag([1.0, 0.0])), step=0.5)
        >>> x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        >>> layer.euler_step(x).detach().tolist()  # h / (1 + h <x, V x>)
        [0.3333333333333333]
    """

    def __init__(self, field: Any, step: Any = 1.0, geometry: Geometry | None = None, t: Any = 0.0):
        self._step_of(field, step, geometry, t)

    def move(self, x):
        return x + self.step * drift_of(self.field)(self._now(x), x)

    def move_tangent(self, x, u):
        v, dv = drift_tangent_of(self.field, self._now(x), x, u)
        return x + self.step * v, u + self.step * dv

    def euler_step(self, x):
        return post_norm_step(self.geometry, self.step, x, drift_of(self.field)(self._now(x), x))


def post_norm_step(geometry: Geometry, step: Any, x: Array, v: Array) -> Array:
    """Return the Euler step sizes of ``N(x + h v)``: ``h / (1 + h <x, v>)``; negative where the token jumps over.

    Args:
        geometry: where ``x`` lives.
        step: ``h``.
        x: state ``(..., n, d)``.
        v: drift ``(..., n, d)``.

    Returns:
        ``(..., n)``, or ``(..., n, d / N)`` for oscillators of N channels; ``h`` itself in flat space.
    """
    return step / (1 + step * geometry.along(x, v))
