"""The tangent side: Jacobians, Lyapunov spectra, covariant vectors."""

from .covariant import (
    CovariantVectors as CovariantVectors,
    covariant_vectors as covariant_vectors,
    gali as gali,
)
from .differentiable import exponents as exponents
from .finite_time import (
    finite_time_exponents as finite_time_exponents,
    largest_finite_time as largest_finite_time,
    mean_exponent as mean_exponent,
)
from .jacobians import (
    divergence as divergence,
    eigenvalues as eigenvalues,
    jacobian as jacobian,
)
from .leading_modes import jacobian_operator as jacobian_operator, leading as leading
from .linearisation import JacobianSpectrum as JacobianSpectrum, jacobian_spectrum as jacobian_spectrum
from .lyapunov import lyapunov_spectrum as lyapunov_spectrum
from .modes import Leading as Leading
from .norms import numerical_abscissa as numerical_abscissa, spectral_norm as spectral_norm
from .spectrum import LyapunovError as LyapunovError, LyapunovSpectrum as LyapunovSpectrum
