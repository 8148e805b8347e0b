"""Name what a layer does that its flow does not: artefacts of finite steps, predicted and measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa.fields.algebra import flat_terms
from ctsa.layers.schemes import SCHEMES, amplification, oscillation_exponents, stable_step
from ctsa.results.base import as_numpy

_GROWS = 1e-9  # a multiplier exceeds 1
_SLOW = 0.01  # share by which a clock may go wrong without being mentioned


@dataclass(frozen=True)
class Artefact:
    """Something that a layer does and its flow does not.

    Attributes:
        step: size of the layer's step.
        kind: "unstable", "period two", "spurious contraction", "spurious growth", "slow rotation", "fast rotation",
            "slow clock", "fast clock", "jump", "overflow" or "other end".
        predicted: the number that theory gives, nan where there is none.
        measured: the number that the layer shows, nan where it was not measured.
        text: all of it in a sentence.
    """

    step: float
    kind: str
    predicted: float
    measured: float
    text: str

    def __str__(self) -> str:
        return f"step {self.step:g}: {self.kind}: {self.text}"


def turning_frequencies(field: Any, d: int, channels: int | None = None) -> tuple[np.ndarray, bool]:
    """Return the angular frequencies of the rotations in a field, and whether it consists of nothing else.

    Args:
        field: any field; rotations are found in fields of ours.
        d: dimension of a token.
        channels: of an oscillator, None for whole tokens.

    Returns:
        NumPy ``(groups, planes)``, descending in every group: one group if all tokens share the rotation, else one a
        token; with ``channels`` one an oscillator. A 0 stands for a direction that does not turn. Empty without rotation.

    Example:
        >>> from ctsa.comparison.artefacts import turning_frequencies
        >>> from ctsa.torch import Oja, Rotation
        >>> turning_frequencies(Rotation(frequencies=[1.0, -3.0]) + Oja([[0.0] * 4] * 4), 4)
        (array([[3., 1.]]), False)
    """
    total, pure = np.zeros((1, d, d)), True
    for factor, term, read in flat_terms(field):
        if read is not None:
            if np.ndim(read[0]):  # each channel at another rate
                pure = False
                continue
            pure, factor = pure and not np.any(read[1]), factor * float(read[0])
        omega, w = getattr(term, "omega", None), getattr(term, "frequencies", None)
        if omega is not None:
            m = as_numpy(omega).astype(float)
            m = (m - np.swapaxes(m, -1, -2)) / 2
        elif w is not None:
            w = as_numpy(w).astype(float)
            m = np.zeros((*w.shape[:-1], d, d))
            even = np.arange(0, d, 2)
            m[..., even, even + 1], m[..., even + 1, even] = -w, w
        else:
            pure = False
            continue
        total = total + factor * m.reshape(-1, d, d)
    if not total.any():
        return np.zeros((0, 0)), False
    size = channels or d
    blocks = np.stack([total[:, c : c + size, c : c + size] for c in range(0, d, size)], 1).reshape(-1, size, size)
    return np.linalg.svd(blocks, compute_uv=False)[:, ::2], pure  # those of an antisymmetric matrix come in pairs


def find_artefacts(comp: Any) -> tuple[Artefact, ...]:
    """List the artefacts of every layer in a ``Comparison``, large steps first; see its attribute ``artefacts``."""
    found: list[Artefact] = []
    for i in range(len(comp.step_sizes)):
        for rule in (_instability, _rotation, _clock, _jumps, _overflow, _end):
            found.extend(rule(comp, i))
    return tuple(found)


def _instability(comp: Any, i: int) -> Iterator[Artefact]:
    h = float(comp.step_sizes[i])
    change, back = float(comp.change[i]), float(comp.back[i])
    swings = change > 1e-3 and back < 0.5 * change
    run = f"; the run ends moving {change:.2g} a layer and {back:.1g} in two" if swings else ""
    eigenvalues = np.asarray(comp.eigenvalues)
    if not len(eigenvalues) or eigenvalues.real.max() > 1e-8 * max(1.0, np.abs(eigenvalues).max()):
        if change > 1e-3 and back < 1e-3 * change:
            yield Artefact(h, "period two", np.nan, np.nan, f"the layer alternates between two states{run}")
        return
    predicted, measured = (_largest(m[i]) for m in (comp.predicted, comp.measured))
    z = measured if np.isnan(predicted) else predicted
    if not abs(z) > 1 + _GROWS:
        return
    kind = "period two" if z.real < 0 and abs(z.imag) < 1e-9 * abs(z) else "unstable"
    limit = ""
    if comp.scheme in SCHEMES and comp.scheme != "post-norm":
        limit = f"; stable below step {stable_step(comp.scheme, eigenvalues):.4g}"
    text = f"a mode that decays in the flow is multiplied by {_show(predicted)} a layer, measured {_show(measured)}"
    yield Artefact(h, kind, float(abs(predicted)), float(abs(measured)), text + limit + run)


def _largest(values: np.ndarray) -> complex:
    return complex(values[np.argmax(np.abs(values))]) if len(values) and not np.isnan(values).any() else complex(np.nan)


def _show(z: complex) -> str:
    return "?" if np.isnan(z) else f"{z.real:.4g}" if abs(z.imag) < 1e-9 * abs(z) else f"{z.real:.4g}{z.imag:+.4g}i"


def _rotation(comp: Any, i: int) -> Iterator[Artefact]:
    h, w = float(comp.step_sizes[i]), np.asarray(comp.frequencies)
    if not w.size or comp.scheme not in SCHEMES:
        return
    fast = float(w.max())
    ratio = float(np.angle(amplification(comp.scheme, 1j * h * fast))) / (h * fast)
    if abs(ratio - 1) > _SLOW:
        text = f"frequency {fast:.4g} turns by {ratio * h * fast:.4g} a layer, in the flow by {h * fast:.4g}"
        yield Artefact(h, "slow rotation" if ratio < 1 else "fast rotation", ratio, np.nan, text)
    rates = [oscillation_exponents(group, h, comp.scheme, normalised=not comp.geometry.flat) / h for group in w]
    worst = max((r for group in rates for r in group), key=abs, default=0.0)
    if abs(worst) > 1e-12:
        measured, alone = np.nan, " for the rotation alone"
        if comp.pure_rotation:
            alone, spectrum = "", np.asarray(comp.exponents[i])
            measured = float(spectrum[np.argmax(np.abs(spectrum))]) if spectrum.size else np.nan
        seen = "" if np.isnan(measured) else f", measured {measured:.6g}"
        text = f"exponent {worst:.6g} per unit time{alone}{seen}, in the flow 0"
        yield Artefact(h, f"spurious {'growth' if worst > 0 else 'contraction'}", float(worst), measured, text)


def _clock(comp: Any, i: int) -> Iterator[Artefact]:
    h, (low, high) = float(comp.step_sizes[i]), comp.end_steps[i] / comp.step_sizes[i]
    if np.isfinite(low + high) and max(abs(low - 1), abs(high - 1)) > _SLOW:
        text = f"where the flow ends a step acts as one of {low * h:.4g} ... {high * h:.4g}"
        yield Artefact(h, "slow clock" if low + high < 2 else "fast clock", np.nan, float(low), text)


def _jumps(comp: Any, i: int) -> Iterator[Artefact]:
    if comp.jumps[i]:
        text = f"{comp.jumps[i]} times a token jumped to the far side of the sphere (1 + step <x, v> < 0)"
        yield Artefact(float(comp.step_sizes[i]), "jump", np.nan, float(comp.jumps[i]), text)


def _overflow(comp: Any, i: int) -> Iterator[Artefact]:
    kept = np.isfinite(comp.times[i])
    lost = ~np.isfinite(comp.layer_xs[i][kept]).all((-2, -1))
    if lost.any():
        time = float(comp.times[i][kept][lost][0])
        text = f"the state is no longer finite from t = {time:.4g} on, layer {time / comp.step_sizes[i]:.0f}"
        yield Artefact(float(comp.step_sizes[i]), "overflow", np.nan, time, text)


def _end(comp: Any, i: int) -> Iterator[Artefact]:
    here, there = str(comp.layer_kinds[i]), comp.flow_kind
    if "none" in (here, there) or here == "overflow":
        return
    text = ""
    if here != there or comp.layer_clusters[i] != comp.flow_clusters:
        text = f"{here} of {comp.layer_clusters[i]}, but the flow ends in {there} of {comp.flow_clusters}"
    elif comp.cluster_angles[i] > comp.parted:
        text = f"clusters up to {comp.cluster_angles[i]:.3g} away from the flow's"
    elif not comp.same_groups[i]:
        text = "the clusters are made of other tokens than the flow's"
    if text:
        yield Artefact(float(comp.step_sizes[i]), "other end", np.nan, float(comp.cluster_angles[i]), text)
