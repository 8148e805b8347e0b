"""Starts of a search, given or drawn."""

from typing import Any

import numpy as np

from ctsa import checks
from ctsa.flows.systems import System

Array = Any


def starts_of(s: System, starts: Any, n: Any, d: Any, seed: Any, normalize: bool, caller: str) -> Array:
    """Return starts ``(S, n, d)`` in the framework of a system: those given, or a number of random ones of its geometry.

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
    count = checks.integer("starts", starts, low=1)
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
