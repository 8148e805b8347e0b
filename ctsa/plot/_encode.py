"""Raw frames to films: animated GIFs with Pillow, MP4 and WebM with ffmpeg; whole files or none."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ctsa.results.npz import replacing

from ._given import need

Draw = Callable[[int], Any]
Size = tuple[int, int]

# Encoders in the order of preference, with what makes them quick and the picture good: lines on a plain ground.
_ENCODERS: dict[str, dict[str, tuple[str, ...]]] = {
    ".mp4": {
        "libx264": ("-preset", "fast", "-crf", "18", "-tune", "animation", "-movflags", "+faststart"),
        "libopenh264": ("-b:v", "4M", "-movflags", "+faststart"),
        "mpeg4": ("-q:v", "2", "-movflags", "+faststart"),
    },
    ".webm": {
        "libvpx-vp9": ("-deadline", "realtime", "-cpu-used", "6", "-crf", "28", "-b:v", "0"),
        "libvpx": ("-deadline", "realtime", "-cpu-used", "6", "-crf", "8", "-b:v", "4M"),
    },
}
_ENDINGS = (".gif", *_ENCODERS)


def place(path: Any) -> Path:
    """Return the path of a film, whose ending must be known and whose folder must exist."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a pathlib.Path, got {type(path).__name__}")
    path = Path(path)
    need(path.suffix.lower() in _ENDINGS, "path", f"an ending of {', '.join(_ENDINGS)}", repr(str(path)), '"film.gif"')
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {path.parent} does not exist: make it before filming {path.name}")
    return path


def encoder(path: Path) -> tuple[str, str] | None:
    """Return ffmpeg and the encoder of it that suits the ending of ``path``; None for a GIF, which needs none.

    Raises:
        ImportError: there is no ffmpeg, on PATH or from imageio-ffmpeg, or it lacks the encoders.
    """
    if path.suffix.lower() == ".gif":
        return None
    program = shutil.which("ffmpeg")
    if program is None:
        try:
            program = import_module("imageio_ffmpeg").get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            hint = "install ffmpeg, or `pip install imageio-ffmpeg`, or write a .gif"
            raise ImportError(f"path: a film {path.suffix} needs ffmpeg, and there is none on PATH: {hint}") from None
    listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False).stdout
    able = {line.split()[1] for line in listed.splitlines() if len(line.split()) > 1}
    wanted = _ENCODERS[path.suffix.lower()]
    found = next((name for name in wanted if name in able), None)
    if found is None:
        raise ImportError(
            f"path: {program} has none of the encoders {', '.join(wanted)}: take it from PATH and "
            "`pip install imageio-ffmpeg`, or write a .gif"
        )
    return program, found


def write(
    path: Path, draw: Draw, frames: int, size: Size, fps: float, using: tuple | None, shown: bool = False
) -> None:
    """Write the RGBA pictures ``draw(k)`` of ``size`` (width, height) to ``path``; an interrupt leaves what was there.

    Raises:
        OSError: the file cannot be written, or ffmpeg failed; the message holds what it said.
    """
    from tqdm import tqdm

    bar = tqdm(range(frames), desc=path.name, unit="frame", disable=not shown, leave=False, delay=0.5)
    with replacing(path) as stream, bar:
        if using is None:
            _gif(stream, draw, bar, size, fps)
        else:
            _ffmpeg(stream.name, path.suffix.lower(), draw, bar, size, fps, using)


def _ffmpeg(name: str, ending: str, draw: Draw, order: Iterable[int], size: Size, fps: float, using: tuple) -> None:
    program, codec = using
    command = [program, "-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba"]
    command += ["-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "-", "-an", "-c:v", codec, "-pix_fmt", "yuv420p"]
    command += [*_ENCODERS[ending][codec], "-f", ending[1:], name]
    with tempfile.TemporaryFile() as said:
        # A session of its own: an interrupt from the keyboard reaches us alone, and we end it.
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, start_new_session=True)
        assert run.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and says why
                for k in order:
                    run.stdin.write(draw(k))
            with contextlib.suppress(BrokenPipeError):
                run.stdin.close()
            run.wait()
        except BaseException:
            run.kill()
            with contextlib.suppress(OSError):
                run.stdin.close()
            run.wait()
            raise
        if run.returncode:
            said.seek(0)
            words = " ".join(said.read().decode(errors="replace").split())[-300:]
            raise OSError(f"ffmpeg could not write the film: {words or f'it ended with {run.returncode}'}")


def _gif(stream: Any, draw: Draw, order: Any, size: Size, fps: float) -> None:
    from PIL import Image

    def image(k: int) -> Any:
        return Image.frombuffer("RGBA", size, draw(k), "raw", "RGBA", 0, 1).convert("RGB")

    some = [image(k) for k in np.unique(np.linspace(0, len(order) - 1, 6).astype(int))]
    table = _colours(np.concatenate([np.asarray(one).reshape(-1, 3) for one in some]))
    pictures = (image(k).quantize(palette=table, dither=Image.Dither.NONE) for k in order)
    first = next(pictures)
    ends = np.round(100 / fps * np.arange(len(order) + 1)) * 10  # GIFs know hundredths of a second
    first.save(
        stream, "GIF", save_all=True, append_images=pictures, duration=np.diff(ends).astype(int).tolist(), loop=0,
        disposal=1, optimize=True,
    )  # fmt: skip


def _colours(pixels: np.ndarray) -> Any:
    """Return one table of colours for all frames (with one each the ground would flicker), as an image that has it.

    The light greys of ground and globe are kept as they are, since bands or tints of them would be seen.
    """
    from PIL import Image

    plain = np.ptp(pixels, axis=1) < 3
    greys = np.unique(pixels[plain].mean(1).round().astype(int))
    greys = np.r_[greys[greys >= 208], greys[greys < 208][::12]]  # 64 at most
    vivid = pixels[~plain]
    table = np.repeat(greys, 3)
    if len(vivid):
        row = Image.fromarray(np.ascontiguousarray(vivid[None]))
        found = row.quantize(255 - len(greys), method=Image.Quantize.MAXCOVERAGE).getpalette()
        table = np.r_[table, found]
    holder = Image.new("P", (1, 1))
    holder.putpalette(table[:768].astype(np.uint8).tobytes())
    return holder
