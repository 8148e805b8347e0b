"""Files that people read: the config as TOML, and a picture of each result."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np


def as_toml(table: dict[str, Any], backend: str) -> str:
    """Return a config as TOML that says which backend ran it.

    Raises:
        ImportError: tomli-w is not installed.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise ImportError("a run writes its config with tomli-w: pip install 'ctsa[runs]'") from error
    plain = {key: value for key, value in table.items() if key != "out"}
    return tomli_w.dumps(_without_none({**plain, "backend": backend}))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list | tuple) else value


def draw(result: Any, path: Path) -> bool:
    """Write the picture of a result as PNG; return whether it has one.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib.pyplot as plt

    if not hasattr(result, "plot"):
        return False
    named = "axes" if "axes" in inspect.signature(result.plot).parameters else "ax"
    figures = set(plt.get_fignums())
    try:
        drawn = result.plot(**{named: None})
        path.parent.mkdir(exist_ok=True)
        np.ravel(np.asarray(drawn, dtype=object))[0].figure.savefig(path, dpi=160, bbox_inches="tight")
    except (ValueError, TypeError):  # a result that cannot be drawn, as one of an ensemble, is no failure of the run
        return False
    finally:
        for number in set(plt.get_fignums()) - figures:
            plt.close(number)
    return True
