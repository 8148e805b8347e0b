"""What motion is this? A verdict from what a Lyapunov run passes through; arrays in, a word with its evidence out."""

from .record import Record as Record
from .rule import judge as judge
from .verdict import Verdict as Verdict
