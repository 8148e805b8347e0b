"""The main pictures, of numbers that are quick to make; and small references of them.

``python tests/pictures.py`` draws the references again, into ``tests/references``: look at what changed before you keep it.
"""

import functools
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import ctsa
from ctsa import plot
from ctsa.torch import SelfAttention

REFERENCES = Path(__file__).with_name("references")
DPI = 50  # enough to see what is where, and a few kilobytes
V = np.diag([3.0, 2.0, 1.0])
NAMES = "[CLS] the cat sat on the mat , and purred . [SEP]".split()


class Basins(dict):
    """Shares of starts by label, as ``ctsa.Basins`` has them."""

    def shares(self, by):
        return {label: (share, max(share - 0.06, 0.0), share + 0.06) for label, share in self.items()}

    def __len__(self):
        return 200


def flock(n, d, steps=40):
    """Return tokens that meet in two places, each on a way of its own, without a solver."""
    rng = np.random.default_rng(0)
    start, ends = rng.normal(size=(n, d)), rng.normal(size=(2, d))
    t = np.linspace(0, 4, steps)
    way = 1 - np.exp(-np.multiply.outer(t, rng.uniform(0.5, 2.0, n)))[..., None]
    xs = (1 - way) * start / np.linalg.norm(start, axis=-1, keepdims=True) + way * ends[np.arange(n) % 2]
    return ctsa.Trajectory(t, xs / np.linalg.norm(xs, axis=-1, keepdims=True), {})


def spectrum(count=5):
    """Return exponents of made-up histories, one of them zero, with a wild beginning."""
    rng = np.random.default_rng(0)
    rates, noise = np.array([0.9, 0.0, -0.2, -0.25, -1.5]), np.array([0.3, 0.001, 0.3, 0.3, 0.3])
    history = rates[:count] + rng.normal(size=(300, count)) * noise[:count]
    history[:5] += rng.normal(size=(5, count)) * 4
    frame = np.zeros((count, 2, 3))
    return ctsa.LyapunovSpectrum(history, np.zeros((2, 3)), frame, 0.5, 10, np.array(1.0), np.array(0), count, True)


def basins():
    """Return shares of six kinds of limits at three values of a parameter."""
    kinds = ("consensus on v0", "bipartite consensus on v0", "bipartite consensus on v1", "clustering", "polygonal")
    shares = ((1.0, 0.0, 0.0, 0.0, 0.0), (0.3, 0.5, 0.05, 0.15, 0.0), (0.02, 0.4, 0.1, 0.38, 0.1))
    return {
        beta: Basins({k: s for k, s in zip(kinds, row, strict=True) if s})
        for beta, row in zip((0.2, 1.0, 4.0), shares, strict=True)
    }


def sweep():
    """Return a grid of exponents and verdicts for five seeds, one point of which failed."""
    import xarray

    beta, noise, seed = np.geomspace(0.25, 16, 13), np.linspace(0, 1, 6), np.arange(5)
    jitter = 0.1 * np.random.default_rng(0).normal(size=(13, 6, 5))
    found = 0.5 * np.log(beta)[:, None, None] - noise[:, None] + jitter
    error = np.full(found.shape, "", dtype=object)
    error[2, 3] = "StepLimitError: too many steps"
    found[2, 3] = np.nan
    verdict = np.where(found > 0.3, "chaotic", np.where(found > -0.2, "marginal", "settles")).astype(object)
    axes = ("beta", "noise", "seed")
    named = {"long_name": "largest exponent", "units": "per unit time"}
    return xarray.Dataset(
        {"largest": (axes, found, named), "largest_stderr": (axes, 0.05 + 0 * found), "verdict": (axes, verdict),
         "spectrum": ((*axes, "exponent"), found[..., None] - np.arange(4)), "error": (axes, error)},
        {"beta": beta, "noise": noise, "seed": seed},
    )  # fmt: skip


@functools.cache
def branches():
    """Return the branch of two poles of attention, and one that leaves it."""
    field = SelfAttention(key=V, value=V, beta=1.0)
    branch = ctsa.continue_equilibrium(field, np.array([[1.0, 0, 0]] * 2 + [[-1.0, 0, 0]] * 2), "beta", (0.05, 1.0))
    return [branch, *ctsa.switch_branch(field, branch, 0)]


@functools.cache
@torch.no_grad()
def comparison():
    return ctsa.compare(SelfAttention(beta=4.0), ctsa.random_tokens(6, 3, seed=0), 4.0, [0.4, 0.2, 0.1])


@functools.cache
@torch.no_grad()
def monitored():
    field = SelfAttention(beta=4.0)
    return ctsa.monitor(field, ctsa.integrate(field, ctsa.random_tokens(6, 3, seed=0), np.linspace(0.0, 4.0, 21)))


PICTURES = {
    "sphere": lambda: plot.sphere(flock(12, 3), labels=list("abcabcabcabc")),
    "many": lambda: plot.sphere(flock(80, 3)),
    "circle": lambda: plot.circle(flock(9, 2)),
    "principal": lambda: plot.principal(flock(12, 6), labels=NAMES),
    "gram": lambda: plot.gram(flock(12, 6), order="clusters"),
    "spectrum": lambda: plot.spectra.spectrum(spectrum()),
    "convergence": lambda: plot.spectra.convergence(spectrum()),
    "basin_shares": lambda: plot.equilibria.basin_shares(basins()),
    "diagram": lambda: plot.continuation.diagram(branches()),
    "comparison": lambda: plot.comparison.comparison(comparison()),
    "monitor": lambda: plot.monitors.record(monitored()),
    "sweep_map": lambda: plot.sweep(sweep(), "largest", over="seed"),
    "sweep_phases": lambda: plot.sweep(sweep(), "verdict", over="seed"),
}


def figure_of(name):
    """Draw a picture with the settings that matplotlib comes with, whatever those of the user are."""
    with mpl.rc_context(), mpl.style.context("default", after_reset=True):
        axes = np.ravel(np.asarray(PICTURES[name](), dtype=object))
        figure = axes[0].figure
        FigureCanvasAgg(figure)
        return figure


def save(name, path):
    """Write a picture as small as a reference."""
    figure = figure_of(name)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Draw all references, or those that are named."""
    from PIL import Image

    for name in sys.argv[1:] or PICTURES:
        path = REFERENCES / f"{name}.png"
        save(name, path)
        Image.open(path).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
