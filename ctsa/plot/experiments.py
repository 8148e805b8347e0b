"""Pictures of experiments with trained models, one function each, named like the experiment."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib import lines
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

import ctsa.plot._given as given

from ._style import NAMED, axes_for, finish

MARKS = "osD^vP*Xh<>p"


def _read(found: Any, name: str) -> dict[str, np.ndarray]:
    """Return the table of findings as arrays; those of another experiment are refused."""
    given.result("found", found, "Findings", "ctsa.studies.experiments.run")
    given.need(found.name == name, "found", f"findings of {name!r}", repr(found.name), "found.plot()")
    given.need(len(next(iter(found.rows.values()), [])), "found", "rows", "none", "another run")
    return {key: np.array(column) for key, column in found.rows.items()}


def _where(table: dict[str, np.ndarray], **values: Any) -> dict[str, np.ndarray]:
    keep = np.ones(len(next(iter(table.values()))), bool)
    for name, value in values.items():
        keep &= table[name] == value
    return {name: column[keep] for name, column in table.items()}


def _names(table: dict[str, np.ndarray], column: str = "recipe") -> list[Any]:
    return list(dict.fromkeys(table[column].tolist()))


def _entry(colour: Any, label: str, style: str = "-", mark: str = "o") -> lines.Line2D:
    return lines.Line2D([], [], color=colour, label=label, linestyle=style, marker=mark, markersize=3.5, linewidth=1.2)


def _curve(
    ax: Any, xs: Sequence[Any], every: Sequence[np.ndarray], colour: Any, style: str = "-", mark: str = "o"
) -> None:
    """Draw means against xs, and every seed as a pale dot."""
    keep = [i for i, a in enumerate(every) if np.isfinite(a).any()]
    xs, every = [xs[i] for i in keep], [every[i][np.isfinite(every[i])] for i in keep]
    for x, a in zip(xs, every, strict=True):
        if len(a) > 1 and mark:
            ax.plot([x] * len(a), a, mark, color=colour, markersize=2.5, alpha=0.35, markeredgewidth=0, clip_on=False)
    ax.plot(xs, [a.mean() for a in every], style, marker=mark, color=colour, markersize=3.5, linewidth=1.2)


def _doubling(ax: Any, ticks: Iterable[Any]) -> None:
    """Make the x-axis logarithmic, with these ticks."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(ticks))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()


