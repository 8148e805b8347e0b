"""The stroboscopic map of a driven flow: a layer that follows it over one period of the drive."""

from typing import Any

from ctsa import checks
from ctsa._backend import backend
from ctsa.derivatives import variational
from ctsa.events import depends_on_time
from ctsa.flows.opening import check_solver
from ctsa.flows.solver import Solver, takes_solver
from ctsa.geometry import Geometry, geometry_of

Array = Any


def _drive(field, g, t, state):
    (y,) = state
    return (g.extend(lambda x: field(t, x), y),)


class Stroboscopic:
    """The map ``x(t0) -> x(t0 + period)`` of a flow whose field has that period in time (Poincare's map of the drive).

    Periodic responses of the flow are its fixed points, responses of k periods its cycles of length k; its exponents are
    those of the flow times the period. It is a layer: ``ctsa.iterate``, ``ctsa.lyapunov_spectrum`` and ``ctsa.eigenvalues``
    (Floquet multipliers, at a fixed point) take it.

    Args:
        field: ``field(t, x)`` with ``field(t + period, x) = field(t, x)``, which is checked at the first state.
        period: of the drive.
        t0: when the period begins.
        solver, rtol, atol, max_steps: as for ``ctsa.integrate`` (adaptive solvers).
        geometry: where a bare callable lives.

    Raises:
        ValueError: ``period`` is not positive; or, when called, the field does not have this period. If the solver gives
            up, the state becomes nan.

    Example:
        >>> import torch, ctsa
        >>> from ctsa.layers import Stroboscopic
        >>> layer = Stroboscopic(lambda t, x: -x + torch.cos(t), 2 * torch.pi, geometry=ctsa.Euclidean())
        >>> run = ctsa.iterate(layer, torch.zeros(1, 1, dtype=torch.float64), depth=6)
        >>> round(float(run.xs[-1]), 6)  # (cos t + sin t) / 2 at t = 0
        0.5

    References:
        Guckenheimer and Holmes, *Nonlinear Oscillations, Dynamical Systems, and Bifurcations of Vector Fields*,
        section 1.5.
    """

    @takes_solver
    def __init__(
        self, field: Any, period: float, *, t0: float = 0.0, solver: Any = "dopri5", rtol: float = 0.0,
        atol: float = 1e-8, max_steps: int = 100_000, geometry: Geometry | None = None,
    ):  # fmt: skip
        if not callable(field):
            raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
        self.field, self.geometry = field, geometry_of(field, geometry)
        self.period = checks.number("period", period, low=0.0, strict=True)
        self.t0 = checks.number("t0", t0)
        self.solver = Solver(solver, rtol, atol, None, checks.integer("max_steps", max_steps, low=1))
        self._checked = False

    def _over(self, rhs: Any, state: tuple) -> tuple:
        x = state[0]
        be = backend(x)
        segment = check_solver(self.solver, x).segment(self.period)
        self._check_period(x)
        ends, ok, _ = be.flow_map(rhs, state, be.like(self.t0, x), be.like(self.period, x), segment)
        return tuple(be.xp.where(ok, y, be.xp.nan) for y in ends)

    def _check_period(self, x: Array) -> None:
        if self._checked or backend(x).concrete(x) is None:
            return
        period = self.period
        be = backend(x)
        size = float(be.to_numpy(be.xp.abs(self.field(be.like(self.t0, x), x)).max()))
        for share in (0.0, 0.3, 0.7):
            t = be.like(self.t0 + share * period, x)
            off = self.field(t + period, x) - self.field(t, x)
            far = float(be.to_numpy(be.xp.abs(off).max()))
            if far > 1e-4 * max(size, 1e-300) and depends_on_time(self.field, x, self.t0):
                raise ValueError(
                    f"field does not have the period {period:g}: the velocities at t={float(t):g} and a period later "
                    f"differ by {far:.3g}"
                )
        self._checked = True

    def __call__(self, x: Array) -> Array:
        """Return the state a period later."""
        be = backend(x)
        (y,) = self._over(be.partial(_drive, self.field, self.geometry), (x,))
        return self.geometry.retract(y)

    def tangent(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return the state a period later and the derivative along directions ``u`` of shape ``(k, ..., n, d)``."""
        y, v = self._over(backend(x).partial(variational, self.field, self.geometry), (x, u))
        y = self.geometry.retract(y)
        return y, self.geometry.project(y, v)
