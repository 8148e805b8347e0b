"""Settings that are the arguments of a function: what it takes is stated once, by its signature."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import create_model

from .checked import Checked


def arguments_of(function: Callable[..., Any], without: Iterable[str] = (), **more: Any) -> type[Checked]:
    """Return a class of settings that are the arguments of a function, with their types and defaults.

    Args:
        function: whose annotations pydantic understands; those that are ``Any`` take anything.
        without: arguments that settings cannot give.
        more: further settings, ``name=(type, default)``, or other types and defaults for arguments; ``...`` for none.

    Example:
        >>> from ctsa.settings import arguments_of
        >>> def move(x, by: float = 1.0): ...
        >>> arguments_of(move, ("x",)).read({"by": 2}, "move").by
        2.0
    """
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in set(without)}
    fields: dict[str, Any] = {
        name: (p.annotation, ... if p.default is p.empty else p.default) for name, p in known.items()
    }
    return create_model("Arguments", __base__=Checked, **{**fields, **more})
