"""The commands, put together."""

from cyclopts import App

from ctsa import __version__

from . import _analyses, _demo, _files, _reproduce, _show, _sweep, _train

app = App(
    name="ctsa",
    help="Continuous-time self-attention: flows of tokens on the sphere, and the layers that discretise them.",
    help_epilogue="Exit status: 0, 1 if it failed, 2 for wrong use, 130 after an interrupt.\n\n"
    "Begin with `ctsa init first`, which writes first.toml, and `ctsa run first.toml`.",
    version=f"ctsa {__version__}",
    suppress_keyboard_interrupt=False,
    default_parameter=None,
)
for each in (_files, _analyses, _sweep, _train, _reproduce, _show, _demo):
    each.add(app)
app.register_install_completion_command(name="--install-completion")
