"""Models of recurrent self-attention that train: inputs, a layer of ``ctsa`` applied again and again, a readout.

``ctsa.torch.RecurrentModel`` and ``ctsa.jax.RecurrentModel`` are the faces of what is written here once.
"""

from .files import load as load, save as save
from .recurrent import KINDS as KINDS, RecurrentModel as RecurrentModel
