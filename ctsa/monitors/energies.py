"""Is there an energy, and did it behave: what a theorem promises for a field, and what a trajectory shows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, rounding
from ctsa.fields import MultiHeadAttention, Scaled, SelfAttention
from ctsa.fields.energy_attention import EnergyAttention
from ctsa.observables import energy as attention_energy
from ctsa.results.base import Result, as_numpy, picture
from ctsa.results.text import lines

Array = Any


@dataclass(frozen=True)
class Promise:
    """What is known of the energy along the flow of a field.

    Attributes:
        field: the term whose energy it is.
        sign: 1 if the energy is expected to rise, -1 if to fall.
        theorem: whether that is proved.
        why: the reason.
    """

    field: Any
    sign: int
    theorem: bool
    why: str


@dataclass(frozen=True)
class EnergyReport(Result):
    """The energy along a trajectory, see ``energy_report``.

    Attributes:
        ts: times ``(T,)``.
        energies: ``(T, ...)``.
        sign: 1 if the energy is expected to rise, -1 if to fall.
        theorem: whether a theorem guarantees that.
        why: which, or what its conditions miss.
        held: whether it did.
        violation: largest change against the sign between neighbouring outputs; 0 if there was none.
        at: when that happened, nan if it did not.
    """

    ts: Any
    energies: Any
    sign: int
    theorem: bool
    why: str
    held: bool
    violation: float
    at: float
    _static: ClassVar[tuple[str, ...]] = ("sign", "theorem", "why", "held", "violation", "at")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {"ts": ("time",), "energies": ("time",)}

    def __repr__(self) -> str:
        verb = "rises" if self.sign > 0 else "falls"
        promise = f"guaranteed to {verb[:-1]}" if self.theorem else f"no theorem ({self.why})"
        seen = f"{verb} throughout" if self.held else f"violated by {self.violation:.3g} at t = {self.at:.4g}"
        return f"EnergyReport({promise}; {seen})"

    def table(self) -> str:
        """Return what was expected and what was seen as text, a line each."""
        e = np.asarray(as_numpy(self.energies)).reshape(len(self.ts), -1)
        verb, mean = "rise" if self.sign > 0 else "fall", ", on average" if e.shape[1] > 1 else ""
        return lines([
            ("expected to", f"{verb}, by a theorem" if self.theorem else f"{verb}, though no theorem says so"),
            ("reason", self.why or None), ("times", f"{float(self.ts[0]):.4g} ... {float(self.ts[-1]):.4g}"),
            ("runs", e.shape[1] if e.shape[1] > 1 else None),
            ("energy at the start" + mean, float(e[0].mean())), ("energy at the end" + mean, float(e[-1].mean())),
            ("held", self.held), ("largest violation", None if self.held else float(self.violation)),
            ("at time", None if self.held else float(self.at)),
        ])  # fmt: skip

    def plot(self, ax=None, **kwargs):
        """Draw the energy against time, violations marked; return the ``Axes``."""
        return picture("monitors.energy")(self, ax=ax, **kwargs)


def energy_promise(field: Any) -> Promise:
    """Say whether a theorem makes the energy of a field monotone along its flow.

    - ``EnergyAttention``: its energy never rises, for any parameters.
    - ``SelfAttention``, softmax or unnormalised, without mask and key field, with ``A = Q^T K`` symmetric and ``V = c A``:
      ``E = 1/(2 beta) sum_ij exp(beta <Q x_i, K x_j>)`` never falls for c > 0, never rises for c < 0. One head; with
      unnormalised weights several, if all have the same c.

    Otherwise, and for ``MultiHeadAttention``, E is a diagnostic. (The symmetric part of A in place of V is not enough:
    there are counterexamples.)

    Args:
        field: a field of ours, with one attention term.

    Raises:
        TypeError: the field has no attention term, or several.

    Example:
        >>> import numpy as np
        >>> from ctsa.monitors.energies import energy_promise
        >>> from ctsa.torch import SelfAttention
        >>> promise = energy_promise(SelfAttention(query=np.diag([2.0, 1.0]), value=-np.diag([2.0, 1.0])))
        >>> promise.sign, promise.theorem, promise.why
        (-1, True, 'A = Q^T K is symmetric and V = -1 A')

    References:
        Geshkovski et al., arXiv 2312.10794; Hoover et al., arXiv 2302.07253 (Energy Transformer).
    """
    factor, whole = 1.0, field
    while isinstance(whole, Scaled):
        factor, whole = factor * float(as_numpy(whole.factor)), whole.field
    terms = whole.terms() if hasattr(whole, "terms") else [whole]
    found = [f for f in terms if isinstance(f, (SelfAttention, MultiHeadAttention, EnergyAttention))]
    if len(found) != 1:
        raise TypeError(f"field must have one attention term, which has an energy, got {len(found)}")
    (term,) = found
    sign = 1 if factor >= 0 else -1
    if isinstance(term, EnergyAttention):
        alone = len(terms) == 1
        return Promise(term, -sign, alone, "the velocity descends it" if alone else "the field has other terms")
    if (np.asarray(as_numpy(term.beta)) == 0).any():
        raise ValueError("field has beta = 0, by which the energy divides: there is none")
    factors = "attention is in factors" if getattr(term, "positions", None) is None else "scores depend on positions"
    c, why = (1.0, factors) if isinstance(term, MultiHeadAttention) else _multiple(term)
    if len(terms) > 1:
        why = "the field has other terms"
    if why:
        return Promise(term, sign, False, why)
    return Promise(term, sign if c >= 0 else -sign, True, f"A = Q^T K is symmetric and V = {c:.6g} A")


def _multiple(term: Any) -> tuple[float, str]:
    """Return c of ``V = c A``, or what is missing."""
    name = term.weights.name
    if name not in ("softmax", "unnormalised"):
        return 0.0, f"weights are {name!r}"
    if term.causal or term.mask is not None:
        return 0.0, "there is a mask"
    if term.key_field is not None:
        return 0.0, "there is a key field"
    heads = term.heads
    if heads.count > 1 and name == "softmax":
        return 0.0, f"{heads.count} heads with softmax weights do not share one energy"
    q, k, v = (None if m is None else as_numpy(m).astype(float) for m in (term.query, term.key, term.value))
    d = next((m.shape[-1] for m in (q, k, v) if m is not None), None)
    if d is None:
        return 1.0, ""
    q, k, v = (np.eye(d) if m is None else m for m in (q, k, v))
    a, v = np.broadcast_arrays(np.swapaxes(q, -1, -2) @ k, v)
    eps = float(np.finfo(as_numpy(term.beta).dtype).eps)
    slack = 1e3 * eps * max(1.0, float(np.abs(a).max()))
    if np.abs(a - np.swapaxes(a, -1, -2)).max() > slack:
        return 0.0, "A = Q^T K is not symmetric"
    c = float((v * a).sum() / max((a * a).sum(), np.finfo(float).tiny))
    if np.abs(v - c * a).max() > 1e3 * eps * max(1.0, float(np.abs(v).max())):
        return 0.0, "V is no multiple of A = Q^T K" + (", the same for all heads" if heads.count > 1 else "")
    return c, ""


@analysis
def energy_report(field: Any, trajectory: Any, *, tol: float | None = None) -> EnergyReport:
    """Follow the energy of a field along a trajectory, and hold it against the theorem, if there is one.

    Args:
        field: a field of ours with one attention term: ``ctsa.energy``, or that of ``EnergyAttention``.
        trajectory: a ``Trajectory`` ``(T, ..., n, d)``, or states of that shape.
        tol: change against the sign that still counts as none; None is 1e-9 of the largest energy (float32: 1e-5).

    Returns:
        ``EnergyReport``. Along layers, steps of finite size, no theorem holds, and the report says so.

    Raises:
        TypeError: the field has no attention term, or several.

    Example:
        >>> import numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> field = SelfAttention(beta=2.0)
        >>> run = ctsa.integrate(field, ctsa.random_tokens(6, 3), np.linspace(0.0, 5.0, 11))
        >>> ctsa.energy_report(field, run)
        EnergyReport(guaranteed to rise; rises throughout)

    References:
        Geshkovski et al., arXiv 2312.10794; Hoover et al., arXiv 2302.07253; Altafini, arXiv 2511.11553.
    """
    promise = energy_promise(field)
    xs = getattr(trajectory, "xs", trajectory)
    xs = checks.tokens(xs, field, field.geometry, name="trajectory")
    if xs.ndim < 3 or len(xs) < 2:
        raise ValueError(f"trajectory must hold at least two states (T, ..., n, d), got shape {tuple(xs.shape)}")
    ts = as_numpy(trajectory.ts).astype(float) if hasattr(trajectory, "ts") else np.arange(float(len(xs)))
    values = as_numpy(attention_energy(promise.field, xs)).astype(float)
    against = -promise.sign * np.diff(values, axis=0)
    against = against.reshape(len(against), -1).max(1)
    if tol is None:
        tol = (1e-9 if rounding(xs) < 1e-10 else 1e-5) * float(np.abs(values).max())
    violation = float(max(0.0, against.max()))
    held = violation <= checks.number("tol", tol, low=0.0)
    theorem, why = promise.theorem, promise.why
    if "layers" in getattr(trajectory, "stats", {}):
        theorem, why = False, "layers take steps of finite size"
    at = float("nan") if held else float(ts[int(against.argmax()) + 1])
    return EnergyReport(ts, values, promise.sign, theorem, why, held, violation, at)
