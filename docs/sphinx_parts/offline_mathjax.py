"""MathJax from an installed package, so that pages ask nothing of the network.

One file draws formulas as SVG: no fonts, no further scripts. It is copied out of ``django-static-mathjax``, of which
nothing else is used (it needs no Django).
"""

import shutil
from importlib.resources import files
from pathlib import Path

SCRIPT = "tex-svg-full.js"  # all extensions of TeX are in it: the smaller one fetches some when they are met
FOLDER = "mathjax"


def source() -> Path:
    """Return the file in the package."""
    path = Path(str(files("mathjax"))) / "static" / "mathjax" / "es5" / SCRIPT
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: pip install 'django-static-mathjax>=3.2.2,<4'")
    return path


def copy(app, error) -> None:
    """Copy the script and its licence into the pages that were built."""
    if error or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source(), target / SCRIPT)
    shutil.copyfile(source().parent.parent / "LICENSE", target / "LICENSE")


def setup(app):
    """Point sphinx.ext.mathjax to the copy, and set MathJax up for pages that open offline."""
    app.setup_extension("sphinx.ext.mathjax")
    app.config.mathjax_path = f"{FOLDER}/{SCRIPT}"
    app.config.mathjax3_config = {
        "options": {"enableMenu": False},  # the menu fetches what it offers
        "svg": {"fontCache": "global", "scale": 0.92},  # the height of small letters beside
    }
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True}
