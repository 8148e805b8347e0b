"""Flow and layers side by side: which flow a layer is a step of, and how far the two part."""

from .fitting import EffectiveStep as EffectiveStep, effective_step as effective_step
from .reading import BlockForm as BlockForm, read_block as read_block
from .recovery import EulerForm as EulerForm, as_euler as as_euler
from .result import Comparison as Comparison
from .side_by_side import compare as compare
