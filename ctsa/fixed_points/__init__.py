"""Fixed points and cycles of layers: where iteration comes to rest, or would if it did not repel."""

from .find import find_cycles as find_cycles, find_fixed_points as find_fixed_points
from .points import Cycles as Cycles, FixedPoints as FixedPoints
from .settling import Settled as Settled, settle as settle
