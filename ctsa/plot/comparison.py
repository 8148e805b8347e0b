"""Pictures of comparisons between flows and layers."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator, NullLocator

import ctsa.plot._given as given
from ctsa.observables import cluster_count, order_parameter
from ctsa.results.base import Trajectory

from ._style import PALETTE, axes_for, finish

INK = "0.35"
_COMPARISON = ("Comparison", "ctsa.compare")
_ENTRIES, _TICKS = 7, 5  # most entries of a legend, and ticks of an axis of steps


def _colour(i: int) -> str:
    return PALETTE[i % len(PALETTE)]


def _legend(ax: Any) -> None:
    lines, labels = ax.get_legend_handles_labels()
    if lines:
        shown = _spread(len(lines), _ENTRIES)
        lines, labels = [lines[i] for i in shown], [labels[i] for i in shown]
        ax.legend(lines, labels, loc="best", frameon=False, fontsize=7, handlelength=1.4)


def _spread(count: int, most: int) -> np.ndarray:
    """Return all of ``count`` indices, or ``most`` of them from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _reach(comp: Any) -> float:
    """Return the length up to which states are drawn: in flat space layers may leave for infinity."""
    return 10 * float(np.abs(comp.flow_xs).max()) if comp.geometry.flat else np.inf


def errors(comp: Any, *, ax: Any = None) -> Axes:
    """Draw the distance between flow and layers against time; dotted, that from which on they count as parted.

    Args:
        comp: a ``Comparison``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("comp", comp, *_COMPARISON)
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    known = (comp.errors > comp.reference_error) & (comp.errors < max(_reach(comp), comp.parted))
    for i, step in enumerate(comp.step_sizes):
        seen = np.where(known[i], comp.errors[i], np.nan)
        marker = "." if np.isfinite(seen).sum() < 3 else ""  # a line of one point would not show
        ax.plot(comp.times[i], seen, color=_colour(i), linewidth=1.1, marker=marker, label=f"step {step:.3g}")
    ax.axhline(comp.parted, color=INK, linewidth=0.8, linestyle=":", label="counts as parted")
    ax.set_xlim(0, np.nanmax(comp.times))
    ax.set_yscale("log")
    seen = comp.errors[known]
    low, high = (seen.min(), seen.max()) if seen.size else (comp.reference_error, comp.parted)
    ax.set_ylim(0.3 * low, 3 * max(high, comp.parted))
    _legend(ax)
    return finish(ax, "time", "distance" if comp.geometry.flat else "angle between flow and layers")


def order(comp: Any, *, ax: Any = None) -> Axes:
    """Draw largest and end errors against the step, and the line of the measured order.

    Steps that the order leaves out are hollow; errors of zero, and those beyond all bounds, are not shown.

    Args:
        comp: a ``Comparison``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("comp", comp, *_COMPARISON)
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    h = np.asarray(comp.step_sizes)
    worst, ends = (
        np.where((e > 0) & (e < max(_reach(comp), comp.parted)), e, np.nan) for e in (comp.worst_errors, comp.end_errors)
    )
    used = np.array([f"{step:g}" not in comp.left_out for step in h])
    ax.plot(h[used], worst[used], "o", markersize=4, color=PALETTE[0], label="largest error")
    ax.plot(h[~used], worst[~used], "o", markersize=4, color=PALETTE[0], markerfacecolor="white")
    ax.plot(h, ends, "s", markersize=3, color=PALETTE[1], label="at the end")
    if np.isfinite(comp.order):
        middle = np.exp(np.log(worst[used]).mean() + comp.order * (np.log(h) - np.log(h[used]).mean()))
        ax.plot(h, middle, color=INK, linewidth=0.9, label=f"order {comp.order:.2f}")
    ax.set_xscale("log")
    ax.set_xlim(h.min() / 1.3, 1.3 * h.max())
    ticks = h[_spread(len(h), _TICKS)]
    ax.set_xticks(ticks, [f"{step:.3g}" for step in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    if np.isfinite([*worst, *ends]).any():
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1.5, 0.5)))
        ax.tick_params(axis="y", which="minor", labelsize=7)
    else:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no errors to show", ha="center", transform=ax.transAxes, fontsize=7, color=INK)
    _legend(ax)
    return finish(ax, "step", "error")


def _paths(comp: Any):
    yield "flow", comp.flow, "0.1", 1.6
    for i, step in enumerate(comp.step_sizes):
        path = comp.layer(i)
        near = (np.abs(path.xs) < _reach(comp)).all((-2, -1))
        yield f"step {step:.3g}", Trajectory(path.ts[near], path.xs[near], {}), _colour(i), 1.0


