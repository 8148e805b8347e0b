"""Recurrent attention layers of the literature, ItrSA and AKOrN, as the steps of a flow that they are."""

import warnings
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend, on_graph
from ctsa._types import States
from ctsa.fields.base import Field, drift_of, drift_tangent_of
from ctsa.geometry import Sphere, length
from ctsa.parts import inner, parameter, static

from .base import Layer, check_field, check_step, no_step, shown
from .euler import post_norm_step

Array = Any


_VECTOR = (
    "gamma is a vector: as step -> 0 the layer tends to u -> N(gamma * u), which is not the identity, so it is no Euler "
    "step of any flow. Its discrete analyses (spectra, Jacobians) work as usual"
)


def _no_flow(gamma: Any, step: Any) -> str | None:
    """Say why a layer with this gamma and step, as they stand now, is no step of a flow; None where it is one."""
    values = gamma if isinstance(gamma, float) else checks.concrete(gamma)
    if values is None:
        return _VECTOR if gamma.ndim else None
    if np.ptp(values) > 0:
        return _VECTOR
    if not np.min(values) > 0:
        return "gamma is negative: every token changes sides at every layer, which no flow does"
    return no_step(step)


def _given_gamma(gamma: Any) -> Any:
    gamma = checks.parameter("gamma", gamma, 0, 1)
    values = None if gamma is None else checks.concrete(gamma)
    if values is not None and (values == 0).any():
        raise ValueError("gamma must not have zeros: that channel of the tokens would be lost")
    return gamma


def _scalar(gamma: Any) -> Any:
    """Return a gamma with equal entries as one number."""
    return gamma[0] if np.ndim(gamma) else gamma


