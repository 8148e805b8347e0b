"""The linearisation at one state as a result: all eigenvalues of the tangent Jacobian, and what bounds them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa._backend import analysis
from ctsa._types import State
from ctsa.geometry import Geometry
from ctsa.results.base import Result, as_numpy, picture
from ctsa.results.text import columns, lines

from .jacobians import eigenvalues, read, tangent_matrix
from .march import check_moving


@dataclass(frozen=True)
class JacobianSpectrum(Result):
    """Eigenvalues of the tangent Jacobian at a state, with its norm and its growth at once.

    Attributes:
        x: the state ``(n, d)``.
        eigenvalues: ``(m,)`` complex, of a flow by real part, of a layer by modulus, descending; 1 / time, or 1 / layer.
        norm: spectral norm, the largest singular value.
        abscissa: of a flow the numerical abscissa, the fastest growth at once: the largest eigenvalue of ``(J + J^T) / 2``.
        divergence: the trace.
        speed: of the fastest token of a flow; of a layer the farthest that it moves one.
        time: at which it was taken: of the flow, or how many layers had been passed.
        continuous: whether of a flow.
    """

    x: Any
    eigenvalues: Any
    norm: float
    abscissa: float
    divergence: float
    speed: float
    time: float
    continuous: bool
    _static: ClassVar[tuple[str, ...]] = ("norm", "abscissa", "divergence", "speed", "time", "continuous")
    _units: ClassVar[dict[str, str]] = {"eigenvalues": "per unit of time, or layer"}
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"x": ("token", "component"), "eigenvalues": ("mode",)}

    @property
    def growing(self) -> int:
        """How many eigenvalues grow: of positive real part, or of modulus above 1, beyond rounding."""
        size = np.asarray(self.eigenvalues).real if self.continuous else np.abs(self.eigenvalues) - 1
        return int(np.sum(size > 1e-9 * max(1.0, self.norm)))

    def __repr__(self) -> str:
        values = np.asarray(self.eigenvalues)
        top = f"{values[0]:.6g}" if len(values) else "none"
        return f"JacobianSpectrum({len(values)} eigenvalues, first {top}, {self.growing} growing, norm {self.norm:.4g})"

    def table(self) -> str:
        """Return the leading eigenvalues, norm, abscissa and divergence as text."""
        values = np.asarray(self.eigenvalues)
        rows = [(i, v.real, v.imag, abs(v)) for i, v in enumerate(values)]
        about = [("eigenvalues that grow", self.growing), ("spectral norm", self.norm)]
        about += [("numerical abscissa", self.abscissa)] if self.continuous else []
        about += [("divergence" if self.continuous else "trace", self.divergence), ("speed", self.speed)]
        about += [("at time" if self.continuous else "after layers", self.time)]
        return f"{columns(('mode', 'real', 'imaginary', 'modulus'), rows, most=12)}\n{lines(about)}"

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the eigenvalues in the complex plane, see ``ctsa.plot.spectra.eigenvalues``; return the ``Axes``."""
        return picture("spectra.eigenvalues")(self.eigenvalues, ax=ax, continuous=self.continuous, **kwargs)


@analysis
def jacobian_spectrum(system: Any, x: State, *, t: float = 0.0, geometry: Geometry | None = None) -> JacobianSpectrum:
    """Return all eigenvalues of the tangent Jacobian at a state, with what bounds the growth of a perturbation.

    Eigenvalues say what becomes of a perturbation in the end, the norm and the numerical abscissa how fast it may grow at
    once; where the Jacobian is not normal these differ. Dense: for many unknowns take ``ctsa.leading``.

    Args:
        system: a field or a layer.
        x: one state ``(n, d)``.
        t: time, also for what the result says of itself.
        geometry: where a bare callable lives.

    Returns:
        ``JacobianSpectrum``.

    Raises:
        ValueError, TypeError: as for ``ctsa.jacobian``; tokens cannot move (d = 1).

    Example:
        >>> import ctsa
        >>> from ctsa.torch import Oja
        >>> found = ctsa.jacobian_spectrum(Oja([[2.0, 0.0], [0.0, 1.0]]), [[1.0, 0.0]])
        >>> found.eigenvalues.real.round(12).tolist(), found.growing
        ([-1.0], 0)

    References:
        Trefethen, Embree, *Spectra and Pseudospectra*, chapter 14, for norms and abscissas.
    """
    s, state = read(system, x, geometry, t=t)
    check_moving(s.geometry.dimension(*state.shape), state)
    j = tangent_matrix(system, x, t, geometry)
    values = eigenvalues(system, x, t=t, geometry=geometry)
    image, start = as_numpy(s.image(state, t)), as_numpy(state)
    moved = image if s.flow else image - start
    if not s.flow:
        values = values[np.argsort(-np.abs(values), kind="stable")]
    return JacobianSpectrum(
        start, values, float(np.linalg.norm(j, 2)), float(np.linalg.eigvalsh((j + j.T) / 2)[-1]), float(np.trace(j)),
        float(np.linalg.norm(moved, axis=-1).max()), float(t), s.flow,
    )  # fmt: skip
