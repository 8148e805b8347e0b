"""The log of a training run: a line of JSON for each event."""

import json
import math
from pathlib import Path
from typing import Any

NAME = "log.jsonl"


class Log:
    """What a run writes down, in its folder; nothing where there is none. ``keep``: the steps that are to stay."""

    def __init__(self, folder: Path | None, keep: int):
        self.file = None
        if folder is None:
            return
        path = folder / NAME
        if keep:  # what lies behind the checkpoint is written again
            old = [line for line in path.read_text().splitlines() if line] if path.exists() else []
            rows = [row for row in map(_parsed, old) if row is not None and row.get("step", 0) <= keep]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.file = open(path, "a" if keep else "w", buffering=1)

    def write(self, **row: Any) -> None:
        """Add a line."""
        if self.file is not None:
            self.file.write(json.dumps({k: finite(v) for k, v in row.items()}) + "\n")

    def close(self) -> None:
        """Write no more."""
        if self.file is not None:
            self.file.close()


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # cut off in the middle
        return None


def finite(value: Any) -> Any:
    """Return None for a number that JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
