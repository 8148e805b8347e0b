"""Which tokens are together: clusters of a state, by a gap, by the clearest gap, or by density."""

from .finding import Clustering as Clustering, find_clusters as find_clusters
from .labels import cluster_count as cluster_count, clusters as clusters
