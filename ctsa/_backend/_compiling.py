"""Whether PyTorch compiles what long runs repeat: JAX always does, and takes no notice."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_ASKED: ContextVar[dict | None] = ContextVar("compiling", default=None)


def asked() -> dict | None:
    """Return the options for ``torch.compile`` where programs are asked for, else None."""
    return _ASKED.get()


@contextmanager
def compiling(**options: Any) -> Iterator[None]:
    """Ask for programs while the context lasts."""
    token = _ASKED.set(options)
    try:
        yield
    finally:
        _ASKED.reset(token)
