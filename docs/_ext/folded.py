"""Pages whose sections can be opened: `folded: 2` among a page's metadata folds its sections."""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes


def _fold(app: Any, doctree: nodes.document) -> None:
    """Put what follows the title of each section of this level into a ``<details>``."""
    level = int(app.env.metadata[app.env.docname].get("folded", 0))
    for section in list(doctree.findall(nodes.section)) if level else []:
        depth, parent = 1, section.parent
        while not isinstance(parent, nodes.document):
            depth, parent = depth + 1, parent.parent
        if depth == level:
            title = html.escape(section[0].astext())
            hidden = f"<span class='visually-hidden'> {title}</span>"  # for who hears the page
            begin = f"<details><summary>Show{hidden}</summary>"
            section.insert(1, nodes.raw("", begin, format="html"))
            section.append(nodes.raw("", "</details>", format="html"))


def setup(app: Any) -> dict[str, bool]:
    """Register the folding."""
    app.connect("doctree-read", _fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
