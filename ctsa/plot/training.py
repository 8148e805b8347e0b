"""Pictures of training: a run against its steps, accuracy against depth, exponents and energies of samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

import ctsa.plot._given as given

from ._style import PALETTE, axes_for, finish

_LINE: dict[str, Any] = {"markersize": 3, "linewidth": 1.1, "clip_on": False}


def run(result: Any, *, axes: Any = None) -> Any:
    """Draw loss, accuracy, exponents and energy of a training run against its steps.

    What was not measured has no panel in a figure made here; on Axes that are given it is said instead.

    Args:
        result: a ``TrainingRun``.
        axes: four Axes, for loss, accuracy, exponents and energy; None makes a figure.

    Returns:
        An array of the Axes: four, or as many as there are panels.
    """
    given.result("result", result, "TrainingRun", "ctsa.train")
    panels = {"loss": _loss, "accuracy": _accuracy, "exponents": _exponents, "energy": _energy}
    here = [name for name in panels if _measured(result, name)]
    shown = here if axes is None else list(panels)
    axes = axes_for(axes, "axes", (2.7 * len(shown), 2.3), (1, len(shown)))
    for ax, name in zip(axes, shown, strict=True):
        if name not in here:
            ax.text(0.5, 0.5, "not measured", ha="center", va="center", fontsize=7, color="0.35", transform=ax.transAxes)
            ax.set(xticks=[], yticks=[])
            finish(ax, "", name)
            continue
        panels[name](ax, result)
        ax.set_xlim(0, max(len(result.losses), 1))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return axes


def _measured(result: Any, name: str) -> bool:
    if name == "loss":
        return True
    if name == "accuracy":
        return len(result.accuracy) > 0
    series = (result.largest, result.mean, result.asymptotic) if name == "exponents" else (result.energy,)
    return any(np.isfinite(a).any() for a in series)


def _loss(ax: Axes, result: Any) -> None:
    losses = np.asarray(result.losses, dtype=float)
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color=PALETTE[0], alpha=0.35, linewidth=0.6)
    width = max(1, len(losses) // 25)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    ax.plot(steps[width - 1 :], smooth, color=PALETTE[0], linewidth=1.2)
    if np.isfinite(losses).any() and losses[np.isfinite(losses)].min() > 0:
        ax.set_yscale("log")
        ax.tick_params(which="both", labelsize=7, width=0.6)
    if result.diverged is not None:
        ax.axvline(result.diverged + 1, color=PALETTE[1], linewidth=0.9, linestyle=":")
        ax.text(result.diverged + 1, 0.98, "diverged ", fontsize=7, color=PALETTE[1], ha="right", va="top",
                transform=ax.get_xaxis_transform())  # fmt: skip
    finish(ax, "step", "cross entropy")


def _accuracy(ax: Axes, result: Any) -> None:
    ax.plot(result.validated, result.accuracy, "o-", color=PALETTE[2], **_LINE)
    ax.set_ylim(0, 1)
    finish(ax, "step", "accuracy (validation)")


def _exponents(ax: Axes, result: Any) -> None:
    entries = []
    for name, ink in (("largest", 1), ("mean", 0), ("asymptotic", 2)):
        values = getattr(result, name)
        if np.isfinite(values).any():
            entries += ax.plot(result.watched, values, "o-", color=PALETTE[ink], label=name, **_LINE)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    finish(ax, "step", "exponent (per layer)", legend=entries)


def _energy(ax: Axes, result: Any) -> None:
    ax.plot(result.watched, result.energy, "o-", color=PALETTE[3], **_LINE)
    finish(ax, "step", "pseudo-energy")


def evaluation(result: Any, *, ax: Any = None, label: str | None = None) -> Axes:
    """Draw accuracy of whole samples against depth, with its standard error.

    Args:
        result: an ``Evaluation``, or a dict of them by label: a line each.
        ax: Axes to draw on; None makes a figure.
        label: of the line, for a legend; None: none.

    Returns:
        The Axes.

    Raises:
        ValueError: the dict is empty.
    """
    several = isinstance(result, Mapping)
    every = dict(result) if several else {label: result}
    for one in every.values():
        given.result("result", one, "Evaluation", "ctsa.training.evaluate", "dict of them")
    given.need(every, "result", "at least one Evaluation", "an empty dict", "a dict of them by label")
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    before = len(ax.containers)
    for i, (name, one) in enumerate(every.items(), before):
        ax.errorbar(
            one.depths, one.accuracy, one.error, fmt="o-", color=PALETTE[i % len(PALETTE)], markersize=3, linewidth=1.1,
            elinewidth=0.8, capsize=2, label=name, clip_on=False,
        )  # fmt: skip
    depths = np.unique(np.concatenate([np.asarray(one.depths) for one in every.values()]))
    if len(depths) > 1 and depths.min() > 0 and depths.max() >= 8 * depths.min():
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_ylim(0, 1)
    named = [c for c in ax.containers if c.get_label() and not str(c.get_label()).startswith("_")]
    return finish(ax, "depth", "accuracy", legend=named)


def watched(result: Any, *, axes: Any = None) -> Any:
    """Draw what was watched of every sample: a panel for each measure, samples in order of its value.

    Args:
        result: a ``Watched``.
        axes: as many Axes as there are measures; None makes a figure.

    Returns:
        An array of the Axes.
    """
    given.result("result", result, "Watched", "ctsa.training.watch")
    labels = dict(
        largest="largest exponent", mean="mean exponent", asymptotic="asymptotic exponent", norm="norm of the Jacobian",
        oscillating="complex eigenvalues", energy="pseudo-energy", contribution="contribution",
    )  # fmt: skip
    series = {name: np.asarray(getattr(result, name), dtype=float) for name in labels}
    here = [name for name, a in series.items() if np.isfinite(a).any()]
    given.need(here, "result", "at least one measure", "none", "measures=")
    axes = axes_for(axes, "axes", (2.0 * len(here), 2.2), (1, len(here)))
    for i, (ax, name) in enumerate(zip(axes, here, strict=True)):
        order, ink = np.argsort(series[name]), PALETTE[i % len(PALETTE)]
        at = np.arange(1, len(order) + 1)
        if name == "asymptotic":
            error = np.asarray(result.asymptotic_error, dtype=float)[order]
            ax.errorbar(at, series[name][order], error, fmt="o", color=ink, markersize=3, elinewidth=0.8)
        else:
            ax.plot(at, series[name][order], "o", color=ink, markersize=3)
        mean = ax.axhline(series[name].mean(), color=ink, linewidth=0.8, linestyle="--", label="mean")
        if name in ("largest", "mean", "asymptotic"):
            ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        finish(ax, "sample, in order", labels[name], legend=[mean])
    return axes
