"""Calling code that is not ours: its errors about shapes say which code it was, and at what state."""

import re
from typing import Any

Array = Any
_OF_SHAPES = re.compile(r"shape|size|dim|mat1|broadcast|contract|axis|axes|channel|features", re.IGNORECASE)


class Calling:
    """Let an error about shapes, raised by code that is not ours, say which code it was, and at what state.

    ::

        with Calling(layer, x):
            y = layer(x)

    Args:
        code: a field, layer or module.
        x: the state that it is called with.
        word: what to call it.
        note: of what to try, added to any error.
    """

    def __init__(self, code: Any, x: Array, word: str = "layer", note: str = ""):
        self.code, self.x, self.word, self.note = code, x, word, note

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, Exception):
            return
        fault = self._misfit(error, trace)
        if self.note:
            (fault or error).add_note(self.note)
        if fault is not None:
            raise fault from error

    def _misfit(self, error: Exception, trace: Any) -> ValueError | None:
        while trace.tb_next is not None:
            trace = trace.tb_next
        where = trace.tb_frame.f_globals.get("__name__", "") + "."
        if (where.startswith("ctsa.") and not where.startswith("ctsa._backend.")) or not _OF_SHAPES.search(str(error)):
            return None
        name, shape = getattr(self.code, "__name__", type(self.code).__name__), tuple(self.x.shape)
        axes, asked = ("(n, d)", "") if len(shape) == 2 else ("(..., n, d)", ", and does it take leading axes")
        said = str(error).rstrip(". \n")
        return ValueError(
            f"{self.word} {name} failed on a state of shape {axes} = {shape}: {said}. Are its tokens of length "
            f"d = {shape[-1]}{asked}?"
        )