class ItrSA(Layer):
    """Iterated self-attention: ``X <- RMSNorm(X + step * (C + MSA(X)))``, with ``RMSNorm(y) = gamma * y / |y|``.

    The layer acts on unit tokens ``u``, with ``X = gamma * u`` (``tokens``): ``u <- N(gamma * u + step * F(gamma * u))``
    where ``F = C + MSA`` is the drift of ``field``.

    For a scalar gamma = c this is a post-norm step of size ``h = step / c`` of the flow ``du/dt = P_u F(c u)``: the
    Euler step of size ``h / (1 + h <u, F(c u)>)``. ``layer.field`` is that flow's field (``field.rescaled(c)``) and
    ``layer.flow_step`` is h; trained layers have h = 1.2 ... 30, far from the flow. A **vector gamma has no flow**: as
    the step shrinks, ``N(gamma * u)`` does not tend to u. The layer warns, and runs. What holds is decided from the
    values when it is asked, since both step and gamma may be learnt.

    Args:
        attention: a field of ours; its drift is ``C + MSA(X)``: ``SelfAttention(...)``, or with input injection
            ``SelfAttention(...) + Injection(C)``.
        step: eta, positive.
        gamma: a number or ``(d,)``, without zeros; 1 by default. A vector stays one, to be learnt; with equal entries
            it acts as a number.
        convention: "unit" for ``gamma * y / |y|`` as above; "rms" for ``nn.RMSNorm``,
            ``gamma * y / sqrt(mean(y^2))``, whose gamma is smaller by sqrt(d).
        d: token dimension, needed with convention="rms" and a scalar gamma where the attention does not tell it.

    Raises:
        ValueError: ``gamma`` has zeros, ``d`` is missing, or ``gamma``, ``d`` and the attention do not fit each other.
        TypeError: ``attention`` has no drift.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Injection, SelfAttention
        >>> layer = ctsa.ItrSA(SelfAttention(beta=1.0) + Injection(0.1 * np.ones(3)), step=1.0, gamma=0.5)
        >>> layer.flow_step
        2.0
        >>> tuple(ctsa.iterate(layer, ctsa.random_tokens(6, 3), depth=4).xs.shape)
        (5, 6, 3)

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """

    attention: Any
    step: Any
    gamma: Any
    parts = dict(attention=inner(), step=parameter(), gamma=parameter("d"))

    def __init__(self, attention: Any, step: Any = 1.0, gamma: Any = 1.0, convention: str = "unit", d: int | None = None):
        checks.choice("convention", convention, ("unit", "rms"))
        check_field(self, attention)
        if not isinstance(attention, Field) or attention.geometry != Sphere():
            raise TypeError(
                f"attention must be a field of ctsa on ctsa.Sphere(), which has a drift, got {type(attention).__name__}"
                + (f" on {attention.geometry!r}" if isinstance(attention, Field) else "")
            )
        gamma = _given_gamma(gamma)
        if gamma is None:
            raise TypeError("gamma must be a number or an array (d,), got None")
        d = None if d is None else checks.integer("d", d, low=1)
        known = dict(gamma=gamma.shape[0] if gamma.ndim else None, d=d, attention=checks.sizes(attention).get("d"))
        found = {name: size for name, size in known.items() if size is not None}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{size} from {name}" for name, size in found.items())
            raise ValueError(f"token dimensions differ: {told}")
        if convention == "rms":
            if not found:
                raise ValueError("convention='rms' with a scalar gamma needs d, the token dimension")
            root = float(np.sqrt(next(iter(found.values()))))
            gamma = checks.plain("gamma", gamma.astype(float) * root if gamma.dtype == object else gamma * root)
        self._assign(step=check_step(step), gamma=gamma, attention=attention, geometry=Sphere())
        if not on_graph(gamma) and self.no_flow:  # one that is being learnt is asked when it matters
            warnings.warn(f"ItrSA has no flow: {self.no_flow}", UserWarning, stacklevel=2)

    @property
    def no_flow(self):  # type: ignore[override]
        """Why the layer is no step of a flow, as its gamma and step stand now; None where it is one."""
        return _no_flow(self.gamma, self.step)

    @property
    def home(self):
        """What tells framework and dtype: the layer itself, or its attention."""
        return self.attention

    @property
    def field(self):
        """The field in the coordinates u, ``P_u F(gamma u)``, or None where there is no flow."""
        return None if self.no_flow else self.attention.rescaled(self.gamma)

    @property
    def flow_step(self):
        """The size ``h = step / gamma`` of the post-norm step in the coordinates u, or None where there is no flow."""
        if self.no_flow:
            return None
        return self.step / _scalar(self.gamma)

    def tokens(self, u: Array) -> Array:
        """Return the tokens of the paper at the state ``u``, ``X = gamma * u``."""
        return backend(u).like(self.gamma, u) * u

    def units(self, x: Array) -> Array:
        """Return the state at tokens ``X`` of the paper, ``u = N(X / gamma)``, the inverse of ``tokens``."""
        return self.geometry.retract(x / backend(x).like(self.gamma, x))

    def move(self, x):
        y = self.tokens(x)
        return y + self.step * self.attention.drift(backend(x).like(0.0, x), y)

    def move_tangent(self, x, u):
        y, w = self.tokens(x), self.tokens(u)
        v, dv = self.attention.drift_tangent(backend(x).like(0.0, x), y, w)
        return y + self.step * v, w + self.step * dv

    def euler_step(self, x):
        if self.no_flow:
            raise ValueError(f"ItrSA has no flow: {self.no_flow}")
        v = self.attention.drift(backend(x).like(0.0, x), self.tokens(x))
        return post_norm_step(self.geometry, self.flow_step, x, v)

    def __repr__(self):
        return f"ItrSA({self.describe()}, attention={type(self.attention).__name__})"

    def describe(self):
        """Return the numbers that matter, for ``repr``."""
        return f"step={shown(self.step)}, gamma={shown(self.gamma)}"


