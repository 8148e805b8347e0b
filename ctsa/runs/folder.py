"""The folder of a run while it runs: what it is, how far it is, and its results, each of them whole or not there."""

import contextlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctsa.results.files import RUN
from ctsa.results.npz import replacing
from ctsa.results.store import write_group, zarr

FORMAT = 1  # of folders; raised when older versions of ctsa could no longer read them
CONFIG, LOG, RESULTS, CHECKPOINTS, PICTURES, REPORT, SWEEP = (
    "config.toml", "log.jsonl", "results.zarr", "checkpoints", "pictures", "report.html", "sweep.zarr"
)  # fmt: skip


def now() -> str:
    """Return the time as text, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunFolder:
    """A folder that a run writes to.

    Args:
        path: the folder, which exists.
        about: what ``run.json`` says.
    """

    def __init__(self, path: Path, about: dict[str, Any]):
        self.path, self.about = path, about

    @classmethod
    def begin(cls, path: Path, about: dict[str, Any], config: str) -> "RunFolder":
        """Make a new folder of a run.

        Raises:
            OSError: it cannot be written.
        """
        path.mkdir(parents=True, exist_ok=True)
        made = cls(path, {"format": FORMAT, **about, "began": now(), "ended": None})
        made.running()  # first, so that a run that is killed here can be resumed
        made.configured(config)
        return made

    def configured(self, config: str) -> None:
        """Write what it is told to do, as TOML."""
        with replacing(self.path / CONFIG) as stream:
            stream.write(config.encode())

    def running(self) -> None:
        """Say that this process is at it."""
        self.say(state="running", ended=None)

    def say(self, **what: Any) -> None:
        """Change what ``run.json`` says.

        Raises:
            OSError: it cannot be written; it then says what it said.
        """
        self.about = {**self.about, **what}
        with replacing(self.path / RUN) as stream:
            stream.write(json.dumps(self.about, indent=1, default=str).encode())

    def say_of(self, name: str, **what: Any) -> None:
        """Change what ``run.json`` says of one analysis."""
        known = self.about.get("analyses", {})
        self.say(analyses={**known, name: {**known.get(name, {}), **what}})

    def log(self, event: str, **what: Any) -> None:
        """Add a line to the log; a disk that is full does not matter to it."""
        line = json.dumps({"time": now(), "event": event, **what}, default=str)
        with contextlib.suppress(OSError), open(self.path / LOG, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def checkpoint(self, name: str) -> Path:
        """Return the file in which an analysis keeps where it stands."""
        (self.path / CHECKPOINTS).mkdir(exist_ok=True)
        return self.path / CHECKPOINTS / f"{name}.npz"

    def store(self, name: str) -> Path:
        """Return the group of a result in the store of all results."""
        zarr().open_group(str(self.path / RESULTS), mode="a", zarr_format=3)
        return self.path / RESULTS / name

    def empty(self) -> bool:
        """Tell whether nothing has been computed in it: no result, no part of one, no checkpoint."""
        inside = [p for part in (RESULTS, CHECKPOINTS) for p in (self.path / part).glob("*")]
        return all(p.name == "zarr.json" for p in inside)

    def discard(self) -> None:
        """Remove what it has written of a run that has not begun; whatever else lies there stays."""
        for name in (RESULTS, CHECKPOINTS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (RUN, CONFIG, LOG):
            (self.path / name).unlink(missing_ok=True)

    def save(self, name: str, result: Any) -> None:
        """Write a result, whole or not at all.

        Raises:
            OSError: the disk is full.
        """
        write_group(self.store(name), result._table() if hasattr(result, "_table") else result)
