"""What the parts of a module of torch are given, seen in one call of it."""

from typing import Any, NamedTuple

import numpy as np

from ctsa.results.base import as_numpy

Array = Any
_CLOSE = 1e-3  # relative: what a norm adds to variances, and float32, stay below


class Seen(NamedTuple):
    """What a part was given, all its arguments, and what it put out."""

    given: np.ndarray
    arguments: dict[str, Any]
    out: Any


def watch(layer: Any, parts: list[Any], x: Any) -> dict[int, Seen]:
    """Return by ``id(part)`` what it saw when the layer was called at ``x``; nothing for parts without hooks (JAX)."""
    seen: dict[int, Seen] = {}

    def keep(part: Any, args: tuple, kwargs: dict, out: Any) -> None:
        names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")
        arguments = dict(zip(names, args, strict=False)) | kwargs
        seen[id(part)] = Seen(_rows(next(iter(arguments.values()))), arguments, out)

    hooked = [part for part in parts if hasattr(part, "register_forward_hook")]
    hooks = [part.register_forward_hook(keep, with_kwargs=True) for part in hooked]
    if not hooks:
        return {}
    try:
        layer(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _rows(a: Any) -> np.ndarray:
    return as_numpy(a).astype(float).reshape(-1, a.shape[-1])


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """Return how far arrays are apart, relative to the first."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(a)) if a.shape == b.shape else float("inf")


def norm_read(seen: dict[int, Seen], part: Any, norms: list[Any]) -> Any:
    """Return the norm whose output a part was given; None if it was that of none."""
    given = seen[id(part)].given
    read = (norm for norm in norms if id(norm) in seen and gap(given, _rows(seen[id(norm)].out)) < 1e-6)
    return next(read, None)


def mask_seen(seen: Seen, n: int) -> tuple[str | None, list[str]]:
    """Return the mask that attention was called with, if a field has it, and what no field has."""
    mask, padding = seen.arguments.get("attn_mask"), seen.arguments.get("key_padding_mask")
    reasons = [] if padding is None else ["attention has a padding mask, which the field has not"]
    if mask is None:
        return None, reasons
    a = as_numpy(mask)
    shut = a if a.dtype == bool else np.isneginf(a)
    zero_else = a.dtype == bool or bool((a[~shut] == 0).all())
    if zero_else and a.shape == (n, n) and (shut == ~np.tri(n, dtype=bool)).all():
        return "causal", reasons
    return None, ["attention has a mask, which the field has not", *reasons]


def other_tokens(seen: Seen, read: np.ndarray) -> list[str]:
    """Say whether attention was given other tokens than those that the field reads."""
    off = gap(seen.given, read)
    found = [f"attention reads other tokens than the field, {off:.1%} apart"] if off > _CLOSE else []
    for name in ("key", "value"):
        other = seen.arguments.get(name)
        if other is not None and gap(seen.given, _rows(other)) > _CLOSE:
            found.append(f"attention has a {name} of other tokens")
    return found
