"""Films show the states at the times they say, on a ground that stays, and are whole or not there."""

import os
import shutil
import stat
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import ctsa
from ctsa import plot
from ctsa.plot import _encode
from ctsa.plot.film import _even

BLUE, PALE = (0, 114, 178), (171, 205, 224)  # of the first token in front of the globe, and behind it
QUICK = dict(size=1.5, dpi=80, progress=False)


@pytest.fixture(autouse=True)
def _as_before():
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before and not plt.get_fignums()


def turning(d, steps=13, turns=1.0):
    """Return one token that turns evenly in the first two directions."""
    a = np.linspace(0, 2 * np.pi * turns, steps)
    return np.linspace(0, 6, steps), np.stack([np.cos(a), np.sin(a), *([0 * a] * (d - 2))], -1)[:, None]


def pictures(path):
    with Image.open(path) as film:
        for k in range(film.n_frames):
            film.seek(k)
            yield np.asarray(film.convert("RGB")).astype(int)


def near(picture, ink):
    """Return where a picture has a colour, in pixels (x, y) from the middle, y upwards."""
    rows, columns = np.nonzero(np.abs(picture - np.array(ink)).max(-1) < 25)
    height, width = picture.shape[:2]
    return np.stack([columns - (width - 1) / 2, (height - 1) / 2 - rows], -1)


# What is shown


def test_a_token_on_the_circle_is_where_it_is_at_that_time(tmp_path):
    path = plot.animate(turning(2), tmp_path / "a.gif", frames=9, trail=0, **QUICK)
    every = list(pictures(path))
    assert len(every) == 9 and path == tmp_path / "a.gif"
    for k, picture in enumerate(every):
        x, y = near(picture, BLUE).mean(0)
        turn = np.angle((x + 1j * y) * np.exp(-2j * np.pi * k / 8))
        assert abs(turn) < 0.05 and 45 < np.hypot(x, y) < 58


def test_a_token_on_the_sphere_goes_pale_behind(tmp_path):
    path = plot.animate(turning(3), tmp_path / "a.gif", frames=9, trail=0, view=(0, 0), **QUICK)
    inks = [(len(near(p, BLUE)), len(near(p, PALE))) for p in pictures(path)]
    front = np.cos(2 * np.pi * np.arange(9) / 8)
    for (full, pale), side in zip(inks, front, strict=True):
        if abs(side) > 0.1:
            assert (full > 5, pale > 5 * full) == (side > 0, side < 0)


def test_a_sphere_that_turns_with_a_token_keeps_it_in_its_place(tmp_path):
    path = plot.animate(turning(3, 49), tmp_path / "a.gif", frames=9, trail=0, view=(20, 0), rotate=360.0, **QUICK)
    places = np.array([near(p, BLUE).mean(0) for p in pictures(path)])
    assert np.ptp(places, axis=0).max() < 1.5


def test_only_what_moves_is_drawn_again(tmp_path):
    path = plot.animate(turning(3), tmp_path / "a.gif", frames=5, trail=2, clock=False, **QUICK)
    first, *others = pictures(path)
    for other in others:
        assert 0 < (first != other).any(-1).mean() < 0.1


def test_tails_fade_and_end(tmp_path):
    whole = [plot.animate(turning(2), tmp_path / f"{n}.gif", frames=30, trail=n, **QUICK) for n in (0, 5, 20)]
    coloured = [(np.ptp(list(pictures(path))[-1], axis=-1) > 20).sum() for path in whole]
    assert coloured[0] < coloured[1] < coloured[2]


def test_the_ends_of_a_film_are_the_states_as_pictures_show_them(tmp_path):
    """In flat space and in many dimensions the plane is that of ``principal``, with its labels."""
    xs = np.random.default_rng(0).normal(size=(6, 3, 5))
    path = plot.animate(xs, tmp_path / "a.gif", frames=4, labels=["a", "b", "c"], **QUICK)
    assert len({p.shape for p in pictures(path)}) == 1
    sphere = plot.animate(plot_walk(5), tmp_path / "b.gif", frames=4, **QUICK)
    assert len(list(pictures(sphere))) == 4


def plot_walk(d, n=4, steps=6):
    xs = np.random.default_rng(1).normal(size=(steps, n, d))
    return xs / np.linalg.norm(xs, axis=-1, keepdims=True)


def test_gifs_keep_the_rate(tmp_path):
    path = plot.animate(turning(2), tmp_path / "a.gif", frames=12, fps=30, **QUICK)
    with Image.open(path) as film:
        total = 0
        for k in range(film.n_frames):
            film.seek(k)
            total += film.info["duration"]
    assert total == 400  # milliseconds, though a frame cannot take 33.3


# Times and states


def test_frames_at_even_times_pass_through_the_outputs():
    ts, xs = turning(3, 7)
    times, states = _even(ts, xs, 13, False, True, True)
    assert_allclose(times, np.linspace(0, 6, 13))
    assert_allclose(states[::2], xs, atol=1e-15)
    assert_allclose(np.linalg.norm(states, axis=-1), 1)
    middle = np.pi / 6 * (2 * np.arange(6) + 1)
    assert_allclose(states[1::2, 0, :2], np.stack([np.cos(middle), np.sin(middle)], -1), atol=1e-15)


def test_frames_at_even_logarithms():
    ts, xs = np.array([0.0, 0.1, 1.0, 10.0]), np.arange(8.0).reshape(4, 1, 2)
    times, states = _even(ts, xs, 3, True, True, False)
    assert_allclose(times, [0.1, 1.0, 10.0])
    assert_allclose(states, xs[1:], rtol=1e-12)
    with pytest.raises(ValueError, match="^log_time: wanted times > 0"):
        _even(-ts, xs, 3, True, True, False)


