"""Settings of PyTorch as they are when a script begins: the gallery runs all examples in one process."""

from typing import Any

import torch


def reset(gallery_conf: dict[str, Any], name: str) -> None:
    """Switch gradients on again, which some scripts do without."""
    torch.set_grad_enabled(True)
