"""Symmetries of fields: found, matched modulo, and the neutral directions that they make."""

from .finding import symmetry_of as symmetry_of
from .generators import commuting as commuting, motions as motions
from .rotations import rotation_modes as rotation_modes
from .symmetries import Symmetry as Symmetry
