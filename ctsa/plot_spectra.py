"""Pictures of spectra: exponents with error bars, their convergence, eigenvalues, angles of covariant vectors."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from .plot import _PALETTE, _axes, _finish


def spectrum(spec: Any, *, ax: Any = None, label: str | None = None) -> Axes:
    """Draw the exponents against their index with standard errors; those that count as zero are hollow.

    Args:
        spec: a ``LyapunovSpectrum`` (one member of an ensemble).
        ax: Axes to draw on; None makes a figure.
        label: for a legend.

    Returns:
        The Axes.
    """
    spec._one()
    ax = _axes(ax, "ax", (3.4, 2.4))[0]
    index = np.arange(1, len(spec.exponents) + 1)
    errors = np.nan_to_num(spec.stderr)
    line = ax.errorbar(index, spec.exponents, errors, fmt="none", capsize=2, linewidth=0.9, color=_PALETTE[0])
    ax.xaxis.get_major_locator().set_params(integer=True)
    zero = np.abs(spec.exponents) <= spec.resolution
    ax.plot(index[~zero], spec.exponents[~zero], "o", markersize=3.5, color=_PALETTE[0], label=label)
    neutral = f"{int(zero.sum())} neutral ({spec.neutral_expected} expected)"
    ax.plot(index[zero], spec.exponents[zero], "o", markersize=3.5, color=_PALETTE[0], mfc="white", label=neutral)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    unit = "per unit time" if spec.continuous else "per layer"
    ax.legend(loc="best", frameon=False, fontsize=7, title=spec.verdict.headline, title_fontsize=7)
    line.lines[2][0].set_zorder(1)
    return _finish(ax, "index", f"exponent ({unit})")


def convergence(spec: Any, *, ax: Any = None, count: int = 5, width: float = 2.0) -> Axes:
    """Draw running means of the leading exponents with bands of ``width`` standard errors at the end.

    Args:
        spec: a ``LyapunovSpectrum`` (one member of an ensemble).
        ax: Axes to draw on; None makes a figure.
        count: how many exponents.
        width: half-width of the bands, in standard errors.

    Returns:
        The Axes.
    """
    spec._one()
    ax = _axes(ax, "ax", (3.4, 2.4))[0]
    t = spec.interval * np.arange(1, len(spec.history) + 1)
    for i, (path, end, error) in enumerate(zip(spec.running.T[:count], spec.exponents, spec.stderr, strict=False)):
        ax.plot(t, path, color=_PALETTE[i % len(_PALETTE)], linewidth=1.2)
        # The error at time t is the final one, scaled by the square root of the times.
        band = width * error * np.sqrt(t[-1] / t)
        ax.fill_between(t, end - band, end + band, color=_PALETTE[i % len(_PALETTE)], alpha=0.15, linewidth=0)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    low, high = spec.running[len(t) // 10 :, :count].min(), spec.running[len(t) // 10 :, :count].max()
    pad = 0.1 * (high - low) + 1e-12
    ax.set_ylim(low - pad, high + pad)
    return _finish(ax, "time" if spec.continuous else "layers", "running mean")


def eigenvalues(values: Any, *, ax: Any = None, continuous: bool = True) -> Axes:
    """Draw eigenvalues in the complex plane with the boundary of stability: Re = 0 for flows, the unit circle for layers.

    Args:
        values: complex ``(k,)``.
        ax: Axes to draw on; None makes a figure.
        continuous: flow (True) or layer.

    Returns:
        The Axes.
    """
    z = np.asarray(values, dtype=complex).ravel()
    ax = _axes(ax, "ax", (2.8, 2.8))[0]
    stable = z.real <= 0 if continuous else np.abs(z) <= 1
    ax.plot(z[stable].real, z[stable].imag, "o", markersize=3.5, color=_PALETTE[0], label="stable")
    ax.plot(z[~stable].real, z[~stable].imag, "o", markersize=3.5, color=_PALETTE[1], label="unstable")
    if continuous:
        ax.axvline(0, color="0.5", linewidth=0.9, zorder=0)
    else:
        ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.5", linewidth=0.9))
        ax.autoscale_view()
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set_aspect("equal", adjustable="datalim")
    if (~stable).any():
        ax.legend(loc="best", frameon=False, fontsize=7)
    return _finish(ax, "real part", "imaginary part")


def angles(vectors: Any, *, ax: Any = None, split: int | None = None, bins: int = 45) -> Axes:
    """Draw histograms of angles between covariant vectors.

    Args:
        vectors: ``CovariantVectors``.
        ax: Axes to draw on; None makes a figure.
        split: None draws the angles between neighbours in the spectrum (at most four pairs); a number draws the smallest
            angle between the spans of the first ``split`` vectors and of the rest.
        bins: number of bins on [0, 90] degrees.

    Returns:
        The Axes.
    """
    ax = _axes(ax, "ax", (3.4, 2.4))[0]
    edges = np.linspace(0, 90, bins + 1)
    if split is None:
        found = vectors.angles
        series = {f"{j + 1} and {j + 2}": found[:, j, j + 1] for j in range(min(4, found.shape[1] - 1))}
    else:
        series = {f"first {split} and the rest": vectors.subspace_angle(split)}
    for i, (label, values) in enumerate(series.items()):
        ax.hist(
            np.degrees(values), edges, histtype="step", density=True, color=_PALETTE[i % len(_PALETTE)], label=label
        )
    ax.set_xlim(0, 90)
    ax.legend(loc="best", frameon=False, fontsize=7)
    return _finish(ax, "angle (degrees)", "density")
