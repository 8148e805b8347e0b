"""Films of trajectories: the ground is drawn once, and for every frame only what moves."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colors
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle

import ctsa.plot._given as given
import ctsa.plot._labels as written
from ctsa._backend._solve import show_progress

from ._encode import encoder, place, write
from ._given import need, on_sphere, read
from ._globe import facing, graticule, paled, shade, toward
from ._style import INK, STYLE, SURFACE, colours_of, finish
from .tokens import _plane_of

_PIECES = 8  # of a tail, each in a colour of its own
_MOST = 100_000  # frames: more than an hour


def animate(
    traj: Any,
    path: str | os.PathLike,
    *,
    fps: float = 25.0,
    frames: int = 200,
    log_time: bool = False,
    between: bool = True,
    labels: Any = None,
    trail: int = 24,
    view: tuple[float, float] | None = None,
    rotate: float = 0.0,
    clock: bool = True,
    sample: Any = None,
    size: float = 4.0,
    dpi: float = 120.0,
    progress: bool | None = None,
) -> Path:
    """Film tokens on the circle (d = 2), on the two-sphere (d = 3), or in the plane that holds most of their states.

    Frames stand at even times from the first to the last state, and tokens between two outputs on the arc between them (off
    the sphere: on the line). The ending of ``path`` decides: ".gif" is written by Pillow, ".mp4" and ".webm" by ffmpeg,
    from PATH or of the package imageio-ffmpeg. The film appears whole or not at all; an interrupt leaves an older one.

    Args:
        traj: a ``Trajectory``, or what else ``ctsa.plot.trajectory`` draws: ``(ts, xs)``, or states ``(T, n, d)``.
        path: where to write to; an existing film is replaced.
        fps: frames a second. GIFs keep hundredths of a second for every frame, and at most 50 of them.
        frames: how many; ``frames / fps`` is how long the film takes.
        log_time: frames at even logarithms of time, for stages that take longer and longer; times <= 0 are left out.
        between: False shows the last output before the time of a frame instead, as for layers.
        labels: one a token, ``(n,)``, to colour by; names get a legend.
        trail: how many frames the fading tail of a token goes back; 0: none.
        view: elevation and azimuth from which to see the sphere, in degrees; None: where most tokens end.
        rotate: how far to turn the sphere during the film, in degrees.
        clock: whether to write the time.
        sample: index into the batch axes of states ``(T, ..., n, d)``.
        size: height of the picture, in inches.
        dpi: pixels an inch.
        progress: draw a bar of the frames; None draws it in a terminal.

    Returns:
        The path.

    Raises:
        ImportError: the ending needs ffmpeg, and there is none.
        OSError: the film cannot be written.
        ValueError: an argument, which the message names.

    Example:
        >>> import tempfile, numpy as np, ctsa
        >>> from ctsa.torch import SelfAttention
        >>> traj = ctsa.integrate(SelfAttention(beta=4.0), ctsa.random_tokens(8, 3, seed=0), np.linspace(0, 5, 20))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     animate(traj, f"{folder}/tokens.gif", frames=10, rotate=30.0).name
        'tokens.gif'
    """
    ts, xs, _ = read(traj, sample)
    d, unit = xs.shape[-1], on_sphere(xs)
    xs = np.where(np.isfinite(xs), xs, np.nan)  # neither is drawn, and inf would spread by products
    given.flag("log_time", log_time), given.flag("between", between), given.flag("clock", clock)
    fps, rotate = given.number("fps", fps), given.number("rotate", rotate)
    size, dpi = given.number("size", size), given.number("dpi", dpi)
    frames, trail = given.count("frames", frames, 2), given.count("trail", trail, 0)
    need(0 < fps <= 1000, "fps", "frames a second, above 0 and at most 1000", fps, "25")
    need(0.5 <= size <= 40, "size", "inches from 0.5 to 40", size, "4.0")
    need(48 <= size * dpi <= 4320, "dpi", "48 to 4320 pixels for the height", f"{size * dpi:g}", "120")
    need(frames <= _MOST, "frames", f"at most {_MOST}", frames, "200")
    need(d > 1, "traj", "d >= 2", f"states {xs.shape}", "plot.observables(ts, {'x': xs[..., 0]})")
    globe = d == 3 and unit
    need(globe or not rotate, "rotate", "0 for tokens that are not on the two-sphere", rotate, "0")
    need(globe or view is None, "view", "None for tokens that are not on the two-sphere", view, "None")
    target = place(path)
    need(fps <= 50 or target.suffix.lower() != ".gif", "fps", "at most 50 in a GIF", fps, "an .mp4")
    using, shown = encoder(target), show_progress(progress)
    times, states = _even(ts, xs, frames, log_time, between, unit)
    digits = 2 - math.floor(math.log10(abs(times[-1] - times[0])))
    form = ".3g" if log_time else f".{min(max(digits, 0), 8)}f"  # as many places in every frame
    texts = [f"t = {t:{form}}" for t in times] if clock else None
    scene = _Scene(xs.shape[1], labels, size, dpi, min(trail, frames), texts)
    draw = _globe(scene, states, xs[-1], view, rotate) if globe else _flat(scene, xs, states, unit)
    write(target, draw, frames, scene.pixels, fps, using, shown)
    return target


def _even(ts: np.ndarray, xs: np.ndarray, frames: int, log_time: bool, between: bool, unit: bool) -> tuple:
    """Return times ``(frames,)``, even or of even logarithms, and the states then, ``(frames, n, d)``."""
    if log_time:
        need((ts > 0).any(), "log_time", "times > 0", f"up to {ts.max():g}", "log_time=False")
        ts, xs = ts[ts > 0], xs[ts > 0]
    sign = 1 if ts[-1] >= ts[0] else -1
    need(
        len(ts) > 1 and (sign * np.diff(ts) > 0).all(), "traj", "two times or more, in order", ts[:4], "plot.trajectory"
    )
    times = (np.geomspace if log_time else np.linspace)(ts[0], ts[-1], frames)
    at = np.interp(sign * times, sign * ts, np.arange(len(ts)))
    low = np.minimum(np.floor(at + 1e-9).astype(int), len(ts) - 1)
    if not between:
        return times, xs[low]
    high, share = np.minimum(low + 1, len(ts) - 1), np.clip(at - low, 0, 1)[:, None, None]
    states = np.where(share > 0, (1 - share) * xs[low] + share * xs[high], xs[low])  # 0 * nan is nan
    if unit:
        norms = np.linalg.norm(states, axis=-1, keepdims=True)
        states = np.where(norms < 1e-6, xs[low], states / np.maximum(norms, 1e-6))  # a jump through the centre
    return times, states


class _Scene:
    """A figure without a window; its ground, which is drawn once, and the tokens, tails and clock, which move."""

    def __init__(self, n: int, labels: Any, size: float, dpi: float, trail: int, clock: list[str] | None) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.inks, legend = colours_of(n, labels)
        wide = size + written.room(legend)
        self.pixels = (2 * round(wide * dpi / 2), 2 * round(size * dpi / 2))  # encoders want even numbers
        with mpl.rc_context(STYLE):
            inches = [(p + 1e-3) / dpi for p in self.pixels]
            self.figure = Figure(figsize=inches, dpi=dpi, layout="compressed")
            self.canvas = FigureCanvasAgg(self.figure)
            self.ax = self.figure.add_subplot()
        self.legend, self.clock = legend, clock
        # A tail is so many pieces of so many frames, the oldest first; pieces share their ends.
        self.step = -(-trail // _PIECES)
        self.back = -np.arange(-(-trail // self.step) if trail else 0, 0, -1)[:, None] * self.step
        self.back = self.back + np.arange(self.step + 1)  # (pieces, step + 1), frames from now on
        fresh = np.linspace(0.1, 1.0, len(self.back))[:, None, None] if trail else np.ones((0, 1, 1))
        self.tails = fresh * self.inks + (1 - fresh) * colors.to_rgba(str(SURFACE))  # (pieces, n, 4)
        self.moving: list[Any] = []
        self.width = 1.6 / n**0.15
        self.ground: Any = None

    def lines(self, zorder: int) -> LineCollection:
        style: dict[str, Any] = {"capstyle": "round", "joinstyle": "round"}
        return self._add(LineCollection([], linewidths=self.width, zorder=zorder, **style))

    def marks(self, zorder: int) -> Any:
        return self._add(self.ax.scatter([], [], s=20, edgecolors="white", linewidths=0.5, zorder=zorder))

    def _add(self, artist: Any) -> Any:
        if artist.axes is None:
            self.ax.add_collection(artist, autolim=False)
        artist.set_animated(True)
        self.moving.append(artist)
        return artist

    def window(self, k: int) -> np.ndarray:
        """Return the frames of the pieces of the tail at frame k, ``(pieces, step + 1)``, those not yet begun left out."""
        at = k + self.back
        return np.maximum(at[at[:, -1] > 0], 0)

    def begin(self, xlabel: str | None = None, ylabel: str = "") -> None:
        """Draw the ground."""
        finish(self.ax, xlabel, ylabel, self.legend, "beside")
        if self.clock is not None:
            where = {"transform": self.ax.transAxes, "va": "top", "fontsize": 8, "color": INK}
            self.moving.append(self.ax.text(0.02, 0.99, "", animated=True, **where))
        self.canvas.draw()
        self.ground = self.canvas.copy_from_bbox(self.figure.bbox)

    def frame(self, k: int) -> Any:
        """Return the pixels of frame k, whose artists have been set."""
        if self.clock is not None:
            self.moving[-1].set_text(self.clock[k])
        self.canvas.restore_region(self.ground)
        for artist in self.moving:
            self.ax.draw_artist(artist)
        return self.canvas.buffer_rgba()


Draw = Callable[[int], Any]


def _flat(scene: _Scene, every: np.ndarray, states: np.ndarray, unit: bool) -> Draw:
    """Set up the circle, where tails go inwards so as not to cover each other, or the principal plane."""
    ax, circle = scene.ax, unit and states.shape[-1] == 2
    plane, share = (np.eye(2), np.zeros(2)) if circle else _plane_of(every)
    xy = states @ plane  # (frames, n, 2)
    if unit:
        ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.45" if circle else "0.75", linewidth=0.6, zorder=1))
        reach = 1.1 if circle else 1.08
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
        if not circle:
            ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    else:
        ax.update_datalim(xy[np.isfinite(xy).all(-1)])
        ax.autoscale_view()
    ax.set_aspect("equal")
    tails, marks = scene.lines(3), scene.marks(5)
    marks.set_facecolors(scene.inks)
    scene.begin(*(() if circle else [f"principal direction {i} ({p:.0%})" for i, p in enumerate(share, 1)]))
    longest = max(-scene.back.min(initial=0), 1)

    def draw(k: int) -> Any:
        at = scene.window(k)
        pieces = xy[at]  # (pieces, step + 1, n, 2)
        if circle:
            pieces = pieces * (1 - 0.3 * (k - at) / longest)[..., None, None]
        tails.set_segments(np.moveaxis(pieces, 2, 1).reshape(-1, scene.step + 1, 2))
        tails.set_colors(scene.tails[len(scene.tails) - len(at) :].reshape(-1, 4))
        marks.set_offsets(xy[k])
        return scene.frame(k)

    return draw


def _globe(scene: _Scene, states: np.ndarray, last: np.ndarray, view: Any, rotate: float) -> Draw:
    """Set up the sphere, seen from infinity: pale on the far side, as ``ctsa.plot.sphere`` draws it."""
    ax = scene.ax
    if view is None:
        view = facing(last)
    angles = np.ravel(given.real("view", view))
    need(angles.shape == (2,) and np.isfinite(angles).all(), "view", "elevation and azimuth", view, "(20, -60)")
    elev, azim = angles
    frames = len(states)

    def eyes(k: int) -> np.ndarray:
        """Return the axes to the right, up, and to the viewer at frame k, as columns ``(3, 3)``."""
        a = azim + rotate * k / (frames - 1)
        out, right = toward(elev, a), toward(0, a + 90)
        return np.stack([right, np.cross(out, right), out], 1)

    ax.imshow(shade(eyes(0), elev, azim), extent=(-1, 1, -1, 1), origin="lower", interpolation="bilinear", zorder=0)
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.6", linewidth=0.8, zorder=1))
    ax.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal")
    net = LineCollection([], colors="0.84", linewidths=0.4, zorder=1)
    ax.add_collection(net, autolim=False)
    if rotate:
        scene._add(net)
    wires = graticule()

    def see_net(look: np.ndarray) -> None:
        seen = [line @ look for line in wires]
        net.set_segments([np.where(line[:, 2:] >= 0, line[:, :2], np.nan) for line in seen])

    see_net(eyes(0))
    far, far_marks = scene.lines(2), scene.marks(5)
    near, near_marks = scene.lines(12), scene.marks(15)
    pale, pale_tails = np.atleast_2d(paled(scene.inks)), 0.3 * scene.tails[..., :3] + 0.7 * SURFACE
    scene.begin()

    def draw(k: int) -> Any:
        look = eyes(k)
        if rotate:
            see_net(look)
        at = scene.window(k)
        pieces = np.moveaxis(states[at] @ look, 2, 1).reshape(-1, scene.step + 1, 3)
        first = len(scene.tails) - len(at)
        front = pieces[..., 2] >= 0
        far.set_segments(pieces[~front.all(1), :, :2])
        far.set_colors(pale_tails[first:].reshape(-1, 3)[~front.all(1)])
        near.set_segments(np.where(front[..., None], pieces[..., :2], np.nan)[front.any(1)])
        near.set_colors(scene.tails[first:].reshape(-1, 4)[front.any(1)])
        now = states[k] @ look
        ahead = now[:, 2] >= 0
        far_marks.set_offsets(now[~ahead, :2])
        far_marks.set_facecolors(pale[~ahead])
        near_marks.set_offsets(now[ahead, :2])
        near_marks.set_facecolors(scene.inks[ahead])
        return scene.frame(k)

    return draw
