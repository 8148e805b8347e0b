"""The directive ``public-names``: what a module offers, as a table."""

import ast
import importlib
import inspect

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


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


def skip_fields(app, what, name, thing, skip, options):
    """Leave fields of named tuples to the docstring of their class, which describes them."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app):
    """Register the directive, and what autodoc leaves out."""
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True}
