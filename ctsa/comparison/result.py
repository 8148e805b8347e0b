"""What a comparison of a flow with its layers holds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ctsa.results.base import Result, Trajectory, picture

from .artefacts import Artefact, find_artefacts

_REST = 1e-6  # a slower token counts as at rest
# Errors above this are no longer small and say nothing about the order: radians; in flat space, by how far the flow moves.
_SMALL, _SMALL_FLAT = 0.3, 0.1


@dataclass(frozen=True)
class Comparison(Result):
    """A flow beside its layers of S step sizes, see ``compare``. Arrays are NumPy; shorter runs are padded with nan.

    Attributes:
        step_sizes: ``(S,)``, descending.
        depths: number of layers of each run, ``(S,)``.
        times: ``step * layers passed``, ``(S, M)``.
        errors: largest distance of a token from the flow at these times, ``(S, M)``: an angle, in flat space a length.
        ts: output times of the flow, ``(T,)``: all the times of all the layers.
        flow_xs: the flow at them, ``(T, n, d)``.
        layer_xs: the layers at ``times``, ``(S, M, n, d)``.
        parted: distance from which on they count as parted.
        reference_error: how far the flow moved when its tolerance was loosened tenfold, a bound of its own error; at least
            100 rounding errors.
        scheme: how the layers step, "euler", ..., or "layer" where it is not known.
        geometry: where states live, a ``ctsa.Geometry``.
        flow_kind: kind of the flow's end state, see ``ctsa.classify``; "none" where it still moves.
        flow_clusters: its number of clusters.
        speed: speed of its fastest token.
        layer_kinds: kinds of the layers' end states, as states of the field, ``(S,)``; "overflow" where one is not finite.
        layer_clusters: their numbers of clusters, ``(S,)``.
        cluster_angles: largest distance between matched clusters, ``(S,)``; nan where their numbers differ.
        same_groups: whether the clusters are made of the same tokens, ``(S,)``.
        eigenvalues: of the flow's tangent Jacobian at its end state, ``(m,)``; empty where that state moves, or is large.
        predicted: multipliers of the layers there that these imply, ``(S, m)``, by modulus; nan where it is not known.
        measured: eigenvalues of the layers' own Jacobians there, ``(S, m)``, by modulus.
        end_steps: smallest and largest Euler step that the layers take there, ``(S, 2)``; nan for other layers.
        jumps: how many times a token jumped to the far side in the states kept, ``(S,)``.
        change: largest distance that a token covers in the layer after the last, ``(S,)``.
        back: the same in two layers, ``(S,)``.
        frequencies: of rotations in the field, ``(groups, planes)``.
        pure_rotation: whether the field is nothing else.
        flow_exponents: Lyapunov exponents of the flow, ``(k,)``; empty if not asked for.
        flow_stderr: their standard errors.
        exponents: those of the layers **per unit time**: per layer, divided by the step; ``(S, k)``.
        stderr: their standard errors.
    """

    step_sizes: Any
    depths: Any
    times: Any
    errors: Any
    ts: Any
    flow_xs: Any
    layer_xs: Any
    parted: float
    reference_error: float
    scheme: str
    geometry: Any
    flow_kind: str
    flow_clusters: int
    speed: float
    layer_kinds: Any
    layer_clusters: Any
    cluster_angles: Any
    same_groups: Any
    eigenvalues: Any
    predicted: Any
    measured: Any
    end_steps: Any
    jumps: Any
    change: Any
    back: Any
    frequencies: Any
    pure_rotation: bool
    flow_exponents: Any
    flow_stderr: Any
    exponents: Any
    stderr: Any
    _static: ClassVar[tuple[str, ...]] = (
        "parted", "reference_error", "scheme", "geometry", "flow_kind", "flow_clusters", "speed", "pure_rotation",
    )  # fmt: skip
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("step_sizes", "depths", "layer_kinds", "layer_clusters", "cluster_angles"), ("step_size",)),
        **dict.fromkeys(("same_groups", "jumps", "change", "back"), ("step_size",)),
        **dict.fromkeys(("errors", "times"), ("step_size", "layer")),
        "layer_xs": ("step_size", "layer", "token", "component"),
        "ts": ("time",), "flow_xs": ("time", "token", "component"),
        "eigenvalues": ("mode",), **dict.fromkeys(("predicted", "measured"), ("step_size", "mode")),
        "end_steps": ("step_size", "end"), "frequencies": ("group", "plane"),
        **dict.fromkeys(("flow_exponents", "flow_stderr"), ("exponent",)),
        **dict.fromkeys(("exponents", "stderr"), ("step_size", "exponent")),
    }  # fmt: skip

    # ---------------------------------------------------------------------------------------------------- trajectories
    @property
    def flow(self) -> Trajectory:
        """The flow, as a ``Trajectory``."""
        return Trajectory(self.ts, self.flow_xs, {})

    def layer(self, i: int) -> Trajectory:
        """Return the run of the layers of ``step_sizes[i]``, with times ``step * layers passed``."""
        kept = np.isfinite(self.times[i])
        return Trajectory(self.times[i][kept], self.layer_xs[i][kept], {"layers": int(self.depths[i])})

    # ---------------------------------------------------------------------------------------------------------- errors
    @property
    def end_errors(self) -> np.ndarray:
        """Errors after the last layer, ``(S,)``."""
        last = np.isfinite(self.times).sum(1) - 1
        return np.asarray(self.errors)[np.arange(len(last)), last]

    @property
    def worst_errors(self) -> np.ndarray:
        """Largest errors on the way, ``(S,)``."""
        return np.nanmax(self.errors, 1)

    @property
    def parting(self) -> np.ndarray:
        """Times at which flow and layers first differ by more than ``parted``, ``(S,)``; inf where they never do."""
        over = np.asarray(self.errors) > self.parted
        return np.where(over.any(1), np.take_along_axis(self.times, over.argmax(1)[:, None], 1)[:, 0], np.inf)

    def _left_out(self, errors: np.ndarray, ends: bool) -> list[str]:
        """Say of every step why it says nothing about the order, "" where it does."""
        lengths = self.step_sizes * self.depths
        off = np.abs(lengths - np.median(lengths)) > 1e-9 * lengths.max()
        small = _SMALL
        if self.geometry.flat:
            small = _SMALL_FLAT * float(np.linalg.norm(self.flow_xs - self.flow_xs[0], axis=-1).max())
        return [
            "error no larger than the reference's" if error <= 3 * self.reference_error
            else "error of order one" if not error < small
            else "ends at another time" if ends and elsewhere else ""
            for error, elsewhere in zip(errors, off, strict=True)
        ]  # fmt: skip

    def _slope(self, errors: np.ndarray, ends: bool) -> float:
        used = np.array([not why for why in self._left_out(errors, ends)])
        if used.sum() < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.step_sizes[used]), np.log(errors[used]), 1)[0])

    @property
    def left_out(self) -> dict[str, str]:
        """Steps that ``order`` leaves out, and why: errors of order one, or no larger than the reference's own."""
        return {f"{s:g}": why for s, why in zip(self.step_sizes, self._left_out(self.worst_errors, False)) if why}

    @property
    def order(self) -> float:
        """Measured order: least-squares slope of the logarithm of ``worst_errors`` against that of the step.

        nan where fewer than two steps serve, see ``left_out``. Once flow and layers have come to the same equilibrium, end
        errors tell how fast they came there; the largest error on the way keeps its meaning.
        """
        return self._slope(self.worst_errors, False)

    @property
    def end_order(self) -> float:
        """The same for ``end_errors``; runs that end at another time than most are left out as well."""
        return self._slope(self.end_errors, True)

    @property
    def local_orders(self) -> np.ndarray:
        """Orders between neighbouring steps, ``(S - 1,)``, from ``worst_errors``; nan beside a step that is left out."""
        ok = np.array([not why for why in self._left_out(self.worst_errors, False)])
        return np.diff(np.log(np.where(ok, self.worst_errors, np.nan))) / np.diff(np.log(self.step_sizes))

    # -------------------------------------------------------------------------------------------------------- findings
    @property
    def same_end(self) -> np.ndarray:
        """Whether flow and layers end in as many clusters, less than ``parted`` apart, ``(S,)``."""
        return np.nan_to_num(self.cluster_angles, nan=np.inf) <= self.parted

    @cached_property
    def artefacts(self) -> tuple[Artefact, ...]:
        """What the layers do and the flow does not, see ``ctsa.comparison.artefacts``; each prints as a sentence."""
        return find_artefacts(self)

    def __repr__(self) -> str:
        first = f"order={self.order:.2f}, " if np.isfinite(self.order) else ""
        return (
            f"Comparison({self.scheme}, {len(self.step_sizes)} step sizes, {first}"
            f"end errors {self.end_errors.max():.2g} ... {self.end_errors.min():.2g}, {len(self.artefacts)} artefacts)"
        )

    def table(self) -> str:
        """Return everything as text: a line a step size, the orders, the artefacts."""
        moving = f", still moving at speed {self.speed:.2g}" if self.speed > _REST else ""
        kind = "motion" if self.flow_kind == "none" else self.flow_kind
        lines = [
            f"flow to t = {np.max(self.ts):g}: {kind}, clusters: {self.flow_clusters}{moving}; "
            f"error of the reference below 1e{int(np.ceil(np.log10(self.reference_error))):+03d}",
            f"{'step':>9} {'layers':>7} {'end error':>10} {'largest':>10} {'order':>6} {'parts at':>9} "
            f"{'multiplier':>11}  end",
        ]
        local = [np.nan, *self.local_orders]
        for i, step in enumerate(self.step_sizes):
            z = np.abs(self.measured[i]).max() if self.measured.shape[1] else np.nan
            order = f"{local[i]:.2f}" if np.isfinite(local[i]) else "-"
            parts = f"{self.parting[i]:.4g}" if np.isfinite(self.parting[i]) else "never"
            end = {"none": "moving", "overflow": "overflown"}.get(str(self.layer_kinds[i]), self.layer_kinds[i])
            lines.append(
                f"{step:>9.4g} {self.depths[i]:>7} {self.end_errors[i]:>10.2e} {self.worst_errors[i]:>10.2e} {order:>6} "
                f"{parts:>9} {f'{z:.4f}' if np.isfinite(z) else '-':>11}"
                f"  {end}, clusters: {self.layer_clusters[i]}"
            )
        if len(self.step_sizes) > 1:
            rest = self.flow_kind != "none"
            end = "" if rest else f", {self.end_order:.3f} of those at the end"
            lines.append(f"measured order: {self.order:.3f} of the largest errors{end}")
            lines.extend(f"  step {s} is left out: {why}" for s, why in self.left_out.items())
        if self.flow_exponents.size:
            lines.append("exponents per unit time:")
            names = ["flow", *(f"step {s:g}" for s in self.step_sizes)]
            for name, row in zip(names, [self.flow_exponents, *self.exponents], strict=True):
                more = " ..." if len(row) > 6 else ""
                lines.append(f"  {name:<12}" + " ".join(f"{v:>9.4f}" for v in row[:6]) + more)
        lines.append("artefacts:" if self.artefacts else "artefacts: none found")
        lines.extend(f"  {a}" for a in self.artefacts)
        return "\n".join(lines)

    def plot(self, axes=None, **kwargs):
        """Draw one page: errors in time, order, observables, stability and spectra side by side; return the ``Axes``."""
        return picture("comparison.comparison")(self, axes=axes, **kwargs)
