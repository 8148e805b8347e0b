"""The commands, put together."""

from cyclopts import App

from ctsa import __version__

from ._analyses import add as add_analyses
from ._demo import add as add_demo
from ._files import add as add_files
from ._reproduce import add as add_reproduce
from ._show import add as add_show
from ._sweep import add as add_sweep
from ._train import add as add_train

app = App(
    name="ctsa",
    help="Continuous-time self-attention: flows of tokens on the sphere, and the layers that discretise them.",
    help_epilogue="Exit status: 0, 1 if it failed, 2 for wrong use, 130 after an interrupt.\n\n"
    "Begin with `ctsa init first`, which writes first.toml, and `ctsa run first.toml`.",
    version=f"ctsa {__version__}",
    suppress_keyboard_interrupt=False,
    default_parameter=None,
)
for add in (add_files, add_analyses, add_sweep, add_train, add_reproduce, add_show, add_demo):
    add(app)
app.register_install_completion_command(name="--install-completion")
