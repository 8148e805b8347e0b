"""What a motion is: verdicts from what a run passes through at its interval ends.

The state decides what the motion is; exponents tell how stable it is and must agree. Everything else is "undecided", with
an estimate of how much longer to run. NumPy and SciPy only; the measured confusion table is in ``docs/verdicts.md``.
"""

from .record import Record as Record, projection as projection
from .rule import judge as judge
from .verdict import Verdict as Verdict