class AKOrN(Layer):
    """Artificial Kuramoto oscillatory neurons: ``x <- N(x + step * (Omega x + P_x (C + MSA(x))))``, an oscillator a time.

    A token of D channels is D / N oscillators, unit vectors of N consecutive channels. The layer is exactly
    ``EulerLayer(coupling + rotation, step)``.

    With ``gamma`` it is AKOrN with an RMSNorm an oscillator (2505.19458): its oscillators are ``X = gamma * u`` with unit
    vectors u (``tokens``), ``u <- N(X + step * (Omega X + P_u (C + MSA(X))))``. For a scalar gamma = c this is the Euler
    step of ``P_u (C + MSA(c u)) / c + Omega u``; a vector gamma has no flow, as for ``ItrSA``.

    Args:
        coupling: the field whose drift is ``C + MSA(x)``, on ``ctsa.Sphere(channels=N)``: a ``SelfAttention``, with
            ``+ Injection(C)`` for the stimulus. ``read_projections(..., layout="interleaved")`` reads the weights of
            the authors' code.
        rotation: a ``Rotation`` on the same geometry, the natural frequencies Omega, or None. The authors' frequencies
            turn the other way: pass ``Rotation(frequencies=-omega)``.
        step: gamma of the paper, positive.
        identity: take ``x`` itself for Omega x where there is no rotation, as the authors' code does with
            ``use_omega=False``. The step becomes ``step / (1 + step)``.
        project: False leaves out the projection P (``apply_proj=False``): a post-norm step.
        gamma: gain of the normalisation, a number or ``(d,)``, without zeros; None is 1.

    Raises:
        TypeError: ``coupling`` or ``rotation`` is no field of ours.
        ValueError: ``coupling`` and ``rotation`` live on different geometries or are of different sizes, or ``identity``
            comes with a rotation.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import Injection, Rotation, SelfAttention
        >>> pairs = ctsa.Sphere(channels=2)
        >>> coupling = SelfAttention(beta=1.0, geometry=pairs) + Injection(np.ones(4), geometry=pairs)
        >>> layer = ctsa.AKOrN(coupling, Rotation(frequencies=[1.0, 2.0], geometry=pairs), step=0.5)
        >>> tuple(ctsa.iterate(layer, ctsa.random_tokens(6, 4, channels=2), depth=8).xs.shape)
        (9, 6, 4)

    References:
        Miyato, Löwe, Geiger, Welling, *Artificial Kuramoto Oscillatory Neurons*, arXiv 2410.13821; Tomihari and Karakida,
        arXiv 2505.19458 (gamma).
    """

    coupling: Any
    rotation: Any
    step: Any
    gamma: Any
    identity: bool
    project: bool
    parts = dict(
        coupling=inner(), rotation=inner(), step=parameter(), gamma=parameter("d"), identity=static(), project=static()
    )

    def __init__(
        self, coupling: Any, rotation: Any = None, step: Any = 1.0, identity: bool = False, project: bool = True,
        gamma: Any = None,
    ):  # fmt: skip
        for name, part in (("coupling", coupling), ("rotation", rotation)):
            if part is not None or name == "coupling":
                check_field(self, part)
                if not isinstance(part, Field):
                    raise TypeError(f"{name} must be a field of ctsa, got {type(part).__name__}")
        if not coupling.geometry.unit:
            raise ValueError(f"coupling must live on ctsa.Sphere(channels=N), got {coupling.geometry!r}")
        if rotation is not None and rotation.geometry != coupling.geometry:
            raise ValueError(f"rotation lives on {rotation.geometry!r}, but coupling on {coupling.geometry!r}")
        gamma = _given_gamma(gamma)
        known = dict(coupling=checks.sizes(coupling), rotation=checks.sizes(rotation))
        known |= dict(gamma={} if gamma is None or not gamma.ndim else dict(d=gamma.shape[0]))
        for axis, what in (("n", "tokens"), ("d", "components")):
            found = [(name, sizes[axis]) for name, sizes in known.items() if axis in sizes]
            for name, size in found[1:]:
                if size != found[0][1]:
                    raise ValueError(f"{found[0][0]} is for {found[0][1]} {what}, but {name} for {size}")
        if identity and rotation is not None:
            raise ValueError("identity=True stands for a missing rotation; leave rotation out")
        static = dict(coupling=coupling, rotation=rotation, geometry=coupling.geometry)
        self._assign(step=check_step(step), gamma=gamma, **static, identity=bool(identity), project=bool(project))
        if gamma is not None and not on_graph(gamma) and self.no_flow:
            warnings.warn(f"AKOrN has no flow: {self.no_flow}", UserWarning, stacklevel=2)

    @property
    def home(self):
        """What tells framework and dtype: the layer itself, or its coupling."""
        return self.coupling

    @property
    def _reading(self):
        """The coupling as a field of the unit oscillators."""
        if self.gamma is None:
            return self.coupling
        c = _scalar(self.gamma)
        return self.coupling.rescaled(self.gamma) * (1 / c)

    @property
    def field(self):
        """The field whose Euler step the layer is: ``coupling + rotation``; None where there is no flow."""
        if self.gamma is not None and self.no_flow:
            return None
        return self._reading if self.rotation is None else self._reading + self.rotation

    @property
    def no_flow(self):  # type: ignore[override]
        """Why the layer is no step of the flow of ``field``, or None: a step that was learnt may be negative."""
        return no_step(self.step) if self.gamma is None else _no_flow(self.gamma, self.step)

    @property
    def flow_step(self):
        """The size of the step: ``step``, or ``step / (1 + step)`` with ``identity``."""
        if self.no_flow:
            return None
        return self.step / (1 + self.step) if self.identity else self.step

    def tokens(self, u: Array) -> Array:
        """Return the oscillators of the paper at the state ``u``: ``gamma * u``."""
        return u if self.gamma is None else backend(u).like(self.gamma, u) * u

    def units(self, x: Array) -> Array:
        """Return the state at oscillators ``X`` of the paper, ``u = N(X / gamma)``, the inverse of ``tokens``."""
        return self.geometry.retract(x if self.gamma is None else x / backend(x).like(self.gamma, x))

    def move(self, x):
        t, h, y = backend(x).like(0.0, x), self.step, self.tokens(x)
        v = drift_of(self.coupling)(t, y)
        v = self.geometry.project(x, v) if self.project else v
        v = v if self.rotation is None else v + self.rotation.drift(t, y)
        return (1 + h) * y + h * v if self.identity else y + h * v

    def move_tangent(self, x, u):
        t, h, y, w = backend(x).like(0.0, x), self.step, self.tokens(x), self.tokens(u)
        v, dv = drift_tangent_of(self.coupling, t, y, w)
        if self.project:
            v, dv = self.geometry.project(x, v), self.geometry.project_tangent(x, u, v, dv)
        if self.rotation is not None:
            r, dr = self.rotation.drift_tangent(t, y, w)
            v, dv = v + r, dv + dr
        keep = 1 + h if self.identity else 1
        return keep * y + h * v, keep * w + h * dv

    def euler_step(self, x):
        if self.no_flow:
            raise ValueError(f"AKOrN has no flow: {self.no_flow}")
        if self.project:
            return self.flow_step + 0 * self.geometry.inner(x, x)
        return post_norm_step(self.geometry, self.flow_step, x, drift_of(self._reading)(backend(x).like(0.0, x), x))

    def energy(self, x: Array) -> Array:
        """Return the Kuramoto energy that the authors log, ``-sum_i <X_i, C_i + MSA(X)_i>`` at ``tokens(x)``: ``(...)``."""
        y = self.tokens(x)
        v = drift_of(self.coupling)(backend(x).like(0.0, x), y)
        return -(y * v).sum((-2, -1))

    def __repr__(self):
        turn = "" if self.rotation is None else ", rotation"
        return f"AKOrN({self.describe()}, {self.geometry}{turn})"

    def describe(self):
        """Return the numbers that matter, for ``repr``."""
        gain = "" if self.gamma is None else f", gamma={shown(self.gamma)}"
        return f"step={shown(self.step)}{gain}"


