"""One page about a recurrent layer."""

from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

import ctsa.plot._given as given

from ._style import INK, PALETTE, axes_for, finish

VERDICTS = {
    "settles": PALETTE[0], "marginal": PALETTE[4], "periodic": PALETTE[2], "wanders": PALETTE[5], "chaotic": PALETTE[1],
    "drifts": PALETTE[3], "expands": "#882255", "undecided": PALETTE[6],
}  # fmt: skip
_LINES = 200  # most runs that are drawn


def diagnosis(report: Any, *, axes: Any = None, member: int = 0, labels: Any = None) -> Any:
    """Draw one page: steps, multipliers, paths, tokens, exits, exponents.

    Steps: by loop, every input in the colour of its verdict, the floor of rounding dotted; dashed the fitted slope of one
    input. Multipliers: about the unit circle. Path: one input and its restarts, in the plane in which they move most;
    rings mark ends. Tokens: the steps of one input, token by loop. Exits: the error that every rule leaves, against the
    loop at which it fires. Exponents: how many inputs have which, in the colours of verdicts or labels.

    Args:
        report: a ``Diagnosis``.
        axes: six Axes; None makes a figure.
        member: the input that is shown by itself.
        labels: one an input, such as right or wrong, to colour the histogram by.

    Returns:
        An array of the six Axes.

    Raises:
        ValueError: ``member`` is not among the inputs, or labels are not as many.
    """
    given.result("report", report, "Diagnosis", "ctsa.diagnose")
    member = given.count("member", member, low=0)
    given.need(member < len(report), "member", f"one of {len(report)} inputs", member, "0")
    if axes is None:
        axes = axes_for(None, "axes", (9.6, 5.2), (2, 3))
    axes = axes_for(axes, "axes", (1, 1), (1, 6))
    _steps(axes[0], report, member)
    _multipliers(axes[1], report)
    _paths(axes[2], report, member)
    _tokens(axes[3], report, member)
    _exits(axes[4], report)
    _exponents(axes[5], report, labels)
    return axes


def _shown(report: Any) -> np.ndarray:
    count = len(report)
    return np.arange(count) if count <= _LINES else np.linspace(0, count - 1, _LINES).astype(int)


def _whole(report: Any) -> np.ndarray:
    """Return the steps of the whole state, of its parts in proportion to their size ``(loops, input)``."""
    size = report.sizes[1:]
    return np.sqrt(((report.steps * size) ** 2).sum(1) / ((size**2).sum(1) + 1e-300))


def _steps(ax: Any, report: Any, member: int) -> None:
    k, steps = np.arange(1, report.loops + 1), _whole(report)
    for i in _shown(report):
        colour = VERDICTS[report.verdicts[i]]
        with np.errstate(invalid="ignore"):
            ax.plot(k, np.where(steps[:, i] > 0, steps[:, i], np.nan), color=colour, lw=0.7, alpha=0.6)
    ax.set_yscale("log")
    ax.axhline(float(np.median(report.floor)), color="0.6", lw=0.8, ls=":")
    others = [Line2D([], [], color="0.6", lw=0.8, ls=":", label="floor of rounding")]
    rate, mine = report.rate[member], steps[:, member]
    above = np.flatnonzero(mine > 100 * report.floor[member])
    if np.isfinite(rate) and len(above) > 2:
        at = k[above[-1]]
        first = k[above[-1] // 2]
        ax.plot([first, at], mine[above[-1]] * np.exp(rate * (np.array([first, at]) - at)), color=INK, lw=1.4, ls="--")
        others += [Line2D([], [], color=INK, lw=1.4, ls="--", label=f"rate of input {member}")]
    names = list(report.counts)
    legend = [Line2D([], [], color=VERDICTS[n], label=f"{n} ({report.counts[n]})", lw=1.4) for n in names]
    finish(ax, "loop", "step, relative", legend=[*legend, *others])


def _multipliers(ax: Any, report: Any) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), color="0.7", lw=0.8)
    ax.axhline(0, color="0.9", lw=0.6, zorder=0)
    ax.axvline(0, color="0.9", lw=0.6, zorder=0)
    for name in report.counts:
        at = [i for i in _shown(report) if report.verdicts[i] == name]
        values = report.multipliers[at].ravel()
        ax.plot(values.real, values.imag, "o", ms=2.5, color=VERDICTS[name], alpha=0.6, mew=0)
    ax.set_aspect("equal", adjustable="datalim")
    if not np.isfinite(report.multipliers).any():
        _say(ax, "no multipliers")
    finish(ax, "real part of multipliers", "imaginary part")