def _rows(ax: Any, names: Sequence[str], series: Sequence[tuple[str, Any, str, list[np.ndarray]]], label: str) -> list:
    """Draw names one below the other, with a mark for the mean of each series and pale dots for seeds."""
    entries = []
    for k, (text, colour, mark, every) in enumerate(series):
        shift = 0.22 * (k - (len(series) - 1) / 2)
        for y, a in enumerate(every):
            a = a[np.isfinite(a)]
            if not len(a):
                continue
            if len(a) > 1:
                ax.plot(a, [y + shift] * len(a), mark, color=colour, markersize=2.5, alpha=0.4, markeredgewidth=0)
            ax.plot(a.mean(), y + shift, mark, color=colour, markersize=4.5)
        entries.append(_entry(colour, text, "", mark))
    for y in range(1, len(names)):
        ax.axhline(y - 0.5, color="0.92", linewidth=0.6, zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    finish(ax, label)
    ax.tick_params(axis="y", length=0)
    return entries


def _by(table: dict[str, np.ndarray], column: str, names: Iterable[Any], key: str = "recipe") -> list[np.ndarray]:
    return [np.asarray(_where(table, **{key: name})[column], float) for name in names]


def criticality(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracy out of distribution against the largest exponent, over 16 layers and asymptotic; a colour a recipe.

    Args:
        found: ``Findings`` of "criticality".
        axes: two Axes; None makes a figure.

    Returns:
        An array of the two Axes.
    """
    table = _read(found, "criticality")
    axes = axes_for(axes, "axes", (7.6, 2.7), (1, 2), sharey=True)
    names = _names(table)
    labels = {"ood_largest": "largest exponent over 16 layers", "ood_asymptotic": "asymptotic exponent, a layer"}
    looks = [(name, NAMED[i % len(NAMED)], MARKS[i % len(MARKS)]) for i, name in enumerate(names)]
    entries = [_entry(colour, name, "", mark) for name, colour, mark in looks]
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        for name, colour, mark in looks:
            some = _where(table, recipe=name)
            error = some["ood_largest_error"] if column == "ood_largest" else None
            ax.errorbar(
                some[column], some["ood_64"], xerr=error, fmt=mark, color=colour, markersize=4, elinewidth=0.6, alpha=0.85
            )
        ax.set_ylim(-0.04, 1.04)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        finish(ax, label, "accuracy at 64 layers, OOD" if ax is axes[0] else "")
    finish(axes[1], labels["ood_asymptotic"], "", entries, "beside")
    return axes


def test_time(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracy, pseudo-energy, confidence and contribution against layers, and votes against starts.

    Args:
        found: ``Findings`` of "test-time".
        axes: six Axes; None makes a figure.

    Returns:
        An array of the six Axes; the last holds the legend.
    """
    table = _read(found, "test-time")
    axes = axes_for(axes, "axes", (7.6, 4.4), (2, 3))
    names, depths = _names(table), sorted(set(table["depth"].tolist()))
    by_depth, votes = _where(table, measure="depth"), [m for m in _names(table, "measure") if m != "depth"]
    labels = dict(ood="accuracy, OOD", energy="pseudo-energy, OOD", confidence="confidence, OOD",
                  contribution="share in top 2 % of $J + J^T$")  # fmt: skip
    entries = [_entry(NAMED[i % len(NAMED)], name) for i, name in enumerate(names)]
    for ax, (column, label) in zip(axes, labels.items()):
        for i, name in enumerate(names):
            some = _where(by_depth, recipe=name)
            _curve(ax, depths, _by(some, column, depths, "depth"), NAMED[i % len(NAMED)])
            if column == "ood":
                _curve(ax, depths, _by(some, "id", depths, "depth"), NAMED[i % len(NAMED)], ":", "")
        _doubling(ax, [4, 16, 64, 256])
        finish(ax, "layers", label)
    axes[0].set_ylim(-0.03, 1.03)
    ax, starts = axes[4], _names(table, "starts")
    shown = _where(table, recipe=names[0])
    for k, name in enumerate(votes):
        style = "--" if name in ("single", "any") else "-"
        colour, mark = NAMED[(len(names) + k) % len(NAMED)], MARKS[k % len(MARKS)]
        _curve(ax, starts, _by(_where(shown, measure=name), "ood", starts, "starts"), colour, style, mark)
        entries.append(_entry(colour, f"vote: {name}" if style == "-" else name, style, mark))
    _doubling(ax, starts)
    finish(ax, "starts", f"accuracy at 64 layers, OOD, {names[0]}")
    ax.yaxis.label.set_fontsize(7)
    entries.append(_entry("0.4", "in distribution", ":", ""))
    finish(axes[5], None, legend=entries, loc="center")
    return axes


def regularisers(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracies, the largest exponent and what is left of the regularisers of weights, a row a recipe.

    Args:
        found: ``Findings`` of "regularisers".
        axes: three Axes; None makes a figure.

    Returns:
        An array of the three Axes.
    """
    table = _read(found, "regularisers")
    names = _names(table)
    axes = axes_for(axes, "axes", (7.8, 0.9 + 0.28 * len(names)), (1, 3), sharey=True)
    series = [
        ("in distribution, 64 layers", NAMED[0], "o", _by(table, "id_64", names)),
        ("OOD, 16 layers", NAMED[4], "D", _by(table, "ood_16", names)),
        ("OOD, 64 layers", NAMED[1], "s", _by(table, "ood_64", names)),
    ]
    _above(axes[0], _rows(axes[0], names, series, "accuracy"))
    axes[0].set_xlim(-0.03, 1.03)
    axes[1].axvline(0, color="0.6", linewidth=0.8, zorder=0)
    largest = [("largest", NAMED[2], "o", _by(table, "largest", names))]
    _rows(axes[1], names, largest, "largest exponent over 16 layers, OOD")
    axes[1].xaxis.set_major_locator(MaxNLocator(4))
    kinds = dict(spectral=("$R_{Spec}$", NAMED[0], "o"), symmetry=("$R_E$", NAMED[3], "s"),
                 orthogonality=("of $W_V, W_O$", NAMED[6], "D"))  # fmt: skip
    left = [(text, colour, mark, [np.where(a > 0, a, np.nan) for a in _by(table, name, names)])
            for name, (text, colour, mark) in kinds.items()]  # fmt: skip
    _above(axes[2], _rows(axes[2], names, left, "value after training"))
    axes[2].set_xscale("log")
    axes[2].tick_params(axis="x", which="minor", length=1.5, width=0.4)
    return axes


def _above(ax: Any, entries: list) -> None:
    """Put a legend above an Axes, where it covers nothing."""
    ax.legend(
        handles=entries, fontsize=6.5, frameon=False, handlelength=0.8, loc="lower center", bbox_to_anchor=(0.5, 1.0),
        borderaxespad=0.1, ncols=1 if max(len(e.get_label()) for e in entries) > 15 else len(entries), columnspacing=0.8,
        handletextpad=0.4, labelspacing=0.2,
    )  # fmt: skip


def gains(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracy against layers, in and out of distribution, a line a recipe.

    Args:
        found: ``Findings`` of "gains".
        axes: two Axes; None makes a figure.

    Returns:
        An array of the two Axes.
    """
    table = _read(found, "gains")
    axes = axes_for(axes, "axes", (7.0, 2.5), (1, 2), sharey=True)
    depths = (16, 32, 64)
    looks = [(name, NAMED[i % len(NAMED)], MARKS[i % len(MARKS)]) for i, name in enumerate(_names(table))]
    entries = [_entry(colour, name, "-", mark) for name, colour, mark in looks]
    for ax, (part, label) in zip(axes, dict(id="accuracy, in distribution", ood="accuracy, OOD").items(), strict=True):
        for name, colour, mark in looks:
            some = _where(table, recipe=name)
            _curve(ax, depths, [some[f"{part}_{depth}"] for depth in depths], colour, "-", mark)
        _doubling(ax, depths)
        ax.set_ylim(-0.03, 1.03)
        finish(ax, "layers", label)
    finish(axes[1], "layers", "accuracy, OOD", entries, "beside")
    return axes


def oscillators(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracy and the largest exponent against the size of oscillators, a colour a kind.

    Args:
        found: ``Findings`` of "oscillators".
        axes: two Axes; None makes a figure.

    Returns:
        An array of the two Axes.
    """
    table = _read(found, "oscillators")
    axes = axes_for(axes, "axes", (7.2, 2.5), (1, 2))
    sizes, entries = sorted(set(table["channels"].tolist())), []
    for i, kind in enumerate(k for k in _names(table, "kind") if k != "itrsa"):
        some, colour, mark = _where(table, kind=kind), NAMED[i], MARKS[i]
        for depth, style in ((16, ":"), (64, "-")):
            _curve(axes[0], sizes, _by(some, f"ood_{depth}", sizes, "channels"), colour, style, mark)
            entries.append(_entry(colour, f"{kind}, {depth} layers", style, mark))
        _curve(axes[1], sizes, _by(some, "largest", sizes, "channels"), colour, "-", mark)
    itrsa = _where(table, kind="itrsa")
    for depth, style in ((16, ":"), (64, "-")):
        axes[0].axhline(itrsa[f"ood_{depth}"].mean(), color="0.45", linewidth=1.0, linestyle=style, zorder=0)
        entries.append(_entry("0.45", f"itrsa, {depth} layers", style, ""))
    axes[1].axhline(itrsa["largest"].mean(), color="0.45", linewidth=1.0, zorder=0)
    for ax, label in zip(axes, ("accuracy, OOD", "largest exponent over 16 layers"), strict=True):
        _doubling(ax, sizes)
        finish(ax, "N, channels of an oscillator", label)
    axes[0].set_ylim(-0.03, 1.03)
    finish(axes[1], "N, channels of an oscillator", "largest exponent over 16 layers", entries, "beside")
    return axes


def heads(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracy, the largest and the mean exponent against the number of heads, with masks and without.

    Args:
        found: ``Findings`` of "heads".
        axes: three Axes; None makes a figure.

    Returns:
        An array of the three Axes.
    """
    table = _read(found, "heads")
    axes = axes_for(axes, "axes", (7.8, 2.4), (1, 3))
    counts, entries = sorted(set(table["heads"].tolist())), []
    for i, (masks, text) in enumerate(((True, "masks"), (False, "no masks"))):
        some = _where(table, masks=masks)
        for depth, style in ((16, ":"), (64, "-")):
            _curve(axes[0], counts, _by(some, f"ood_{depth}", counts, "heads"), NAMED[i], style, MARKS[i])
            entries.append(_entry(NAMED[i], f"{text}, {depth} layers", style, MARKS[i]))
        for ax, name in zip(axes[1:], ("largest", "mean"), strict=True):
            _curve(ax, counts, _by(some, name, counts, "heads"), NAMED[i], "-", MARKS[i])
    labels = ("accuracy, OOD", "largest exponent, 16 layers", "mean exponent, 16 layers")
    for ax, label in zip(axes, labels, strict=True):
        _doubling(ax, counts)
        finish(ax, "heads", label)
    axes[0].set_ylim(-0.03, 1.03)
    finish(axes[2], "heads", labels[2], entries, "beside")
    return axes


def continuous(found: Any, *, axes: Any = None) -> Any:
    """Draw accuracy as layers of several step sizes beside that of the flow, and how far states are from the flow's.

    Args:
        found: ``Findings`` of "continuous".
        axes: two Axes; None makes a figure.

    Returns:
        An array of the two Axes.
    """
    table = _read(found, "continuous")
    axes = axes_for(axes, "axes", (7.4, 2.5), (1, 2))
    used, flow = _where(table, used="layers"), _where(table, used="flow")
    refine, entries = sorted(set(used["refine"].tolist())), []
    for i, name in enumerate(_names(table)):
        some = _where(used, recipe=name)
        for depth, style in ((16, ":"), (64, "-")):
            _curve(axes[0], refine, _by(some, f"ood_{depth}", refine, "refine"), NAMED[i], style, MARKS[i])
            end = _where(flow, recipe=name)[f"ood_{depth}"].mean()
            axes[0].axhline(end, color=NAMED[i], linewidth=0.8, linestyle=style, alpha=0.6, zorder=0)
            entries.append(_entry(NAMED[i], f"trained as {name}, depth {depth}", style, MARKS[i]))
        _curve(axes[1], refine, _by(some, "apart", refine, "refine"), NAMED[i], "-", MARKS[i])
    entries.append(_entry("0.45", "no marks: used as a flow", "-", ""))
    for ax in axes:
        _doubling(ax, refine)
    axes[1].set_yscale("log")
    finish(axes[0], "layers a unit of depth", "accuracy, OOD")
    finish(axes[1], "layers a unit of depth", "median distance to the flow", entries, "beside")
    return axes
