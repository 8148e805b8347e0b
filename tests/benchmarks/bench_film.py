"""ctsa.plot.animate beside matplotlib's own animation of the same globe: frames a second on one core.

``python tests/benchmarks/bench_film.py [--tokens 64] [--frames 200]``, best under ``taskset -c 0``. By hand is what a user
writes: ``FuncAnimation`` that moves the marks and tails of ``ctsa.plot.sphere`` and redraws the figure, saved by the same
encoders. Seconds of CPU include those of ffmpeg. Last, a still of many tokens: drawn, and saved.
"""

import argparse
import os
import tempfile
import time

import matplotlib
import numpy as np
from problems import report

matplotlib.use("Agg")


def walk(n, steps=201):
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(n, 3)) + np.cumsum(0.05 * rng.normal(size=(steps, n, 3)), 0)
    return np.linspace(0, 20, steps), xs / np.linalg.norm(xs, axis=-1, keepdims=True)


def spent(run):
    """Return seconds of the clock, and of CPU with those of child processes."""
    before, began = os.times(), time.perf_counter()
    run()
    after, took = os.times(), time.perf_counter() - began
    return took, sum(after[:4]) - sum(before[:4])


def by_hand(traj, path, frames):
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation

    from ctsa import plot

    ts, xs = traj
    ax = plot.sphere((ts[:1], xs[:1]))
    tails = [ax.plot(*xs[:1, i].T, linewidth=1)[0] for i in range(xs.shape[1])]
    marks = ax.scatter(*xs[0].T, s=20, zorder=20)

    def show(k):
        k = round(k * (len(ts) - 1) / (frames - 1))
        marks._offsets3d = tuple(xs[k].T)
        for i, line in enumerate(tails):
            line.set_data_3d(*xs[max(k - 24, 0) : k + 1, i].T)

    FuncAnimation(ax.figure, show, frames, interval=40).save(path, writer="ffmpeg" if path.endswith("mp4") else "pillow")
    plt.close("all")


def main() -> None:
    """Time films and a still."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--frames", type=int, default=200)
    options = parser.parse_args()
    import matplotlib.pyplot as plt

    from ctsa import plot

    traj, frames = walk(options.tokens), options.frames
    with tempfile.TemporaryDirectory() as folder:
        plot.animate(traj, f"{folder}/warm.gif", frames=3)
        for ending in ("gif", "mp4", "webm"):
            for rotate in (0.0, 90.0):
                path = f"{folder}/film.{ending}"
                clock, cpu = spent(lambda path=path, rotate=rotate: plot.animate(traj, path, frames=frames, rotate=rotate))
                kb = os.path.getsize(path) / 1000
                report(film=ending, rotate=rotate, clock=clock, cpu=cpu, frames_a_second=frames / clock, kB=kb)
        for ending in ("gif", "mp4"):
            few = max(frames // 10, 2)
            clock, cpu = spent(lambda ending=ending, few=few: by_hand(traj, f"{folder}/hand.{ending}", few))
            report(by_hand=ending, clock=clock, cpu=cpu, frames_a_second=few / clock)
        for n in (64, 256, 1024):
            many = walk(n)
            draw = spent(lambda many=many: plot.sphere(many))[1]
            save = spent(lambda: plt.gcf().savefig(f"{folder}/still.png"))[1]
            report(still=n, draw=draw, save=save)
            plt.close("all")


if __name__ == "__main__":
    main()
