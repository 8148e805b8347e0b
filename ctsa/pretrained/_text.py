"""From what a user passes as a text to token ids, checked against the model that shall take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ctsa.results.base import as_numpy

from ._files import TOKENIZER, WeightsNotFound
from ._transformer import Array


def encode(text: Any, tokenizer: Any, positions: int, words: int, folder: Path) -> tuple[list[int], list[str]]:
    """Return ids and tokens of a text, or of ids.

    Raises:
        TypeError: the text is neither a string nor a row of integers.
        ValueError: it holds no token, too many, or one that the model does not know.
        WeightsNotFound: there is no tokenizer to split it.
    """
    if isinstance(text, str):
        ids, tokens = _split(text, tokenizer, folder)
        if max(ids) >= words:
            raise ValueError(
                f"{folder}: tokenizer.json gives token {max(ids)}, but the model has {words} words; "
                "the two files do not belong together"
            )
    else:
        ids = _ids(text)
        if not all(0 <= i < words for i in ids):
            raise ValueError(f"text must be token ids of 0 ... {words - 1}, got {min(ids)} ... {max(ids)}")
        known = tokenizer.id_to_token if tokenizer is not None else str
        tokens = [known(i) or str(i) for i in ids]
    if len(ids) > positions:
        raise ValueError(f"text: {len(ids)} tokens, but the model has {positions} positions; shorten it")
    return ids, tokens


def _split(text: str, tokenizer: Any, folder: Path) -> tuple[list[int], list[str]]:
    if tokenizer is None:
        raise WeightsNotFound(
            f"{folder}: {TOKENIZER} not found, so a text cannot be split; pass token ids (where transformers knows the "
            "tokenizer, AutoTokenizer.from_pretrained(folder)(text).input_ids)"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text: {text!r} is no valid Unicode ({error.reason})") from error
    encoding = tokenizer.encode(text)
    if all(encoding.special_tokens_mask):
        raise ValueError(f"text must be at least one token, got {text!r}")
    return encoding.ids, encoding.tokens


def _ids(text: Any) -> list[int]:
    try:
        array = np.asarray(as_numpy(text))
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        came, hint = type(text).__name__, "pass one sentence at a time, or its token ids (n,)"
        if array.dtype.kind == "f" and array.ndim > 1:
            came += f" of shape {array.shape}"
            hint = (
                "the input of a layer (n, d), one entry of states(text), is taken by attention_weights, "
                "attention_output, on_sphere and field"
            )
        raise TypeError(f"text must be a string, got {came}; {hint}")
    if not len(array):
        raise ValueError("text must be at least one token, got no id")
    return [int(i) for i in array]


def check_states(z: Any, d: int) -> Array:
    """Return the input of a layer that a user gave, ``(n, d)``, in float64."""
    z = np.asarray(as_numpy(z))
    if z.dtype.kind != "f" or z.shape[1] != d or not len(z):
        raise ValueError(f"text must be states (n, {d}) of floating numbers, got {z.shape} of {z.dtype}")
    if not np.isfinite(z).all():
        raise ValueError("text must be finite states, got NaN or infinite numbers")
    return z.astype(np.float64)


def check_nonzero(length: Array, tokens: list[str], layer: int) -> None:
    """Raise unless every token has a length, and so a direction."""
    if not length.all():
        i = int(np.argmin(length))
        raise ValueError(f"text: token {i} ({tokens[i]!r}) is zero at the input of layer {layer}: it has no direction")
