"""``ctsa init``, ``check``, ``schema``, ``info``: files that say what to run, and what is installed."""

import json
import platform
import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ctsa import __version__

from ._analyses import config_of
from ._common import NEEDS, backend_to_use, fail, installed, missing, ready
from ._options import Flag, Options


def add(app: App) -> None:
    """Add the commands."""
    app.command(init, name="init", group="Begin here")
    app.command(check, name="check", group="Begin here")
    app.command(info, name="info", group="Begin here")
    app.command(schema, name="schema", group="Begin here")


def init(
    name: Annotated[str, Parameter(help="Of the file, without .toml, and of the folder that it writes to.")] = "first",
    /,
) -> int:
    """Write a commented file that runs, to begin with."""
    from ctsa.runs.example import example

    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    try:
        with open(path, "x", encoding="utf-8") as stream:
            stream.write(example(path.stem))
    except FileExistsError:
        return fail(f"{path} exists: choose another name")
    except OSError as error:
        return fail(f"{path}: {error.strerror or error}")
    name = shlex.quote(str(path))
    print(f"{path} written: `ctsa check {name}` looks at it, `ctsa run {name}` runs it")
    return 0


def check(
    file: Annotated[Path, Parameter(help="A file of TOML.")],
    /,
    options: Options | None = None,
) -> int:
    """Check a file, make what it says, and tell its sizes and what its analyses cost. Nothing is run or written."""
    from ._analyses import dry_run

    options = options or Options()
    config = config_of(file, options)
    backend = backend_to_use(config.backend)
    ready(backend, config.dtype)
    return dry_run(config, backend, options)


def schema(
    of: Annotated[Literal["config", "summary"], Parameter(help="Of config files, or of what --json prints.")] = "config",
    /,
) -> int:
    """Print a JSON schema: of the files, for editors that complete and check TOML, or of what --json prints."""
    from ctsa.runs.schema import schema as of_config

    from ._printing import Summary

    print(json.dumps(of_config() if of == "config" else Summary.model_json_schema(), indent=1))
    return 0


def info(*, as_json: Annotated[Flag, Parameter(name="--json", help="Print it as JSON.")] = False) -> int:
    """Say which versions and backends are installed, on what machine, and where compiled programs are kept."""
    from ctsa.runs.about import machine, versions

    here = installed()
    found: dict[str, object] = {"ctsa": __version__, "python": platform.python_version()}
    for name in NEEDS:
        told = versions(name) if name in here else {}
        found[name] = {key: told[key] for key in NEEDS[name] if key in told} or f"not installed: pip install 'ctsa[{name}]'"
    extras = {"pretrained": ("safetensors", "tokenizers"), "training": ("optax", "safetensors"), "sweeps": ("distributed",),
              "reports": ("plotly",)}  # fmt: skip
    for name, needs in extras.items():
        lacking = missing(*needs)
        found[name] = f"needs {', '.join(lacking)}" if lacking else "ready"
    found |= machine()
    if as_json:
        print(json.dumps(found))
        return 0
    from ctsa.results.text import lines

    print(lines([(key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value)
                 for key, value in found.items()]))  # fmt: skip
    return 0


