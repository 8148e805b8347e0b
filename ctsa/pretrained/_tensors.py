"""The tensors of a model: wanted, read at once, handed out as linear maps and norms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._files import Config, read_tensors
from ._transformer import Linear, Network, Norm

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False, repr=False)
class Contents:
    """What a folder holds: the facts of ``Pretrained``, which says what they mean, and the network."""

    kind: str
    layers: int
    head_count: int
    d: int
    width: int
    mlp: int
    eps: float
    positions: int
    _network: Network


class Tensors:
    """Collects what is wanted, reads it at once, and hands it out as linear maps and norms."""

    def __init__(self) -> None:
        self.shapes: Shapes = {}
        self.tensors: dict[str, Any] = {}

    def want(self, name: str, *shape: int) -> None:
        """Want a tensor of a shape."""
        self.shapes[name] = shape

    def want_linear(self, name: str, *shape: int, transposed: bool = False, bias: bool = True) -> None:
        """Want an affine map from ``shape[1]`` to ``shape[0]`` dimensions; transposed: stored as (in, out)."""
        self.want(f"{name}.weight", *(shape[::-1] if transposed else shape))
        if bias:
            self.want(f"{name}.bias", shape[0])

    def want_norm(self, name: str, d: int, bias: bool = True) -> None:
        """Want a LayerNorm."""
        self.want(f"{name}.weight", d)
        if bias:
            self.want(f"{name}.bias", d)

    def read(self, folder: Path, prefix: str) -> None:
        """Read all that is wanted."""
        self.tensors = read_tensors(folder, self.shapes, prefix)

    def __getitem__(self, name: str) -> Any:
        return self.tensors[name]

    def linear(self, name: str, transposed: bool = False) -> Linear:
        """Return an affine map, without a bias where none was wanted."""
        weight = self.tensors[f"{name}.weight"]
        weight = weight.T if transposed else weight
        bias = self.tensors.get(f"{name}.bias")
        return Linear(weight, np.zeros(len(weight), weight.dtype) if bias is None else bias)

    def norm(self, name: str, eps: float) -> Norm:
        """Return a LayerNorm."""
        gain = self.tensors[f"{name}.weight"].astype(np.float64)
        bias = self.tensors.get(f"{name}.bias")
        return Norm(gain, np.zeros(len(gain)) if bias is None else bias.astype(np.float64), eps)

    def rms(self, name: str, eps: float) -> Norm:
        """Return an RMSNorm."""
        gain = self.tensors[f"{name}.weight"].astype(np.float64)
        return Norm(gain, np.zeros(len(gain)), eps, centres=False)


def width_of(config: Config, d: int, heads: int, keys: tuple[str, str]) -> int:
    """Return the width of a head."""
    if d % heads:
        raise ValueError(f"{config.path}: {keys[0]} {d} is not a multiple of {keys[1]} {heads}")
    return d // heads
