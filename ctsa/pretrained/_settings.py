"""What a configuration says of positions: frequencies of rotary embeddings, windows, kinds of layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._files import Config

FULL, SLIDING = "full_attention", "sliding_attention"
_MODERN = {FULL: ("global_rope_theta", 160_000.0), SLIDING: ("local_rope_theta", 10_000.0)}


def _number(config: Config, given: dict[str, Any], key: str, default: Any = None) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{config.path}: {key} of rotary positions must be a number > 0, got {value!r}")
    return float(value)


def _object(config: Config, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{config.path}: {key} must be an object, got {value!r:.60}")
    return value


def _rotary(config: Config, kind: str | None) -> dict[str, Any]:
    """Return the settings of rotary embeddings: ``rope_scaling`` of older files, else ``rope_parameters``."""
    for key in ("rope_scaling", "rope_parameters"):
        if config.entries.get(key):
            given = _object(config, key, config.entries[key])
            return given if kind is None else _object(config, key, given.get(kind, given))
    return {}


def frequencies(config: Config, width: int, kind: str | None = None, theta: float = 10_000.0) -> tuple[float, ...]:
    """Return the frequencies of rotary embeddings of heads of a width; ``kind``: of layers of that type.

    Raises:
        ValueError: they are scaled in a way that is not read, or a number of the scaling is missing or wrong.
    """
    if width % 2:
        raise ValueError(f"{config.path}: rotary positions turn pairs, so heads must have an even width, got {width}")
    given = _rotary(config, kind)
    known = {key: value for key, value in config.entries.items() if value is not None}
    theta = _number(config, given, "rope_theta", known.get("rope_theta", theta))
    turned = given.get("partial_rotary_factor", known.get("partial_rotary_factor", 1.0))
    if turned != 1:
        raise ValueError(f"{config.path}: partial_rotary_factor {turned} is not supported; supported: 1.0")
    name = given.get("rope_type", given.get("type", "default"))
    own = theta ** (-np.arange(width // 2) / (width // 2))
    if name == "linear":
        own = own / _number(config, given, "factor")
    elif name == "llama3":
        factor, low, high = (_number(config, given, key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        if not low < high:
            raise ValueError(f"{config.path}: low_freq_factor {low} must be less than high_freq_factor {high}")
        before = known.get("original_max_position_embeddings", known.get("max_position_embeddings"))
        old = _number(config, given, "original_max_position_embeddings", before)
        length = 2 * math.pi / own
        kept = np.clip((old / length - low) / (high - low), 0.0, 1.0)  # short waves as they are, long ones slower
        own = (1 - kept) * own / factor + kept * own
    elif name != "default":
        raise ValueError(f"{config.path}: rope_type {name!r} is not supported; supported: default, linear, llama3")
    return tuple(map(float, own))


def modern_frequencies(config: Config, width: int, kind: str) -> tuple[float, ...]:
    """Return those of ModernBERT's layers of a kind; a base of local layers that is null is that of the others."""
    entries = config.entries
    if kind == SLIDING and "local_rope_theta" in entries and entries["local_rope_theta"] is None:
        return modern_frequencies(config, width, FULL)
    key, usual = _MODERN[kind]
    theta = usual if entries.get(key) is None else _number(config, entries, key)
    return frequencies(config, width, kind, theta)


def kinds(config: Config, usual: list[str]) -> list[str]:
    """Return whether the attention of each layer is full or sees a window: ``layer_types``, or what is usual."""
    given = config.entries.get("layer_types")
    if given is None:
        return usual
    if not isinstance(given, list) or len(given) != len(usual):
        came = f"{len(given)} of them" if isinstance(given, list) else repr(given)
        raise ValueError(f"{config.path}: layer_types must be a list, one a layer ({len(usual)}), got {came}")
    wrong = [kind for kind in given if kind not in (FULL, SLIDING)]
    if wrong:
        raise ValueError(f"{config.path}: layer_types {wrong[0]!r} is not supported; supported: {FULL}, {SLIDING}")
    return given


def windows(config: Config, layers: int) -> list[int | None]:
    """Return how far the tokens of each layer of Llama and its kin see; None where all of them."""
    kind = config.entries["model_type"]
    if kind == "llama":
        used, first = False, 0
    elif kind == "mistral":
        used, first = config.entries.get("sliding_window", 4096) is not None, 0
    else:
        used = config.flag("use_sliding_window", False) and config.entries.get("sliding_window", 4096) is not None
        first = config.first("max_window_layers", 28)
    found = kinds(config, [SLIDING if used and i >= first else FULL for i in range(layers)])
    if SLIDING in found and not used:
        raise ValueError(
            f"{config.path}: layer_types names {SLIDING}, but "
            + ("llama has none" if kind == "llama" else "sliding_window or use_sliding_window switches it off")
        )
    size = config.count("sliding_window", default=4096) if used else None
    return [size if kind == SLIDING else None for kind in found]
