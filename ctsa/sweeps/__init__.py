"""Many runs: a function at all points of a grid, on all cores or a cluster, into one labelled store that can go on."""

from .run import sweep as sweep
from .store import StoreError as StoreError, read as read

__all__ = ["StoreError", "read", "sweep"]
