"""The directive ``reproduce-gallery``: a card for each study of `ctsa reproduce`, with its picture where there is one.

Pictures are in docs/images/reproduce, drawn by `python docs/images/thumbnails.py`.
"""

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

PICTURES = Path(__file__).resolve().parent.parent / "images" / "reproduce"


class ReproduceGallery(SphinxDirective):
    """Cards of what `ctsa reproduce` makes, in the order in which it lists them."""

    def run(self) -> list[nodes.Node]:
        """Read the registered names and lay out the cards in reStructuredText."""
        from ctsa.studies import names

        lines = [".. grid:: 1 2 2 3", "   :gutter: 3", ""]
        for name, asks in names.STUDIES.items():
            kind, _, rest = name.partition("-")
            page = "reproduce" if name in names.FIGURES else "criticality"
            page = f"findings/{rest}" if kind == "finding" else page
            lines += [f"   .. grid-item-card:: {name}", f"      :link: {page}", "      :link-type: doc"]
            if (PICTURES / f"{name}.png").is_file():
                lines += [f"      :img-top: /images/reproduce/{name}.png", f"      :img-alt: the figure {name}"]
            lines += ["", f"      {asks[:1].upper()}{asks[1:]}", ""]
            if name in names.FIGURES:
                lines += ["      .. card-footer::", "", f"         {names.FIGURES[name].source}", ""]
        holder = nodes.container()
        content = StringList(lines, source=self.get_source_info()[0])
        self.state.nested_parse(content, self.content_offset, holder)
        return holder.children


def setup(app):
    """Register the directive."""
    app.add_directive("reproduce-gallery", ReproduceGallery)
    return {"parallel_read_safe": True}
