"""Many starts at once: where they lead."""

from .basin_counts import Basins as Basins, BasinsError as BasinsError, basins as basins