def test_layers_do_not_glide():
    ts, xs = np.arange(3), np.arange(6.0).reshape(3, 1, 2)
    _, states = _even(ts, xs, 5, False, False, False)
    assert_array_equal(states[:, 0, 0], [0, 0, 2, 2, 4])


def test_time_that_runs_backwards_jumps_and_failed_ends():
    ts, xs = turning(3, 7)
    assert_allclose(_even(ts[::-1], xs[::-1], 13, False, True, True)[1], _even(ts, xs, 13, False, True, True)[1][::-1])
    jump = np.array([[[1.0, 0, 0]], [[-1.0, 0, 0]]])
    assert_array_equal(_even(np.arange(2.0), jump, 3, False, True, True)[1], jump[[0, 0, 1]])
    xs[-1] = np.nan
    states = _even(ts, xs, 13, False, True, True)[1]
    assert np.isfinite(states[:11]).all() and np.isnan(states[11:]).all()


def test_a_failed_end_is_left_out(tmp_path):
    ts, xs = turning(3, 7)
    xs[-2:] = np.nan
    *_, last = pictures(plot.animate((ts, xs), tmp_path / "a.gif", frames=7, **QUICK))
    assert not len(near(last, BLUE))


# Where it comes from


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("end", [np.nan, np.inf])
def test_ends_that_are_not_finite_are_left_out_quietly(d, end, tmp_path):
    ts, xs = turning(d)
    xs[8:] = end
    assert sum(1 for _ in pictures(plot.animate((ts, xs), tmp_path / "film.gif", frames=5, **QUICK))) == 5


def test_trajectories_film_themselves(face, tmp_path):
    xs = face.array(plot_walk(3)[:, None])
    traj = ctsa.Trajectory(face.array(np.arange(6.0)), xs, {})
    path = traj.animate(str(tmp_path / "a.GIF"), sample=0, frames=3, labels=["a", "b", "b", "c"], **QUICK)
    assert len(list(pictures(path))) == 3


def test_importing_ctsa_loads_no_encoder():
    code = "import sys, ctsa.plot; assert not {'PIL.GifImagePlugin', 'imageio_ffmpeg', 'xarray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Encoders


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_ffmpeg(ending, tmp_path):
    path = plot.animate(turning(2), tmp_path / f"a.{ending}", frames=9, trail=0, **QUICK)
    run = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(run, capture_output=True, check=True).stdout
    every = np.frombuffer(raw, np.uint8).reshape(-1, 120, 120, 3).astype(int)
    assert len(every) == 9
    for k, picture in enumerate(every):
        found = np.argwhere(picture[..., 2] - picture[..., 0] > 110).mean(0) - 59.5  # blue, smoothed by the encoder
        turn = np.angle((found[1] - 1j * found[0]) * np.exp(-2j * np.pi * k / 8))
        assert abs(turn) < 0.06


def test_without_ffmpeg_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"needs ffmpeg.*pip install imageio-ffmpeg"):
        plot.animate(turning(2), tmp_path / "a.mp4")
    assert not os.listdir(tmp_path)


def program(folder, text):
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def test_an_ffmpeg_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "print(' V..... something')")
    with pytest.raises(ImportError, match="has none of the encoders libx264"):
        plot.animate(turning(2), tmp_path / "a.mp4")
    program(tmp_path, "import sys\nif '-encoders' in sys.argv: print(' V..... mpeg4')\nelse: sys.exit('No space left')")
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(OSError, match="ffmpeg could not write the film: No space left"):
        plot.animate(turning(2), tmp_path / "a.mp4", **QUICK)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "ffmpeg"] and (tmp_path / "a.mp4").read_text() == "old"


@pytest.mark.parametrize("ending", ["gif", pytest.param("mp4", marks=needs_ffmpeg)])
def test_an_interrupt_leaves_no_broken_film(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_text("old")

    def draw(k):
        if k == 5 and (ending == "mp4" or len(seen) > 5):  # of a GIF some are drawn before, for their colours
            raise KeyboardInterrupt
        seen.append(k)
        return bytes(4 * 16 * 16)

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _encode.write(path, draw, 9, (16, 16), 25.0, _encode.encoder(path))
    assert os.listdir(tmp_path) == [path.name] and path.read_text() == "old"


# Bad input


BAD = {
    "path: wanted an ending of .gif, .mp4, .webm": dict(path="film.avi"),
    "path must be a string": dict(path=3),
    "path: the folder .* does not exist": dict(path="nowhere/film.gif"),
    "fps: wanted at most 50 in a GIF": dict(fps=60),
    "fps: wanted": dict(fps=-1),
    "frames must be an integer of at least 2": dict(frames=1),
    "trail must be an integer": dict(trail=0.5),
    "labels: wanted one label a token": dict(labels=["a", "b"]),
    "rotate: wanted 0": dict(traj=turning(2), rotate=90),
    "view: wanted None": dict(traj=turning(4), view=(0, 0)),
    "view: wanted elevation and azimuth": dict(view=(0, 0, 0)),
    "size: wanted inches": dict(size=1000),
    "dpi: wanted 48 to 4320 pixels": dict(dpi=3000),
    "frames: wanted at most 100000": dict(frames=10**9),
    "dpi must be a number": dict(dpi="high"),
    "clock must be True or False": dict(clock=1),
    "between must be True or False": dict(between="yes"),
    "progress must be True, False or None": dict(progress="yes"),
    "traj: wanted two times or more, in order": dict(traj=plot_walk(3)[:1]),
    "traj: wanted d >= 2": dict(traj=np.zeros((3, 2, 1))),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError, OSError), match=f"^{message}"):
        plot.animate(**(dict(traj=turning(3), path="film.gif") | BAD[message]))
    assert not os.listdir(tmp_path)
