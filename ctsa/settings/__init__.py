"""Settings, checked: classes of them, those that are the arguments of a function, and files of TOML."""

from .arguments import arguments_of as arguments_of
from .checked import Checked as Checked, nearest as nearest, one_of as one_of, told as told
from .files import changed as changed, read_toml as read_toml
