"""What happens along a flow: whether the field depends on time, and where an event ends a run."""

from .crossings import (
    check_until as check_until,
    correct_stop as correct_stop,
    crossing as crossing,
    locate as locate,
    raise_lost as raise_lost,
    start_value as start_value,
)
from .members import each_member as each_member
from .time_dependence import depends_on_time as depends_on_time, still_time as still_time
