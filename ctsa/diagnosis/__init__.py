"""What a recurrent layer does, loop after loop, and why: one call for builders of loop models."""

from .result import Diagnosis as Diagnosis
from .run import diagnose as diagnose
