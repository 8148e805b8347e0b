"""Fixed points and cycles of layers: where iteration comes to rest, or would if it did not repel."""

from .settling import Settled as Settled, settle as settle
