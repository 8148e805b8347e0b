"""Pictures of monitors: records, energies, norms of Jacobians."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator

import ctsa.plot._given as given

from ._style import PALETTE, axes_for, finish

INK = "0.35"


def record(found: Any, *, axes: Any = None) -> Any:
    """Draw every monitor of a record against time or depth.

    Args:
        found: a ``MonitorRecord``.
        axes: five Axes; None makes a figure. Where a monitor does not apply, the Axes say why.

    Returns:
        An array of the five Axes.
    """
    given.result("found", found, "MonitorRecord", "ctsa.monitor")
    if axes is None:
        *axes, last = axes_for(None, "axes", (8.0, 3.8), (2, 3))
        last.remove()
    axes = axes_for(axes, "axes", (1, 1), (1, 5))
    names = dict(
        pseudo_energy="pseudo-energy", contribution=f"share in top {found.share:.0%} of $J + J^T$",
        complex_share="complex eigenvalues", norm="norm of the Jacobian",
        order_parameter="length of the mean token",
    )  # fmt: skip
    for i, (name, label) in enumerate(names.items()):
        if name in found.missing:
            why = "\n".join(textwrap.wrap(f"{name.replace('_', ' ')} {found.missing[name]}", 28))
            axes[i].text(0.5, 0.5, why, ha="center", va="center", fontsize=7, color=INK, transform=axes[i].transAxes)
            axes[i].set(xticks=[], yticks=[])
            finish(axes[i], "", label)
            continue
        style = "-" if found.continuous else ".-"
        axes[i].plot(found.ts, getattr(found, name), style, color=PALETTE[i % len(PALETTE)], linewidth=1.1)
        finish(axes[i], "time" if found.continuous else "layers", label)
    return axes


def energy(report: Any, *, ax: Any = None) -> Axes:
    """Draw an energy against time, what is promised of it, and how far it went against that.

    Args:
        report: an ``EnergyReport``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("report", report, "EnergyReport", "ctsa.energy_report")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    values = report.energies.reshape(len(report.ts), -1)
    ax.plot(report.ts, values, color=PALETTE[0], linewidth=1.2)
    if not report.held:
        at = int(np.argmin(np.abs(report.ts - report.at)))
        verb = "falls" if report.sign > 0 else "rises"
        against = f"{verb} by {report.violation:.2g} between outputs, at {report.at:.3g}"
        ax.axvline(report.ts[at], color=PALETTE[1], linewidth=0.9, linestyle=":", label=against)
        ax.legend(loc="best", frameon=False, fontsize=7, handlelength=1.4)
    verb = "rise" if report.sign > 0 else "fall"
    promise = f"guaranteed to {verb}" if report.theorem else f"no theorem that it must {verb}"
    why = "\n".join(textwrap.wrap(f"{promise}: {report.why}" if report.why else promise, 58))
    ax.set_title(why, fontsize=7, color=INK, loc="left")
    return finish(ax, "time", "energy")


def norms(found: Any, *, ax: Any = None, depths: Any = None) -> Axes:
    """Draw measured norms of Jacobians and their bounds: of one state side by side, of several against depth.

    Of one state the vertical strokes are the bounds: what normalisation guarantees, and what it does without a look at the
    state (paler); of the update the Lipschitz bound. Of several, bounds are dashed.

    Args:
        found: ``JacobianNorms``, or a list of them, one a depth.
        ax: Axes to draw on; None makes a figure.
        depths: where on the axis each of them stands; None counts from 0.

    Returns:
        The Axes.

    Raises:
        ValueError: the list is empty, or ``depths`` are not as many.
    """
    every = list(found) if isinstance(found, Sequence) else [found]
    for one in every:
        given.result("found", one, "JacobianNorms", "ctsa.jacobian_norms", "list of them")
    if not every:
        raise ValueError("found must hold at least one JacobianNorms, got none")
    ax = axes_for(ax, "ax", (3.4, 1.7) if len(every) == 1 and depths is None else (4.6, 2.4))[0]
    names = ("norm", "tangent_norm", "update_norm", "bound", "a_priori", "lipschitz")
    series = {name: np.array([getattr(one, name) for one in every], dtype=float) for name in names}
    if len(every) == 1 and depths is None:
        return _one_state(ax, {name: float(values[0]) for name, values in series.items()})
    at = np.arange(len(every)) if depths is None else given.real("depths", depths)
    given.need(at.shape == (len(every),), "depths", f"one a result ({len(every)},)", at.shape, "None")
    styles = dict(
        norm=("layer", "-", 0), tangent_norm=("layer, tangent", "-", 2), update_norm=("update", "-", 1),
        bound=("bound of the layer", "--", 0), lipschitz=("bound of the update", "--", 1),
        a_priori=("bound, any state", ":", 0),
    )  # fmt: skip
    for name, (label, style, ink) in styles.items():
        if np.isfinite(series[name]).any():
            marker = "o" if style == "-" else ""
            ax.plot(at, series[name], style, color=PALETTE[ink], lw=1.1, marker=marker, markersize=2.5, label=label)
    ax.axhline(1, color="0.7", linewidth=0.8, zorder=0)
    ax.set_yscale("log")
    ax.tick_params(which="both", labelsize=7, width=0.6)  # on less than a decade minor ticks have labels, too
    ax.yaxis.set_major_formatter(LogFormatter())
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.4)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7, handlelength=1.6)
    return finish(ax, "layers", "spectral norm")


def _one_state(ax: Any, numbers: dict[str, float]) -> Axes:
    rows = (
        ("layer", "norm", ("bound", "a_priori")), ("layer, tangent", "tangent_norm", ("bound", "a_priori")),
        ("update", "update_norm", ("lipschitz",)),
    )  # fmt: skip
    kept = [row for row in rows if np.isfinite(numbers[row[1]])]
    entries: dict[str, Any] = {}
    for y, (_, name, bounds) in enumerate(reversed(kept)):
        ax.barh(y, numbers[name], height=0.5, color=PALETTE[0], zorder=2)
        for bound, ink, label in zip(bounds, ("0.15", "0.6"), ("bound", "bound, any state"), strict=False):
            if np.isfinite(numbers[bound]):
                style = {"color": ink, "linewidth": 1.4, "zorder": 3, "label": label}
                entries[label] = ax.plot([numbers[bound]] * 2, [y - 0.36, y + 0.36], **style)[0]
    ax.axvline(1, color="0.7", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(kept)), [row[0] for row in reversed(kept)])
    ax.set_xlim(left=0)
    if entries:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "ncols": 2}
        ax.legend(handles=list(entries.values()), frameon=False, fontsize=7, handlelength=0.9, **place)
    return finish(ax, "spectral norm")


def plateaus(found: Any, *, ax: Any = None) -> Axes:
    """Draw a curve against time, its plateaus over it, and the times of merges.

    Args:
        found: ``Plateaus``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("found", found, "Plateaus", "ctsa.plateaus")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    ax.plot(found.ts, found.curve, color=PALETTE[0], linewidth=1.2)
    for a, b, value in zip(found.start, found.end, found.value, strict=True):
        ax.plot([a, b], [value, value], color=PALETTE[1], linewidth=3.5, alpha=0.5, solid_capstyle="butt")
    for time in found.merge:
        ax.axvline(time, color=INK, linewidth=0.7, linestyle=":")
    if found.log_time:
        ax.set_xscale("log")
    return finish(ax, "time", "value")
