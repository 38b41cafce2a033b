"""What can be opened: the sections of some pages, and the methods of classes that have many.

`folded: 2` among a page's metadata folds its sections.
"""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from sphinx import addnodes

MANY = 10  # methods of a class, of which only the first sentences are shown


def _details(node: nodes.Element, first: int, of: str) -> None:
    """Fold the children of a node, from the given one on."""
    hidden = f"<span class='visually-hidden'> {html.escape(of)}</span>"  # for who hears the page
    node.insert(first, nodes.raw("", f"<details><summary>Show{hidden}</summary>", format="html"))
    node.append(nodes.raw("", "</details>", format="html"))


def _fold(app: Any, doctree: nodes.document) -> None:
    """Put what follows the title of each section of this level into a ``<details>``."""
    level = int(app.env.metadata[app.env.docname].get("folded", 0))
    for section in list(doctree.findall(nodes.section)) if level else []:
        depth, parent = 1, section.parent
        while not isinstance(parent, nodes.document):
            depth, parent = depth + 1, parent.parent
        if depth == level:
            _details(section, 1, section[0].astext())
    for of_class in doctree.findall(addnodes.desc):
        methods = [m for m in of_class[-1] if isinstance(m, addnodes.desc)]
        for method in methods if len(methods) > MANY else []:
            if len(method[-1]) > 1:
                _details(method[-1], 1, method[0]["ids"][0].rsplit(".", 1)[-1])


def setup(app: Any) -> dict[str, bool]:
    """Register the folding."""
    app.connect("doctree-read", _fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
