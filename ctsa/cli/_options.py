"""Options that commands share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def at_least(low: int) -> Callable[[Any, Any], None]:
    """Return the validator of an option that is an integer of at least ``low``."""

    def check(kind: Any, value: Any) -> None:
        if value is not None and value < low:
            raise ValueError(f"wanted an integer of at least {low}, got {value}")

    return check


Backend = Annotated[Literal["torch", "jax"] | None, Parameter(help="In place of the file's (default: one installed).")]
Out = Annotated[Path | None, Parameter(help="Folder to write to, in place of the file's.")]
Seed = Annotated[int | None, Parameter(validator=at_least(0), help="In place of the file's.")]
Changes = Annotated[
    list[str],
    Parameter(
        name="--set", negative=(), consume_multiple=False, show_default=False,
        help="KEY=VALUE: change a value of the file, as field.beta=9 or tokens.kind=hemisphere; may be repeated.",
    ),
]  # fmt: skip
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


@Parameter(name="*")
@dataclass(kw_only=True)
class Options:
    """Options of all commands that run something."""

    backend: Backend = None
    dtype: Annotated[Literal["float64", "float32"] | None, Parameter(help="In place of the file's (float64).")] = None
    out: Out = None
    seed: Seed = None
    changes: Changes = field(default_factory=list)
    resume: Annotated[Flag, Parameter(help="Go on with the run that the folder holds.")] = False
    dry_run: Annotated[Flag, Parameter(help="Say how long and how much memory it takes, and stop.")] = False
    quiet: Annotated[Flag, Parameter(help="No progress, the results only.")] = False
    json: Annotated[Flag, Parameter(help="Print the results as JSON.")] = False

    def again(self) -> list[str]:
        """Return these options as words of a command line."""
        found = []
        for name in ("backend", "dtype", "out", "seed"):
            if getattr(self, name) is not None:
                found += [f"--{name}", str(getattr(self, name))]
        found += [word for change in self.changes for word in ("--set", change)]
        return found + [f"--{name}" for name in ("quiet", "json") if getattr(self, name)]

    @property
    def say(self) -> Callable[[str], None]:
        """What receives lines of progress."""
        return (lambda text: None) if self.quiet or self.json else (lambda text: print(text, file=sys.stderr))

    @property
    def progress(self) -> bool | None:
        """Whether bars are drawn; None: in a terminal."""
        return False if self.quiet or self.json else None
