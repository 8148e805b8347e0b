"""Where a transformer normalises sets the speed of its tokens: six schemes as flows, and as layers."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend
from ctsa.fields.base import Field
from ctsa.geometry import Euclidean, Sphere
from ctsa.parts import constant, inner, parameter, static

from .euler import EulerLayer, PostNormLayer

Array = Any
_UNIT = Sphere()
ON_SPHERE = ("post", "ngpt", "ln-scaling")  # schemes whose tokens keep unit length
WITH_RADIUS = ("pre", "peri", "mix")  # schemes whose tokens y = r theta grow
SCHEMES = (*ON_SPHERE, *WITH_RADIUS)


class SpeedRegulated(Field):
    """Attention under a normalisation scheme: directions theta move by ``P A(theta) / s`` with a speed of their own.

    A is the drift of a field (attention before projection), ``theta = y / |y|``, ``r = |y|``:

    ============ ==================== ============================== ====================================
    scheme       theta' = P A / s     state, and its velocity        layer
    ============ ==================== ============================== ====================================
    "post"       ``s = 1``            ``theta: P A``                 ``N(x + h A(x))``
    "ngpt"       ``s = |A| / alpha``  ``theta: P alpha N(A)``        ``N(x + h alpha (N(A(x)) - x))``
    "ln-scaling" ``s = sqrt(t + 1)``  ``theta: P A / sqrt(t + 1)``   ``N(x + h A(x) / sqrt(t + 1))``
    "pre"        ``s = r``            ``y = r theta: A(N(y))``       ``y + h A(N(y))``
    "peri"       ``s = r |A|``        ``y: N(A(N(y)))``              ``y + h N(A(N(y)))``
    "mix"        ``1``, then ``r``    ``y: r P A``, then ``A(N(y))`` "post", then "pre", from ``switch`` on
    ============ ==================== ============================== ====================================

    The first three live on the sphere, the others in flat space with r a part of the state: take directions by
    ``ctsa.Sphere().retract(xs)``. ``layers(step, depth)`` gives the layers that discretise the scheme.

    Args:
        field: a field of ours on the sphere, usually ``SelfAttention``.
        scheme: one of the names above.
        alpha: speed of "ngpt", positive.
        switch: time at which "mix" turns from "post" to "pre". The velocity of r jumps there, which costs adaptive
            solvers about two digits: make it an output time, and ``atol`` smaller.

    Raises:
        ValueError: an unknown scheme, or ``switch`` missing for "mix".

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention, SpeedRegulated
        >>> peri = SpeedRegulated(SelfAttention(beta=2.0), "peri")
        >>> traj = ctsa.integrate(peri, np.eye(8), [0.0, 1.0])
        >>> directions = ctsa.Sphere().retract(traj.xs)

    References:
        Karagodin, Ge, Polyanskiy, Rigollet, *Normalization in Attention Dynamics*, arXiv 2510.22026.
    """

    field: Any
    alpha: Any
    switch: Any
    scheme: str
    parts = dict(field=inner(), alpha=parameter(), switch=constant(), scheme=static())

    def __init__(self, field: Any, scheme: str, alpha: Any = 1.0, switch: Any = None):
        checks.choice("scheme", scheme, SCHEMES)
        if not isinstance(field, Field):
            raise TypeError(f"field must be a field of ctsa, which has a drift, got {type(field).__name__}")
        if field.geometry != _UNIT:
            raise ValueError(f"field must live on ctsa.Sphere(), got {field.geometry!r}")
        alpha, switch = checks.parameter("alpha", alpha, 0), checks.parameter("switch", switch, 0)
        checks.constant("switch", switch)
        size = None if alpha is None else checks.concrete(alpha)
        if alpha is None or (size is not None and not size > 0):
            raise ValueError(f"alpha must be a positive number, got {alpha}")
        if (switch is None) == (scheme == "mix"):
            raise ValueError("scheme 'mix' needs switch, the time at which it turns to 'pre'; the others take none")
        geometry = _UNIT if scheme in ON_SPHERE else Euclidean()
        self._assign(alpha=alpha, switch=switch, field=field, scheme=scheme, geometry=geometry)

    def drift(self, t, x):
        if self.geometry == _UNIT:
            a = self.field.drift(t, x)
            if self.scheme == "ngpt":
                return self.alpha * (_UNIT.retract(a) - x)
            return a if self.scheme == "post" else a / (t + 1) ** 0.5
        y = _UNIT.retract(x)
        a = self.field.drift(t, y)
        if self.scheme == "mix":
            return backend(x).xp.where(t < self.switch, _UNIT.radius(x) * _UNIT.project(y, a), a)
        return a if self.scheme == "pre" else _UNIT.retract(a)

    def drift_tangent(self, t, x, u):
        if self.geometry == _UNIT:
            a, da = self.field.drift_tangent(t, x, u)
            if self.scheme == "ngpt":
                return self.alpha * (_UNIT.retract(a) - x), self.alpha * (_UNIT.retract_tangent(a, da) - u)
            s = 1.0 if self.scheme == "post" else (t + 1) ** -0.5
            return s * a, s * da
        y, v = _UNIT.retract(x), _UNIT.retract_tangent(x, u)
        a, da = self.field.drift_tangent(t, y, v)
        if self.scheme == "mix":
            r, where = _UNIT.radius(x), backend(x).xp.where
            first = _UNIT.project(y, a)
            dfirst = (y * u).sum(-1, keepdims=True) * first + r * _UNIT.project_tangent(y, v, a, da)
            return where(t < self.switch, r * first, a), where(t < self.switch, dfirst, da)
        return (a, da) if self.scheme == "pre" else (_UNIT.retract(a), _UNIT.retract_tangent(a, da))

    def layers(self, step: float, depth: int) -> list[Any]:
        """Return the layers of the scheme, ``depth`` of them, for ``ctsa.iterate``: layer k stands at time ``k step``.

        Args:
            step: size of a step, 1 in a transformer.
            depth: how many.
        """
        depth = checks.integer("depth", depth, low=1)
        size = checks.number("step", step, low=0.0, strict=True)
        times = [k * size for k in range(depth)]
        if self.scheme in ON_SPHERE:
            return [PostNormLayer(self, size, t=t) for t in times]
        if self.scheme == "mix":
            switch = float(backend(self.switch).to_numpy(self.switch))
            early = [PostNormLayer(self.field, size, t=t) for t in times if t < switch]
            return early + [EulerLayer(self, size, t=t) for t in times if t >= switch]
        return [EulerLayer(self, size, t=t) for t in times]
