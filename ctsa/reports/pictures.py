"""Pictures of matplotlib inside a page, for results that have no chart of their own."""

import base64
import io
from typing import Any

import numpy as np

from .pieces import Picture

_MOST = 200_000  # bytes of a vector picture; larger ones become pixels


def still(result: Any, caption: str) -> Picture | None:
    """Return what ``.plot()`` of a result draws; None if it cannot be drawn."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    settings = {"svg.hashsalt": "ctsa", "svg.fonttype": "path", "figure.max_open_warning": 0}
    try:
        with mpl.rc_context(settings):
            figure = np.ravel(np.asarray(result.plot(), dtype=object))[0].figure
            kind, content = "svg+xml", _written(figure, "svg")
            if len(content) > _MOST:
                kind, content = "png", _written(figure, "png")
            width = round(96 * figure.get_size_inches()[0] * 1.4)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, ImportError):
        return None  # a picture is no reason to have no report: the table is there
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    return Picture(caption, f"data:image/{kind};base64,{base64.b64encode(content).decode()}", width)


def _written(figure: Any, kind: str) -> bytes:
    stream = io.BytesIO()
    about = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(stream, format=kind, dpi=130, metadata=about)
    return stream.getvalue()
