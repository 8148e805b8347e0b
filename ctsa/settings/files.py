"""Files of TOML, and changes of their values from a command line."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_NAME = re.compile(r"""\s*"[^"]*"\s*|\s*'[^']*'\s*|[^.]+""")  # between dots, of which quotes may hold some
_NUMBER = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")  # as Python writes numbers, and TOML does not


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return what a file of TOML says.

    Raises:
        ValueError: it is no TOML, or no text.
        OSError: it cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


def changed(table: dict[str, Any], changes: Iterable[str], depth: int | None = None) -> dict[str, Any]:
    """Return a table with ``a.b=value`` put into it; the value is TOML, or a word.

    Args:
        table: which stays as it is.
        changes: texts.
        depth: of the longest key that is allowed; None: any.

    Raises:
        ValueError: one is no such text, or its place is no table.

    Example:
        >>> from ctsa.settings import changed
        >>> changed({"field": {"beta": 1.0}}, ["field.beta=4", "field.kind=Oja"])
        {'field': {'beta': 4, 'kind': 'Oja'}}
    """
    found = table
    for change in changes:
        key, equals, text = change.partition("=")
        names = [name.strip(" \"'") for name in _NAME.findall(key)]
        if not equals or not names or not all(names) or ".." in f".{key.strip()}.":
            raise ValueError(f"--set {change}: wanted key=value, such as training.steps=500")
        if depth is not None and len(names) > depth:
            raise ValueError(f"--set {change}: keys have a table and a name at most, such as training.steps")
        try:
            found = put(found, names, _value(text.strip()))
        except ValueError as error:
            raise ValueError(f"--set {change}: {error}") from None
    return found


def put(table: Any, names: list[str], value: Any) -> Any:
    """Return a table with a value at a place, made of copies on the way there; numbers count in lists of tables.

    Raises:
        ValueError: the place is no table.
    """
    name, *rest = names
    if isinstance(table, list):
        if not name.isdigit() or int(name) >= len(table):
            raise ValueError(f"{name} is none of its {len(table)} entries, which are counted from 0")
        copy: Any = list(table)
        copy[int(name)] = put(copy[int(name)], rest, value) if rest else value
        return copy
    if not isinstance(table, dict):
        raise ValueError(f"{name} has no place there: what holds it is no table")
    inner = table.get(name, {})
    if rest and not isinstance(inner, dict | list):
        raise ValueError(f"{name} is no table")
    return {**table, name: put(inner, rest, value) if rest else value}


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
        return found["value"] if len(found) == 1 else text
    except tomllib.TOMLDecodeError:
        return float(text) if _NUMBER.fullmatch(text) else text
