"""One-parameter families of fields, evaluated for continuation; and the rotations that leave them alone."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, backend, framework, modules
from ctsa.derivatives import tangent_jacobian
from ctsa.geometry import Geometry
from ctsa.layers.base import Layer
from ctsa.parts import INNERS, inside, parts_of
from ctsa.symmetry import commuting, motions

Array = Any

# Beyond so many generators nobody asks which rotations commute with the field; a neutral direction is then found by rank.
MOST_GENERATORS = 600
_OWN = "(own)"  # in a place: what follows names a parameter of a module that is none of ours


def parameters_of(field: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yield the place and the value of every array among the parts of a field and of its terms."""
    described = parts_of(type(field))
    if not described:
        home = autodiff(field)
        for name, value in modules(home).numbers(field).items() if home else ():
            yield (*path, _OWN, name), value
    for name, part in described.items():
        value = getattr(field, name)
        for i, each in enumerate(inside(part, value)):
            yield from parameters_of(each, (*path, name, i) if part.kind == INNERS else (*path, name))
        if part.is_array and value is not None:
            yield (*path, name), value


def with_value(field: Any, path: tuple, value: Any) -> Any:
    """Rebuild a field or layer with another value of the constructor argument at ``path``."""
    name, *rest = path
    if name == _OWN:
        return modules(framework(value)).with_number(field, rest[0], value)
    if isinstance(field, Layer) and framework(field) is None:  # it holds numbers only, but a copy will take any value
        other = copy.copy(field)
        setattr(other, name, with_value(getattr(field, name), tuple(rest), value) if rest else value)
        return other
    arguments = field.arguments()
    if parts_of(type(field))[name].kind == INNERS:
        inner = list(arguments[name])
        inner[rest[0]] = with_value(inner[rest[0]], tuple(rest[1:]), value)
    else:
        inner = with_value(arguments[name], tuple(rest), value) if rest else value
    return type(field)(**{**arguments, name: inner})


def find_parameter(field: Any, name: str) -> tuple[tuple, float]:
    """Return where the number called ``name`` is in a field, and its value.

    Raises:
        ValueError: the field has no such parameter, has several, or it is not a number.
    """
    every = list(parameters_of(field))
    found = [(path, value) for path, value in every if name in (path[-1], path[-1].rpartition(".")[2])]
    numbers = sorted({path[-1] for path, value in every if not getattr(value, "ndim", 0)})
    advice = "pass a function of one number that returns the field"
    if not found:
        has, name_one = "it has none that is a number", ""
        if numbers:
            has, name_one = f"its numbers are {', '.join(map(repr, numbers))}", "name one of those, or "
        raise ValueError(f"parameter={name!r} is not a parameter of {type(field).__name__} ({has}): {name_one}{advice}")
    if len(found) > 1:
        raise ValueError(f"parameter={name!r} is in {len(found)} terms of the field: {advice}")
    path, value = found[0]
    if getattr(value, "ndim", 0):
        raise ValueError(f"parameter={name!r} must be a number, but has shape {tuple(value.shape)}: {advice}")
    return path, value if isinstance(value, float) else float(checks.concrete(value))  # type: ignore[arg-type]


def _velocity(field, x):
    return field(backend(x).like(0.0, x), x)


def _linearised(field, g, x):
    return tangent_jacobian(field, g, backend(x).like(0.0, x), x)


def _velocity_at(field_of, p, x):
    return _velocity(field_of(p), x)


def _linearised_at(field_of, g, p, x):
    return _linearised(field_of(p), g, x)


class Family:
    """Velocities and derivatives of ``field_of(p)``, NumPy in and out.

    Under JAX ``p`` is traced, so that one program serves all its values; where ``field_of`` needs a plain number, fields
    are built outside of the program.

    A family of layers is one of fields, the displacements ``P_x (f(x) - x)`` (``flow`` False): equilibria are fixed points,
    and with multipliers ``mu`` of the layer its eigenvalues are ``mu - 1``.
    """

    def __init__(
        self, field_of: Callable[[Any], Any], geometry: Geometry, reference: Array, width: float, flow: bool = True
    ):  # fmt: skip
        self.field_of, self.geometry, self.reference, self.width = field_of, geometry, reference, width
        self.flow = flow
        self.be = backend(reference)
        self.traced = True

    def settle(self, p: float, x: np.ndarray) -> None:
        """Find out whether ``field_of`` can be traced."""
        try:
            self.velocity(p, x)
        except TypeError:
            self.traced = False
            self.velocity(p, x)

    def _call(self, inside: Callable, outside: Callable, p: float, x: np.ndarray, static: tuple = ()) -> Any:
        be, x = self.be, self.be.like(x, self.reference)
        try:
            if self.traced:
                return be.call(inside, self.field_of, *static, be.like(p, self.reference), x)
            return be.call(outside, self.field_of(float(p)), *static, x)
        except ValueError as error:
            error.add_note(f"at {p:.6g} of the parameter: continuation looks a little beyond the span, too")
            raise

    def velocity(self, p: float, x: np.ndarray) -> np.ndarray:
        """Return the velocity ``(n, d)``."""
        return self.be.to_numpy(self._call(_velocity_at, _velocity, p, x))

    def linearised(self, p: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a basis of the tangent space ``(n, d, r)``, the velocity ``(n, d)``, and the Jacobian ``(m, m)`` there."""
        e, v, j = self._call(_linearised_at, _linearised, p, x, static=(self.geometry,))
        return self.be.to_numpy(e), self.be.to_numpy(v), self.be.to_numpy(j)

    def sensitivity(self, p: float, x: np.ndarray) -> np.ndarray:
        """Return the derivative of the velocity by the parameter, by differences of fourth order."""
        h = 1e-3 * min(1 + abs(p), self.width)
        far, near = (self.velocity(p + k * h, x) - self.velocity(p - k * h, x) for k in (2, 1))
        return (8 * near - far) / (12 * h)

    def spectrum(self, values: np.ndarray) -> np.ndarray:
        """Return what tells stability, in order, given eigenvalues: these for a flow, multipliers for a layer."""
        values = values.astype(complex) if self.flow else values + (1.0 + 0j)
        lead = values.real if self.flow else np.abs(values).round(12)
        return values[np.lexsort((-values.imag, -values.real, -lead))]

    def growth(self, spectrum: np.ndarray) -> np.ndarray:
        """Return how far eigenvalues are beyond the boundary of stability: real parts, or moduli of multipliers less 1."""
        return spectrum.real if self.flow else np.abs(spectrum) - 1

    def symmetries(self, p: float, other: float, n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Find the infinitesimal motions ``x_i -> W x_i + c`` of all tokens that commute with the field.

        ``DF(x)[W x + c] = W F(x)`` is linear in ``(W, c)``; it is asked for at random states and two parameters.

        Returns:
            antisymmetric matrices ``(g, d, d)`` and translations ``(g, d)`` (zero on spheres).
        """
        w, c = motions(self.geometry, d, shifts=True)
        if not 0 < len(w) <= MOST_GENERATORS:
            return np.zeros((0, d, d)), np.zeros((0, d))
        rng = np.random.default_rng(seed)
        samples = []
        for value in (p, other):
            for y in rng.normal(size=(1 + len(w) // (n * d), n, d)):
                x = np.asarray(self.geometry.retract(y))
                samples.append((x, *self.linearised(value, x)))
        kept = commuting(w, c, samples)
        return np.tensordot(kept.T, w, 1), kept.T @ c
