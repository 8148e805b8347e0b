"""Sphinx configuration: `make docs`, or `sphinx-build -W docs docs/_build/html`.

Neither building nor reading needs a network. The gallery runs every script in examples/, which takes minutes;
CTSA_DOCS_EXAMPLES=0 shows the scripts without running them. Directives of our own are in docs/sphinx_parts.
"""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "sphinx_parts")]

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
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "offline_mathjax",
    "public_names",
    "reproduce_gallery",
]
exclude_patterns = ["_build", "sphinx_parts", "static", "Thumbs.db", ".DS_Store"]
root_doc = "index"
nitpicky = True
# Annotations name types of others, and protocols of ours that have no page; every other reference must lead somewhere.
nitpick_ignore_regex = [("py:class", ".*"), ("py:.*", r"(?!ctsa\b).*\..*")]
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
    "reset_modules": ("matplotlib", "fresh_frameworks.reset"),
    "min_reported_time": 5,
}

# -- pages
html_theme = "furo"
html_title = f"ctsa {release}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["ctsa.css"]
html_theme_options = {"top_of_page_buttons": []}

# -- links of the outside world: `make linkcheck`, on request
linkcheck_anchors = False
linkcheck_timeout = 20
linkcheck_retries = 2