def multipliers(comp: Any, *, ax: Any = None) -> Axes:
    """Draw the multipliers of the layers at the flow's end state: rings predicted, dots measured, and the unit circle.

    Args:
        comp: a ``Comparison``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("comp", comp, *_COMPARISON)
    ax = axes_for(ax, "ax", (2.8, 2.8))[0]
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.6", linewidth=0.8))
    for i in range(len(comp.step_sizes)):
        p, m = comp.predicted[i], comp.measured[i]
        ax.plot(p.real, p.imag, "o", markersize=5.5, color=_colour(i), markerfacecolor="none", markeredgewidth=0.8)
        ax.plot(m.real, m.imag, "o", markersize=2.2, color=_colour(i))
    if comp.measured.shape[1]:
        ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": INK}
        entries = [Line2D([], [], markersize=5.5, mfc="none", mew=0.8, label="predicted", **ring)]
        entries += [Line2D([], [], markersize=2.2, label="measured", **ring)]
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "ncols": 2}
        ax.legend(handles=entries, frameon=False, fontsize=7, handlelength=1.0, **place)
    if not comp.measured.shape[1]:
        ax.text(0, 0, "the flow still moves", ha="center", va="center", fontsize=7, color=INK)
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    return finish(ax, "real part of multipliers", "imaginary part")


def exponents(comp: Any, *, ax: Any = None) -> Axes:
    """Draw the Lyapunov exponents of flow and layers, per unit time, with error bars.

    Args:
        comp: a ``Comparison`` made with ``spectra=True``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.

    Raises:
        ValueError: the comparison has no spectra.
    """
    given.result("comp", comp, *_COMPARISON)
    if not comp.flow_exponents.size:
        raise ValueError("comp has no spectra: make it with ctsa.compare(..., spectra=True)")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    index = np.arange(1, len(comp.flow_exponents) + 1)
    ax.plot(index, comp.flow_exponents, "_", markersize=9, markeredgewidth=1.6, color="0.1", label="flow")
    shifts = np.linspace(-0.2, 0.2, len(comp.step_sizes)) if len(comp.step_sizes) > 1 else [0.0]
    for i, (step, shift) in enumerate(zip(comp.step_sizes, shifts, strict=True)):
        bars = np.nan_to_num(comp.stderr[i])
        ax.errorbar(
            index + shift, comp.exponents[i], bars, fmt="o", markersize=2.5, linewidth=0.8, color=_colour(i),
            label=f"step {step:.3g}",
        )  # fmt: skip
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    _legend(ax)
    return finish(ax, "index", "exponent per unit time")


def comparison(comp: Any, *, axes: Any = None) -> Any:
    """Draw a comparison on one page: errors in time, order, order parameter, clusters, multipliers, and spectra.

    Args:
        comp: a ``Comparison``.
        axes: six Axes; None makes a figure. Without spectra the last names the artefacts.

    Returns:
        An array of the six Axes.
    """
    given.result("comp", comp, *_COMPARISON)
    axes = axes_for(axes, "axes", (10.0, 5.2), (2, 3))
    errors(comp, ax=axes[0])
    lines, labels = axes[0].get_legend_handles_labels()  # steps have their legend among the clusters, where there is room
    axes[0].legend(lines[-1:], labels[-1:], loc="lower right", frameon=False, fontsize=7, handlelength=1.4)
    order(comp, ax=axes[1])
    for label, path, colour, width in _paths(comp):
        aligned = order_parameter(path.xs, comp.geometry.channels)
        axes[2].plot(path.ts, aligned, color=colour, linewidth=width, label=label, zorder=3 if label == "flow" else 2)
        axes[3].step(path.ts, cluster_count(path.xs), where="post", color=colour, linewidth=width, label=label)
    finish(axes[2], "time", "length of the mean token")
    axes[3].yaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes[3].set_ylim(bottom=0)
    finish(axes[3], "time", "clusters")
    _legend(axes[3])
    multipliers(comp, ax=axes[4])
    if comp.flow_exponents.size:
        exponents(comp, ax=axes[5])
    else:
        axes[5].set_axis_off()
        found = [f"- {a}" for a in comp.artefacts] or ["none found"]
        letters = max(20, int(axes[5].bbox.width / axes[5].figure.dpi / 0.05))
        text = [line for a in found for line in textwrap.wrap(a, letters, subsequent_indent="  ")]
        text = ["artefacts:", *text[:14], *(["..."] if len(text) > 14 else [])]
        axes[5].text(0, 1, "\n".join(text), va="top", fontsize=7, color=INK, transform=axes[5].transAxes, wrap=False)
    return axes


def effective(fit: Any, *, ax: Any = None) -> Axes:
    """Draw the unexplained share of every token's update against its step, and the one best step for all.

    Args:
        fit: an ``EffectiveStep``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("fit", fit, "EffectiveStep", "ctsa.effective_step")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    ax.plot(np.ravel(fit.steps), np.ravel(fit.residuals), "o", markersize=3.5, color=PALETTE[0], label="one token")
    if not np.isfinite(fit.residuals).any():
        ax.text(0.5, 0.5, "no update to explain", ha="center", transform=ax.transAxes, fontsize=7, color=INK)
    if np.isfinite(fit.common_step) and np.isfinite(fit.common_residual):
        common = f"one step for all, {fit.common_step:.3g}: {fit.common_residual:.1%} unexplained"
        ax.axvline(fit.common_step, color=INK, linewidth=0.9, linestyle=":", label=common)
    ax.set_ylim(-0.03, 1.03)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, frameon=False, fontsize=7, handlelength=1.4)
    return finish(ax, "effective step", "not explained (0: Euler step)")