def readout_norm(x: States, weight: Any, bias: Any = None) -> Array:
    """Read oscillators out by lengths, as AKOrN does: ``y_m = |(W x)_m| + b_m``, which phases do not change.

    Args:
        x: state ``(..., n, d)``.
        weight: ``(outputs, size, d)``: every output is the length of a vector of ``size`` components.
        bias: ``(outputs,)`` or None.

    Returns:
        ``(..., n, outputs)``. A length has no derivative at zero; 0, a subgradient, is taken there.

    Raises:
        ValueError: ``weight`` does not fit ``x``.

    Example:
        >>> import numpy as np, ctsa
        >>> ctsa.readout_norm(np.array([[0.6, 0.8]]), np.array([[[1.0, 0.0], [0.0, 1.0]]])).round(12)
        array([[1.]])

    References:
        Miyato et al., arXiv 2410.13821, equation of the readout module.
    """
    x, weight = checks.states(x), checks.parameter("weight", weight, 3)
    if weight is None:
        raise TypeError("weight must be an array (outputs, size, d), got None")
    be = backend(x)
    w = be.like(weight.astype(float) if weight.dtype == object else weight, x)
    if w.ndim != 3 or w.shape[-1] != x.shape[-1]:
        raise ValueError(f"weight must have shape (outputs, size, d={x.shape[-1]}), got {tuple(w.shape)}")
    z = be.xp.einsum("msd,...d->...ms", w, x)
    y = length(z)
    return y if bias is None else y + be.like(bias, x)
