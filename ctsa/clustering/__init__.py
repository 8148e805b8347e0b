"""Which tokens are together: clusters of a state."""

from .linked import cluster_count as cluster_count, clusters as clusters
