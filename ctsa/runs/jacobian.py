"""The linearisation at one state as a result: all eigenvalues of the tangent Jacobian, and what bounds them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, picture
from ctsa.results.text import columns, lines


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
        time: how long the flow ran, or how many layers were passed, before.
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
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"x": ("token", "component"), "eigenvalues": ("mode",)}

    @property
    def growing(self) -> int:
        """How many eigenvalues grow: of positive real part, or of modulus above 1, beyond rounding."""
        size = np.asarray(self.eigenvalues).real if self.continuous else np.abs(self.eigenvalues) - 1
        return int(np.sum(size > 1e-9 * max(1.0, self.norm)))

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
