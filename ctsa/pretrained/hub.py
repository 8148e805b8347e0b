"""Hidden states as ``transformers`` computes them, for the architectures that are not read here."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ._files import WeightsNotFound, reader


def states_through_transformers(
    folder: str | PathLike[str], text: str | Sequence[int], *, dtype: str = "float32"
) -> np.ndarray[Any, Any]:
    """Compute the hidden states of any model that ``transformers`` opens, from a local folder.

    The model is opened with ``AutoModel``, offline, with eager attention and without any code that the folder may bring
    (``trust_remote_code=False``). The same folder opened by :func:`load` gives the same states in float64, for the
    architectures that it knows; this is for the others, and for comparison.

    Args:
        folder: a local folder as ``save_pretrained`` writes it.
        text: one sentence, or token ids ``(n,)``, for which the folder needs no tokenizer.
        dtype: "float32" or "float64".

    Returns:
        ``(layers + 1, n, d)`` of that type: the input of each layer, then the last hidden state, which in pre-norm
        models has passed the final LayerNorm.

    Raises:
        ImportError: ``transformers`` or ``torch`` is missing.
        WeightsNotFound: there is no such folder.
        ValueError: ``transformers`` cannot open the folder or take the text, or its model shows no hidden states.

    Example:
        >>> import numpy as np
        >>> from ctsa import pretrained
        >>> model = pretrained.load()
        >>> theirs = pretrained.states_through_transformers(model.folder, "Tokens cluster.", dtype="float64")
        >>> bool(np.allclose(theirs, model.states("Tokens cluster."), rtol=0, atol=1e-11))
        True

    References:
        Wolf et al., Transformers, arXiv:1910.03771.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    path = Path(folder)
    if not path.is_dir():
        raise WeightsNotFound(f"folder: {path} is not a folder; only local folders are opened")
    torch, transformers = (reader(name, "this") for name in ("torch", "transformers"))
    local = dict(local_files_only=True, trust_remote_code=False)
    try:
        model = transformers.AutoModel.from_pretrained(
            str(path), dtype=getattr(torch, dtype), attn_implementation="eager", **local
        ).eval()
        if isinstance(text, str):
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **local)
            inputs = dict(tokenizer(text, return_tensors="pt"))
            # Without its files transformers makes an empty tokenizer, to which every word is unknown.
            if set(inputs["input_ids"].ravel().tolist()) <= set(tokenizer.all_special_ids):
                raise ValueError(f"the tokenizer knows no token of {text!r}; are its files in the folder?")
        else:
            inputs = dict(input_ids=torch.as_tensor(np.array(text, dtype=np.int64))[None])
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states
    except Exception as error:  # anything from a damaged file to an architecture with other inputs
        raise ValueError(f"{path}: transformers failed ({type(error).__name__}: {error})") from error
    if not states:
        raise ValueError(f"{path}: {type(model).__name__} shows no hidden states")
    return np.stack([state[0].numpy() for state in states])
