"""A run as it is opened again: what it is, and its results, read when they are asked for."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ctsa.results.files import RUN, load
from ctsa.results.lock import held
from ctsa.results.store import is_group
from ctsa.results.text import columns, lines

from .folder import CONFIG, FORMAT, LOG, RESULTS, SWEEP
from .simulating import read_stream, state_of


class Results(Mapping):
    """Results of a run by name: each is read when it is asked for. Of a trajectory that was stopped: what there is."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __iter__(self) -> Iterator[str]:
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if path.name[0] != "." and path.is_dir() and (is_group(path) or state_of(path).exists()):
                yield path.name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Any:
        if name not in list(self):
            raise KeyError(f"{name!r} is no result of this run: there are {', '.join(self) or 'none'}")
        path = self._folder / name
        return load(path) if is_group(path) else read_stream(path)

    def __repr__(self) -> str:
        return f"Results({', '.join(self) or 'none'})"


class Run:
    """A run of ``ctsa`` in a folder, as ``ctsa.load(folder)`` opens it.

    Attributes:
        folder: where it is.
        about: what ``run.json`` says: versions, seed, backend, state of the code, times, how each analysis went.
        results: by name, read when they are asked for.
        sweep: of a sweep, its points as an ``xarray.Dataset``, read lazily; else None.

    Example:
        >>> import tempfile, ctsa
        >>> from ctsa.runs import read_config, run_config
        >>> config = read_config(None, ["tokens.n=4", "simulate.duration=1", "simulate.points=11"])
        >>> folder = run_config(config, tempfile.mkdtemp() + "/first", backend="torch", progress=False).folder
        >>> run = ctsa.load(folder)
        >>> run.state, run.results["simulate"].xs.shape
        ('done', (11, 4, 3))
    """

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder, self.about, self.results = folder, about, Results(folder / RESULTS)

    @property
    def state(self) -> str:
        """How it stands: "running", "done", "failed", or "interrupted", which it is also if its process is no more."""
        told = str(self.about.get("state"))
        if told == "running" and not held(self.folder):
            return "interrupted"
        return told

    @cached_property
    def config(self) -> str:
        """What it was told to do, as TOML: the file ``config.toml`` of the folder."""
        return (self.folder / CONFIG).read_text(encoding="utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """What happened, a dict an event; a line that an interrupt cut short is left out."""
        found = []
        if (self.folder / LOG).exists():
            for line in (self.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    @cached_property
    def sweep(self) -> Any:
        """The points of a sweep, or None."""
        if not (self.folder / SWEEP).is_dir():
            return None
        import ctsa.sweeps

        return ctsa.sweeps.read(self.folder)

    def dataset(self, name: str) -> Any:
        """Open a result lazily with xarray: a ``Dataset``, or a ``DataTree`` of one that holds results.

        Raises:
            KeyError: there is none of that name.
            ImportError: xarray is not installed.
        """
        if name not in self.results:
            self.results[name]  # says so
        try:
            import xarray
        except ImportError as error:
            raise ImportError("a dataset needs xarray: pip install 'ctsa[runs]'") from error
        path = self.folder / RESULTS / name
        if any(child.is_dir() and _has_groups(child) for child in path.iterdir()):
            return xarray.open_datatree(str(path), engine="zarr", consolidated=False, chunks=None)
        return xarray.open_zarr(str(path), consolidated=False, chunks=None)

    def table(self) -> str:
        """Return what the run is and how its analyses went, as text."""
        about = self.about
        what: list[tuple[str, Any]] = [("state", self.state), ("backend", f"{about.get('backend')}, {about.get('dtype')}")]
        what += [("seed", about.get("seed")), ("began", about.get("began")), ("ended", about.get("ended"))]
        what += [("ctsa", about.get("versions", {}).get("ctsa")), ("folder", str(self.folder))]
        rows = [
            (name, known.get("state", ""), "" if known.get("seconds") is None else f"{known['seconds']:.3g}",
             known.get("error") or "")
            for name, known in about.get("analyses", {}).items()
        ]  # fmt: skip
        text = lines(what)
        if rows:
            errors = any(row[3] for row in rows)
            heads = ("analysis", "state", "seconds", *(["error"] if errors else []))
            text += "\n\n" + columns(heads, [row if errors else row[:3] for row in rows])
        return text

    def __repr__(self) -> str:
        what = ", ".join(self.results) or ("a sweep" if (self.folder / SWEEP).is_dir() else "no results")
        return f"Run({self.folder.name}: {self.state}, {what})"


def _has_groups(path: Path) -> bool:
    try:
        return json.loads((path / "zarr.json").read_text())["node_type"] == "group"
    except (OSError, ValueError, KeyError):
        return False


def open_run(folder: str | Path) -> Run:
    """Open the folder of a run; ``ctsa.load`` does, too.

    Raises:
        FileNotFoundError: it is no folder of a run.
        ValueError: it is damaged, or comes from a newer version.
    """
    path = Path(folder)
    if not (path / RUN).is_file():
        raise FileNotFoundError(f"{path} is no folder of a run: it has no {RUN}")
    try:
        about = json.loads((path / RUN).read_text(encoding="utf-8"))
        made, by = int(about["format"]), about.get("versions", {}).get("ctsa", "?")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path / RUN} is damaged: {error}") from None
    if made > FORMAT:
        raise ValueError(f"{path} is a run of format {made}, of ctsa {by}: open it with that version, or a newer one")
    return Run(path, about)
