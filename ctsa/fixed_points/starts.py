"""Starts of a search, given or drawn."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa.flows.systems import System
from ctsa.results.base import as_numpy

Array = Any
_SAME = 1e-2  # relative difference of outputs beyond which a member is another problem: rounding is far below


def check_members(layer: Any, x: Array, caller: str) -> None:
    """Raise ValueError if a layer maps a state otherwise alone than within a batch ``(S, n, d)``: ends do not compare."""
    if len(x) < 2 or hasattr(getattr(layer, "field", None), "drift"):
        return
    be, hint = backend(x), "each start must be the same problem. For members with inputs of their own loop over the "
    hint += f"inputs, a layer each, or see ctsa.fixed_points.settle, which compares no members; {caller} does"
    together = as_numpy(be.call(layer, x)).astype(float)[1]
    try:
        alone = as_numpy(be.call(layer, x[1:2])).astype(float)[0]
    except Exception as error:
        raise ValueError(f"layer takes no other number of members than that of starts ({error}): {hint}") from error
    if not np.abs(alone - together).max() <= _SAME * max(float(np.abs(together).max()), 1e-300):
        raise ValueError(f"layer gives another output for a state alone than for the same one in the batch: {hint}")


def starts_of(s: System, starts: Any, n: Any, d: Any, seed: Any, normalize: bool, caller: str) -> Array:
    """Return starts ``(S, n, d)`` in the framework of a system: those given, or so many random ones of its geometry.

    Raises:
        ValueError: sizes are missing, or contradict what was given.
        TypeError: random starts for a bare callable, whose framework is not known.
    """
    if hasattr(starts, "shape") and np.ndim(starts) or isinstance(starts, (list, tuple)):
        x = s.start(starts, normalize, "starts")
        if x.ndim != 3:
            raise ValueError(f"starts must be a number or states (S, n, d), got shape {tuple(x.shape)}")
        for name, given, size in (("n", n, x.shape[1]), ("d", d, x.shape[2])):
            if given is not None and given != size:
                raise ValueError(f"{name}={given} contradicts starts of shape {tuple(x.shape)}: leave it out")
        return x
    count, known = checks.integer("starts", starts, low=1), checks.sizes(s.source)
    n, d = (known.get("n") if n is None else n), (known.get("d") if d is None else d)
    for name, given in (("n", n), ("d", d)):
        if given is None:
            kind = "field" if s.flow else "layer"
            raise ValueError(f"{name} must be given with a number of starts: {caller}({kind}, {count}, n=..., d=...)")
    n, d, seed = checks.integer("n", n, low=1), checks.integer("d", d, low=1), checks.seed(seed)
    checks.room(f"{n} tokens of dimension {d}", float(count) * n * d)
    s.geometry.check_dimension(d)
    drawn = s.geometry.random(n, d, np.random.default_rng(seed), (count,))
    try:
        return s.start(drawn, name="starts")
    except TypeError as error:
        if "plain callable" not in str(error):
            raise
        raise TypeError(
            f"{'field' if s.flow else 'layer'} is a plain callable, so the framework is unknown: pass the starts "
            "themselves as a torch.Tensor or a jax.Array, e.g. "
            "starts=torch.as_tensor(ctsa.random_tokens(n, d, batch=(100,)))"
        ) from None
