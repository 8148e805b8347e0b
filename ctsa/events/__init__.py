"""What happens along a flow: whether the field depends on time, and where an event ends a run."""

from .time_dependence import depends_on_time as depends_on_time, still_time as still_time
