"""Pictures of spectra: exponents with error bars, their convergence, eigenvalues, angles of covariant vectors."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

import ctsa.plot._given as given
import ctsa.plot._labels as written

from ._style import PALETTE, axes_for, finish

_SPECTRUM = ("LyapunovSpectrum", "ctsa.lyapunov_spectrum")


def spectrum(spec: Any, *, ax: Any = None, label: str | None = None) -> Axes:
    """Draw the exponents against their index with standard errors; those that count as zero are hollow, and counted.

    Of an ensemble the means over its members are drawn, with the spread as bars, and every member as a faint dot.

    Args:
        spec: a ``LyapunovSpectrum``.
        ax: Axes to draw on; None makes a figure.
        label: for a legend.

    Returns:
        The Axes.
    """
    given.result("spec", spec, *_SPECTRUM)
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    index = np.arange(1, spec.exponents.shape[-1] + 1)
    unit = "per unit time" if spec.continuous else "per layer"
    if spec.exponents.ndim > 1:
        every = spec.exponents.reshape(-1, len(index))
        for member in every:
            ax.plot(index, member, "o", markersize=2, color=PALETTE[0], alpha=max(0.05, min(0.4, 8 / len(every))), mew=0)
        what = f"mean and spread of {len(every)} runs" if label is None else label
        ax.errorbar(index, spec.mean, spec.spread, fmt="o", ms=3.5, capsize=2, lw=0.9, color=PALETTE[0], label=what)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, frameon=False, fontsize=7)
        return finish(ax, "index", f"exponent ({unit})")
    errors = np.nan_to_num(spec.stderr)
    line = ax.errorbar(index, spec.exponents, errors, fmt="none", capsize=2, linewidth=0.9, color=PALETTE[0])
    ax.xaxis.get_major_locator().set_params(integer=True)
    zero = np.abs(spec.exponents) <= spec.resolution
    ax.plot(index[~zero], spec.exponents[~zero], "o", markersize=3.5, color=PALETTE[0], label=label)
    neutral = f"{int(zero.sum())} neutral ({spec.neutral_expected} expected)"
    named = neutral if zero.any() or spec.neutral_expected else None  # without a mark there is nothing to explain
    ax.plot(index[zero], spec.exponents[zero], "o", markersize=3.5, color=PALETTE[0], mfc="white", label=named)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    if label is not None or named is not None:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, frameon=False, fontsize=7)
    line.lines[2][0].set_zorder(1)
    return finish(ax, "index", f"exponent ({unit})")


def convergence(spec: Any, *, ax: Any = None, count: int = 5, width: float = 2.0) -> Axes:
    """Draw running means of the leading exponents, numbered, with bands of ``width`` standard errors about their ends.

    Args:
        spec: a ``LyapunovSpectrum`` (one member of an ensemble).
        ax: Axes to draw on; None makes a figure.
        count: how many exponents.
        width: half-width of the bands, in standard errors.

    Returns:
        The Axes.
    """
    given.result("spec", spec, *_SPECTRUM)
    count, width = given.count("count", count), given.number("width", width, 0.0)
    spec._one()
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    t = spec.interval * np.arange(1, len(spec.history) + 1)
    for i, (path, end, error) in enumerate(zip(spec.running.T[:count], spec.exponents, spec.stderr, strict=False)):
        ax.plot(t, path, color=PALETTE[i % len(PALETTE)], linewidth=1.2)
        # The error at time t is the final one, scaled by the square root of the times.
        band = width * error * np.sqrt(t[-1] / t)
        ax.fill_between(t, end - band, end + band, color=PALETTE[i % len(PALETTE)], alpha=0.15, linewidth=0)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    every = spec.running[:, :count]
    settled = every[len(t) // 10 :]
    if np.ptp(every) > 3 * np.ptp(settled):  # a wild beginning would leave nothing else to see
        every = settled
    pad = 0.06 * np.ptp(every) + 1e-12
    ax.set_ylim(every.min() - pad, every.max() + pad)
    ax.set_xlim(0, t[-1])
    written.at_ends(ax, spec.running[-1, :count], [PALETTE[i % len(PALETTE)] for i in range(count)], r"\lambda")
    return finish(ax, "time" if spec.continuous else "layers", "exponents, averaged so far")


def eigenvalues(values: Any, *, ax: Any = None, continuous: bool = True, neutral: int = 0) -> Axes:
    """Draw eigenvalues in the complex plane with the boundary of stability: Re = 0 for flows, the unit circle for layers.

    Args:
        values: complex ``(k,)``, as of ``ctsa.eigenvalues``.
        ax: Axes to draw on; None makes a figure.
        continuous: flow (True) or layer.
        neutral: how many of them, the nearest to 0 (layer: to 1), are neutral, and drawn hollow.

    Returns:
        The Axes.
    """
    z = _complex("values", values)
    continuous, neutral = given.flag("continuous", continuous), given.count("neutral", neutral, 0)
    ax = axes_for(ax, "ax", (2.8, 2.8))[0]
    still = np.argsort(np.abs(z if continuous else z - 1), kind="stable")[:neutral]
    ax.plot(z[still].real, z[still].imag, "o", markersize=3.5, color=PALETTE[0], mfc="white", label="neutral")
    z = np.delete(z, still)
    stable = z.real <= 0 if continuous else np.abs(z) <= 1
    ax.plot(z[stable].real, z[stable].imag, "o", markersize=3.5, color=PALETTE[0], label="stable")
    ax.plot(z[~stable].real, z[~stable].imag, "o", markersize=3.5, color=PALETTE[1], label="unstable")
    if continuous:
        ax.axvline(0, color="0.5", linewidth=0.9, zorder=0)
    else:
        ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.5", linewidth=0.9))
        ax.autoscale_view()
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set_aspect("equal", adjustable="datalim")
    if (~stable).any() or neutral:
        marks = [line for line in ax.lines if line.get_label()[:1] != "_" and len(line.get_xdata())]
        ax.legend(handles=marks, loc="best", frameon=False, fontsize=7)
    return finish(ax, "real part", "imaginary part")


def leading(found: Any, *, ax: Any = None) -> Axes:
    """Draw leading eigenvalues in the complex plane, or singular values and rates of growth by size.

    The line is where growth begins: at 0 for rates of a flow, at 1 for what a layer multiplies by.

    Args:
        found: ``Leading``.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The Axes.
    """
    given.result("found", found, "Leading", "ctsa.leading")
    found.of_one_state()
    if found.which in ("real", "modulus"):
        return eigenvalues(found.values, ax=ax, continuous=found.continuous)
    ax = axes_for(ax, "ax", (3.4, 2.4))[0]
    index = np.arange(1, len(found.values) + 1)
    ax.plot(index, found.values, "o", markersize=3.5, color=PALETTE[0])
    if not (found.continuous and found.which == "singular"):
        ax.axhline(0.0 if found.continuous else 1.0, color="0.7", linewidth=0.8, zorder=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    what = "singular value" if found.which == "singular" else "growth" if found.continuous else "symmetric part"
    return finish(ax, "index", f"{what} ({'per unit time' if found.continuous else 'per layer'})")


def _complex(name: str, values: Any) -> np.ndarray:
    values = values.detach().cpu() if hasattr(values, "detach") else values
    try:
        z = np.asarray(values)
        if z.dtype.kind not in "biufc":
            raise TypeError(type(values).__name__)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be complex numbers (k,), got {error}: ctsa.eigenvalues returns them") from None
    if not z.size or not np.isfinite(z).all():
        got = f"{int((~np.isfinite(z)).sum())} of {z.size} that are nan or inf" if z.size else "none"
        raise ValueError(f"{name} must be finite complex numbers, at least one, got {got}: leave those out")
    return z.astype(complex).ravel()


def angles(vectors: Any, *, ax: Any = None, split: int | None = None, bins: int = 45) -> Axes:
    """Draw histograms of angles between covariant vectors.

    Args:
        vectors: ``CovariantVectors``.
        ax: Axes to draw on; None makes a figure.
        split: None draws the angles between neighbours in the spectrum (at most four pairs); a number draws the smallest
            angle between the spans of the first ``split`` vectors and of the rest.
        bins: number of bins, on [0, 90] degrees, or on the part of it that the angles take.

    Returns:
        The Axes.
    """
    given.result("vectors", vectors, "CovariantVectors", "ctsa.covariant_vectors")
    bins = given.count("bins", bins)
    if split is None and vectors.vectors.shape[1] < 2:
        raise ValueError("vectors must be two at least, to have angles between them, got 1: ask for count=2")
    if split is None:
        found = vectors.angles
        series = {f"{j + 1} and {j + 2}": found[:, j, j + 1] for j in range(min(4, found.shape[1] - 1))}
    else:
        series = {f"first {split} and the rest": vectors.subspace_angle(split)}
    every = np.degrees(np.concatenate(list(series.values())))
    step = 5 if np.ptp(every) > 1 else 0.1  # degrees, at which the range may begin and end
    low, high = step * np.floor(every.min() / step), min(90, step * (np.floor(every.max() / step) + 1))
    low, high = (0, 90) if high - low > 45 else (low, high)
    edges, ax = np.linspace(low, high, bins + 1), axes_for(ax, "ax", (3.4, 2.4))[0]
    for i, (label, values) in enumerate(series.items()):
        ax.hist(
            np.degrees(values), edges, histtype="step", density=True, color=PALETTE[i % len(PALETTE)], label=label
        )
    ax.set_xlim(low, high)
    ax.legend(loc="best", frameon=False, fontsize=7)
    return finish(ax, "angle (degrees)", "density")
