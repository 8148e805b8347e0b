"""Fields that are no attention: averages, rotations, inputs, perceptrons."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.geometry import Geometry
from ctsa.parts import constant, parameter, static

from .base import Field, joined
from .self_attention import given_masses

Array = Any


class Oja(Field):
    """Oja's flow of n tokens: dx_i/dt = P_i V mean(x), which is self-attention at beta = 0.

    For one token it is Oja's rule dx/dt = V x - (x^T V x) x, solved exactly by ``ctsa.theory.oja_flow``.

    Args:
        value: ``(d, d)``.
        geometry: as for ``SelfAttention``.
        masses: ``(n,)`` non-negative numbers, the weights of tokens in the mean; None: all are alike.

    Example:
        >>> import numpy as np
        >>> from ctsa.torch import Oja
        >>> Oja(np.diag([3, 2, 1])).value.shape
        torch.Size([3, 3])

    References:
        Oja, J. Math. Biol. 15 (1982) 267.
    """

    value: Any
    masses: Any
    equivariant = True
    parts = dict(value=parameter("dd", "weight"), masses=constant("n"))

    def __init__(self, value: Any, geometry: Geometry | None = None, masses: Any = None):
        value = checks.parameter("value", value, 2)
        if value is None:
            raise TypeError("value must be a (d, d) array, got None")
        checks.fits("value", value, -2, value.shape[-1], "its other side (value is (d, d))")
        masses = given_masses(masses)
        self._assign(value=value, masses=masses, geometry=self._check_geometry(geometry, value.shape[-1]))

    def _shares(self, x):
        """Return the share of every token in the mean, ``(n,)``."""
        if self.masses is None:
            return backend(x).like(np.full(x.shape[-2], 1 / x.shape[-2]), x)
        masses = backend(x).stop_gradient(self.masses)
        return masses / masses.sum()

    def _mean(self, x):
        m = x.mean(-2, keepdims=True) if self.masses is None else self._shares(x)[None] @ x
        return m @ self.value.mT + 0 * x

    def drift(self, t, x):
        return self._mean(x)

    def drift_tangent(self, t, x, u):
        return self._mean(x), self._mean(u)

    def drift_jacobian(self, t, x):
        n, d = x.shape[-2:]
        be = backend(x)
        rows = self._shares(x) + be.like(np.zeros((n, 1)), x)
        every = rows[:, None, :, None] * self.value[None, :, None, :]
        return self._mean(x), every.reshape(n * d, n * d) + 0 * x.sum((-2, -1))[..., None, None]

    def drift_compressed(self, t, x, left, right):
        rows = (self.value.mT @ left).mT.reshape(*left.shape[:-3], -1, left.shape[-2])  # (V^T L_i)^T below each other
        columns = backend(x).xp.swapaxes(right, -3, -2).reshape(*right.shape[:-3], right.shape[-2], -1)
        full = rows @ columns
        full = full.reshape(*full.shape[:-2], *left.shape[-3::2], *right.shape[-3::2])
        return self._mean(x), full * self._shares(x)[:, None], None

    def merged(self, labels, size=None):
        masses = joined(labels, self.masses, size)
        return type(self)(**self.arguments() | dict(masses=backend(self.value).like(masses, self.value)))


class Rotation(Field):
    """Rotation: dx_i/dt = Omega_i x_i with Omega_i antisymmetric.

    Args:
        omega: ``(d, d)`` shared, or ``(n, d, d)`` one a token. Only its antisymmetric part acts, also while training.
        frequencies: 2x2 blocks on channel pairs instead of ``omega``, ``(d / 2,)`` shared or ``(n, d / 2)``, radians
            per unit time: (a, b) turns by (-w b, w a).
        geometry: as for ``SelfAttention``.

    Raises:
        ValueError: ``omega`` is not antisymmetric, or both or neither of ``omega`` and ``frequencies`` are given.

    Example:
        >>> import numpy as np, torch
        >>> from ctsa.torch import Rotation
        >>> Rotation(frequencies=[2.0])(0.0, torch.tensor([[0.0, 1.0]], dtype=torch.float64)).tolist()
        [[-2.0, 0.0]]
    """

    omega: Any
    frequencies: Any
    tokenwise = True
    parts = dict(omega=parameter("ndd"), frequencies=parameter("np"))

    def __init__(self, omega: Any = None, frequencies: Any = None, geometry: Geometry | None = None):
        omega = checks.parameter("omega", omega, 2, 3)
        frequencies = checks.parameter("frequencies", frequencies, 1, 2)
        if (omega is None) == (frequencies is None):
            raise ValueError("give exactly one of omega (antisymmetric matrices) and frequencies (2x2 blocks)")
        if omega is not None:
            checks.fits("omega", omega, -2, omega.shape[-1], "its other side")
            w = checks.concrete(omega)
            if w is not None:
                off = float(np.abs(w + np.swapaxes(w, -1, -2)).max())
                eps = float(np.finfo(w.dtype).eps) if w.dtype.kind == "f" else 0.0
                if off > 64 * eps * max(1.0, float(np.abs(w).max())):
                    raise ValueError(
                        f"omega must be antisymmetric, but omega + omega^T is up to {off:.3g}: "
                        "pass (omega - omega.T) / 2"
                    )
        d = 2 * frequencies.shape[-1] if omega is None else omega.shape[-1]
        self._assign(omega=omega, frequencies=frequencies, geometry=self._check_geometry(geometry, d))

    def _turn(self, x):
        if self.omega is not None:
            w = 0.5 * (self.omega - self.omega.mT)
            return x @ w.mT if w.ndim == 2 else backend(x).xp.einsum("nab,...nb->...na", w, x)
        xp = backend(x).xp
        a, b = x[..., 0::2], x[..., 1::2]
        return xp.stack([-self.frequencies * b, self.frequencies * a], -1).reshape(x.shape)

    def drift(self, t, x):
        return self._turn(x)

    def drift_tangent(self, t, x, u):
        return self._turn(x), self._turn(u)

    def drift_compressed(self, t, x, left, right):
        if self.omega is None:
            return super().drift_compressed(t, x, left, right)
        w = 0.5 * (self.omega - self.omega.mT)
        return (w @ x[..., None])[..., 0], None, left.mT @ (w @ right)


class Injection(Field):
    """Constant input: dx_i/dt = P_i C_i.

    Args:
        input: ``(n, d)`` one a token, ``(d,)`` shared, or with leading axes one a member of a batch of states.
        geometry: as for ``SelfAttention``.

    Example:
        >>> import torch
        >>> from ctsa.torch import Injection
        >>> Injection([3.0, 2.0])(0.0, torch.tensor([[1.0, 0.0]], dtype=torch.float64)).tolist()
        [[0.0, 2.0]]
    """

    input: Any
    tokenwise = True
    parts = dict(input=parameter("nd"))

    def __init__(self, input: Any, geometry: Geometry | None = None):
        c = checks.parameter("input", input, *range(1, 9))
        if c is None:
            raise TypeError("input must be an (n, d), (d,) or (..., n, d) array, got None")
        self._assign(input=c, geometry=self._check_geometry(geometry, c.shape[-1]))

    def drift(self, t, x):
        xp = backend(x).xp
        return xp.broadcast_to(self.input, xp.broadcast_shapes(tuple(self.input.shape), tuple(x.shape)))

    def drift_tangent(self, t, x, u):
        return self.drift(t, x), 0 * u


# name -> maps (backend, z) to (sigma(z), sigma'(z))
def _tanh(be, z):
    s = be.xp.tanh(z)
    return s, 1 - s * s


def _relu(be, z):
    on = be.xp.where(z > 0, be.xp.ones_like(z), be.xp.zeros_like(z))
    return z * on, on


def _gelu(be, z):
    cdf = 0.5 * (1 + be.erf(z * 0.5**0.5))
    return z * cdf, cdf + z * be.xp.exp(-0.5 * z * z) * (2 * np.pi) ** -0.5


ACTIVATIONS = {"tanh": _tanh, "relu": _relu, "gelu": _gelu}


class Perceptron(Field):
    """Two-layer perceptron, a token at a time: dx_i/dt = P_i [W2 sigma(W1 x_i + b1) + b2].

    Args:
        weight_in: W1 ``(m, d)``.
        weight_out: W2 ``(d, m)``.
        bias_in: b1 ``(m,)`` or None.
        bias_out: b2 ``(d,)`` or None.
        activation: "tanh", "relu" or "gelu" (the exact one, with erf).
        geometry: as for ``SelfAttention``.

    Example:
        >>> import numpy as np
        >>> from ctsa.torch import Perceptron
        >>> Perceptron(np.ones((5, 3)), np.ones((3, 5)), activation="gelu").activation
        'gelu'
    """

    weight_in: Any
    weight_out: Any
    bias_in: Any
    bias_out: Any
    activation: str
    tokenwise = True
    parts = dict(
        weight_in=parameter("md", "weight"), weight_out=parameter("dm", "weight"), bias_in=parameter("m", "bias"),
        bias_out=parameter("d", "bias"), activation=static(),
    )  # fmt: skip

    def __init__(
        self, weight_in: Any, weight_out: Any, bias_in: Any = None, bias_out: Any = None, activation: str = "tanh",
        geometry: Geometry | None = None,
    ):  # fmt: skip
        w1, w2 = checks.parameter("weight_in", weight_in, 2), checks.parameter("weight_out", weight_out, 2)
        b1, b2 = checks.parameter("bias_in", bias_in, 1), checks.parameter("bias_out", bias_out, 1)
        if w1 is None or w2 is None:
            raise TypeError("weight_in (m, d) and weight_out (d, m) must be arrays, got None")
        checks.fits("weight_out", w2, -1, w1.shape[0], "the width m of weight_in")
        checks.fits("weight_out", w2, 0, w1.shape[1], "the token dimension d of weight_in")
        checks.fits("bias_in", b1, 0, w1.shape[0], "the width m of weight_in")
        checks.fits("bias_out", b2, 0, w1.shape[1], "the token dimension d of weight_in")
        checks.choice("activation", activation, ACTIVATIONS)
        parameters = dict(weight_in=w1, weight_out=w2, bias_in=b1, bias_out=b2)
        self._assign(**parameters, activation=activation, geometry=self._check_geometry(geometry, w1.shape[1]))

    def _hidden(self, x):
        z = x @ self.weight_in.mT
        z = z if self.bias_in is None else z + self.bias_in
        return ACTIVATIONS[self.activation](backend(x), z)

    def _out(self, s):
        y = s @ self.weight_out.mT
        return y if self.bias_out is None else y + self.bias_out

    def drift(self, t, x):
        return self._out(self._hidden(x)[0])

    def drift_tangent(self, t, x, u):
        s, ds = self._hidden(x)
        return self._out(s), (ds * (u @ self.weight_in.mT)) @ self.weight_out.mT
