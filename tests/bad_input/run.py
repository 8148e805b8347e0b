"""Give every wrong value to every argument, and judge what comes back."""

import re
import signal
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import ctsa

OURS = str(Path(ctsa.__file__).parent)
CLEAR = (ValueError, TypeError, OSError, ImportError, NotImplementedError)
SECONDS = 30
# What an argument is called where its value is looked at.
ALSO = {
    "x": ("x0", "tokens", "state", "points", "module", "positive"),
    "x0": ("x",),
    "starts": ("x", "x0"),
    "system": ("field", "layer", "function", "module"),
    "layer": ("system", "field", "module", "function"),
    "module": ("layer", "system", "function"),
    "field": ("system", "function", "layer", "term"),
    "start": ("x0", "x"),
    "trajectory": ("x0",),
    "u": ("directions",),
    "other": ("operand",),
    "factor": ("operand",),
    "depth": ("layers", "every"),
    "every": ("depth",),
    "parameter": ("field",),
    "transient": ("intervals",),
    "d": ("tokens", "starts"),
    "n": ("tokens", "starts"),
    "coupling": ("field",),
    "attention": ("field",),
    "omega": ("frequencies",),
    "time": ("depth",),
    "resume": ("spectrum",),
    "checkpoint": ("path", "folder"),
    "path": ("file", "folder"),
    "frame": ("directions",),
    "span": ("parameter",),
    "source": ("weight",),
    "k": ("count", "index"),
    "batch": ("tokens",),
    "interval": ("intervals",),
    "step": ("solver",),
    "solver": ("step",),
    "intervals": ("history",),
    "memory": ("tokens",),
    "duration": ("time", "interval", "depth"),
    "count": ("frame", "directions"),
}


class TooLong(BaseException):
    """It went on."""


def judge(call, argument, value):
    """Return "clear", "unclear", "accepted" or "hangs", and what was said."""

    def stop(*_):
        raise TooLong

    given = {**call.good, argument: value}
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            call.function(**given)
    except TooLong:
        return "hangs", ""
    except Exception as error:
        raised = traceback.extract_tb(error.__traceback__)[-1].filename
        said = f"{type(error).__name__}: {error} {' '.join(getattr(error, '__notes__', ()))}"
        named = any(re.search(rf"\b{re.escape(name)}\b", said) for name in (argument, *ALSO.get(argument, ())))
        ours = raised.startswith(OURS) or argument in ("other", "factor")
        kind = isinstance(error, CLEAR) or type(error).__module__.startswith("ctsa")
        return ("clear" if ours and named and kind else "unclear"), said
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "accepted", ""


def run(every, allowed=(), only=None):
    """Judge all, or those whose index is in ``only``; return counts by function, and lines about what is not clear."""
    counts, lines, index = Counter(), [], 0
    for call in every:
        for argument, kinds in call.wrong.items():
            for fault, value in kinds:
                index += 1
                if only is not None and not only(index):
                    continue
                verdict, said = judge(call, argument, value)
                if verdict != "clear" and (call.name, argument, fault) in allowed:
                    verdict = "clear"
                counts[call.name, verdict] += 1
                if verdict != "clear":
                    lines.append(f"{verdict:9s} {call.name}({argument}: {fault})  {' '.join(said.split())[:150]}")
    return counts, lines