def _say(ax: Any, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, color="0.35", transform=ax.transAxes)
    ax.set(xticks=[], yticks=[])


def _paths(ax: Any, report: Any, member: int) -> None:
    own = report.path[:, :, member]
    others = None if report.restart_paths is None else report.restart_paths[:, :, :, member]
    every = own if others is None else np.concatenate([own, np.moveaxis(others, 1, 2).reshape(-1, own.shape[1])])
    every = every[np.isfinite(every).all(1)]
    if len(every) < 2:
        _say(ax, "no path")
        finish(ax, "", "")
        return
    middle = every.mean(0)
    plane = np.linalg.svd(every - middle, full_matrices=False)[2][:2].T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    for way in () if others is None else np.moveaxis(others, 2, 0):
        z = (way - middle) @ plane
        ax.plot(*z.T, color="0.7", lw=0.8, zorder=1)
        ax.plot(*z[-1], "o", mfc="none", mec="0.5", ms=7, mew=0.8, zorder=1)
    z = (own - middle) @ plane
    colour = VERDICTS[report.verdicts[member]]
    ax.plot(*z.T, ".-", color=colour, lw=1.0, ms=3, zorder=2)
    ax.plot(*z[-1], "o", mfc="none", mec=colour, ms=7, mew=1.2, zorder=3)
    restarts = "" if others is None else f" and {others.shape[2]} restarts"
    finish(ax, f"input {member}{restarts}", "second direction")


def _tokens(ax: Any, report: Any, member: int) -> None:
    if report.token_steps is None:
        _say(ax, "steps of tokens were not kept,\nor there is one token")
        finish(ax, "loop", "token")
        return
    heat = np.log10(np.maximum(report.token_steps[:, :, member].T, 1e-300))
    low = max(float(np.log10(np.median(report.floor))) - 1, float(heat[heat > -300].min(initial=0.0)))
    shown = ax.imshow(
        np.maximum(heat, low), aspect="auto", origin="lower", cmap="viridis", interpolation="nearest",
        extent=(0.5, report.loops + 0.5, -0.5, heat.shape[0] - 0.5),
    )  # fmt: skip
    bar = ax.figure.colorbar(shown, ax=ax, pad=0.02)
    bar.ax.tick_params(labelsize=6, width=0.6)
    bar.set_label("log10 of the step", fontsize=7)
    finish(ax, f"loop, input {member}", "token")


def _exits(ax: Any, report: Any) -> None:
    for i, rule in enumerate(report.rules):
        fires = np.isfinite(report.exits[i])
        label = f"{rule} ({fires.sum()} of {len(report)})"
        left = np.maximum(report.exit_errors[i][fires], 1e-17)
        ax.plot(report.exits[i][fires], left, "o", ms=3, color=PALETTE[i % len(PALETTE)], alpha=0.6, mew=0, label=label)
    if np.isfinite(report.exits).any():
        ax.set_yscale("log")
    ax.set_xlim(0, report.loops + 1)
    ax.legend(loc="best", frameon=False, fontsize=6, handlelength=1.0)
    finish(ax, "loop at which a rule stops", "error that it leaves")


def _exponents(ax: Any, report: Any, labels: Any) -> None:
    top = np.asarray(report.exponents[:, 0], dtype=float)
    labels = np.array(report.verdicts) if labels is None else np.asarray(labels)
    given.need(labels.shape == top.shape, "labels", f"one an input ({len(top)},)", labels.shape, "None")
    names, fine = np.unique(labels), np.isfinite(top)
    if not fine.any():
        _say(ax, "no exponents")
    else:
        low, high = top[fine].min(), top[fine].max()
        edge = 0.05 * max(high - low, 1e-3)
        groups = [top[fine & (labels == name)] for name in names]
        inks = [VERDICTS.get(str(name), PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)]
        bins = np.linspace(low - edge, high + edge, 25)
        ax.hist(groups, bins=bins, stacked=True, color=inks, label=[str(n) for n in names])
        ax.axvline(0, color="0.5", lw=0.8, ls=":")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc="best", frameon=False, fontsize=6, handlelength=1.0)
    finish(ax, "largest exponent, per loop", "inputs")
