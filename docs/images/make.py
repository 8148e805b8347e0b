"""Draw the pictures of README.md and of the guide: `python docs/images/make.py`.

`flow.png` and `diagnosis.png` are computed here; the others are those of `ctsa demo`, which is run for them (half a
minute, and the pretrained weights).
"""

import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa import plot
from ctsa.torch import SelfAttention

HERE = Path(__file__).resolve().parent
FROM_DEMO = ("sphere_observables", "layer4_gram", "layer5_flow")


def flow() -> None:
    """32 tokens on the two-sphere that meet in stages, their Gram matrix on the way, energy and clusters."""
    field = SelfAttention(beta=9.0)
    ts = np.linspace(0.0, 40.0, 401)
    with torch.no_grad():
        traj = ctsa.integrate(field, ctsa.random_tokens(32, 3, seed=0), ts)
        energy = ctsa.energy(field, traj.xs)
    figure = plt.figure(figsize=(7.2, 2.6), dpi=130, layout="constrained")
    left, right = figure.add_gridspec(1, 2, width_ratios=[1, 1.35])
    globe = figure.add_subplot(left, projection="3d")
    plot.sphere(traj, ax=globe, labels=ctsa.clusters(traj.xs[-1], gap=1e-2))
    globe.view_init(60, 105)  # all three clusters in sight
    upper, lower = right.subgridspec(2, 1).subplots(sharex=True)
    series = {"energy / final": energy / energy[-1], "clusters": ctsa.cluster_count(traj.xs, gap=1e-2)}
    plot.panels(ts, series, axes=[upper, lower])
    figure.savefig(HERE / "flow.png")
    plt.close(figure)


def from_demo() -> None:
    """Run the demo and keep three of its pictures."""
    from ctsa.studies import demo

    with tempfile.TemporaryDirectory() as folder:
        demo.run(Path(folder), "torch", say=lambda line: print(line, file=sys.stderr))
        for name in FROM_DEMO:
            shutil.copy(Path(folder) / f"{name}.png", HERE / f"demo_{name}.png")


def survey() -> None:
    """Draw where the 72 heads of all-MiniLM-L6-v2 end."""
    import ctsa.torch
    from ctsa import pretrained
    from ctsa.studies import demo

    axes = pretrained.survey(None, demo.SENTENCE, face=ctsa.torch).plot()
    axes[0].figure.savefig(HERE / "survey.png", dpi=130)
    plt.close(axes[0].figure)


def diagnosis() -> None:
    """Draw the page of a loop whose inputs set its gain: from contraction to chaos."""
    rng = np.random.default_rng(1)
    mix, inputs = (torch.as_tensor(rng.normal(size=shape)) for shape in ((16, 16), (24, 6, 16)))
    gains = torch.linspace(0.5, 3.0, 24, dtype=torch.float64)[:, None, None]

    def step(state, given):
        e, gain = given
        attention = torch.softmax(state @ state.mT / 4, -1) @ state
        return torch.tanh(gain * (state @ mix) / 4 + 0.3 * attention + 0.3 * e)

    loop = ctsa.Loop(step, (inputs, gains), readout=lambda state: state.mean(1))
    axes = ctsa.diagnose(loop, torch.as_tensor(rng.normal(size=(24, 6, 16))), loops=96, progress=False).plot(member=2)
    axes[0].figure.savefig(HERE / "diagnosis.png", dpi=100)
    plt.close(axes[0].figure)


if __name__ == "__main__":
    flow()
    diagnosis()
    from_demo()
    survey()
