"""Training of recurrent attention, and what is measured of trained models.

``ctsa.train`` trains; ``evaluate``, ``vote`` and ``watch`` look at a model. Settings are checked by pydantic, weights are
kept by safetensors, steps in JAX are optax' (``pip install 'ctsa[training]'``).
"""

from .evaluation import Evaluation as Evaluation, evaluate as evaluate
from .objective import cross_entropy as cross_entropy
from .result import TrainingRun as TrainingRun
from .run import train as train
from .settings import PRESETS as PRESETS, Penalty as Penalty, Settings as Settings
from .voting import VOTES as VOTES, Votes as Votes, vote as vote
from .watching import Watched as Watched, watch as watch
