"""How often the 68 and 95 % intervals of error bars hold the true mean: ``python tests/trust/coverage.py`` (minutes).

Prints a table in Markdown. An entry reads ``68 % interval / 95 % interval  ratio``: percent of the windows covered, and the
mean of the estimated over the true standard deviation of a window's mean. Truth is the exact mean where known, and
otherwise that of all windows together, which have at least 300 times the length of one.
"""

import sys
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import series

from ctsa.errorbars import error_bar

WINDOWS, LENGTHS = 1000, (50, 200, 1000)


def coverage(rows, truth=None, length=200, windows=WINDOWS):
    """Cut series (members, N) into windows; return coverage of the 68 and 95 % intervals, and the ratio of errors."""
    whole = rows.shape[1] // length
    cut = rows[:, : whole * length].reshape(-1, length)
    cut = cut[np.linspace(0, len(cut) - 1, min(windows, len(cut))).astype(int)]
    off = cut.mean(1) - (rows.mean() if truth is None else truth)
    bars = [error_bar(row) for row in cut]
    held = [100 * np.mean(np.abs(off) < [b.half_width(level) for b in bars]) for level in (0.6827, 0.95)]
    return *held, np.mean([b.sigma for b in bars]) / np.sqrt(np.mean(off**2)), len(cut)


def cases(rng):
    """Name, series (members, N), true mean or None."""
    for phi in (-0.5, 0.0, 0.5, 0.9, 0.97):
        yield f"AR({phi:g})", series.autoregressive(rng, phi, 1000, 1000), 0.0
    yield "x_t - x_(t-1) (neutral)", series.telescoping(rng, 1000, 1000), 0.0
    yield "spectral line and noise", series.line(rng, 1000, 1000), 0.0
    products = series.ginibre(rng, 1000, 1000)
    for i, exact in enumerate(series.GINIBRE):
        yield f"Gaussian products, {i + 1}", products[..., i], exact
    runs = [
        ("Lorenz (interval 1)", series.lorenz(rng, 400, 1000), (0, 1, 2), (1,)),
        ("Roessler (interval 5)", series.roessler(rng, 300, 1000), (0, 1, 2), (1,)),
        ("Roessler (interval 1)", series.roessler(rng, 300, 1000, interval=1.0), (0, 2), ()),
        ("Henon", series.henon(rng, 1000, 1000), (0,), ()),
        ("standard map, k = 10", series.standard_map(rng, 1000, 1000), (0,), ()),
        ("Lorenz-96, 8 sites (interval 0.5)", series.lorenz96(rng, 300, 1000), (0, 7), ()),
    ]
    for name, history, which, neutral in runs:
        for i in which:
            truth = 0.0 if i in neutral else None
            yield f"{name}, exponent {i + 1}{' (neutral)' if i in neutral else ''}", history[..., i], truth


def main():
    print(f"Measured {date.today()}; a window has N intervals; at most {WINDOWS} windows an entry.\n")
    print("| series | " + " | ".join(f"N = {n}" for n in LENGTHS) + " |\n|---" * 1 + "|" + "---|" * len(LENGTHS))
    for name, rows, truth in cases(np.random.default_rng(0)):
        entries = []
        for n in LENGTHS:
            one, two, ratio, _ = coverage(rows, truth, n)
            entries.append(f"{one:.0f} / {two:.0f}  {ratio:.2f}")
        print(f"| {name} | " + " | ".join(entries) + " |", flush=True)


if __name__ == "__main__":
    main()
