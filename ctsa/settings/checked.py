"""Settings that are checked as they are made, from Python or from a file."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


def nearest(name: Any, known: Iterable[str]) -> str:
    """Return the question whether a known name was meant, for the end of a message; "" if none is near."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f": did you mean {near[0]}?" if near else ""


class Checked(BaseModel):
    """Base of settings: frozen, of exactly the fields that are stated; wrong ones raise ValueError with one line each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    def __init__(self, **given: Any):
        self._read(given, "")

    def _read(self, given: dict[str, Any], where: str) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ValueError(told(error, type(self), where, given)) from None

    @classmethod
    def read(cls, given: dict[str, Any], where: str) -> Any:
        """Return the settings of a table of a file called ``where``.

        Raises:
            ValueError: names the place, what was wanted, what came, and the nearest name where one is unknown.
        """
        made = cls.__new__(cls)
        made._read(given, where)
        return made

    def changed(self, **changes: Any) -> Any:
        """Return settings with some values replaced, checked again."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


def told(error: ValidationError, kind: type[BaseModel], where: str = "", given: Any = None) -> str:
    """Return what pydantic found in ``given``, in our words: a line for each place."""
    wanted_at: dict[str, list[str]] = {}
    lines, came = [], {}
    for found in error.errors():
        steps = _steps(found["loc"], given) if found["type"] != "missing" else found["loc"]
        place = ".".join([*filter(None, [where]), *map(str, steps)]) or where or kind.__name__
        if found["type"] == "extra_forbidden":
            names = _names(kind, found["loc"])
            hint = nearest(found["loc"][-1], names) or f"; there are {', '.join(sorted(names))}"
            lines.append(f"{place} is unknown{hint}")
        elif found["type"] == "missing":
            lines.append(f"{place} is missing")
        elif found["type"] == "value_error":
            whole = f"{where}: {found['ctx']['error']}" if where else str(found["ctx"]["error"])
            lines.append(f"{place}: {found['ctx']['error']}" if found["loc"] else whole)
        else:
            what = re.sub(r"^\w+ should | or instance of \w+| after validation, not \d+", "", found["msg"])
            what = what.replace("'", '"')
            wanted_at.setdefault(place, []).append(what)
            came[place] = found["input"]
    for place, wanted in wanted_at.items():  # a union has one error for each of its kinds
        lines.append(f"{place} must {' or '.join(dict.fromkeys(wanted))}, got {came[place]!r:.60}")
    return "; ".join(lines)


def _steps(place: tuple, given: Any) -> list[Any]:
    """Return those steps of a place that are in what was given: pydantic adds the names of kinds of a union."""
    found = []
    for step in place:
        if (isinstance(given, dict) and step in given) or (
            isinstance(given, list | tuple) and isinstance(step, int) and step < len(given)
        ):
            given = given[step]
            found.append(step)
        elif given is None:
            return list(place)
    return found


def _names(kind: type[BaseModel], place: tuple) -> list[str]:
    """Return the names that were possible at a place."""
    for step in place[:-1]:
        inner = getattr(kind.model_fields.get(str(step)), "annotation", None)
        parts = (inner, *getattr(inner, "__args__", ()))
        kind = next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), kind)
    return [field.alias or name for name, field in kind.model_fields.items()]


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """Return a value that is one of known names.

    Raises:
        ValueError: it is none of them; the nearest is named.
    """
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r:.60}{nearest(value, known)}")
    return value
