"""Rotations of all tokens at once, and the neutral directions that they make."""

from .rotations import rotation_modes as rotation_modes
