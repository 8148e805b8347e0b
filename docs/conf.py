"""Sphinx configuration: `make docs`, or `sphinx-build -W docs docs/_build/html`.

Building needs no network. The gallery runs every script in examples/, which takes minutes;
CTSA_DOCS_EXAMPLES=0 shows the scripts without running them.
"""

import ast
import importlib
import inspect
import os
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# -- project
project = "ctsa"
author = "The ctsa developers"
copyright = author
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

# -- what is built
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "myst_parser",
    "cyclopts.ext.sphinx",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "Thumbs.db", ".DS_Store"]
root_doc = "index"
nitpicky = False
default_role = "code"
# The gallery leaves its own settings in the cache, and they cannot be pickled.
suppress_warnings = ["config.cache"]

# -- Markdown
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

# -- docstrings
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_include_init_with_doc = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Reference", "References"), ("Source", "References"), ("Sources", "References")]
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 90

# -- gallery
run_examples = os.environ.get("CTSA_DOCS_EXAMPLES", "1").lower() not in ("0", "no", "false", "off")
sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"[/\\]\d\d_[^/\\]*\.py$",
    "ignore_pattern": r"[/\\]_[^/\\]*\.py$",
    "plot_gallery": run_examples,
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "remove_config_comments": True,
    "capture_repr": (),
    "write_computation_times": False,
    "show_signature": False,
    "download_all_examples": False,
    "matplotlib_animations": True,
    "reset_modules": ("matplotlib",),
    "min_reported_time": 5,
}

# -- pages
html_theme = "furo"
html_title = f"ctsa {release}"
html_copy_source = False
html_show_sphinx = False


class PublicNames(SphinxDirective):
    """A table of what `import ctsa` offers: each name, linked to its page, and its first sentence."""

    required_arguments = 1

    @staticmethod
    def reexported(module) -> list[str]:
        """List the names a module hands on by `from .somewhere import name as name`."""
        body = ast.parse(inspect.getsource(module)).body
        statements = [s for top in body for s in (top.body if isinstance(top, ast.If) else [top])]  # TYPE_CHECKING
        aliases = [a for s in statements if isinstance(s, ast.ImportFrom) for a in s.names]
        return [a.name for a in aliases if a.asname == a.name and not a.name.startswith("_")]

    def run(self) -> list[nodes.Node]:
        """Read the module and lay out its public names in reStructuredText."""
        module = importlib.import_module(self.arguments[0])
        names = getattr(module, "__all__", None) or self.reexported(module)
        lines = [".. list-table::", "   :widths: 35 65", ""]
        for name in sorted(names, key=str.lower):
            thing = getattr(module, name)
            # A plain value knows neither its name nor its module, and its docstring is that of its type.
            home, summary = f"{module.__name__}.{name}", ""
            if inspect.ismodule(thing):
                home = thing.__name__
            elif hasattr(thing, "__qualname__"):
                home = f"{thing.__module__}.{thing.__qualname__}"
            if home != f"{module.__name__}.{name}" or inspect.ismodule(thing):
                summary = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
            role = "mod" if inspect.ismodule(thing) else "obj"
            lines += [f"   * - :py:{role}:`{module.__name__}.{name} <{home}>`", f"     - {summary}"]
        holder = nodes.container()
        content = StringList(lines, source=self.get_source_info()[0])
        self.state.nested_parse(content, self.content_offset, holder)
        return holder.children


def setup(app):
    """Register the one directive of our own."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
