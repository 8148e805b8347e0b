"""The tangent side: Jacobians, Lyapunov spectra, covariant vectors."""

from .covariant import (
    CovariantVectors as CovariantVectors,
    covariant_vectors as covariant_vectors,
    finite_time_exponents as finite_time_exponents,
    gali as gali,
)
from .differentiable import exponents as exponents
from .jacobians import (
    divergence as divergence,
    eigenvalues as eigenvalues,
    jacobian as jacobian,
    jacobian_operator as jacobian_operator,
    leading as leading,
    numerical_abscissa as numerical_abscissa,
    spectral_norm as spectral_norm,
)
from .lyapunov import lyapunov_spectrum as lyapunov_spectrum
from .modes import Leading as Leading
from .spectrum import LyapunovError as LyapunovError, LyapunovSpectrum as LyapunovSpectrum
